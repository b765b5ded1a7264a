"""``python -m tests.faults --seeds N``: the whole system under at least N seeded faults, checked exactly.

They are played in runs, each a process of its own with a stack of its own, whose faults are a function of the
run's seed alone: ``--first``, and so on upwards. Data, logs and history of a run with violations stay; of the
others only the history.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.faults import history
from tests.faults.disk import can_be_mounted
from tests.faults.run import run
from tests.faults.schedule import KINDS, schedule

MOST_SECONDS = 600
"""A run that takes longer hangs; killed, it takes its stack with it."""


def main() -> int:
    """Run the seeds and print the table; 1 when anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=24, help="faults, at least: runs are whole")
    parser.add_argument("--first", type=int, default=0, help="seed of the first run")
    parser.add_argument("--faults", type=int, default=24, help="faults of a run")
    parser.add_argument("--span", type=float, default=50.0, help="seconds within which they begin")
    parser.add_argument("--session", type=float, default=4.0, help="seconds of silence that Kafka bears")
    parser.add_argument(
        "--dir",
        type=Path,
        default=Path(tempfile.gettempdir(), "tidegate-faults"),
        help="where histories and data go",
    )
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        faults = schedule(asked.first, asked.faults, asked.span, asked.session)
        found = run(asked.first, faults, _directory(asked, asked.first), round(asked.session * 1_000))
        return 1 if found else 0
    runs = -(-asked.seeds // asked.faults)
    print(f"{runs * asked.faults} faults in {runs} runs", flush=True)
    kept = [_run_apart(asked, seed) for seed in range(asked.first, asked.first + runs)]
    print(table(kept))
    return int(any(_verdict(path) for path in kept))


def _directory(asked: argparse.Namespace, seed: int) -> Path:
    return Path(asked.dir, f"seed-{seed}")


def _run_apart(asked: argparse.Namespace, seed: int) -> Path:
    """Run a seed in a process of its own, and return where its history is."""
    directory = _directory(asked, seed)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    arguments = ["--first", seed, "--faults", asked.faults, "--span", asked.span]
    arguments += ["--session", asked.session, "--dir", asked.dir, "--one"]
    command = [sys.executable, "-m", "tests.faults", *map(str, arguments)]
    if can_be_mounted():
        # What the run mounts nobody else sees, and it is gone with the run.
        command = ["unshare", "--mount", *command]
    began_s = time.monotonic()
    with (directory / "run.log").open("wb") as log:
        one = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            code = one.wait(MOST_SECONDS)
        except subprocess.TimeoutExpired:
            one.kill()
            code = one.wait()
    kept = directory / "history.jsonl"
    if code and not _verdict(kept):
        history.add(kept, "violation", invariant="harness", found=f"the run ended with {code}: see run.log")
    found = _verdict(kept)
    print(f"run of seed {seed}: {time.monotonic() - began_s:.0f} s, {len(found)} violations", flush=True)
    for words in found:
        print(f"  {words}"[:1_000])
    if not code:
        shutil.rmtree(directory / "stack")
    return kept


def _verdict(path: Path) -> list[str]:
    lines = history.read(path)
    return [f"{line['invariant']}: {line['found']}" for line in lines if line["what"] == "violation"]


def table(histories: Sequence[Path]) -> str:
    """Say of every kind how often it struck, in how many runs, and in how many with violations: Markdown."""
    struck: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    for path in histories:
        lines = history.read(path)
        faults = Counter(line["kind"] for line in lines if line["what"] == "fault")
        struck += faults
        sums["runs"] += 1
        for line in lines:
            if line["what"] == "traffic is over":
                sums.update({name: line[name] for name in ("stored", "duplicates", "dead", "alone")})
            elif line["what"] == "faults are over":
                sums["points"] += len(line["reached"])
        runs.update(set(faults))
        if any(line["what"] == "violation" for line in lines):
            bad.update(set(faults))
            sums["bad runs"] += 1
    rows = ["| fault | struck | runs | runs with violations |", "|---|---:|---:|---:|"]
    rows += [f"| {kind} | {struck[kind]} | {runs[kind]} | {bad[kind]} |" for kind in KINDS]
    rows.append(f"| all | {struck.total()} | {sums['runs']} | {sums['bad runs']} |")
    rows.append("")
    rows.append(
        f"{sums['stored']} events to be stored, {sums['alone']} of them ratings whose call had to be looked "
        f"up, {sums['duplicates']} duplicates, {sums['dead']} dead letters; {sums['points']} of "
        f"{struck['crash']} crash points were reached"
    )
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
