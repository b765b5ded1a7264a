from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from tidegate.records import Heartbeat
from tidegate.topics import CALLS, EVALUATIONS, FEEDBACK
from tidegate_streams.aggregate.watermarks import Source, Watermarks

IDS = {CALLS: "C", FEEDBACK: "F", EVALUATIONS: "E"}
POSITIONS = {(CALLS, 0): 10, (CALLS, 1): 20, (FEEDBACK, 0): 5}
MORE = {(CALLS, 0): 11, (CALLS, 1): 21, (FEEDBACK, 0): 5}
"""Ends of logs of which the feedback is read, and the calls are not."""


def beat(
    marks: Watermarks,
    clock_us: int = 100_000_000,
    ends: Mapping[Source, int] = MORE,
    positions: Mapping[Source, int] = POSITIONS,
) -> Heartbeat:
    return marks.heartbeat("w", 1, positions, IDS, ends, 12, clock_us)


def watermarks(heartbeat: Heartbeat) -> dict[tuple[str, int], int | None]:
    return {(source.topic, source.partition): source.watermark for source in heartbeat.sources}


def test_a_watermark_stays_behind_the_latest_event_and_never_falls() -> None:
    marks = Watermarks(delay_us=2_000_000, follows_clock=False)
    assert watermarks(beat(marks)) == {(CALLS, 0): None, (CALLS, 1): None, (FEEDBACK, 0): None}
    marks.settled(0, 50_000_000, None)
    marks.settled(0, 40_000_000, None)
    marks.settled(1, None, None)
    assert watermarks(beat(marks)) == {(CALLS, 0): 48_000_000, (CALLS, 1): None, (FEEDBACK, 0): None}


def test_at_the_end_of_the_log_and_only_there_it_follows_the_clock() -> None:
    marks = Watermarks(delay_us=2_000_000, follows_clock=True)
    marks.settled(0, 50_000_000, None)
    said = watermarks(beat(marks, ends=MORE | {(CALLS, 1): 20}))
    assert said == {(CALLS, 0): 48_000_000, (CALLS, 1): 98_000_000, (FEEDBACK, 0): None}


def test_a_replay_of_the_past_ignores_the_clock_and_ends_where_its_end_says() -> None:
    marks = Watermarks(delay_us=2_000_000, follows_clock=False)
    marks.settled(0, 50_000_000, 60_000_000)
    said = watermarks(beat(marks, ends=POSITIONS))
    assert said == {(CALLS, 0): 60_000_000, (CALLS, 1): None, (FEEDBACK, 0): None}


def test_a_new_assignment_begins_with_nothing() -> None:
    marks = Watermarks(delay_us=0, follows_clock=False)
    marks.begin(1)
    marks.settled(0, 5, None)
    marks.begin(1)
    assert watermarks(beat(marks))[CALLS, 0] == 5
    marks.begin(2)
    assert watermarks(beat(marks))[CALLS, 0] is None


def test_a_heartbeat_lists_every_partition_with_its_next_offset() -> None:
    marks = Watermarks(delay_us=0, follows_clock=True)
    said = beat(marks, clock_us=77, ends=POSITIONS | {(CALLS, 0): 11, (FEEDBACK, 0): 6})
    assert (said.worker, said.epoch, said.partition_count, said.ts) == ("w", 1, 12, 77)
    assert [
        (one.topic_id, one.topic, one.partition, one.next_offset, one.at_end) for one in said.sources
    ] == [
        ("C", CALLS, 0, 10, False),
        ("C", CALLS, 1, 20, True),
        ("F", FEEDBACK, 0, 5, False),
    ]


def test_ratings_that_are_still_to_be_read_hold_what_is_told_of_the_calls() -> None:
    marks = Watermarks(delay_us=0, follows_clock=False)
    marks.settled(0, 50, None)
    assert watermarks(beat(marks, ends=MORE | {(FEEDBACK, 0): 9}))[CALLS, 0] is None
    marks.settled(0, 70, 80)
    assert watermarks(beat(marks, positions=POSITIONS | {(FEEDBACK, 0): 8}))[CALLS, 0] is None
    told = watermarks(beat(marks, positions=POSITIONS | {(FEEDBACK, 0): 9}, ends=MORE | {(FEEDBACK, 0): 12}))
    assert told[CALLS, 0] == 50
    told = watermarks(beat(marks, positions=POSITIONS | {(FEEDBACK, 0): 12}, ends=MORE | {(FEEDBACK, 0): 12}))
    assert told[CALLS, 0] == 80


def test_without_an_answer_of_where_the_logs_end_nothing_new_is_told() -> None:
    marks = Watermarks(delay_us=0, follows_clock=True)
    marks.settled(0, 50, None)
    assert watermarks(beat(marks))[CALLS, 0] == 50
    marks.settled(0, 60, None)
    assert watermarks(beat(marks, ends={}))[CALLS, 0] == 50
    assert watermarks(beat(marks))[CALLS, 0] == 60


SOURCES: list[Source] = [(CALLS, 0), (CALLS, 1), (FEEDBACK, 0), (EVALUATIONS, 0)]


@given(
    st.lists(st.sampled_from(SOURCES), max_size=40),
    st.lists(st.tuples(st.sampled_from([*SOURCES, None]), st.integers(1, 15)), max_size=40),
)
def test_what_is_told_leaves_no_rating_behind_whatever_is_read_first(
    life: list[Source], reads: list[tuple[Source | None, int]]
) -> None:
    """All is written in the order of event time, and read in any order; half of it before the start."""
    logs: dict[Source, list[int]] = {source: [] for source in SOURCES}
    positions = dict.fromkeys(SOURCES, 0)
    marks = Watermarks(delay_us=0, follows_clock=False)
    waiting = list(enumerate(life))

    def live(n: int) -> None:
        for ts_us, source in waiting[:n]:
            logs[source].append(ts_us)
        del waiting[:n]

    live(len(waiting) // 2)
    for source, n in [*reads, (None, 40), (None, 1)]:
        if source is not None:
            read = logs[source][positions[source] : positions[source] + n]
            positions[source] += len(read)
            if source[0] == CALLS and read:
                marks.settled(source[1], read[-1], None)
            continue
        told = watermarks(beat(marks, positions=positions, ends={s: len(log) for s, log in logs.items()}))
        for (topic, partition), us in told.items():
            if us is not None:
                assert topic == CALLS
                for rating in SOURCES[2:]:
                    unread = logs[rating][positions[rating] :]
                    assert not unread or unread[0] > us, (partition, rating)
        live(n)
    for source, log in logs.items():
        if source[0] == CALLS and log[positions[source] :]:
            marks.settled(source[1], log[-1], None)
        positions[source] = len(log)
    beat(marks, positions=positions, ends=positions)
    assert marks.told == marks.by_partition
