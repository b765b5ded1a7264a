"""Pictures of what was measured: ``python -m benchmarks.decisions.pictures RESULTS.json DIRECTORY``.

RESULTS.json is what ``make bench-decisions`` saved. Dots are measured figures, lines through them their 95 %
intervals, black strokes what was promised. *none* is a share of zero, which a logarithmic axis does not have.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.decisions.figures import Figure
from tidegate.errors import ConfigError
from tidegate_streams.backtest.picture import library

WIDTH, ROW, DPI = 9.0, 0.27, 100
"""Inches, inches, and dots of an inch."""
LEAST = 1e-4
"""Where a logarithmic axis of shares begins."""
# Colours that the colour-blind tell apart (M. Okabe, K. Ito, "Color universal design"), and shapes for print.
STYLES = {
    "tidegate": ("#0072b2", "o"),
    "tidegate, rolled back": ("#0072b2", "o"),
    "tidegate, promoted": ("#009e73", "D"),
    "knows the effect": ("#5f6368", "d"),
    "repeated z-test": ("#d55e00", "s"),
    "any z above 1.64, rolled back": ("#d55e00", "s"),
    "1.5 times in a minute": ("#e69f00", "^"),
    "p95 1.2 times a minute": ("#e69f00", "v"),
    "Kayenta": ("#cc79a7", "P"),
    "DKW bands": ("#56b4e9", "X"),
    "calls as if independent": ("#000000", "*"),
}
OTHER = ("#5f6368", "x")


class Point(NamedTuple):
    """A figure, the line of the picture where it stands, and its name in the legend."""

    row: str
    series: str
    figure: Figure


class Panel(NamedTuple):
    title: str
    points: list[Point]


class Picture(NamedTuple):
    """Panels above each other, on one axis."""

    name: str
    title: str
    axis: str
    is_log: bool
    panels: list[Panel]


def saved(path: Path) -> list[Figure]:
    """Read the figures of a run.

    Raises
    ------
    ConfigError
        The file cannot be read, or is not what the benchmark saves.
    """
    advice = "make bench-decisions saves benchmarks/results/decisions.json"
    try:
        return [Figure(**row) for row in json.loads(path.read_bytes())["figures"]]
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; {advice}") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path} is not what the benchmark of decisions saves; {advice}") from None


def pictures(figures: list[Figure]) -> list[Picture]:
    """Arrange figures; panels and pictures of which there is no figure are left out."""

    def of(goal: str, unit: str) -> list[Point]:
        chosen = [f for f in figures if (f.goal, f.unit) == (goal, unit) and "alpha 5%" not in f.case]
        return [Point(f.case.removeprefix("A/A, ").removesuffix(", alpha 1%"), f.rule, f) for f in chosen]

    def ends() -> list[Point]:
        cases = [(point.figure.case.rpartition(": "), point) for point in of("race", "share")]
        return [Point(truth, f"{point.series}, {end}", point.figure) for (truth, _, end), point in cases]

    arranged = [
        Picture(
            "false-rollbacks",
            "Rolled back although nothing differs, alpha 1 %, a look after every 100 calls",
            "rollouts that were rolled back",
            True,
            [
                Panel("eight metrics together, candidate's share of calls", of("G1", "share")),
                Panel("one metric: rate of bad events, candidate's share of calls", of("G2", "share")),
                Panel("latency, candidate's share of calls", of("G5", "share")),
                Panel("candidate's share and the rate of both move", of("G8", "share")),
                Panel("calls of a session alike: how long it lasts, how much", of("G9", "share")),
            ],
        ),
        Picture(
            "requests",
            "Requests of both variants until the rollback, alpha 1 %",
            "requests, mean over runs",
            True,
            [
                Panel("more bad events: rates of both, candidate's share of calls", of("G4", "requests")),
                Panel("slower answers: latencies, candidate's share of calls", of("G5", "requests")),
            ],
        ),
        Picture(
            "races",
            "Where rollouts of eight metrics ended, rollback at 1 %, promotion at 5 %, margin of odds 1.5",
            "rollouts",
            False,
            [Panel("what is true of the candidate, its share of calls", ends())],
        ),
    ]
    filled = [p._replace(panels=[panel for panel in p.panels if panel.points]) for p in arranged]
    return [picture for picture in filled if picture.panels]


def draw(library: Any, picture: Picture) -> Any:
    """Draw one picture with what `tidegate_streams.backtest.picture.library` returned."""
    rows = [len({point.row for point in panel.points}) for panel in picture.panels]
    size = (WIDTH, ROW * sum(rows) + 0.5 * len(rows) + 1.3)
    figure = library.Figure(size, layout="constrained")
    figure.suptitle(picture.title, fontsize=11)
    ratios = [count + 0.4 for count in rows]
    panels = figure.subplots(len(rows), 1, squeeze=False, sharex=True, height_ratios=ratios)[:, 0]
    if picture.is_log:
        panels[0].set_xscale("log")
    for axes, panel in zip(panels, picture.panels, strict=True):
        _panel(axes, panel, picture.is_log)
    is_share = picture.panels[0].points[0].figure.unit == "share"
    if is_share:
        panels[0].set_xlim(LEAST if picture.is_log else -0.03, 1.4 if picture.is_log else 1.03)
    panels[-1].set_xlabel(picture.axis)
    panels[-1].xaxis.set_major_formatter(lambda x, _: f"{100 * x:g} %" if is_share else f"{x:,.0f}")
    named = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(named.values(), named, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure


def _panel(axes: Any, panel: Panel, is_log: bool) -> None:
    rows: dict[str, list[Point]] = {}
    for point in panel.points:
        rows.setdefault(point.row, []).append(point)
    for place, points in enumerate(rows.values()):
        for i, (_, series, figure) in enumerate(points):
            y = place + 0.2 * (i - (len(points) - 1) / 2)
            least = LEAST if is_log else 0.0
            x, low = max(figure.value, least), max(figure.low, least)
            colour, marker = STYLES.get(series, OTHER)
            axes.plot([low, figure.high], [y, y], color=colour, linewidth=1.4)
            axes.plot(
                x, y, marker, color=colour, markersize=5.5, label=series, linestyle="none", clip_on=False
            )
            if figure.value < least:
                axes.annotate("none", (x, y), (7, 2), textcoords="offset points", fontsize=7, color=colour)
            if figure.bound is not None:
                axes.vlines(figure.bound, place - 0.5, place + 0.5, "black", linewidth=1.2, label="promised")
    axes.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_title(panel.title, fontsize=9, loc="left")
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, metavar="RESULTS.json")
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="made where it does not exist")
    said = parser.parse_args()
    try:
        drawing, found = library(), pictures(saved(said.results))
        if not found:
            raise ConfigError(f"{said.results} has nothing to draw: run the benchmark without --only")
        said.directory.mkdir(parents=True, exist_ok=True)
        for picture in found:
            path = said.directory / f"{picture.name}.png"
            draw(drawing, picture).savefig(path, dpi=DPI)
            print(path)
    except ConfigError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"{said.directory} cannot be written: {error.strerror}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
