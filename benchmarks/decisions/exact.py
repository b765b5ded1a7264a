"""What holds without chance: the cost of a decision (G12), and that order does not matter (G13)."""

import math
import time
from collections.abc import Callable

import numpy as np

from benchmarks.decisions.figures import Figure
from tidegate_streams.statistics import emix, excess, sample_ratio
from tidegate_streams.statistics.emix import Counts, Floats
from tidegate_streams.statistics.margins import line

POINTS = emix.points(0.0, math.log(1.5))
HALF_A_POINT, TWO_POINTS = line("absolute", 0.005), line("absolute", 0.02)


def cpu_us(work: Callable[[], object], times: int) -> Floats:
    """CPU time of a piece of work in microseconds, seven times over."""
    found = []
    for _ in range(7):
        began = time.process_time()
        for _ in range(times):
            work()
        found.append((time.process_time() - began) / times * 1e6)
    return np.array(found)


def g12(rng: np.random.Generator, runs: int) -> list[Figure]:
    """CPU time of one metric and stratum: its likelihoods, both e-values and the sum."""
    del rng
    figures = []
    for n, bound in ((100, 60.0), (1_000, None), (10_000, 1_000.0), (1_000_000, None)):
        for share, rate in ((0.1, 0.05), (0.5, 0.2)):
            n_c = round(n * share)
            counts = Counts(n - n_c, n_c, round((n - n_c) * rate), round(n_c * rate))
            total = emix.log_likelihood(counts, POINTS)

            def look(counts: Counts = counts, total: Floats = total) -> tuple[float, float]:
                curve = total + emix.log_likelihood(counts, POINTS)
                return emix.log_e_rollback(curve), emix.log_e_promotion(curve)

            taken = cpu_us(look, max(2, min(runs, 200_000 // n)))
            case = f"{n:,} calls, {share:.0%} canary, {rate:.0%} bad"
            middle = float(np.median(taken))
            met = None if bound is None else middle <= bound
            figures.append(
                Figure("G12", case, "tidegate", "us", middle, taken.min(), taken.max(), bound, met)
            )
    return figures


def g13(rng: np.random.Generator, runs: int) -> list[Figure]:
    """Greatest difference of a log e-value when strata come in another order and in other groups."""
    worst = {"odds": 0.0, "points": 0.0, "sample ratio": 0.0}
    for _ in range(max(10, runs // 20)):
        strata = []
        for _ in range(200):
            n_b, n_c = (int(n) for n in rng.integers(0, 200, 2))
            strata.append(Counts(n_b, n_c, int(rng.integers(0, n_b + 1)), int(rng.integers(0, n_c + 1))))
        rows = {
            "odds": np.array([emix.log_likelihood(s, POINTS) for s in strata]),
            "points": np.array([excess.log_factors(s, 0.02, HALF_A_POINT, TWO_POINTS) for s in strata]),
            "sample ratio": np.array(
                [sample_ratio.log_factors([s.n_baseline, s.n_candidate], [9, 1]) for s in strata]
            ),
        }
        order = rng.permutation(len(strata))
        groups = np.split(order, np.sort(rng.integers(0, len(strata), 5)))
        for name, row in rows.items():
            one, other = row.sum(axis=0), np.sum([row[group].sum(axis=0) for group in groups], axis=0)
            for read in (
                (sample_ratio.log_e,)
                if name == "sample ratio"
                else (emix.log_e_rollback, emix.log_e_promotion)
            ):
                worst[name] = max(worst[name], abs(read(one) - read(other)))
    return [
        Figure(
            "G13",
            f"{name}: difference of log e",
            "tidegate",
            "nats",
            value,
            value,
            value,
            1e-9,
            value <= 1e-9,
        )
        for name, value in worst.items()
    ]
