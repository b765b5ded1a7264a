"""The ways of bringing a candidate in, as data: all of them go through the same table of transitions."""

from typing import NamedTuple

from tidegate.records import Step


class Strategy(NamedTuple):
    """What a strategy asks of its steps, and what ends the last of them.

    Parameters
    ----------
    end
        Event that ends the last step: ``safe`` and ``concluded`` when harm is excluded for every metric,
        ``unharmed`` when every metric has been observed and none looks harmful, ``better`` when harm is
        excluded and some metric is better beyond doubt.
    most_steps
        None for any number.
    least_bp
        Smallest share of a step, in basis points.
    serves
        Whether the candidate serves its share; else copies of so many calls go to it, and nobody sees what
        it answers.
    several
        Whether it takes several candidates. What rises, switches or copies asks one question of one.
    """

    end: str = "safe"
    most_steps: int | None = None
    least_bp: int = 1
    serves: bool = True
    several: bool = False


STRATEGIES = {
    "canary": Strategy(),
    # The switch leaves a part of the traffic behind: nothing can be compared with what nobody is served.
    "blue_green": Strategy(most_steps=1, least_bp=5_000),
    "rolling": Strategy(end="unharmed"),
    "shadow": Strategy(end="concluded", serves=False),
    "ab": Strategy(end="better", most_steps=1, several=True),
}
"""Name in a specification -> strategy."""


def share_bp(strategy: str, step: Step) -> int:
    """Share of the traffic that a step gives all candidates, to serve or as copies, in basis points."""
    return step.weight_bp if STRATEGIES[strategy].serves else step.mirror_bp
