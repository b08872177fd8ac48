"""A TCP proxy that does to a connection what networks do, when a test says so.

It stands between the gateway and PostgreSQL, Redis or a vendor and knows nothing of what they say.  Left
alone it is faithful: bytes, a half-close and a reset pass on as such.  What a fault holds back is delivered
in order once healed, as TCP would; only a reset, a half-close and a data limit lose anything.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Literal, Self

Direction = Literal["up", "down"]
"""Up is towards the target, down is back to the client."""
BOTH: Sequence[Direction] = ("up", "down")

READ_BYTES = 2**14
PIECES_IN_FLIGHT_MAX = 256
"""What one direction may hold (4 MiB at most), so that the writer feels a reader who does not read."""
BANDWIDTH_STEP_S = 0.05
JITTER_STEPS = (0.0, 1.0, 0.5, 0.75, 0.25)
"""Jitter walks through these fractions instead of rolling dice."""


@dataclass
class Toxics:
    """What is wrong with one direction.  It applies at once, also to connections already open."""

    latency_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float | None = None
    slice_bytes: int | None = None
    slice_delay_s: float = 0.0
    limit_bytes: int | None = None
    limit_by_reset: bool = False
    passes: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared: a black hole."""
    healed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.passes.set()

    def heal(self) -> None:
        self.passes.set()
        self.healed.set()

    @property
    def step_bytes(self) -> int:
        """How much may be written at a time."""
        step = self.slice_bytes or READ_BYTES
        if self.bytes_per_s is not None:
            step = min(step, int(self.bytes_per_s * BANDWIDTH_STEP_S))
        return max(step, 1)

    def delay_before(self, piece_bytes: int) -> float:
        drawn_out = 0.0 if self.bytes_per_s is None else piece_bytes / self.bytes_per_s
        return self.slice_delay_s + drawn_out

    async def wait(self, delay_s: float) -> None:
        """Let time pass, but not beyond the healing."""
        if delay_s > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.healed.wait(), delay_s)


class ToxicProxy:
    """`async with ToxicProxy("127.0.0.1", 5432) as proxy:` and connect to `proxy.port`."""

    def __init__(self, target_host: str, target_port: int) -> None:
        self.target = (target_host, target_port)
        self.host = "127.0.0.1"
        self.port = 0
        self.accepted = 0
        self.unreachable = 0
        """Connections for which the target could not be had."""
        self.resets = 0
        """Connections that `reset` has ended."""
        self.limited = 0
        """Connections that `limit_data` has ended."""
        self.bytes_passed: dict[Direction, int] = {"up": 0, "down": 0}
        self.toxics: dict[Direction, Toxics] = {"up": Toxics(), "down": Toxics()}
        self._links: dict[asyncio.Task[None], _Link] = {}
        self._bugs: list[BaseException] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        # A second socket, bound but never listening, keeps the port ours while connections are refused.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._place.bind((self.host, 0))
        self.port = self._place.getsockname()[1]
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        await self._end_links()
        self._place.close()
        if self._bugs:
            raise AssertionError("the proxy itself failed") from self._bugs[0]

    @property
    def open_connections(self) -> int:
        return len(self._links)

    async def latency(self, latency_s: float, *, jitter_s: float = 0.0, directions: Sequence[Direction] = BOTH) -> None:
        """Deliver everything so much later, and up to `jitter_s` more, in order and without thinning it."""
        for direction in directions:
            self.toxics[direction].latency_s = latency_s
            self.toxics[direction].jitter_s = jitter_s

    async def bandwidth(self, bytes_per_s: float, *, directions: Sequence[Direction] = BOTH) -> None:
        for direction in directions:
            self.toxics[direction].bytes_per_s = bytes_per_s

    async def slicing(self, slice_bytes: int, *, delay_s: float = 0.0, directions: Sequence[Direction] = BOTH) -> None:
        """Write at most so many bytes at a time."""
        for direction in directions:
            self.toxics[direction].slice_bytes = slice_bytes
            self.toxics[direction].slice_delay_s = delay_s

    async def limit_data(
        self, limit_bytes: int, *, directions: Sequence[Direction] = ("down",), by_reset: bool = False
    ) -> None:
        """Close each connection once it has carried so many more bytes."""
        for direction in directions:
            self.toxics[direction].limit_bytes = limit_bytes
            self.toxics[direction].limit_by_reset = by_reset
            for link in self._links.values():
                link.carried[direction] = 0

    async def black_hole(self, *, directions: Sequence[Direction] = BOTH) -> None:
        """Accept, and let nothing through.  Only down: the target acts, and its answer never arrives."""
        for direction in directions:
            self.toxics[direction].passes.clear()

    async def reset(self) -> None:
        """RST every connection, at both ends, now."""
        self.resets += len(self._links)
        await self._end_links()

    async def half_close(self, *, direction: Direction = "down") -> None:
        """Send FIN now, as if the far end had said all it will; the other direction goes on."""
        for link in self._links.values():
            link.half_close(direction)

    async def refuse(self) -> None:
        """Stop listening: connecting is refused.  Open connections stay, see `reset`."""
        if self._server is not None:
            self._server.close()
            self._server = None
            # Not every event loop closes a listener before its next round.
            await asyncio.sleep(0)

    async def heal(self) -> None:
        """Listen again, remove every toxic and deliver what was held back."""
        for direction, sick in self.toxics.items():
            self.toxics[direction] = Toxics()
            sick.heal()
        if self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Asyncio does this only for sockets it has made, and without it small pieces wait for 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((self.host, self.port))
        self._server = await asyncio.start_server(self._link, sock=listener, backlog=1024)

    def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = _Link(self, reader, writer)
        task = asyncio.get_running_loop().create_task(link.run())
        self._links[task] = link
        task.add_done_callback(self._unlink)

    def _unlink(self, task: asyncio.Task[None]) -> None:
        self._links.pop(task).abort()
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._bugs.append(bug)

    async def _end_links(self) -> None:
        ending = list(self._links)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        # An aborted socket closes in the loop's next round, and "now" is promised.
        await asyncio.sleep(0)


