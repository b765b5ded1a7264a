"""Why the machine did what it did, or did not, in a sentence for the person who asks."""

from tidegate.records import DecisionMetric, Rollout, RolloutAction
from tidegate_streams import users
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollouts import evidence, findings, freezes, silence, verdicts, words
from tidegate_streams.rollouts.findings import Finding
from tidegate_streams.rollouts.state import State
from tidegate_streams.rollouts.strategies import STRATEGIES
from tidegate_streams.rollouts.variants import alphas, baseline, candidates, each_bp, identity
from tidegate_streams.rollouts.verdicts import Judgement, Judgements

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
    names, why = [one.name for one in candidates(spec)], f" ({spec.reason})" if spec.reason else ""
    one = len(names) == 1
    if spec.paused:
        waits = "waits, paused, before its" if one else "wait, paused, before their"
        return f"{words.joined(names)} {waits} first step{why}; resume starts it."
    if freezes.until(spec.freezes, now_us) is not None:
        waits = "waits before its" if one else "wait before their"
        return f"{words.joined(names)} {waits} first step{why}: {_frozen(spec, now_us)}."
    return f"{_starting(spec)}{why}."


def _starting(spec: Rollout) -> str:
    names = [one.name for one in candidates(spec)]
    start = "starts at" if len(names) == 1 else "start at"
    each = "" if len(names) == 1 else " each"
    return f"{words.joined(names)} {start} {_share(spec, 0)}{each} beside {baseline(spec).name}"


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


def of_look(finding: Finding, state: State, judgements: Judgements, now_us: int) -> str:
    """What a look found."""
    spec, event = state.plan, finding.event
    base, new = baseline(spec).name, words.joined(list(finding.about or state.tried))
    several = len(finding.about or state.tried) > 1
    are = "are" if several else "is"
    if event == "harm":
        back = f"{are} rolled back to {base}" if STRATEGIES[spec.strategy].serves else "fails in the shadow"
        return f"{new} {back}: {_harms(finding, state, judgements)}"
    if event == "dropped":
        others = [one for one in state.tried if one not in finding.about]
        go = "goes" if len(others) == 1 else "go"
        return (
            f"{new} {are} given up, {base} serves the share, and {words.joined(others)} {go} on: "
            f"{_harms(finding, state, judgements)}"
        )
    if event == "settled":
        now_serves = state.winner if state.state == "promoting" else base
        return f"{now_serves} serves all traffic. {state.reason}"
    if event == "thawed":
        return f"The freeze is over: {_starting(spec)}."
    if event == "warm":
        return f"The warm-up is over: {new} {are} compared with {base} from now on."
    if event == "uneven":
        return f"{_place(state)} is held: {_uneven(state)}."
    if event == "unapproved":
        return f"{_place(state)} is complete; it waits for an approval to go on."
    if event == "exposed":
        share = _share(spec, state.step + 1)
        return f"{_place(state)} is complete and nothing looks harmful: {new} goes on to {share}."
    if event.startswith("overdue"):
        return _overdue(event, state, judgements, now_us)
    return f"{new} {_ended(event, state, new, judgements)}"


def _ended(event: str, state: State, new: str, judgements: Judgements) -> str:
    """How the last step ended well, for one candidate."""
    spec = state.plan
    if event == "better":
        found = evidence.sentences(state, judgements, new)
        won = list(findings.better(state, new))
        return (
            f"is promoted: it is better than {baseline(spec).name} in {words.joined(won)} beyond doubt, and "
            f"harm is excluded for the rest. {' '.join(found[name] for name in won)}"
        )
    if event == "unharmed":
        return (
            f"is promoted: all steps are done, every metric is observed and none looks harmful. "
            f"{_open(state, new, judgements[new])}"
        )
    bounds = words.joined(
        [
            f"{metric.name} beyond {words.margin(metric, metric.promotion_margin)}"
            for metric in spec.metrics
            if not metric.muted
        ]
    )
    done = f"all steps are done, and harm is excluded for {bounds}"
    return f"is promoted: {done}." if event == "safe" else f"has passed in the shadow: {done}."


def _overdue(event: str, state: State, judgements: Judgements, now_us: int) -> str:
    limit_us, step_us = state.plan.max_duration_us, state.plan.steps[state.step].max_duration_us
    if step_us is not None and now_us - state.step_clock_us >= step_us:
        limit_us = step_us
    return (
        f"{_place(state)} is not decided after {words.duration(limit_us)}: {_OVERDUE[event]}. "
        f"{_all_open(state, judgements)}"
    )


def going_back(why: str, state: State) -> str:
    """Add to a reason what is known against the variant that traffic goes back to."""
    spec = state.plan
    base = baseline(spec)
    known = []
    if identity(base) in state.failed:
        known.append(f"was itself rolled back in {state.failed[identity(base)]}")
    for metric in spec.metrics:
        if silence.of(metric, state.silence, state.totals, [base.name]) is not None:
            calls = state.silence[metric.name][base.name]
            known.append(f"has had nothing good in {metric.name} for its last {calls:,} calls")
            continue
        for new in state.tried:
            end = verdicts.highest(metric, state.evidence[new][metric.name], alphas(spec).rollback)
            if end is not None and end < 1:
                known.append(f"is worse than {new} in {metric.name}")
    return f"{why.rstrip('.')}. Mind that {base.name} {words.joined(known)}." if known else why


