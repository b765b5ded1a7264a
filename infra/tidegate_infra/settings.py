"""Where things are: from flags, a named context, ``TIDEGATE_*`` variables, a local stack's file and defaults.

What is acceptable (rollouts, alert policies) stands in files under review, not in settings.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict
from pydantic_settings import PydanticBaseSettingsSource as Source

from tidegate.errors import ConfigError
from tidegate_infra import wrong_settings

if TYPE_CHECKING:
    from tidegate_infra.contexts import Context

PREFIX = "TIDEGATE_"
STACK_FILE = "stack.json"
_OF_A_STACK = "stack file"

WHERE = (
    "kafka",
    "kafka_security_protocol",
    "kafka_sasl_mechanism",
    "kafka_username",
    "kafka_ca",
    "clickhouse",
    "clickhouse_user",
    "clickhouse_ca",
    "topic_prefix",
    "schema_registry_url",
    "data_dir",
)
"""Settings that say where something is and as whom, without secrets."""

Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]


class Incomplete(ConfigError):
    """Settings that are right as far as they go.

    Parameters
    ----------
    settings
        As far as they go.
    gaps
        What is missing, one a line.
    """

    def __init__(self, settings: "Settings", gaps: Sequence[str]) -> None:
        super().__init__("\n  ".join(["settings are missing:", *gaps]))
        self.settings = settings


class Settings(BaseSettings):
    """Every setting of the server side; each is also a variable, ``TIDEGATE_`` and its name in capitals.

    Parameters
    ----------
    kafka
        Bootstrap servers, ``host:port``, separated by commas, without user or password.
    kafka_security_protocol, kafka_sasl_mechanism, kafka_username, kafka_password, kafka_ca
        How to reach a secured Kafka; `kafka_ca` is the path of a PEM file.
    kafka_session_ms
        How long Kafka waits for a sign of life before it gives a process's partitions to another, in
        milliseconds. Brokers allow no less than 6000 unless they are told so.
    clickhouse
        ``http://host:port/database`` or ``https://…``, without user or password.
    clickhouse_user, clickhouse_password
        Who writes to ClickHouse.
    clickhouse_ca
        Path of a PEM file with who signed ClickHouse's certificate, unless a public authority did.
    clickhouse_reader_password
        Of the embedded store's user ``reader``, who only asks. While the writer needs no password, nor does
        the reader; when the writer has one, there is no reader without one.
    topic_prefix
        Put before the name of every topic and consumer group.
    data_dir
        Where a local stack lives.
    watermark
        ``clock``: idle partitions follow the clock, for live traffic. ``data``: event time moves by events
        alone, for replays of the past.
    watermark_delay_us
        How far the watermark stays behind the latest event, in microseconds.
    allowed_lateness_us
        How long after its end a window still takes corrections, in microseconds.
    range_ms
        How long stage 1 collects events before it writes a range, in milliseconds.
    sink_range_rows, sink_range_ms
        A sink writes after this many rows or milliseconds, whichever comes first.
    duplicate_block
        Duplicates are found within this many offsets of a partition, at least.
    series_cap
        Live series per shard and pane; the rest is counted in one overflow series.
    brake_share
        Stage 1 stops when more than this share of a thousand messages or more is invalid, rather than drain
        a broken producer into the dead letters; 1 never stops.
    health_host, health_port
        Address of ``/livez``, ``/readyz`` and ``/metrics``. In a container say 0.0.0.0; port 0 takes a free
        one, and the log says which.
    allow_private_webhooks
        Whether webhooks and channels may call every address, loopback and private ones among them.
    webhook_url, webhook_secret
        Where alerts and commands are posted, and the key that signs them (``whsec_`` and base64).
    webhook_old_secret
        While keys are exchanged, the one that receivers still know: it signs too.
    channels
        Path of a file of channels: who else is told, and of what (`docs/channels.md`).
    runbooks
        Address under which `docs/runbooks` is published; alerts that name no runbook are told with its pages.
    schema_registry_url
        Confluent-compatible registry, an address without user, password or query; without one, records name
        their schema by fingerprint.
    log_level, log_json
        What is logged, and whether as JSON lines.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    kafka: str = "127.0.0.1:9092"
    kafka_security_protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_username: str = ""
    kafka_password: SecretStr = SecretStr("")
    kafka_ca: Path | None = None
    kafka_session_ms: Annotated[int, Field(ge=1_000)] = 6_000
    clickhouse: str = "http://127.0.0.1:8123/tidegate"
    clickhouse_user: str = "default"
    clickhouse_password: SecretStr = SecretStr("")
    clickhouse_ca: Path | None = None
    clickhouse_reader_password: SecretStr = SecretStr("")
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$")] = ""
    data_dir: Path = Path(".tidegate")
    watermark: Literal["clock", "data"] = "clock"
    watermark_delay_us: Natural = 2_000_000
    allowed_lateness_us: Natural = 600_000_000
    range_ms: Positive = 500
    sink_range_rows: Positive = 100_000
    sink_range_ms: Positive = 2_000
    duplicate_block: Positive = 2**17
    series_cap: Positive = 100_000
    brake_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    health_host: str = "127.0.0.1"
    health_port: Port = 0
    allow_private_webhooks: bool = False
    webhook_url: str = ""
    webhook_secret: SecretStr = SecretStr("")
    webhook_old_secret: SecretStr = SecretStr("")
    channels: Path | None = None
    runbooks: str = ""
    schema_registry_url: str = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_json: bool = False

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)
    _context: str = PrivateAttr(default="")

    @classmethod
    def load(cls, **flags: object) -> Self:
        """Read the settings of this process.

        Parameters
        ----------
        flags
            What the command line says, by field name; None means not said. A `data_dir` here or in
            ``TIDEGATE_DATA_DIR`` adds the settings of the local stack that lives there.

        Raises
        ------
        ConfigError
            Every wrong or unknown setting, one a line; `Incomplete` when something is missing only.
        """
        return cls._load(flags, stack_only=False)

    @classmethod
    def load_here(cls) -> Self:
        """Read the settings of this process, and below them those of a stack that runs in this directory."""
        return cls._load({}, stack_only=False, data_dir=cls.model_fields["data_dir"].default)

    @classmethod
    def in_context(cls, context: "Context") -> Self:
        """Read the settings of a named place.

        What says where comes from it alone, so that no two places are mixed up; what it leaves out has its
        default. Variables say the rest, secrets among it.
        """
        return cls._load({}, stack_only=False, context=context)

    @classmethod
    def _load(
        cls,
        flags: Mapping[str, object],
        *,
        stack_only: bool,
        data_dir: Path | None = None,
        context: "Context | None" = None,
    ) -> Self:
        said = {name: value for name, value in flags.items() if value is not None}
        named: dict[str, object] = {} if context is None else dict(context.where)
        is_place_named = stack_only or context is not None
        environment = {
            name: value
            for name, value in EnvSettingsSource(cls)().items()
            if not (is_place_named and name in WHERE)
        }
        where = (said | named).get("data_dir", environment.get("data_dir", data_dir))
        file = Path(str(where), STACK_FILE).absolute() if where else None
        stack = (_stack_settings(file), lambda _: f"{_OF_A_STACK} {file}")
        place = (named, lambda _: "" if context is None else context.origin)
        variables = (environment, lambda name: f"env {PREFIX}{name.upper()}")
        others = [stack, variables] if stack_only else [place, variables, stack]
        layers = [(said, lambda name: f"flag --{name.replace('_', '-')}"), *others]
        merged = {name: value for values, _ in reversed(layers) for name, value in values.items()}
        origins = {name: origin(name) for values, origin in reversed(layers) for name in values}
        problems = wrong_settings.unknown_variables(os.environ, cls, PREFIX)
        try:
            settings = cls(**merged)
        except ValidationError as error:
            problems += wrong_settings.lines(error, merged, origins, cls)
        if problems:
            count = "1 setting is" if len(problems) == 1 else f"{len(problems)} settings are"
            raise ConfigError("\n  ".join([f"{count} wrong:", *problems]))
        settings._origins.update(origins)
        settings._context = "" if context is None else context.name
        if gaps := settings._gaps():
            raise Incomplete(settings, gaps)
        return settings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - theirs to give
        init_settings: Source,
        *_: Source,
        **__: Source,
    ) -> tuple[Source, ...]:
        """Read nothing but what is given: `_load` puts the sources together, and notes which was which."""
        return (init_settings,)

    @classmethod
    def refusals(cls, values: Mapping[str, object]) -> dict[str, str]:
        """Return, of values by name, why each that no such setting can have is wrong."""
        try:
            cls.model_validate(values)
        except ValidationError as error:
            return wrong_settings.by_name(error, values, cls)
        return {}

    @classmethod
    def for_data_dir(cls, data_dir: Path, **flags: object) -> Self:
        """Read the settings of the local stack that runs in `data_dir`; variables say what it leaves out.

        Those that say where are not among them.

        Raises
        ------
        ConfigError
            No stack runs there, or a setting is wrong.
        """
        if not (data_dir / STACK_FILE).exists():
            raise none_runs(data_dir)
        return cls._load({"data_dir": data_dir, **flags}, stack_only=True)

    @property
    def are_of_a_stack(self) -> bool:
        """Whether the file of a local stack says where Kafka is."""
        return self.origin("kafka").startswith(_OF_A_STACK)

    def origin(self, name: str) -> str:
        """Say where a value comes from: a flag, a variable, the stack's file or the default."""
        return self._origins.get(name, "default")

    def said(self, address: str) -> str:
        """Return an address as commands say it that change something there: with the context's name."""
        return f"{address} (context {self._context})" if self._context else address

    def shown(self, name: str) -> str:
        """Return a value as it may be printed: secrets as stars, of a webhook only the host and port."""
        value = getattr(self, name)
        if name == "webhook_url" and value:
            return f"{urlsplit(value).scheme}://{urlsplit(value).netloc.rpartition('@')[2]}/…"
        return "" if value is None else str(value)

    def environment(self) -> dict[str, str]:
        """Return the variables, secrets included, that give a child process these settings."""
        return {PREFIX + name.upper(): _plain(getattr(self, name)) for name in self._changed()}

    def public(self) -> dict[str, str]:
        """Return what differs from the defaults, without secrets, as a stack's file keeps it."""
        # Without its secret the webhook's address is incomplete; only the process that posts needs both.
        values = {name: getattr(self, name) for name in self._changed() if name != "webhook_url"}
        return {name: _plain(value) for name, value in values.items() if not isinstance(value, SecretStr)}

    def _changed(self) -> list[str]:
        return [
            name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default
        ]

    def hide(self, text: str) -> str:
        """Replace every secret of these settings in a text that is about to be printed."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr) and (secret := value.get_secret_value()):
                text = text.replace(secret, "***").replace(json.dumps(secret)[1:-1], "***")
        return text

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("channels")
    @classmethod
    def _whole(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @field_validator("kafka")
    @classmethod
    def _servers(cls, value: str) -> str:
        if "@" in value:
            raise ValueError(
                "should name no user or password: they belong in TIDEGATE_KAFKA_USERNAME and "
                "TIDEGATE_KAFKA_PASSWORD"
            )
        if not re.fullmatch(r"[^\s,/]+:\d+(,[^\s,/]+:\d+)*", value):
            raise ValueError("should be host:port, several separated by commas")
        return value

    @field_validator("clickhouse")
    @classmethod
    def _dsn(cls, value: str) -> str:
        if "@" in value:
            raise ValueError(
                "should name no user or password: they belong in TIDEGATE_CLICKHOUSE_USER and "
                "TIDEGATE_CLICKHOUSE_PASSWORD"
            )
        if not re.fullmatch(r"https?://[^\s/?#]+/\w+", value):
            raise ValueError("should be http://host:port/database")
        return value

    @field_validator("schema_registry_url")
    @classmethod
    def _registry(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s?#@]+", value):
            raise ValueError("should be an http:// or https:// address without user, password or query")
        return value

    @field_validator("runbooks")
    @classmethod
    def _pages(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s?#@]+/", value):
            raise ValueError("should be an http:// or https:// address that ends in a slash")
        return value

    @field_validator("webhook_url")
    @classmethod
    def _url(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s/?#@]+([/?]\S*)?", value):
            raise ValueError("should be an http:// or https:// address without user or password")
        return value

    def _gaps(self) -> list[str]:
        gaps = []
        if self.kafka_security_protocol.startswith("sasl"):
            why = f"kafka_security_protocol {self.kafka_security_protocol} needs it"
            gaps += [
                f"{PREFIX}{name.upper()}: {why}"
                for name in ("kafka_username", "kafka_password")
                if not _plain(getattr(self, name))
            ]
        if self.webhook_url and not self.webhook_secret.get_secret_value():
            gaps.append("TIDEGATE_WEBHOOK_SECRET: it signs what is sent to webhook_url")
        return gaps


def none_runs(data_dir: Path) -> ConfigError:
    """Return the error that says that no local stack runs in a directory."""
    return ConfigError(f"no stack runs in {data_dir}: start it with `tidegate up --data-dir {data_dir}`")


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _stack_settings(file: Path | None) -> dict[str, Any]:
    if file is None or not file.exists():
        return {}
    try:
        settings = json.loads(file.read_text())["settings"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{file} is damaged ({error}): `tidegate down --data-dir {file.parent}` removes it"
        ) from None
    return dict(settings)
