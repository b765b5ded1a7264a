"""Demos on recorded reality: what a model upgrade and a harmless change look like from end to end.

``recording``   what was recorded
``app``         an app that replays it, routed by the rollout's commands
``receiver``    the other end of the webhook
``summary``     what came of it, asked of the log and of the store
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from tidegate_infra.demos import app, recording
from tidegate_infra.demos.receiver import Receiver
from tidegate_infra.demos.summary import Summary, summarise
from tidegate_infra.settings import Settings

__all__ = ["DEMOS", "Demo", "Stage", "Summary", "staged"]

_HERE = Path(str(resources.files("tidegate_infra.demos")))

SPEED = 30.0
"""Seconds of event time a second, unless asked for otherwise."""


@dataclass(frozen=True, slots=True)
class Demo:
    """A story with an end that must come.

    Parameters
    ----------
    name
        As ``tidegate up --demo`` knows it.
    title
        The story in a line.
    ends
        State in which the rollout must end.
    """

    name: str
    title: str
    ends: str

    @property
    def spec_file(self) -> Path:
        """The rollout that is applied."""
        return _HERE / f"{self.name}.yaml"


DEMOS = {
    demo.name: demo
    for demo in (
        Demo(
            "model-upgrade",
            "GPT-4 of March 2023 serves; GPT-4 of June 2023 is rolled out, and stops answering.",
            "rolled_back",
        ),
        Demo(
            "healthy",
            "The same model behind a new version of the prompt: nothing gets worse, and it is promoted.",
            "succeeded",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Stage:
    """A demo with its receiver listening; `staged` makes one.

    Parameters
    ----------
    demo
        The story.
    receiver
        Where the stack posts its webhooks.
    """

    demo: Demo
    receiver: Receiver

    @property
    def settings(self) -> Mapping[str, object]:
        """What the stack must be started with."""
        return {
            "watermark": "data",
            "webhook_url": self.receiver.url,
            "webhook_secret": self.receiver.secret,
            "allow_private_webhooks": True,
        }

    def play(self, settings: Settings, *, seed: int, speed: float, say: Callable[[str], None]) -> Summary:
        """Play the demo against a running stack, and say what came of it.

        Parameters
        ----------
        settings
            Of the stack, which was started with `settings` above.
        seed
            Of the order of questions and of the sessions.
        speed
            Seconds of event time a second; 0 is the demo's own.
        say
            Tells a person how far it is.
        """
        say(self.demo.title)
        recorded = recording.load()
        played = app.play(settings, self.demo.spec_file, recorded, seed=seed, speed=speed or SPEED, say=say)
        return summarise(settings, self.demo.spec_file, self.demo.ends, played, self.receiver.deliveries)


@contextmanager
def staged(demo: Demo) -> Iterator[Stage]:
    """Start the demo's receiver for as long as the stack runs."""
    with Receiver() as receiver:
        yield Stage(demo, receiver)
