"""The command line, ``tidegate``: one module a noun, imported when the noun is said."""

import logging
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    warnings = logging.StreamHandler()
    warnings.addFilter(_is_worth_saying)
    warnings.addFilter(_Once())
    logging.getLogger().addHandler(warnings)
    try:
        from tidegate_infra.cli.app import app

        app()
    except KeyboardInterrupt:
        # Before the commands are there, which end so themselves.
        sys.exit(130)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.startswith("tidegate"):
            raise
        print(  # noqa: T201 - nothing nicer can be imported
            f"tidegate: the module {missing.name} is missing, since the base install is the client alone: "
            "pip install 'tidegate[server]'",
            file=sys.stderr,
        )
        sys.exit(3)


def _is_worth_saying(record: logging.LogRecord) -> bool:
    # Kafka's and the client's loggers repeat every failed connection; the line that a command ends with says
    # it better. Long-running processes replace this handler by their own.
    return record.name.partition(".")[0] != "tidegate"


class _Once(logging.Filter):
    """Lets the same words through once: a command may read a topic several times."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        words = record.getMessage()
        is_new = words not in self._said
        self._said.add(words)
        return is_new
