"""A channel: where a receiver is, how it proves who we are, and what it wants to be told."""

import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from tidegate.errors import ConfigError
from tidegate.records import Alert, DeploymentCommand
from tidegate_infra.settings import Settings

WEBHOOK = "webhook"
"""Name of the channel that the settings describe."""

LABELS_OF_FIELDS = ("rule", "severity", "tenant", "fingerprint")
"""Fields of an alert that channels and silences ask for like labels."""


def labels_of(alert: Alert) -> dict[str, str]:
    """Return an alert's labels, with its rule, severity, tenant and fingerprint among them."""
    return {pair.key: pair.value for pair in alert.labels} | {
        name: getattr(alert, name) for name in LABELS_OF_FIELDS
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """Which records a channel is told.

    Parameters
    ----------
    alerts
        Whether alerts are told at all.
    labels
        Label -> the values of which an alert has to have one; all labels have to agree.
    commands
        Whether commands of deployments are told.
    dry_runs
        Whether it is told what changes nothing.
    """

    alerts: bool = True
    labels: Mapping[str, frozenset[str]] = field(default_factory=dict)
    commands: bool = False
    dry_runs: bool = True

    def include(self, record: Alert | DeploymentCommand) -> bool:
        """Whether a record is told."""
        if record.dry_run and not self.dry_runs:
            return False
        if isinstance(record, DeploymentCommand):
            return self.commands
        has = labels_of(record)
        return self.alerts and all(has.get(label) in values for label, values in self.labels.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailing:
    """What an e-mail needs beside a server.

    Parameters
    ----------
    sender, recipients
        Addresses without names.
    user
        Who logs in; nobody if empty.
    tls
        ``starttls``, ``implicit`` from the first byte, or ``none``.
    """

    sender: str
    recipients: tuple[str, ...]
    user: str = ""
    tls: str = "starttls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A receiver.

    Parameters
    ----------
    name
        In the file of channels; it becomes part of a consumer group.
    kind
        One of `tidegate_consumers.notify.kinds.KINDS`.
    url
        Where requests are posted, or ``smtp://host:port``. It may hold a secret.
    secrets
        What proves who we are: signing secrets, of which each signs, a routing key, a token or a password.
    wants
        What it is told.
    own
        It stands in one's own network: private addresses and loopback may be called, and in the clear.
    anywhere
        Every address may be called.
    wait_s
        Alerts that come within so many seconds may be told together.
    mailing
        Of e-mail.
    """

    name: str
    kind: str
    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    wants: Wants = Wants()
    own: bool = False
    anywhere: bool = False
    wait_s: float = 0.0
    mailing: Mailing | None = None

    @property
    def shown(self) -> str:
        """Where it is, as it may be printed: a path is often a password."""
        address = urlsplit(self.url)
        return f"{address.scheme}://{address.netloc.rpartition('@')[2]}/…"

    @property
    def group(self) -> str:
        """Its consumer group: each channel goes through the log at its own pace."""
        return "notify" if self.name == WEBHOOK else f"notify.{self.name}"


def problem_of(url: str, *, in_clear: bool) -> str:
    """Return why nothing can be posted to a URL; empty when it can.

    Parameters
    ----------
    url
        The address.
    in_clear
        Whether alerts may go over the network unencrypted.
    """
    try:
        address = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        return "is no address: write https://host/path"
    if address.scheme not in ("http", "https") or not address.host or address.userinfo:
        return "should be an https:// address without user or password"
    if address.scheme == "http" and not in_clear:
        return "should begin with https://"
    return ""


def secret_problem_of(secret: str) -> str:
    """Return why a secret cannot sign, without quoting it; empty when it can."""
    try:
        Webhook(secret)
    except (binascii.Error, ValueError, EmptyWebhookSecretError):
        return "should be whsec_ and base64, as `openssl rand -base64 32` makes it"
    return ""


def of_settings(settings: Settings) -> Channel:
    """Return the webhook that the settings describe.

    Raises
    ------
    ConfigError
        The address is not https although private receivers are not allowed, or a secret is no base64.
    """
    if words := problem_of(settings.webhook_url, in_clear=settings.allow_private_webhooks):
        raise ConfigError(
            f"TIDEGATE_WEBHOOK_URL {words}. For a receiver in your own network set "
            "TIDEGATE_ALLOW_PRIVATE_WEBHOOKS=true, then http:// will do"
        )
    secrets = []
    for name in ("webhook_secret", "webhook_old_secret"):
        secret = getattr(settings, name).get_secret_value()
        if name == "webhook_old_secret" and not secret:
            continue
        if words := secret_problem_of(secret):
            raise ConfigError(f"TIDEGATE_{name.upper()} {words}")
        secrets.append(secret)
    return Channel(
        name=WEBHOOK,
        kind="webhook",
        url=settings.webhook_url,
        secrets=tuple(secrets),
        wants=Wants(commands=True),
        anywhere=settings.allow_private_webhooks,
    )
