"""Why the machine did what it did, or did not, in a sentence for the person who asks."""

from collections.abc import Sequence

from tidegate.records import DecisionMetric, Rollout, RolloutAction
from tidegate_streams import users
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollouts import findings, freezes, outputs, silence, words
from tidegate_streams.rollouts.outputs import baseline, candidate, identity
from tidegate_streams.rollouts.state import State
from tidegate_streams.rollouts.strategies import STRATEGIES, share_bp
from tidegate_streams.rollouts.verdicts import Judgement, is_better

_OVERDUE = {
    "overdue_hold": "it is held there for a person to decide",
    "overdue_rollback": "an inconclusive end means rollback here",
    "overdue_promote": "an inconclusive end means promotion here",
}


def started(spec: Rollout, now_us: int, doubt: str | None = None) -> str:
    """A specification was taken in, perhaps although it can hardly decide."""
    forced = "" if doubt is None else f" It is taken by force: {doubt}."
    return _begun(spec, now_us) + forced


def _begun(spec: Rollout, now_us: int) -> str:
    new, why = candidate(spec).name, f" ({spec.reason})" if spec.reason else ""
    if spec.paused:
        return f"{new} waits, paused, before its first step{why}; resume starts it."
    if freezes.until(spec.freezes, now_us) is not None:
        return f"{new} waits before its first step{why}: {_frozen(spec, now_us)}."
    return f"{new} starts at {_share(spec, 0)} beside {baseline(spec).name}{why}."


def _frozen(spec: Rollout, now_us: int) -> str:
    """Until when nothing advances; empty when nothing stands in the way."""
    end_us = freezes.until(spec.freezes, now_us)
    return "" if end_us is None else f"a freeze holds it until {words.moment(end_us)}"


def undecidable(doubt: str) -> str:
    """It cannot be expected to decide in its time."""
    return (
        f"it cannot be expected to decide: {doubt}. Give it more time, a larger share, wider promotion "
        f"margins or fewer metrics, or apply it with --force"
    )


def superseded(spec: Rollout) -> str:
    """A newer specification arrived."""
    return f"Replaced by generation {spec.generation} of {spec.name}."


def deleted(spec: Rollout) -> str:
    """The specification was withdrawn."""
    return (
        f"The specification was withdrawn: all traffic goes back to {baseline(spec).name}, without a verdict."
    )


def of_look(event: str, state: State, judgement: Judgement, now_us: int) -> str:
    """What a look found."""
    spec = state.plan
    base, new = baseline(spec).name, candidate(spec).name
    step = spec.steps[state.step]
    if event == "harm":
        fails = f"is rolled back to {base}" if STRATEGIES[spec.strategy].serves else "fails in the shadow"
        return f"{new} {fails}: {_harm(state, judgement)}"
    if event == "settled":
        now_serves = new if state.state == "promoting" else base
        return f"{now_serves} serves all traffic. {state.reason}"
    if event == "thawed":
        return f"The freeze is over: {new} starts at {_share(spec, 0)} beside {base}."
    if event == "warm":
        return f"The warm-up is over: {new} is compared with {base} from now on."
    if event == "uneven":
        return f"{_place(state)} is held: {_uneven(state)}."
    if event == "unapproved":
        return f"{_place(state)} is complete; it waits for an approval to go on."
    if event == "exposed":
        share = _share(spec, state.step + 1)
        return f"{_place(state)} is complete and nothing looks harmful: {new} goes on to {share}."
    if event == "better":
        found = {row.metric: row.sentence for row in outputs.evidence(state, judgement)}
        won = findings.better(state)
        return (
            f"{new} is promoted: it is better than {base} in {words.joined(won)} beyond doubt, and harm is "
            f"excluded for the rest. {' '.join(found[name] for name in won)}"
        )
    if event == "unharmed":
        return (
            f"{new} is promoted: all steps are done, every metric is observed and none looks harmful. "
            f"{_open(state, judgement)}"
        )
    if event in ("safe", "concluded"):
        bounds = words.joined(
            [
                f"{metric.name} beyond {words.margin(metric, metric.promotion_margin)}"
                for metric in spec.metrics
                if not metric.muted
            ]
        )
        done = f"all steps are done, and harm is excluded for {bounds}"
        return (
            f"{new} is promoted: {done}." if event == "safe" else f"{new} has passed in the shadow: {done}."
        )
    limit_us = spec.max_duration_us
    step_us = step.max_duration_us
    if step_us is not None and now_us - state.step_clock_us >= step_us:
        limit_us = step_us
    return (
        f"{_place(state)} is not decided after {words.duration(limit_us)}: {_OVERDUE[event]}. "
        f"{_open(state, judgement)}"
    )


