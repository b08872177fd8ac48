"""Counts of usage that a test writes itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from domain.ports.popularity import Counted, Popularity


class Counts:
    """The port `PopularityCounts`; remembers what it was asked for."""

    def __init__(self) -> None:
        self.now: dict[Counted, list[Popularity]] = {kind: [] for kind in Counted}
        self.earlier: dict[Counted, list[Popularity]] = {kind: [] for kind in Counted}
        self.asked: list[tuple[Counted, datetime, datetime]] = []
        self.clock: datetime | None = None

    async def count(self, at: datetime) -> int:
        self.clock = at
        return sum(map(len, self.now.values()))

    async def between(self, kind: Counted, since: datetime, until: datetime) -> Sequence[Popularity]:
        self.asked.append((kind, since, until))
        # The span before is asked for after the span itself.
        spans = [each for each in self.asked if each[0] is kind]
        earlier = any(until == other_since for _, other_since, _ in spans[:-1])
        return (self.earlier if earlier else self.now)[kind]


def counted(name: str, vendor: str = "", tokens: int = 1_000, requests: int = 10, failed: int = 0) -> Popularity:
    return Popularity(
        name=name,
        vendor=vendor,
        requests=requests,
        failed=failed,
        input_tokens=tokens // 4,
        output_tokens=tokens - tokens // 4,
        first_token_ms=100 * requests,
        duration_ms=600 * requests,
        timed=requests,
    )
