"""A deployment with traffic, for the rollout machine."""

import numpy as np

from tidegate.records import (
    DecisionMetric,
    DeploymentCommand,
    Rollout,
    RolloutAction,
    RolloutProgress,
    Step,
    Variant,
)
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollouts import machine
from tidegate_streams.rollouts.machine import Position
from tidegate_streams.rollouts.strata import Stratum, VariantPane

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
HOUR = 3_600 * SECOND


def rate(name="error_rate", **changes):
    defaults = {
        "kind": "rate",
        "margin_kind": "odds",
        "rollback_margin": 1.10,
        "promotion_margin": 2.0,
    }
    return DecisionMetric(name=name, **(defaults | changes))


def rollout(**changes):
    defaults = {
        "name": "june-snapshot",
        "tenant": "acme",
        "environment": "prod",
        "deployment": "answers",
        "generation": 1,
        "spec_hash": f"hash-{changes.get('generation', 1)}",
        "source_yaml": "",
        "actor": "ada",
        "ts": START,
        "strategy": "canary",
        "assignment_unit": "user",
        "salt": "june-snapshot",
        "max_duration_us": 6 * HOUR,
        "variants": [Variant(name="march", role="baseline"), Variant(name="june", role="candidate")],
        "steps": [
            Step(weight_bp=1_000, min_calls=100),
            Step(weight_bp=2_500, min_calls=100),
            Step(weight_bp=5_000, min_calls=100),
        ],
        "metrics": [rate()],
    }
    return Rollout(**(defaults | changes))


def action(kind, **changes):
    defaults = {
        "action_id": f"{kind}-1",
        "key": "acme/prod/answers",
        "generation": 1,
        "actor": "grace",
        "reason": "I say so",
        "ts": START,
    }
    return RolloutAction(action=kind, **(defaults | changes))


class Drive:
    """A deployment with traffic: an app obeys the last command and its calls come back pane by pane."""

    def __init__(self, spec=None, *, watermark_us=START, seed=1):
        self.state, self.outputs, self.offset = None, [], 0
        self.pane_us = START
        self.watermark_us = watermark_us
        self.rng = np.random.default_rng(seed)
        if spec is not None:
            self.spec(spec)

    @property
    def at(self):
        self.offset += 1
        return Position(partition=0, offset=self.offset, watermark_us=self.watermark_us)

    def _keep(self, result):
        self.state, new = result
        self.outputs += new
        return new

    def spec(self, spec):
        return self._keep(machine.on_spec(self.state, spec, self.at))

    def delete(self):
        return self._keep(machine.on_deleted(self.state, self.at))

    def act(self, kind, **changes):
        changes.setdefault("action_id", f"{kind}-{self.offset}")
        return self._keep(machine.on_action(self.state, action(kind, **changes), self.at))

    def look(self, strata=None):
        self.pane_us += PANE_US
        self.watermark_us = self.pane_us
        return self._keep(machine.on_look(self.state, self.pane_us, strata or {}, self.at))

    def serve(self, panes=1, calls=400, bad=0.02, worse=1.0, **measured):
        """Serve panes; `worse` multiplies the candidate's share of bad events, only it reports `users`."""
        users = measured.pop("users", {})
        for _ in range(panes):
            share = self.weight("june") / 10_000
            n_c = round(calls * share)
            arms = {"march": (calls - n_c, bad), "june": (n_c, bad * worse)}
            panes_of = {
                variant: VariantPane(
                    calls=n,
                    users=users if variant == "june" else {},
                    rates={"error_rate": (n, int(self.rng.binomial(n, min(p, 1.0))))},
                    **measured,
                )
                for variant, (n, p) in arms.items()
                if n
            }
            self.look({Stratum(self.state.revision, self.pane_us, False): panes_of})
        return self

    def serve_until(self, *states, limit=2_000, **how):
        for _ in range(limit):
            if self.state.state in states:
                return self
            self.serve(**how)
        raise AssertionError(f"still {self.state.state} after {limit} panes: {self.state.reason}")

    def weight(self, variant):
        commands = self.of(DeploymentCommand)
        return next(w.weight_bp for w in commands[-1].weights if w.variant == variant)

    def of(self, kind):
        return [record for record in self.outputs if isinstance(record, kind)]

    @property
    def actions(self):
        return [command.action for command in self.of(DeploymentCommand)]

    @property
    def command(self):
        return self.of(DeploymentCommand)[-1]

    @property
    def progress(self):
        return self.of(RolloutProgress)[-1]


def latency(**changes):
    defaults = {
        "kind": "quantile",
        "quantiles": [0.5, 0.9],
        "margin_kind": "relative",
        "rollback_margin": 0.05,
        "promotion_margin": 0.20,
    }
    return DecisionMetric(name="latency_us", **(defaults | changes))


def latencies(drive, slower, panes):
    """Serve latencies around 1.2 s; the candidate's are `slower` times as long."""
    from tidegate_streams.histogram import bucket

    for _ in range(panes):
        share = drive.weight("june") / 10_000
        measured = {}
        for variant, n, factor in (
            ("march", 400 - round(400 * share), 1.0),
            ("june", round(400 * share), slower),
        ):
            values = np.exp(drive.rng.normal(np.log(1.2e6 * factor), 0.6, size=n)).astype(np.int64)
            index, counts = np.unique(bucket(values), return_counts=True)
            measured[variant] = VariantPane(
                calls=n,
                histograms={"latency_us": dict(zip(index.tolist(), counts.tolist(), strict=True))},
            )
        drive.look({Stratum(drive.state.revision, drive.pane_us, False): measured})
    return drive


def reached():
    """A drive in each state that a specification can be in."""
    gated = rollout(steps=[Step(weight_bp=1_000, min_calls=50, approval=True), Step(weight_bp=5_000)])
    yield "initialising", Drive(gated)
    yield "progressing", Drive(gated).serve_until("progressing")
    yield "holding", Drive(gated).serve_until("holding")
    for asked, state in (("promote", "promoting"), ("rollback", "rolling_back"), ("abort", "aborted")):
        drive = Drive(gated).serve(4)
        drive.act(asked)
        yield state, drive
    yield "succeeded", Drive(rollout()).serve_until("succeeded")
    yield "rolled_back", Drive(rollout()).serve_until("rolled_back", worse=30)
