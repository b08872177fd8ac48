"""Rate limits, kept wherever all processes see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from domain.limits import Admitted, Subject


class Limiter(Protocol):
    async def acquire(self, subjects: Sequence[Subject], tokens: int) -> Admitted:
        """Take one request, `tokens` and one place in the concurrency of every subject, or nothing of any.

        Raises RateLimitExceeded for the window that frees last.
        """
        ...

    async def peek(self, subjects: Sequence[Subject], tokens: int) -> Admitted:
        """What `acquire` would answer now, with an empty lease and the headroom before it; nothing is taken.

        Raises RateLimitExceeded where `acquire` would.
        """
        ...

    def release(self, subjects: Sequence[Subject], admitted: Admitted, tokens_over: int) -> None:
        """Give the places back, and correct the estimate: `tokens_over` were used beyond it (negative: fewer)."""
        ...

    async def hit(self, subject: Subject) -> None:
        """Count one event of an unauthenticated subject.  Raises RateLimitExceeded."""
        ...
