"""A process that asks for far more than its limit allows, and tells how much of it was admitted."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from adapters.redis.client import RedisClient
from adapters.redis.limiter import RedisLimiter
from adapters.system.clock import SystemClock
from domain.limits import MINUTE_S, RateLimitExceeded, Subject, Window

REQUESTS = 10_000
CALLERS = 16
PER_MINUTE = 60_000
BURST = 300
ACCOUNT = Subject("account:crowded", (Window("requests", PER_MINUTE, MINUTE_S, BURST, False),), 10_000)


async def ask(url: str) -> dict[str, float]:
    # Patient, because it is Redis's verdicts that are counted here.
    client = RedisClient(url, timeout_s=10)
    await client.open()
    limiter = RedisLimiter(client, SystemClock(), patience_s=10)
    await limiter.open()
    admitted = 0

    async def call() -> None:
        nonlocal admitted
        for _ in range(REQUESTS // CALLERS):
            try:
                place = await limiter.acquire([ACCOUNT], 0)
            except RateLimitExceeded:
                continue
            admitted += 1
            limiter.release([ACCOUNT], place, 0)

    began = time.time()
    await asyncio.gather(*(call() for _ in range(CALLERS)))
    ended = time.time()
    locally = limiter.decided_locally
    await limiter.close()
    await client.close()
    return {"began": began, "ended": ended, "admitted": admitted, "locally": locally}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(ask(sys.argv[1]))))
