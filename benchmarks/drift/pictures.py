"""Pictures of the benchmark of drift: delay beside run length, and alarms on recorded series."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.drift.measured import Between, Row
from benchmarks.drift.recorded import Judged
from tidegate_streams.backtest.picture import library

DPI = 100
SHOWN = {
    ("MongoDB", "long_series"): "drift-mongodb",
    ("Azure chat, then code", "output_tokens 0"): "drift-azure",
    ("NAB", "realAWSCloudwatch/ec2_cpu_utilization_5f5533"): "drift-nab",
}
"""Series that are drawn, and the names of their pictures."""
# Colours that the colour-blind tell apart (M. Okabe, K. Ito, "Color universal design"), and shapes for print.
STYLES = {
    "tidegate": ("#0072b2", "o"),
    "ADWIN": ("#d55e00", "s"),
    "Page-Hinkley": ("#009e73", "^"),
    "KSWIN": ("#cc79a7", "P"),
    "limit of 50 %": ("#5f6368", "x"),
}


def delays(quiet: Mapping[str, list[Row]], late: list[Row], path: Path) -> None:
    """Each change a panel: to the right false alarms are rarer, further down changes are found earlier."""
    cases = [case for case in dict.fromkeys(row.case for row in late) if _quiet(quiet, case)]
    figure = library().Figure((9.5, 6.0), layout="constrained")
    panels = figure.subplots(2, 3, sharey=True)
    for axes in panels.flat[len(cases) :]:
        axes.set_visible(False)
    for axes, case in zip(panels.flat, cases, strict=False):
        beside = {row.detector: row.between for row in _quiet(quiet, case)}
        for row in (one for one in late if one.case == case and not math.isnan(one.delay.value)):
            _dot(axes, row, beside[row.detector])
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(100, 1e8)
        axes.set_title(case, fontsize=9)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.tick_params(labelsize=8)
    figure.supxlabel("samples between false alarms; an arrow: none was seen in so many", fontsize=9)
    figure.supylabel("samples until a change is found", fontsize=9)
    named = {
        label: handle
        for axes in panels.flat
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(named.values(), named, loc="center", bbox_to_anchor=(0.84, 0.3), fontsize=9, frameon=False)
    figure.savefig(path, dpi=DPI)


def _quiet(quiet: Mapping[str, list[Row]], case: str) -> list[Row]:
    """What is known of the stream of a case without its change."""
    usual = f"{case.split(' → ')[0]} bad" if " → " in case else "latency A/A"
    return quiet.get(usual, [])


def _dot(axes: Any, row: Row, between: Between) -> None:
    colour, marker = STYLES[row.detector]
    x = between.low if math.isinf(between.value) else between.value
    y = row.delay
    axes.plot(x, y.value, marker, color=colour, linestyle="none", label=row.detector)
    axes.plot([x, x], [y.low, y.high], color=colour, linewidth=1.3)
    if math.isinf(between.value):
        axes.annotate("", (x * 4, y.value), (x, y.value), arrowprops={"arrowstyle": "->", "color": colour})
    else:
        axes.plot([between.low, min(between.high, 1e8)], [y.value, y.value], color=colour, linewidth=1.3)


def series(judged: list[Judged], directory: Path) -> None:
    """Each series a picture: values above, what is known shaded, the alarms of each detector below."""
    for key, name in SHOWN.items():
        mine = [one for one in judged if (one.one.group, one.one.name) == key]
        one = mine[0].one
        figure = library().Figure((9.5, 3.6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1])
        above.plot(one.values, color="#333333", linewidth=0.7)
        for first, last in one.changes or ():
            above.axvspan(first, last, color="#f0e442", alpha=0.5, linewidth=0)
        for axes in (above, below):
            axes.axvspan(0, one.learning, color="#dddddd", alpha=0.5, linewidth=0)
            axes.tick_params(labelsize=8)
        for place, judge in enumerate(mine):
            colour, marker = STYLES[judge.detector]
            below.plot(judge.at, np.full(len(judge.at), place), marker, color=colour, linestyle="none")
        below.set_yticks(range(len(mine)), [judge.detector for judge in mine], fontsize=8)
        below.set_ylim(len(mine) - 0.5, -0.5)
        below.set_xlim(0, len(one.values))
        below.grid(axis="x", color="#dddddd", linewidth=0.6)
        above.set_title(f"{one.group}: {one.name.split('/')[-1]}", fontsize=10, loc="left")
        figure.savefig(directory / f"{name}.png", dpi=DPI)
