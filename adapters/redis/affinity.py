"""Which vendor serves a conversation, whichever process served it last.

What this process remembers is answered at once, for a moment; after that the others may know better, and Redis is
asked.
"""

from __future__ import annotations

import asyncio
import hashlib
from asyncio import Task
from collections.abc import Coroutine
from typing import Any, Final

from adapters.memory.affinity import MemoryAffinity
from adapters.redis.client import PREFIX, RedisAway, RedisClient
from domain.ids import VendorSlug
from domain.ports.affinity import Conversation
from domain.ports.clock import Clock

PATIENCE_S: Final = 0.025
ASKED_MAX: Final = 16
"""Questions under way.  A hint is not worth waiting for a connection."""
LATEST_S: Final = 10.0
"""For so long nobody else is thought to have served a conversation that this process served."""


class RedisAffinity:
    """The port `Affinity` for many processes.  Falls back to what this process remembers."""

    def __init__(self, client: RedisClient, clock: Clock) -> None:
        self._client = client
        self._latest = MemoryAffinity(clock)
        self._own = MemoryAffinity(clock)
        self._asked: set[Task[VendorSlug | None]] = set()
        self._telling: set[Task[None]] = set()
        self._late = False

    async def close(self) -> None:
        """Before the client's."""
        if tasks := {*self._asked, *self._telling}:
            await asyncio.wait(tasks)

    async def recall(self, conversation: Conversation) -> VendorSlug | None:
        vendor = self._latest.known(conversation)
        if vendor is not None or not self._may_ask():
            return vendor or self._own.known(conversation)
        asking = _owned(self._ask(conversation), self._asked)
        await asyncio.wait([asking], timeout=PATIENCE_S)
        if not asking.done():
            # Whoever comes now does not wait at all, until Redis has answered this one or the breaker opens.
            self._late = True
            asking.add_done_callback(self._heard_again)
            return self._own.known(conversation)
        return asking.result() or self._own.known(conversation)

    def remember(self, conversation: Conversation, vendor: VendorSlug, ttl_s: float) -> None:
        self._own.remember(conversation, vendor, ttl_s)
        self._latest.remember(conversation, vendor, min(ttl_s, LATEST_S))
        if self._client.answering and len(self._telling) < ASKED_MAX:
            _owned(self._tell(conversation, vendor, ttl_s), self._telling)

    def _may_ask(self) -> bool:
        return self._client.answering and not self._late and len(self._asked) < ASKED_MAX

    def _heard_again(self, _: Task[VendorSlug | None]) -> None:
        self._late = False

    async def _ask(self, conversation: Conversation) -> VendorSlug | None:
        try:
            found: bytes | None = await self._client.call("GET", _key(conversation))
        except RedisAway:
            return None
        return None if found is None else VendorSlug(found.decode())

    async def _tell(self, conversation: Conversation, vendor: VendorSlug, ttl_s: float) -> None:
        try:
            await self._client.call("SET", _key(conversation), vendor, "PX", str(max(1, round(ttl_s * 1_000))))
        except RedisAway:
            return


def _owned(work: Coroutine[Any, Any, Any], tasks: set[Task[Any]]) -> Task[Any]:
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


def _key(conversation: Conversation) -> str:
    """A digest, because a session's name is the caller's and as long as it likes."""
    parts = "\0".join((conversation.account_id, conversation.model, conversation.mark))
    return f"{PREFIX}affinity:{hashlib.sha256(parts.encode()).hexdigest()}"
