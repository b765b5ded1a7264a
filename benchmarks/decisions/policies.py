"""Whole rollouts of eight metrics: rollback or promotion, and after how many calls."""

import itertools
import math
from collections.abc import Iterator

import numpy as np

from benchmarks.decisions import naive
from benchmarks.decisions.figures import Figure, mean, share
from benchmarks.decisions.looks import (
    CALLS,
    HALF,
    TENTH,
    Block,
    Likelihoods,
    averaged,
    bernoulli,
    first,
    log_e,
)
from benchmarks.decisions.rates import EIGHT, HARM, SAFE, worse

FIRST_WORSE, ALL_BETTER = "one of 8 metrics at odds {}", "all metrics at odds 0.9"
TRUTHS = {
    "nothing changed": (1.0,) * 8,
    **{FIRST_WORSE.format(odds): (odds,) + (1.0,) * 7 for odds in (1.25, 1.5, 2.0)},
    ALL_BETTER: (0.9,) * 8,
}
"""What is true -> odds of the candidate's eight rates."""

WRONG = {"nothing changed": ("rolled back", 0.01), FIRST_WORSE.format(1.5): ("promoted", 0.05)}
"""What is true -> the wrong end, and how often it may be."""


def race(rng: np.random.Generator, runs: int) -> list[Figure]:
    """Rollback at alpha 1 % against promotion at alpha 5 % with a margin of odds 1.5; ties roll back."""
    figures, harm, safe = [], Likelihoods(HARM), Likelihoods(SAFE)
    for (truth, odds), split in itertools.product(TRUTHS.items(), (HALF, TENTH)):
        seed = int(rng.integers(2**32))

        def metrics(odds=odds, split=split, seed=seed) -> list[Iterator[Block]]:
            return [
                bernoulli(np.random.default_rng([seed, i]), runs, split, p, worse(p, psi))
                for i, (p, psi) in enumerate(zip(EIGHT, odds, strict=True))
            ]

        harmful = first(averaged([log_e(map(harm.of, bad)) for bad in metrics()]), math.log(100))
        each = [log_e(map(safe.of, bad)) for bad in metrics()]
        excluded = first((np.minimum.reduce(blocks) for blocks in zip(*each, strict=True)), math.log(20))
        scores = zip(*(naive.z_scores(bad) for bad in metrics()), strict=True)
        alarmed = first((np.maximum.reduce(blocks) for blocks in scores), naive.threshold_z(0.05))
        case = f"{truth}, {split.name}"
        back, on = np.isfinite(harmful) & (harmful <= excluded), excluded < harmful
        wrong, bound = WRONG.get(truth, ("", None))
        for end, ended, looks in (("rolled back", back, harmful), ("promoted", on, excluded)):
            figures.append(share("race", f"{case}: {end}", ended, bound if end == wrong else None))
            if ended.mean() > 0.5:
                figures.append(mean("race", f"{case}: until {end}", CALLS * looks[ended]))
        figures.append(share("race", f"{case}: rolled back", np.isfinite(alarmed), rule="any z above 1.64"))
    return figures
