"""Restarts in a journal of which the beginning is gone."""

from tidegate.codec import encode
from tidegate.records import DecisionMetric, Rollout, RolloutAction, Step, Variant
from tidegate_streams import fold
from tidegate_streams.published import Published

SECOND = 1_000_000
HOUR = 3_600 * SECOND
START = 1_700_000_000 * SECOND
PARTITION = 2
KEY = "acme/prod/chat"


def spec(generation, dry_run=False):
    metric = DecisionMetric(
        name="error_rate", kind="rate", margin_kind="odds", rollback_margin=1.1, promotion_margin=2.0
    )
    return Rollout(
        name="new-model",
        tenant="acme",
        environment="prod",
        deployment="chat",
        generation=generation,
        spec_hash=f"hash-{generation}",
        source_yaml="",
        actor="ada",
        ts=START,
        dry_run=dry_run,
        strategy="canary",
        assignment_unit="user",
        salt="new-model",
        max_duration_us=300 * HOUR,
        variants=[Variant(name="v1", role="baseline"), Variant(name="v2", role="candidate")],
        steps=[Step(weight_bp=5_000, min_calls=10, warmup_us=0)],
        metrics=[metric],
    )


def action(kind, action_id="a1"):
    return RolloutAction(
        action_id=action_id, key=KEY, generation=1, action=kind, actor="grace", reason="so", ts=START
    )


def panes(made, start_us, revision, worse, count=2):
    """Panes of a minute each, with calls of both variants, of which the candidate's fail or not."""
    messages = []
    for number in range(count):
        pane_us = start_us + number * 60 * SECOND
        calls = [
            made.Call(
                ts_us=pane_us + SECOND,
                revision=revision,
                status="error" if worse and i % 2 else "ok",
                dimensions={"variant": "v2" if i % 2 else "v1"},
            )
            for i in range(40)
        ]
        messages += [*made.calls(calls), made.beat(pane_us + 10 * SECOND)]
    return messages


def published(*specs):
    known = Published()
    for one in specs:
        known.note(one)
    return known


def run(messages, known, begins_at=0):
    """Replay what the journal still has, and publish what is missing."""
    return run_until_killed(messages, known, begins_at, None)[0]


def run_until_killed(messages, known, begins_at, sends):
    """The same until so many were sent; also the offset that it came to."""
    pasts = known.pasts(PARTITION)
    rules, refused = fold.Rules(series_cap=6), frozenset(known.refusals)
    state = fold.State(PARTITION, rules, begins_at, pasts, known.overflows(), refused)
    sent = []
    for offset, message in enumerate(messages[begins_at:], begins_at):
        for output in fold.apply(state, offset, message, windows=False):
            if not known.lacks(output):
                continue
            if len(sent) == sends:
                return sent, offset
            known.note(output)
            sent.append(output)
    return sent, len(messages) - 1


def of(kind, records):
    return [record for record in records if isinstance(record, kind)]


def compacted(known):
    """The same, as compaction leaves it: of each key the last."""
    left = published(*known.specs.values())
    for key, commands in known.commands.items():
        left.note(commands[known.standing[key]])
    for record in (*known.progress.values(), *known.alerts.values()):
        left.note(record)
    left.refusals |= known.refusals
    return left


def running(made, dry_run=False):
    """A rollout that is neither harmful nor safe, and where its journal is cut off."""
    messages = [made.beat(START), made.rollout(encode(spec(1, dry_run))), *panes(made, START, 1, worse=False)]
    return messages, len(messages) - 3
