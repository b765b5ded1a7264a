"""The balance of producers, counted by the real engine from rows that a test lists."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from tidegate_infra.clickhouse.client import connect
from tidegate_infra.ledger import LedgerRow, ledger
from tidegate_infra.settings import Settings


@pytest.fixture
def client(settings: Settings, store: str, migrated: None) -> Iterator[Client]:
    with closing(connect(settings)) as opened:
        yield opened


def rows(client: Client) -> dict[str, LedgerRow]:
    return {row.producer_id: row for row in ledger(client)}


def test_reading_is_enough(client: Client, settings: Settings) -> None:
    store_calls(client, "a", [1])
    with closing(connect(settings, readonly=True)) as reader:
        assert [row.stored for row in ledger(reader)] == [1]


def store_calls(client: Client, producer: str | None, seqs: list[int | None]) -> None:
    client.insert(
        "calls",
        [[f"{producer}-{i}", "acme", producer, seq] for i, seq in enumerate(seqs)],
        column_names=["event_id", "tenant", "producer_id", "seq"],
    )


def store_copies(client: Client, producer: str, seqs: list[int]) -> None:
    client.insert(
        "duplicates",
        [["llm.calls", f"{producer}-{i}", producer, seq] for i, seq in enumerate(seqs)],
        column_names=["topic", "event_id", "producer_id", "seq"],
    )


def store_letters(client: Client, producer: str, letters: list[tuple[int, str]]) -> None:
    client.insert(
        "dead_letters",
        [["llm.calls", "t", 0, seq, producer, seq, reason] for seq, reason in letters],
        column_names=[
            *("source_topic", "source_topic_id", "source_partition", "source_offset"),
            *("producer_id", "seq", "reason"),
        ],
    )


def store_report(client: Client, producer: str, accepted: int, *, age_seconds: int = 0, **more: Any) -> None:
    report = {"report_seq": 1, "final": True, "failed": [], "dropped": []} | more
    columns = ["producer_id", "tenant", "app", "accepted", *report]
    client.insert(
        "producer_reports", [[producer, "acme", "bot", accepted, *report.values()]], column_names=columns
    )
    client.command(
        "INSERT INTO producer_reports SELECT * REPLACE ("
        f"now64(3) - {age_seconds} AS append_ts, report_seq + 1 AS report_seq"
        ") FROM producer_reports WHERE producer_id = {p:String}",
        parameters={"p": producer},
    )


def test_a_producer_balances_when_every_number_is_stored(client: Client) -> None:
    store_calls(client, "a", [1, 2, 3])
    store_report(client, "a", 3, dropped=[("negative", 2), ("queue_full", 1)])
    row = rows(client)["a"]
    assert (row.accepted, row.stored, row.missing, row.balanced) == (3, 3, 0, True)
    assert (row.tenant, row.app, row.reported) == ("acme", "bot", True)
    assert row.refused == {"negative": 2, "queue_full": 1}


def test_a_number_counts_once_in_the_first_place_where_it_is_found(client: Client) -> None:
    store_calls(client, "a", [1, 2])
    store_copies(client, "a", [2, 2, 3])
    store_letters(
        client, "a", [(3, "undecodable"), (4, "negative_tokens"), (5, "undecodable"), (4, "negative_tokens")]
    )
    store_report(client, "a", 5)
    row = rows(client)["a"]
    assert (row.stored, row.duplicate, row.dead_lettered) == (2, 1, {"negative_tokens": 1, "undecodable": 1})
    assert row.balanced


def test_a_failed_range_counts_only_what_was_never_seen(client: Client) -> None:
    store_calls(client, "a", [1, 2, 4])
    store_report(client, "a", 6, failed=[(3, 4), (5, 6)])
    row = rows(client)["a"]
    assert (row.stored, row.failed, row.missing, row.balanced) == (3, 3, 0, True)


def test_a_copy_that_nobody_can_read_belongs_to_no_producer(client: Client) -> None:
    client.insert(
        "duplicates",
        [["llm.calls", "x", None, None]],
        column_names=["topic", "event_id", "producer_id", "seq"],
    )
    (row,) = ledger(client)
    assert (row.producer_id, row.duplicate, row.balanced) == ("", 1, True)


def test_the_last_events_of_a_producer_that_just_ended_are_on_their_way(client: Client) -> None:
    store_calls(client, "a", [1, 3])
    store_report(client, "a", 4, age_seconds=5)
    row = rows(client)["a"]
    assert (row.final, row.in_flight, row.missing, row.balanced) == (True, 2, 0, True)


def test_what_an_ended_producer_sent_and_nobody_has_is_missing(client: Client) -> None:
    store_calls(client, "a", [1, 3])
    store_report(client, "a", 4, age_seconds=300)
    row = rows(client)["a"]
    assert (row.missing, row.in_flight, row.balanced) == (2, 0, False)


def test_what_a_living_producer_sent_may_be_on_its_way(client: Client) -> None:
    store_calls(client, "a", [1])
    store_report(client, "a", 4, final=False)
    row = rows(client)["a"]
    assert (row.in_flight, row.missing, row.balanced) == (3, 0, True)


def test_a_producer_that_fell_silent_is_not_alive(client: Client) -> None:
    store_report(client, "a", 4, final=False, age_seconds=3_600)
    row = rows(client)["a"]
    assert (row.in_flight, row.missing, row.balanced) == (0, 4, False)


def test_a_producer_without_reports_is_counted_from_its_numbers(client: Client) -> None:
    store_calls(client, "killed", [1, 2, 5])
    row = rows(client)["killed"]
    assert (row.reported, row.accepted, row.stored, row.missing, row.balanced) == (False, 5, 3, 2, False)


def test_events_without_a_producer_are_counted_too(client: Client) -> None:
    store_calls(client, None, [None, None])
    assert rows(client)[""].stored == 2


def test_more_was_seen_than_the_last_report_says(client: Client) -> None:
    store_calls(client, "a", [1, 2, 3, 4])
    store_report(client, "a", 2, final=False)
    row = rows(client)["a"]
    assert (row.accepted, row.stored, row.in_flight, row.balanced) == (4, 4, 0, True)


def test_nobody_has_sent_anything(client: Client) -> None:
    assert ledger(client) == []
