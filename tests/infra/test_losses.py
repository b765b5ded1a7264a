"""What retention took is told once, in words that help, and the process still ends."""

from types import SimpleNamespace

import pytest
import structlog

from tidegate import codec
from tidegate.errors import DependencyUnavailable
from tidegate.topics import CALLS
from tidegate_infra.kafka import losses
from tidegate_infra.kafka.log import Log, RetentionLoss
from tidegate_infra.settings import Settings

LOSS = RetentionLoss(Log(CALLS, "T", 3, 12, 99), 5, "aggregate")


def test_the_alert_names_who_stopped_what_is_gone_and_how_to_go_on() -> None:
    alert = losses.alert("aggregate", LOSS, 7)
    assert codec.decode(codec.encode(alert)) == alert
    assert (alert.severity, alert.value, alert.unit) == ("critical", 7.0, "events")
    [summary] = alert.annotations
    assert "aggregate has stopped" in summary.value
    assert "offsets 5 to 11 are gone" in summary.value
    assert "--to-offset 12" in summary.value


def test_a_loss_that_was_told_is_not_told_again_and_one_that_cannot_be_is_logged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, sent = [losses.alert("aggregate", LOSS, 7)], []
    process = SimpleNamespace(name="aggregate", settings=Settings(), log=structlog.get_logger())
    monkeypatch.setattr(losses.scan, "records", lambda *_: [(None, one) for one in told])
    monkeypatch.setattr(losses, "send", lambda _, outgoing: sent.extend(outgoing))

    def end() -> None:
        with pytest.raises(RetentionLoss), losses.told(process):
            raise LOSS

    end()
    assert sent == []
    told.clear()
    end()
    assert len(sent) == 1

    def away(*_: object) -> None:
        raise DependencyUnavailable("Kafka is away")

    monkeypatch.setattr(losses, "send", away)
    with structlog.testing.capture_logs() as logged:
        end()
    assert [line["event"] for line in logged] == ["loss_not_told"]
