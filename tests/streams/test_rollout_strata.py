import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.metrics import CATALOGUE
from tidegate_streams import partials
from tidegate_streams.rollouts.reference import BLOCK_US, Reference
from tidegate_streams.rollouts.strata import QUANTILES, RATES, Stratum, VariantPane, strata_of
from tidegate_streams.statistics.exceedances import ZERO

PANE = 1_700_000_000_000_000


def rows(kind, *changes):
    schema = partials.SCHEMAS[kind] | {"is_late": pl.Boolean}
    empty = {
        name: [] if isinstance(dtype, pl.List) else "" if dtype == pl.String else 0
        for name, dtype in schema.items()
    }
    defaults = empty | {
        "variant": "june",
        "assignment_revision": 3,
        "pane_us": PANE,
        "comparable": True,
        "aa": False,
        "is_late": False,
    }
    return pl.DataFrame([defaults | change for change in changes], schema=schema)


def strata(calls=(), feedback=(), evaluations=()):
    return strata_of(
        calls=rows("calls", *calls),
        feedback=rows("feedback", *feedback),
        evaluations=rows("evaluations", *evaluations),
    )


def the_pane(**frames):
    ((_, variants),) = strata(**frames).items()
    (pane,) = variants.values()
    return pane


def test_every_rate_and_quantile_of_the_catalogue_is_measured():
    assert {name for name, metric in CATALOGUE.items() if metric.kind == "rate" and name[-1] != "."} == set(
        RATES
    )
    assert set(partials.DISTRIBUTIONS) >= QUANTILES


def test_calls_are_counted_by_how_they_ended():
    pane = the_pane(
        calls=[
            {
                "calls": 20,
                "status_ok": 12,
                "status_error": 3,
                "status_timeout": 2,
                "status_rate_limited": 1,
                "status_filtered": 1,
                "status_cancelled": 1,
                "outcome_answered": 9,
                "outcome_abstained": 2,
                "outcome_refused": 1,
            }
        ]
    )
    assert pane.calls == 20
    assert pane.rates == {
        "error_rate": (20, 6),
        "timeout_rate": (20, 2),
        "abstain_rate": (12, 2),
        "refusal_rate": (12, 1),
        "empty_rate": (12, 0),
    }


def test_unclassified_calls_have_no_rate_rather_than_a_rate_of_zero():
    assert "abstain_rate" not in the_pane(calls=[{"calls": 20}]).rates


def test_guardrails_count_over_their_stages_among_the_calls_they_checked():
    pane = the_pane(
        calls=[
            {
                "calls": 9,
                "guardrails": [
                    {"name": "pii", "stage": "input", "checked": 8, "triggered": 1, "blocked": 1},
                    {"name": "pii", "stage": "output", "checked": 5, "triggered": 2, "blocked": 0},
                    {"name": "toxic", "stage": "output", "checked": 0, "triggered": 0, "blocked": 0},
                ],
            }
        ]
    )
    assert pane.rates["guardrail.pii"] == (13, 3)
    assert "guardrail.toxic" not in pane.rates


def test_ratings_and_evaluations_count_among_those_that_said_something():
    pane = the_pane(
        feedback=[{"name": "thumbs", "n": 9, "positive": 5, "negative": 2, "retracted": 1}],
        evaluations=[{"name": "faithful", "n": 12, "errors": 4, "skipped": 1, "passed": 6, "failed": 1}],
    )
    assert pane.calls == 0
    assert pane.rates == {"feedback.thumbs": (7, 2), "evaluation.faithful": (7, 1)}
    assert pane.failures == {"evaluation.faithful": 4}


def test_distributions_keep_their_buckets_and_their_zeros():
    sums = {"sum": 20, "sumsq": 150}
    distribution = {"metric": "cost_usd", "n": 5, "zeros": 2, "index": [3, 9], "counts": [1, 2], **sums}
    other = distribution | {"metric": "input_chars"}
    pane = the_pane(calls=[{"calls": 5, "distributions": [distribution, other]}])
    assert pane.histograms == {"cost_usd": {ZERO: 2, 3: 1, 9: 2}}
    assert pane.sums == {"cost_usd": (5, 20, 150)}


def test_strata_are_apart_by_revision_pane_and_lateness_and_hold_both_variants():
    found = strata(
        calls=[
            {"calls": 1},
            {"calls": 2, "variant": "march"},
            {"calls": 4, "assignment_revision": 4},
            {"calls": 8, "assignment_revision": None},
            {"calls": 16, "is_late": True},
            {"calls": 32, "pane_us": PANE - partials.PANE_US, "is_late": True},
        ]
    )
    calls = {stratum: {name: pane.calls for name, pane in panes.items()} for stratum, panes in found.items()}
    assert calls == {
        Stratum(3, PANE, False): {"june": 1, "march": 2},
        Stratum(4, PANE, False): {"june": 4},
        Stratum(None, PANE, False): {"june": 8},
        Stratum(3, PANE, True): {"june": 16},
        Stratum(3, PANE - partials.PANE_US, True): {"june": 32},
    }


def test_rows_of_one_stratum_that_differ_in_something_else_add_up():
    users = [{"users": [{"register": 7, "rank": 2}]}, {"users": [{"register": 7, "rank": 5}], "aa": True}]
    pane = the_pane(calls=[{"calls": 3, "status_error": 1} | users[0], {"calls": 4} | users[1]])
    assert pane.calls == 7
    assert pane.rates["error_rate"] == (7, 1)
    assert pane.users == {7: 5}


panes = st.builds(
    VariantPane,
    calls=st.integers(0, 50),
    users=st.dictionaries(st.integers(0, 9), st.integers(1, 9)),
    rates=st.dictionaries(st.sampled_from("ab"), st.tuples(st.integers(1, 9), st.integers(0, 1))),
    histograms=st.dictionaries(
        st.sampled_from("xy"), st.dictionaries(st.integers(0, 9), st.integers(1, 9), min_size=1)
    ),
    failures=st.dictionaries(st.sampled_from("ab"), st.integers(1, 9)),
)


@settings(max_examples=100, deadline=None)
@given(panes, panes, panes)
def test_what_variants_did_adds_up_in_any_order(one, two, three):
    assert (one + two) + three == three + (two + one)
    assert one + VariantPane() == one


def test_the_reference_is_the_past_hour_and_never_the_present_pane():
    reference = Reference()
    seen = []
    for pane in range(12):
        seen.append(reference.of("march").calls)
        look = {Stratum(None, 0, False): {"march": VariantPane(calls=1, users={1: 1})}}
        reference = reference.after(look, PANE // BLOCK_US * BLOCK_US + (pane + 1) * BLOCK_US)
    assert seen == [0, 1, 2, 3, 4, 5, 6, 6, 6, 6, 6, 6]
    assert reference.of("march").users == {}
    assert reference.of("june") == VariantPane()


@pytest.mark.parametrize("seed", range(3))
def test_the_reference_does_not_depend_on_how_the_hour_is_cut_into_looks(seed):
    rng = np.random.default_rng(seed)
    looks = [VariantPane(calls=int(n)) for n in rng.integers(0, 9, 30)]
    base = PANE // BLOCK_US * BLOCK_US
    fine = coarse = Reference()
    for i, pane in enumerate(looks):
        fine = fine.after({Stratum(1, 0, False): {"march": pane}}, base + (i + 1) * partials.PANE_US)
    for i in range(0, 30, 10):
        part = sum(looks[i : i + 10], VariantPane())
        coarse = coarse.after({Stratum(1, 0, False): {"march": part}}, base + (i + 10) * partials.PANE_US)
    assert fine.of("march") == coarse.of("march")
