"""The balance of producers, counted by the real engine from rows that a test lists."""

import random
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from tidegate_infra.clickhouse import migrations
from tidegate_infra.clickhouse.client import connect
from tidegate_infra.ledger import LedgerRow, by_hour, ledger
from tidegate_infra.settings import Settings

NOW = datetime.now(UTC).replace(microsecond=0)
THIS_HOUR = NOW.replace(minute=0, second=0)
LONG_AGO = NOW - timedelta(minutes=30)
"""A producer that was heard of last by then is not alive."""


JUST_NOW = NOW + timedelta(minutes=30)
"""Of a clock ahead of ours, so that it stays just now however long the tests before take."""


def hour(before: int) -> datetime:
    """Return the start of an hour."""
    return THIS_HOUR - timedelta(hours=before)


def ago(seconds: int) -> datetime:
    return NOW - timedelta(seconds=seconds)


@dataclass
class Rows:
    """What a test puts into the store, table by table."""

    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, table: str, **row: Any) -> None:
        self.tables.setdefault(table, []).append(row)

    def calls(self, producer: str | None, *seqs: int | None, at: datetime = LONG_AGO) -> None:
        for seq in seqs:
            event_id = f"{producer}-{seq}-{uuid.uuid4()}"
            self.add("calls", event_id=event_id, tenant="acme", producer_id=producer, seq=seq, append_ts=at)

    def copies(self, producer: str | None, *seqs: int | None, at: datetime = LONG_AGO) -> None:
        for seq in seqs:
            coordinates = {"_topic_id": "t", "_offset": len(self.tables.get("duplicates", ()))}
            self.add("duplicates", producer_id=producer, seq=seq, append_ts=at, **coordinates)

    def letters(
        self,
        producer: str | None,
        *letters: tuple[int | None, str],
        at: datetime = LONG_AGO,
        tried: int = 0,
    ) -> None:
        for seq, reason in letters:
            offset = 1_000 * tried + (10_000 if seq is None else seq)
            source = {"source_topic_id": f"{producer}", "source_offset": offset}
            self.add(
                "dead_letters",
                **source,
                stage="sink",
                producer_id=producer,
                seq=seq,
                reason=reason,
                append_ts=at,
            )

    def report(self, producer: str, accepted: int, *, at: datetime = LONG_AGO, **more: Any) -> None:
        number = sum(row["producer_id"] == producer for row in self.tables.get("producer_reports", ()))
        said = {"report_seq": number + 1, "final": True, "failed": [], "dropped": []} | more
        whose = {"producer_id": producer, "tenant": "acme", "app": "bot"}
        self.add("producer_reports", **whose, accepted=accepted, append_ts=at, **said)

    def insert(self, client: Client) -> None:
        for table, rows in self.tables.items():
            columns = list(rows[0])
            client.insert(table, [[row[name] for name in columns] for row in rows], column_names=columns)


