"""Timing a call with a context manager."""

import asyncio
from contextlib import suppress

import pytest

import tidegate
from tidegate.client.timing import Call
from tidegate.testing import capture


class SteppingClock:
    """Goes by the seconds told; its wall clock may be set back."""

    def __init__(self) -> None:
        self.wall_us = 1_772_366_400_000_000
        self.elapsed_us = 0

    def now_us(self) -> int:
        return self.wall_us

    def monotonic_us(self) -> int:
        return self.elapsed_us


def test_a_call_lasts_as_long_as_its_block_even_when_the_wall_clock_is_set_back() -> None:
    clock = SteppingClock()
    with capture() as events:
        with Call({"provider": "openai", "request_model": "gpt-4o"}, None, clock) as c:
            clock.elapsed_us += 300
            c.first_chunk()
            clock.elapsed_us += 700
            c.first_chunk()
            clock.wall_us -= 3_600_000_000
        (call,) = events.calls
    assert (call.ts_end - call.ts_start, call.ttft_us, call.stream, call.status) == (1_000, 300, True, "ok")


PACKAGE = __name__.partition(".")[0]


class RateLimitError(Exception):
    status_code = 429


class APITimeoutError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "status", "error_type", "http_status"),
    [
        (ValueError("prompt"), "error", "ValueError", None),
        (TimeoutError(), "timeout", "TimeoutError", None),
        (APITimeoutError(), "timeout", f"{PACKAGE}.APITimeoutError", None),
        (RateLimitError("prompt"), "rate_limited", f"{PACKAGE}.RateLimitError", 429),
        (asyncio.CancelledError(), "cancelled", "asyncio.CancelledError", None),
        (KeyboardInterrupt(), "cancelled", "KeyboardInterrupt", None),
    ],
)
def test_the_apps_exception_passes_through_and_says_how_the_call_failed(
    error: BaseException, status: str, error_type: str, http_status: int | None
) -> None:
    with capture() as events:
        with pytest.raises(type(error)) as caught, tidegate.call(provider="p", request_model="m"):
            raise error
        (call,) = events.calls
    assert caught.value is error
    assert (call.status, call.error_type, call.http_status) == (status, error_type, http_status)
    assert call.error_message is None, "a provider's message may quote the prompt"


def test_a_status_that_the_app_set_stands() -> None:
    with capture() as events:
        with suppress(ValueError), tidegate.call(provider="p", request_model="m") as c:
            c.record.status = "filtered"
            raise ValueError("blocked")
        assert events.calls[0].status == "filtered"


def test_an_unknown_field_refuses_the_event_and_not_the_call(caplog: pytest.LogCaptureFixture) -> None:
    with capture() as events:
        with tidegate.call(provider="p", request_modl="m") as c:
            answer = c.event_id
        assert answer
        assert events.calls == []
        assert events.dropped == {"unknown_field": 1}
    assert "request_modl: no such field; did you mean request_model?" in caplog.text


def test_a_misspelt_outcome_refuses_the_event_and_names_the_word(caplog: pytest.LogCaptureFixture) -> None:
    with capture() as events:
        for _ in range(3):
            with tidegate.call(provider="p", request_model="m") as c:
                c.record.outcome = "answerd"
        assert events.calls == []
        assert events.dropped == {"wrong_type": 3}
    known = "answered, abstained, refused, empty; did you mean answered?"
    assert [record.getMessage() for record in caplog.records] == [
        f"LLMCall refused: outcome: 'answerd' is none of {known}"
    ]


def test_a_unit_that_only_a_newer_router_knows_refuses_no_call() -> None:
    release = tidegate.Assignment("bot", "v2", "split", assignment_unit="device")
    with capture() as events:
        with tidegate.call(release, provider="p", request_model="m"):
            pass
        assert [call.assignment_unit for call in events.calls] == ["other"]


def test_a_forgotten_model_refuses_the_event_by_name(caplog: pytest.LogCaptureFixture) -> None:
    with capture() as events:
        with tidegate.call(provider="p"):
            pass
        assert events.dropped == {"missing": 1}
    assert "request_model: is missing" in caplog.text


def test_a_call_says_how_it_was_routed() -> None:
    release = tidegate.Assignment(
        deployment="bot",
        variant="v2",
        reason="split",
        revision=7,
        hash=-5,
        experiment="try-v2",
        assignment_unit="user",
    )
    with capture() as events:
        with tidegate.call(release, provider="p", request_model="m"):
            pass
        (call,) = events.calls
    assert (call.deployment, call.variant, call.assignment_reason) == ("bot", "v2", "split")
    assert (call.assignment_revision, call.assignment_hash) == (7, -5)
    assert (call.experiment, call.assignment_unit) == ("try-v2", "user")


def test_what_no_router_assigned_refuses_the_event_and_not_the_call(caplog: pytest.LogCaptureFixture) -> None:
    with capture() as events:
        with tidegate.call("june", provider="p", request_model="m") as c:  # type: ignore[arg-type]
            assert c.event_id
        assert events.dropped == {"wrong_type": 1}
    assert caplog.messages == ["LLMCall refused: assignment: str where what Router.assign returned belongs"]


def test_the_handle_taken_inside_the_block_names_the_route() -> None:
    release = tidegate.Assignment(deployment="bot", variant="v2", reason="split", revision=7)
    with capture() as events:
        with tidegate.call(release, provider="p", request_model="m") as c:
            handle = c.handle
        tidegate.emit(
            tidegate.Feedback(name="helpful", kind="thumbs", value=1, given_by="user"), target=handle
        )
        (rating,) = events.feedback
        assert rating.target_event_id == c.event_id
        assert (rating.series.variant, rating.series.assignment_revision) == ("v2", 7)
