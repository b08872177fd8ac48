"""The one place that talks to Redis: short time-outs, no retries, and a breaker that lets nobody wait twice.

Redis only ever speeds things up or makes them fairer, so that every caller has an answer for `RedisAway`.  The first
call that fails or takes longer than TIMEOUT_S opens the breaker; from then on calls fail at once, and a task of ours
asks about once a second whether Redis takes writes again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from asyncio import Task
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from msgspec import Struct
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.client import PubSub
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import MaxConnectionsError, NoScriptError, RedisError, ResponseError

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 0.2
"""For a whole call, connecting included."""
PROBE_S: Final = 1.0
FIRST_PROBE_S: Final = 0.1
"""A restarted server, or a connection that a proxy cut, is often back at once."""
CONNECTIONS_MAX: Final = 32
PREFIX: Final = "gatewayz:"
"""Of every key and channel, so that a Redis can be shared."""

Part = bytes | str | int | float


class RedisAway(Exception):
    """Redis does not answer, or refuses; whoever asked decides without it."""


class RedisRefused(RedisAway):
    """What was asked makes no sense to Redis, and would not the next time."""


class Script:
    """A Lua script, known to Redis by its digest once it has run there."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


class Counters(Struct):
    """For the metrics."""

    calls: int = 0
    failures: int = 0
    openings: int = 0
    """How often the breaker opened."""


class RedisClient:
    """A server (`redis://`, `rediss://`, `unix://`), or a cluster: the same URL of any node with `?cluster=true`.

    Belongs to the event loop that opened it.
    """

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S, probe_s: float = PROBE_S) -> None:
        self.is_cluster, self._url = _cluster_url(url)
        self._timeout_s = timeout_s
        self._probe_s = probe_s
        self._redis: Redis | RedisCluster = self._made()
        self._prober: Task[None] | None = None
        self._when_back: list[Callable[[], None]] = []
        self.answering = False
        """The breaker is closed.  Whoever can decide without Redis asks this first."""
        self.counters = Counters()

    async def open(self) -> None:
        """Never raises: a Redis that is away now may be there later."""
        self.answering = await self._answers()
        if not self.answering:
            self._open_breaker("it did not answer at the start")

    async def close(self) -> None:
        self.answering = False
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.wait([self._prober])
            self._prober = None
        await self._redis.aclose()

    def when_back(self, callback: Callable[[], None]) -> None:
        """Call this whenever Redis answers again after it did not."""
        self._when_back.append(callback)

    async def run(self, script: Script, keys: Sequence[Part], arguments: Sequence[Part]) -> Any:
        """Raises RedisAway."""
        try:
            return await self._call("EVALSHA", script.digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return await self._call("EVAL", script.source, len(keys), *keys, *arguments)

    async def call(self, *command: Part) -> Any:
        """Raises RedisAway."""
        return await self._call(*command)

    def pubsub(self) -> PubSub:
        """A subscription with a connection of its own, outside the breaker: whoever listens reconnects by itself."""
        return self._redis.pubsub()

    async def _call(self, *command: Part) -> Any:
        if not self.answering:
            raise RedisAway("the breaker is open")
        self.counters.calls += 1
        try:
            # One time-out around everything: redis-py's own would count connecting, the handshake, sending and
            # reading one by one, and it starts a task for each command that it sends.
            async with asyncio.timeout(self._timeout_s):
                return await self._redis.execute_command(*command)
        except NoScriptError:
            raise
        except MaxConnectionsError as error:
            # We are busy, not Redis away.
            self.counters.failures += 1
            raise RedisAway(str(error)) from error
        except (RedisError, OSError) as error:
            self.counters.failures += 1
            reason = f"{type(error).__name__}: {error}"
            self._open_breaker(reason)
            # Its subclasses are states that pass: loading, full, read-only, part of a cluster that is down.
            raise (RedisRefused if type(error) is ResponseError else RedisAway)(reason) from error

    def _open_breaker(self, reason: str) -> None:
        self.answering = False
        if self._prober is None:
            self.counters.openings += 1
            log.warning("Redis is away, this process decides alone until it is back (%s)", reason)
            self._prober = asyncio.create_task(self._probe(), name="redis probe")

    async def _probe(self) -> None:
        pause_s = FIRST_PROBE_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = self._probe_s
            if await self._answers():
                break
        log.warning("Redis is back")
        self._prober = None
        self.answering = True
        for callback in self._when_back:
            callback()

    async def _answers(self) -> bool:
        """Whether it takes a write: a full server and a former master both answer a PING."""
        try:
            async with asyncio.timeout(self._timeout_s):
                if isinstance(self._redis, Redis):
                    # Connections that were idle while it was away may be dead without knowing it.
                    await self._redis.connection_pool.disconnect(inuse_connections=False)
                await self._redis.execute_command("SET", f"{PREFIX}probe", "1", "EX", "60")
        except (RedisError, OSError):
            return False
        return True

    def _made(self) -> Redis | RedisCluster:
        options: dict[str, Any] = {
            "protocol": 2,
            "socket_connect_timeout": self._timeout_s,
            "socket_timeout": None,
            "socket_keepalive": True,
            "max_connections": CONNECTIONS_MAX,
            "retry": Retry(NoBackoff(), 0),
        }
        if self.is_cluster:
            return RedisCluster.from_url(self._url, **options)
        return Redis.from_pool(ConnectionPool.from_url(self._url, **options))


def _cluster_url(url: str) -> tuple[bool, str]:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    is_cluster = query.pop("cluster", "") == "true"
    return is_cluster, parts._replace(query=urlencode(query)).geturl() if is_cluster else url
