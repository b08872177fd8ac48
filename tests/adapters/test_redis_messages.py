"""What processes tell each other through Redis: changes of what is cached, and vendors' health."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from adapters.memory.repositories import MemoryRevisions
from adapters.redis.channels import Channels
from adapters.redis.client import RedisClient
from adapters.redis.health import RedisHealthBoard
from adapters.redis.revisions import PAUSE_S, RevisionHints
from adapters.system.clock import SystemClock
from application.revisions import WatchRevisions
from domain.catalog import Offer
from domain.health import FAILURES_MAX
from domain.ids import ModelId, VendorSlug
from domain.inference.faults import FaultKind, VendorFault
from tests import services

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

ACME = VendorSlug("acme")


def offer(name: str = "m") -> Offer:
    return Offer(vendor=ACME, model=ModelId(f"x/{name}"), vendor_model=name, price=None)


BROKEN = VendorFault(FaultKind.SERVER_ERROR, "500")


@dataclass
class Process:
    client: RedisClient
    channels: Channels
    hints: RevisionHints
    health: RedisHealthBoard
    looks: int = 0

    async def look(self) -> None:
        self.looks += 1


@asynccontextmanager
async def process(url: str) -> AsyncIterator[Process]:
    client = RedisClient(url)
    channels = Channels(client)
    one = Process(client, channels, RevisionHints(channels), RedisHealthBoard(client, channels, SystemClock()))
    await client.open()
    await channels.open()
    await one.hints.open(one.look)
    await one.health.open()
    try:
        yield one
    finally:
        await one.health.close()
        await one.hints.close()
        await channels.close()
        await client.close()


@pytest.fixture
async def two(redis_url: str) -> AsyncIterator[tuple[Process, Process]]:
    with services.redis_client(redis_url) as redis:
        redis.flushdb()
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(process(redis_url)) for _ in range(2)]
        # Each channel's subscription is answered by itself.
        await until(lambda: one.channels.subscriptions == other.channels.subscriptions == 2)
        await until(lambda: one.looks > 0 and other.looks > 0)
        await asyncio.sleep(0.1)
        yield one, other


async def until(is_so: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if is_so():
                return
            await asyncio.sleep(0.005)


async def test_a_change_is_looked_for_at_once_and_many_changes_are_few_looks(two):
    one, other = two
    before = other.looks
    began = time.monotonic()
    one.hints.changed("keys")
    await until(lambda: other.looks > before)
    assert time.monotonic() - began < 0.5
    for _ in range(50):
        one.hints.changed("keys")
        await asyncio.sleep(0.005)
    lasted_s = time.monotonic() - began
    await asyncio.sleep(0.1)
    assert other.looks <= before + lasted_s / PAUSE_S + 3


async def test_a_hint_reaches_who_caches_what_was_changed(two):
    one, other = two
    revisions, heard = MemoryRevisions(), []
    watch = WatchRevisions(revisions, {"keys": [lambda: heard.append("keys")]})
    other.look = watch.look
    await other.hints.close()
    await other.hints.open(watch.look)
    revisions.bump("keys")
    one.hints.changed("keys")
    await until(lambda: heard == ["keys"])


async def test_it_listens_again_after_an_outage_and_looks_for_what_it_missed():
    with services.private_redis() as server:
        async with process(server.url) as one:
            await until(lambda: one.looks > 0)
            await asyncio.to_thread(server.stop, signal.SIGKILL)
            one.hints.changed("keys")
            before = one.looks
            await asyncio.to_thread(server.start)
            await until(lambda: one.looks > before)
            await until(lambda: one.client.answering)
            before = one.looks
            one.hints.changed("keys")
            await until(lambda: one.looks > before)


async def test_a_breaker_that_opens_in_one_process_opens_in_all_and_closes_in_all(two):
    one, other = two
    for _ in range(FAILURES_MAX - 1):
        one.health.failed(offer(), BROKEN)
    await asyncio.sleep(0.1)
    assert not other.health.pulse(offer()).resting
    one.health.failed(offer(), BROKEN)
    assert one.health.pulse(offer()).resting
    await until(lambda: other.health.pulse(offer()).resting)
    assert not other.health.pulse(offer("another")).resting
    other.health.succeeded(offer(), 100, 50, 1_000)
    await until(lambda: not one.health.pulse(offer()).resting)


async def test_a_vendor_that_refuses_our_account_rests_everywhere(two):
    one, other = two
    one.health.failed(offer(), VendorFault(FaultKind.CREDENTIAL_REJECTED, "401"))
    await until(lambda: other.health.pulse(offer("another")).resting)
    one.health.succeeded(offer(), 100, 50, 1_000)
    await until(lambda: not other.health.pulse(offer("another")).resting)


async def test_what_one_process_measured_the_others_know_and_all_come_to_one_figure(two):
    one, other = two
    one.health.succeeded(offer(), 400, 50, 1_000)
    await one.health.sync()
    await other.health.sync()
    assert other.health.pulse(offer()).latency_ms == 400
    fresh = RedisHealthBoard(other.client, other.channels, SystemClock())
    await fresh.sync()
    assert fresh.pulse(offer()).latency_ms == 400
    for _ in range(40):
        other.health.succeeded(offer(), 200, 50, 1_000)
        await other.health.sync()
        await one.health.sync()
    assert one.health.pulse(offer()).latency_ms == pytest.approx(200, rel=0.1)


async def test_a_process_that_starts_later_knows_who_rests(two):
    one, other = two
    for _ in range(FAILURES_MAX):
        one.health.failed(offer(), BROKEN)
    await one.health.sync()
    late = RedisHealthBoard(other.client, other.channels, SystemClock())
    await late.sync()
    assert late.pulse(offer()).resting


async def test_without_redis_health_is_this_process_s_own():
    client = RedisClient(f"redis://127.0.0.1:{services.free_port()}")
    channels = Channels(client)
    board = RedisHealthBoard(client, channels, SystemClock())
    await client.open()
    await board.open()
    for _ in range(FAILURES_MAX):
        board.failed(offer(), BROKEN)
    assert board.pulse(offer()).resting
    await board.close()
    await client.close()


async def test_a_message_that_makes_no_sense_is_passed_over(two):
    one, other = two
    one.channels.tell("health", b"\xc1")
    before = other.looks
    one.hints.changed("keys")
    await until(lambda: other.looks > before)
