import math
from dataclasses import replace

import numpy as np
import pytest

from tidegate.records import DecisionMetric
from tidegate_streams.histogram import bucket
from tidegate_streams.rollouts.comparing import MetricEvidence, after, comparisons
from tidegate_streams.rollouts.strata import VariantPane
from tidegate_streams.rollouts.verdicts import judge
from tidegate_streams.statistics import emix
from tidegate_streams.statistics.emix import Counts

RATE = DecisionMetric(
    name="error_rate", kind="rate", margin_kind="odds", rollback_margin=1.1, promotion_margin=1.5
)
LATENCY = DecisionMetric(
    name="latency_us",
    kind="quantile",
    quantiles=[0.5, 0.95],
    margin_kind="relative",
    rollback_margin=0.05,
    promotion_margin=0.20,
)


def rates(n, bad, name="error_rate"):
    return VariantPane(calls=n, rates={name: (n, bad)})


def values(observed, name="latency_us"):
    index, counts = np.unique(bucket(observed), return_counts=True)
    return VariantPane(
        calls=len(observed), histograms={name: dict(zip(index.tolist(), counts.tolist(), strict=True))}
    )


def seen(metric, baseline, candidate, reference=None):
    return after(MetricEvidence.none(metric), metric, baseline, candidate, reference or VariantPane())


def test_a_stratum_of_a_rate_is_its_likelihood_at_the_margins():
    evidence = seen(RATE, rates(900, 9), rates(100, 4))
    at = emix.points(math.log(1.1), math.log(1.5))
    assert evidence.curves[0].tolist() == emix.log_likelihood(Counts(900, 100, 9, 4), at).tolist()
    assert evidence.counts == (Counts(900, 100, 9, 4),)


def test_a_margin_in_points_waits_for_a_hundred_earlier_units():
    points = replace(RATE, margin_kind="absolute", rollback_margin=0.02, promotion_margin=0.05)
    assert seen(points, rates(900, 9), rates(100, 4), rates(99, 1)).counts == (Counts(),)
    evidence = seen(points, rates(900, 9), rates(100, 4), rates(998, 9))
    assert evidence.counts == (Counts(900, 100, 9, 4),)
    odds = seen(RATE, rates(900, 9), rates(100, 4))
    assert evidence.curves[0][emix.GRID].tolist() == odds.curves[0][emix.GRID].tolist()


def test_where_an_increase_is_good_a_decrease_is_harm():
    good = replace(RATE, increase_is="good")
    fewer, more = (rates(500, 250), rates(500, 150)), (rates(500, 150), rates(500, 250))
    assert seen(good, *fewer).log_e_rollback > math.log(100) > seen(RATE, *fewer).log_e_rollback
    assert seen(RATE, *more).log_e_rollback > math.log(100) > seen(good, *more).log_e_rollback
    both = replace(RATE, increase_is="both")
    assert all(seen(both, *change).log_e_rollback > math.log(100) for change in (fewer, more))
    assert len(comparisons(both)) == 2


@pytest.mark.parametrize(
    ("kind", "rollback", "promotion"), [("absolute", 0.005, 0.02), ("relative", 0.05, 0.2)]
)
def test_where_any_change_is_harm_points_and_percent_are_kept_on_both_sides(kind, rollback, promotion):
    margins = {"margin_kind": kind, "rollback_margin": rollback, "promotion_margin": promotion}
    both = replace(RATE, increase_is="both", **margins)
    usual = rates(20_000, 10_000)
    for bad in (8_000, 12_000):
        assert seen(both, usual, rates(20_000, bad), usual).log_e_rollback > math.log(100)
    same = seen(both, usual, usual, usual)
    assert same.log_e_rollback < 0 < math.log(20) < same.log_e_promotion


def test_a_level_without_a_threshold_is_left_out_and_blocks_promotion_but_not_rollback():
    rng = np.random.default_rng(1)
    reference = values(rng.integers(1_000, 2_000, 15))
    slow = seen(LATENCY, values(rng.integers(1_000, 2_000, 900)), values(np.full(100, 5_000)), reference)
    assert [counts.n_candidate for counts in slow.counts] == [100, 0]
    assert slow.log_e_rollback > math.log(100)
    fast = seen(LATENCY, values(np.full(900, 1_500)), values(np.full(900, 1_000)), reference)
    assert fast.log_e_promotion == 0


def test_the_threshold_is_of_the_past_and_not_of_the_stratum():
    past = values(np.arange(1_000, 2_000))
    evidence = seen(LATENCY, values(np.full(100, 3_000)), values(np.full(100, 3_000)), past)
    assert [(counts.k_baseline, counts.k_candidate) for counts in evidence.counts] == [(100, 100)] * 2


def test_an_absolute_margin_of_cost_is_in_dollars_though_buckets_are_in_nanodollars():
    cost = replace(
        LATENCY,
        name="cost_usd",
        quantiles=[0.5],
        margin_kind="absolute",
        rollback_margin=0.002,
        promotion_margin=0.010,
    )
    usual = values(np.full(400, 1_000_000), "cost_usd")

    def evidence(nano_usd):
        return seen(cost, usual, values(np.full(400, nano_usd), "cost_usd"), usual)

    assert evidence(2_800_000).log_e_rollback <= 0
    assert evidence(3_300_000).log_e_rollback > math.log(100)


