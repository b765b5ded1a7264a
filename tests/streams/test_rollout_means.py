"""How much more a call costs on average: reported beside the evidence, and deciding nothing."""

from dataclasses import replace

import numpy as np
import pytest
from tests.streams.drive import Drive, latency, rate, rollout

from tidegate_streams import histogram
from tidegate_streams.rollouts import comparing
from tidegate_streams.rollouts.comparing import MetricEvidence
from tidegate_streams.rollouts.strata import Stratum, VariantPane

COST = latency(min_n=0)


def pane(values, name="latency_us"):
    index, counts = np.unique(histogram.bucket(values), return_counts=True)
    return VariantPane(
        calls=len(values),
        histograms={name: dict(zip(index.tolist(), counts.tolist(), strict=True))},
        sums={name: (len(values), int(values.sum()), int((values.astype(object) ** 2).sum()))},
    )


def served(drive, factor, panes=40, n=100, sigma=0.4):
    for _ in range(panes):
        values = (
            np.exp(drive.rng.normal(np.log(1.2e6), sigma, (2, n))) * np.array([[1.0], [factor]])
        ).astype(np.int64)
        drive.look(
            {
                Stratum(drive.state.revision, drive.pane_us, False): {
                    "march": pane(values[0]),
                    "june": pane(values[1]),
                }
            }
        )
    return drive.progress.evidence[0]


def held(**changes):
    """A rollout that waits for calls that do not come, so that nothing is decided."""
    usual = {"metrics": [latency(rollback_margin=2.0, promotion_margin=4.0)], "min_calls": 10**9}
    return Drive(rollout(**(usual | changes)))


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_the_mean_of_the_candidate_is_told_with_an_interval_that_covers_it(factor):
    row = served(held(), factor)
    assert row.mean_change_low < factor - 1 < row.mean_change_high
    assert row.mean_change == pytest.approx(factor - 1, abs=0.04)
    assert row.mean_candidate / row.mean_baseline - 1 == pytest.approx(row.mean_change)
    assert f"on average {100 * row.mean_change:+.1f} % (" in row.sentence


def test_few_calls_have_means_and_no_interval():
    row = served(held(), 1.1, panes=8, n=50)
    assert row.mean_baseline is not None
    assert (row.mean_change_low, row.mean_change_high) == (None, None)
    assert "on average" not in row.sentence


def test_calls_that_resemble_each_other_make_the_interval_as_much_wider():
    rows = [
        served(held(metrics=[replace(COST, rollback_margin=2.0, promotion_margin=4.0, design_effect=d)]), 1.1)
        for d in (1.0, 4.0)
    ]
    widths = [row.mean_change_high - row.mean_change_low for row in rows]
    assert rows[0].mean_change == rows[1].mean_change
    assert 1.8 * widths[0] < widths[1] < 2.2 * widths[0]


def test_a_mean_is_exact_where_all_values_share_a_bucket():
    drive = held()
    values = np.full(600, 1_010_000) + np.arange(600) % 2
    [other] = histogram.bucket([1_020_101])
    assert other == histogram.bucket([1_010_000])[0]
    for _ in range(6):
        drive.look(
            {
                Stratum(drive.state.revision, drive.pane_us, False): {
                    "march": pane(values),
                    "june": pane(values + 10_100),
                }
            }
        )
    row = drive.progress.evidence[0]
    assert row.mean_change == pytest.approx(0.01, rel=1e-3)
    assert row.mean_baseline == pytest.approx(1_010_000.5)


def test_scores_of_an_evaluation_have_a_mean_between_their_bounds():
    metric = rate("evaluation.faithful")
    pane_of = {
        name: VariantPane(
            calls=1_000,
            rates={metric.name: (1_000, bad)},
            sums={metric.name: (1_000, total, 1_000 * 700_000**2 + 10**13)},
        )
        for name, bad, total in (("march", 100, 700_000_000), ("june", 200, 630_000_000))
    }
    drive = Drive(rollout(metrics=[metric], min_calls=10**9))
    drive.look()
    for _ in range(4):
        drive.look()
    drive.look({Stratum(drive.state.revision, drive.pane_us, False): pane_of})
    [row] = drive.progress.evidence
    assert (row.mean_baseline, row.mean_candidate) == (pytest.approx(0.7), pytest.approx(0.63))
    assert row.mean_change == pytest.approx(-0.1)


def test_strata_that_show_one_variant_only_have_no_mean():
    only = pane(np.array([5, 6, 7]))
    found = comparing.after(MetricEvidence.none(COST), COST, only, VariantPane(), VariantPane())
    assert not found.means.any()
