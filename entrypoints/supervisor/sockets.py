"""The socket that clients connect to, which every worker process inherits."""

from __future__ import annotations

import errno
import socket
from typing import Final

BACKLOG: Final = 2048
SEND_BUFFER_BYTES: Final = 256 * 1024
"""What the kernel keeps for a client who reads slowly; without a bound it is megabytes for each of them."""


class AddressRefusedError(Exception):
    """We may not listen there; the message says what to do."""


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound socket.  What is set here holds for every connection accepted from it."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise AddressRefusedError(f"{host!r} is no address of this machine: {error}. Set HOST.") from None
    family, _, _, _, address = found[0]
    # asyncio switches Nagle's algorithm off only where it sees the protocol's number, not the default 0.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind(address)
    except OSError as error:
        listener.close()
        cure = "Stop what listens there, or set PORT." if error.errno == errno.EADDRINUSE else "Set HOST and PORT."
        raise AddressRefusedError(f"Cannot listen on {host}, port {port}: {error.strerror}. {cure}") from None
    return listener
