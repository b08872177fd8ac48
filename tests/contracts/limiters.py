"""Every adapter of the limiter's port, on a clock that moves only when told to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import pytest
from redis import Redis

from adapters.memory.limiter import MemoryLimiter
from adapters.redis.client import RedisClient, Script
from adapters.redis.limiter import RedisLimiter
from adapters.redis.limiter_script import EPOCH, LIMITER
from domain.limits import LimitSet, Subject, windows
from domain.ports.limiter import Limiter
from tests import services

BY_HAND = Script(LIMITER.source.replace("redis.call('TIME')", "redis.call('HMGET', 'time', 's', 'us')"))
"""The script with another clock: tests say what time it is."""

on_redis = pytest.param("redis", marks=pytest.mark.redis)


class HandClock:
    """Whole microseconds, so that Redis and this process read the very same number."""

    def __init__(self, redis: Redis | None = None) -> None:
        self._redis = redis
        self._us = 50_000_000_000
        self.advance(0)

    def now(self) -> datetime:
        raise NotImplementedError

    def monotonic(self) -> float:
        seconds, rest = divmod(self._us, 1_000_000)
        return seconds + rest / 1_000_000

    def advance(self, seconds: float) -> None:
        self._us += round(seconds * 1_000_000)
        if self._redis:
            whole, rest = divmod(self._us, 1_000_000)
            self._redis.hset("time", mapping={"s": EPOCH + whole, "us": rest})


class Limits:
    """A limiter and its clock."""

    def __init__(self, limiter: Limiter, clock: HandClock) -> None:
        self.limiter = limiter
        self._clock = clock

    async def after(self, seconds: float) -> None:
        await self.flush()
        self._clock.advance(seconds)

    async def flush(self) -> None:
        if isinstance(self.limiter, RedisLimiter):
            await self.limiter.flush()


@pytest.fixture(name="limits", params=["memory", on_redis])
async def every_limiter(request: pytest.FixtureRequest) -> AsyncIterator[Limits]:
    if request.param == "memory":
        clock = HandClock()
        yield Limits(MemoryLimiter(clock), clock)
        return
    url = request.getfixturevalue("redis_url")
    with services.redis_client(url) as redis:
        redis.flushdb()
        clock = HandClock(redis)
        async with opened(url, clock) as limiter:
            yield Limits(limiter, clock)
            # A verdict that Redis had no part in would say nothing of Redis.
            assert limiter.decided_locally == 0


@asynccontextmanager
async def opened(url: str, clock: HandClock) -> AsyncIterator[RedisLimiter]:
    """Patient, because a busy machine must not turn a verdict into another one; places live as long as in memory."""
    client = RedisClient(url, timeout_s=10)
    await client.open()
    limiter = RedisLimiter(client, clock, lease_s=3_600, patience_s=10, script=BY_HAND)
    await limiter.open()
    try:
        yield limiter
    finally:
        await limiter.close()
        await client.close()


def subject(name: str = "key:a", **limits: int) -> Subject:
    chosen = LimitSet(**limits)
    return Subject(name, windows(chosen), chosen.concurrent)
