"""Many runs at once: counts of bad events, a look after every stratum, and the first look that decides."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tidegate_streams.statistics import emix
from tidegate_streams.statistics.emix import Counts, Floats

Ints = npt.NDArray[np.int64]

CALLS = 100
"""Of a stratum: ten seconds at ten calls a second."""
LOOKS = 2_000
"""Of a whole run: 200,000 calls."""
BLOCK = 60


class Split(NamedTuple):
    """Calls of baseline and candidate in a stratum."""

    n_b: int
    n_c: int

    @property
    def name(self) -> str:
        return f"{100 * self.n_c / (self.n_b + self.n_c):.3g} %"


HALF, TENTH, HUNDREDTH = Split(50, 50), Split(90, 10), Split(99, 1)


class Block(NamedTuple):
    """Bad events of baseline and candidate at some looks, shape (runs, looks)."""

    split: Split
    k_b: Ints
    k_c: Ints


def bernoulli(
    rng: np.random.Generator,
    runs: int,
    split: Split,
    p_b: Floats | float,
    p_c: Floats | float,
    looks: int = LOOKS,
) -> Iterator[Block]:
    """Bad events of independent calls, at rates that may change from look to look."""
    rates_b, rates_c = (np.broadcast_to(p, looks) for p in (p_b, p_c))
    for start in range(0, looks, BLOCK):
        part = slice(start, min(start + BLOCK, looks))
        size = (runs, part.stop - start)
        yield Block(
            split, rng.binomial(split.n_b, rates_b[part], size), rng.binomial(split.n_c, rates_c[part], size)
        )


class Likelihoods:
    """Log-likelihoods of strata, each computed once."""

    def __init__(self, points: Floats) -> None:
        self._points = points
        self._tables: dict[Split, Floats] = {}

    def of(self, block: Block) -> Floats:
        """Curves of strata, shape (runs, looks, points)."""
        n_b, n_c = block.split
        table = self._tables.setdefault(block.split, np.full((n_b + 1, n_c + 1, len(self._points)), np.nan))
        rows = table[block.k_b, block.k_c]
        missing = np.isnan(rows[..., 0])
        if missing.any():
            pairs = np.stack([block.k_b[missing], block.k_c[missing]])
            for b, c in np.unique(pairs, axis=1).T.tolist():
                table[b, c] = emix.log_likelihood(Counts(n_b, n_c, b, c), self._points)
            rows = table[block.k_b, block.k_c]
        return rows


def log_e(strata: Iterable[Floats]) -> Iterator[Floats]:
    """Log e-values, shape (runs, looks), of what strata add, shape (runs, looks, points): null first."""
    before: Floats | float = 0.0
    for block in strata:
        curves = block.cumsum(axis=1)
        curves += before
        before = curves[:, -1:, :].copy()
        yield log_mean(curves[..., 1:] - curves[..., :1])


def log_mean(values: Floats) -> Floats:
    """Log of the mean of e-values along the last axis."""
    peak = values.max(axis=-1)
    return peak + np.log(np.exp(values - peak[..., None]).mean(axis=-1))


def averaged(paths: list[Iterator[Floats]]) -> Iterator[Floats]:
    """Log of the average e-value of several metrics."""
    return (log_mean(np.stack(blocks, axis=-1)) for blocks in zip(*paths, strict=True))


def first(paths: Iterable[Floats], threshold: float) -> Floats:
    """First look, from 1, at which each run reached the threshold; infinite where none did.

    Stops to look once every run has.
    """
    looks, seen = None, 0
    for block in paths:
        if looks is None:
            looks = np.full(block.shape[0], np.inf)
        reached = block >= threshold
        fresh = reached.any(axis=1) & np.isinf(looks)
        looks[fresh] = seen + reached.argmax(axis=1)[fresh] + 1
        seen += block.shape[1]
        if np.isfinite(looks).all():
            break
    if looks is None:
        raise ValueError("no look was made")
    return looks
