"""How often a healthy candidate is rolled back when one variant's records or ratings come later.

    python -m benchmarks.late_truth [--runs 2000] [--json FILE]

Panes of ten seconds with 100 calls each, a look after every pane, alpha 1 %, no tolerance: the candidate is
exactly as good as the baseline, so each rollback is false. Calls that come after the look at their pane are a
stratum of their own in the next look, as in the stream. Ratings are compared by the time of their calls, like
there, and once more by their own; how long a bad candidate is kept is told of both. The likelihoods and
the waiting of ratings are those of the stream.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from tidegate_streams.partials import PANE_US
from tidegate_streams.rollouts.ripening import Unripe
from tidegate_streams.rollouts.strata import Rating
from tidegate_streams.statistics import emix
from tidegate_streams.statistics.emix import Counts, Floats
from tidegate_streams.waits import call_time

ALPHA = 0.01
LOOKS = 360
"""An hour."""

Ints = npt.NDArray[np.int64]
Rates = Callable[[Ints], Floats]
"""Pane -> share of its calls that are bad."""

PROMPT: Floats = np.array([1.0])


def tail(share: float, panes: int) -> Floats:
    """Share of records by how many panes they come late: most in time, the others evenly later."""
    return np.array([1 - share, *[share / panes] * panes])


def after(panes: int) -> Floats:
    """All of them so many panes later."""
    return np.eye(panes + 1)[panes]


def about(panes: float) -> Floats:
    """So many panes later on average, some at once and some much later."""
    shares = np.exp(-np.arange(math.ceil(4 * panes)) / panes)
    spread: Floats = shares / shares.sum()
    return spread


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
    rates
        What all calls of a pane have in common.
    canary
        Share of the candidate.
    calls
        Calls a pane.
    rated
        Share of calls that are rated, where ratings are compared and not the calls themselves.
    odds
        Of a bad answer by the candidate, relative to the baseline's.
    """

    late: tuple[Floats, Floats] = (PROMPT, PROMPT)
    bad_late: tuple[Floats, Floats] | None = None
    rates: Rates = steady
    canary: float = 0.10
    calls: int = 100
    rated: float | None = None
    odds: float = 1.0


def rated(late: tuple[Floats, Floats], **changes: object) -> World:
    """A world in which all calls are rated and the base rate moves."""
    return World(**({"late": late, "rates": moving, "rated": 1.0} | changes))  # type: ignore[arg-type]


SOON, LATER = about(2), about(6)

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
    "bad ones of the baseline alone later": World(bad_late=(tail(0.3, 8), PROMPT)),
}
"""Where calls are compared."""

RATED = {
    "rated with the call": rated((PROMPT, PROMPT)),
    "rated about 1 minute later": rated((LATER, LATER)),
    "the candidate 10 minutes later": rated((PROMPT, after(60))),
    "the baseline 1 minute later": rated((after(6), PROMPT)),
    "the baseline 10 minutes later": rated((after(60), PROMPT)),
    "the baseline about 1 minute later, the candidate about 20 s": rated((LATER, SOON)),
    "the same, of 10 calls a pane": rated((LATER, SOON), calls=10),
    "good ones of both about 20 s later, bad ones 1 minute": rated((SOON, SOON), bad_late=(LATER, LATER)),
    "these, of 10 calls a pane": rated((SOON, SOON), bad_late=(LATER, LATER), calls=10),
    "bad ones of the baseline alone about 1 minute later": rated((PROMPT, PROMPT), bad_late=(LATER, PROMPT)),
}
"""Where ratings are, with a base rate that moves."""

BAD = {
    "rated with the call, odds doubled": rated((PROMPT, PROMPT), odds=2.0),
    "rated about 1 minute later, odds doubled": rated((LATER, LATER), odds=2.0),
    "10 % rated, about 3 minutes later, odds fourfold": rated((about(18), about(18)), rated=0.1, odds=4.0),
    "the candidate 10 minutes later, odds doubled": rated((PROMPT, after(60)), odds=2.0),
}
"""Where the candidate is worse."""


