"""Event streams to callers: opened late, kept alive in silence, ended in their own dialect.

One ticker looks at every open stream once a second.  Streams therefore need no timer each, and a chunk costs no more
than a note of the time.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from entrypoints.http.exchange import Exchange, Headers, Watch

STALLED_S: Final = 120.0
"""A caller who reads nothing for so long is taken for gone."""
KEPT_BYTES_MAX: Final = 16 * 1024 * 1024
"""What is remembered of a stream for a repeated Idempotency-Key."""
STREAM_HEADERS: Final[Headers] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class EventStream:
    """What one caller gets of a stream."""

    def __init__(self, exchange: Exchange, watch: Watch, keep_alive: bytes, *, keeps: bool) -> None:
        self.started = False
        self.finished = False
        self.watch = watch
        self.last = time.monotonic()
        self.writing_since: float | None = None
        self.headers: Headers = []
        """Set as soon as they are known; a keep-alive may send them before the first content."""
        self._exchange = exchange
        self._keep_alive = keep_alive
        self._kept: list[bytes] | None = [] if keeps else None
        self._kept_bytes = 0

    async def write(self, data: bytes) -> None:
        if self._kept is not None:
            self._keep(data)
        if self.watch.gone:
            return
        self.writing_since = self.last = time.monotonic()
        if not self.started:
            await self._start()
        await self._exchange.send({"type": "http.response.body", "body": data, "more_body": True})
        self.writing_since = None

    async def finish(self) -> None:
        self.finished = True
        if self.watch.gone:
            return
        if not self.started:
            await self._start()
        await self._exchange.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def ping(self) -> None:
        """A comment, always between two events because only whole events are written.

        It was decided on a moment ago, so that the stream may have ended since.
        """
        if self.watch.gone or self.finished or self.writing_since is not None:
            return
        self.last = time.monotonic()
        if not self.started:
            await self._start()
        await self._exchange.send({"type": "http.response.body", "body": self._keep_alive, "more_body": True})

    def kept(self) -> bytes | None:
        """Everything written; None where it was more than is kept."""
        return None if self._kept is None else b"".join(self._kept)

    async def _start(self) -> None:
        # Set before the first await: a ping and a write may both come here.
        self.started = True
        self._exchange.status = 200
        headers = self.headers + STREAM_HEADERS
        await self._exchange.send({"type": "http.response.start", "status": 200, "headers": headers})

    def _keep(self, data: bytes) -> None:
        assert self._kept is not None
        self._kept_bytes += len(data)
        if self._kept_bytes > KEPT_BYTES_MAX:
            self._kept = None
        else:
            self._kept.append(data)


class OpenStreams:
    """Every stream of this process that is open, and every request that is watched."""

    def __init__(self, keep_alive_s: float) -> None:
        self._keep_alive_s = keep_alive_s
        self.watched: set[Watch] = set()
        self._open: set[EventStream] = set()
        self._pings: set[asyncio.Task[Any]] = set()

    @property
    def open(self) -> int:
        return len(self._open)

    def add(self, stream: EventStream) -> None:
        self._open.add(stream)

    def remove(self, stream: EventStream) -> None:
        self._open.discard(stream)

    def end_all(self) -> None:
        """The process stops: every stream still open gets its dialect's error event, every other request 503."""
        for watch in list(self.watched):
            watch.end("shutdown")

    def tick(self) -> None:
        now = time.monotonic()
        for stream in list(self._open):
            if stream.writing_since is not None:
                if now - stream.writing_since > STALLED_S:
                    stream.watch.end("stalled")
            elif now - stream.last >= self._keep_alive_s:
                ping = asyncio.create_task(stream.ping())
                self._pings.add(ping)
                ping.add_done_callback(self._pings.discard)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.tick()
