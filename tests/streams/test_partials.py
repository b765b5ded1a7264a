from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.series import DIMENSIONS
from tidegate_streams import partials

COUNT = st.integers(0, 2**40)
SHORT = st.sampled_from(["", "a", "b"])
SOME = st.lists(SHORT, unique=True, max_size=2)
METRICS = st.lists(st.sampled_from(partials.DISTRIBUTIONS), unique=True, max_size=3)


def _distribution(draw: st.DrawFn, metric: str) -> dict:
    index = draw(st.lists(st.integers(0, 2208), unique=True, max_size=3))
    return {
        "metric": metric,
        "n": draw(COUNT),
        "sum": draw(COUNT),
        "sumsq": Decimal(draw(st.integers(0, 10**33))),
        "min": draw(st.integers(0, 9)),
        "max": draw(st.integers(10, 2**50)),
        "zeros": draw(COUNT),
        "index": sorted(index),
        "counts": draw(st.lists(COUNT, min_size=len(index), max_size=len(index))),
    }


@st.composite
def call_rows(draw: st.DrawFn) -> dict:
    key = {
        "shard": draw(SHORT),
        "pane_us": draw(st.sampled_from([0, 10_000_000])),
        **dict.fromkeys(DIMENSIONS, "x"),
        "variant": draw(SHORT),
        "comparable": draw(st.booleans()),
        "assignment_revision": draw(st.none() | st.integers(1, 2)),
        "aa": draw(st.none() | st.booleans()),
    }
    guardrails = draw(st.lists(st.tuples(SHORT, SHORT), unique=True, max_size=3))
    return {
        **key,
        **{name: draw(COUNT) for name in partials.CALL_SUMS},
        "guardrails": [
            {"name": name, "stage": stage, "checked": draw(COUNT), "triggered": draw(COUNT), "blocked": 1}
            for name, stage in sorted(guardrails)
        ],
        "error_types": [{"type": name, "n": draw(COUNT)} for name in sorted(draw(SOME))],
        "users": [
            {"register": register, "rank": draw(st.integers(1, 53))}
            for register in sorted(draw(st.lists(st.integers(0, 4095), unique=True, max_size=3)))
        ],
        "distributions": [
            _distribution(draw, metric)
            for metric in sorted(
                draw(st.lists(st.sampled_from(partials.DISTRIBUTIONS), unique=True, max_size=3))
            )
        ],
    }


@st.composite
def rating_rows(draw: st.DrawFn, kind: str) -> dict:
    schema = partials.SCHEMAS[kind]
    row = {column: draw(COUNT) for column in schema if column in partials.MEASURES}
    row |= {column: "x" for column in schema if column not in partials.MEASURES}
    row |= {"pane_us": 0, "comparable": True, "aa": None, "assignment_revision": draw(st.none() | st.just(7))}
    row["call_us"] = draw(st.none() | st.sampled_from([0, partials.PANE_US]))
    return row | {"name": draw(SHORT), "value_sumsq_micro": Decimal(draw(st.integers(0, 10**33)))}


def _merge_in_some_order(draw: st.DrawFn, frame: pl.DataFrame) -> pl.DataFrame:
    """Split rows among ranges, merge each, merge the merged pairwise in a drawn order."""
    where = draw(st.lists(st.integers(0, 3), min_size=frame.height, max_size=frame.height))
    order = draw(st.permutations(range(frame.height)))
    shuffled = frame[list(order)]
    pieces = [partials.merge(shuffled.filter(pl.Series(where) == piece)) for piece in range(4)]
    while len(pieces) > 1:
        second = pieces.pop(draw(st.integers(0, len(pieces) - 1)))
        first = pieces.pop(draw(st.integers(0, len(pieces) - 1)))
        pieces.append(partials.merge(pl.concat([first, second])))
    return pieces[0]


@pytest.mark.parametrize("kind", ["calls", "feedback", "evaluations"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_order_split_and_grouping_gives_the_same_bytes(kind: str, data: st.DataObject) -> None:
    rows = data.draw(st.lists(call_rows() if kind == "calls" else rating_rows(kind), min_size=1, max_size=8))
    frame = pl.DataFrame(rows, schema=partials.SCHEMAS[kind])
    expected = partials.merge(frame)
    assert partials.pack(_merge_in_some_order(data.draw, frame)) == partials.pack(expected)
    assert expected.schema == frame.schema


@given(rows=st.lists(call_rows(), max_size=6))
@settings(max_examples=40, deadline=None)
def test_merged_sums_equal_sums_in_python(rows: list[dict]) -> None:
    merged = partials.merge(pl.DataFrame(rows, schema=partials.SCHEMAS["calls"]))
    expected: dict[tuple, dict] = {}
    for row in rows:
        key = tuple(row[column] for column in partials.SERIES_KEY)
        total = expected.setdefault(key, {"calls": 0, "sumsq": {}, "buckets": {}, "users": {}, "blocked": {}})
        total["calls"] += row["calls"]
        for one in row["distributions"]:
            total["sumsq"][one["metric"]] = total["sumsq"].get(one["metric"], 0) + int(one["sumsq"])
            for index, count in zip(one["index"], one["counts"], strict=True):
                place = one["metric"], index
                total["buckets"][place] = total["buckets"].get(place, 0) + count
        for user in row["users"]:
            total["users"][user["register"]] = max(total["users"].get(user["register"], 0), user["rank"])
        for guard in row["guardrails"]:
            place = guard["name"], guard["stage"]
            total["blocked"][place] = total["blocked"].get(place, 0) + guard["blocked"]
    actual = {
        tuple(row[column] for column in partials.SERIES_KEY): {
            "calls": row["calls"],
            "sumsq": {one["metric"]: int(one["sumsq"]) for one in row["distributions"]},
            "buckets": {
                (one["metric"], index): count
                for one in row["distributions"]
                for index, count in zip(one["index"], one["counts"], strict=True)
            },
            "users": {user["register"]: user["rank"] for user in row["users"]},
            "blocked": {(guard["name"], guard["stage"]): guard["blocked"] for guard in row["guardrails"]},
        }
        for row in merged.iter_rows(named=True)
    }
    assert actual == expected


@pytest.mark.parametrize("kind", ["calls", "feedback", "evaluations"])
def test_no_rows_merge_to_no_rows(kind: str) -> None:
    assert partials.merge(partials.empty(kind)).equals(partials.empty(kind))


@given(rows=st.lists(call_rows(), max_size=5))
@settings(max_examples=30, deadline=None)
def test_a_frame_survives_the_wire(rows: list[dict]) -> None:
    frame = partials.merge(pl.DataFrame(rows, schema=partials.SCHEMAS["calls"]))
    assert partials.unpack(partials.pack(frame)).equals(frame)


def test_a_roll_up_is_dropping_dimensions_and_merging() -> None:
    row = {**dict.fromkeys(partials.CALL_SUMS, 1), **{name: [] for name in partials.LISTS}}
    row |= {**dict.fromkeys(DIMENSIONS, "x"), "shard": "t", "pane_us": 0, "comparable": True}
    row |= {"assignment_revision": None, "aa": None}
    frame = pl.DataFrame([row | {"app": "a"}, row | {"app": "b"}], schema=partials.SCHEMAS["calls"])
    rolled = partials.merge(frame.drop("app").with_columns(is_late=pl.lit(False)))
    assert rolled.height == 1
    assert rolled["calls"].to_list() == [2]
    assert rolled.columns == [*(c for c in frame.columns if c != "app"), "is_late"]
