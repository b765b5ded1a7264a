"""Follows what is decided about a deployment, and says which variant serves a unit."""

import atexit
import os
import threading
import weakref
from collections import deque

from tidegate import topics
from tidegate.assignment import Assignment, assign, mirror, unusable
from tidegate.client.current import current
from tidegate.client.following import Follower
from tidegate.client.notices import Notices
from tidegate.limits import ROUTED, ROUTED_RULE
from tidegate.records import DeploymentCommand
from tidegate.series import deployment_key

_KEPT_REVISIONS = 1_000


class Router:
    """Assigns the variants of one deployment, by the commands on ``llm.deployments``.

    It never waits and never raises: until a command is known, and for a unit that is empty, it says
    `default`. When Kafka goes away it keeps to the last command.

    Parameters
    ----------
    deployment
        The routed thing, as rollouts name it.
    default
        Variant to serve while nothing is known: the one that is known to work.
    tenant, environment
        Whose deployment; those of `tidegate.configure` unless given.
    follow
        False starts no thread: commands then come by `obey`, as in tests and backtests.

    Examples
    --------
    >>> router = Router("support-bot", default="stable", follow=False)
    >>> router.assign("user-17").variant
    'stable'
    """

    def __init__(
        self,
        deployment: str,
        default: str,
        *,
        tenant: str | None = None,
        environment: str | None = None,
        follow: bool = True,
    ) -> None:
        self._deployment = deployment
        self._default = Assignment(deployment, default, "default")
        self._tenant = tenant
        self._environment = environment
        self._follow = follow
        self._notices = Notices()
        if not (isinstance(deployment, str) and ROUTED.fullmatch(deployment)):
            self._notices.warn(
                "name", "no rollout can name deployment %r, the default serves: %s", deployment, ROUTED_RULE
            )
        self._command: DeploymentCommand | None = None
        self._revisions: deque[int] = deque(maxlen=_KEPT_REVISIONS)
        self.reset()
        _routers.add(self)
        self._ensure_follower()

    def reset(self) -> None:
        """Begin without a thread, as a forked child must; the command in force stays."""
        self._follower: Follower | None = None
        self._starting = threading.RLock()

    @property
    def command(self) -> DeploymentCommand | None:
        """The command in force; None until there is one."""
        return self._command

    @property
    def revisions(self) -> tuple[int, ...]:
        """The revisions obeyed so far, oldest first; the last thousand."""
        return tuple(self._revisions)

    def assign(self, unit: str | None) -> Assignment:
        """Return what serves a unit: the same unit gets the same variant while the weights stand.

        Parameters
        ----------
        unit
            Identity of the user, session or request, whatever the rollout's ``assignment_unit`` asks for.
            None or empty gets the default.
        """
        try:
            self._ensure_follower()
            command = self._command
            if command is None or not unit:
                return self._default
            return assign(command, str(unit))
        except Exception as error:  # noqa: BLE001 - a fault here must never reach the app
            self._notices.warn("assign", "the default serves: %s: %s", type(error).__name__, error)
            return self._default

    def mirror(self, unit: str | None) -> Assignment | None:
        """Return the variant to send a copy of a unit's call to, its answer to be thrown away; mostly None.

        A shadow rollout asks for copies of a share of the units. Make the copy under `tidegate.call` with
        this assignment, after the answer is given: it marks the call as shadow traffic.

        Parameters
        ----------
        unit
            As for `assign`.
        """
        try:
            self._ensure_follower()
            command = self._command
            return None if command is None or not unit else mirror(command, str(unit))
        except Exception as error:  # noqa: BLE001 - a fault here must never reach the app
            self._notices.warn("mirror", "nothing is mirrored: %s: %s", type(error).__name__, error)
            return None

    def ready(self, timeout: float = 5.0) -> bool:
        """Wait until all commands that Kafka holds are read; False when time ran out.

        Parameters
        ----------
        timeout
            In seconds.
        """
        self._ensure_follower()
        if not self._follow:
            return True
        return self._follower is not None and self._follower.caught_up.wait(timeout)

    def obey(self, command: DeploymentCommand) -> bool:
        """Take over a command that is for this deployment and newer than the one in force.

        Returns
        -------
        bool
            Whether it is in force now. A dry run never is; a lower revision is old news, however late it
            comes.
        """
        named = (command.deployment, command.tenant, command.environment)
        if named != (
            self._deployment,
            self._tenant or command.tenant,
            self._environment or command.environment,
        ):
            return False
        if command.dry_run or (self._command is not None and command.revision <= self._command.revision):
            return False
        problem = unusable(command)
        if problem is not None:
            self._notices.warn(
                "command", "revision %d of %s is ignored: %s", command.revision, self._deployment, problem
            )
            return False
        self._command = command
        self._revisions.append(command.revision)
        return True

    def close(self) -> None:
        """Stop following; assignments go on by the command in force."""
        self._follow = False
        if self._follower is not None:
            self._follower.stop()

    def _ensure_follower(self) -> None:
        if not self._follow or self._follower is not None:
            return
        configuration = current().configuration
        if configuration is None:
            return
        with self._starting:
            if self._follower is not None:
                return
            key = deployment_key(
                self._tenant or configuration.tenant,
                self._environment or configuration.environment,
                self._deployment,
            )
            follower = Follower(
                configuration, topics.DEPLOYMENTS, key, DeploymentCommand, self.obey, self._notices
            )
            try:
                follower.start()
            except RuntimeError:  # the interpreter is shutting down
                return
            self._follower = follower


_routers: "weakref.WeakSet[Router]" = weakref.WeakSet()


def _close_all() -> None:
    for router in list(_routers):
        router.close()


def _reset_all() -> None:
    for router in list(_routers):
        router.reset()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
