"""How stage 2 ends when Faust does not stop in time."""

import asyncio
import os

import pytest

from tidegate_infra.process import Process
from tidegate_infra.settings import Settings
from tidegate_streams import app


class Stuck:
    async def stop(self) -> None:
        await asyncio.Event().wait()


class Ended(BaseException):
    """Instead of the end of the tests' own process."""


@pytest.mark.parametrize(("ends", "code"), [({}, 4), ({0: 17}, 70)], ids=["no Kafka", "Kafka"])
def test_only_beside_a_kafka_that_answers_is_a_stop_that_takes_too_long_a_defect(
    ends: dict[int, int], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exited(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr(app, "STOP_SECONDS", 0.01)
    monkeypatch.setattr(app, "_ends", lambda *_: ends)
    monkeypatch.setattr(os, "_exit", exited)
    with pytest.raises(Ended, match=str(code)):
        asyncio.run(app._stop(Process("stream", Settings()), Stuck(), None))