def log_e(world: World, runs: int, seed: int, looks: int = LOOKS) -> Floats:
    """Log e-values against harm at each look, shape (runs, looks); of ratings by their own time."""
    cells = _arrivals(world, runs, np.random.default_rng(seed), looks)
    if world.rated is not None:
        cells = [(_by_own_time(n), _by_own_time(k)) for n, k in cells]
    (n_b, k_b), (n_c, k_c) = cells
    compared = (n_b > 0) & (n_c > 0) & (k_b + k_c > 0)
    tables, places = np.unique(
        np.stack([n_b[compared], n_c[compared], k_b[compared], k_c[compared]]), axis=1, return_inverse=True
    )
    known = np.array([_curve(*map(int, table)) for table in tables.T])
    curves = np.zeros((runs, looks, known.shape[1]))
    run, pane, delay = np.nonzero(compared)
    seen = pane + delay < looks
    np.add.at(curves, (run[seen], (pane + delay)[seen]), known[places.ravel()[seen]])
    return _evidence(curves.cumsum(axis=1, out=curves))


@lru_cache(100_000)
def _curve(n_b: int, n_c: int, k_b: int, k_c: int) -> Floats:
    at = emix.points(0.0, math.log(1.5))[emix.HARM]
    return emix.log_likelihood(Counts(n_b, n_c, k_b, k_c), at)


def _evidence(curves: Floats) -> Floats:
    ratios = curves[..., 1:] - curves[..., :1]
    peak = ratios.max(axis=-1)
    evidence: Floats = peak + np.log(np.exp(ratios - peak[..., None]).mean(axis=-1))
    return evidence


def _by_own_time(counts: Ints) -> Ints:
    total = np.zeros_like(counts[:, :, :1])
    for delay in range(counts.shape[2]):
        total[:, delay:, 0] += counts[:, : counts.shape[1] - delay, delay]
    return total


def _arrivals(world: World, runs: int, rng: np.random.Generator, looks: int) -> list[tuple[Ints, Ints]]:
    """Records and bad ones of each variant by run, pane of the call and panes of delay."""
    n_candidate = round(world.calls * world.canary)
    cells = [
        _arriving(rng, world, variant, n, runs, looks)
        for variant, n in enumerate((world.calls - n_candidate, n_candidate))
    ]
    width = max(one[0].shape[2] for one in cells)
    return [_padded(cell, width) for cell in cells]


def _arriving(
    rng: np.random.Generator, world: World, variant: int, n: int, runs: int, looks: int
) -> tuple[Ints, Ints]:
    rates = world.rates(np.arange(looks))
    if variant:
        rates = rates * world.odds / (1 - rates + rates * world.odds)
    found = n if world.rated is None else rng.binomial(n, world.rated, size=(runs, looks))
    bad = rng.binomial(found, rates, size=(runs, looks))
    late = world.late[variant]
    bad_late = late if world.bad_late is None else world.bad_late[variant]
    width = max(len(late), len(bad_late))
    good_by_delay, bad_by_delay = (
        rng.multinomial(count, np.pad(shares, (0, width - len(shares))))
        for count, shares in ((found - bad, late), (bad, bad_late))
    )
    return good_by_delay + bad_by_delay, bad_by_delay


def _padded(cell: tuple[Ints, Ints], width: int) -> tuple[Ints, Ints]:
    n, k = (np.pad(one, ((0, 0), (0, 0), (0, width - one.shape[2]))) for one in cell)
    return n, k


def decided(
    world: World, runs: int, seed: int, looks: int = LOOKS, *, by_own_time: bool = False
) -> list[int]:
    """The look at which each run is rolled back; runs that are not are left out.

    Parameters
    ----------
    world
        What comes when.
    runs, seed, looks
        How many, of what, how long.
    by_own_time
        Compare ratings by their own time, and not, as the stream does, by that of their calls.
    """
    if world.rated is None or by_own_time:
        certain = log_e(world, runs, seed, looks) >= math.log(1 / ALPHA)
        ends: list[int] = certain.argmax(axis=1)[certain.any(axis=1)].tolist()
        return ends
    cells = _arrivals(world, runs, np.random.default_rng(seed), looks)
    found, place = _places(looks, cells[0][0].shape[2])
    flat = [(n.reshape(runs, -1), k.reshape(runs, -1)) for n, k in cells]
    sums = [
        [np.bincount(place, one[run]).astype(int) for pair in flat for one in pair] for run in range(runs)
    ]
    return [end for some in sums for end in _end(found, some, looks)]


