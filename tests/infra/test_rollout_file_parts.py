"""Several candidates, margins of one step, filters and freezes that come again, as files have them."""

import datetime as dt
import itertools
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.records import Filter, StepOverride
from tidegate_infra.rollout_file import FileError, load
from tidegate_streams.rollouts import freezes
from tidegate_streams.rollouts.soundness import objection

GOOD = """\
apiVersion: tidegate/v1
kind: Rollout
metadata: {name: june-snapshot, tenant: acme, environment: prod, deployment: answers}
strategy: ab
variants:
  march: {role: baseline, model: a}
  june: {role: candidate, model: b}
  july: {role: candidate, model: c}
steps:
  - weight: 60%
    overrides:
      - {name: error_rate, rollbackMargin: 1.5 points}
metrics: [error_rate, latency_us]
filters:
  - {dimension: operation, in: [chat, responses]}
  - {dimension: app, notIn: [nightly]}
freezes:
  - {from: 2026-12-24T18:00Z, to: 2026-12-27T06:00Z}
  - {every: week, from: fri 16:00, to: mon 08:00, timeZone: Europe/Berlin}
  - {every: day, from: 22:00, to: 6:00, timeZone: UTC}
"""
WEEKLY = "  - {every: week, from: fri 16:00, to: mon 08:00, timeZone: Europe/Berlin}\n"
DAY_US = 86_400_000_000
APPLIED_US = int(dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC).timestamp()) * 1_000_000


def at(year, month, day, hour=0, minute=0, *, zone="UTC"):
    time = dt.datetime(year, month, day, hour, minute, tzinfo=ZoneInfo(zone))
    return round(time.timestamp() * 1e6)


def changed(old, new):
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def problems(text):
    with pytest.raises(FileError) as caught:
        load(text, "r.yaml")
    return caught.value.problems


