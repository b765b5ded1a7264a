"""A file of channels: what operators write -> channels, or every mistake at once, each with its line."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml.nodes import SequenceNode

from tidegate_consumers.notify.channel import (
    WEBHOOK,
    Channel,
    Mailing,
    Wants,
    problem_of,
    secret_problem_of,
)
from tidegate_consumers.notify.kinds import KINDS, pagerduty
from tidegate_consumers.notify.notice import SEVERITIES
from tidegate_infra import document
from tidegate_infra.document import Element, FileError, suggestion
from tidegate_infra.rollout_file import quantities
from tidegate_infra.settings import Settings

__all__ = ["FileError", "load", "parse"]

MOST_CHANNELS = 50
WAIT_US = 2_000_000
MOST_WAIT_US = 60_000_000

_BEGINS_WITH = "`apiVersion: tidegate/v1` and `kind: Channels`"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_MAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")
_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:([0-9]{1,5}))?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ROUTING_KEY = re.compile(r"[A-Za-z0-9]{32}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,1000}")
_LONGEST_SECRET_BYTES = 10_000
_TLS = ("starttls", "implicit", "none")


def load(path: Path, settings: Settings) -> list[Channel]:
    """Read a file of channels, and the secrets that it names.

    Parameters
    ----------
    path
        A YAML file of at most 1 MB; files that it names stand beside it unless their path is absolute.
    settings
        Whether every address may be called.

    Raises
    ------
    FileError
        With all problems of the file.
    """
    return parse(document.read(path), str(path), path.parent, settings)


def parse(source: str | bytes, name: str, directory: Path, settings: Settings) -> list[Channel]:
    """Read channels from text; see `load`."""
    _, root = document.compose(source, name, _BEGINS_WITH)
    top = root.section()
    top.required("apiVersion", _one_of("tidegate/v1"), "tidegate/v1")
    top.required("kind", _one_of("Channels"), "Channels")
    listed = top.take("channels")
    channels = []
    if listed is None:
        top.element.complain("channels is missing: add `channels:` and below it a name with `type: slack`")
    else:
        named = list(listed.section())
        if len(named) > MOST_CHANNELS:
            listed.complain(
                f"{len(named)} channels: a process serves {MOST_CHANNELS}, start another with more"
            )
        for title, element in named:
            channels.append(_Entry(title, element, directory, settings).channel())
    top.close()
    if root.problems.found:
        raise FileError(root.problems.found)
    return [channel for channel in channels if channel is not None]


@dataclass(frozen=True, slots=True)
class _Secret:
    """A value, and where it stands."""

    value: str
    element: Element


class _Entry:
    """One channel of the file."""

    def __init__(self, name: str, element: Element, directory: Path, settings: Settings) -> None:
        self._name = name
        self._element = element
        self._directory = directory
        self._anywhere = settings.allow_private_webhooks
        self._section = element.section()

    def channel(self) -> Channel | None:
        section = self._section
        if not _NAME.fullmatch(self._name):
            self._element.complain(f"{self._name[:40]!r} is no name: use up to 63 of a-z, 0-9 and dashes")
        if self._name == WEBHOOK:
            self._element.complain(f"{WEBHOOK} is the one of TIDEGATE_WEBHOOK_URL: take another name")
        kind = section.required("type", _one_of(*KINDS), "slack")
        if kind is None:
            return None
        own = section.optional("private", quantities.flag, False)
        wait_us = section.optional("groupWait", _wait, WAIT_US) if KINDS[kind].groups else 0
        wants = self._wants(kind)
        url, secrets, mailing = self._address(kind, in_clear=own or self._anywhere)
        section.close()
        return Channel(
            name=self._name,
            kind=kind,
            url=url,
            secrets=secrets,
            wants=wants,
            own=own,
            anywhere=self._anywhere,
            wait_s=wait_us / 1e6,
            mailing=mailing,
        )

    def _address(self, kind: str, *, in_clear: bool) -> tuple[str, tuple[str, ...], Mailing | None]:
        section = self._section
        match kind:
            case "email":
                return self._mail(in_clear=in_clear)
            case "pagerduty":
                key = self._secret("routingKey", "{env: PAGERDUTY_KEY}")
                if key and not _ROUTING_KEY.fullmatch(key.value):
                    key.element.complain(
                        "is no routing key: it has 32 letters and digits; take the integration key of an "
                        "`Events API v2` integration"
                    )
                url = section.take("url")
                address = pagerduty.URL if url is None else self._url(url, url.value(str), in_clear)
                return address, (key.value,) if key else (), None
            case "slack" | "teams":
                secret = self._secret("url", f"{{env: {kind.upper()}_URL}}")
                return self._url(secret.element, secret.value, in_clear) if secret else "", (), None
            case "alertmanager":
                element = section.take("url")
                if element is None:
                    self._missing("url", "https://alertmanager.example:9093")
                token = self._secret("token", "") if "token" in section else None
                if token and not _TOKEN.fullmatch(token.value):
                    token.element.complain("is no token: it has letters, digits and signs, and no spaces")
                address = self._url(element, element.value(str), in_clear) if element else ""
                return address, (token.value,) if token else (), None
            case _:
                element = section.take("url")
                if element is None:
                    self._missing("url", "https://hooks.example/tidegate")
                secrets = self._secrets("secret", "{env: HOOK_SECRET}")
                for secret in secrets:
                    if words := secret_problem_of(secret.value):
                        secret.element.complain(words)
                address = self._url(element, self._plain_or_hidden(element), in_clear) if element else ""
                return address, tuple(secret.value for secret in secrets), None

    def _mail(self, *, in_clear: bool) -> tuple[str, tuple[str, ...], Mailing]:
        section = self._section
        server = section.required("server", _server, "smtp.example:587") or ""
        sender = section.required("from", _mail_address, "tidegate@example.com") or ""
        to = section.take("to")
        if to is None:
            self._missing("to", "[on-call@example.com]")
        recipients = [] if to is None else [one.value(_mail_address) or "" for one in _listed(to)]
        if to is not None and not recipients:
            to.complain("nobody is named: write at least one address")
        tls = section.optional("tls", _one_of(*_TLS), "starttls")
        if tls == "none" and not in_clear:
            section.key("tls").complain(
                "alerts go in the clear: only to a server of your own, `private: true`"
            )
        user = section.optional("user", quantities.text, "")
        password = self._secret("password", "") if "password" in section else None
        if user and not password:
            section.key("user").complain("password is missing: add `password: {env: SMTP_PASSWORD}`")
        if password and not user:
            section.key("password").complain("user is missing: add `user: name`")
        if user and tls == "none":
            section.key("user").complain("a password does not go in the clear: use `tls: starttls`")
        mailing = Mailing(sender=sender, recipients=tuple(recipients), user=user, tls=tls)
        return f"smtp://{server}", (password.value,) if password else (), mailing

    def _wants(self, kind: str) -> Wants:
        section = self._section
        takes_commands = KINDS[kind].takes_commands
        commands = section.optional("commands", quantities.flag, False)
        if commands and not takes_commands:
            section.key("commands").complain(f"{kind} takes alerts only: remove it, rollouts send alerts too")
        dry_runs = section.optional("dryRuns", quantities.flag, takes_commands)
        alerts = section.take("alerts")
        if alerts is None or alerts.is_scalar:
            wanted = True if alerts is None else alerts.value(quantities.flag) is not False
            if not (wanted or commands):
                self._element.complain("it is told nothing: remove it, or set `commands: true`")
            return Wants(alerts=wanted, commands=commands, dry_runs=dry_runs)
        asked = alerts.section()
        labels = {}
        for field, parse in (
            ("rule", quantities.text),
            ("severity", _one_of(*SEVERITIES)),
            ("tenant", quantities.text),
        ):
            if (element := asked.take(field)) is not None:
                labels[field] = _values(element, parse)
        if (element := asked.take("labels")) is not None:
            for label, values in element.section():
                labels[label] = _values(values, quantities.text)
        asked.close()
        return Wants(labels=labels, commands=commands, dry_runs=dry_runs)

    def _url(self, element: Element, url: str | None, in_clear: bool) -> str:
        if url is None:
            return ""
        if words := problem_of(url, in_clear=in_clear):
            hint = (
                "; in your own network `private: true` allows http://" if words.endswith("https://") else ""
            )
            element.complain(words + hint)
        return url

    def _plain_or_hidden(self, element: Element) -> str | None:
        if element.is_scalar:
            return element.value(str)
        secret = self._read(element)
        return secret.value if secret else None

    def _secret(self, key: str, example: str) -> _Secret | None:
        element = self._section.take(key)
        if element is None:
            self._missing(key, example)
            return None
        return self._read(element)

    def _secrets(self, key: str, example: str) -> list[_Secret]:
        element = self._section.take(key)
        if element is None:
            self._missing(key, example)
            return []
        return [secret for one in _listed(element) if (secret := self._read(one)) is not None]

    def _missing(self, key: str, example: str) -> None:
        self._element.complain(f"{key} is missing: add `{key}: {example}`")

    def _read(self, element: Element) -> _Secret | None:
        """Fetch a secret from where the file says that it is."""
        if element.is_scalar:
            element.complain(
                "a secret in clear: write {env: NAME} or {file: PATH}, or {value: ...} if this file is secret"
            )
            return None
        section = element.section()
        given = [key for key in ("env", "file", "value") if key in section]
        value = None
        if len(given) != 1:
            element.complain("one of env, file and value says where the secret is")
        if (name := section.take("env")) is not None:
            value = name.value(_variable)
        if (path := section.take("file")) is not None:
            value = path.value(self._file)
        if (clear := section.take("value")) is not None:
            value = clear.value(_filled)
        section.close()
        return None if value is None else _Secret(value, element)

    def _file(self, text: str) -> str:
        path = self._directory / Path(text).expanduser()
        try:
            with path.open("rb") as file:
                value = file.read(_LONGEST_SECRET_BYTES).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            words = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ValueError(f"{path} cannot be read: {words}") from None
        if not value:
            raise ValueError(f"{path} is empty: write the secret into it")
        return value


def _listed(element: Element) -> list[Element]:
    """Return the entries of a list, or a single value as the only one."""
    return element.items() if isinstance(element.node, SequenceNode) else [element]


def _values(element: Element, parse: Callable[[str], str]) -> frozenset[str]:
    entries = _listed(element)
    if not entries:
        element.complain("no value can match: name at least one, or remove the key")
    return frozenset(value for entry in entries if (value := entry.value(parse)) is not None)


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text[:40]!r} is not known: {suggestion(text, words)}")
        return text

    return parse


def _wait(text: str) -> int:
    us = quantities.duration(text)
    if us > MOST_WAIT_US:
        raise ValueError(f"{text!r} is long for an alert: wait at most 1m")
    return us


def _variable(text: str) -> str:
    if not _VARIABLE.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no name of a variable: letters, digits and underscores")
    value = os.environ.get(text, "").strip()
    if not value:
        raise ValueError(f"the variable {text} is not set: set it where notify runs")
    return value


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty: write the secret")
    return text.strip()


def _mail_address(text: str) -> str:
    if not _MAIL.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is no mail address: write name@example.com, without a display name")
    return text


def _server(text: str) -> str:
    match = _SERVER.fullmatch(text)
    if match is None or (match[3] and not 0 < int(match[3]) < 65_536):
        raise ValueError(f"{text[:80]!r} is no server: write smtp.example:587")
    return text
