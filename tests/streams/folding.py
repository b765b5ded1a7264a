"""Journals as stage 1 would write them, and the fold over them."""

import math

import polars as pl
from hypothesis import Phase, settings
from hypothesis import strategies as st

from tidegate import codec
from tidegate.records import DecisionMetric, DeploymentCommand, Rollout, Step, Variant
from tidegate_streams import fold
from tidegate_streams.replay import replay

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = 472_222 * HOUR
LATENESS = MINUTE
RULES = fold.Rules(allowed_lateness_us=LATENESS)

BOUNDED = settings(max_examples=4, deadline=None, phases=[Phase.generate], print_blob=True)
"""An example takes half a second: few of them, and no search for a smaller one; a failure can be repeated."""


def numbered(messages):
    return list(enumerate(messages))


def fold_all(messages, rules=RULES, partition=0):
    return [record for _, records in replay(numbered(messages), partition, rules) for record in records]


def at(table, rollup, window, start_us, **dimensions):
    chosen = table.filter(
        pl.col("rollup") == rollup,
        pl.col("window") == window,
        pl.col("window_start").cast(pl.Int64) == start_us,
        *(pl.col(name) == value for name, value in dimensions.items()),
    )
    assert chosen.height == 1, chosen
    return chosen.row(0, named=True)


@st.composite
def traffic(draw, journal):
    """Calls of two minutes in two series, with how late each arrives."""
    n = draw(st.integers(1, 10))
    calls = [
        journal.Call(
            ts_us=START + draw(st.integers(0, 120)) * SECOND + draw(st.sampled_from([0, 1, 999_999])),
            latency_us=draw(st.integers(0, 10_000_000)),
            cost_nano=draw(st.none() | st.integers(0, 10**9)),
            status=draw(st.sampled_from(["ok", "ok", "error"])),
            user=draw(st.none() | st.sampled_from(["ada", "grace"])),
            dimensions={
                "variant": draw(st.sampled_from(["v1", "v2"])),
                "traffic": draw(st.sampled_from(["live", "shadow"])),
            },
        )
        for _ in range(n)
    ]
    delays = [draw(st.integers(0, 50)) * SECOND for _ in range(n)]
    return calls, delays


def arriving(journal_class, calls, delays, every_us, size, repeat=False, parts=1):
    """The journal when each call arrives so much after its time, and the clock moves the watermark."""
    journal = journal_class()
    order = sorted(range(len(calls)), key=lambda i: (calls[i].ts_us + delays[i], i))
    messages = []
    clock_us = START
    for batch in chunks(order, size):
        arrival_us = min(calls[i].ts_us + delays[i] for i in batch)
        while clock_us + every_us < arrival_us:
            clock_us += every_us
            messages.append(journal.beat(clock_us - 2 * SECOND))
        made = journal.calls([calls[i] for i in batch], parts=parts)
        messages += made + (made if repeat else [])
    # Slowly past the end of the longest sliding windows, so that what they need no more is forgotten.
    slow = [journal.beat(START + seconds * SECOND) for seconds in range(180, 480, 100)]
    return [*messages, *slow, journal.beat(START + 2 * DAY)]


def chunks(items, size):
    return [items[i : i + size] for i in range(0, len(items), size)]


def rollout(**changes):
    usual = {
        "name": "new-model",
        "tenant": "acme",
        "environment": "prod",
        "deployment": "chat",
        "generation": 1,
        "spec_hash": "hash",
        "source_yaml": "",
        "actor": "ada",
        "ts": START,
        "strategy": "canary",
        "assignment_unit": "user",
        "salt": "new-model",
        "max_duration_us": HOUR,
        "variants": [Variant(name="v1", role="baseline"), Variant(name="v2", role="candidate")],
        "steps": [Step(weight_bp=5_000, min_calls=10, warmup_us=0)],
        "metrics": [
            DecisionMetric(
                name="error_rate", kind="rate", margin_kind="odds", rollback_margin=1.1, promotion_margin=2.0
            )
        ],
    }
    return Rollout(**(usual | changes))


def canary(journal, panes=8, size=40, parts=1, repeat=False):
    """Half of the calls go to a variant that always fails."""
    made = [journal.beat(START), journal.rollout(codec.encode(rollout()))]
    for pane in range(panes):
        pane_us = START + pane * 10 * SECOND
        calls = [
            journal.Call(
                ts_us=pane_us + SECOND,
                revision=1,
                status="error" if i % 2 else "ok",
                dimensions={"variant": "v2" if i % 2 else "v1"},
            )
            for i in range(size)
        ]
        for share in chunks(calls, 20 if parts > 1 else size):
            batches = journal.calls(share, parts=parts)
            made += batches + (batches if repeat else [])
        made.append(journal.beat(pane_us + 10 * SECOND))
    return made


def decisions(records):
    commands = [record for record in records if isinstance(record, DeploymentCommand)]
    for command in commands:
        command.offsets = []
        for evidence in command.evidence:
            assert not math.isnan(evidence.log_e_rollback or 0.0)
    return commands
