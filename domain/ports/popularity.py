"""What is used how much, for rankings: counted now and then, so that nobody who looks at a ranking waits for a sum."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from msgspec import Struct


class Counted(StrEnum):
    MODEL = "model"
    APP = "app"


class Popularity(Struct, frozen=True, kw_only=True):
    """The requests of a span of time that have one model and vendor, or one app."""

    name: str
    """The model's id, or the app's name."""
    vendor: str
    """Who served the model; "" for an app."""
    requests: int
    failed: int
    """Of them, those that no vendor answered, or whose answer broke off."""
    input_tokens: int
    output_tokens: int
    first_token_ms: int
    """Summed over those that were timed."""
    duration_ms: int
    """The same, until the end."""
    timed: int

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class PopularityCounts(Protocol):
    async def count(self, at: datetime) -> int:
        """Bring the counts up to `at`, and forget those of more than a month ago.  Returns how many were written."""
        ...

    async def between(self, kind: Counted, since: datetime, until: datetime) -> Sequence[Popularity]:
        """The whole hours that begin in this span, summed, most tokens first."""
        ...
