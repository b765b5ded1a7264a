"""How often changes are reported that are none, and how late those that are: ``python -m benchmarks.drift``.

Streams simulated with seeds, in which nothing changes or a known thing does, and recorded series; ours beside
detectors that people use. Writes the tables into docs/drift-benchmark.md and the pictures beside it. Ends
with 1 when a goal is missed.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from benchmarks.drift import pictures, recorded, simulated
from benchmarks.drift.detectors import SLOW, Detector, Limit, of_river
from benchmarks.drift.measured import Row, delay, run_length, table
from benchmarks.drift.simulated import BEFORE, CHANGES, QUIET, RUN_LENGTH, WINDOW, Quiet, Stream

DOCS = Path(__file__).parents[2] / "docs"
PAGE, PICTURES = DOCS / "drift-benchmark.md", DOCS / "pictures"
SEED = 20_261_122


def quiet_rows(runs: int, windows: int, peers: Mapping[str, Callable[[], Detector]]) -> dict[str, list[Row]]:
    """False alarms where nothing changes, by stream."""
    made: dict[str, list[Row]] = {}
    for number, usual in enumerate(QUIET):
        few = windows // 2 if usual.bad is None else windows
        found = {
            "tidegate": simulated.quiet(np.random.default_rng([SEED, number]), usual, runs, few),
            **{
                name: simulated.quiet_of(
                    np.random.default_rng([SEED, number]), make, usual, 1, _samples(name, runs)
                )
                for name, make in _all(peers, usual).items()
            },
        }
        made[usual.name] = [
            _row(
                f"{usual.name}, no change",
                name,
                one,
                goal=RUN_LENGTH * WINDOW if name == "tidegate" else None,
            )
            for name, one in found.items()
        ]
    return made


def _samples(name: str, runs: int) -> int:
    return runs * (100 if name == SLOW else 5_000)


def _row(case: str, name: str, one: Quiet, goal: float | None) -> Row:
    nothing = delay(np.array([]))
    return Row(case, name, run_length(one.alarms, one.samples), nothing, 0, 0, (goal, None))


def delay_rows(runs: int, peers: Mapping[str, Callable[[], Detector]]) -> list[Row]:
    """Samples until known changes are found."""
    made = []
    for number, (usual, after, goal) in enumerate(CHANGES):
        case = f"{usual.name.removesuffix(' bad')} → {after.name}" if usual.bad else after.name
        ours = simulated.delays(np.random.default_rng([SEED, 100 + number]), usual, after, 2 * runs, 20_000)
        found = {"tidegate": ours} | {
            name: simulated.delays_of(
                np.random.default_rng([SEED, 100 + number]),
                make,
                usual,
                after,
                max(runs // 30, 2) if name == SLOW else runs // 2,
                1_000 if name == SLOW else BEFORE,
                2_000 if name == SLOW else 20_000,
            )
            for name, make in _all(peers, usual).items()
        }
        for name, late in found.items():
            wanted = goal if name == "tidegate" else None
            hits = int(np.isfinite(late).sum())
            made.append(Row(case, name, run_length(0, 0), delay(late), hits, len(late), (None, wanted)))
    return made


def _all(peers: Mapping[str, Callable[[], Detector]], usual: Stream) -> dict[str, Callable[[], Detector]]:
    # Of latencies the samples are logarithms; their limit is three standard deviations of them.
    return {**peers, "limit of 50 %": lambda: Limit(5_000, 100, is_relative=usual.bad is not None)}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=60, help="streams at once; fewer say less")
    parser.add_argument("--windows", type=int, default=60_000, help="windows of each without a change")
    said = parser.parse_args()
    began, peers = time.process_time(), of_river()
    quiet = quiet_rows(said.runs, said.windows, peers)
    late = delay_rows(said.runs, peers)
    series = [
        *recorded.simulated(),
        *recorded.azure(),
        *recorded.mongodb(),
        *recorded.tcpd(),
        *recorded.nab(),
    ]
    judged = recorded.judged(series, peers)
    known = recorded.rows(judged)
    parts = {
        "quiet": table([row for rows in quiet.values() for row in rows]),
        "delays": table(late),
        "recorded": table(known),
        "mongodb": _places([one for one in judged if one.one.changes is None]),
    }
    for text in parts.values():
        print(text, end="\n\n")
    _write(parts)
    PICTURES.mkdir(exist_ok=True)
    pictures.delays(quiet, late, PICTURES / "drift-delays.png")
    pictures.series([one for one in judged if (one.one.group, one.one.name) in pictures.SHOWN], PICTURES)
    print(f"{time.process_time() - began:.0f} s of processor time", file=sys.stderr)
    missed = [one for row in [*late, *(r for rows in quiet.values() for r in rows)] for one in row.misses]
    print("\n".join(missed) or "every goal is met")
    return int(bool(missed))


def _places(judged: list[recorded.Judged]) -> str:
    lines = ["| series | detector | alarms at |", "|---|---|---|"]
    rows = [
        f"| {one.one.name} | {one.detector} | {', '.join(map(str, one.at)) or 'none'} |" for one in judged
    ]
    return "\n".join([*lines, *rows])


def _write(parts: Mapping[str, str]) -> None:
    text = PAGE.read_text()
    for name, part in parts.items():
        begin, end = f"<!-- {name}, written by make bench-drift -->\n", f"<!-- end of {name} -->\n"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{part}\n\n{end}{rest.split(end)[1]}"
    PAGE.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
