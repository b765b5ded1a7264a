"""Deployments from before the journal's beginning: when they are taken up from what was published."""

from dataclasses import replace
from typing import Any

from tidegate.records import Rollout
from tidegate.series import specification_id
from tidegate_streams.rollouts import machine, reference
from tidegate_streams.rollouts.halves import Effects
from tidegate_streams.rollouts.past import Past
from tidegate_streams.rollouts.state import State as Deployment
from tidegate_streams.state import State


def taken_up(state: State, at: machine.Position) -> list[Any]:
    """Take up what is forgotten, at the first message that nothing published was caused by."""
    while state.expected and state.expected[-1][0] < at.offset:
        _, revision, key = state.expected.pop()
        if key not in state.unproven:
            continue
        known = state.rollouts.get(key)
        if known is None or known.revision < revision:
            estrange(state, key)
        elif revision == state.unproven[key].last.revision:
            del state.unproven[key]
    decided: list[Any] = []
    for key, past in sorted(state.forgotten.items()):
        if past.until < at.offset:
            decided += take_up(state, key, past, at)
    return decided


def take_up(state: State, key: str, past: Past, at: machine.Position) -> list[Any]:
    """Put a deployment where it was published to stand; return what is to be said of it."""
    del state.forgotten[key]
    state.alerts.remember(past.alerts.values())
    if past.progress is not None:
        state.told[key] = past.progress
    state.rollouts[key], outputs = machine.take_up(state.rollouts[key], past, at)
    return outputs


def effects_told(state: State, key: str, spec: Rollout, at: machine.Position) -> Effects | None:
    """Return the design effects of a rollout that was published to begin here; None when it begins only now.

    They come from weeks that the journal may no longer tell of, and must be what they were.
    """
    past = state.unproven.get(key)
    if past is None or not past.tells(spec.generation, at.offset):
        return None
    return past.effects_of(spec.generation)


def was_refused(state: State, spec: Rollout, at: machine.Position) -> bool:
    """Whether a specification was published to be refused here.

    It might be taken in now: what was usual, and how much calls resemble each other, is learnt from weeks
    that the journal may no longer tell of.
    """
    now_us = spec.ts if at.watermark_us is None else at.watermark_us
    return (specification_id(spec.spec_hash, spec.generation), now_us) in state.refused


def is_strange(state: State, key: str, spec: Rollout, at: machine.Position) -> bool:
    """Whether a specification begins a rollout here of which no published command says so."""
    following, _ = machine.on_spec(state.rollouts.get(key), spec, at)
    return following.spec is spec and not state.unproven[key].tells(spec.generation, at.offset)


def estrange(state: State, key: str) -> None:
    """Take what was published for another journal's: this one does not cause it where it was caused."""
    state.strange.add(key)
    state.forgotten[key] = state.unproven.pop(key)
    state.rollouts[key] = Deployment(key)


def is_remembered(state: State, key: str, spec: Rollout, at: machine.Position) -> bool:
    """Whether the journal tells a rollout from its start, with all that it was decided from.

    Then it takes the revisions that it took before, and nothing of it is forgotten.
    """
    revision = state.forgotten[key].revision_before(spec.generation, at.offset)
    needed_us = reference.BLOCKS * reference.BLOCK_US + state.rules.allowed_lateness_us
    if revision is None:
        return False
    if state.begins_at > 0:
        if state.hears_from_us is None or at.watermark_us is None:
            return False
        if at.watermark_us - state.hears_from_us < needed_us:
            return False
    state.unproven[key] = state.forgotten.pop(key)
    state.rollouts[key] = replace(state.rollouts[key], revision=revision)
    return True
