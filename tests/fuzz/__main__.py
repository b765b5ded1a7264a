"""``python -m tests.fuzz --inputs N``: coverage-guided inputs for everything that reads foreign bytes.

Each target runs in a process of its own under atheris; an input that crashes it, breaks a promise or takes
over twenty seconds ends it, and stays as a file. A thousandth as many damaged requests go to a real store.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

SLOWEST_S = 20
_LONGEST_BYTES = 1_024
_DONE = re.compile(r"Done (\d+) (?:runs )?in (\d+) second")


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a target."""

    target: str
    inputs: int
    seconds: float
    finds: int

    def __str__(self) -> str:
        return f"{self.target:14} {self.inputs:>9,} {self.seconds:>8.0f} {self.finds:>6}"


def main() -> int:
    """Run every target and print the table; 1 when anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="how many, over all targets")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations")
    parser.add_argument("--target", help="only this one")
    parser.add_argument(
        "--dir", type=Path, default=Path(tempfile.gettempdir(), "tidegate-fuzz"), help="where finds go"
    )
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    os.environ["RUST_BACKTRACE"] = "0"
    if asked.one:
        _fuzz(asked)
    from tests.fuzz.engine import fuzz_store
    from tests.fuzz.targets import TARGETS

    asked.dir.mkdir(parents=True, exist_ok=True)
    results = []
    print(f"{'target':14} {'inputs':>9} {'seconds':>8} {'finds':>6}", flush=True)
    for name, target in TARGETS.items():
        if asked.target in (None, name):
            results.append(_run_apart(asked, name, max(1, round(asked.inputs * target.share))))
            print(results[-1], flush=True)
    if asked.target in (None, "store"):
        began_s = time.monotonic()
        sent, finds = fuzz_store(max(1, asked.inputs // 1_000), asked.seed, asked.dir)
        results.append(Result("store", sent, time.monotonic() - began_s, finds))
        print(results[-1], flush=True)
    sums = [sum(column) for column in zip(*((r.inputs, r.seconds, r.finds) for r in results), strict=True)]
    print(Result("all", *sums))
    return int(any(result.finds for result in results))


def _run_apart(asked: argparse.Namespace, name: str, inputs: int) -> Result:
    directory = asked.dir / name.replace(" ", "-")
    directory.mkdir(exist_ok=True)
    known = set(directory.iterdir())
    command = [sys.executable, "-m", "tests.fuzz", "--one", "--target", name, "--inputs", str(inputs)]
    command += ["--seed", str(asked.seed), "--dir", str(directory)]
    began_s = time.monotonic()
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    seconds = time.monotonic() - began_s
    done = _DONE.search(run.stderr)
    finds = sorted(set(directory.iterdir()) - known)
    if run.returncode or done is None:
        print(run.stderr[-4_000:], *finds, sep="\n", flush=True)
    return Result(name, int(done[1]) if done else 0, seconds, max(len(finds), int(run.returncode != 0)))


def _fuzz(asked: argparse.Namespace) -> None:
    """Fuzz in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=["tidegate", "tidegate_infra"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[asked.target]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds()):
            Path(corpus, str(number)).write_bytes(seed)
        atheris.Setup(
            [
                "fuzz",
                f"-runs={asked.inputs}",
                f"-seed={asked.seed}",
                f"-timeout={SLOWEST_S}",
                f"-max_len={_LONGEST_BYTES}",
                "-len_control=0",
                "-rss_limit_mb=4096",
                f"-artifact_prefix={asked.dir}/",
                corpus,
            ],
            target.check,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
