from collections.abc import Mapping

from tidegate.records import Heartbeat
from tidegate.topics import CALLS, EVALUATIONS, FEEDBACK
from tidegate_streams.aggregate.watermarks import UNKNOWN, Source, Watermarks

IDS = {CALLS: "C", FEEDBACK: "F"}
COUNTS = {CALLS: 12, FEEDBACK: 6, EVALUATIONS: 3}
POSITIONS = {(CALLS, 0): 10, (CALLS, 1): 20, (FEEDBACK, 0): 5}


def beat(marks: Watermarks, clock_us: int = 100_000_000, **ends: int) -> Heartbeat:
    """Say how far everything is; `c0` is where the first partition of the calls ends, and so on."""
    places = {"c0": (CALLS, 0), "c1": (CALLS, 1), "f0": (FEEDBACK, 0)}
    known: Mapping[Source, int] = {places[name]: end for name, end in ends.items()}
    return marks.heartbeat("w", 1, POSITIONS, IDS, known, COUNTS, clock_us)


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
    said = watermarks(beat(marks, c0=11, c1=20, f0=5))
    assert said == {(CALLS, 0): 48_000_000, (CALLS, 1): 98_000_000, (FEEDBACK, 0): None}


def test_a_replay_of_the_past_ignores_the_clock_and_ends_where_its_end_says() -> None:
    marks = Watermarks(delay_us=2_000_000, follows_clock=False)
    marks.settled(0, 50_000_000, 60_000_000)
    said = watermarks(beat(marks, c0=10, c1=20))
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
    said = beat(marks, clock_us=77, c0=11, c1=20)
    assert (said.worker, said.epoch, said.ts) == ("w", 1, 77)
    assert (said.partition_count, said.feedback_partition_count, said.evaluations_partition_count) == (
        12,
        6,
        3,
    )
    assert [
        (one.topic_id, one.topic, one.partition, one.next_offset, one.at_end) for one in said.sources
    ] == [
        ("C", CALLS, 0, 10, False),
        ("C", CALLS, 1, 20, True),
        ("F", FEEDBACK, 0, 5, False),
    ]


def test_a_heartbeat_says_where_the_logs_of_ratings_end() -> None:
    marks = Watermarks(delay_us=0, follows_clock=False)
    assert [source.end for source in beat(marks, c0=11, f0=9).sources] == [None, None, 9]
    assert [source.end for source in beat(marks, c0=11).sources] == [None, None, UNKNOWN]


def test_a_pane_is_passed_when_every_partition_or_the_clock_has_left_it() -> None:
    live, past = (Watermarks(delay_us=2_000_000, follows_clock=clock) for clock in (True, False))
    for marks in (live, past):
        marks.settled(0, 25_000_000, None)
        marks.settled(1, 21_999_999, None)
    assert live.passed(41_999_999) == (1, 3)
    assert live.passed(42_000_000) == (1, 4)
    assert past.passed(42_000_000) == (1, 0)
    past.settled(1, 22_000_000, None)
    assert past.passed(42_000_000) == (2, 0)
