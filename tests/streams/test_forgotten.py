"""What a restart makes of rollouts whose beginning the journal has deleted."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.streams.restarts import (
    HOUR,
    KEY,
    SECOND,
    START,
    action,
    compacted,
    of,
    panes,
    published,
    run,
    run_until_killed,
    running,
    spec,
)

from tidegate.codec import encode
from tidegate.records import Alert, DeploymentCommand, DeploymentStatus, Heartbeat, RolloutProgress, Step


def two_rollouts(made):
    """A rollout that ended, and hours later one that ends too."""
    later_us = START + 3 * HOUR
    return [
        made.beat(START),
        made.rollout(encode(spec(1))),
        *panes(made, START, 1, worse=True),
        made.beat(START + HOUR),
        made.beat(later_us),
        made.rollout(encode(spec(2))),
        *panes(made, later_us, 3, worse=True),
    ]


def test_a_rollout_takes_its_own_revisions_again_when_the_one_before_it_is_forgotten(journal):
    made = journal()
    messages = two_rollouts(made)
    straight = run(messages, published(spec(1), spec(2)))
    commands = of(DeploymentCommand, straight)
    assert [(c.generation, c.revision, c.action) for c in commands] == [
        (1, 1, "start"),
        (1, 2, "rollback"),
        (2, 3, "start"),
        (2, 4, "rollback"),
    ]
    # Interrupted before the second decision, and nothing is left of the first rollout.
    began = commands[2].offsets[0].offset
    known = published(spec(1), spec(2))
    assert of(DeploymentCommand, run(messages[: began + 1], known)) == commands[:3]
    known.commands[KEY] = {3: commands[2]}
    assert of(DeploymentCommand, run(messages, known, begins_at=2)) == [commands[3]]
    assert run(messages, known, begins_at=2) == []


def test_the_first_rollout_after_everything_was_forgotten_goes_on_above_what_is_published(journal):
    made = journal()
    messages = two_rollouts(made)
    begins_at = 1 + next(
        i
        for i, message in enumerate(messages)
        if isinstance(message, Heartbeat) and message.sources[0].watermark == START + HOUR
    )
    known = published(spec(1), spec(2))
    run(messages[:begins_at], known)
    known = compacted(known)
    commands = of(DeploymentCommand, run(messages, known, begins_at=begins_at))
    assert [(c.revision, c.previous_revision, c.action) for c in commands] == [
        (3, 2, "start"),
        (4, 3, "rollback"),
    ]
    assert run(messages, known, begins_at=begins_at) == []


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_rollout_whose_start_is_forgotten_is_held_for_a_person_and_told_once(journal, dry_run):
    made = journal()
    messages, cut = running(made, dry_run)
    known = published(spec(1, dry_run))
    run(messages, known)
    last = max(known.commands[KEY])
    harm = panes(made, START + HOUR, 1, worse=True)
    sent = run([*messages, *harm], known, begins_at=cut)
    (alert, progress) = sent
    assert (alert.rule, alert.status, alert.severity) == ("rollout_state_lost", "firing", "critical")
    assert (progress.state, progress.revision) == ("holding", last)
    assert progress.reason.startswith("state_lost: ")
    assert {weight.variant: weight.weight_bp for weight in progress.weights} == {"v1": 5_000, "v2": 5_000}
    assert run([*messages, *harm], known, begins_at=cut) == []
    assert run([*messages, *harm], known, begins_at=cut + 2) == []


@pytest.mark.parametrize("kind", ["pause", "resume", "advance", "approve"])
def test_a_rollout_that_lost_its_evidence_does_not_go_on_by_hand(journal, kind):
    made = journal()
    messages, cut = running(made)
    known = published(spec(1))
    run(messages, known)
    asked = [*messages, made.beat(START + HOUR), made.action(encode(action(kind)))]
    (refused,) = of(DeploymentStatus, run(asked, known, begins_at=cut))
    assert "state_lost" in refused.detail
    assert run(asked, known, begins_at=cut) == []


@pytest.mark.parametrize(
    ("kind", "state", "bp"),
    [("abort", "aborted", 0), ("rollback", "rolled_back", 0), ("promote", "succeeded", 10_000)],
)
def test_a_person_ends_what_is_held_for_its_lost_evidence(journal, kind, state, bp):
    made = journal()
    messages, cut = running(made)
    known = published(spec(1))
    run(messages, known)
    last = max(known.commands[KEY])
    asked = [*messages, made.beat(START + HOUR), made.action(encode(action(kind)))]
    asked += [made.beat(START + 2 * HOUR), made.beat(START + 3 * HOUR)]
    sent = run(asked, known, begins_at=cut)
    (command,) = of(DeploymentCommand, sent)
    assert command.revision == last + 1
    assert {weight.variant: weight.weight_bp for weight in command.weights}["v2"] == bp
    lost = [alert.status for alert in of(Alert, sent) if alert.rule == "rollout_state_lost"]
    assert lost == ["firing", "resolved"]
    assert of(RolloutProgress, sent)[-1].state == state
    for begins_at in (cut, len(messages), len(asked) - 1):
        assert run(asked, known, begins_at=begins_at) == []


def test_an_action_of_which_only_the_command_is_left_is_not_answered_a_second_time(journal):
    made = journal()
    messages, _ = running(made)
    messages += [made.action(encode(action("abort")))]
    begins_at = len(messages) - 1
    known = published(spec(1), spec(2))
    run(messages, known)
    messages += [made.beat(START + HOUR), made.rollout(encode(spec(2)))]
    sent = run(messages, compacted(known), begins_at=begins_at)
    assert [one.generation for one in of(DeploymentCommand, sent)] == [2]
    assert not of(DeploymentStatus, sent)


def test_a_new_generation_replaces_what_is_held_for_its_lost_evidence(journal):
    made = journal()
    messages, cut = running(made)
    known = published(spec(1), spec(2))
    run(messages, known)
    last = max(known.commands[KEY])
    anew = [*messages, made.beat(START + 2 * HOUR), made.rollout(encode(spec(2)))]
    sent = run(anew, known, begins_at=cut)
    assert [(c.generation, c.revision) for c in of(DeploymentCommand, sent)] == [(2, last + 1)]
    assert [a.status for a in of(Alert, sent)] == ["firing", "resolved"]
    assert run(anew, known, begins_at=cut) == []


def test_what_was_refused_for_what_the_journal_has_forgotten_does_not_begin_after_a_restart(journal):
    made = journal()
    messages = [made.beat(START), made.rollout(encode(spec(1))), made.action(encode(action("abort")))]
    for minutes in (0, 20, 40):
        messages += panes(made, START + minutes * 60 * SECOND, 1, worse=True, count=4)
    begins_at = len(messages) - 8
    long = [Step(weight_bp=5_000, min_calls=100_000, warmup_us=0)]
    messages += [made.rollout(encode(replace(spec(2), steps=long))), made.beat(START + 2 * HOUR)]
    known = published(spec(1), spec(2))
    (refused,) = of(DeploymentStatus, run(messages, known))
    assert "cannot be expected to decide" in refused.detail
    # What is left tells less than half an hour of what is usual, which is too little to refuse anything.
    assert not of(DeploymentCommand, run(messages, known, begins_at=begins_at))
    # Who was not told that it is refused may see it begin.
    known.refusals.clear()
    assert of(DeploymentCommand, run(messages, known, begins_at=begins_at))


def test_a_rollout_that_began_right_after_the_journal_does_is_forgotten_too_rather_than_judged_anew(journal):
    made = journal()
    messages, _ = running(made)
    known = published(spec(1))
    run(messages, known)
    before = dict(known.commands[KEY])
    # Its specification is still there, the hour before it is not: margins would come out otherwise.
    known.commands[KEY] = {
        one.revision + 4: replace(one, revision=one.revision + 4) for one in before.values()
    }
    known.progress[KEY] = replace(known.progress[KEY], revision=max(known.commands[KEY]))
    sent = run([*messages, made.beat(START + HOUR)], known, begins_at=1)
    assert [a.rule for a in of(Alert, sent)] == ["rollout_state_lost"]
    assert not of(DeploymentCommand, sent)


def test_late_progress_of_a_process_that_has_lost_its_partitions_takes_no_evidence_from_a_rollout(journal):
    made = journal()
    messages, _ = running(made)
    known = published(spec(1))
    # Some of it was written while this process read back, behind the end of the journal that it had seen.
    run(messages, known)
    messages += panes(made, START + 3 * 60 * SECOND, 1, worse=True, count=4)
    sent = run(messages, known)
    assert [command.action for command in of(DeploymentCommand, sent)][-1] == "rollback"
    assert "rollout_state_lost" not in [alert.rule for alert in of(Alert, sent)]


def overflows(made, times):
    """So often more series than allowed, for a pane each time."""
    messages = []
    for number in range(times):
        pane_us = START + number * 60 * SECOND
        messages += made.calls(
            [made.Call(ts_us=pane_us + SECOND, dimensions={"variant": f"v{i}"}) for i in range(8)]
        )
        messages += [made.beat(pane_us + 10 * SECOND), made.beat(pane_us + 30 * SECOND)]
    return messages


@pytest.mark.parametrize("cut", [3, 6])
def test_too_many_series_are_told_again_when_the_journal_has_forgotten_the_first_times(journal, cut):
    made = journal()
    messages = overflows(made, 4)
    assert len(messages) == 12
    known = published()
    before = of(Alert, run(messages[:6], known))
    after = of(Alert, run(messages, known, begins_at=cut))
    assert [one.sequence for one in before] == [1, 2, 3, 4]
    assert [(one.sequence, one.status) for one in after] == [
        (5, "firing"),
        (6, "resolved"),
        (7, "firing"),
        (8, "resolved"),
    ]
    assert run(messages, known, begins_at=cut) == []


def held(made, minutes, busy_from):
    """A rollout that a person paused, silent at first and then with calls in every pane."""
    messages = [made.beat(START), made.rollout(encode(spec(1))), made.action(encode(action("pause")))]
    for number in range(6 * minutes):
        pane_us = START + number * 10 * SECOND
        calls = [made.Call(ts_us=pane_us, revision=2, dimensions={"variant": v}) for v in ("v1", "v2")]
        messages += [
            *(made.calls(calls) if number >= 6 * busy_from else []),
            made.beat(pane_us + 10 * SECOND),
        ]
    return messages


def test_a_held_rollout_is_told_once_a_minute_while_calls_come_and_not_at_all_without(journal):
    sent = of(RolloutProgress, run(held(journal(), minutes=6, busy_from=3), published()))
    assert {one.state for one in sent[-4:]} == {"holding"}
    silent = [one for one in sent if START + 60 * SECOND < one.watermark < START + 180 * SECOND]
    busy = [one.watermark for one in sent if one.watermark > START + 180 * SECOND]
    assert silent == []
    assert [after - before for before, after in itertools.pairwise(busy)] == [60 * SECOND] * (len(busy) - 1)
    assert len(busy) >= 3


def acted_on(made):
    """A rollout that people pause and abort."""
    return [
        *running(made)[0],
        made.action(encode(action("pause", "a1"))),
        made.beat(START + HOUR),
        made.action(encode(action("abort", "a2"))),
        made.beat(START + 2 * HOUR),
    ]


@settings(deadline=None, max_examples=6, database=None, derandomize=True, phases=[Phase.generate])
@given(data=st.data())
def test_however_the_journal_is_cut_and_the_process_killed_no_command_is_lost_doubled_or_contradicted(
    journal, data
):
    messages = data.draw(st.sampled_from([two_rollouts, acted_on]))(journal())
    known, everything, begins_at, end, reached = published(spec(1), spec(2)), [], 0, 1, 0
    for _ in range(3):
        end = data.draw(st.integers(end, len(messages)))
        begins_at = data.draw(st.integers(begins_at, reached))
        sends = data.draw(st.integers(0, 12))
        sent, reached = run_until_killed(messages[:end], known, begins_at, sends)
        everything += sent
    everything += run(messages, known, begins_at)
    assert run(messages, known, begins_at) == []
    commands = of(DeploymentCommand, everything)
    assert [command.revision for command in commands] == list(range(1, len(commands) + 1))
    # What came last is in force: the second rollout, or the abort.
    assert commands[-1].generation == 2 or commands[-1].action == "abort"
    alerts = [(alert.fingerprint, alert.sequence) for alert in of(Alert, everything)]
    assert len(alerts) == len(set(alerts))
