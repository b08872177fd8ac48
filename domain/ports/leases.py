"""Leases: which of several processes does what only one may do at a time."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Protocol


class Leases(Protocol):
    """One holder per name.  The time is storage's own, because the holders' clocks need not agree."""

    async def acquire(self, names: Collection[str], holder: str, ttl: timedelta) -> AbstractSet[str]:
        """Take those that nobody has or whose time is over, and renew one's own; returns all of these.

        They end `ttl` after the call at the earliest.  Raises StorageUnavailable, and then some may have been taken.
        """
        ...

    async def release(self, holder: str) -> None:
        """Give all of one's own back before their time."""
        ...
