"""Leases among the tasks of one process."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Set as AbstractSet
from datetime import timedelta

from domain.ports.clock import Clock


class MemoryLeases:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[str, tuple[str, float]] = {}

    async def acquire(self, names: Collection[str], holder: str, ttl: timedelta) -> AbstractSet[str]:
        now = self._clock.monotonic()
        taken = {name for name in names if self._is_free(name, holder, now)}
        self._held |= dict.fromkeys(taken, (holder, now + ttl.total_seconds()))
        return taken

    async def release(self, holder: str) -> None:
        self._held = {name: held for name, held in self._held.items() if held[0] != holder}

    def _is_free(self, name: str, holder: str, now: float) -> bool:
        other, until = self._held.get(name, (holder, now))
        return other == holder or until <= now
