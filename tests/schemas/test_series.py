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


@pytest.mark.parametrize(
    ("version", "revision"), [("7", 7), (7, 7), ("v7", None), ("7.1", None), ("", None), ("²", None)]
)
def test_the_version_of_a_flag_is_a_revision_only_when_it_is_a_number(
    version: str | int, revision: int | None
) -> None:
    assert fields_from_attributes({"feature_flag.version": version}) == {"assignment_revision": revision}


def test_attributes_are_spelled_as_the_conventions_spell_them() -> None:
    spelled = """
        service.name app, service.version app_version, deployment.environment.name environment,
        session.id session_id, gen_ai.conversation.id session_id, user.hash user_hash,
        feature_flag.key deployment, feature_flag.result.variant variant,
        feature_flag.result.reason assignment_reason, feature_flag.version assignment_revision,
        gen_ai.operation.name operation, gen_ai.provider.name provider, gen_ai.request.model request_model,
        gen_ai.request.stream stream, gen_ai.request.temperature temperature,
        gen_ai.request.max_tokens max_tokens, gen_ai.request.reasoning.level reasoning_level,
        gen_ai.response.model response_model, gen_ai.response.id response_id,
        gen_ai.response.time_to_first_chunk ttft_us, gen_ai.response.finish_reasons finish_reasons,
        gen_ai.usage.input_tokens input_tokens, gen_ai.usage.output_tokens output_tokens,
        gen_ai.usage.cache_read.input_tokens cache_read_tokens,
        gen_ai.usage.cache_creation.input_tokens cache_write_tokens,
        gen_ai.usage.cache_write.input_tokens cache_write_tokens,
        gen_ai.usage.reasoning.output_tokens reasoning_tokens, gen_ai.prompt.name prompt_name,
        gen_ai.prompt.version prompt_version, gen_ai.agent.name agent_name,
        gen_ai.agent.version agent_version, gen_ai.workflow.name workflow, server.address server_address,
        openai.response.service_tier service_tier, error.type error_type,
        http.response.status_code http_status, http.request.resend_count attempt
    """
    pairs = [line.split() for line in spelled.replace("\n", " ").split(",")]
    assert [(name, field) for name, (field, _) in ATTRIBUTES.items()] == [tuple(pair) for pair in pairs]


def test_every_mapped_field_exists() -> None:
    assert {field for field, _ in ATTRIBUTES.values()} <= set(LLMCall.__dataclass_fields__)