def going_back(why: str, state: State) -> str:
    """Add to a reason what is known against the variant that traffic goes back to."""
    spec = state.plan
    base = baseline(spec)
    known = []
    if identity(base) in state.failed:
        known.append(f"was itself rolled back in {state.failed[identity(base)]}")
    for metric in spec.metrics:
        if silence.of(metric, state.silence, state.totals) == base.name:
            calls = state.silence[metric.name][base.name]
            known.append(f"has had nothing good in {metric.name} for its last {calls:,} calls")
        elif is_better(metric, state.evidence[metric.name], spec.alpha_rollback):
            known.append(f"is worse than {candidate(spec).name} in {metric.name}")
    return f"{why.rstrip('.')}. Mind that {base.name} {words.joined(known)}." if known else why


def _uneven(state: State) -> str:
    """How users fell, and what follows from it."""
    new = candidate(state.plan).name
    users, asked = state.split.users, state.split.asked
    return (
        f"of {sum(users.values()):,.0f} users seen for the first time {users[new]:,.0f} fell to {new}, "
        f"where the shares ask for {asked[new]:,.0f}; chance alone shows this at most "
        f"{words.rarity(state.split.log_e)} rollouts. Something loses or adds users by variant, so nothing "
        f"is promoted on the comparison; harm still rolls back. Find it, then resume: the check begins "
        f"anew, the other evidence stays"
    )


def _harm(state: State, judgement: Judgement) -> str:
    found = {row.metric: row.sentence for row in outputs.evidence(state, judgement)}
    chance = words.rarity(judgement.log_e)
    if judgement.to_blame:
        blamed = " ".join(found[name] for name in judgement.to_blame)
        if sum(not metric.muted for metric in state.plan.metrics) == 1:
            return blamed
        return f"{blamed} Of all metrics together, chance alone shows this at most {chance} rollouts."
    suspects = " ".join(found[name] for name in judgement.suspects or tuple(found))
    return (
        f"its metrics together are worse than tolerated, by chance at most {chance} rollouts, "
        f"though none is certain alone. {suspects}"
    )


def waiting(state: State, judgement: Judgement) -> str:
    """What a step that goes on is waiting for."""
    spec = state.plan
    step = spec.steps[state.step]
    new = candidate(spec).name
    calls = state.step_calls.get(new, 0)
    left_us = state.settled_us + PANE_US - (state.looked_until_us or 0)
    if state.looked_until_us is not None and left_us > 0:
        more = words.duration(left_us)
        return f"{_place(state)}: warming up for {more} more; calls right after the change do not count."
    served = [f"{calls:,} of {step.min_calls:,} calls" if calls < step.min_calls else f"{calls:,} calls"]
    if step.min_units and state.step_users:
        seen = users.estimate(list(state.step_users.values()))
        served.append(f"{seen:,} of {step.min_units:,} users")
    elif step.min_units and calls:
        served.append("users are not reported")
    lasted_us = (state.looked_until_us or 0) - state.step_clock_us
    if lasted_us < step.min_duration_us:
        served.append(f"{words.duration(lasted_us)} of {words.duration(step.min_duration_us)}")
    text = f"{_place(state)}: {words.joined(served)} so far."
    frozen = _frozen(spec, state.looked_until_us or 0)
    if frozen:
        text += f" {frozen[0].upper()}{frozen[1:]}; harm still rolls back."
    if judgement.suspects:
        return f"{text} It stays while {words.joined(list(judgement.suspects))} looks harmful."
    if state.step == len(spec.steps) - 1:
        return f"{text} {_open(state, judgement)}"
    return text


def _open(state: State, judgement: Judgement) -> str:
    if judgement.safe and STRATEGIES[state.plan.strategy].end == "better" and not findings.better(state):
        return "Harm is excluded, and in no metric is either better beyond doubt."

    def status(metric: DecisionMetric) -> str:
        verdict = judgement.verdicts[metric.name]
        eventless = verdict == "inconclusive" and state.evidence[metric.name].is_eventless
        hint = f" ({words.eventless(metric)})" if eventless and metric.margin_kind != "absolute" else ""
        return f"{metric.name} is {verdict}{hint}"

    pending = [
        status(metric)
        for metric in state.plan.metrics
        if not metric.muted and judgement.verdicts[metric.name] != "pass"
    ]
    return f"{words.joined(pending)}." if pending else "Every metric has passed."