def _uneven(state: State) -> str:
    """How users fell, and what follows from it."""
    users, asked = state.split.users, state.split.asked
    fell = [
        f"{users[new.name]:,.0f} fell to {new.name}, where the shares ask for {asked[new.name]:,.0f}"
        for new in candidates(state.plan)
    ]
    return (
        f"of {sum(users.values()):,.0f} users seen for the first time {words.joined(fell)}; "
        f"chance alone shows this at most "
        f"{words.rarity(state.split.log_e)} rollouts. Something loses or adds users by variant, so nothing "
        f"is promoted on the comparison; harm still rolls back. Find it, then resume: the check begins "
        f"anew, the other evidence stays"
    )


def _harms(finding: Finding, state: State, judgements: Judgements) -> str:
    parts = [_harm(state, new, judgements[new]) for new in finding.about]
    if len(parts) == 1:
        return parts[0]
    return " ".join(f"({new}) {part}" for new, part in zip(finding.about, parts, strict=True))


def _harm(state: State, new: str, judgement: Judgement) -> str:
    found = evidence.sentences(state, {new: judgement}, new)
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


def waiting(state: State, judgements: Judgements) -> str:
    """What a step that goes on is waiting for."""
    spec = state.plan
    step = spec.steps[state.step]
    left_us = state.settled_us + PANE_US - (state.looked_until_us or 0)
    if state.looked_until_us is not None and left_us > 0:
        more = words.duration(left_us)
        return f"{_place(state)}: warming up for {more} more; calls right after the change do not count."
    served = [part for new in state.tried for part in _served(state, new)]
    lasted_us = (state.looked_until_us or 0) - state.step_clock_us
    if lasted_us < step.min_duration_us:
        served.append(f"{words.duration(lasted_us)} of {words.duration(step.min_duration_us)}")
    text = f"{_place(state)}: {words.joined(served)} so far."
    frozen = _frozen(spec, state.looked_until_us or 0)
    if frozen:
        text += f" {frozen[0].upper()}{frozen[1:]}; harm still rolls back."
    if suspects := _suspects(state, judgements):
        text += f" It stays while {suspects}."
        if len(state.tried) == 1:
            return text
    if state.step == len(spec.steps) - 1:
        return f"{text} {_all_open(state, judgements)}"
    return text


def _served(state: State, new: str) -> list[str]:
    step = state.plan.steps[state.step]
    of = "" if len(state.tried) == 1 else f" of {new}"
    calls, sketch = state.step_calls.get(new, 0), state.step_users.get(new, {})
    served = [f"{calls:,} of {step.min_calls:,} calls" if calls < step.min_calls else f"{calls:,} calls"]
    if step.min_units and sketch:
        served.append(f"{users.estimate(list(sketch.values())):,} of {step.min_units:,} users")
    elif step.min_units and calls:
        served.append("users are not reported")
    return [f"{part}{of}" for part in served]


def _suspects(state: State, judgements: Judgements) -> str:
    """Which metrics look harmful, of which candidate where there are several; empty without."""
    looking = {new: list(judgements[new].suspects) for new in state.tried if judgements[new].suspects}
    return words.joined(
        [
            f"{words.joined(names)} looks harmful" + (f" with {new}" if len(state.tried) > 1 else "")
            for new, names in looking.items()
        ]
    )


def _all_open(state: State, judgements: Judgements) -> str:
    """What is undecided of each candidate."""
    if len(state.tried) == 1:
        return _open(state, state.tried[0], judgements[state.tried[0]])
    return " ".join(f"With {new}: {_open(state, new, judgements[new])}" for new in state.tried)


def _open(state: State, new: str, judgement: Judgement) -> str:
    if judgement.safe and STRATEGIES[state.plan.strategy].end == "better" and not findings.better(state, new):
        return "Harm is excluded, and in no metric is either better beyond doubt."

    def status(metric: DecisionMetric) -> str:
        verdict = judgement.verdicts[metric.name]
        eventless = verdict == "inconclusive" and state.evidence[new][metric.name].is_eventless
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
    share = words.weight(each_bp(spec, state.step))
    copied = "" if STRATEGIES[spec.strategy].serves else "copied to "
    each = "each " if len(state.tried) > 1 else ""
    names = words.joined(state.tried)
    return f"Step {state.step + 1} of {len(spec.steps)} ({share} {copied}{each}{names})"


def _share(spec: Rollout, step: int) -> str:
    copies = "" if STRATEGIES[spec.strategy].serves else " in copies"
    return f"{words.weight(each_bp(spec, step))}{copies}"


def of_action(action: RolloutAction, state: State, judgements: Judgements) -> str:
    """What a person asked for."""
    spec = state.plan
    base, new = baseline(spec).name, action.target or words.joined(state.tried)
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
    if action.action == "approve" and state.held_for == "person":
        text += " (it is still paused: resume starts it again)"
    suspects = _suspects(state, judgements)
    if action.action in ("promote", "advance", "resume") and suspects:
        text += f" (although {suspects})"
    if action.action in ("promote", "advance", "resume") and findings.is_uneven(state):
        text += " (although users fell to the variants otherwise than asked for)"
    return text


def approved_by(action: RolloutAction) -> str:
    """Who let a step go on."""
    return f"Approved by {action.actor}: {action.reason}"


def state_lost(spec: Rollout) -> str:
    """The journal that it was decided from is deleted."""
    new = words.joined([one.name for one in candidates(spec)])
    return (
        f"state_lost: the journal no longer reaches back to the start of {spec.name}, so its evidence is "
        f"gone. Nothing is decided and the weights stay: abort it, roll it back or promote {new} by hand, "
        f"or apply it anew."
    )
