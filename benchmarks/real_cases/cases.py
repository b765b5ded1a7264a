"""Recorded data, what is compared in it, and what is known of that.

What is known comes from those who recorded it, or from how a comparison is made: a machine beside itself is
no worse than itself. Where neither says it, all of the data do, by the median beside the margin of 5 %.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.real_cases.judging import Observations

_DATA = Path(__file__).parent / "data"
TOLERATED = 1.05
"""Ratio of medians up to which a machine is no worse than its like: the default margin of times."""


@dataclass(frozen=True)
class Case:
    """A comparison.

    Parameters
    ----------
    group
        Comparisons that are reported together.
    name
        Of this one.
    metrics
        As a rollout file has them, margins at their defaults.
    baseline, candidate
        What was observed, by metric.
    worse
        Whether the candidate is worse in any of the metrics.
    """

    group: str
    name: str
    metrics: tuple[str, ...]
    baseline: Observations
    candidate: Observations
    worse: bool


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _answers()
    yield from _correct()
    yield from _guardrails()
    yield from _load()
    yield from _machines()


def _read(name: str) -> pl.DataFrame:
    return pl.read_csv(_DATA / f"{name}.csv.gz")


def _halves(observed: Observations) -> tuple[Observations, Observations]:
    """Every other observation: one thing beside itself, at the same time."""
    return (
        {name: values[::2] for name, values in observed.items()},
        {name: values[1::2] for name, values in observed.items()},
    )


def _answers() -> Iterator[Case]:
    """Models of March and June 2023, asked the same: fewer answers, fewer programs that run."""
    frame = _read("answers")

    def of(task: str, model: str) -> Observations:
        some = frame.filter(pl.col("task") == task, pl.col("model") == model).sort("item")
        return {
            "evaluation.good": 1 - some["good"].to_numpy(),
            "cost_usd": some["cost_nano_usd"].to_numpy(),
            "output_tokens": some["output_tokens"].to_numpy(),
            "latency_us": some["latency_us"].to_numpy(),
        }

    four = ("gpt-4-0314", "gpt-4-0613")
    three = ("gpt-3.5-turbo-0301", "gpt-3.5-turbo-0613")
    survey, good = "opinions asked", ("evaluation.good",)
    for task, name in (("opinionqa", survey), ("leetcode_easy", "programs asked")):
        old, new = (of(task, model) for model in four)
        yield Case(name, "GPT-4, March to June", good, old, new, worse=True)
        yield Case(name, "GPT-4, June to March", good, new, old, worse=False)
        old, new = (of(task, model) for model in three)
        yield Case(name, "GPT-3.5, March to June", good, old, new, worse=task == "leetcode_easy")
    old, new = (of("opinionqa", model) for model in four)
    every = ("evaluation.good", "latency_us", "cost_usd", "output_tokens")
    yield Case(survey, "GPT-4, March to June, all metrics", every, old, new, worse=True)
    yield Case(survey, "GPT-4, March to June, cost alone", ("cost_usd",), old, new, worse=True)
    yield Case(survey, "GPT-4, June to March, latency alone", ("latency_us",), new, old, worse=True)
    yield Case(survey, "GPT-4 of March beside itself, all metrics", every, *_halves(old), worse=False)
    yield Case(survey, "GPT-4 of June beside itself, all metrics", every, *_halves(new), worse=False)


def _correct() -> Iterator[Case]:
    """Two models on the same exams: the dearer one knows more."""
    frame = _read("correct")
    for task in ("mmlu", "gsm8k"):
        some = frame.filter(pl.col("task") == task)
        small, large = (
            {"evaluation.correct": 1 - some[model].to_numpy()} for model in ("mixtral_8x7b", "gpt4_1106")
        )
        metrics = ("evaluation.correct",)
        yield Case(f"exams ({task})", "GPT-4 to Mixtral", metrics, large, small, worse=True)
        yield Case(f"exams ({task})", "Mixtral to GPT-4", metrics, small, large, worse=False)
        yield Case(f"exams ({task})", "Mixtral beside itself", metrics, *_halves(small), worse=False)


def _guardrails() -> Iterator[Case]:
    """Rails around a model: more calls of it take longer, and fewer are quicker."""
    frame = _read("guardrails")

    def of(config: str) -> Observations:
        some = frame.filter(pl.col("config").str.starts_with(f"latency_{config}_")).sort("run", "question")
        return {"latency_us": some["latency_us"].to_numpy()}

    for name, one, other, worse in (
        ("none to all rails", 0, 1, True),
        ("none to rails in one call", 0, 2, True),
        ("none to compact rails", 0, 4, True),
        ("all rails to rails in one call", 1, 2, False),
        ("all rails to embeddings only", 1, 3, False),
        ("all rails to compact rails", 1, 4, False),
        ("all rails to checking facts by a model", 1, 5, True),
        ("all rails to checking facts by a score", 1, 6, True),
    ):
        yield Case("guardrails", name, ("latency_us",), of(str(one)), of(str(other)), worse)


def _load() -> Iterator[Case]:
    """The same prompts on one server under rising load."""
    frame = _read("load")

    def of(load: int) -> Observations:
        some = frame.filter(pl.col("load") == load).sort("event")
        return {name: some[name].to_numpy() for name in ("ttft_us", "latency_us")}

    both = ("ttft_us", "latency_us")
    for one, other in itertools.pairwise((100, 300, 500, 1_000)):
        yield Case("a server's load", f"{one} to {other}", both, of(one), of(other), worse=True)
        yield Case("a server's load", f"{other} to {one}", both, of(other), of(one), worse=False)
    for load in (100, 300, 500, 1_000):
        yield Case("a server's load", f"{load} beside itself", both, *_halves(of(load)), worse=False)


def _machines() -> Iterator[Case]:
    """One benchmark again and again on rented machines of two sizes, by day: the larger is quicker."""
    frame = _read("machines")
    parts = frame.partition_by("benchmark", "size", "region", "machine", as_dict=True)
    series = {key: (part["day"].to_numpy(), part["time"].to_numpy()) for key, part in parts.items()}
    metric = ("latency_us",)
    for (benchmark, size, region, machine), (_, values) in series.items():
        name = f"{benchmark}, {size} {machine} in {region}"
        yield Case("a machine beside itself", name, metric, *_halves({"latency_us": values}), worse=False)
    for one, other in itertools.permutations(series, 2):
        if one[0] != other[0] or one[2] != other[2]:
            continue
        before, after = _of_same_days(series[one], series[other])
        name = f"{one[0]}, {one[1]} {one[3]} to {other[1]} {other[3]} in {one[2]}"
        slower = float(np.median(after) / np.median(before)) > TOLERATED
        if one[1] == other[1]:
            group = "a machine beside its like, " + ("slower by over 5 %" if slower else "as quick")
        else:
            group = "a smaller machine" if other[1] == "B8ms" else "a larger machine"
            slower = other[1] == "B8ms"
        yield Case(group, name, metric, {"latency_us": before}, {"latency_us": after}, slower)


def _of_same_days(
    one: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    other: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
) -> list[npt.NDArray[np.int64]]:
    """Both, day by day, as many of the one as of the other: what is served at once is compared."""
    kept: list[list[npt.NDArray[np.int64]]] = [[], []]
    for day in np.intersect1d(one[0], other[0]):
        shown = [values[days == day] for days, values in (one, other)]
        n = min(len(shown[0]), len(shown[1]))
        for part, values in zip(kept, shown, strict=True):
            part.append(values[:n])
    return [np.concatenate(part) for part in kept]
