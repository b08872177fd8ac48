"""Rankings are read seldom, however many look at them, and say what was counted."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from application.rankings import KEPT_S, CountUsage, Ranked, Rankings, Span, Sums, merged, sums_of, trend_percent
from domain.ports.popularity import Counted
from tests.fakes.popularity import Counts, counted
from tests.fakes.time import FakeClock

pytestmark = pytest.mark.anyio


async def test_many_who_look_at_once_read_once():
    counts, clock = Counts(), FakeClock()
    rankings = Rankings(counts, clock)
    await asyncio.gather(*(rankings.models(Span.MONTH) for _ in range(20)))
    assert len(counts.asked) == 1
    clock.advance(KEPT_S)
    await rankings.models(Span.MONTH)
    assert len(counts.asked) == 2
    await rankings.apps(Span.MONTH)
    assert len(counts.asked) == 3


async def test_a_span_ends_with_the_hour_that_is_running():
    counts, clock = Counts(), FakeClock()
    hour = clock.now().replace(minute=0, second=0, microsecond=0)
    await Rankings(counts, clock).models(Span.DAY)
    until = hour + timedelta(hours=1)
    assert counts.asked[0] == (Counted.MODEL, until - timedelta(days=1), until)
    assert counts.asked[1] == (Counted.MODEL, until - timedelta(days=2), until - timedelta(days=1))
    await Rankings(counts, clock).models(Span.HOUR)
    assert counts.asked[2] == (Counted.MODEL, hour - timedelta(hours=1), until)


async def test_what_was_used_before_gives_the_trend():
    counts = Counts()
    counts.now[Counted.MODEL] = [counted("a", "v", 1_500), counted("b", "v", 10)]
    counts.earlier[Counted.MODEL] = [counted("a", "v", 2_000)]
    more, new = await Rankings(counts, FakeClock()).models(Span.WEEK)
    assert (trend_percent(more), trend_percent(new)) == (-25, None)
    (month, _) = await Rankings(counts, FakeClock()).models(Span.ALL)
    assert month.tokens_before is None
    assert trend_percent(month) is None


def test_averages_are_over_what_was_timed():
    assert sums_of([counted("a", tokens=4_000, requests=10)]) == Sums(
        requests=10, input_tokens=1_000, output_tokens=3_000, first_token_ms=100, tokens_per_s=600
    )
    assert sums_of([]) == Sums()


def test_several_lines_are_one_weighted_by_requests():
    lines = [
        Ranked(name="a", vendor=vendor, tokens_before=0, sums=Sums(requests=n, output_tokens=n, first_token_ms=ms))
        for vendor, n, ms in (("v", 1, 400), ("w", 3, 200), ("x", 6, None))
    ]
    assert merged(lines) == Sums(requests=10, output_tokens=10, first_token_ms=250)
    assert merged([]) == Sums()


async def test_usage_is_counted_up_to_now():
    counts, clock = Counts(), FakeClock()
    counts.now[Counted.APP] = [counted("x")]
    assert await CountUsage(counts, clock)() == 1
    assert counts.clock == clock.now()
