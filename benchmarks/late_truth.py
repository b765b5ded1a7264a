"""How often a healthy candidate is rolled back when one variant's records or ratings come later.

    python -m benchmarks.late_truth [--runs 2000] [--json FILE]

Panes of ten seconds with 100 calls each, a look after every pane, alpha 1 %, no tolerance: the candidate is
exactly as good as the baseline, so each rollback is false. Records that come after the look at their pane are
a stratum of their own in the next look, as in the stream; ratings count in the pane in which they are given.
The likelihoods are those of the stream.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tidegate_streams.statistics import emix
from tidegate_streams.statistics.emix import Counts, Floats

ALPHA = 0.01
CALLS = 100
LOOKS = 360
"""An hour."""

Ints = npt.NDArray[np.int64]
Rates = Callable[[Ints], Floats]
"""Pane -> share of its calls that are bad."""

PROMPT: Floats = np.array([1.0])


def tail(share: float, panes: int) -> Floats:
    """Share of records by how many panes they come late: most in time, the others evenly later."""
    return np.array([1 - share, *[share / panes] * panes])


def steady(panes: Ints) -> Floats:
    return np.full(panes.shape, 0.05)


def moving(panes: Ints) -> Floats:
    """Between 0.5 and 9.5 percent, twice an hour."""
    return 0.05 + 0.045 * np.sin(panes / 180 * 2 * np.pi)


@dataclass(frozen=True)
class World:
    """What comes when.

    Parameters
    ----------
    late
        Baseline, candidate: share of good records by panes of delay.
    bad_late
        The same for bad ones, where it differs.
    rated_after
        Baseline, candidate: panes between a call and its rating; 0 where the calls themselves are compared.
    rates
        What all calls of a pane have in common.
    canary
        Share of the candidate.
    """

    late: tuple[Floats, Floats] = (PROMPT, PROMPT)
    bad_late: tuple[Floats, Floats] | None = None
    rated_after: tuple[int, int] = (0, 0)
    rates: Rates = steady
    canary: float = 0.10


WORLDS = {
    "everything in time": World(),
    "30 % of the candidate's records up to 80 s late": World((PROMPT, tail(0.3, 8))),
    "30 % of the baseline's records up to 80 s late": World((tail(0.3, 8), PROMPT)),
    "the same, the base rate moving": World((tail(0.3, 8), PROMPT), rates=moving),
    "90 % of the candidate's, 30 % of the baseline's, moving": World(
        (tail(0.3, 8), tail(0.9, 8)), rates=moving
    ),
    "the same, shares of one half": World((tail(0.3, 8), tail(0.9, 8)), rates=moving, canary=0.5),
    "bad ones of both later than good ones": World(bad_late=(tail(0.5, 8), tail(0.5, 8)), rates=moving),
    "the candidate rated 10 minutes later": World(rated_after=(0, 60)),
    "the candidate rated 10 minutes later, moving": World(rated_after=(0, 60), rates=moving),
    "the baseline rated 1 minute later, moving": World(rated_after=(6, 0), rates=moving),
    "the baseline rated 10 minutes later, moving": World(rated_after=(60, 0), rates=moving),
    "bad ones of the baseline alone later": World(bad_late=(tail(0.3, 8), PROMPT)),
}


def log_e(world: World, runs: int, seed: int, looks: int = LOOKS) -> Floats:
    """Log e-values against harm at each look, shape (runs, looks)."""
    rng = np.random.default_rng(seed)
    n_candidate = round(CALLS * world.canary)
    cells = [
        _arriving(rng, world, variant, n, runs, looks)
        for variant, n in enumerate((CALLS - n_candidate, n_candidate))
    ]
    (n_b, k_b), (n_c, k_c) = (_padded(cell, max(one[0].shape[2] for one in cells)) for cell in cells)
    compared = (n_b > 0) & (n_c > 0) & (k_b + k_c > 0)
    tables, places = np.unique(
        np.stack([n_b[compared], n_c[compared], k_b[compared], k_c[compared]]), axis=1, return_inverse=True
    )
    at = emix.points(0.0, math.log(1.5))[emix.HARM]
    known = np.array([emix.log_likelihood(Counts(*map(int, table)), at) for table in tables.T])
    curves = np.zeros((runs, looks, len(at)))
    run, pane, delay = np.nonzero(compared)
    seen = pane + delay < looks
    np.add.at(curves, (run[seen], (pane + delay)[seen]), known[places.ravel()[seen]])
    curves.cumsum(axis=1, out=curves)
    ratios = curves[..., 1:] - curves[..., :1]
    peak = ratios.max(axis=-1)
    evidence: Floats = peak + np.log(np.exp(ratios - peak[..., None]).mean(axis=-1))
    return evidence


def _arriving(
    rng: np.random.Generator, world: World, variant: int, n: int, runs: int, looks: int
) -> tuple[Ints, Ints]:
    """Records and bad ones by run, pane of their own time and panes of delay."""
    rates = world.rates(np.arange(looks) - world.rated_after[variant])
    bad = rng.binomial(n, rates, size=(runs, looks))
    late = world.late[variant]
    bad_late = late if world.bad_late is None else world.bad_late[variant]
    width = max(len(late), len(bad_late))
    good_by_delay, bad_by_delay = (
        rng.multinomial(count, np.pad(shares, (0, width - len(shares))))
        for count, shares in ((n - bad, late), (bad, bad_late))
    )
    return good_by_delay + bad_by_delay, bad_by_delay


def _padded(cell: tuple[Ints, Ints], width: int) -> tuple[Ints, Ints]:
    n, k = (np.pad(one, ((0, 0), (0, 0), (0, width - one.shape[2]))) for one in cell)
    return n, k


def false_rollbacks(world: World, runs: int, seed: int, looks: int = LOOKS) -> int:
    """Runs in which the candidate is rolled back at any look."""
    rejected = log_e(world, runs, seed, looks).max(axis=1) >= math.log(1 / ALPHA)
    return int(rejected.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    found = {}
    print(f"{'false rollbacks at alpha 1 %':<58}{'percent':>10}{'error':>8}{'seconds':>9}")
    for name, world in WORLDS.items():
        begun = time.perf_counter()
        blocks = [min(200, chosen.runs - start) for start in range(0, chosen.runs, 200)]
        false = sum(false_rollbacks(world, runs, chosen.seed + i) for i, runs in enumerate(blocks))
        share = false / chosen.runs
        error = math.sqrt(max(share * (1 - share), 1 / chosen.runs) / chosen.runs)
        found[name] = {"false": false, "runs": chosen.runs, "share": share, "standard_error": error}
        took = time.perf_counter() - begun
        print(f"{name:<58}{100 * share:>10.2f}{100 * error:>8.2f}{took:>9.1f}", flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
