from tidegate.records import Heartbeat, SourceProgress
from tidegate.topics import CALLS, FEEDBACK
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
    watermark.hear(beat((1, 400), topic_id="b"))
    assert watermark.us == 400
