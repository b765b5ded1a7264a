"""Traffic that tells nothing, through the whole fold: undecided or an error, and nobody is promoted."""

from dataclasses import replace

import pytest
from tests.streams.folding import DAY, MINUTE, SECOND, START, fold_all, rollout

from tidegate import codec
from tidegate.records import DecisionMetric, DeploymentCommand, Filter, RolloutProgress, Step, Variant

POINTS = {"margin_kind": "absolute", "rollback_margin": 0.005, "promotion_margin": 0.05}
ERRORS = DecisionMetric(name="error_rate", kind="rate", **POINTS)
COST = DecisionMetric(
    name="cost_usd",
    kind="quantile",
    quantiles=[0.5],
    margin_kind="relative",
    rollback_margin=0.05,
    promotion_margin=0.5,
)


def served(journal, panes, arms=("v1", "v2"), size=30, **how):
    """Messages of panes with so many calls of each arm, which `how` makes by pane and arm."""
    for pane in panes:
        pane_us = START + pane * 10 * SECOND
        calls = [
            journal.Call(
                ts_us=pane_us + SECOND,
                revision=1,
                status=how.get("status", lambda *_: "ok")(pane, arm),
                cost_nano=how.get("cost", lambda *_: 1_000_000)(pane, arm),
                dimensions={"variant": arm} | how.get("dimensions", {}),
            )
            for arm in arms
            for _ in range(size)
        ]
        yield from journal.calls(calls) if calls else ()
        yield journal.beat(pane_us + 10 * SECOND)


def played(journal, *messages, **changes):
    usual = {"metrics": [ERRORS, COST], "max_duration_us": 3 * MINUTE, "on_inconclusive": "promote"}
    spec = rollout(**(usual | changes))
    records = fold_all([journal.beat(START), journal.rollout(codec.encode(spec)), *messages])
    actions = [record.action for record in records if isinstance(record, DeploymentCommand)]
    told = [record for record in records if isinstance(record, RolloutProgress)]
    return actions, told[-1]


def test_traffic_that_is_fit_is_promoted(journal):
    made = journal()
    actions, _ = played(made, *served(made, range(22)))
    assert actions == ["start", "promote"]


@pytest.mark.parametrize(
    ("traffic", "verdicts"),
    [
        ({"arms": ()}, {"skipped"}),
        pytest.param({"arms": ("v1",)}, {"skipped"}, marks=pytest.mark.long),
        ({"arms": ("v2",)}, {"skipped"}),
        ({"status": lambda *_: "error"}, {"error", "pass"}),
        pytest.param({"cost": lambda *_: None}, {"skipped", "pass"}, marks=pytest.mark.long),
        ({"cost": lambda pane, _: 1_000_000 if pane < 3 else None}, {"error", "inconclusive", "pass"}),
        ({"cost": lambda _, arm: 1_000_000 if arm == "v1" else None}, {"skipped", "pass"}),
    ],
    ids=["none at all", "the baseline alone", "the candidate alone", "all calls fail", "no metric",
         "a metric that stops", "a metric of one arm"],
)  # fmt: skip
def test_what_tells_nothing_is_held_even_where_an_inconclusive_end_means_promotion(
    journal, traffic, verdicts
):
    made = journal()
    # In silence a deadline is looked at when an hour or a day ends.
    later = made.beat(START + 2 * DAY)
    actions, told = played(made, *served(made, range(22), **traffic), later)
    assert actions == ["start", "hold"]
    assert told.state == "holding"
    assert {row.verdict for row in told.evidence} <= verdicts
    assert {"skipped", "error"} & {row.verdict for row in told.evidence}


def test_candidates_of_one_baseline_are_judged_and_given_up_one_by_one(journal):
    made = journal()
    variants = [
        Variant(name="v1", role="baseline", request_model="a"),
        Variant(name="v2", role="candidate", request_model="b"),
        Variant(name="v3", role="candidate", request_model="c"),
    ]
    several = {"strategy": "ab", "variants": variants, "on_inconclusive": "hold"}
    steps = [Step(weight_bp=6_000, min_calls=10, warmup_us=0)]
    fails = {"status": lambda _, arm: "error" if arm == "v2" else "ok"}
    first = list(served(made, range(8), ("v1", "v2", "v3"), **fails))
    actions, told = played(made, *first, *served(made, range(8, 22), ("v1", "v3")), steps=steps, **several)
    assert actions == ["start", "drop", "hold"]
    assert {one.variant: one.weight_bp for one in told.weights} == {"v1": 7_000, "v2": 0, "v3": 3_000}
    assert {row.verdict for row in told.evidence if row.candidate == "v3"} <= {"pass", "inconclusive"}


def test_calls_that_a_filter_leaves_out_neither_decide_nor_count(journal):
    chat = [Filter(dimension="operation", op="in", value=["chat"])]
    outcomes = {}
    for name, filters in (("all", []), ("chat", chat)):
        made = journal()
        good = served(made, range(12))
        jobs = served(
            made, range(12), status=lambda _, arm: "error" if arm == "v2" else "ok",
            dimensions={"operation": "embeddings"},
        )  # fmt: skip
        together = [message for pair in zip(good, jobs, strict=True) for message in pair]
        # Each heartbeat once, behind the calls of both kinds.
        ordered = [m for i, m in enumerate(together) if type(m).__name__ != "Heartbeat" or i % 4 == 3]
        actions, told = played(made, *ordered, filters=filters, max_duration_us=60 * MINUTE)
        outcomes[name] = actions, told.exposure[1].calls
    assert outcomes["all"][0] == ["start", "rollback"]
    assert outcomes["chat"][0] == ["start", "promote"]
    assert outcomes["chat"][1] % 30 == 0


def test_a_filter_is_part_of_the_plan_that_travels(journal):
    spec = rollout(filters=[Filter(dimension="app", op="not_in", value=["nightly"])])
    assert codec.decode(codec.encode(spec), type(spec)) == replace(spec)
