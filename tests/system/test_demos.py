"""The whole system as `make run` starts it, on recorded traffic: its counts, recomputed from the input."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidegate.records import LLMCall
from tidegate.series import ROLLUPS
from tidegate_infra.clickhouse.client import connect
from tidegate_infra.demos import DEMOS, app, recording, staged, summary
from tidegate_infra.stack.supervisor import Stack

RECORDING = recording.load()
COST_NANO = {
    (a.model, a.input_tokens, a.output_tokens): a.cost_usd_nano for m in RECORDING.answers.values() for a in m
}
SPEED = 120.0
LATENESS_US = 600_000_000
"""Five seconds of this machine's time, less than a process takes to start again: what is read late for that
reason must not count as late."""

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("system"), pytest.mark.timeout(280)]


@dataclass(frozen=True)
class Interrupted(recording.Recording):
    """The recording, with something done when the story has come to certain arrivals."""

    before: Mapping[int, Callable[[], None]]

    def arrivals(self, seed: int) -> Iterator[tuple[int, int]]:
        for number, arrival in enumerate(super().arrivals(seed)):
            if number in self.before:
                self.before[number]()
            yield arrival


@contextmanager
def stack_of(stage: Any, tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "stack", settings=stage.settings | {"allowed_lateness_us": LATENESS_US})
    stack.start()
    try:
        yield stack
    finally:
        stack.stop()


def kill(stack: Stack, name: str) -> None:
    pid = next(s.pid for s in stack.statuses if s.name == name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def run(demo: str, tmp_path: Path, kills: Mapping[int, str]) -> None:
    """Play a demo, killing processes before so many arrivals, and check all that it counted."""
    chosen = DEMOS[demo]
    with staged(chosen) as stage, stack_of(stage, tmp_path) as stack:
        interruptions = {number: partial(kill, stack, name) for number, name in kills.items()}
        story = Interrupted(RECORDING.arrivals_us, RECORDING.answers, interruptions)
        said: list[str] = []
        played = app.play(stack.settings, chosen.spec_file, story, seed=1, speed=SPEED, say=said.append)
        ended = summary.summarise(
            stack.settings, chosen.spec_file, chosen.ends, played, stage.receiver.deliveries
        )
        assert ended.ok, "\n".join(ended.lines)
        assert {s.name for s in stack.statuses if s.restarts} == set(kills.values())
        with closing(connect(stack.settings, readonly=True)) as client:
            check_facts(client, played.calls)
            check_windows(client, played.calls)


def check_facts(client: Any, calls: list[LLMCall]) -> None:
    stored = client.query("SELECT event_id, cost_usd, cost_status FROM calls").result_rows
    assert len(stored) == len(calls)
    cost = {event_id: (int(usd * 10**9), status) for event_id, usd, status in stored}
    assert cost == {c.event_id: (cost_nano(c), "priced") for c in calls}
    assert client.query("SELECT count(), countIf(passed) FROM evaluations").first_row == (
        len(calls),
        sum(c.outcome == "answered" for c in calls),
    )


def cost_nano(call: LLMCall) -> int:
    """What the call cost on record, whatever our own prices say."""
    return COST_NANO[call.request_model, call.input_tokens or 0, call.output_tokens or 0]


def check_windows(client: Any, calls: list[LLMCall]) -> None:
    query = (
        "SELECT * FROM windows_between(since = '2000-01-01', until = '2200-01-01') WHERE window != '1d' "
        "AND phase IN ('final', 'late', 'on_time')"
    )
    _wait_for_final(client, calls)
    rows = list(client.query(query).named_results())
    calls = sorted(calls, key=lambda c: c.ts_end)
    ends = np.array([c.ts_end for c in calls])
    latency = np.array([c.ts_end - c.ts_start for c in calls])
    abstained = np.array([c.outcome == "abstained" for c in calls])
    input_tokens = np.array([c.input_tokens or 0 for c in calls])
    output_tokens = np.array([c.output_tokens or 0 for c in calls])
    cost = np.array([cost_nano(c) for c in calls])
    members = {
        name: np.array(["\0".join(str(getattr(c, d) or "") for d in dimensions) for c in calls])
        for name, dimensions in ROLLUPS.items()
    }
    seen: dict[tuple[str, str], set[tuple[str, int]]] = {}
    for row in rows:
        start, end = (round(row[n].timestamp() * 1e6) for n in ("window_start", "window_end"))
        series = "\0".join(row[d] for d in ROLLUPS[row["rollup"]])
        low, high = np.searchsorted(ends, [start, end])
        chosen = low + np.flatnonzero(members[row["rollup"]][low:high] == series)
        where = (row["rollup"], row["window"], row["window_start"], series)
        assert row["calls"] == row["status_ok"] == len(chosen), where
        assert row["outcome_abstained"] == abstained[chosen].sum(), where
        assert row["input_tokens"] == input_tokens[chosen].sum(), where
        assert row["output_tokens"] == output_tokens[chosen].sum(), where
        assert int(row["cost_usd"] * 10**9) == cost[chosen].sum(), where
        assert [(e["n"], e["failed"]) for e in row["evaluations"]] == [
            (len(chosen), abstained[chosen].sum())
        ], where
        found = next(d for d in row["distributions"] if d["metric"] == "latency_us")
        inside = latency[chosen]
        assert (found["n"], found["min"], found["max"]) == (len(inside), inside.min(), inside.max()), where
        exact = np.quantile(inside, [0.5, 0.9, 0.95, 0.99], method="inverted_cdf")
        assert [found[name] for name in ("p50", "p90", "p95", "p99")] == pytest.approx(exact, rel=0.01), where
        seen.setdefault((row["rollup"], row["window"]), set()).add((series, start))
    check_complete(seen, members, ends)


def check_complete(
    seen: dict[tuple[str, str], set[tuple[str, int]]], members: dict[str, Any], ends: Any
) -> None:
    """No window that holds a call is absent."""
    lengths = {"10s": 10, "1m": 60, "5m": 300, "1h": 3600}
    closed = int(ends.max()) + LATENESS_US
    for rollup, series in members.items():
        slides = (
            {"1m": 10, "5m": 10, "1h": 60, "10s": 10}
            if rollup == "release"
            else {"1m": 60, "5m": 60, "1h": 60}
        )
        for window, slide in slides.items():
            length, step = lengths[window] * 1_000_000, slide * 1_000_000
            expected = {
                (name, start)
                for name, last in set(zip(series.tolist(), (ends // step * step).tolist(), strict=True))
                for start in range(last - length + step, last + 1, step)
                if start + length <= closed
            }
            missing = expected - seen.get((rollup, window), set())
            assert not missing, (rollup, window, len(missing), sorted(missing)[:3])


def _wait_for_final(client: Any, calls: list[LLMCall]) -> None:
    """The ten-second window of the last call becomes final when the stream's end has passed through."""
    last_us = max(c.ts_end for c in calls)
    query = (
        "SELECT count() FROM window_metrics WHERE rollup = 'release' AND window = '10s' AND phase = 'final' "
        "AND window_end > fromUnixTimestamp64Micro({last:Int64})"
    )
    deadline = time.monotonic() + 60
    while client.query(query, parameters={"last": last_us}).first_row[0] == 0:
        assert time.monotonic() < deadline, "the last window did not become final"
        time.sleep(0.3)
    # Later windows of the same message may still be on their way to the store.
    time.sleep(3)


@pytest.mark.long
def test_a_healthy_change_is_promoted_and_every_window_equals_the_input(tmp_path: Path) -> None:
    run("healthy", tmp_path, kills={})


def test_a_bad_upgrade_is_rolled_back_and_counted_exactly_although_every_process_is_killed(
    tmp_path: Path,
) -> None:
    run("model-upgrade", tmp_path, kills={3_000: "aggregate", 5_000: "stream", 7_000: "sink"})
