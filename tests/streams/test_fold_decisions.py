"""What the fold decides, whatever way its journal came about."""

from tests.streams.folding import DAY, SECOND, START, canary, decisions, fold_all, rollout

from tidegate import codec
from tidegate.records import Alert, RolloutAction, RolloutProgress
from tidegate_streams import fold


def test_a_candidate_that_fails_is_rolled_back_and_somebody_is_told_once(journal):
    records = fold_all(canary(journal()))
    assert [command.action for command in decisions(records)] == ["start", "rollback"]
    alerts = [record for record in records if isinstance(record, Alert)]
    assert [(alert.rule, alert.status, alert.sequence) for alert in alerts][:1] == [
        ("rollout_rolled_back", "firing", 1)
    ]


def test_commands_do_not_depend_on_how_events_were_split_repeated_or_packed(journal):
    whole = decisions(fold_all(canary(journal())))
    split = decisions(fold_all(canary(journal(), parts=2, repeat=True)))
    assert len(whole) == 2
    assert split == whole


def test_each_pane_is_looked_at_once_in_order_however_many_close_at_once(journal):
    step_by_step = decisions(fold_all(canary(journal())))
    messages = canary(journal())
    beats = [message for message in messages[1:] if type(message).__name__ == "Heartbeat"]
    together = decisions(fold_all([m for m in messages if m not in beats[:-1] or m is messages[0]]))
    assert [c.action for c in together] == [c.action for c in step_by_step]
    assert [c.evidence for c in together] == [c.evidence for c in step_by_step]


def test_late_calls_are_a_stratum_of_their_own_in_the_next_look_and_in_no_other(journal, monkeypatch):
    seen = []

    def on_look(state, pane_end_us, strata, at, halves):
        calls = {(key.pane_us, key.is_late): sum(v.calls for v in strata[key].values()) for key in strata}
        seen.append((pane_end_us - START, calls))
        return state, []

    monkeypatch.setattr(fold.machine, "on_look", on_look)
    made = journal()
    early, later = (made.Call(ts_us=START + seconds * SECOND) for seconds in (1, 21))
    messages = [
        made.rollout(codec.encode(rollout())),
        *made.calls([early] * 3),
        made.beat(START + 10 * SECOND),
        *made.calls([early, later, later]),
        made.beat(START + 40 * SECOND),
    ]
    fold_all(messages)
    pane = {seconds: START + (seconds - 10) * SECOND for seconds in (10, 20, 30, 40)}
    assert seen == [
        (10 * SECOND, {(pane[10], False): 3}),
        (20 * SECOND, {(pane[10], True): 1}),
        (30 * SECOND, {(pane[30], False): 2}),
        (40 * SECOND, {}),
    ]


def test_a_jump_of_the_watermark_over_years_takes_no_time(journal):
    made = journal()
    messages = [
        made.rollout(codec.encode(rollout())),
        *made.calls([made.Call(ts_us=SECOND)]),
        made.beat(10 * SECOND),
        made.beat(3 * 365 * DAY),
    ]
    progress = [record for record in fold_all(messages) if isinstance(record, RolloutProgress)]
    assert 3 * 365 < progress[-1].looks < 3 * 365 + 360 + 24 + 10


def test_actions_are_carried_out_and_refused_with_an_answer(journal):
    made = journal()
    pause = RolloutAction(
        action_id="a1",
        key="acme/prod/chat",
        generation=1,
        action="pause",
        actor="grace",
        reason="lunch",
        ts=START,
    )
    messages = [
        made.beat(START),
        made.rollout(codec.encode(rollout())),
        made.action(codec.encode(pause)),
        made.action(codec.encode(pause)),
    ]
    actions = [command.action for command in decisions(fold_all(messages))]
    assert actions == ["start", "pause"]
