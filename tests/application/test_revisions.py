"""What another process changed is heard of at the next look."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from adapters.memory.repositories import MemoryRevisions
from application.revisions import WatchRevisions
from domain.errors import StorageUnavailable

pytestmark = pytest.mark.anyio


class Heard:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


async def test_only_the_topic_that_changed_is_heard_of():
    revisions, keys, prices = MemoryRevisions(), Heard(), Heard()
    revisions.bump("keys")
    revisions.bump("prices")
    watch = WatchRevisions(revisions, {"keys": [keys], "prices": [prices]})
    await watch.look()
    await watch.look()
    assert (keys.times, prices.times) == (1, 1)
    revisions.bump("keys")
    await watch.look()
    await watch.look()
    assert (keys.times, prices.times) == (2, 1)


async def test_a_topic_nobody_listens_to_is_passed_over():
    revisions = MemoryRevisions()
    revisions.bump("weather")
    await WatchRevisions(revisions, {}).look()


async def test_callbacks_may_wait():
    revisions, heard = MemoryRevisions(), Heard()
    revisions.bump("catalog")

    async def refresh() -> None:
        await asyncio.sleep(0)
        heard()

    await WatchRevisions(revisions, {"catalog": [refresh]}).look()
    assert heard.times == 1


async def test_a_callback_that_failed_is_called_again():
    revisions, heard = MemoryRevisions(), Heard()
    revisions.bump("prices")

    def fail_once() -> None:
        heard()
        if heard.times == 1:
            raise StorageUnavailable("down")

    watch = WatchRevisions(revisions, {"prices": [fail_once]})
    for _ in range(3):
        await watch.look()
    assert heard.times == 2


async def test_the_watch_outlives_a_storage_that_is_away():
    class Flaky(MemoryRevisions):
        reads = 0

        async def read(self) -> Mapping[str, int]:
            self.reads += 1
            if self.reads == 2:
                raise StorageUnavailable("away")
            return await super().read()

    revisions, told = Flaky(), asyncio.Event()
    watching = asyncio.create_task(WatchRevisions(revisions, {"keys": [told.set]}, period_s=0.001)())
    await asyncio.sleep(0.02)
    revisions.bump("keys")
    await asyncio.wait_for(told.wait(), 5)
    assert revisions.reads > 2
    assert not watching.done()
    watching.cancel()
