"""The private connection between the supervisor and one worker: a socket pair that no other process can reach.

Frames are one letter, four bytes of length, and what the letter says.  Either end sees by the connection's end that the
other process is gone, however it went.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from enum import Enum
from typing import Final

FRAME_BYTES_MAX: Final = 64 * 1024 * 1024
_HEADER: Final = struct.Struct(">cI")


class Say(Enum):
    """What one end tells the other."""

    READY = b"R"
    """The worker takes requests."""
    RETIRE = b"X"
    """Another worker has taken this one's place, so that it may take its time to stop."""
    COUNT = b"C"
    """The supervisor wants the worker's numbers."""
    NUMBERS = b"N"
    """The worker's numbers."""
    ASK = b"A"
    """The worker wants the numbers of all."""
    SUMS = b"S"
    """The numbers of all, in answer to the oldest ASK."""


class Channel:
    """One end of it, inside an event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, connection: socket.socket) -> Channel:
        connection.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=connection))

    def send(self, say: Say, content: bytes = b"") -> None:
        """Without waiting; nothing where the other end is gone."""
        if not self._writer.is_closing():
            self._writer.write(_HEADER.pack(say.value, len(content)) + content)

    async def sent(self) -> None:
        """Everything sent has left this process, or the other end is gone."""
        with suppress(ConnectionError):
            await self._writer.drain()

    async def receive(self) -> tuple[Say, bytes] | None:
        """None where the other end is gone."""
        try:
            letter, size = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
            assert size <= FRAME_BYTES_MAX, "the other end is our own program"
            return Say(letter), await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def close(self) -> None:
        self._writer.close()