def stories() -> Rows:
    """One producer a story; the tests tell what must come of each."""
    rows = Rows()
    rows.calls("fine", 1, 2, 3)
    rows.report("fine", 3, dropped=[("negative", 2), ("queue_full", 1)])
    rows.calls("everywhere", 1, 2)
    rows.copies("everywhere", 2, 2, 3)
    letters = [(3, "undecodable"), (4, "negative_tokens"), (5, "undecodable"), (4, "negative_tokens")]
    rows.letters("everywhere", *letters, (5, "other"))
    rows.report("everywhere", 5)
    rows.calls("failing", 1, 2, 4)
    rows.report("failing", 6, failed=[(3, 4), (5, 6)])
    rows.calls("ended just now", 1, 3, at=JUST_NOW)
    rows.report("ended just now", 4, at=JUST_NOW)
    rows.calls("ended", 1, 3)
    rows.report("ended", 4, at=ago(300))
    rows.calls("alive", 1, at=JUST_NOW)
    rows.report("alive", 4, at=JUST_NOW, final=False)
    rows.report("silent", 4, at=ago(3_600), final=False)
    rows.calls("killed", 1, 2, 5)
    rows.calls("killed after a report", 1, 2, 3, 5, at=ago(3_700))
    rows.report("killed after a report", 3, at=ago(3_700), final=False)
    rows.calls("started again", 1, 2, at=ago(3_600))
    rows.report("started again", 2, at=ago(3_500))
    rows.calls("ahead of its report", 1, 2, 3, 4)
    rows.report("ahead of its report", 2, final=False, at=JUST_NOW)
    rows.calls(None, None, None)
    rows.calls("without numbers", None, 0, -5)
    rows.copies(None, None)
    rows.letters(None, (None, "undecodable"))
    rows.letters(None, (None, "undecodable"))  # noticed by stage 1 and by the sink
    # Twelve partitions and two workers: the order of arrival is not that of the numbers.
    rows.calls("over the hour", *range(1, 99), 100, at=hour(2) - timedelta(seconds=1))
    rows.calls("over the hour", 99, *range(101, 121), at=hour(2))
    rows.report("over the hour", 120, at=hour(1))
    for name, skew_hours in (("clock ahead", 3), ("clock behind", -9)):
        rows.calls(name, 1, 2, 3, at=hour(4))
        rows.calls(name, 4, 5, at=hour(3))
        rows.report(name, 3, at=hour(4 - skew_hours), final=False)
        rows.report(name, 5, at=hour(3 - skew_hours))
    rows.calls("old", 1, 2, 3, at=hour(40))
    rows.report("old", 3, at=hour(40))
    rows.copies("old", 1, 2, 3, at=hour(1))
    rows.letters("put back", (1, "undecodable"), at=hour(5))
    rows.calls("put back", 2, at=hour(5))
    rows.calls("put back", 1, at=hour(2))
    rows.report("put back", 2, at=hour(5))
    for tried, reason in enumerate(("unknown_schema", "undecodable", "other")):
        rows.letters("put back in vain", (1, reason), at=hour(5 - tried), tried=tried)
    rows.report("put back in vain", 1, at=hour(5))
    for at in (hour(5), hour(2)):  # with its series, hours later
        whose = {"tenant": "acme", "producer_id": "rater", "seq": 1}
        rows.add("feedback", event_id="f", **whose, append_ts=at)
    rows.report("rater", 1, at=hour(5))
    rows.calls("failing for hours", 1, 4, 7, at=hour(3))
    rows.calls("failing for hours", 6, 8, at=hour(2))
    rows.report("failing for hours", 8, at=hour(2), failed=[(2, 5)])
    rows.calls("alive with a loss", 1, 3, at=hour(3))
    rows.calls("alive with a loss", 4, at=JUST_NOW)
    rows.report("alive with a loss", 4, at=JUST_NOW, final=False)
    return rows


@dataclass(frozen=True)
class Model:
    """The definition of the ledger, written out: sets of numbers."""

    events: list[tuple[int, int, str]]
    """Hour, number, place."""
    reports: list[tuple[int, int, list[tuple[int, int]]]]
    """Hour, accepted, failed ranges: in the order in which they were made."""

    def hours(self) -> dict[int, tuple[int, int, int, int, int, int]]:
        """Return accepted, stored, duplicate, dead, failed and unseen of each hour in which there was any."""
        places: dict[str, set[int]] = {"stored": set(), "duplicate": set(), "dead": set()}
        marks: dict[int, int] = {}
        for at, seq, place in self.events:
            places[place].add(seq)
            marks[at] = max(marks.get(at, 0), seq)
        for at, accepted, _ in self.reports:
            marks[at] = max(marks.get(at, 0), accepted)
        stored = places["stored"]
        copies = places["duplicate"] - stored
        dead = places["dead"] - stored - copies
        failed = {
            n for one in (self.reports[-1][2] if self.reports else []) for n in range(one[0], one[1] + 1)
        }
        rows, low = {}, 0
        for at, mark in sorted(marks.items()):
            new = set(range(low + 1, mark + 1))
            seen = new & (stored | copies | dead)
            counts = [len(new & one) for one in (stored, copies, dead, failed - seen)]
            if new:
                rows[at] = (len(new), *counts, len(new - seen - failed))
            low = max(low, mark)
        return rows


