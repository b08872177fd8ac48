"""Hints that something was changed, so that other processes look at the revisions at once and not when it is time.

The revisions in storage stay the truth: a lost hint costs what a process waits between two looks, about a second.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Task
from collections.abc import Awaitable, Callable
from typing import Final

from adapters.redis.channels import Channels
from domain.errors import StorageUnavailable

log = logging.getLogger(__name__)

CHANNEL: Final = "revisions"
PAUSE_S: Final = 0.05
"""Between two looks: many changes at once are one look."""


class RevisionHints:
    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._hinted = asyncio.Event()
        self._looking: Task[None] | None = None
        channels.listen(CHANNEL, lambda _: self._hinted.set(), self._hinted.set)

    def changed(self, topic: str) -> None:
        """Tell the others, once the change can be read; returns at once."""
        self._channels.tell(CHANNEL, topic.encode())

    async def open(self, look: Callable[[], Awaitable[None]]) -> None:
        """Call `look` at every hint."""
        self._looking = asyncio.create_task(self._look(look), name="revision hints")

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
            self._looking = None

    async def _look(self, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._hinted.wait()
            self._hinted.clear()
            try:
                await look()
            except StorageUnavailable:
                log.warning("a change was announced, but storage does not answer")
            except Exception:  # A background loop: the next hint is another chance.
                log.exception("a change that was announced could not be taken up")
            await asyncio.sleep(PAUSE_S)
