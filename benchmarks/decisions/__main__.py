"""How often decisions are wrong, and how many calls they take: ``python -m benchmarks.decisions``.

Simulations with seeds, on the functions that decide in the stream. Strata of 100 calls, a look after each,
2,000 looks; calls are those of both variants. Each figure stands beside its 95 % interval, what was
promised, and what rules do that people use today. ``--runs 40`` takes half a minute and says little.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.decisions import costs, exact, latencies, policies, rates, units

SEED = 20_261_121
GOALS = {
    "G1": (rates.g1, 1.0),
    "G2": (rates.g2, 1.0),
    "G3": (rates.g3_g4, 0.5),
    "G5": (latencies.g5, 0.25),
    "G6": (costs.g6, 0.1),
    "G7": (rates.g7, 1.0),
    "G8": (rates.g8, 2.0),
    "G9": (units.g9, 0.2),
    "G10": (units.g10, 1.0),
    "race": (policies.race, 0.2),
    "G12": (exact.g12, 1.0),
    "G13": (exact.g13, 1.0),
}
"""Goal -> its simulation, and its share of the runs. G3 brings G4 along."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--only", nargs="*", choices=GOALS, default=list(GOALS), metavar="GOAL")
    parser.add_argument("--json", type=Path, help="file to save the figures in")
    parser.add_argument("--markdown", type=Path, help="file to save the table in")
    said = parser.parse_args()
    figures = []
    for number, (goal, (simulate, part)) in enumerate(GOALS.items()):
        if goal not in said.only:
            continue
        began = time.monotonic()
        found = simulate(np.random.default_rng([SEED, number]), max(20, round(part * said.runs)))
        for figure in found:
            print(figure.written(), flush=True)
        print(f"     {goal} took {time.monotonic() - began:.0f} s", file=sys.stderr)
        figures += found
    if said.json:
        rows = [asdict(figure) for figure in figures]
        said.json.write_text(json.dumps({"runs": said.runs, "seed": SEED, "figures": rows}, indent=1) + "\n")
    if said.markdown:
        head = [
            "| goal | case | rule | measured | 95 % interval | promised | |",
            "|---|---|---|---|---|---|---|",
        ]
        table = ["| " + " | ".join(figure.cells()) + " |" for figure in figures]
        said.markdown.write_text("\n".join([*head, *table]) + "\n")
    return int(any(figure.is_met is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
