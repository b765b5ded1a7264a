from dataclasses import dataclass, field
from typing import Any

from tidegate.errors import ConfigError, DependencyUnavailable
from tidegate_infra.health import STALLED
from tidegate_infra.stack.member import Member


@dataclass
class FakeProcess:
    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode

    def kill(self) -> None:
        self.returncode = -9


@dataclass
class FakeChild:
    process: Any
    answer: tuple[bool, str] = (False, "starting")

    def health(self) -> tuple[bool, str]:
        return self.answer

    def last_words(self) -> str:
        return "out of memory"


@dataclass
class World:
    now: float = 0.0
    launched: list[FakeChild] = field(default_factory=list)
    refusal: Exception | None = None

    def launch(self) -> FakeChild:
        if self.refusal is not None:
            raise self.refusal
        self.launched.append(FakeChild(FakeProcess(pid=100 + len(self.launched))))
        return self.launched[-1]

    def member(self) -> Member:
        return Member("sink", self.launch, clock=lambda: self.now)


def test_a_child_is_starting_until_it_says_that_it_is_ready() -> None:
    world = World()
    member = world.member()
    assert member.turn()
    assert (member.status.state, member.status.pid) == ("starting", 100)
    assert not member.turn()
    world.launched[0].answer = (False, "replaying the journal")
    assert member.turn()
    assert (member.status.state, member.status.detail) == ("starting", "replaying the journal")
    world.launched[0].answer = (True, "ready")
    assert member.turn()
    assert (member.status.state, member.status.detail) == ("ready", "")


def test_a_ready_child_that_cannot_work_is_waiting_and_is_left_alone() -> None:
    world = World()
    member = world.member()
    member.turn()
    world.launched[0].answer = (True, "ready")
    member.turn()
    world.launched[0].answer = (False, "ClickHouse does not answer")
    world.now = 1.0
    assert member.turn()
    assert (member.status.state, member.status.detail) == ("waiting", "ClickHouse does not answer")
    assert len(world.launched) == 1


def test_a_child_whose_loop_stands_still_is_killed_and_started_again() -> None:
    world = World()
    member = world.member()
    member.turn()
    world.launched[0].answer = (True, "ready")
    member.turn()
    world.launched[0].answer = (False, f"{STALLED}: no turn for over 60 s")
    world.now = 1.0
    member.turn()
    member.turn()
    assert member.status.state == "restarting"
    world.now = 60.0
    member.turn()
    assert len(world.launched) == 2


def test_a_child_that_keeps_dying_is_started_again_after_ever_longer_pauses() -> None:
    world = World()
    member = world.member()
    pauses = []
    for _ in range(9):
        member.turn()
        world.launched[-1].process.returncode = 137
        member.turn()
        died_at = world.now
        assert (member.status.state, member.status.pid) == ("restarting", None)
        while member.child is None:
            world.now += 0.25
            member.turn()
        pauses.append(world.now - died_at)
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert member.status.restarts == 9


def test_a_child_that_was_ready_for_a_while_starts_again_quickly() -> None:
    world = World()
    member = world.member()
    for ready_seconds in (1, 1, 30):
        member.turn()
        world.launched[-1].answer = (True, "ready")
        member.turn()
        world.now += ready_seconds
        world.launched[-1].process.returncode = -9
        member.turn()
        world.now += 100
    assert member.status.detail == "sink was killed by SIGKILL; again in 0.5 s"


def test_a_start_that_is_refused_is_tried_again_with_the_refusal_as_detail() -> None:
    world = World(refusal=ConfigError("port 1 is in use"))
    member = world.member()
    member.turn()
    assert member.error is world.refusal
    assert member.status.detail == "port 1 is in use; again in 0.5 s"
    world.refusal = None
    world.now = 0.5
    member.turn()
    assert member.status.state == "starting"


def test_the_exit_code_says_whose_fault_the_end_was() -> None:
    for code, kind in (
        (3, ConfigError),
        (2, ConfigError),
        (4, DependencyUnavailable),
        (-9, DependencyUnavailable),
    ):
        world = World()
        member = world.member()
        member.turn()
        world.launched[0].process.returncode = code
        member.turn()
        assert type(member.error) is kind
