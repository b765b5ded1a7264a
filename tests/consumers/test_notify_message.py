"""What a webhook is told: complete, or visibly cut; and when it is told again."""

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate.errors import ContractError
from tidegate.records import Evidence, KeyValue, SourceOffset, Weight
from tidegate_consumers.notify.message import LONGEST_BODY_BYTES, message_of
from tidegate_consumers.notify.offsets import Offsets
from tidegate_consumers.notify.schedule import Schedule


def evidence(metric: str, verdict: str = "inconclusive", sentence: str = "So.") -> Evidence:
    return Evidence(
        metric=metric,
        candidate="new",
        verdict=verdict,
        n_baseline=10,
        n_candidate=10,
        unit="share",
        margin_kind="relative",
        rollback_margin=0.1,
        promotion_margin=0.1,
        alpha_rollback=0.05,
        alpha_promotion=0.05,
        sentence=sentence,
    )


def test_a_command_is_posted_whole_under_its_id(command: Any) -> None:
    record = command(evidence=[evidence("error_rate")])
    message = message_of(record)
    payload = json.loads(message.body)
    assert (message.id, message.type) == (record.command_id, "deployment.command")
    assert set(payload) == {"type", "timestamp", "data"}
    assert (payload["type"], payload["timestamp"]) == ("deployment.command", "2025-10-09T08:53:30.000000Z")
    assert payload["data"]["weights"][0]["weight_bp"] == 10_000
    assert payload["data"]["dry_run"] is False
    assert payload["data"]["evidence"][0]["metric"] == "error_rate"
    assert "trimmed" not in payload["data"]


def test_an_alert_has_one_id_for_firing_and_another_for_resolving(alert: Any) -> None:
    fired, over = message_of(alert()), message_of(alert(status="resolved", sequence=4))
    assert (fired.id, over.id) == ("00c0ffee00c0ffee-3", "00c0ffee00c0ffee-4")
    assert fired.type == over.type == "alert"
    assert json.loads(over.body)["data"]["status"] == "resolved"


def test_a_dry_run_is_no_type_that_a_receiver_would_act_on(command: Any, alert: Any) -> None:
    message = message_of(command(dry_run=True))
    assert message.type == json.loads(message.body)["type"] == "deployment.command.dry_run"
    assert json.loads(message.body)["data"]["dry_run"] is True
    assert message_of(alert(dry_run=True)).type == "alert.dry_run"


def test_too_much_evidence_is_cut_visibly_and_failed_metrics_go_last(command: Any) -> None:
    rows = [evidence(f"metric_{i}") for i in range(2_000)] + [evidence("culprit", "fail")]
    data = json.loads(message_of(command(evidence=rows)).body)["data"]
    kept = data["trimmed"]["evidence"]["kept"]
    assert data["trimmed"] == {"evidence": {"kept": kept, "of": 2_001}}
    assert len(data["evidence"]) == kept > 20
    assert data["evidence"][0]["metric"] == "culprit"
    assert len(data["weights"]) == 2


def test_long_texts_are_cut_visibly_before_evidence_is_left_out(command: Any) -> None:
    data = json.loads(message_of(command(reason="because " * 9_000, evidence=[evidence("m")])).body)["data"]
    assert data["trimmed"] == {"texts": ["reason"]}
    assert data["reason"].endswith("…")
    assert len(data["evidence"]) == 1


def test_weights_are_never_cut_and_a_command_that_cannot_fit_is_refused(command: Any) -> None:
    weights = [Weight(variant=f"v{i}", role="candidate", weight_bp=1) for i in range(1_000)]
    with pytest.raises(ContractError, match="20000 bytes"):
        message_of(command(weights=weights))


def test_figures_that_json_has_no_word_for_are_null(command: Any, alert: Any) -> None:
    row = evidence("m")
    row.estimate, row.ci_high = math.nan, math.inf
    data = json.loads(message_of(command(evidence=[row])).body)["data"]
    assert (data["evidence"][0]["estimate"], data["evidence"][0]["ci_high"]) == (None, None)


@pytest.mark.parametrize("hostile", ["", "a\r\nx-evil: 1", "a.b", "ü", "x" * 200, "a b"])
def test_an_id_that_cannot_be_a_header_is_refused(command: Any, alert: Any, hostile: str) -> None:
    with pytest.raises(ContractError, match="invalid_field"):
        message_of(command(command_id=hostile))
    with pytest.raises(ContractError, match="invalid_field"):
        message_of(alert(fingerprint=hostile + "."))


def test_a_time_beyond_the_calendar_is_refused_not_a_crash(command: Any) -> None:
    with pytest.raises(ContractError, match="no time"):
        message_of(command(ts=2**62))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    reason=st.text(max_size=50) | st.text(min_size=1).map(lambda text: text * 3_000),
    rows=st.integers(0, 300),
    sentence=st.text(max_size=400),
    offsets=st.integers(0, 2_000),
)
def test_whatever_a_command_holds_its_body_fits_and_accounts_for_what_is_missing(
    command: Any, reason: str, rows: int, sentence: str, offsets: int
) -> None:
    record = command(
        reason=reason,
        evidence=[evidence(f"m{i}", sentence=sentence) for i in range(rows)],
        offsets=[SourceOffset(topic="t", partition=0, offset=i) for i in range(offsets)],
    )
    message = message_of(record)
    data = json.loads(message.body)["data"]
    trimmed = data.get("trimmed", {})
    assert len(message.body.encode("ascii")) <= LONGEST_BODY_BYTES
    for name, count in (("evidence", rows), ("offsets", offsets)):
        account = trimmed.get(name, {"kept": count, "of": count})
        assert (len(data[name]), count) == (account["kept"], account["of"])
    assert data["reason"] == reason or "reason" in trimmed["texts"]
    assert message_of(record) == message


def test_annotations_of_an_alert_are_cut_but_its_labels_stay(alert: Any) -> None:
    many = [KeyValue(key=f"k{i}", value="v" * 50) for i in range(1_000)]
    data = json.loads(message_of(alert(annotations=many)).body)["data"]
    assert data["trimmed"]["annotations"]["of"] == 1_000
    assert data["labels"] == [{"key": "tenant", "value": "acme"}]


@settings(max_examples=100)
@given(st.integers(1, 7), st.floats(0, 1), st.floats(0, 1e9))
def test_pauses_grow_and_a_receiver_gets_what_it_asks_for_up_to_a_bound(
    failures: int, luck: float, asked_s: float
) -> None:
    schedule = Schedule()
    pause_s = schedule.pause_s(failures, asked_s, luck)
    after_s = schedule.pause_s(failures + 1, 0, luck)
    assert pause_s is not None
    assert pause_s >= min(asked_s, schedule.longest_asked_s)
    assert after_s is None or after_s > (schedule.pause_s(failures, 0, luck) or 0)


def test_a_schedule_comes_to_an_end() -> None:
    assert Schedule(pauses_s=(1, 2)).pause_s(3, asked_s=0, luck=0) is None


@settings(max_examples=100)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_nothing_that_waits_is_ever_committed(gaps: list[int], order: Any) -> None:
    offsets, at, open_ = Offsets(0), -1, []
    for gap in gaps:
        at += gap
        offsets.read(at)
        open_.append(at)
        if order.random() < 0.5:
            offsets.done(open_.pop(order.randrange(len(open_))))
        assert offsets.next == min(open_, default=at + 1)
        assert offsets.waiting == len(open_)
