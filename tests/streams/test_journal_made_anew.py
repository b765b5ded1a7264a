"""What a restart makes of a journal that was deleted and made again."""

import pytest
from tests.streams.restarts import HOUR, KEY, START, action, of, panes, published, run, running, spec

from tidegate.codec import encode
from tidegate.records import Alert, DeploymentCommand, DeploymentStatus


@pytest.mark.parametrize("again", [False, True])
def test_in_a_journal_made_anew_the_rollout_of_the_old_one_is_held_even_if_it_outgrew_the_old(journal, again):
    made = journal()
    messages, _ = running(made)
    known = published(spec(1), spec(2))
    run(messages, known)
    last = max(known.commands[KEY])
    fresh = journal()
    anew = [fresh.beat(START + n * HOUR) for n in range(1, 3)]
    anew += [fresh.rollout(encode(spec(1)))] if again else []
    anew += [fresh.beat(START + n * HOUR) for n in range(3, 5 + len(messages))]
    sent = run(anew, known)
    assert [a.rule for a in of(Alert, sent)] == ["rollout_state_lost"]
    assert not of(DeploymentCommand, sent)
    # The next generation goes on above what the old journal had caused, also after a restart.
    anew += [fresh.rollout(encode(spec(2))), *panes(fresh, START + 99 * HOUR, last + 1, worse=True)]
    commands = of(DeploymentCommand, run(anew, known))
    assert [(c.generation, c.revision, c.action) for c in commands] == [
        (2, last + 1, "start"),
        (2, last + 2, "rollback"),
    ]
    assert run(anew, known) == []


def test_in_a_journal_made_anew_that_is_still_short_the_next_generation_goes_on_above_the_old_one(journal):
    made = journal()
    known = published(spec(1), spec(2))
    run([*[made.beat(START)] * 50, *running(made)[0]], known)
    last = max(known.commands[KEY])
    fresh = journal()
    anew = [fresh.beat(START + HOUR), fresh.rollout(encode(spec(2)))]
    sent = run(anew, known)
    assert [(c.generation, c.revision) for c in of(DeploymentCommand, sent)] == [(2, last + 1)]
    assert run(anew, known) == []


def test_in_a_journal_made_anew_that_is_still_short_a_person_ends_the_old_rollout_at_once(journal):
    made = journal()
    known = published(spec(1))
    run([*[made.beat(START)] * 4, *running(made)[0]], known)
    last = max(known.commands[KEY])
    fresh = journal()
    anew = [fresh.beat(START + HOUR)] * 3 + [
        fresh.rollout(encode(spec(1))),
        fresh.action(encode(action("abort"))),
    ]
    sent = run(anew, known)
    assert [(c.action, c.revision) for c in of(DeploymentCommand, sent)] == [("abort", last + 1)]
    assert not of(DeploymentStatus, run(anew, known))
