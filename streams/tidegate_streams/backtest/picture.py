"""A picture of a backtest: e-values and intervals of each metric over event time."""

import importlib
import itertools
import math
from pathlib import Path
from typing import Any

from tidegate.errors import ConfigError
from tidegate.records import Evidence
from tidegate_infra.cli.rollout_view import LEAST_ODDS, MOST_ODDS
from tidegate_streams.backtest.outcome import Outcome
from tidegate_streams.rollouts.variants import alphas, candidates

_INCHES = (13.0, 2.1)
"""Width of the picture, and height of a metric."""
_DPI = 120
_MOST_LOG10 = 12.0
"""E-values beyond it are drawn here: what is certain need not be drawn more certain."""
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of the candidates; told apart without red and green (M. Okabe, K. Ito, "Color universal design", 2008)."""
_BAD, _GOOD, _GREY = "#b3261e", "#1b6e3c", "#5f6368"
_TITLES = (
    "evidence for harm: log10 e",
    "evidence against harm: log10 e",
    "odds of a bad event, beside the baseline's",
)


def library() -> Any:
    """Return what draws.

    Raises
    ------
    ConfigError
        It is not installed.
    """
    try:
        # Without pyplot: no window, and no state of the whole process.
        return importlib.import_module("matplotlib.figure")
    except ModuleNotFoundError:
        raise ConfigError("pictures need matplotlib: pip install 'tidegate[plot]'") from None


def draw(figures: Any, outcome: Outcome, path: Path) -> None:
    """Write the picture as a PNG.

    Parameters
    ----------
    figures
        What `library` returned.
    outcome
        Of at least one look.
    path
        Where it is written.

    Raises
    ------
    ConfigError
        There is nothing to draw, or the file cannot be written.
    """
    if not outcome.looks:
        raise ConfigError(f"{path} was not drawn: nothing was looked at")
    try:
        _figure(figures, outcome).savefig(path, format="png", dpi=_DPI)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


def _figure(figures: Any, outcome: Outcome) -> Any:
    spec, alpha = outcome.spec, alphas(outcome.spec)
    width, height = _INCHES
    rows = len(spec.metrics)
    figure = figures.Figure((width, height * rows + 1.2), layout="constrained")
    decided = outcome.decision.action if outcome.decision else "no decision"
    place = f"{spec.tenant}/{spec.environment}/{spec.deployment}"
    figure.suptitle(f"{spec.name} of {place}: {decided}", x=0.01, ha="left", fontsize=12)
    axes = figure.subplots(rows, len(_TITLES), squeeze=False, sharex=True)
    start_us = outcome.commands[0].ts if outcome.commands else outcome.looks[0].at_us
    minutes = [(look.at_us - start_us) / 60e6 for look in outcome.looks]
    for (harm, safety, odds), metric in zip(axes, spec.metrics, strict=True):
        for colour, variant in zip(itertools.cycle(_COLOURS), candidates(spec), strict=False):
            found = [_of(look.evidence, variant.name, metric.name) for look in outcome.looks]
            harm.plot(minutes, _log10(found, "log_e_rollback"), color=colour, label=variant.name)
            safety.plot(minutes, _log10(found, "log_e_promotion"), color=colour)
            _interval(odds, minutes, found, colour)
        harm.set_ylabel(metric.name)
        _threshold(harm, -math.log10(alpha.rollback), _BAD)
        _threshold(safety, -math.log10(alpha.promotion), _GOOD)
        odds.axhline(1.0, color="black", linewidth=0.8)
        odds.set_yscale("log")
        odds.yaxis.set_major_formatter("{x:g}")
        odds.yaxis.set_minor_formatter("")
        for side in (harm, safety, odds):
            _plain(side)
            for command in outcome.commands:
                side.axvline((command.ts - start_us) / 60e6, color=_GREY, linewidth=0.8, linestyle=":")
    for side, title in zip(axes[0], _TITLES, strict=True):
        side.set_title(title, fontsize=10, loc="left", pad=22)
        _name_commands(side, outcome, start_us)
    for side in axes[-1]:
        side.set_xlabel("minutes of event time since the start")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper right", ncols=len(labels), frameon=False)
    return figure


def _plain(axes: Any) -> None:
    axes.grid(color="#e8eaed", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _name_commands(axes: Any, outcome: Outcome, start_us: int) -> None:
    """Name the commands above their lines; one that would stand in another's name is left to its line."""
    width = (outcome.looks[-1].at_us - start_us) / 60e6
    free = -math.inf
    for command in outcome.commands:
        minute = (command.ts - start_us) / 60e6
        if minute >= free:
            place = (minute, 1.0)
            axes.annotate(
                command.action,
                place,
                (0, 3),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                fontsize=8,
                color=_GREY,
                ha="right" if minute > 0.9 * width else "left",
            )
            free = minute + 0.18 * width


def _of(evidence: list[Evidence], candidate: str, metric: str) -> Evidence | None:
    return next((row for row in evidence if (row.candidate, row.metric) == (candidate, metric)), None)


def _each(found: list[Evidence | None], name: str) -> list[float]:
    values = (None if row is None else getattr(row, name) for row in found)
    return [math.nan if value is None else value for value in values]


def _log10(found: list[Evidence | None], name: str) -> list[float]:
    return [max(min(log_e / math.log(10), _MOST_LOG10), -_MOST_LOG10) for log_e in _each(found, name)]


def _threshold(axes: Any, at: float, colour: str) -> None:
    """Draw what the evidence is held against, and tint what is beyond it."""
    axes.axhline(at, color=colour, linewidth=1.0, linestyle="--")
    low, high = axes.get_ylim()
    high = max(high, at + 0.5)
    axes.axhspan(at, high, color=colour, alpha=0.06, linewidth=0)
    axes.set_ylim(low, high)


def _interval(axes: Any, minutes: list[float], found: list[Evidence | None], colour: str) -> None:
    """Draw the estimate within its interval; an end that is not known lies beyond the grid."""
    estimate, low, high = (_each(found, name) for name in ("estimate", "ci_low", "ci_high"))
    known = [not all(map(math.isnan, ends)) for ends in zip(estimate, low, high, strict=True)]
    low = [
        LEAST_ODDS if is_known and math.isnan(end) else end for end, is_known in zip(low, known, strict=True)
    ]
    high = [
        MOST_ODDS if is_known and math.isnan(end) else end for end, is_known in zip(high, known, strict=True)
    ]
    axes.fill_between(minutes, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(minutes, estimate, color=colour)
