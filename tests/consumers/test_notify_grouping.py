"""A flood is told in a few messages, every alert is in one of them, and each is resolved as it was told."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.records import Alert
from tidegate_consumers.notify.grouping import MOST_ALONE, MOST_MESSAGES, Groups, rounds
from tidegate_consumers.notify.parcel import Parcel
from tidegate_consumers.notify.silences import is_held, was_held
from tidegate_consumers.notify.standing import Standing


def firing(alert: Any, count: int, **changes: Any) -> list[Alert]:
    return [alert(fingerprint=f"{i:016x}", sequence=1, **changes) for i in range(count)]


def over(alerts: list[Alert]) -> list[Alert]:
    return [dataclasses.replace(one, status="resolved", sequence=one.sequence + 1) for one in alerts]


def told(parcels: list[Parcel]) -> list[int]:
    return [len(parcel.records) for parcel in parcels]


def test_a_few_are_told_each_for_itself(alert: Any) -> None:
    groups = Groups()
    few = firing(alert, MOST_ALONE)
    assert told(groups.parcels(few)) == [1] * MOST_ALONE
    assert told(groups.parcels(over(few))) == [1] * MOST_ALONE


def test_ten_thousand_at_once_are_one_message_and_one_when_they_are_over(alert: Any) -> None:
    groups = Groups()
    flood = firing(alert, 10_000)
    [begun] = groups.parcels(flood)
    assert (len(begun.records), begun.left) == (10_000, 10_000)
    [half] = groups.parcels(over(flood[:4_000]))
    [end] = groups.parcels(over(flood[4_000:]))
    assert (half.group, half.left, end.group, end.left) == (begun.group, 6_000, begun.group, 0)
    # The next flood of its kind begins anew.
    assert told(groups.parcels(firing(alert, 3))) == [1, 1, 1]


def test_what_comes_to_a_flood_later_joins_it(alert: Any) -> None:
    groups = Groups()
    [begun] = groups.parcels(firing(alert, 50))
    [more] = groups.parcels([alert(fingerprint="feed", sequence=1)])
    assert (more.group, more.left) == (begun.group, 51)


def test_a_flood_of_ten_thousand_tenants_or_rules_is_a_few_messages_too(alert: Any) -> None:
    for field in ("tenant", "rule"):
        flood = [
            dataclasses.replace(one, **{field: f"{field}-{i}"}) for i, one in enumerate(firing(alert, 10_000))
        ]
        groups = Groups()
        parcels = groups.parcels(flood)
        assert len(parcels) <= MOST_MESSAGES
        assert sum(told(parcels)) == 10_000
        assert sum(told(groups.parcels(over(flood)))) == 10_000


def test_after_a_restart_many_that_fire_are_taken_for_a_group_and_it_is_said(alert: Any) -> None:
    groups = Groups()
    flood = firing(alert, 50)
    groups.assume(flood)
    [alone] = groups.parcels([alert(fingerprint="feed", sequence=1)])
    assert alone.group == "", "what begins now is told in full"
    [end] = groups.parcels(over(flood))
    assert (end.left, end.assumed) == (0, True)
    assert end.group == Groups().parcels(flood)[0].group


changes = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from(["a", "b", "c"]), st.sampled_from(["firing", "resolved"])),
    max_size=120,
)


@settings(max_examples=80, deadline=None)
@given(changes, st.integers(1, 40))
def test_every_change_is_told_once_and_those_of_an_alert_in_their_order(
    log: list[tuple[int, str, str]], size: int
) -> None:
    alerts = [
        Alert(
            fingerprint=f"{mark:x}",
            status=status,
            rule=rule,
            rule_hash="",
            severity="error",
            starts_at=0,
            sequence=at,
            tenant="t",
            ts=0,
        )
        for at, (mark, rule, status) in enumerate(log)
    ]
    groups, parcels = Groups(), []
    for at in range(0, len(alerts), size):
        parcels += groups.parcels(alerts[at : at + size])
    said = [alert for parcel in parcels for alert in parcel.alerts]
    assert sorted(alert.sequence for alert in said) == list(range(len(log)))
    for mark in {alert.fingerprint for alert in alerts}:
        order = [alert.sequence for alert in said if alert.fingerprint == mark]
        assert order == sorted(order)
    for parcel in parcels:
        assert len({alert.status for alert in parcel.alerts}) == 1
        assert len({alert.fingerprint for alert in parcel.alerts}) == len(parcel.alerts)


def test_rounds_keep_the_changes_of_an_alert_apart(alert: Any) -> None:
    log = [alert(sequence=i) for i in (1, 2, 3)] + [alert(fingerprint="b")]
    assert [len(changes) for changes in rounds(log)] == [2, 1, 1]


def test_a_repetition_is_no_news_and_the_memory_of_alerts_is_bounded(
    alert: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate_consumers.notify.standing.MOST_KNOWN", 100)
    standing = Standing()
    assert standing.take(alert(sequence=1))
    assert not standing.take(alert(sequence=1))
    assert standing.take(alert(sequence=2, status="resolved"))
    assert not standing.take(alert(sequence=3, status="resolved"))
    assert not standing.firing
    for i in range(110):
        standing.take(alert(fingerprint=f"{i:016x}", status="resolved"))
    assert len(standing._said) == 100


def test_a_silence_holds_what_has_all_its_labels_while_it_lasts(alert: Any, silence: Any) -> None:
    one = alert(ts=150)
    mine = silence(starts_at=100, ends_at=200, ts=100)
    assert is_held(one, [mine], now_us=199)
    assert not is_held(one, [mine], now_us=200)
    assert not is_held(alert(tenant="other"), [mine], now_us=150)
    assert was_held(one, [mine])
    assert not was_held(alert(ts=99), [mine]), "it was told before"