class _Link:
    """One client's connection and the one to the target made for it."""

    def __init__(self, proxy: ToxicProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.carried: dict[Direction, int] = {"up": 0, "down": 0}
        self._proxy = proxy
        self._client = reader
        self._writers: dict[Direction, asyncio.StreamWriter] = {"down": writer}
        self._jitter = count()
        self._half_closed: set[Direction] = set()

    async def run(self) -> None:
        """Carry both directions until both have ended."""
        # The target does not hear of a client whose handshake a black hole swallowed.
        await self._proxy.toxics["up"].passes.wait()
        try:
            target, self._writers["up"] = await asyncio.open_connection(*self._proxy.target)
        except OSError:
            self._proxy.unreachable += 1
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry("up", self._client))
                both.create_task(self._carry("down", target))
        except* ConnectionError:
            pass  # The writers are left to `abort`, so that a reset goes on as a reset.
        else:
            self._close()

    def abort(self) -> None:
        """RST to both sides, unless they were closed in peace."""
        for writer in self._writers.values():
            if not writer.is_closing():
                ours = writer.get_extra_info("socket")
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

    def half_close(self, direction: Direction) -> None:
        writer = self._writers.get(direction)
        if writer is not None and direction not in self._half_closed and not writer.is_closing():
            self._half_closed.add(direction)
            with suppress(OSError):  # It was reset this moment, which its reader will tell.
                writer.write_eof()

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    async def _carry(self, direction: Direction, reader: asyncio.StreamReader) -> None:
        """Read and deliver side by side, so that latency delays what is sent but does not thin it."""
        in_flight: asyncio.Queue[_Piece] = asyncio.Queue(PIECES_IN_FLIGHT_MAX)
        async with asyncio.TaskGroup() as ends:
            ends.create_task(self._read(direction, reader, in_flight))
            ends.create_task(self._deliver(direction, in_flight))

    async def _read(self, direction: Direction, reader: asyncio.StreamReader, in_flight: asyncio.Queue[_Piece]) -> None:
        now = asyncio.get_running_loop().time
        data: bytes | None = None
        while data != b"":
            try:
                data = await reader.read(READ_BYTES)
            except ConnectionError as broken:
                # A reset travels with the data: behind a black hole nobody hears of it.
                await in_flight.put(_Piece(self._proxy.toxics[direction], now(), b"", broken))
                return
            toxics = self._proxy.toxics[direction]
            await in_flight.put(_Piece(toxics, now() + self._latency(toxics), data))

    def _latency(self, toxics: Toxics) -> float:
        if not toxics.jitter_s:
            return toxics.latency_s
        return toxics.latency_s + toxics.jitter_s * JITTER_STEPS[next(self._jitter) % len(JITTER_STEPS)]

    async def _deliver(self, direction: Direction, in_flight: asyncio.Queue[_Piece]) -> None:
        now = asyncio.get_running_loop().time
        while True:
            piece = await in_flight.get()
            await piece.toxics.wait(piece.due - now())
            # Asked anew, as what was healed while the piece travelled may have fallen ill again.
            await self._proxy.toxics[direction].passes.wait()
            if piece.broken is not None:
                raise piece.broken
            if not piece.data:
                self.half_close(direction)
                return
            await self._write(direction, piece.data)

    async def _write(self, direction: Direction, data: bytes) -> None:
        while data and direction not in self._half_closed:
            toxics = self._proxy.toxics[direction]
            step, data = data[: toxics.step_bytes], data[toxics.step_bytes :]
            await toxics.wait(toxics.delay_before(len(step)))
            await self._proxy.toxics[direction].passes.wait()
            if direction in self._half_closed:
                return
            toxics = self._proxy.toxics[direction]
            limit = toxics.limit_bytes
            if limit is not None:
                step = step[: limit - self.carried[direction]]
            self._writers[direction].write(step)
            self.carried[direction] += len(step)
            self._proxy.bytes_passed[direction] += len(step)
            if limit is not None and self.carried[direction] >= limit:
                self._proxy.limited += 1
                if not toxics.limit_by_reset:
                    self._close()
                raise ConnectionAbortedError
            await self._writers[direction].drain()


@dataclass(frozen=True)
class _Piece:
    """Something read, on its way.  No data: the sender has finished, or broke."""

    toxics: Toxics
    due: float
    data: bytes
    broken: ConnectionError | None = None
