"""Names that a bug makes up: neither a window nor what is kept of the past grows with their number."""

import polars as pl
import pytest

from tidegate.vocabulary import OTHER
from tidegate_streams import partials, rollups, rows
from tidegate_streams.commonest import MOST_NAMES, few
from tidegate_streams.history import History
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollups import SERIES_COLUMNS
from tidegate_streams.windows import HOUR_US, MINUTE_US

START_US = 472_222 * HOUR_US


def rated(kind, counts, start_us=START_US):
    """Rows of one series, a name each, counted so often."""
    counted = {"name": list(counts), "n": list(counts.values())}
    filled = {name: pl.lit(value) for name, value in key(start_us).items()}
    filled |= dict.fromkeys(("value_sum_micro", "valued", "passed", "positive"), pl.col("n"))
    schema = rollups.SCHEMAS[kind]
    columns = [filled.get(name, pl.col(name) if name in counted else pl.lit(0)).cast(dtype).alias(name)
               for name, dtype in schema.items()]  # fmt: skip
    return rollups.EMPTY | {kind: pl.DataFrame(counted).select(columns)}


def key(start_us):
    return dict.fromkeys(SERIES_COLUMNS, "x") | {"rollup": "release", "start_us": start_us}


def called(start_us=START_US, **lists):
    """One row of calls."""
    columns = []
    for name, dtype in rollups.SCHEMAS["calls"].items():
        value = [lists.get(name, [])] if name in partials.LISTS else [key(start_us).get(name, 1)]
        columns.append(pl.Series(name, value, dtype=dtype))
    return rollups.EMPTY | {"calls": pl.DataFrame(columns)}


@pytest.mark.parametrize("kind", ["feedback", "evaluations"])
def test_the_rarest_of_too_many_names_of_ratings_are_added_up(kind):
    counts = {f"name-{n:03}": n for n in range(1, 2 * MOST_NAMES + 1)}
    given = rated(kind, counts)
    kept = few(given)[kind]
    by_name = dict(kept.select("name", "n").iter_rows())
    assert len(by_name) == MOST_NAMES + 1
    assert by_name.pop(OTHER) == sum(range(1, MOST_NAMES + 1))
    assert by_name == {name: n for name, n in counts.items() if n > MOST_NAMES}
    sums = [name for name in kept.columns if name in partials.MEASURES]
    assert kept.select(pl.col(sums).sum()).equals(given[kind].select(pl.col(sums).sum()))
    assert kept.columns == given[kind].columns


def test_a_few_names_stay_as_they_are():
    given = rated("feedback", {f"name-{n}": n for n in range(1, MOST_NAMES + 1)})
    assert few(given)["feedback"] is given["feedback"]


def test_the_rarest_guardrails_and_types_of_errors_are_added_up():
    ran = [
        {"name": f"g{n:03}", "stage": stage, "checked": n, "triggered": 1, "blocked": 0}
        for n in range(1, MOST_NAMES + 1)
        for stage in ("input", "output")
    ]
    failed = [{"type": f"e{n:03}", "n": n} for n in range(1, MOST_NAMES + 2)]
    [row] = few(called(guardrails=ran, error_types=failed))["calls"].to_dicts()
    half = MOST_NAMES // 2
    rest = {"checked": half * (half + 1), "triggered": MOST_NAMES, "blocked": 0}
    assert row["guardrails"] == [*ran[MOST_NAMES:], {"name": OTHER, "stage": OTHER} | rest]
    assert row["error_types"] == [*failed[1:], {"type": OTHER, "n": 1}]
    assert (row["calls"], row["users"], row["tenant"]) == (1, [], "x")


def test_hours_of_made_up_names_leave_no_more_rows_than_two_hundred_would():
    history = History()
    minutes = 60
    for minute in range(minutes):
        at_us = START_US + minute * MINUTE_US
        names = {f"name-{minute}-{n}": 1 for n in range(3 * MOST_NAMES)}
        history.close(rated("feedback", names, at_us), rollups.EMPTY, at_us, at_us + MINUTE_US)
    of_minutes, of_hours = (history.tables[grain]["feedback"] for grain in (MINUTE_US, HOUR_US))
    assert of_minutes.height == minutes * (MOST_NAMES + 1)
    # One of the two hundred is what the minutes had added up.
    assert of_hours.height == MOST_NAMES
    assert of_hours.get_column("n").sum() == minutes * 3 * MOST_NAMES


def test_made_up_names_that_come_late_leave_no_more_rows_than_two_hundred_would():
    history, closes, now_us = History(), 12, START_US + HOUR_US
    names = 2 * MOST_NAMES
    for close in range(closes):
        failed = [{"type": f"e{close}-{n}", "n": 1} for n in range(names)]
        late_us = now_us - 5 * MINUTE_US
        late = rated("evaluations", {f"name-{close}-{n}": 1 for n in range(names)}, late_us)
        late |= {"calls": called(late_us, error_types=failed)["calls"]}
        history.close(rollups.EMPTY, late, now_us, now_us + PANE_US)
        now_us += PANE_US
    for grain_us, starts in ((MINUTE_US, 2), (HOUR_US, 1)):
        kept = history.tables[grain_us]
        assert kept["evaluations"].height == starts * MOST_NAMES
        assert kept["evaluations"].get_column("n").sum() == closes * names
        errors = kept["calls"].get_column("error_types")
        assert errors.list.len().sum() == starts * MOST_NAMES
        assert errors.explode().struct.field("n").sum() == closes * names
        assert kept["calls"].get_column("calls").sum() == closes


def test_no_window_lists_more_names_than_a_message_holds():
    names = {f"{n:0256}": 1 for n in range(20 * MOST_NAMES)}
    formed = {
        kind: table.rename({"start_us": "window_start"}).with_columns(
            window=pl.lit("1h"), window_end=pl.lit(START_US + HOUR_US), phase=pl.lit("final")
        )
        for kind, table in (rated("evaluations", names) | {"calls": called()["calls"]}).items()
    }
    [row] = rows.table(formed, 7, START_US).to_dicts()
    assert len(row["evaluations"]) == MOST_NAMES + 1
    assert sum(entry["n"] for entry in row["evaluations"]) == len(names)


def test_panes_are_kept_with_all_their_names():
    history = History()
    names = {f"name-{n}": 1 for n in range(2 * MOST_NAMES)}
    history.close(rated("feedback", names), rollups.EMPTY, START_US, START_US + PANE_US)
    assert history.tables[PANE_US]["feedback"].height == 2 * MOST_NAMES
