"""A picture of a backtest: e-values and intervals of each metric over event time."""

import importlib
import math
from pathlib import Path
from typing import Any

from tidegate.errors import ConfigError
from tidegate.records import Evidence, Rollout
from tidegate_streams.backtest.outcome import Outcome
from tidegate_streams.rollouts.variants import alphas, candidates

_INCHES = (11.0, 2.2)
"""Width of the picture, and height of a metric."""
_DPI = 120
_MOST_LOG10 = 12.0
"""E-values beyond it are drawn here: what is certain need not be drawn more certain."""
_BAD, _GOOD, _GREY = "#b3261e", "#1b6e3c", "#5f6368"


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
    spec = outcome.spec
    width, height = _INCHES
    shown = [(one.name, metric.name) for one in candidates(spec) for metric in spec.metrics]
    rows = len(shown)
    figure = figures.Figure((width, height * rows + 1), layout="constrained")
    figure.suptitle(f"{spec.name} ({spec.tenant}/{spec.environment}/{spec.deployment})")
    axes = figure.subplots(rows, 2, squeeze=False, sharex=True)
    start_us = outcome.commands[0].ts if outcome.commands else outcome.looks[0].at_us
    minutes = [(look.at_us - start_us) / 60e6 for look in outcome.looks]
    for row, (candidate, metric) in enumerate(shown):
        found = [_of(look.evidence, candidate, metric) for look in outcome.looks]
        _e_values(axes[row][0], minutes, found, spec)
        _intervals(axes[row][1], minutes, found)
        axes[row][0].set_ylabel(metric if rows == len(spec.metrics) else f"{candidate}: {metric}")
        for side in axes[row]:
            for command in outcome.commands:
                side.axvline((command.ts - start_us) / 60e6, color=_GREY, linewidth=0.8, linestyle=":")
    for command in outcome.commands:
        place = ((command.ts - start_us) / 60e6, 1.0)
        axes[0][0].annotate(
            command.action, place, xycoords=("data", "axes fraction"), fontsize=8, rotation=30, color=_GREY
        )
    axes[0][0].legend(loc="best", fontsize=7, title="log10 of the e-value", title_fontsize=7)
    axes[0][1].set_title("odds ratio of bad events, candidate to baseline", fontsize=9)
    for side in axes[-1]:
        side.set_xlabel("minutes of event time since the start")
    return figure


def _of(evidence: list[Evidence], candidate: str, metric: str) -> Evidence | None:
    return next((row for row in evidence if (row.candidate, row.metric) == (candidate, metric)), None)


def _e_values(axes: Any, minutes: list[float], found: list[Evidence | None], spec: Rollout) -> None:
    harm = [_log10(row.log_e_rollback if row else None) for row in found]
    safety = [_log10(row.log_e_promotion if row else None) for row in found]
    axes.plot(minutes, harm, color=_BAD, label="for harm")
    axes.plot(minutes, safety, color=_GOOD, label="against harm")
    alpha = alphas(spec)
    axes.axhline(-math.log10(alpha.rollback), color=_BAD, linewidth=0.8, linestyle="--")
    axes.axhline(-math.log10(alpha.promotion), color=_GOOD, linewidth=0.8, linestyle="--")


def _log10(log_e: float | None) -> float:
    return math.nan if log_e is None else max(min(log_e / math.log(10), _MOST_LOG10), -_MOST_LOG10)


def _intervals(axes: Any, minutes: list[float], found: list[Evidence | None]) -> None:
    def each(name: str) -> list[float]:
        values = (None if row is None else getattr(row, name) for row in found)
        return [math.nan if value is None else value for value in values]

    axes.fill_between(minutes, each("ci_low"), each("ci_high"), color=_GREY, alpha=0.3, linewidth=0)
    axes.plot(minutes, each("estimate"), color=_GREY)
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_yscale("log")
