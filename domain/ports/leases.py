"""Leases: which of several processes does what only one may do at a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol


class Leases(Protocol):
    """One holder per name.  The time is storage's own, because the holders' clocks need not agree."""

    async def acquire(self, name: str, holder: str, ttl: timedelta) -> bool:
        """Take a lease that nobody has or whose time is over, or renew one's own; False where another has it.

        It ends `ttl` after the call at the earliest.  Raises StorageUnavailable, and then it may have been taken.
        """
        ...

    async def release(self, name: str, holder: str) -> None:
        """Give it back before its time.  Does nothing where another has it."""
        ...
