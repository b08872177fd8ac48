"""What rate limits cost: this process's CPU for one request admitted and given back, in memory and through Redis."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator

from adapters.memory.limiter import MemoryLimiter
from adapters.redis.client import RedisClient
from adapters.redis.limiter import RedisLimiter
from adapters.system.clock import SystemClock
from domain.limits import LimitSet, Subject, windows
from domain.ports.limiter import Limiter
from tests import services
from tests.benchmarks.rows import Row, Wanted

REQUESTS = 6_000
ROUNDS = 5
"""The best one counts: whoever else uses the machine only ever makes it slower."""
BARS_US = {1: None, 16: 60.0, 128: 30.0}
"""Callers at once, and the CPU that a request may cost through Redis."""
NAMES = tuple(f"limiter-{callers}" for callers in BARS_US)
UNLIMITED = LimitSet(**dict.fromkeys(LimitSet.__struct_fields__, 10**9))


def subjects(caller: int) -> tuple[Subject, ...]:
    """Four callers share an account."""
    return (
        Subject(f"key:{os.getpid()}-{caller}", windows(UNLIMITED), UNLIMITED.concurrent),
        Subject(f"account:{os.getpid()}-{caller // 4}", windows(UNLIMITED), UNLIMITED.concurrent),
    )


async def cpu_us(limiter: Limiter, callers: int) -> float:
    async def call(caller: int, times: int) -> None:
        who = subjects(caller)
        for _ in range(times):
            admitted = await limiter.acquire(who, 1_000)
            await asyncio.sleep(0)
            limiter.release(who, admitted, -100)

    each = REQUESTS // callers // (4 if callers == 1 else 1)
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        await asyncio.gather(*(call(caller, each) for caller in range(callers)))
        best = min(best, (time.process_time() - began) / (each * callers) * 1e6)
    return best


async def rows(wanted: Wanted) -> AsyncIterator[Row]:
    with services.redis() as url:
        # Patient, so that on a busy machine too it is Redis's path that is measured.
        client = RedisClient(url, timeout_s=10)
        await client.open()
        shared = RedisLimiter(client, SystemClock(), patience_s=10)
        await shared.open()
        for (callers, bar), name in zip(BARS_US.items(), NAMES, strict=True):
            if name in wanted:
                in_memory = await cpu_us(MemoryLimiter(SystemClock()), callers)
                through_redis = await cpu_us(shared, callers)
                what = f"limiter, acquire + release, CPU, {callers} callers"
                seen = f"redis {through_redis:.1f} us, memory {in_memory:.1f} us"
                kept = through_redis <= bar if bar else None
                yield Row(name, what, seen, f"<= {bar:g} us" if bar else "", kept)
        await shared.close()
        await client.close()
