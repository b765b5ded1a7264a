"""Loopback ports for servers that this machine's stacks start."""

import random
import socket

from tidegate.errors import ConfigError

# Below the range from which Linux (32768+) and macOS (49152+) draw the local ports of outgoing connections: a
# client that retries a dead server on a port of that range can connect to itself, and then the server
# never gets its port back.
_LOWEST, _HIGHEST = 20_000, 32_000


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a port that nobody listens on; another process may still take it first."""
    chooser = random.SystemRandom()
    while not is_free(port := chooser.randrange(_LOWEST, _HIGHEST)):
        pass
    return port


def choose(wanted: int, what: str, previous: int | None = None, flag: str = "") -> int:
    """Return the port to listen on: `wanted`, or with 0 the `previous` one if it is free, or any free one.

    Who wants a port has said so by `flag`.

    Raises
    ------
    ConfigError
        Somebody else listens on the wanted port.
    """
    if wanted:
        if not is_free(wanted):
            raise ConfigError(
                f"port {wanted} for {what} is in use: stop what listens there, or choose another with {flag}"
            )
        return wanted
    return previous if previous and is_free(previous) else free_port()
