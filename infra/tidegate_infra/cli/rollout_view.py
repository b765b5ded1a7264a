"""What `rollout show`, `list` and `status` say: records of three topics in one object. Pure."""

import math
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from tidegate.errors import ConfigError
from tidegate.records import Evidence, Rollout, RolloutProgress, Weight
from tidegate_infra.cli.output import cell, table, time_text

PENDING = "pending"
"""State of a specification that the stream has not looked at yet."""

REFUSED = "refused"
"""State of a specification that the stream did not take up; what was in force before still is."""

# A command that promotes or rolls back is final; what comes after it only waits until the change has settled.
PROMOTED = frozenset({"promoting", "succeeded"})
ROLLED_BACK = frozenset({"rolling_back", "rolled_back"})
ENDED = PROMOTED | ROLLED_BACK | {"aborted", "superseded", REFUSED}


def is_pending(spec: Rollout | None, progress: RolloutProgress | None) -> bool:
    """Whether the stream says nothing of the newest specification."""
    return spec is not None and (progress is None or progress.generation != spec.generation)


def shown(
    spec: Rollout | None, progress: RolloutProgress | None, refusal: str | None = None
) -> dict[str, Any]:
    """Join a specification and where it stands, as ``rollout show --json`` prints it.

    Parameters
    ----------
    spec
        The newest specification; None when it was deleted.
    progress
        Where the deployment's rollout stands; None before the first look.
    refusal
        Why the stream refused the specification.

    Returns
    -------
    dict
        `state`, `revision`, `step`, `weights` in basis points by variant, `metrics`, and what names the
        rollout. A specification that the stream has not taken up is `pending`.
    """
    head = spec or progress
    assert head is not None
    current = None if is_pending(spec, progress) else progress
    waits = PENDING, "the stream has not taken the specification up yet"
    if refusal is not None:
        waits = REFUSED, refusal
    return {
        "name": _name(head),
        "tenant": head.tenant,
        "environment": head.environment,
        "deployment": head.deployment,
        "generation": head.generation,
        "state": current.state if current else waits[0],
        "reason": current.reason if current else waits[1],
        "revision": progress.revision if progress else None,
        "step": current.step if current else None,
        "steps": current.steps if current else len(spec.steps) if spec else None,
        "paused": current.paused if current else bool(spec and spec.paused),
        "weights": {w.variant: w.weight_bp for w in progress.weights} if progress else {},
        "exposure": [
            {"variant": e.variant, "calls": e.calls, "calls_step": e.calls_step, "units": e.units}
            for e in (current.exposure if current else [])
        ],
        "metrics": [_metric(e, current.weights) for e in current.evidence] if current else [],
        "looks": current.looks if current else 0,
        "started_at": current.started_at if current else None,
        "watermark": current.watermark if current else None,
        "spec_hash": spec.spec_hash if spec else None,
        "deleted": spec is None,
    }


def _name(head: Rollout | RolloutProgress) -> str:
    return head.name if isinstance(head, Rollout) else head.rollout


def _metric(evidence: Evidence, weights: Iterable[Weight]) -> dict[str, Any]:
    baseline = next((w.variant for w in weights if w.role == "baseline"), "baseline")
    candidate = evidence.candidate

    def each(of_baseline: float | None, of_candidate: float | None) -> dict[str, float | None]:
        return {baseline: of_baseline, candidate: of_candidate}

    return {
        "name": evidence.metric,
        "candidate": candidate,
        "verdict": evidence.verdict,
        "muted": evidence.muted,
        "n": each(evidence.n_baseline, evidence.n_candidate),
        "events": each(evidence.events_baseline, evidence.events_candidate),
        "value": each(evidence.value_baseline, evidence.value_candidate),
        "estimate": evidence.estimate,
        "interval": [evidence.ci_low, evidence.ci_high],
        "unit": evidence.unit,
        "e_values": {
            "rollback": _e_value(evidence.log_e_rollback),
            "promotion": _e_value(evidence.log_e_promotion),
        },
        "log_e_values": {"rollback": evidence.log_e_rollback, "promotion": evidence.log_e_promotion},
        "margins": {
            "kind": evidence.margin_kind,
            "rollback": evidence.rollback_margin,
            "promotion": evidence.promotion_margin,
        },
        "alpha": {
            "rollback": evidence.alpha_rollback,
            "promotion": evidence.alpha_promotion,
            "spent": evidence.alpha_spent,
        },
        "design_effects": evidence.design_effects,
        "mean": {
            **each(evidence.mean_baseline, evidence.mean_candidate),
            "change": evidence.mean_change,
            "interval": [evidence.mean_change_low, evidence.mean_change_high],
        },
        "sentence": evidence.sentence,
    }


def _e_value(log_e: float | None) -> float | None:
    if log_e is None:
        return None
    # JSON has no infinity; beyond the largest double the logarithm beside it is exact.
    return math.exp(log_e) if log_e < math.log(sys.float_info.max) else sys.float_info.max


