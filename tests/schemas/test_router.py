"""Which variant serves a unit, and which command is in force."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate import Router
from tidegate.assignment import assignment_hash, choose, signed
from tidegate.limits import ROUTED_RULE
from tidegate.records import DeploymentCommand, LLMCall, Weight

UNITS = [f"user-{i}" for i in range(4_000)]


def weights(baseline_bp: int, *candidates_bp: int) -> list[Weight]:
    return [
        Weight(variant="stable", role="baseline", weight_bp=baseline_bp),
        *(Weight(variant=f"v{i}", role="candidate", weight_bp=bp) for i, bp in enumerate(candidates_bp, 1)),
    ]


def command(revision: int, *weights_bp: int, **fields: Any) -> DeploymentCommand:
    given = {
        "command_id": f"c{revision}",
        "tenant": "default",
        "environment": "test",
        "deployment": "bot",
        "rollout": "try-v1",
        "generation": 1,
        "revision": revision,
        "action": "advance",
        "state": "progressing",
        "step": 1,
        "assignment_unit": "user",
        "salt": "s",
        "weights": weights(*weights_bp),
        "reason": "r",
        "actor": "controller",
        "actor_kind": "controller",
        "ts": 1,
    }
    return DeploymentCommand(**(given | fields))


@pytest.fixture
def router() -> Router:
    return Router("bot", default="stable", follow=False)


hashes = st.integers(0, 2**64 - 1)
shares = st.integers(0, 10_000)


@given(hashes, shares, shares)
def test_raising_the_candidates_share_moves_units_only_to_the_candidate(
    value: int, one: int, two: int
) -> None:
    low, high = sorted((one, two))
    before = choose(weights(10_000 - low, low), value).variant
    after = choose(weights(10_000 - high, high), value).variant
    assert (before, after) in {("stable", "stable"), ("stable", "v1"), ("v1", "v1")}


@given(hashes, st.integers(0, 2_500), st.sampled_from([1, 1.5, 2]))
def test_candidates_raised_in_proportion_take_no_units_from_each_other(
    value: int, bp: int, factor: float
) -> None:
    less, more = 2 * (bp // 2), int(2 * (bp // 2) * factor)
    before = choose(weights(10_000 - 2 * less, less, less), value).variant
    after = choose(weights(10_000 - 2 * more, more, more), value).variant
    assert after == before or before == "stable"


@given(hashes, st.integers(2, 6), st.integers(0, 5))
def test_giving_up_a_candidate_moves_its_units_to_the_baseline_and_nobody_else(
    value: int, n: int, gone: int
) -> None:
    each, gone = 9_000 // n, gone % n
    left = [0 if i == gone else each for i in range(n)]
    before = choose(weights(10_000 - n * each, *[each] * n), value).variant
    after = choose(weights(10_000 - sum(left), *left), value).variant
    assert after == ("stable" if before == f"v{gone + 1}" else before)


@given(hashes, st.lists(st.integers(0, 5_000), min_size=1, max_size=2))
def test_every_hash_has_a_variant_and_none_without_weight(value: int, candidates_bp: list[int]) -> None:
    chosen = choose(weights(10_000 - sum(candidates_bp), *candidates_bp), value)
    assert chosen.weight_bp > 0


@given(hashes)
def test_the_hash_fits_the_signed_integer_of_the_wire_and_keeps_its_bits(value: int) -> None:
    assert -(2**63) <= signed(value) < 2**63
    assert signed(value) & (2**64 - 1) == value


def test_shares_are_as_asked_and_independent_of_another_salt(router: Router) -> None:
    router.obey(command(1, 7_000, 2_000, 1_000))
    first = {unit: router.assign(unit).variant for unit in UNITS}
    counts = Counter(first.values())
    for variant, share in (("stable", 0.7), ("v1", 0.2), ("v2", 0.1)):
        assert counts[variant] / len(UNITS) == pytest.approx(share, abs=0.025)
    router.obey(command(2, 7_000, 2_000, 1_000, salt="other"))
    both = sum(first[unit] == "v1" == router.assign(unit).variant for unit in UNITS)
    assert both / len(UNITS) == pytest.approx(0.04, abs=0.015)


def test_the_hash_of_a_unit_never_changes() -> None:
    """A change would move every user of every running rollout: these values are for good."""
    assert assignment_hash("salt", "user-1") == 0xA026EBFA79710C30
    assert assignment_hash("", "é") == 0xE21CB9BEF9D7878E


def test_an_assignment_says_what_it_obeyed(router: Router) -> None:
    router.obey(command(3, 5_000, 5_000))
    assignment = router.assign("user-1")
    assert (assignment.deployment, assignment.reason, assignment.revision) == ("bot", "split", 3)
    assert (assignment.experiment, assignment.assignment_unit) == ("try-v1", "user")
    assert assignment.hash == signed(assignment_hash("s", "user-1"))
    assert assignment.definition is not None
    assert assignment.definition.variant == assignment.variant


def test_one_variant_for_all_is_no_split(router: Router) -> None:
    router.obey(command(1, 10_000, 0))
    assert {(router.assign(u).variant, router.assign(u).reason) for u in UNITS[:50]} == {("stable", "static")}
    router.obey(command(2, 0, 10_000))
    assert {(router.assign(u).variant, router.assign(u).reason) for u in UNITS[:50]} == {("v1", "static")}


def test_without_a_command_or_a_unit_the_default_serves(router: Router) -> None:
    unknown = router.assign("user-1")
    router.obey(command(1, 0, 10_000))
    for assignment in (unknown, router.assign(None), router.assign("")):
        assert (assignment.variant, assignment.reason) == ("stable", "default")
        assert (assignment.revision, assignment.definition, assignment.hash) == (None, None, None)


@given(st.permutations(range(1, 7)))
def test_the_highest_revision_wins_in_any_order(order: list[int]) -> None:
    router = Router("bot", default="stable", follow=False)
    for revision in order:
        router.obey(command(revision, 10_000 - revision, revision))
    assert router.command == command(6, 9_994, 6)
    assert list(router.revisions) == sorted(router.revisions)
    assert router.revisions[-1] == 6


def test_the_first_command_of_a_revision_stands(router: Router) -> None:
    assert router.obey(command(1, 10_000, 0))
    assert not router.obey(command(1, 0, 10_000))
    assert router.assign("user-1").variant == "stable"


def test_a_dry_run_routes_nothing(router: Router) -> None:
    router.obey(command(1, 10_000, 0))
    assert not router.obey(command(2, 0, 10_000, dry_run=True))
    assert router.assign("user-1").variant == "stable"
    assert router.obey(command(3, 0, 10_000))
    assert router.revisions == (1, 3)


@pytest.mark.parametrize(
    ("weights_bp", "why"),
    [((9_000, 500), "sum to 9500"), ((11_000, -1_000), "negative"), ((), "0 baselines")],
)
def test_weights_that_cannot_be_are_ignored_and_told(
    router: Router, weights_bp: tuple[int, ...], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    router.obey(command(1, 10_000, 0))
    broken = command(2, *weights_bp) if weights_bp else command(2, 1, weights=weights(0, 10_000)[1:])
    assert not router.obey(broken)
    assert router.revisions == (1,)
    assert why in caplog.text


def test_commands_of_others_are_not_obeyed() -> None:
    router = Router("bot", default="stable", tenant="acme", environment="prod", follow=False)
    for other in ({"deployment": "x"}, {"tenant": "x"}, {"environment": "test"}):
        assert not router.obey(command(1, 0, 10_000, **({"tenant": "acme", "environment": "prod"} | other)))
    assert router.obey(command(1, 0, 10_000, tenant="acme", environment="prod"))


def test_a_router_before_the_configuration_serves_the_default() -> None:
    router = Router("bot", default="stable")
    assert router.assign("user-1").variant == "stable"
    assert not router.ready(0)
    router.close()


@pytest.mark.parametrize("name", ["bad name!", "", None])
def test_a_deployment_that_no_rollout_can_name_is_told_and_served(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert Router(name, default="stable", follow=False).assign("user-1").variant == "stable"
    assert caplog.messages == [f"no rollout can name deployment {name!r}, the default serves: {ROUTED_RULE}"]


def test_a_unit_that_cannot_be_read_gets_the_default(router: Router) -> None:
    class Hostile:
        def __str__(self) -> str:
            raise ValueError("no name")

    router.obey(command(1, 0, 10_000))
    assert router.assign(Hostile()).reason == "default"  # type: ignore[arg-type]
    assert router.assign("\ud800").reason == "static"
    assert router.assign(17).reason == "static"  # type: ignore[arg-type]


def mirrored(revision: int, share_bp: int) -> DeploymentCommand:
    given = command(revision, 10_000, 0)
    given.weights[1].mirror_bp = share_bp
    return given


def test_a_share_of_the_units_is_mirrored_to_a_candidate_that_serves_nobody(router: Router) -> None:
    assert router.mirror("user-1") is None
    router.obey(mirrored(1, 2_000))
    copies = {unit: router.mirror(unit) for unit in UNITS}
    chosen = {unit for unit, copy in copies.items() if copy is not None}
    assert 0.17 < len(chosen) / len(UNITS) < 0.23
    served = [router.assign(unit) for unit in UNITS]
    assert {(one.variant, one.reason, one.is_shadow) for one in served} == {("stable", "split", False)}
    for unit in chosen:
        call = LLMCall(provider="p", request_model="m", operation="chat", status="ok", ts_start=1, ts_end=2)
        copy = copies[unit]
        assert copy is not None
        copy.mark(call)
        assert (call.variant, call.traffic, call.assignment_revision) == ("v1", "shadow", 1)
    router.obey(mirrored(2, 5_000))
    assert chosen < {unit for unit in UNITS if router.mirror(unit) is not None}
    router.obey(command(3, 5_000, 5_000))
    assert router.mirror("user-1") is None
    assert router.mirror("") is None
