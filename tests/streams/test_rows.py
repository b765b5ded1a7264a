import dataclasses

import polars as pl
import pytest
import xxhash

from tidegate.records import WindowMetrics
from tidegate.series import DIMENSIONS, ROLLED_UP
from tidegate_streams import fold, partials, rows
from tidegate_streams.replay import newest, replay, windows

SECOND = 1_000_000
START = 472_222 * 3_600 * SECOND


@pytest.fixture
def table(journal):
    made = journal()
    calls = [made.Call(ts_us=START + i * SECOND) for i in range(5)]
    messages = [*made.calls(calls), made.beat(START + 600 * SECOND)]
    outputs = [record for _, records in replay(enumerate(messages), 0, fold.Rules()) for record in records]
    return newest(windows(outputs))


def test_columns_are_the_fields_of_the_record_in_its_order(table):
    assert table.columns == [field.name for field in dataclasses.fields(WindowMetrics)]


def test_the_series_id_is_the_same_wherever_it_is_computed(table):
    row = table.filter(pl.col("rollup") == "tenant").row(0, named=True)
    kept = {"tenant": "acme", "traffic": "live"}
    text = "\0".join(["tenant", *(kept.get(name, ROLLED_UP) for name in DIMENSIONS)])
    digest = xxhash.xxh64_intdigest(text.encode())
    assert row["series_id"] % 2**64 == digest


def test_batches_stay_under_the_limit_and_lose_no_row(table):
    many = pl.concat([table] * 40)
    limit = len(partials.pack(many)) // 5
    batches = list(rows.batches(many, limit))
    assert len(batches) > 5
    assert max(map(len, batches)) <= limit
    assert pl.concat([partials.unpack(data) for data in batches]).equals(many)


def test_only_the_ten_commonest_error_types_are_listed():
    counts = [{"type": f"e{i:02}", "n": i} for i in range(1, 15)]
    lists = pl.Series("error_types", [counts, []], dtype=partials.SCHEMAS["calls"]["error_types"])
    top = rows._top_errors(lists).to_list()
    assert [entry["n"] for entry in top[0]] == list(range(14, 4, -1))
    assert top[1] == []


@pytest.mark.parametrize(("kind", "good"), [("feedback", "positive"), ("evaluations", "passed")])
def test_a_mean_of_ratings_leaves_out_those_without_a_value(journal, kind, good):
    rated = pl.DataFrame(
        {
            "name": ["stars"], "n": [3], "positive": [2], "negative": [1], "errors": [0], "passed": [2],
            "failed": [1], "valued": [2], "value_sum_micro": [7_000_000],
            "value_sumsq_micro": pl.Series([25 * 10**12], dtype=partials.EXACT),
        }
    ).with_columns(**{key: pl.lit("x") for key in rows._KEY})  # fmt: skip
    [[entry]] = rows._ratings(kind, rated).get_column(kind).to_list()
    assert (entry["n"], entry[good], entry["valued"]) == (3, 2, 2)
    assert entry["sum"] / entry["valued"] == 3.5
    assert list(entry) == list(rows._rating_type(kind).to_schema())
