"""Where something may be sent: not into the network that Tidegate itself runs in, unless that is allowed.

A name is resolved once, every address it has is checked, and the connection goes to a checked address: a
name that answers differently a moment later changes nothing.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from tidegate.errors import Refused

LookUp = Callable[[str, int], Awaitable[list[str]]]

# A gateway turns these into the IPv4 address in their last 32 bits.
_NAT64 = IPv6Network("64:ff9b::/96")

# Where clouds hand out the keys of the machine itself; some of them stand among the private addresses.
_METADATA = frozenset(map(ip_address, ("169.254.169.254", "100.100.100.200", "fd00:ec2::254")))

_OWN = frozenset({"loopback", "private"})


class AddressRefused(Refused):
    """The receiver's name leads to an address that may not be called."""


def fault(address: str) -> str:
    """Say why an address may not be called; empty when it may.

    Examples
    --------
    >>> fault("93.184.215.14"), fault("169.254.169.254"), fault("::ffff:10.0.0.1")
    ('', 'a metadata service', 'private')
    """
    ip = _called(ip_address(address))
    kinds = {
        "a metadata service": ip in _METADATA,
        "unspecified": ip.is_unspecified,
        "loopback": ip.is_loopback,
        "link-local": ip.is_link_local,
        "multicast": ip.is_multicast,
        # It carries an IPv4 address that a relay would call.
        "a tunnel": isinstance(ip, IPv6Address) and (ip.sixtofour or ip.teredo) is not None,
        "private": ip.is_private or (isinstance(ip, IPv6Address) and ip.is_site_local),
        "reserved": ip.is_reserved or not ip.is_global,
    }
    return next((kind for kind, is_so in kinds.items() if is_so), "")


def _called(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that is called when an IPv6 address stands for one."""
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip in _NAT64:
            return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip


class SystemLookUp:
    """Asks the system for addresses, on threads of its own: a name that nobody answers holds up no other."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="names")

    async def __call__(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host, in the order in which they should be tried."""
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        answers = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in answers))


@dataclass(frozen=True, slots=True)
class Guard:
    """Resolves names to addresses that may be called.

    Parameters
    ----------
    allow_private
        Whether every address may be called.
    look_up
        Asks for the addresses of a host, in the order in which they should be tried.
    allow_own
        Whether addresses of one's own network may be called: private ones and loopback, and no others.
    """

    allow_private: bool = False
    look_up: LookUp = field(default_factory=SystemLookUp)
    allow_own: bool = False

    async def addresses(self, host: str, port: int) -> list[str]:
        """Resolve a name once.

        Raises
        ------
        AddressRefused
            One of its addresses may not be called. The others are not tried either: such a name is an
            attempt, or a mistake.
        OSError
            The name cannot be resolved.
        """
        found = await self.look_up(host, port)
        for address in found:
            if "%" in address:
                raise AddressRefused(f"{host} is {address}: an address of one link is no receiver")
            kind = fault(address)
            if not kind or self.allow_private or (self.allow_own and kind in _OWN):
                continue
            advice = "`private: true` of the channel or " if kind in _OWN else ""
            raise AddressRefused(
                f"{host} is {address}, which is {kind}: nothing is sent there without {advice}"
                "TIDEGATE_ALLOW_PRIVATE_WEBHOOKS=true"
            )
        return found
