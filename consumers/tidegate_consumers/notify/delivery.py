"""One attempt to post a request, and what became of it."""

import asyncio
import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ssl import SSLContext
from typing import Literal

import httpx

from tidegate_consumers.notify.address import AddressRefused, Guard
from tidegate_consumers.notify.channel import Channel
from tidegate_consumers.notify.kinds import KINDS
from tidegate_consumers.notify.parcel import Parcel
from tidegate_consumers.notify.request import Request, no_doubt

TIMEOUT_S = 15.0
"""For everything from the name's resolution to the answer's status; receivers may expect no less."""

_CONNECT_TIMEOUT_S = 5.0
_GONE = 410
_LONGEST_WORDS = 200
_LONGEST_ANSWER = 1_000

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
    """A receiver that requests are posted to.

    Parameters
    ----------
    channel
        Where it is, and whether that may be in one's own network.
    guard
        Resolves the receiver's name; made from the channel unless given.
    trust
        Certificates that are believed; the usual ones, or those of ``SSL_CERT_FILE``, unless given.
    timeout_s
        For a whole attempt.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        guard: Guard | None = None,
        trust: SSLContext | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        requests = KINDS[channel.kind].requests
        assert requests is not None, "e-mail has a mailbox"
        self.channel = channel
        self._requests = requests
        self._guard = guard or Guard(channel.anywhere, allow_own=channel.own)
        self._trust = trust or httpx.create_ssl_context()
        self._timeout_s = timeout_s

    async def addresses(self) -> list[str]:
        """Resolve the receiver's name; see `Guard.addresses`."""
        return await self._resolved(httpx.URL(self.channel.url))

    async def tell(self, parcel: Parcel) -> Outcome:
        """Post what a parcel comes to, once; the first request that fails ends it."""
        now = datetime.now(UTC)
        outcome = Outcome(kind="delivered", words="nothing to say")
        for request in self._requests(self.channel, parcel, now):
            outcome = await self.post(request)
            if outcome.kind != "delivered":
                break
        return outcome

    async def post(self, request: Request) -> Outcome:
        """Post a request once."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post(request)
        except (TimeoutError, httpx.TimeoutException):
            return Outcome(kind="failed", words=f"no answer in {self._timeout_s:g} s", passing=True)
        except AddressRefused as refusal:
            return Outcome(kind="failed", words=str(refusal))
        except httpx.RemoteProtocolError:
            return Outcome(kind="failed", words="hung up, or answered what is no HTTP", passing=True)
        except (httpx.HTTPError, OSError, UnicodeError) as error:
            words = f"not reached: {type(error).__name__} {error}"[:_LONGEST_WORDS]
            return Outcome(kind="failed", words=words, passing=True)

    def close(self) -> None:
        """Nothing is kept open between posts."""

    async def _resolved(self, url: httpx.URL) -> list[str]:
        return await self._guard.addresses(url.host, url.port or (443 if url.scheme == "https" else 80))

    async def _post(self, request: Request) -> Outcome:
        url = httpx.URL(request.url)
        *others, last = await self._resolved(url)
        # Neither a proxy nor a redirect nor a kept connection: each would lead past the checked address.
        async with httpx.AsyncClient(
            verify=self._trust,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(self._timeout_s, connect=min(_CONNECT_TIMEOUT_S, self._timeout_s)),
        ) as client:
            for address in others:
                try:
                    return await self._post_to(client, url, address, request)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    continue
            return await self._post_to(client, url, last, request)

    async def _post_to(
        self, client: httpx.AsyncClient, url: httpx.URL, address: str, request: Request
    ) -> Outcome:
        headers = {
            "host": url.netloc.decode("ascii"),
            "content-type": "application/json",
            "user-agent": "tidegate",
            "accept-encoding": "identity",
        }
        async with client.stream(
            "POST",
            url.copy_with(host=address),
            headers=headers | dict(request.headers),
            content=request.body,
            # The certificate must be the name's, not the address's.
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        ) as answer:
            outcome = judged(answer.status_code, answer.headers.get("retry-after"), datetime.now(UTC))
            if outcome.kind != "delivered" or request.doubt is no_doubt:
                # The status alone counts: a body without end is not read.
                return outcome
            doubt = request.doubt(answer.status_code, await _beginning(answer))
            return Outcome(kind="failed", words=f"{outcome.words}, {doubt}") if doubt else outcome


async def _beginning(answer: httpx.Response) -> bytes:
    """Read as much of an answer as says something."""
    read = b""
    async for piece in answer.aiter_raw():
        read += piece
        if len(read) >= _LONGEST_ANSWER:
            break
    return read[:_LONGEST_ANSWER]


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
