"""What one process admits while Redis does not decide: its share of every limit.

The share is the limit divided by the processes that were alive when Redis was last heard, so that all of them together
admit one limit.  What was admitted here is a debt: it is booked in Redis as soon as that is back, so that going back
and forth admits no more than one burst beyond the limit.

What has drained here is forgiven, but for one burst: while Redis was away the same time drained what it had counted
before, up to a burst of it, and no time may count twice.

Running requests are counted where they were admitted: those that Redis counted do not fill the share's places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from adapters.memory.limiter import MemoryLimiter
from domain.limits import Admitted, Pace, Subject, Window, arrivals, corrected, pace
from domain.ports.clock import Clock

SUBJECTS_MAX: Final = 50_000
"""Owing or remembered; more than that many at once are not worth their memory."""


class _Debt(Struct):
    """What a subject was admitted here since Redis was last told."""

    tag: str
    subject: Subject
    paces: list[Pace]
    tats: list[float]
    """It drains at the share's pace."""
    units: list[float]
    """By window, all that was admitted."""


class Owed(Struct, frozen=True):
    tag: str
    subject: Subject
    units: list[float]
    """By window."""


class LocalShare:
    def __init__(self, clock: Clock) -> None:
        self._now = clock.monotonic
        self._limiter = MemoryLimiter(clock)
        self._debts: dict[str, _Debt] = {}
        self._shares: dict[str, tuple[Subject, int, Subject]] = {}
        self._running: set[str] = set()
        self.processes = 1
        self.decisions = 0

    async def acquire(self, subjects: Sequence[Subject], tokens: int, tag: str) -> Admitted:
        """Raises RateLimitExceeded."""
        self.decisions += 1
        shares = [self._share(subject) for subject in subjects]
        admitted = await self._limiter.acquire(shares, tokens)
        for subject, share in zip(subjects, shares, strict=True):
            self._owe(subject, share, tokens, tag)
        self._running.add(admitted.lease)
        return admitted

    async def peek(self, subjects: Sequence[Subject], tokens: int) -> Admitted:
        """Raises RateLimitExceeded."""
        return await self._limiter.peek([self._share(subject) for subject in subjects], tokens)

    def release(self, admitted: Admitted, subjects: Sequence[Subject], tokens_over: int) -> None:
        if admitted.lease not in self._running:
            return
        self._running.remove(admitted.lease)
        self._limiter.release(subjects, admitted, tokens_over)
        now = self._now()
        for subject in subjects:
            # Without a debt Redis has been told the estimate; it drains there as if it had been used.
            if debt := self._debts.get(subject.id):
                for place, (interval_s, _, _, counts_tokens) in enumerate(debt.paces):
                    if counts_tokens:
                        tat = debt.tats[place]
                        debt.tats[place] = corrected(tat, tat, now, interval_s, tokens_over)
                        debt.units[place] = max(0.0, debt.units[place] + tokens_over)

    async def hit(self, subject: Subject, tag: str) -> None:
        """Raises RateLimitExceeded."""
        self.decisions += 1
        share = self._share(subject)
        await self._limiter.hit(share)
        self._owe(subject, share, 0, tag)

    def settle(self) -> list[Owed]:
        """What is owed now; after this it is Redis's."""
        now, debts, self._debts = self._now(), self._debts, {}
        owed = []
        for debt in debts.values():
            units = [
                min(admitted, max(0.0, tat - now) / interval_s + burst)
                for admitted, tat, (interval_s, burst, _, _) in zip(debt.units, debt.tats, debt.paces, strict=True)
            ]
            if any(units):
                owed.append(Owed(debt.tag, debt.subject, units))
        return owed

    def _owe(self, subject: Subject, share: Subject, tokens: int, tag: str) -> None:
        debt = self._debts.get(subject.id)
        if debt is None or debt.subject.windows != subject.windows:
            if debt is None and len(self._debts) >= SUBJECTS_MAX:
                return
            paces = [pace(window) for window in share.windows]
            debt = self._debts[subject.id] = _Debt(tag, subject, paces, [0.0] * len(paces), [0.0] * len(paces))
        debt.tats, _, _ = arrivals(debt.tats, debt.paces, self._now(), tokens)
        for place, (_, _, _, counts_tokens) in enumerate(debt.paces):
            debt.units[place] += tokens if counts_tokens else 1

    def _share(self, subject: Subject) -> Subject:
        known = self._shares.get(subject.id)
        if known is not None and known[1] == self.processes and (known[0] is subject or known[0] == subject):
            return known[2]
        if known is None and len(self._shares) >= SUBJECTS_MAX:
            del self._shares[next(iter(self._shares))]
        share = shared(subject, self.processes)
        self._shares[subject.id] = (subject, self.processes, share)
        return share


def shared(subject: Subject, processes: int) -> Subject:
    """At least one request of a burst and one place each, or a share would be nothing at all.

    The period is stretched instead of the limit cut, so that it divides exactly and headers show the whole limit.
    """
    return Subject(
        subject.id,
        tuple(
            Window(
                window.name,
                window.limit,
                window.period_s * processes,
                _part(window.burst, processes),
                window.counts_tokens,
            )
            for window in subject.windows
        ),
        _part(subject.concurrent, processes),
    )


def _part(whole: int, processes: int) -> int:
    return max(1, whole // processes) if whole > 0 else whole
