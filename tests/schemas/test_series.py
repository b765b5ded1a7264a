"""Which calls may decide, and the catalogue of what they decide on."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.metrics import CATALOGUE, find
from tidegate.otel import ATTRIBUTES, fields_from_attributes
from tidegate.records import LLMCall
from tidegate.series import DIMENSIONS, ROLLUPS, comparable, shard_partition
from tidegate.vocabulary import ASSIGNMENT_REASON, TRAFFIC

CASES = st.tuples(
    st.sampled_from(TRAFFIC),
    st.sampled_from(("", *ASSIGNMENT_REASON)),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(CASES, min_size=1, max_size=30))
def test_one_rule_decides_for_values_and_for_columns(cases: list[tuple[str, str, int, bool, bool]]) -> None:
    names = ["traffic", "assignment_reason", "attempt", "cache_hit", "head_sampled"]
    frame = pl.DataFrame(cases, schema=names, orient="row")
    column = frame.select(comparable(*(pl.col(n) for n in names)).alias("c"))["c"].to_list()
    assert column == [comparable(*case) for case in cases]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (("live", "split", 1, False, True), True),
        (("live", "", 1, False, True), True),
        (("live", "static", 1, False, True), True),
        (("shadow", "split", 1, False, True), False),
        (("live", "targeting_match", 1, False, True), False),
        (("live", "default", 1, False, True), False),
        (("live", "split", 2, False, True), False),
        (("live", "split", 1, True, True), False),
        (("live", "split", 1, False, False), False),
    ],
)
def test_only_what_a_variant_explains_is_comparable(
    case: tuple[str, str, int, bool, bool], expected: bool
) -> None:
    assert comparable(*case) is expected


def test_roll_ups_keep_known_dimensions_and_every_tenant_apart() -> None:
    for dimensions in ROLLUPS.values():
        assert dimensions[0] == "tenant"
        assert set(dimensions) <= set(DIMENSIONS)


def test_shards_keep_their_partition() -> None:
    # A changed hash would send a tenant's journal to another partition, and its rollouts with it.
    assert [shard_partition(s, 6) for s in ("acme", "globex", "initech")] == [4, 4, 5]
    assert {shard_partition(f"t{i}", 6) for i in range(100)} == set(range(6))


def test_families_stand_for_their_members_only() -> None:
    assert find("evaluation.faithful") is CATALOGUE["evaluation."]
    assert find("error_rate") is CATALOGUE["error_rate"]
    assert find("evaluation.") is None
    assert find("evaluation") is None
    assert find("latency") is None


def test_no_default_margin_promotes_what_it_would_roll_back() -> None:
    for metric in CATALOGUE.values():
        assert metric.promotion_margin >= metric.rollback_margin


def test_opentelemetry_attributes_become_fields_in_our_units() -> None:
    fields = fields_from_attributes(
        {
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.response.time_to_first_chunk": 0.25,
            "http.request.resend_count": 1,
            "session.id": "s",
            "gen_ai.conversation.id": "c",
            "something.else": 1,
        }
    )
    assert fields == {"request_model": "gpt-4o", "ttft_us": 250_000, "attempt": 2, "session_id": "c"}


def test_every_mapped_field_exists() -> None:
    assert {field for field, _ in ATTRIBUTES.values()} <= set(LLMCall.__dataclass_fields__)
