"""The address a request comes from, as far as it can be believed.

Anyone can send X-Forwarded-For, so that it counts only where the operator's own proxies wrote it: the list is
read from its end, and the first address that is no trusted proxy is the client.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

Network = IPv4Network | IPv6Network
HOPS_MAX = 32
REMEMBERED = 4_096
"""Addresses read lately: a connection brings the same one with each of its requests."""


class ClientAddresses:
    """Tells the client's address from an ASGI scope."""

    def __init__(self, trusted: Iterable[Network] = ()) -> None:
        self._trusted = tuple(trusted)

    def __call__(self, scope: Mapping[str, Any]) -> str | None:
        """The client's address in its plain form; None where the server does not know its peer."""
        peer = scope.get("client")
        if not peer:
            return None
        address = _parsed(peer[0])
        if address is None:
            return None
        if self._trusted and self._is_trusted(address):
            for hop in _forwarded(scope["headers"]):
                earlier = _parsed(hop)
                if earlier is None:
                    break
                address = earlier
                if not self._is_trusted(address):
                    break
        return str(address)

    def _is_trusted(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._trusted)


def _forwarded(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[str]:
    """The hops, nearest first."""
    joined = b",".join(value for name, value in headers if name == b"x-forwarded-for")
    return reversed(joined.decode("latin-1").rsplit(",", HOPS_MAX)[-HOPS_MAX:])


@lru_cache(REMEMBERED)
def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """An address, also with a port or in brackets; an IPv4 address inside IPv6 comes out plain."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address
