"""What the command line takes from other packages by its name, so that it imports no processor."""

from importlib.metadata import entry_points
from typing import Any

from tidegate.errors import ConfigError

ENTRY_POINTS = "tidegate.commands"

INSTALLED = "installed"
"""In place of a module: the command is found among the entry points."""


def find(name: str) -> Any:
    """Return what an installed package has for a command.

    Raises
    ------
    ConfigError
        None has anything.
    """
    found = next(iter(entry_points(group=ENTRY_POINTS, name=name)), None)
    if found is None:
        raise ConfigError(
            f"nothing that is installed answers {name!r}: install Tidegate again, `make setup` in a checkout"
        )
    return found.load()
