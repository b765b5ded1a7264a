"""One attempt to post a message, and what became of it."""

import asyncio
import binascii
import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ssl import SSLContext
from typing import Literal

import httpx
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from tidegate.errors import ConfigError
from tidegate_consumers.notify.address import AddressRefused, Guard, check_url
from tidegate_consumers.notify.message import Message
from tidegate_infra.settings import Settings

TIMEOUT_S = 15.0
"""For everything from the name's resolution to the answer's status; receivers may expect no less."""

_CONNECT_TIMEOUT_S = 5.0
_GONE = 410
_LONGEST_WORDS = 200

# They log whole addresses and headers: a receiver's path is often its password.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an attempt.

    Parameters
    ----------
    kind
        ``delivered``: answered 2xx. ``gone``: answered 410, nothing is wanted any more. ``failed``: the rest.
    words
        What happened, without the receiver's path.
    passing
        A failure that may be over in a second.
    asked_s
        Seconds for which the receiver asked to be left alone (``Retry-After``).
    """

    kind: Literal["delivered", "failed", "gone"]
    words: str
    passing: bool = False
    asked_s: float = 0.0


class Endpoint:
    """A receiver of webhooks.

    Parameters
    ----------
    settings
        `webhook_url`, `webhook_secret` and `allow_private_webhooks`.
    guard
        Resolves the receiver's name; made from the settings unless given.
    trust
        Certificates that are believed; the usual ones, or those of ``SSL_CERT_FILE``, unless given.
    timeout_s
        For a whole attempt.

    Raises
    ------
    ConfigError
        The address is not https although private receivers are not allowed, or the secret is no base64.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        guard: Guard | None = None,
        trust: SSLContext | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        check_url(settings.webhook_url, allow_private=settings.allow_private_webhooks)
        self.shown = settings.shown("webhook_url")
        self._guard = guard or Guard(settings.allow_private_webhooks)
        self._trust = trust or httpx.create_ssl_context()
        self._timeout_s = timeout_s
        try:
            self._url = httpx.URL(settings.webhook_url)
        except httpx.InvalidURL as error:
            raise ConfigError(f"TIDEGATE_WEBHOOK_URL is no address: {error}") from None
        try:
            self._webhook = Webhook(settings.webhook_secret.get_secret_value())
        except (binascii.Error, ValueError, EmptyWebhookSecretError):
            # Not the library's words: they might quote the secret.
            raise ConfigError(
                "TIDEGATE_WEBHOOK_SECRET should be whsec_ and base64, as `openssl rand -base64 32` makes it"
            ) from None

    async def addresses(self) -> list[str]:
        """Resolve the receiver's name; see `Guard.addresses`."""
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        return await self._guard.addresses(self._url.host, port)

    async def post(self, message: Message) -> Outcome:
        """Post a message once, signed anew."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post(message)
        except (TimeoutError, httpx.TimeoutException):
            return Outcome(kind="failed", words=f"no answer in {self._timeout_s:g} s", passing=True)
        except AddressRefused as refusal:
            return Outcome(kind="failed", words=str(refusal))
        except httpx.RemoteProtocolError:
            return Outcome(kind="failed", words="hung up, or answered what is no HTTP", passing=True)
        except (httpx.HTTPError, OSError, UnicodeError) as error:
            words = f"not reached: {type(error).__name__} {error}"[:_LONGEST_WORDS]
            return Outcome(kind="failed", words=words, passing=True)

    async def _post(self, message: Message) -> Outcome:
        *others, last = await self.addresses()
        # Neither a proxy nor a redirect nor a kept connection: each would lead past the checked address.
        async with httpx.AsyncClient(
            verify=self._trust,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(self._timeout_s, connect=min(_CONNECT_TIMEOUT_S, self._timeout_s)),
        ) as client:
            for address in others:
                try:
                    return await self._post_to(client, address, message)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    continue
            return await self._post_to(client, last, message)

    async def _post_to(self, client: httpx.AsyncClient, address: str, message: Message) -> Outcome:
        async with client.stream(
            "POST",
            self._url.copy_with(host=address),
            headers=self._headers(message),
            content=message.body.encode("ascii"),
            # The certificate must be the name's, not the address's.
            extensions={"sni_hostname": self._url.raw_host.decode("ascii")},
        ) as answer:
            # The status alone counts: a body without end is not read.
            return judged(answer.status_code, answer.headers.get("retry-after"), datetime.now(UTC))

    def _headers(self, message: Message) -> dict[str, str]:
        now = datetime.now(UTC)
        return {
            "host": self._url.netloc.decode("ascii"),
            "content-type": "application/json",
            "user-agent": "tidegate",
            "accept-encoding": "identity",
            "webhook-id": message.id,
            "webhook-timestamp": str(int(now.timestamp())),
            # The library replaces the time zone instead of converting: in UTC both are the same.
            "webhook-signature": self._webhook.sign(message.id, now, message.body),
        }


def judged(status: int, retry_after: str | None, now: datetime) -> Outcome:
    """Say what an answer means."""
    words = f"answered {status}"
    if 200 <= status < 300:
        return Outcome(kind="delivered", words=words)
    if status == _GONE:
        return Outcome(kind="gone", words=words)
    if 300 <= status < 400:
        return Outcome(kind="failed", words=f"{words}, and redirects are not followed")
    asked_s = seconds_asked(retry_after, now)
    return Outcome(kind="failed", words=words, passing=status >= 500 and not asked_s, asked_s=asked_s)


def seconds_asked(retry_after: str | None, now: datetime) -> float:
    """Read a ``Retry-After``, seconds or a date; 0 when there is none or it cannot be read."""
    text = (retry_after or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    # A date without a zone is in UTC, as every date in HTTP.
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - now).total_seconds())
