"""How much worse, with bounds that hold at every look, in the unit that a person asked in.

What counts show without further assumptions is an odds ratio. Points and percent follow from it at one rate
of the baseline, and the result says at which: "at 2 % of the baseline, 0.3 to 1.1 points more". At another
rate the same odds ratio is another number of points, which is why no interval of points covers a rate that
moves.

Assumptions: one odds ratio in all strata; where it changes, the interval narrows around an average of it.
The rate is taken as known: it is a statement's condition, not an estimate within it. Latency and cost have
an odds ratio of exceeding an edge, which says nothing about seconds or dollars: leave it an odds ratio.

References
----------
S. R. Howard, A. Ramdas, J. McAuliffe, J. Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence
sequences", Annals of Statistics 49, 2021, arXiv:1810.08240, section 1 (what covers at all looks together).
"""

from typing import Literal, NamedTuple

from tidegate.errors import InvariantBroken
from tidegate_streams.statistics import emix
from tidegate_streams.statistics.emix import Floats

Kind = Literal["odds", "relative", "absolute"]


class Effect(NamedTuple):
    """An estimate and its confidence sequence; None where the data do not tell.

    Parameters
    ----------
    low, estimate, high
        In one unit: an odds ratio; for ``relative`` 0.05 is five percent more events than the baseline; for
        ``absolute`` 0.02 is two points more.
    """

    low: float | None
    estimate: float | None
    high: float | None


def effect(curve: Floats, alpha: float, kind: Kind, rate: float | None) -> Effect:
    """Effect of the candidate on what a curve counts.

    Parameters
    ----------
    curve
        Sum of strata, shape (74,), see `emix`.
    alpha
        Probability that the truth is ever outside, in (0, 1).
    kind
        Unit, as margins have it.
    rate
        Rate of the baseline, in [0, 1], of the events that the curve counts; None where no unit was seen.
        Odds need none.
    """
    low, high = emix.interval(curve, alpha)
    return Effect(*(restated(odds, kind, rate) for odds in (low, emix.estimate(curve), high)))


def restated(odds_ratio: float | None, kind: Kind, rate: float | None) -> float | None:
    """Restate an odds ratio as points or percent at a rate of the baseline.

    Parameters
    ----------
    odds_ratio
        Above 0; None stays unknown.
    kind
        Wanted unit.
    rate
        Of the baseline, in [0, 1]. At 0 there is nothing to be a percentage of.

    Examples
    --------
    >>> round(restated(2.0, "absolute", 0.10), 3)
    0.082
    >>> round(restated(2.0, "relative", 0.10), 2)
    0.82
    """
    if rate is not None and not 0 <= rate <= 1:
        raise InvariantBroken(f"an effect at a rate of {rate} is refused: rates are between 0 and 1")
    if odds_ratio is None or kind == "odds":
        return odds_ratio
    if rate is None or (rate == 0 and kind == "relative"):
        return None
    candidate = rate * odds_ratio / (1 - rate + rate * odds_ratio)
    return candidate - rate if kind == "absolute" else candidate / rate - 1