def at_a_limit(seed, share):
    """Latencies of up to a minute; these at a limit of sixty seconds."""
    rng = np.random.default_rng(seed)
    observed = rng.lognormal(16, 0.5, 1_000).clip(max=60e6)
    observed[rng.random(1_000) < share] = 60e6
    return values(observed.astype(int))


def test_what_often_stands_at_a_limit_can_be_shown_to_be_no_worse():
    tail, past = replace(LATENCY, quantiles=[0.99]), at_a_limit(0, 0.02)
    evidence = MetricEvidence.none(tail)
    for look in range(1, 11):
        evidence = after(evidence, tail, at_a_limit(look, 0.02), at_a_limit(-look % 100, 0.02), past)
    assert judged({"latency_us": evidence}, tail).verdicts == {"latency_us": "pass"}


def test_a_constant_that_grew_is_no_better_for_standing_at_its_highest():
    usual = values(np.full(400, 1_000_000))
    for factor, verdict in ((1.0, "pass"), (1.1, "fail"), (1.3, "fail")):
        evidence = seen(LATENCY, usual, values(np.full(400, int(factor * 1_000_000))), usual)
        judgement = judged({"latency_us": evidence}, LATENCY)
        assert judgement.verdicts["latency_us"] == verdict, factor


def judged(evidence, *metrics, alpha=0.01):
    return judge(metrics, evidence, alpha, 0.05)


def test_without_observations_of_both_variants_nothing_is_decided():
    nothing = MetricEvidence.none(RATE)
    for evidence in (
        nothing,
        seen(RATE, rates(500, 5), VariantPane()),
        seen(RATE, VariantPane(), rates(500, 490)),
    ):
        judgement = judged({"error_rate": evidence}, RATE)
        assert judgement.verdicts == {"error_rate": "skipped"}
        assert not judgement.harmful
        assert not judgement.safe


def test_all_calls_failing_in_both_variants_is_no_harm_of_the_candidate():
    evidence = seen(RATE, rates(500, 500), rates(500, 500))
    judgement = judged({"error_rate": evidence}, RATE)
    assert judgement.verdicts == {"error_rate": "inconclusive"}
    assert not judgement.harmful


def test_a_metric_that_has_fallen_silent_is_an_error_unless_it_has_failed_already():
    same, bad = rates(5_000, 50), rates(5_000, 500)
    for candidate, verdict in ((same, "error"), (bad, "fail")):
        evidence = {"error_rate": seen(RATE, same, candidate)}
        judgement = judge([RATE], evidence, 0.01, 0.05, frozenset({"error_rate"}))
        assert judgement.verdicts == {"error_rate": verdict}
        assert not judgement.safe
        assert judgement.harmful == (verdict == "fail")


def test_one_bad_metric_among_many_still_rolls_back_and_is_named():
    others = {f"guardrail.{i}": rates(500, 5, f"guardrail.{i}") for i in range(9)}
    metrics = [RATE, *(replace(RATE, name=name) for name in others)]
    evidence = {name: seen(replace(RATE, name=name), pane, pane) for name, pane in others.items()}
    evidence["error_rate"] = seen(RATE, rates(500, 10), rates(500, 60))
    judgement = judged(evidence, *metrics)
    assert judgement.harmful
    assert judgement.to_blame == ("error_rate",)
    assert judgement.verdicts["error_rate"] == "fail"


def test_a_critical_metric_needs_less_evidence_than_one_of_many():
    others = {f"guardrail.{i}": MetricEvidence.none(RATE) for i in range(20)}
    bad = seen(RATE, rates(500, 10), rates(500, 37))
    assert math.log(200) < bad.log_e_rollback < math.log(2_100)
    metrics = [replace(RATE, name=name) for name in others]
    evidence = {"error_rate": bad, **others}
    assert not judged(evidence, RATE, *metrics).harmful
    assert judged(evidence, replace(RATE, critical=True), *metrics).harmful


def test_a_slowdown_within_the_margin_is_rolled_back_within_alpha():
    """Five percent slower at a tolerance of five percent, looked at 40 times in each of 60 runs."""
    rng = np.random.default_rng(11)
    false = 0
    for _ in range(60):
        reference = values(np.exp(rng.normal(14, 0.6, 5_000)).astype(np.int64))
        evidence = MetricEvidence.none(LATENCY)
        for _ in range(40):
            baseline = values(np.exp(rng.normal(14, 0.6, 80)).astype(np.int64))
            candidate = values((1.05 * np.exp(rng.normal(14, 0.6, 20))).astype(np.int64))
            evidence = after(evidence, LATENCY, baseline, candidate, reference)
            if evidence.log_e_rollback >= math.log(100):
                false += 1
                break
    assert false <= 60 * 0.01 + 2 * math.sqrt(60 * 0.01 * 0.99)


def test_twice_as_slow_is_caught_within_a_few_hundred_calls():
    rng = np.random.default_rng(12)
    reference = values(np.exp(rng.normal(14, 0.6, 5_000)).astype(np.int64))
    evidence, calls = MetricEvidence.none(LATENCY), 0
    while evidence.log_e_rollback < math.log(100):
        calls += 100
        baseline = values(np.exp(rng.normal(14, 0.6, 80)).astype(np.int64))
        candidate = values((2 * np.exp(rng.normal(14, 0.6, 20))).astype(np.int64))
        evidence = after(evidence, LATENCY, baseline, candidate, reference)
        assert calls < 600
