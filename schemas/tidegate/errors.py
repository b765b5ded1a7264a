"""Every error Tidegate raises on purpose.

::

    TidegateError
    ├── ConfigError            yours: settings or a file you wrote      exit 3
    ├── ContractError          the bytes are not a record we know        dead-lettered
    │   └── InvalidRecord      a record breaks a rule of the contract    dead-lettered
    ├── DependencyUnavailable  Kafka or ClickHouse does not answer       exit 4, retry
    ├── Refused                asked for something unsafe                exit 5
    └── InvariantBroken        ours: stop rather than count wrongly      exit 70

A message says what happened, the value, and what to do next.
"""


class TidegateError(Exception):
    """Root of the tree above; `exit_code` is what the command line ends with."""

    exit_code = 1


class ConfigError(TidegateError):
    """A setting or a user's file is wrong; nothing was started or applied."""

    exit_code = 3


class ContractError(TidegateError):
    """Bytes that are no record of the contract.

    Parameters
    ----------
    reason
        One of the closed list in `tidegate.codec.REASONS`; it becomes a metric label.
    detail
        What was found, in a sentence.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class InvalidRecord(ContractError):
    """A readable record that breaks a rule, such as a negative duration."""


class DependencyUnavailable(TidegateError):
    """Kafka or ClickHouse cannot be reached; trying again later may help."""

    exit_code = 4


class Refused(TidegateError):
    """The request is understood and unsafe; say `--yes` or `--force` where the message offers it."""

    exit_code = 5


class InvariantBroken(TidegateError):
    """Going on would count wrongly, so the process stops; restarting it redoes the work from the log."""

    exit_code = 70