def test_all_of_it_is_read_and_the_stream_would_take_it():
    spec = load(GOOD, "r.yaml", APPLIED_US)
    assert [variant.name for variant in spec.variants if variant.role == "candidate"] == ["june", "july"]
    assert spec.steps[0].overrides == [StepOverride(metric="error_rate", rollback_margin=0.015)]
    assert spec.filters == [
        Filter(dimension="operation", op="in", value=["chat", "responses"]),
        Filter(dimension="app", op="not_in", value=["nightly"]),
    ]
    assert objection(spec) is None


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "path", "message"),
    [
        ("strategy: ab", "strategy: canary", 6, 3, "variants", "june and july are each the candidate"),
        ("model: c", "model: b", 8, 3, "variants.july", "june and july are the same thing"),
        ("model: c", "model: a", 8, 3, "variants.july", "march and july are the same thing"),
        ("july: {role: candidate", "july: {role: baseline", 6, 3, "variants", "march and july are each"),
        ("strategy: ab", "strategy: ab\nonInconclusive: promote", 5, 17, "onInconclusive", "of 2 candidates"),
        ("name: error_rate, r", "name: eror_rate, r", 12, 16, "steps[0].overrides[0].name",
         "none of the rollout's metrics: did you mean error_rate?"),
        ("1.5 points", "1.5 odds", 12, 44, "steps[0].overrides[0].rollbackMargin", "absolute margins: write"),
        ("1.5 points", "3 points", 12, 44, "steps[0].overrides[0].rollbackMargin", "more than 2 points"),
        ("1.5 points", "-1 points", 12, 44, "steps[0].overrides[0].rollbackMargin", "the wrong sign"),
        (", rollbackMargin: 1.5 points", "", 12, 9, "steps[0].overrides[0]", "rollbackMargin is missing"),
        ("1.5 points}", "1.5 points, promotionMargin: 5 points}", 12, 73,
         "steps[0].overrides[0].promotionMargin", "promotion is asked once"),
        ("operation, in", "request_model, in", 15, 17, "filters[0].dimension", "use one of app, operation"),
        ("in: [chat, responses]", "in: []", 15, 32, "filters[0].in", "no value"),
        ("in: [chat, responses]", "is: [chat]", 15, 5, "filters[0]", "says `in` or `notIn`"),
        ("in: [chat, responses]", "in: [chat], notIn: [x]", 15, 5, "filters[0]", "one of them"),
        ("every: week", "every: month", 19, 13, "freezes[1].every", "use one of day, week"),
        ("fri 16:00", "16:00", 19, 25, "freezes[1].from", "no time of a week: write it as fri 16:00"),
        ("mon 08:00", "mon 25:00", 19, 40, "freezes[1].to", "no time of a week"),
        ("mon 08:00", "fri 16:00", 19, 5, "freezes[1]", "it lasts a whole week, every week"),
        ("Europe/Berlin", "Europe/Bielefeld", 19, 61, "freezes[1].timeZone", "no known time zone"),
        (", timeZone: UTC", "", 20, 5, "freezes[2]", "timeZone is missing"),
        ("from: 22:00", "from: mon 22:00", 20, 24, "freezes[2].from", "no time of a day: write it as 22:00"),
        ("name: error_rate, rollbackMargin: 1.5 points}\nmetrics: [",
         "name: x, rollbackMargin: 1.5 points}\nmetrics: [error_rate, ", 12, 16,
         "steps[0].overrides[0].name", "the rollout's metrics: use one of error_rate, latency_us"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_where_it_stands(old, new, line, column, path, message):
    found = problems(changed(old, new))
    assert (found[0].line, found[0].column, found[0].path) == (line, column, path)
    assert message in found[0].message


def test_mistakes_of_all_parts_are_named_at_once():
    text = changed("strategy: ab", "strategy: canary").replace("1.5 points", "9 points")
    text = text.replace("operation, in", "provider, in").replace("fri 16:00", "someday")
    assert [one.line for one in problems(text)] == [6, 12, 15, 19]


def test_a_weekly_freeze_comes_every_week_at_its_local_time_through_changes_of_the_clocks():
    spec = load(GOOD, "r.yaml", APPLIED_US)
    weekly = [one for one in spec.freezes[1:] if one.ends_at - one.starts_at > DAY_US]
    local = ZoneInfo("Europe/Berlin")
    assert (weekly[0].starts_at, weekly[0].ends_at) == (
        at(2026, 3, 6, 16, zone="Europe/Berlin"),
        at(2026, 3, 9, 8, zone="Europe/Berlin"),
    )
    assert 57 <= len(weekly) <= 58
    for one in weekly:
        starts, ends = (dt.datetime.fromtimestamp(us / 1e6, local) for us in (one.starts_at, one.ends_at))
        assert (starts.weekday(), starts.hour, ends.weekday(), ends.hour) == (4, 16, 0, 8)


def test_a_freeze_that_holds_when_the_rollout_is_applied_is_there():
    spec = load(GOOD, "r.yaml", at(2026, 3, 7, 12))
    assert freezes.until(spec.freezes, at(2026, 3, 7, 12)) == at(2026, 3, 9, 8, zone="Europe/Berlin")


def test_where_the_clocks_are_changed_the_longer_reading_holds():
    text = changed("from: 22:00, to: 6:00, timeZone: UTC", "from: 2:30, to: 2:45, timeZone: Europe/Berlin")
    spec = load(text.replace(WEEKLY, ""), "r.yaml", at(2026, 3, 28))
    (spring,) = [one for one in spec.freezes if at(2026, 3, 29) < one.starts_at < at(2026, 3, 30)]
    assert spring.ends_at - spring.starts_at > 900_000_000
    assert freezes.until(spec.freezes, at(2026, 10, 25, 0, 30)) == at(2026, 10, 25, 1, 45)


def test_the_same_file_is_the_same_plan_whenever_it_is_applied_and_another_freeze_another():
    spec = load(GOOD, "r.yaml", APPLIED_US)
    later = load(GOOD, "r.yaml", APPLIED_US + 9 * DAY_US)
    assert later.freezes != spec.freezes
    assert later.spec_hash == spec.spec_hash
    assert load(changed("fri 16:00", "fri 17:00"), "r.yaml", APPLIED_US).spec_hash != spec.spec_hash


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 4 * 365 * DAY_US),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"]),
    st.tuples(st.integers(0, 23), st.integers(0, 59)),
    st.tuples(st.integers(0, 23), st.integers(0, 59)),
)
def test_daily_freezes_are_in_order_of_about_their_length_and_cover_the_year(after_us, zone, starts, ends):
    if starts == ends:
        return
    written = "from: {:02}:{:02}, to: {:02}:{:02}".format(*starts, *ends)
    text = changed("from: 22:00, to: 6:00, timeZone: UTC", f"{written}, timeZone: {zone}")
    text = text.replace(WEEKLY, "")
    applied_us = at(2010, 1, 1) + after_us
    found = load(text, "r.yaml", applied_us).freezes[1:]
    assert 398 <= len(found) <= 402
    lasts_us = ((ends[0] - starts[0]) * 60 + ends[1] - starts[1]) % 1_440 * 60_000_000
    for one, following in itertools.pairwise(found):
        assert one.starts_at < following.starts_at
        # A day may be skipped at the date line, an hour by the clocks.
        assert lasts_us - 3_600_000_000 <= one.ends_at - one.starts_at <= lasts_us + DAY_US + 7_200_000_000
    assert found[0].ends_at > applied_us
    assert found[-1].starts_at > applied_us + 397 * DAY_US
