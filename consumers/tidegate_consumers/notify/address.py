"""Where a webhook may be posted: not into the network that Tidegate itself runs in, unless that is allowed.

A name is resolved once, every address it has is checked, and the connection goes to a checked address: a
name that answers differently a moment later changes nothing.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from tidegate.errors import ConfigError, Refused

LookUp = Callable[[str, int], Awaitable[list[str]]]

# A gateway turns these into the IPv4 address in their last 32 bits.
_NAT64 = IPv6Network("64:ff9b::/96")


class AddressRefused(Refused):
    """The receiver's name leads to an address that webhooks may not call."""


def fault(address: str) -> str:
    """Say why an address may not be called; empty when it may.

    Examples
    --------
    >>> fault("93.184.215.14"), fault("169.254.169.254"), fault("::ffff:10.0.0.1")
    ('', 'link-local', 'private')
    """
    ip = _called(ip_address(address))
    kinds = {
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


def check_url(url: str, *, allow_private: bool) -> None:
    """Refuse an address that would send alerts in the clear over other people's networks.

    Raises
    ------
    ConfigError
        It is not https, and private receivers are not allowed.
    """
    if urlsplit(url).scheme != "https" and not allow_private:
        raise ConfigError(
            "TIDEGATE_WEBHOOK_URL should begin with https://. For a receiver in your own network set "
            "TIDEGATE_ALLOW_PRIVATE_WEBHOOKS=true, then http:// will do"
        )


async def _system_look_up(host: str, port: int) -> list[str]:
    answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
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
    """

    allow_private: bool = False
    look_up: LookUp = _system_look_up

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
            if not self.allow_private and (kind := fault(address)):
                raise AddressRefused(
                    f"{host} is {address}, which is {kind}: webhooks go there only with "
                    "TIDEGATE_ALLOW_PRIVATE_WEBHOOKS=true"
                )
        return found