def random_models(rows: Rows, count: int) -> dict[str, Model]:
    """Producers whose events arrive in any order, hour and place, each perhaps several times."""
    draw = random.Random(11)
    models = {}
    for name in (f"random {number}" for number in range(count)):
        last = draw.randint(1, 40)
        model = Model([], [])
        for seq in range(1, last + 1):
            for _ in range(draw.choice((0, 1, 1, 1, 2, 3))):
                place = draw.choice(("stored", "stored", "duplicate", "dead"))
                model.events.append((draw.randint(2, 2 + 6 * seq // last), seq, place))
        accepted = 0
        for at in sorted(
            (draw.randint(0, 12) for _ in range(draw.randint(0, 4))), reverse=draw.random() < 0.1
        ):
            accepted = draw.randint(accepted, last)
            spoiled = sorted(draw.sample(range(1, last + 3), 2)) if last > 1 else [1, 1]
            model.reports.append((at, accepted, [(spoiled[0], spoiled[1])] if draw.random() < 0.5 else []))
        begins = hour(20)
        for at, seq, place in model.events:
            when = begins + timedelta(hours=at, seconds=draw.randint(0, 3_599))
            if place == "stored":
                rows.calls(name, seq, at=when)
            elif place == "duplicate":
                rows.copies(name, seq, at=when)
            else:
                rows.letters(name, (seq, "broken"), at=begins + timedelta(hours=at))
        for at, accepted, failed in model.reports:
            rows.report(name, accepted, at=begins + timedelta(hours=at), failed=failed, final=False)
        models[name] = model
    return models


@pytest.fixture(scope="module")
def settings(store: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    address = f"{store.removesuffix('default')}t{uuid.uuid4().hex[:12]}"
    return Settings(clickhouse=address, data_dir=tmp_path_factory.mktemp("ledger"))


@dataclass(frozen=True)
class Told:
    client: Client
    before: list[LedgerRow]
    models: dict[str, Model]

    def __getitem__(self, producer: str) -> LedgerRow:
        (row,) = [row for row in ledger(self.client) if row.producer_id == producer]
        return row

    def hours(self, producer: str, since: datetime | None = None) -> dict[int, LedgerRow]:
        """Return the rows of a producer by how many hours ago they are."""
        rows = [row for row in by_hour(self.client, since=since) if row.producer_id == producer]
        return {round((THIS_HOUR - row.hour) / timedelta(hours=1)): row for row in rows if row.hour}


@pytest.fixture(scope="module")
def told(settings: Settings) -> Iterator[Told]:
    """One database for all stories: every test only reads, and may do no more."""
    with closing(connect(settings)) as writer, closing(connect(settings, readonly=True)) as reader:
        migrations.up(writer)
        before = ledger(reader)
        rows = stories()
        models = random_models(rows, 60)
        rows.insert(writer)
        yield Told(reader, before, models)


def test_nobody_has_sent_anything(told: Told) -> None:
    assert told.before == []


def test_a_producer_balances_when_every_number_is_stored(told: Told) -> None:
    row = told["fine"]
    assert (row.accepted, row.stored, row.missing, row.balanced) == (3, 3, 0, True)
    assert (row.tenant, row.app, row.reported) == ("acme", "bot", True)
    assert row.refused == {"negative": 2, "queue_full": 1}


def test_a_number_counts_once_in_the_first_place_where_it_is_found(told: Told) -> None:
    row = told["everywhere"]
    assert (row.stored, row.duplicate, row.dead_lettered) == (2, 1, {"negative_tokens": 1, "other": 1})
    assert row.balanced


def test_a_failed_range_counts_only_what_was_never_seen(told: Told) -> None:
    row = told["failing"]
    assert (row.stored, row.failed, row.missing, row.balanced) == (3, 3, 0, True)


def test_the_last_events_of_a_producer_that_just_ended_are_on_their_way(told: Told) -> None:
    row = told["ended just now"]
    assert (row.final, row.in_flight, row.missing, row.balanced) == (True, 2, 0, True)


def test_what_an_ended_producer_sent_and_nobody_has_is_missing(told: Told) -> None:
    row = told["ended"]
    assert (row.missing, row.in_flight, row.balanced) == (2, 0, False)


def test_what_a_living_producer_sent_may_be_on_its_way(told: Told) -> None:
    row = told["alive"]
    assert (row.in_flight, row.missing, row.balanced) == (3, 0, True)


def test_what_a_living_producer_lost_in_an_hour_long_over_is_missing(told: Told) -> None:
    row = told["alive with a loss"]
    assert (row.missing, row.in_flight, row.balanced) == (1, 0, False)
    assert [row.missing for row in told.hours("alive with a loss").values()] == [1, 0]


def test_a_producer_that_fell_silent_is_not_alive(told: Told) -> None:
    row = told["silent"]
    assert (row.in_flight, row.missing, row.balanced) == (0, 4, False)


def test_a_producer_that_was_killed_is_counted_from_its_numbers(told: Told) -> None:
    row = told["killed"]
    assert (row.reported, row.accepted, row.stored, row.missing, row.balanced) == (False, 5, 3, 2, False)
    row = told["killed after a report"]
    assert (row.reported, row.final, row.accepted, row.missing, row.balanced) == (True, False, 5, 1, False)
    # Started again it is another producer, with an account of its own.
    row = told["started again"]
    assert (row.accepted, row.stored, row.balanced) == (2, 2, True)


def test_more_was_seen_than_the_last_report_says(told: Told) -> None:
    row = told["ahead of its report"]
    assert (row.accepted, row.stored, row.in_flight, row.balanced) == (4, 4, 0, True)


def test_what_names_no_producer_or_has_no_number_is_counted_from_the_log(told: Told) -> None:
    rows = {row.tenant: row for row in ledger(told.client) if row.producer_id == ""}
    assert (rows["acme"].stored, rows["acme"].balanced) == (5, True)
    assert (rows[""].duplicate, rows[""].dead_lettered, rows[""].accepted) == (1, {"undecodable": 1}, 2)


def test_a_number_belongs_to_the_hour_in_which_it_was_first_heard_of(told: Told) -> None:
    counted = {at: (row.accepted, row.stored) for at, row in told.hours("over the hour").items()}
    assert counted == {3: (100, 100), 2: (20, 20)}


@pytest.mark.parametrize("name", ["clock ahead", "clock behind"])
def test_a_producer_whose_clock_is_hours_off_balances_in_every_hour(told: Told, name: str) -> None:
    assert sum(row.accepted for row in told.hours(name).values()) == 5
    assert all(row.balanced for row in told.hours(name).values())


def test_a_replay_of_old_events_is_no_account_of_today(told: Told) -> None:
    assert told.hours("old", since=hour(24)) == {}
    assert [(at, row.stored) for at, row in told.hours("old").items()] == [(40, 3)]


def test_what_was_put_back_or_resolved_later_counts_once_where_it_began(told: Told) -> None:
    assert {at: (r.stored, r.dead_lettered) for at, r in told.hours("put back").items()} == {5: (2, {})}
    assert {at: (r.accepted, r.stored) for at, r in told.hours("rater").items()} == {5: (1, 1)}


def test_what_was_put_back_and_refused_again_counts_once_for_its_last_reason(told: Told) -> None:
    hours = told.hours("put back in vain")
    assert {at: (r.accepted, r.dead_lettered) for at, r in hours.items()} == {5: (1, {"other": 1})}


def test_failures_are_counted_in_the_hours_of_their_numbers(told: Told) -> None:
    assert {at: (r.accepted, r.stored, r.failed) for at, r in told.hours("failing for hours").items()} == {
        3: (7, 4, 3),
        2: (1, 1, 0),
    }


def test_any_order_of_arrival_gives_what_the_definition_says(told: Told) -> None:
    rows = by_hour(told.client)
    for name, model in told.models.items():
        found = {
            20 - round((THIS_HOUR - row.hour) / timedelta(hours=1)): (
                *(row.accepted, row.stored, row.duplicate, sum(row.dead_lettered.values())),
                *(row.failed, row.missing),
            )
            for row in rows
            if row.producer_id == name and row.hour is not None
        }
        assert found == model.hours(), name


@pytest.mark.parametrize("before", [1, 3, 11, 14, 16])
def test_the_hours_since_are_the_same_whatever_came_before_is_not_looked_at(told: Told, before: int) -> None:
    every = [row for row in by_hour(told.client) if row.hour is not None and row.hour >= hour(before)]
    assert by_hour(told.client, since=hour(before) + timedelta(minutes=59)) == every
    assert every


def test_a_producers_account_is_the_sum_of_its_hours(told: Told) -> None:
    total = told["failing for hours"]
    one, other = told.hours("failing for hours").values()
    assert (one.accepted + other.accepted, one.failed + other.failed) == (total.accepted, total.failed)
    assert total.hour is None
    assert replace(total, hour=one.hour) != one


def test_the_ledger_reads_no_event(told: Told) -> None:
    plan = told.client.query("EXPLAIN SELECT * FROM ledger_since(since = '2026-01-01')").result_columns[0]
    read = {line.strip("│├└─ ") for line in plan if "ReadFromMergeTree" in line}
    assert len([line for line in plan if "(by_producer)" in line]) >= 6
    assert {line for line in read if "by_producer" not in line and "dead_letters" not in line} == set()