def _place(state: State) -> str:
    spec = state.plan
    share = words.weight(share_bp(spec.strategy, spec.steps[state.step]))
    copied = "" if STRATEGIES[spec.strategy].serves else "copied to "
    return f"Step {state.step + 1} of {len(spec.steps)} ({share} {copied}{candidate(spec).name})"


def _share(spec: Rollout, step: int) -> str:
    copies = "" if STRATEGIES[spec.strategy].serves else " in copies"
    return f"{words.weight(share_bp(spec.strategy, spec.steps[step]))}{copies}"


def of_action(action: RolloutAction, state: State, judgement: Judgement) -> str:
    """What a person asked for."""
    spec = state.plan
    base, new = baseline(spec).name, candidate(spec).name
    said = {
        "pause": "Paused",
        "resume": "Resumed",
        "promote": f"{new} promoted to all traffic",
        "advance": f"{new} sent on to the next step",
        "rollback": f"{new} rolled back to {base}",
        "abort": f"Aborted, all traffic to {base}, without a verdict",
        "approve": f"Step {state.step + 1} approved",
    }[action.action]
    text = f"{said} by {action.actor}: {action.reason}"
    if action.action in ("promote", "advance", "resume") and judgement.suspects:
        text += f" (although {words.joined(list(judgement.suspects))} looks harmful)"
    if action.action in ("promote", "advance", "resume") and findings.is_uneven(state):
        text += " (although users fell to the variants otherwise than asked for)"
    return text


def approved_by(action: RolloutAction) -> str:
    """Who let a step go on."""
    return f"Approved by {action.actor}: {action.reason}"


def stale(generation: int, present: int) -> str:
    """It was meant for an older generation."""
    return (
        f"it was meant for generation {generation}, and generation {present} is in force: "
        f"look at the rollout again and repeat what still applies"
    )


def expired(action: RolloutAction) -> str:
    """It came too late."""
    return f"{action.action} by {action.actor} expired before it could be carried out"


def state_lost(spec: Rollout) -> str:
    """The journal that it was decided from is deleted."""
    new = candidate(spec).name
    return (
        f"state_lost: the journal no longer reaches back to the start of {spec.name}, so its evidence is "
        f"gone. Nothing is decided and the weights stay: abort it, roll it back or promote {new} by hand, "
        f"or apply it anew."
    )


def serves_nobody(spec: Rollout) -> str:
    """There is nothing to promote."""
    return f"a {spec.strategy} serves nobody: apply a canary to send traffic to {candidate(spec).name}"


def needs_evidence(action: RolloutAction) -> str:
    """It would let a rollout go on whose evidence is gone."""
    return (
        f"{action.action} is not possible: the rollout's evidence is lost (state_lost); abort, roll back or "
        f"promote it, or apply it anew"
    )


def other_revision(expected: int, present: int) -> str:
    """Something happened in between."""
    return f"it expected revision {expected}, and revision {present} is in force: look again and repeat it"


def unknown_action(action: str, known: Sequence[str]) -> str:
    """It is no action."""
    return f"{action!r} is no action: use one of {', '.join(known)}"


def needless_target(action: RolloutAction) -> str:
    """It names something that the action does not take."""
    return f"{action.action} takes no target, and {action.target!r} was given: repeat it without"


def impossible(action: str, state: str) -> str:
    """The state does not allow it."""
    return f"{action} is not possible while the rollout is {state}"


def frozen(action: RolloutAction, end_us: int) -> str:
    """It would send more traffic to the candidate in a freeze."""
    return (
        f"{action.action} is not possible in a freeze, which ends {words.moment(end_us)}: wait for its end, "
        f"or apply the rollout with other freezes"
    )


def already_paused() -> str:
    """There is nothing to pause."""
    return "it is paused already: resume starts it again"


def thaws_by_itself() -> str:
    """There is nothing to pause before the end of a freeze."""
    return "it has not started and waits for the end of a freeze: abort it, or apply it with `paused: true`"


def not_started() -> str:
    """There is no step to leave."""
    return "it has not started: resume starts its first step"


def last_step() -> str:
    """There is no further step."""
    return "this is the last step: promote sends all traffic to the candidate"