def _places(looks: int, delays: int) -> tuple[list[tuple[int, int]], Ints]:
    """Look and time of the call, as stage 1 tells it, of ratings; and to which of these each cell adds."""
    panes, late = (one.ravel() for one in np.indices((looks, delays)))
    times = pl.DataFrame({"call": panes * PANE_US, "rated": (panes + late) * PANE_US})
    told = times.select(call_time(pl.col("call"), pl.col("rated"))).to_series().to_numpy()
    found, place = np.unique(np.stack([panes + late, told]), axis=1, return_inverse=True)
    return [(look, call_us) for look, call_us in found.T.tolist()], place.ravel()


def _end(found: list[tuple[int, int]], sums: list[Ints], looks: int) -> Iterator[int]:
    n_b, k_b, n_c, k_c = (one.tolist() for one in sums)
    ratings: list[list[Rating]] = [[] for _ in range(looks)]
    for place, (look, call_us) in enumerate(found):
        if look < looks:
            ratings[look].append(Rating(1, "feedback.thumbs", "b", call_us, n_b[place], k_b[place]))
            ratings[look].append(Rating(1, "feedback.thumbs", "c", call_us, n_c[place], k_c[place]))
    unripe, curve = Unripe(), np.zeros(13)
    for look, some in enumerate(ratings):
        for table in unripe.look((look + 1) * PANE_US, some).values():
            (n, k), (m, j) = table.get("b", (0, 0)), table.get("c", (0, 0))
            if n and m and k + j:
                curve = curve + _curve(n, m, k, j)
        if _evidence(curve) >= math.log(1 / ALPHA):
            yield look
            return


def false_rollbacks(
    world: World, runs: int, seed: int, looks: int = LOOKS, *, by_own_time: bool = False
) -> int:
    """Runs in which the candidate is rolled back at any look."""
    return len(decided(world, runs, seed, looks, by_own_time=by_own_time))


def _measured(world: World, runs: int, seed: int, *, by_own_time: bool = False) -> dict[str, float]:
    blocks = [(min(200, runs - start), seed + start // 200) for start in range(0, runs, 200)]
    false = sum(false_rollbacks(world, some, begun, by_own_time=by_own_time) for some, begun in blocks)
    share = false / runs
    error = math.sqrt(max(share * (1 - share), 1 / runs) / runs)
    return {"false": false, "runs": runs, "share": share, "standard_error": error}


def _minutes(world: World, runs: int, seed: int, *, by_own_time: bool = False) -> float:
    """Until half of the candidates are rolled back."""
    ends = decided(world, runs, seed, by_own_time=by_own_time)
    return float(np.median([*ends, *[math.inf] * (runs - len(ends))])) * PANE_US / 60e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2_000, help="of calls; half as many of ratings")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    found = {}
    columns = f"{'by the call':>16}{'by own time':>16}{'seconds':>9}"
    print(f"{'false rollbacks at alpha 1 %, percent':<62}{columns}")
    for name, world in (WORLDS | RATED).items():
        begun = time.perf_counter()
        runs = chosen.runs if world.rated is None else chosen.runs // 2
        both = [_measured(world, runs, chosen.seed)]
        if world.rated is not None:
            both.append(_measured(world, runs, chosen.seed, by_own_time=True))
        found[name] = both
        shown = [f"{100 * one['share']:.2f} +- {100 * one['standard_error']:.2f}" for one in both]
        took = time.perf_counter() - begun
        print(f"{name:<62}{shown[0]:>16}{''.join(shown[1:]):>16}{took:>9.1f}", flush=True)
    print(f"\n{'minutes until half of bad candidates are rolled back':<62}{columns}")
    for name, world in BAD.items():
        begun = time.perf_counter()
        runs = min(chosen.runs // 2, 200)
        ways = [_minutes(world, runs, chosen.seed, by_own_time=own) for own in (False, True)]
        found[name] = [{"minutes": one, "runs": runs} for one in ways]
        took = time.perf_counter() - begun
        print(f"{name:<62}{ways[0]:>16.1f}{ways[1]:>16.1f}{took:>9.1f}", flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
