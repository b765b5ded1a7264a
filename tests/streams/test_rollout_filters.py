"""Filters: only the calls that a rollout asks for decide, live and in a backtest, by the same code."""

import time
from functools import partial

import polars as pl
import pytest
from tests.streams.drive import Drive, rate, rollout

from tidegate.records import DeploymentStatus, Filter
from tidegate.series import DIMENSIONS, FILTERED
from tidegate_streams import looks, partials
from tidegate_streams.backtest import drive as backtest
from tidegate_streams.rollouts import filters
from tidegate_streams.rollups import KINDS

CHAT = Filter(dimension="operation", op="in", value=["chat"])
NO_JOBS = Filter(dimension="app", op="not_in", value=["nightly"])


def _nothing(kind):
    return "" if kind == pl.String else [] if kind == pl.List else 0 if kind.is_numeric() else None


def frames(rows):
    """Calls of a deployment, a row each: operation, app, variant, calls."""
    given = [
        {
            "tenant": "acme",
            "environment": "prod",
            "deployment": deployment,
            "operation": operation,
            "app": app,
            "variant": variant,
            "traffic": "live",
            "assignment_revision": 1,
            "comparable": True,
            "calls": calls,
        }
        for deployment, operation, app, variant, calls in rows
    ]
    empty = partials.empty("calls")
    missing = {name: kind for name, kind in empty.schema.items() if name not in given[0]}
    absent = {"aa": None, "prompt_name": None}
    filled = pl.DataFrame(given).with_columns(
        pl.lit(absent.get(name, _nothing(kind)), dtype=kind).alias(name) for name, kind in missing.items()
    )
    made = {kind: partials.empty(kind) for kind in KINDS}
    return made | {"calls": filled.select(empty.columns).cast(dict(empty.schema))}


ROWS = frames(
    [
        ("answers", "chat", "web", "march", 1),
        ("answers", "chat", "nightly", "march", 10),
        ("answers", "embeddings", "web", "june", 100),
        ("answers", "chat", "web", "june", 1_000),
        ("search", "embeddings", "nightly", "june", 10_000),
    ]
)


def shown_of(specs):
    passing = partial(filters.passed, key=looks.KEY, specs=specs)
    return looks.by_deployment(ROWS, specs, late=False, passing=passing)


def counted(asked):
    specs = {"acme/prod/answers": rollout(filters=asked), "acme/prod/search": rollout()}
    shown = shown_of(specs)
    return {key: sum(tables["calls"]["calls"]) for key, tables in shown.items()}


@pytest.mark.parametrize(
    ("asked", "calls"), [([], 1_111), ([CHAT], 1_011), ([NO_JOBS], 1_101), ([CHAT, NO_JOBS], 1_001)]
)
def test_only_calls_that_pass_every_filter_decide_and_other_deployments_are_left_alone(asked, calls):
    assert counted(asked) == {"acme/prod/answers": calls, "acme/prod/search": 10_000}


def test_a_filter_that_nothing_passes_shows_nothing():
    nothing = Filter(dimension="app", op="in", value=["nobody"])
    assert "acme/prod/answers" not in counted([nothing])


def test_the_filters_of_thousands_of_rollouts_are_asked_of_their_own_rows_only():
    asking = rollout(filters=[CHAT])
    specs = {"acme/prod/answers": asking} | {f"acme/prod/other-{n}": asking for n in range(3_000)}
    began = time.process_time()
    (tables,) = shown_of(specs).values()
    assert sum(tables["calls"]["calls"]) == 1_011
    assert time.process_time() - began < 5


def test_a_backtest_keeps_what_the_filters_ask_for_and_adds_up_the_rest():
    assert backtest.released(ROWS)["calls"]["operation"].unique().to_list() == [""]
    kept = backtest.released(ROWS, asked=["operation"])["calls"]
    assert {*kept["operation"]} == {"chat", "embeddings"}
    assert {*kept["app"]} == {""}


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (
            Filter(dimension="request_model", op="in", value=["a"]),
            "use app or operation, which no variant changes",
        ),
        (Filter(dimension="app", op="like", value=["a"]), "the operator 'like': use in or not_in"),
        (Filter(dimension="app", op="in"), "the filter of app names no value"),
    ],
)
def test_filters_that_would_break_the_comparison_are_refused(asked, problem):
    (refused,) = Drive(rollout(filters=[asked], metrics=[rate()])).of(DeploymentStatus)
    assert problem in refused.detail


def test_what_filters_ask_for_is_part_of_every_series():
    assert {*FILTERED} <= {*DIMENSIONS}
