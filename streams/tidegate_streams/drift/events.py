"""A change as the record that goes out: in the words and units of its metric."""

from typing import Any

import numpy as np
import xxhash

from tidegate.metrics import find
from tidegate.records import DriftCarrier, DriftEvent
from tidegate.series import DIMENSIONS
from tidegate_streams import histogram
from tidegate_streams.drift.change import Change
from tidegate_streams.drift.mix import Shift
from tidegate_streams.drift.past import RATE_EDGES
from tidegate_streams.drift.policy import Policy
from tidegate_streams.drift.samples import Series
from tidegate_streams.statistics.exceedances import ZERO, Histogram

DETECTOR, VERSION = "e-detector", "1"
MOST_CARRIERS = 5
"""Sub-series that are named."""

_SPEED = ("latency_us", "ttft_us", "tpot_us")
_NANO = {"cost_usd": 1e-9}
"""Unit of the histogram, in the unit of the metric."""


def drift_id(series: Series, metric: str, started_us: int) -> str:
    """Identity of a change: the same wherever and however often it is computed."""
    parts = [series.rollup, *series.dimensions, metric, str(started_us)]
    return xxhash.xxh64_hexdigest("\0".join(parts).encode())


def kind_of(series: Series, metric: str) -> str:
    """Sort of drift: of inputs, of a prompt or model beside its own past, or by what is measured."""
    if metric == "input_tokens":
        return "input"
    if series.rollup in ("prompt", "model"):
        return series.rollup
    if metric in _SPEED:
        return "latency"
    return "cost" if metric in ("cost_usd", "output_tokens") else "quality"


def event(
    series: Series, metric: str, change: Change, policy: Policy, carriers: list[DriftCarrier]
) -> DriftEvent:
    """Return the record of a change.

    Parameters
    ----------
    series, metric
        What changed. Of a rate the values are shares; of a distribution they are quantiles, at the level that
        tells most of the change.
    change
        What is known of it.
    policy
        By which it is one.
    carriers
        The sub-series that it comes from.
    """
    is_rate = (change.bucket,) == RATE_EDGES
    before, now = (change.share_before, change.share_since) if is_rate else _quantiles(metric, change)
    is_relative = not is_rate and before > 0
    known = find(metric)
    kind = "weekly" if change.usual.is_same_hour else policy.reference
    dimensions: dict[str, Any] = dict(zip(DIMENSIONS, series.dimensions, strict=True))
    return DriftEvent(
        drift_id=drift_id(series, metric, change.started_us),
        version=change.version,
        phase=change.phase,
        ts=change.at_us,
        rollup=series.rollup,
        **dimensions,
        kind=kind_of(series, metric),
        metric=metric,
        unit=known.unit if known else "1",
        detector=DETECTOR,
        detector_version=VERSION,
        reference_kind=kind,
        reference_from=change.usual.from_us,
        reference_to=change.usual.to_us,
        reference_value=before,
        current_value=now,
        effect=now / before - 1 if is_relative else now - before,
        effect_unit="relative" if is_relative else "absolute",
        log_e=change.log_e,
        average_run_length=change.run_length,
        changed_at=change.changed_us,
        changed_low=change.changed_low_us,
        changed_high=change.changed_high_us,
        ended_at=change.at_us if change.phase == "ended" else None,
        n_reference=change.usual.tally.n,
        n_current=change.n_since,
        carriers=carriers,
    )


def mix_event(series: Series, metric: str, shift: Shift) -> DriftEvent:
    """Return the record of a mix that is another; its values are population stability indices.

    Parameters
    ----------
    series, metric
        What is made up of something, and of what.
    shift
        What is known of it.
    """
    dimensions: dict[str, Any] = dict(zip(DIMENSIONS, series.dimensions, strict=True))
    return DriftEvent(
        drift_id=drift_id(series, metric, shift.started_us),
        version=shift.version,
        phase=shift.phase,
        ts=shift.at_us,
        rollup=series.rollup,
        **dimensions,
        kind="input",
        metric=metric,
        unit="1",
        detector="psi",
        detector_version=VERSION,
        reference_kind="rolling",
        reference_from=shift.from_us,
        reference_to=shift.to_us,
        reference_value=0.0,
        current_value=shift.psi,
        effect=shift.psi,
        effect_unit="psi",
        log_e=shift.log_e,
        average_run_length=shift.run_length,
        changed_at=shift.changed_us,
        ended_at=shift.at_us if shift.phase == "ended" else None,
        n_reference=sum(shift.before.values()),
        n_current=sum(shift.since.values()),
        carriers=[DriftCarrier(series=name, share=share) for name, share in shift.carriers()[:MOST_CARRIERS]],
    )


def _quantiles(metric: str, change: Change) -> tuple[float, float]:
    """Value at the edge, and the quantile that now has as many above it as the edge had."""
    scale = _NANO.get(metric, 1.0)
    edge = 0.0 if change.bucket == ZERO else float(histogram.EDGES[change.bucket])
    return edge * scale, _quantile(change.since, 1 - change.share_before) * scale


def _quantile(values: Histogram, level: float) -> float:
    index = sorted(bucket for bucket in values if bucket != ZERO)
    found = histogram.quantiles(level, index, [values[bucket] for bucket in index], values.get(ZERO, 0))
    return float(np.nan_to_num(found[0]))
