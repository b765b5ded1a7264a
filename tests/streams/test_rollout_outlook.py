"""How many more calls: said in the sentence of each metric whose verdict is open."""

import re

import pytest
from tests.streams.drive import Drive, latency, rate, rollout

from tidegate.records import Step

LONG = [Step(weight_bp=5_000, min_calls=10**6)]


def said(drive: Drive) -> str:
    return drive.progress.evidence[0].sentence


def forecast(drive: Drive) -> int:
    found = re.search(r"if it goes on like this, about ([\d,]+) more calls", said(drive))
    assert found, said(drive)
    return int(found[1].replace(",", ""))


@pytest.mark.parametrize(
    ("worse", "words", "verdict"), [(1.0, "exclude the harm", "pass"), (4.0, "make it certain harm", "fail")]
)
def test_the_verdict_comes_about_when_it_was_said_to(worse: float, words: str, verdict: str) -> None:
    metric = rate(margin_kind="absolute", rollback_margin=0.01, promotion_margin=0.03)
    drive = Drive(rollout(steps=LONG, metrics=[metric])).serve(12, calls=40, worse=worse)
    assert words in said(drive)
    expected, before = forecast(drive), drive.progress.evidence[0].n_candidate * 2
    for _ in range(2_000):
        if drive.progress.evidence[0].verdict == verdict:
            break
        drive.serve(1, calls=40, worse=worse)
    after = drive.progress.evidence[0].n_candidate * 2
    assert expected / 4 < after - before < expected * 4


def test_nothing_is_said_where_no_verdict_is_in_sight_or_one_is_there() -> None:
    unseen = Drive(rollout(steps=LONG, metrics=[latency()])).serve(8)
    assert "if it goes on" not in said(unseen)
    passed = Drive(
        rollout(metrics=[rate(margin_kind="absolute", rollback_margin=0.05, promotion_margin=0.3)])
    )
    passed.serve(30)
    assert passed.progress.evidence[0].verdict == "pass"
    assert "if it goes on" not in said(passed)


def test_commands_and_alerts_say_what_progress_says() -> None:
    drive = Drive(rollout(steps=[Step(weight_bp=2_500, min_calls=400, approval=True), *LONG])).serve(3)
    drive.serve_until("holding", calls=100)
    held, told = drive.command, drive.progress
    assert [row.sentence for row in held.evidence] == [row.sentence for row in told.evidence]
    alerts = [record for record in drive.outputs if type(record).__name__ == "Alert"]
    described = next(pair.value for pair in alerts[-1].annotations if pair.key == "description")
    assert described == "\n".join(row.sentence for row in held.evidence)


def test_nothing_is_foretold_of_a_rollout_that_has_ended_nor_in_the_reason_of_its_end() -> None:
    drive = Drive(rollout(steps=LONG)).serve_until("progressing").serve(30, calls=40)
    assert "if it goes on" in said(drive)
    drive.act("rollback")
    drive.serve_until("rolled_back")
    ended = [said(drive), drive.command.reason, *(row.sentence for row in drive.command.evidence)]
    ended += [pair.value for a in drive.outputs if type(a).__name__ == "Alert" for pair in a.annotations]
    assert "if it goes on" not in "".join(ended)
    assert drive.progress.reason == f"march serves all traffic. {drive.command.reason}"
