"""A candidate alone against an absolute margin: valid at every look, and informative without bad events."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tidegate.records import DecisionMetric
from tidegate_streams.rollouts.strata import VariantPane
from tidegate_streams.rollouts.verdicts import MetricEvidence, after, judge
from tidegate_streams.statistics import ceiling

POINTS = DecisionMetric(
    name="error_rate", kind="rate", margin_kind="absolute", rollback_margin=0.005, promotion_margin=0.02
)


@given(st.integers(1, 40), st.floats(0.01, 0.6), st.floats(0, 1))
def test_its_mean_is_at_most_one_at_the_margin_and_above(n: int, margin: float, beyond: float) -> None:
    rate = margin + beyond * (1 - margin)
    gain = [math.exp(ceiling.log_e(ceiling.log_likelihood(n, k, margin))) for k in range(n + 1)]
    mean = float(np.dot(stats.binom.pmf(range(n + 1), n, rate), gain))
    assert mean <= 1 + 1e-9
    if beyond == 0:
        assert mean == pytest.approx(1)


def test_it_stays_a_fair_bet_when_the_rate_moves_between_strata() -> None:
    mean = 0.0
    for first in range(9):
        for second in range(13):
            points = ceiling.log_likelihood(8, first, 0.1) + ceiling.log_likelihood(12, second, 0.1)
            chance = stats.binom.pmf(first, 8, 0.1) * stats.binom.pmf(second, 12, 0.3)
            mean += chance * math.exp(ceiling.log_e(points))
    assert mean <= 1


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=8), st.randoms())
def test_strata_add_up_in_any_order(strata: list[tuple[int, int]], rng) -> None:
    tables = [(n, min(n, k)) for n, k in strata]
    whole = sum(ceiling.log_likelihood(n, k, 0.02) for n, k in tables)
    rng.shuffle(tables)
    shuffled = sum(ceiling.log_likelihood(n, k, 0.02) for n, k in tables)
    assert ceiling.log_e(shuffled) == pytest.approx(ceiling.log_e(whole), abs=1e-9)


def looked(metric: DecisionMetric, panes: int, bad: int = 0) -> MetricEvidence:
    reference = VariantPane(calls=1000, rates={"error_rate": (1000, 0)})
    evidence = MetricEvidence.none(metric)
    for _ in range(panes):
        baseline = VariantPane(calls=50, rates={"error_rate": (50, 0)})
        candidate = VariantPane(calls=50, rates={"error_rate": (50, bad)})
        evidence = after(evidence, metric, baseline, candidate, reference)
    return evidence


def test_a_metric_without_any_bad_event_passes_by_a_margin_in_points() -> None:
    assert judge([POINTS], {"error_rate": looked(POINTS, 20)}, 0.01, 0.05).safe


def test_and_never_by_odds_which_need_something_to_compare() -> None:
    odds = replace(POINTS, margin_kind="odds", rollback_margin=1.1, promotion_margin=1.5)
    assert looked(odds, 200).log_e_promotion == 0


def test_a_candidate_at_the_margin_does_not_pass() -> None:
    assert not judge([POINTS], {"error_rate": looked(POINTS, 200, bad=1)}, 0.01, 0.05).safe


def test_false_promotion_at_the_margin_stays_below_alpha() -> None:
    rng = np.random.default_rng(11)
    runs, looks = 400, 200
    k = rng.binomial(50, 0.02, size=(runs, looks)).cumsum(axis=1)
    n = 50 * np.arange(1, looks + 1)
    promoted = sum(
        any(
            ceiling.log_e(ceiling.log_likelihood(int(n[i]), int(row[i]), 0.02)) >= math.log(20)
            for i in range(looks)
        )
        for row in k
    )
    assert promoted <= stats.binom.ppf(0.999, runs, 0.05)
