from hypothesis import given
from hypothesis import strategies as st

from tidegate.records import Heartbeat, SourceProgress
from tidegate.topics import CALLS, EVALUATIONS, FEEDBACK
from tidegate_streams.aggregate.watermarks import Source, Watermarks
from tidegate_streams.watermark import Watermark


def beat(*heard: tuple[int, int | None], topic_id: str = "a", topic: str = CALLS) -> Heartbeat:
    sources = [
        SourceProgress(topic_id=topic_id, topic=topic, partition=partition, next_offset=0, watermark=us)
        for partition, us in heard
    ]
    return Heartbeat(worker="w", epoch=1, sources=sources, partition_count=2, ts=0)


def test_it_is_unknown_until_every_partition_was_heard_of() -> None:
    watermark = Watermark()
    watermark.hear(beat((0, 100)))
    assert watermark.us is None
    watermark.hear(beat((1, None)))
    assert watermark.us is None
    watermark.hear(beat((1, 50)))
    assert watermark.us == 50


def test_it_is_the_least_and_never_falls() -> None:
    watermark = Watermark()
    watermark.hear(beat((0, 100), (1, 200)))
    assert watermark.us == 100
    watermark.hear(beat((0, 90)))
    assert watermark.us == 100
    watermark.hear(beat((0, 300)))
    assert watermark.us == 200


def test_a_dead_worker_stalls_it() -> None:
    watermark = Watermark()
    watermark.hear(beat((0, 100), (1, 100)))
    watermark.hear(beat((0, 900)))
    assert watermark.us == 100


def test_other_topics_do_not_move_it() -> None:
    watermark = Watermark()
    watermark.hear(beat((0, 100), (1, 100)))
    watermark.hear(beat((0, 900), (1, 900), topic=FEEDBACK, topic_id="f"))
    assert watermark.us == 100


def test_what_was_heard_of_a_deleted_topic_counts_no_more() -> None:
    watermark = Watermark()
    watermark.hear(beat((0, 100), (1, 100)))
    watermark.hear(beat((0, 500), topic_id="b"))
    assert watermark.us == 100
    watermark.hear(beat((1, 90), topic_id="b"))
    assert watermark.us == 100
    watermark.hear(beat((1, 400), topic_id="b"))
    assert watermark.us == 400


def rated(us: int, next_offset: int, end: int | None, topic_id: str = "f") -> Heartbeat:
    """All calls have reached a time, and the ratings of one partition an offset."""
    said = beat((0, us), (1, us))
    said.feedback_partition_count = 1
    said.sources.append(
        SourceProgress(topic_id=topic_id, topic=FEEDBACK, partition=0, next_offset=next_offset, end=end)
    )
    return said


def test_it_waits_for_ratings_that_were_written_before_the_calls_were_read() -> None:
    watermark = Watermark()
    for us, next_offset, end, expected in (
        (100, 0, 9, None),
        (200, 8, 20, None),
        (300, 9, 20, 100),
        (400, 19, 20, 100),
        (500, 20, 30, 300),
        (600, 30, 30, 600),
        (700, 30, 30, 700),
    ):
        watermark.hear(rated(us, next_offset, end))
        assert watermark.us == expected


def test_without_word_of_a_partition_of_ratings_or_of_its_end_nothing_more_is_reached() -> None:
    watermark = Watermark()
    alone = beat((0, 100), (1, 100))
    alone.feedback_partition_count = 1
    watermark.hear(alone)
    assert watermark.us is None
    watermark.hear(rated(200, 5, 5))
    watermark.hear(rated(300, 5, -1))
    assert watermark.us == 200


def test_a_log_of_ratings_that_lost_its_end_or_was_made_anew_holds_nothing_for_ever() -> None:
    watermark = Watermark()
    watermark.hear(rated(100, 0, 9))
    watermark.hear(rated(200, 4, 4))
    assert watermark.us == 200
    watermark.hear(rated(300, 4, 9))
    watermark.hear(rated(400, 0, 0, topic_id="g"))
    assert watermark.us == 400


COUNTS = {CALLS: 3, FEEDBACK: 2, EVALUATIONS: 0}
SOURCES: list[Source] = [(topic, partition) for topic, count in COUNTS.items() for partition in range(count)]
RATED = [source for source in SOURCES if source[0] != CALLS]


def shared_by(workers: int) -> list[list[Source]]:
    """Give out partitions by ranges, as Kafka does."""
    shares: list[list[Source]] = [[] for _ in range(workers)]
    for topic, count in COUNTS.items():
        whole, rest = divmod(count, workers)
        owners = [number for number in range(workers) for _ in range(whole + (number < rest))]
        for partition, owner in enumerate(owners):
            shares[owner].append((topic, partition))
    return shares


@given(
    st.lists(st.sampled_from(SOURCES), min_size=4, max_size=24),
    st.lists(
        st.tuples(st.just("read"), st.sampled_from(SOURCES), st.integers(1, 9))
        | st.tuples(st.just("beat"), st.integers(0, 3), st.integers(0, 5))
        | st.tuples(st.just("share"), st.integers(1, 3), st.just(0)),
        max_size=30,
    ),
)
def test_no_rating_is_left_behind_whatever_is_read_first_and_by_whom(life, steps) -> None:
    """All is written in the order of event time, half of it before the start, and read in any order."""
    logs: dict[Source, list[int]] = {source: [] for source in SOURCES}
    positions = dict.fromkeys(SOURCES, 0)
    watermark, epoch, shares = Watermark(), 0, shared_by(1)
    workers = [Watermarks(delay_us=0, follows_clock=False)]
    begun = [source for source in SOURCES if source[0] == CALLS]
    waiting = list(enumerate([*begun, *life]))

    def live(count: int) -> None:
        for us, source in waiting[:count]:
            logs[source].append(us)
        del waiting[:count]

    def read(source: Source, count: int) -> None:
        new = logs[source][positions[source] :][:count]
        positions[source] += len(new)
        if source[0] == CALLS and new:
            owner = next(number for number, share in enumerate(shares) if source in share)
            workers[owner].settled(source[1], new[-1], None)

    def say(number: int) -> None:
        mine = {source: positions[source] for source in shares[number]}
        ends = {source: len(logs[source]) for source in mine}
        ids = dict.fromkeys(COUNTS, "id")
        watermark.hear(workers[number].heartbeat("w", epoch, mine, ids, ends, COUNTS, 0))
        for source in RATED:
            if watermark.us is not None:
                assert all(us > watermark.us for us in logs[source][positions[source] :])

    live(len(begun) + len(life) // 2)
    for source in begun:
        read(source, 1)
    for what, which, count in steps:
        if what == "read":
            read(which, count)
        elif what == "share":
            shares, epoch = shared_by(which), epoch + 1
            workers = [Watermarks(delay_us=0, follows_clock=False) for _ in shares]
        else:
            # One worker may stay silent.
            for number in range(len(shares)):
                if number != which:
                    say(number)
            live(count)
    live(len(waiting))
    for source in SOURCES:
        logs[source].append(len(begun) + len(life))
        read(source, len(logs[source]))
    for _ in range(2):
        for number in range(len(shares)):
            say(number)
    assert watermark.us == len(begun) + len(life)
