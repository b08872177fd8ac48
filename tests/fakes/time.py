"""A clock that moves only when told to, and ids that count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


class FakeClock:
    def __init__(self, now: datetime = NOON) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds


class CountingIds:
    """Ids of the real form: 32 hexadecimal digits that sort by the order in which they were made."""

    def __init__(self) -> None:
        self._made = 0

    def fresh(self) -> str:
        self._made += 1
        return f"{self._made:032x}"
