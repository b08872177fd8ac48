"""Use cases about what is used most: counted by a background job, and kept for a minute once somebody has looked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from msgspec import Struct

from domain.ports.clock import Clock
from domain.ports.popularity import Counted, Popularity, PopularityCounts

KEPT_S: Final = 60.0


class Span(StrEnum):
    """How far back a ranking looks."""

    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"
    MONTH = "30d"
    ALL = "all"
    """Everything that is still counted: a month."""


_LENGTHS: Final[Mapping[Span, timedelta]] = {
    Span.HOUR: timedelta(hours=1),
    Span.DAY: timedelta(days=1),
    Span.WEEK: timedelta(days=7),
    Span.MONTH: timedelta(days=30),
    Span.ALL: timedelta(days=31),
}
_WITH_TREND: Final = {Span.HOUR, Span.DAY, Span.WEEK}
"""The span before a longer one is not counted any more."""


class Sums(Struct, frozen=True, kw_only=True):
    """What many requests have in common."""

    requests: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    first_token_ms: int | None = None
    """On average."""
    tokens_per_s: int | None = None
    """While an answer is written, on average."""

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class Ranked(Struct, frozen=True, kw_only=True):
    """A model of one vendor, or an app."""

    name: str
    vendor: str
    sums: Sums
    tokens_before: int | None
    """In the span before; None where that is not known."""


@dataclass(frozen=True, slots=True)
class CountUsage:
    counts: PopularityCounts
    clock: Clock

    async def __call__(self) -> int:
        """Bring the counts up to date; returns how many were written."""
        return await self.counts.count(self.clock.now())


@dataclass(slots=True)
class Rankings:
    """Keeps what it read for a minute, so that one instance should serve all callers."""

    counts: PopularityCounts
    clock: Clock
    _kept: dict[tuple[Counted, Span], tuple[float, Sequence[Ranked]]] = field(default_factory=dict, init=False)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def models(self, span: Span) -> Sequence[Ranked]:
        """Each model at each vendor, most tokens first.  Raises StorageUnavailable."""
        return await self._ranked(Counted.MODEL, span)

    async def apps(self, span: Span) -> Sequence[Ranked]:
        """The programs that say what they are called, most tokens first.  Raises StorageUnavailable."""
        return await self._ranked(Counted.APP, span)

    async def _ranked(self, kind: Counted, span: Span) -> Sequence[Ranked]:
        kept = self._fresh(kind, span)
        if kept is None:
            async with self._reading:
                kept = self._fresh(kind, span)
                if kept is None:
                    kept = await self._read(kind, span)
                    self._kept[kind, span] = (self.clock.monotonic(), kept)
        return kept

    def _fresh(self, kind: Counted, span: Span) -> Sequence[Ranked] | None:
        kept = self._kept.get((kind, span))
        return kept[1] if kept is not None and self.clock.monotonic() - kept[0] < KEPT_S else None

    async def _read(self, kind: Counted, span: Span) -> Sequence[Ranked]:
        # The hour that is running counts too, and the last hour is never less than a whole one.
        until = _whole_hour(self.clock.now()) + timedelta(hours=1)
        since = until - _LENGTHS[span] - (timedelta(hours=1) if span is Span.HOUR else timedelta())
        found = await self.counts.between(kind, since, until)
        before: Mapping[tuple[str, str], int] | None = None
        if span in _WITH_TREND:
            earlier = await self.counts.between(kind, since - (until - since), since)
            before = {(each.name, each.vendor): each.tokens for each in earlier}
        return [
            Ranked(
                name=each.name,
                vendor=each.vendor,
                sums=sums_of([each]),
                tokens_before=None if before is None else before.get((each.name, each.vendor), 0),
            )
            for each in found
        ]


def sums_of(counts: Sequence[Popularity]) -> Sums:
    """Rankings are for people to look at, so that averages are whole numbers."""
    timed = sum(each.timed for each in counts)
    first_token_ms = sum(each.first_token_ms for each in counts)
    writing_ms = sum(each.duration_ms for each in counts) - first_token_ms
    output_tokens = sum(each.output_tokens for each in counts)
    return Sums(
        requests=sum(each.requests for each in counts),
        failed=sum(each.failed for each in counts),
        input_tokens=sum(each.input_tokens for each in counts),
        output_tokens=output_tokens,
        first_token_ms=first_token_ms // timed if timed else None,
        tokens_per_s=output_tokens * 1_000 // writing_ms if timed and writing_ms > 0 else None,
    )


def merged(ranked: Sequence[Ranked]) -> Sums:
    """Several lines as one; averages are weighted by requests."""
    known = [each.sums for each in ranked]
    requests = sum(sums.requests for sums in known)

    def average(name: str) -> int | None:
        weighted = [(getattr(sums, name), sums.requests) for sums in known if getattr(sums, name) is not None]
        weight = sum(number for _, number in weighted)
        return sum(value * number for value, number in weighted) // weight if weight else None

    return Sums(
        requests=requests,
        failed=sum(sums.failed for sums in known),
        input_tokens=sum(sums.input_tokens for sums in known),
        output_tokens=sum(sums.output_tokens for sums in known),
        first_token_ms=average("first_token_ms"),
        tokens_per_s=average("tokens_per_s"),
    )


def trend_percent(ranked: Ranked) -> int | None:
    """How many per cent more tokens than in the span before; None where there was nothing to compare with."""
    if not ranked.tokens_before:
        return None
    return (ranked.sums.tokens - ranked.tokens_before) * 100 // ranked.tokens_before


def _whole_hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)
