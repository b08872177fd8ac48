"""Messages between processes: told once, to whoever listens at that moment, and never relied upon.

Everything that is told here can also be found out by looking, a little later.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Task
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from adapters.redis.client import PREFIX, RedisAway, RedisClient

log = logging.getLogger(__name__)

RECONNECT_S: Final = 1.0
QUIET_S: Final = 5.0
"""After so long without a message Redis is asked whether it is still there."""
TELLING_MAX: Final = 1_000


class Channels:
    """One subscription for all that a process listens to.  It reconnects by itself."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._heard: dict[str, Callable[[bytes], None]] = {}
        self._resumed: dict[str, Callable[[], None]] = {}
        self._listening: Task[None] | None = None
        self._telling: set[Task[Any]] = set()
        self.subscriptions = 0
        """How often it was subscribed; more than once: messages were missed."""

    def listen(self, channel: str, heard: Callable[[bytes], None], resumed: Callable[[], None]) -> None:
        """Before `open`.  `resumed` is called whenever messages may have been missed."""
        self._heard[PREFIX + channel] = heard
        self._resumed[PREFIX + channel] = resumed

    def tell(self, channel: str, message: bytes) -> None:
        """Returns at once; nobody hears of it while Redis is away."""
        if self._client.answering and len(self._telling) < TELLING_MAX:
            self._own(self._tell(PREFIX + channel, message))

    async def open(self) -> None:
        """After the client's."""
        if self._heard:
            self._listening = asyncio.create_task(self._listen(), name="redis channels")

    async def close(self) -> None:
        """Before the client's."""
        tasks = {*self._telling, *filter(None, [self._listening])}
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None
        if tasks:
            await asyncio.wait(tasks)

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, channel: str, message: bytes) -> None:
        with suppress(RedisAway):
            await self._client.call("PUBLISH", channel, message)

    async def _listen(self) -> None:
        while True:
            pubsub = self._client.pubsub()
            try:
                async with asyncio.timeout(RECONNECT_S):
                    await pubsub.subscribe(*self._heard)
                await self._hear(pubsub)
            except (RedisError, OSError) as error:
                log.debug("listening to Redis ended: %s", error)
            finally:
                with suppress(RedisError, OSError):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]
            await asyncio.sleep(RECONNECT_S)

    async def _hear(self, pubsub: PubSub) -> None:
        asked = False
        while True:
            message = await pubsub.get_message(timeout=QUIET_S)
            if message is None:
                if asked:
                    raise RedisConnectionError("it is silent")
                asked = True
                await pubsub.ping()
                continue
            asked = False
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        kind, channel = message["type"], message["channel"]
        name = channel.decode() if isinstance(channel, bytes) else str(channel)
        try:
            if kind == "subscribe":
                self.subscriptions += 1
                self._resumed[name]()
            elif kind == "message":
                self._heard[name](message["data"])
        except Exception:  # A background loop: one bad message must not end it.
            log.exception("a message of %s could not be taken up", name)
