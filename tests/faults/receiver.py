"""The webhook's other end, on a bad day."""

import threading
from http.server import BaseHTTPRequestHandler
from typing import Literal

from tidegate_infra.demos.receiver import Receiver

Mood = Literal["fine", "hang", "refuse"]


class MoodyReceiver(Receiver):
    """A receiver that can be made to hang, or to refuse what it gets."""

    mood: Mood = "fine"

    def __init__(self) -> None:
        self._released = threading.Event()
        super().__init__()

    def be(self, mood: Mood) -> None:
        """Change; whoever hangs is released, and gets no answer."""
        self.mood = mood
        self._released.set()
        self._released = threading.Event()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver, usual = self, super()._handler()

        class Moody(usual):  # type: ignore[misc, valid-type]
            def do_POST(self) -> None:  # noqa: N802 - the base class's
                if receiver.mood == "hang":
                    receiver._released.wait(60)
                    self.close_connection = True
                elif receiver.mood == "refuse":
                    self.rfile.read(int(self.headers.get("content-length", 0)))
                    self.send_response(503)
                    self.end_headers()
                else:
                    super().do_POST()

        return Moody
