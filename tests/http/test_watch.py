"""Watching for a caller who leaves: it ends with the request, and nothing of the request is left behind."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from entrypoints.http.exchange import WATCH_AFTER_S, Exchange, Watch

pytestmark = pytest.mark.anyio

DISCONNECT = {"type": "http.disconnect"}


class Connection:
    """What a server tells of one request: its end, by an answer or by the caller's leaving."""

    def __init__(self) -> None:
        self.is_over = asyncio.Event()

    async def receive(self) -> Any:
        await self.is_over.wait()
        return DISCONNECT

    async def send(self, _message: Any) -> None:
        return None

    def exchange(self) -> Exchange:
        scope: Any = {"type": "http", "method": "POST", "headers": []}
        return Exchange(scope, self.receive, self.send, "request")


async def test_a_watched_request_is_freed_without_the_garbage_collector() -> None:
    connection = Connection()
    watches: set[Watch] = set()
    gc.collect()
    gc.disable()
    try:
        freed = await served(connection, watches)
        connection.is_over.set()
        # The watcher hears of the end in the next turn of the event loop, and its task is forgotten in the one after.
        for _ in range(4):
            await asyncio.sleep(0)

        assert freed() is None
        assert not watches
    finally:
        gc.enable()


async def served(connection: Connection, watches: set[Watch]) -> weakref.ref[Exchange]:
    """A request that takes long enough to be watched."""
    exchange = connection.exchange()
    with Watch(exchange, watches):
        await asyncio.sleep(WATCH_AFTER_S * 2)
    return weakref.ref(exchange)


async def test_a_caller_who_leaves_cancels_the_request() -> None:
    connection = Connection()
    with Watch(connection.exchange(), set()) as watch:
        await asyncio.sleep(WATCH_AFTER_S * 2)
        connection.is_over.set()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(5)
        assert watch.absorb()
    assert watch.gone


async def test_a_connection_that_ends_after_its_request_cancels_nothing() -> None:
    connection = Connection()
    with Watch(connection.exchange(), set()) as watch:
        await asyncio.sleep(WATCH_AFTER_S * 2)
    connection.is_over.set()

    await asyncio.sleep(0.01)

    assert not watch.gone
