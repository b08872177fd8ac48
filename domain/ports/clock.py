"""Time and identifiers, passed in so that rules can be tested at any moment."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The current time, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never step back; only differences mean anything."""
        ...


class IdSource(Protocol):
    def fresh(self) -> str:
        """An id that sorts by the time it was made and is never repeated: 32 lower-case hexadecimal digits (UUIDv7)."""
        ...
