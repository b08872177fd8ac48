"""All running requests of this process, looked at once a second from one place instead of by a timer each."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Beating(Protocol):
    def beat(self, period_s: float) -> None: ...


class Heartbeats:
    """Renews leases, writes watermarks, and notices vendors that fell silent."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._running: set[Beating] = set()

    def watch(self, request: Beating) -> None:
        self._running.add(request)

    def forget(self, request: Beating) -> None:
        self._running.discard(request)

    @property
    def running(self) -> int:
        return len(self._running)

    def beat(self) -> None:
        for request in list(self._running):
            request.beat(self._period_s)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.beat()
