"""Which snapshot a restart goes on from, out of all that may lie about."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate_streams import snapshots
from tidegate_streams.fold import Rules
from tidegate_streams.snapshots import Source, cut, newest

SOURCE = Source("journal", 2, "release")
OLD, NEW = b"old " * 50, b"new " * 70


def pieces(next_offset: int, state: bytes, source: Source = SOURCE) -> list[bytes]:
    return cut(source, next_offset, state, limit=64)


def test_the_newest_that_is_whole_is_taken_whatever_the_order_and_however_often_a_piece_is_there() -> None:
    messages = [*pieces(10, OLD), *pieces(20, NEW), *pieces(20, NEW), b"junk", b""]
    random.Random(1).shuffle(messages)
    assert newest(messages, SOURCE, 0, 100) == (20, NEW)


@settings(max_examples=50, deadline=None)
@given(cut_at=st.integers(0, 4), place=st.integers(0, 63))
def test_one_that_was_not_finished_or_is_damaged_stands_back_for_the_one_before_it(
    cut_at: int, place: int
) -> None:
    assert newest([*pieces(10, OLD), *pieces(20, NEW)[:cut_at]], SOURCE, 0, 100) == (10, OLD)
    damaged = pieces(20, NEW)
    broken = bytearray(damaged[0])
    broken[-1 - place] ^= 1
    assert newest([*pieces(10, OLD), bytes(broken), *damaged[1:]], SOURCE, 0, 100) == (10, OLD)


def test_the_digest_covers_what_the_snapshot_says_of_itself() -> None:
    renamed = [piece.replace(b'"next_offset": 20', b'"next_offset": 21') for piece in pieces(20, NEW)]
    assert newest(renamed, SOURCE, 0, 100) is None


@pytest.mark.parametrize(
    "other",
    [Source("made anew", 2, "release"), Source("journal", 3, "release"), Source("journal", 2, "next")],
)
def test_one_of_another_journal_partition_or_release_is_not_used(other: Source) -> None:
    assert newest(pieces(10, OLD, other), SOURCE, 0, 100) is None


HEAD = {"journal_id": "journal", "partition": 2, "release": "release", "next_offset": 20}


@pytest.mark.parametrize(
    "stray",
    [
        b"[" * 200_000 + b"\n",
        json.dumps(HEAD | {"next_offset": "20", "digest": "", "part": 0, "parts": 1}).encode() + b"\nstate",
        json.dumps(HEAD | {"digest": [], "part": 0, "parts": 1}).encode() + b"\nstate",
        json.dumps(HEAD | {"digest": "", "part": {}, "parts": 1}).encode() + b"\nstate",
        json.dumps(HEAD | {"digest": "", "part": 0, "parts": 10**30}).encode() + b"\nstate",
    ],
)
def test_a_stray_message_is_no_snapshot_and_hides_none(stray: bytes) -> None:
    assert newest([stray, *pieces(10, OLD)], SOURCE, 0, 100) == (10, OLD)


@pytest.mark.parametrize(
    ("start", "end", "found"), [(10, 10, (10, OLD)), (0, 9, None), (21, 50, None), (0, 20, (20, NEW))]
)
def test_what_follows_it_must_be_in_the_journal(
    start: int, end: int, found: tuple[int, bytes] | None
) -> None:
    assert newest([*pieces(10, OLD), *pieces(20, NEW)], SOURCE, start, end) == found


def test_a_release_is_told_by_its_code_and_its_rules(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    present = snapshots.release(Rules())
    assert present == snapshots.release(Rules())
    assert present != snapshots.release(Rules(series_cap=7))
    (tmp_path / "fold.py").write_text("")
    monkeypatch.setattr(snapshots.tidegate_streams, "__path__", [str(tmp_path)])
    emptied = snapshots.release(Rules())
    (tmp_path / "fold.py").write_text("changed = True")
    assert len({present, emptied, snapshots.release(Rules())}) == 3
