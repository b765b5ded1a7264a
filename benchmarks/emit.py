"""What an app's thread pays for one call: ``python -m benchmarks.emit``.

Each row is a process of its own. Peers are installed into a throw-away virtual environment and export to
nowhere; Tidegate encodes every event in its background thread, as it does for Kafka.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from benchmarks import emit_peers

ROWS = {
    "tidegate: record and emit": "tidegate",
    "tidegate: with call(...)": "tidegate-call",
    "tidegate: Kafka away": "tidegate-away",
    "opentelemetry-sdk: span with attributes": "opentelemetry",
}
PEERS = {"opentelemetry": "opentelemetry-sdk"}


def peer_python(packages: list[str], directory: Path) -> Path | None:
    """Return an interpreter that has the packages; None, with the reason on stderr, when there is none."""
    venv.create(directory, with_pip=True)
    python = directory / "bin" / "python"
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *packages], capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(f"no peers: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return python


def measure(python: Path, case: str, emits: int) -> dict[str, float]:
    done = subprocess.run(
        [python, emit_peers.__file__, case, str(emits)], capture_output=True, text=True, check=True
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emits", type=int, default=5_000)
    parser.add_argument("--no-peers", action="store_true", help="measure Tidegate alone; installs nothing")
    parser.add_argument("--json", type=Path, help="file to save the figures in")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        peers = None if said.no_peers else peer_python(list(PEERS.values()), Path(scratch))
        table = {}
        for name, case in ROWS.items():
            python = peers if case in PEERS else Path(sys.executable)
            if python is not None:
                table[name] = measure(python, case, said.emits)
    print(f"{'µs on the calling thread':42}{'p50':>8}{'p90':>8}{'p99':>8}")
    for name, figures in table.items():
        print(f"{name:42}{figures['p50_us']:8.1f}{figures['p90_us']:8.1f}{figures['p99_us']:8.1f}")
    if said.json:
        said.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