def found(
    name: str,
    specs: Mapping[str, Rollout],
    progress: Mapping[str, RolloutProgress],
    tenant: str | None = None,
    environment: str | None = None,
    former: Callable[[], Mapping[str, Collection[str]]] = dict,
    *,
    past: bool = False,
) -> str:
    """Return the key of the rollout that a person means.

    Parameters
    ----------
    name
        Name of the rollout, or tenant/environment/deployment.
    specs, progress
        By key.
    tenant, environment
        Where to look; None is everywhere.
    former
        Names of the rollouts that each deployment has had, by key; asked for only when none has the name now.
    past
        Whether a rollout that was replaced is meant too.

    Raises
    ------
    ConfigError
        There is none, or several, or it was replaced.
    """
    names = {key: record.rollout for key, record in progress.items()}
    names |= {key: record.name for key, record in specs.items()}
    here = {key: called for key, called in names.items() if within(key, tenant, environment)}
    keys = [key for key, called in here.items() if name in (called, key)]
    if not keys:
        was = [key for key, called in former().items() if name in called and within(key, tenant, environment)]
        keys = was if past else []
        heads = [specs.get(key) or progress[key] for key in was if key in here]
        if heads and not past:
            now = " and ".join(f"{_name(head)} (generation {head.generation})" for head in heads)
            raise ConfigError(
                f"{name} was replaced by {now}: `tidegate rollout history {name}` tells what became of it"
            )
    if len(keys) == 1:
        return keys[0]
    if not keys:
        known = ", ".join(sorted(set(here.values()))) or "none at all"
        raise ConfigError(f"no rollout is called {name!r}; there is {known}")
    which = ", ".join(sorted(keys))
    raise ConfigError(
        f"{len(keys)} rollouts are called {name!r}: say --tenant and --environment, or one of {which}"
    )


def within(key: str, tenant: str | None, environment: str | None) -> bool:
    """Say whether a deployment's key lies in a tenant and an environment; None is any."""
    parts = key.split("/", 2)
    return len(parts) == 3 and tenant in (None, parts[0]) and environment in (None, parts[1])


def lines(view: Mapping[str, Any]) -> list[str]:
    """Return the view as a person reads it."""
    step = "-" if view["step"] is None else f"{view['step'] + 1} of {view['steps']}"
    said = [
        f"rollout     {view['name']}  ({view['tenant']}/{view['environment']}/{view['deployment']})",
        f"state       {view['state']}{', paused' if view['paused'] else ''}: {view['reason']}",
        f"step        {step}   revision {cell(view['revision'])}   generation {view['generation']}",
        f"weights     {weights_text(view['weights'])}",
        f"watermark   {cell(time_text(view['watermark']))}   looks {view['looks']}",
    ]
    for exposed in view["exposure"]:
        units = "" if exposed["units"] is None else f", about {exposed['units']} units"
        said.append(f"compared    {exposed['variant']}: {exposed['calls']} calls{units}")
    if view["exposure"]:
        said.append(_NOT_COMPARED)
    if view["metrics"]:
        several = len({metric["candidate"] for metric in view["metrics"]}) > 1
        columns = ("candidate", *_METRIC_COLUMNS) if several else _METRIC_COLUMNS
        said += ["", *table([_metric_row(metric) for metric in view["metrics"]], columns)]
        said += ["", *legend(view["metrics"]), ""]
        said += [metric["sentence"] for metric in view["metrics"]]
    return said


_NOT_COMPARED = (
    f"{'':12}without calls before the rollout, in a warm-up after a change of weights, retries and cache hits"
)

_METRIC_COLUMNS = ("metric", "verdict", "n", "events", "estimate", "interval", "e_rollback", "e_promotion")


LEAST_ODDS, MOST_ODDS = 1 / 20, 20.0
"""Ends of the grid that odds ratios are looked for on: an estimate at an end lies there or beyond."""


def legend(metrics: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what the figures of the table are, and which variant comes first."""
    base, new = metrics[0]["n"]
    if any(metric["candidate"] != new for metric in metrics):
        new = "the candidate"
    return [
        f"n, events           {base} / {new}",
        f"estimate, interval  odds of a bad event with {new}, divided by those with {base}: 1 is alike,",
        f"{'':20}above 1 worse. Of latency, cost and tokens, bad is beyond a quantile of {base}",
    ]


def odds(metric: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the estimate and the interval of a metric as a table shows them; None before any."""
    estimate, (low, high) = metric["estimate"], metric["interval"]
    if estimate is None and low is None and high is None:
        return {"estimate": None, "interval": None}
    ends = _odds(LEAST_ODDS if low is None else low), _odds(MOST_ODDS if high is None else high)
    return {"estimate": None if estimate is None else _odds(estimate), "interval": " … ".join(ends)}


def _odds(ratio: float) -> str:
    if ratio <= LEAST_ODDS * (1 + 1e-9):
        return f"under {LEAST_ODDS:g}"
    return f"over {MOST_ODDS:g}" if ratio >= MOST_ODDS * (1 - 1e-9) else cell(ratio)


def _metric_row(metric: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "candidate": metric["candidate"],
        "metric": metric["name"],
        "verdict": metric["verdict"] + (" (muted)" if metric["muted"] else ""),
        "n": _pair(metric["n"]),
        "events": _pair(metric["events"]),
        **odds(metric),
        "e_rollback": metric["e_values"]["rollback"],
        "e_promotion": metric["e_values"]["promotion"],
    }


def _pair(by_variant: Mapping[str, Any]) -> str | None:
    values = list(by_variant.values())
    return None if values == [None, None] else " / ".join(map(cell, values))


def weights_text(weights: Mapping[str, int]) -> str:
    """Return weights in per cent."""
    return ", ".join(f"{variant} {bp / 100:g} %" for variant, bp in weights.items()) or "-"
