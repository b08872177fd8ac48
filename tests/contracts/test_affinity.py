"""What every affinity store promises, and what processes learn from each other through Redis."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from adapters.memory.affinity import CONVERSATIONS_MAX, MemoryAffinity
from adapters.redis.affinity import RedisAffinity
from adapters.redis.client import RedisClient
from domain.ids import AccountId, ModelId, VendorSlug
from domain.ports.affinity import Affinity, Conversation
from tests import services
from tests.fakes.time import FakeClock

pytestmark = pytest.mark.anyio

ANN, BOB = AccountId("ann"), AccountId("bob")
GPT = ModelId("openai/gpt-5")
TALK = Conversation(ANN, GPT, "session-1")
ACME, DUFF = VendorSlug("acme"), VendorSlug("duff")

on_redis = pytest.param("redis", marks=pytest.mark.redis)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["memory", on_redis])
async def affinity(request: pytest.FixtureRequest, clock: FakeClock) -> AsyncIterator[Affinity]:
    if request.param == "memory":
        yield MemoryAffinity(clock)
        return
    url = request.getfixturevalue("redis_url")
    with services.redis_client(url) as redis:
        redis.flushdb()
    client = RedisClient(url)
    await client.open()
    store = RedisAffinity(client, clock)
    yield store
    await store.close()
    await client.close()


async def test_a_conversation_goes_back_to_who_served_it_last(affinity):
    assert await affinity.recall(TALK) is None
    affinity.remember(TALK, ACME, 60)
    assert await affinity.recall(TALK) == ACME
    affinity.remember(TALK, DUFF, 60)
    assert await affinity.recall(TALK) == DUFF


@pytest.mark.parametrize(
    "other",
    [Conversation(BOB, GPT, "session-1"), Conversation(ANN, ModelId("x/y"), "session-1"), Conversation(ANN, GPT, "2")],
)
async def test_conversations_are_told_apart_by_account_model_and_mark(affinity, other):
    affinity.remember(TALK, ACME, 60)
    assert await affinity.recall(other) is None


async def test_it_is_forgotten_after_its_time(affinity, clock):
    affinity.remember(TALK, ACME, 0.05)
    clock.advance(0.05)
    await asyncio.sleep(0.1)
    assert await affinity.recall(TALK) is None


async def test_memory_keeps_the_latest_conversations_only():
    affinity = MemoryAffinity(FakeClock())
    for number in range(CONVERSATIONS_MAX + 10):
        affinity.remember(Conversation(ANN, GPT, str(number)), ACME, 60)
    assert await affinity.recall(Conversation(ANN, GPT, "9")) is None
    assert await affinity.recall(Conversation(ANN, GPT, "10")) == ACME


@pytest.mark.redis
async def test_another_process_knows_it_too_and_the_latest_word_counts(redis_url):
    clock, client = FakeClock(), RedisClient(redis_url)
    await client.open()
    one, other = RedisAffinity(client, clock), RedisAffinity(client, clock)
    talk = Conversation(ANN, GPT, "shared")
    one.remember(talk, ACME, 600)
    await one.close()
    assert await other.recall(talk) == ACME
    other.remember(talk, DUFF, 600)
    await other.close()
    clock.advance(60)
    assert await one.recall(talk) == DUFF
    await client.close()


@pytest.mark.redis
@pytest.mark.fault
async def test_without_redis_a_process_knows_what_it_served_itself_and_hardly_waits(redis_url):
    with services.private_redis() as server:
        clock, client = FakeClock(), RedisClient(server.url)
        await client.open()
        affinity = RedisAffinity(client, clock)
        affinity.remember(TALK, ACME, 600)
        await affinity.close()
        clock.advance(60)
        os.kill(server.pid, signal.SIGSTOP)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(100):
            assert await affinity.recall(TALK) == ACME
            affinity.remember(Conversation(ANN, GPT, "other"), DUFF, 600)
        assert loop.time() - began < 0.2
        await affinity.close()
        assert not client.answering
        assert await affinity.recall(TALK) == ACME
        os.kill(server.pid, signal.SIGCONT)
        await client.close()
