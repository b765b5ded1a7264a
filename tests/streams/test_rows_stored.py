"""Windows of this release and of the one before, side by side in the store."""

import io
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import polars as pl
import pytest
from confluent_kafka import Message

from tidegate import codec
from tidegate.records import WindowMetricsBatch
from tidegate.topics import METRICS
from tidegate_consumers.sink.facts import Reading, facts
from tidegate_consumers.sink.store import Store
from tidegate_infra.kafka.ranges import Range
from tidegate_infra.settings import Settings
from tidegate_streams import fold
from tidegate_streams.replay import replay, windows

START = 472_222 * 3_600_000_000


@pytest.fixture
def store(migrated: None, settings: Settings) -> Iterator[Store]:
    with closing(Store(settings)) as opened:
        yield opened


def stored(store: Store, lo: int, *frames: pl.DataFrame) -> None:
    messages = []
    for offset, frame in enumerate(frames, start=lo):
        rows = io.BytesIO()
        frame.write_ipc_stream(rows)
        batch = WindowMetricsBatch(partition=0, offset=offset, watermark=None, rows=rows.getvalue())
        messages.append(Message(partition=0, offset=offset, value=codec.encode(batch), timestamp=(2, 1)))
    hi = lo + len(messages) - 1
    range_ = Range(
        topic=METRICS, topic_id="t", partition=0, lo=lo, hi=hi, messages=messages, redo=False, epoch=1
    )
    store.put(range_, facts(range_, Reading()), doubtful=False)


def without_valued(frame: pl.DataFrame, kind: str) -> pl.DataFrame:
    before = pl.element().struct
    dtype: Any = frame.schema[kind]
    kept = [field.name for field in dtype.inner.fields if field.name != "valued"]
    return frame.with_columns(pl.col(kind).list.eval(pl.struct(before.field(name) for name in kept)))


def test_how_many_ratings_have_a_value_is_unknown_of_windows_made_before_that_was_counted(
    store: Store, journal: Any
) -> None:
    made = journal()
    call = made.Call(ts_us=START)
    messages = [
        made.ratings("feedback", [(call, "helpful", True)]),
        made.ratings("evaluations", [(call, "correct", True)]),
        made.beat(START + 3_600_000_000),
    ]
    outputs = [record for _, records in replay(enumerate(messages), 0, fold.Rules()) for record in records]
    new = windows(outputs).filter(pl.col("rollup") == "release").head(1)
    assert new.height == 1
    old = new
    for kind in ("feedback", "evaluations"):
        old = without_valued(old, kind)
    old = old.with_columns(pl.lit(1, dtype=pl.Int64).alias("series_id"))
    oldest = old.with_columns(pl.lit(2, dtype=pl.Int64).alias("series_id"))
    stored(store, 0, new, old)
    stored(store, 2, oldest)
    found = store._client.query(
        "SELECT series_id IN (1, 2), feedback.n, feedback.valued, evaluations.n, evaluations.valued "
        "FROM window_metrics FINAL ORDER BY ALL"
    ).result_rows
    assert [tuple(row) for row in found] == [
        (0, [1], [0], [1], [0]),
        (1, [1], [None], [1], [None]),
        (1, [1], [None], [1], [None]),
    ]
