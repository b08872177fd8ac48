"""Learning what other processes changed, within about a second, by one small query."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import anyio

from domain.errors import StorageUnavailable
from domain.ports.repositories import Revisions

log = logging.getLogger(__name__)

Callback = Callable[[], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class WatchRevisions:
    """Calls the callbacks of a topic once its revision is another one than last time.

    The first look calls those of every topic, because what was read before it may be old already.
    """

    revisions: Revisions
    callbacks: Mapping[str, Sequence[Callback]]
    """By topic: "keys", "prices", "catalog"."""
    period_s: float = 1.0
    _seen: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    async def __call__(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except StorageUnavailable:
                # What is cached serves on until it is too old; the next look finds out what was missed.
                log.warning("revisions cannot be read: storage does not answer")
            await anyio.sleep(self.period_s)

    async def look(self) -> None:
        """Look once."""
        for topic, revision in (await self.revisions.read()).items():
            if self._seen.get(topic) != revision and await self._told(topic):
                self._seen[topic] = revision

    async def _told(self, topic: str) -> bool:
        """Whether all callbacks of the topic ran; one that failed is called again at the next look."""
        for callback in self.callbacks.get(topic, ()):
            try:
                if waiting := callback():
                    await waiting
            except Exception:  # A background loop: one topic's failure must not end the watch.
                log.exception("a change of %s could not be taken up", topic)
                return False
        return True
