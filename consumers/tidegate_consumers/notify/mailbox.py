"""E-mail: a parcel as a message, handed to a mail server that may hang, lie or refuse."""

import asyncio
import re
import smtplib
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from ssl import SSLContext
from urllib.parse import urlsplit

from tidegate_consumers.notify.address import AddressRefused, Guard
from tidegate_consumers.notify.channel import Channel
from tidegate_consumers.notify.delivery import TIMEOUT_S, Outcome
from tidegate_consumers.notify.notice import cut, notice_of
from tidegate_consumers.notify.parcel import Parcel

LONGEST_SUBJECT = 200

_LONGEST_TEXT = 20_000
_NO_MARK = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_WORDS = 200


def mail(channel: Channel, parcel: Parcel, now: datetime) -> EmailMessage:
    """Write a parcel as a message.

    Its ``Message-ID`` is the same however often it is sent, and everything said of one alert, or of one
    group, refers to the same thread.
    """
    mailing, notice = channel.mailing, notice_of(parcel)
    assert mailing is not None
    domain = mailing.sender.rpartition("@")[2]
    mark = _NO_MARK.sub("", parcel.id)
    thread = mark.rpartition("-")[0] or mark
    message = EmailMessage(policy=SMTP)
    message["Subject"] = cut(f"[tidegate] {notice.title}", LONGEST_SUBJECT)
    message["From"] = mailing.sender
    message["To"] = ", ".join(mailing.recipients)
    message["Date"] = format_datetime(now)
    message["Message-ID"] = f"<{mark}@{domain}>"
    message["References"] = f"<{thread}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    facts = "\n".join(f"{name}: {value}" for name, value in notice.facts if value)
    links = [
        f"Runbook: {notice.runbook}" * bool(notice.runbook),
        f"Source: {notice.source}" * bool(notice.source),
    ]
    parts = [notice.title, *notice.text, facts, *links]
    message.set_content(cut("\n\n".join(part for part in parts if part), _LONGEST_TEXT) + "\n")
    return message


class Mailbox:
    """A mail server that alerts are handed to.

    Parameters
    ----------
    channel
        With `mailing`; its only secret is the password.
    guard, trust, timeout_s
        As of `tidegate_consumers.notify.delivery.Endpoint`.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        guard: Guard | None = None,
        trust: SSLContext | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.channel = channel
        server = urlsplit(channel.url)
        self._host, self._port = server.hostname or "", server.port or 587
        self._guard = guard or Guard(channel.anywhere, allow_own=channel.own)
        self._trust = trust or ssl.create_default_context()
        self._timeout_s = timeout_s
        # Not the loop's own threads: it resolves the names of all receivers in those.
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="mail")

    async def addresses(self) -> list[str]:
        """Resolve the server's name; see `Guard.addresses`."""
        return await self._guard.addresses(self._host, self._port)

    async def tell(self, parcel: Parcel) -> Outcome:
        """Hand a parcel to the server once."""
        message = mail(self.channel, parcel, datetime.now(UTC))
        sessions: list[_Session] = []
        try:
            async with asyncio.timeout(self._timeout_s):
                address = (await self.addresses())[0]
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, self._send, address, message, sessions)
        except TimeoutError:
            return Outcome(kind="failed", words=f"no answer in {self._timeout_s:g} s", passing=True)
        except AddressRefused as refusal:
            return Outcome(kind="failed", words=str(refusal))
        except smtplib.SMTPRecipientsRefused as refusal:
            codes = sorted({code for code, _ in refusal.recipients.values()})
            return _refused(f"refused every recipient: {codes}", codes[0])
        except smtplib.SMTPResponseException as refusal:
            # The server's words may quote what we sent it, the password among it.
            return _refused(f"answered {refusal.smtp_code}", refusal.smtp_code)
        except (smtplib.SMTPException, OSError, UnicodeError) as error:
            words = f"not reached: {type(error).__name__} {error}"[:_LONGEST_WORDS]
            return Outcome(
                kind="failed", words=words, passing=not isinstance(error, smtplib.SMTPNotSupportedError)
            )
        finally:
            # A thread that waits for a server which says nothing is woken up.
            for session in sessions:
                session.cut_off()

    def close(self) -> None:
        """Give the thread back."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _send(self, address: str, message: EmailMessage, sessions: list["_Session"]) -> Outcome:
        mailing = self.channel.mailing
        assert mailing is not None
        trust = self._trust if mailing.tls == "implicit" else None
        session = _Session(self._host, address, mailing.sender.rpartition("@")[2], self._timeout_s, trust)
        sessions.append(session)
        try:
            session.connect(self._host, self._port)
            if mailing.tls == "starttls":
                session.starttls(context=self._trust)
            if mailing.user:
                session.login(mailing.user, self.channel.secrets[0])
            refused = session.send_message(message, mailing.sender, list(mailing.recipients))
            # It has the message: how it says goodbye changes nothing.
            with suppress(OSError, smtplib.SMTPException):
                session.quit()
        finally:
            session.close()
        words = f"taken, but {len(refused)} of its recipients were refused" if refused else "taken"
        return Outcome(kind="delivered", words=words)


class _Session(smtplib.SMTP):
    """A session with the address that was checked, by the name that the certificate must be of."""

    def __init__(self, name: str, address: str, we: str, timeout_s: float, trust: SSLContext | None) -> None:
        super().__init__(local_hostname=we, timeout=timeout_s)
        self._host = name
        self._address = address
        self._trust = trust

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = socket.create_connection((self._address, port), timeout)
        return plain if self._trust is None else self._trust.wrap_socket(plain, server_hostname=host)

    def cut_off(self) -> None:
        """End what waits in it."""
        if (sock := self.sock) is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def _refused(words: str, code: int) -> Outcome:
    return Outcome(kind="failed", words=words, passing=400 <= code < 500)
