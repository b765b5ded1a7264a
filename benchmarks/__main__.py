"""Every benchmark, one after the other; figures as JSON in benchmarks/results.

Each compares with a named peer in the same run, because the machines are shared: read the ratios.
"""

import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
BENCHMARKS = ("emit", "stage1", "sink", "recovery", "decision_latency")


def main() -> int:
    RESULTS.mkdir(exist_ok=True)
    worst = 0
    for name in BENCHMARKS:
        print(f"\n== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(RESULTS / f"{name}.json")]
        worst = max(worst, subprocess.run(command, check=False).returncode)
    return worst


sys.exit(main())
