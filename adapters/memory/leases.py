"""Leases among the tasks of one process."""

from __future__ import annotations

from datetime import timedelta

from domain.ports.clock import Clock


class MemoryLeases:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[str, tuple[str, float]] = {}

    async def acquire(self, name: str, holder: str, ttl: timedelta) -> bool:
        now = self._clock.monotonic()
        other, until = self._held.get(name, (holder, now))
        if other != holder and until > now:
            return False
        self._held[name] = (holder, now + ttl.total_seconds())
        return True

    async def release(self, name: str, holder: str) -> None:
        if self._held.get(name, ("", 0.0))[0] == holder:
            del self._held[name]
