"""What every limiter promises, and that memory and Redis come to the same verdicts."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.memory.limiter import LEASE_S, MemoryLimiter
from adapters.redis.client import PREFIX, RedisClient
from adapters.redis.limiter import RedisLimiter
from adapters.redis.limiter_wire import Slot
from adapters.system.clock import SystemClock
from domain.limits import NO_WINDOW, Admitted, Headroom, LimitSet, RateLimitExceeded, Subject, Window, windows
from domain.ports.limiter import Limiter
from tests import services
from tests.conftest import available
from tests.contracts import limiter_process
from tests.contracts.limiters import (  # noqa: F401 - the fixture is asked for by its name
    HandClock,
    Limits,
    every_limiter,
    opened,
    subject,
)

pytestmark = pytest.mark.anyio


async def refusal(limits: Limits, *subjects: Subject, tokens: int = 1) -> RateLimitExceeded:
    with pytest.raises(RateLimitExceeded) as caught:
        await limits.limiter.acquire(subjects, tokens)
    return caught.value


async def test_headers_show_the_tightest_window_of_each_sort(limits):
    tight = subject("account:b", requests_per_hour=20, tokens_per_day=2_000)
    admitted = await limits.limiter.acquire([subject(), tight], 500)
    assert (admitted.requests.limit, admitted.requests.remaining) == (20, 19)
    assert admitted.requests.reset_s == pytest.approx(180)
    assert (admitted.tokens.limit, admitted.tokens.remaining) == (2_000, 1_500)
    assert admitted.tokens.reset_s == pytest.approx(21_600)


async def test_a_refused_request_takes_nothing_of_any_subject(limits):
    full, free = subject("key:full", burst=1), subject("account:free", concurrent=1)
    await limits.limiter.acquire([full, subject("account:free", concurrent=2)], 0)
    for _ in range(5):
        refused = await refusal(limits, full, free, tokens=1_000)
        assert refused.window == "requests_per_minute"
        assert refused.requests.remaining == 0
        assert "this key" in refused.message
    admitted = await limits.limiter.acquire([subject("account:free", concurrent=2)], 0)
    assert admitted.requests.remaining == 98
    assert admitted.tokens.remaining == 250_000


async def test_the_window_that_frees_last_is_the_one_that_is_told(limits):
    limited = subject(requests_per_hour=10, burst=10)
    for _ in range(10):
        await limits.limiter.acquire([limited], 1)
    refused = await refusal(limits, limited)
    assert (refused.window, refused.retry_after_s) == ("requests_per_hour", 360)
    await limits.after(359)
    await refusal(limits, limited)
    await limits.after(1)
    await limits.limiter.acquire([limited], 1)


async def test_places_are_taken_and_given_back(limits):
    key, account = subject(concurrent=3), subject("account:b", concurrent=2)
    first = await limits.limiter.acquire([key, account], 1)
    await limits.limiter.acquire([key, account], 1)
    refused = await refusal(limits, key, account)
    assert (refused.window, refused.retry_after_s) == ("concurrent", 1)
    assert "concurrent = 2 of this account" in refused.message
    limits.limiter.release([key, account], first, 0)
    await limits.limiter.acquire([key, account], 1)
    await refusal(limits, key, account)


async def test_a_place_given_back_twice_is_given_back_once(limits):
    limited = subject(concurrent=2, tokens_per_minute=1_000)
    first = await limits.limiter.acquire([limited], 100)
    await limits.limiter.acquire([limited], 100)
    limits.limiter.release([limited], first, -50)
    limits.limiter.release([limited], first, -50)
    admitted = await limits.limiter.acquire([limited], 0)
    assert admitted.tokens.remaining == 850
    await refusal(limits, limited)


async def test_a_place_that_nobody_gives_back_is_free_again_in_the_end(limits):
    limited = subject(concurrent=1)
    lost = await limits.limiter.acquire([limited], 1)
    await limits.after(3_599)
    await refusal(limits, limited)
    await limits.after(1)
    admitted = await limits.limiter.acquire([limited], 1)
    limits.limiter.release([limited], lost, 1_000)
    await limits.flush()
    refused = await refusal(limits, limited)
    assert (refused.window, refused.tokens) == ("concurrent", admitted.tokens)


async def test_the_last_request_of_a_burst_is_admitted_and_the_next_is_not(limits):
    for size in range(3, 40):
        limited = subject(f"key:{size}", requests_per_minute=size, burst=size)
        await limits.after(0.123_457)
        for _ in range(size):
            await limits.limiter.acquire([limited], 0)
        assert (await refusal(limits, limited, tokens=0)).window == "requests_per_minute"


async def test_tokens_are_corrected_once_they_are_known(limits):
    limited = subject(tokens_per_minute=1_000)
    admitted = await limits.limiter.acquire([limited], 900)
    await refusal(limits, limited, tokens=500)
    limits.limiter.release([limited], admitted, -800)
    admitted = await limits.limiter.acquire([limited], 500)
    assert admitted.tokens.remaining == 400
    limits.limiter.release([limited], admitted, 300)
    assert (await limits.limiter.acquire([limited], 0)).tokens.remaining == 100


async def test_giving_back_reaches_no_further_than_what_has_not_drained(limits):
    limited = subject(tokens_per_minute=600)
    slow = await limits.limiter.acquire([limited], 600)
    await limits.after(60)
    await limits.limiter.acquire([limited], 600)
    limits.limiter.release([limited], slow, -600)
    assert (await limits.limiter.acquire([limited], 0)).tokens.remaining == 0


async def test_new_limits_hold_at_once_and_forget_nothing_that_was_used(limits):
    before, after = subject(burst=10), subject(burst=10, requests_per_hour=9)
    admitted = [await limits.limiter.acquire([before], 1_000) for _ in range(8)]
    assert (await limits.limiter.acquire([after], 0)).requests.remaining == 0
    await refusal(limits, after)
    limits.limiter.release([before], admitted[0], -1_000)
    running = subject(burst=100)
    assert (await limits.limiter.acquire([running], 0)).tokens.remaining == 243_000


async def test_who_only_looks_sees_the_verdict_and_takes_nothing(limits):
    key = subject("key:a", burst=3, tokens_per_minute=1_000)
    account = subject("account:b", tokens_per_minute=1_000, concurrent=2)
    for _ in range(10):
        seen = await limits.limiter.peek([key, account], 900)
        assert (seen.lease, seen.requests.remaining, seen.tokens.remaining) == ("", 3, 1_000)
    admitted = await limits.limiter.acquire([key, account], 900)
    assert (admitted.requests.remaining, admitted.tokens.remaining) == (2, 100)
    with pytest.raises(RateLimitExceeded) as late:
        await limits.limiter.peek([key, account], 200)
    assert (late.value.window, late.value.tokens.remaining) == ("tokens_per_minute", 100)
    await limits.limiter.acquire([key, account], 0)
    with pytest.raises(RateLimitExceeded) as full:
        await limits.limiter.peek([key, account], 0)
    assert full.value.window == "concurrent"
    limits.limiter.release([key, account], admitted, -900)
    assert (await limits.limiter.peek([key, account], 0)).requests.remaining == 1


async def test_events_of_strangers_are_counted_without_a_place(limits):
    address = Subject("address:192.0.2.1", (Window("attempts", 20, 900, 20, False),), 0)
    for _ in range(20):
        await limits.limiter.hit(address)
    with pytest.raises(RateLimitExceeded) as caught:
        await limits.limiter.hit(address)
    assert caught.value.retry_after_s == 45
    assert caught.value.tokens == NO_WINDOW
    await limits.after(45)
    await limits.limiter.hit(address)


async def test_a_limit_of_zero_refuses_politely(limits):
    refused = await refusal(limits, subject(requests_per_day=0))
    assert refused.window == "requests_per_day"
    assert refused.retry_after_s
    assert (await refusal(limits, subject("key:z", concurrent=0))).window == "concurrent"


async def test_racing_requests_are_admitted_up_to_the_burst(limits):
    limited = subject(burst=100)
    outcomes = await asyncio.gather(*(limits.limiter.acquire([limited], 1) for _ in range(300)), return_exceptions=True)
    admitted = [outcome for outcome in outcomes if isinstance(outcome, Admitted)]
    assert (len(admitted), len({each.lease for each in admitted})) == (50, 50)
    for each in admitted:
        limits.limiter.release([limited], each, 0)
    outcomes = await asyncio.gather(*(limits.limiter.acquire([limited], 1) for _ in range(300)), return_exceptions=True)
    assert sum(isinstance(outcome, Admitted) for outcome in outcomes) == 50
    assert (await refusal(limits, limited)).window == "requests_per_minute"


async def test_who_leaves_while_it_asks_takes_no_place(limits):
    limited = subject(concurrent=1, tokens_per_minute=1_000)
    for turns in range(12):
        asking = asyncio.create_task(limits.limiter.acquire([limited], 1_000))
        for _ in range(turns):
            await asyncio.sleep(0)
        if asking.cancel():
            with pytest.raises(asyncio.CancelledError):
                await asking
        else:
            limits.limiter.release([limited], asking.result(), -1_000)
        await limits.flush()
    admitted = await limits.limiter.acquire([limited], 1_000)
    limits.limiter.release([limited], admitted, 0)


@pytest.mark.redis
async def test_who_leaves_just_when_it_is_admitted_takes_no_place(redis_url):
    with services.redis_client(redis_url) as redis:
        redis.flushdb()

        class LeavingClock(HandClock):
            leaving: asyncio.Task[Admitted] | None = None

            def monotonic(self) -> float:
                # It is read right before the answers are given.
                if self.leaving:
                    asyncio.get_running_loop().call_soon(self.leaving.cancel)
                return super().monotonic()

        clock = LeavingClock(redis)
        async with opened(redis_url, clock) as limiter:
            limited = subject(concurrent=1, tokens_per_minute=1_000)
            asking = asyncio.create_task(limiter.acquire([limited], 1_000))
            clock.leaving = asking
            with pytest.raises(asyncio.CancelledError):
                await asking
            admitted = await limiter.acquire([limited], 1_000)
            assert ":" in admitted.lease


STEP = st.tuples(
    st.sampled_from(["acquire", "acquire", "acquire", "release", "hit", "peek"]),
    st.integers(0, 2),  # which key
    st.integers(0, 1),  # which limits it has now
    st.integers(0, 700),  # tokens
    st.integers(-700, 300),  # tokens beyond the estimate
    st.sampled_from([0.0, 0.000_001, 0.013, 0.5, 7.0, 61.0, 4_000.0]),
)


async def verdict(
    limiter: Limiter, subjects: list[Subject], tokens: int, *, peeks: bool = False
) -> tuple[Any, Admitted | None]:
    try:
        admitted = await (limiter.peek if peeks else limiter.acquire)(subjects, tokens)
    except RateLimitExceeded as refused:
        told = (refused.window, refused.message, refused.retry_after_s, about(refused.requests), about(refused.tokens))
        return told, None
    return (about(admitted.requests), about(admitted.tokens)), admitted


def about(headroom: Headroom | None) -> object:
    """Equal to what differs by a microsecond, the smallest step of Redis's clock."""
    return headroom and (headroom.limit, headroom.remaining, pytest.approx(headroom.reset_s, abs=1.5e-6))


async def hit(limiter: Limiter, address: Subject) -> Any:
    try:
        await limiter.hit(address)
    except RateLimitExceeded as refused:
        return refused.retry_after_s, refused.requests
    return None


@pytest.mark.redis
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, min_size=5, max_size=40))
async def test_memory_and_redis_come_to_the_same_verdicts(redis_url, steps):
    sets = [
        LimitSet(requests_per_minute=12, burst=5, tokens_per_minute=2_000, concurrent=3),
        LimitSet(requests_per_minute=6, burst=9, tokens_per_minute=700, tokens_per_day=5_000, concurrent=2),
    ]
    keys = [[Subject(f"key:{n}", windows(each), each.concurrent) for each in sets] for n in range(3)]
    account = subject("account:x", requests_per_hour=30, concurrent=4)
    address = Subject("address:y", (Window("attempts", 3, 60, 3, False),), 0)
    with services.redis_client(redis_url) as redis:
        redis.flushdb()
        clock = HandClock(redis)
        memory = MemoryLimiter(clock)
        async with opened(redis_url, clock) as shared:
            running: list[tuple[float, list[Subject], Admitted, Admitted]] = []
            for action, key, chosen, tokens, over, pause_s in steps:
                clock.advance(pause_s)
                subjects = [keys[key][chosen], account]
                if action == "acquire":
                    expected, here = await verdict(memory, subjects, tokens)
                    found, there = await verdict(shared, subjects, tokens)
                    assert found == expected
                    if here and there:
                        running.append((clock.monotonic(), subjects, here, there))
                elif action == "peek":
                    expected, _ = await verdict(memory, subjects, tokens, peeks=True)
                    found, _ = await verdict(shared, subjects, tokens, peeks=True)
                    assert found == expected
                elif action == "hit":
                    assert await hit(shared, address) == await hit(memory, address)
                elif running:
                    admitted_at, released, here, there = running.pop(0)
                    if clock.monotonic() - admitted_at < LEASE_S:
                        # When exactly a lost place is found to be lost is nobody's promise.
                        memory.release(released, here, over)
                        shared.release(released, there, over)
                        await shared.flush()
            assert shared.decided_locally == 0


@pytest.mark.redis
async def test_three_processes_admit_one_limit(redis_url):
    with services.redis_client(redis_url) as redis:
        redis.flushdb()
    children = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", limiter_process.__name__, redis_url, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(3)
    ]
    async with asyncio.timeout(90):
        told = [json.loads((await child.communicate())[0]) for child in children]
    assert all(each["locally"] == 0 for each in told)
    lasted_s = max(each["ended"] for each in told) - min(each["began"] for each in told)
    limit = limiter_process.PER_MINUTE / 60 * lasted_s
    admitted = sum(each["admitted"] for each in told)
    assert admitted <= limit + limiter_process.BURST + 1
    assert admitted >= 0.99 * (limit + limiter_process.BURST)
    assert all(each["admitted"] > 0 for each in told)


@pytest.mark.redis
async def test_the_places_of_a_killed_process_are_free_again_and_those_of_a_living_one_are_not(redis_url):
    with services.redis_client(redis_url) as redis:
        redis.flushdb()
    limited = subject(concurrent=2)
    client = RedisClient(redis_url)
    await client.open()
    killed, alive = (RedisLimiter(client, SystemClock(), lease_s=3.0) for _ in range(2))
    await alive.open()
    await killed.open()
    await killed.acquire([limited], 1)
    await alive.acquire([limited], 1)
    for task in killed._tasks:
        task.cancel()
    with pytest.raises(RateLimitExceeded):
        await alive.acquire([limited], 1)
    await asyncio.sleep(4.5)
    await alive.acquire([limited], 1)
    with pytest.raises(RateLimitExceeded):
        await alive.acquire([limited], 1)
    await alive.close()
    await client.close()


@pytest.mark.redis
async def test_nothing_stays_in_redis_of_who_is_idle(redis_url):
    with services.redis_client(redis_url) as redis:
        redis.flushdb()
        client = RedisClient(redis_url)
        await client.open()
        limiter = RedisLimiter(client, SystemClock())
        await limiter.open()
        who = [subject(), subject("account:b")]
        await limiter.hit(Subject("address:y", (Window("attempts", 3, 60, 3, False),), 0))
        admitted = await limiter.acquire(who, 10)
        places = {key.decode(): redis.ttl(key) for key in redis.scan_iter(f"{PREFIX}limit:*:places")}
        assert set(places) == {f"{PREFIX}limit:{{account:b}}:{each.id}:places" for each in who}
        assert all(0 < lasts_s < 120 for lasts_s in places.values())
        limiter.release(who, admitted, -10)
        await limiter.flush()
        kept = [key.decode() for key in redis.scan_iter(f"{PREFIX}limit:*:*")]
        assert kept
        assert all(0 < redis.ttl(key) < 86_400 for key in kept)
        await limiter.close()
        await client.close()
        assert not redis.exists(f"{PREFIX}limit:processes")


@pytest.mark.redis
async def test_a_cluster_takes_the_same_calls():
    found: Any = cluster_of_one()
    with available(found) as url:
        client = RedisClient(url)
        async with asyncio.timeout(20):
            await client.open()
            while not client.answering:  # noqa: ASYNC110 - it has just been made
                await asyncio.sleep(0.05)
        limiter = RedisLimiter(client, SystemClock(), patience_s=10)
        await limiter.open()

        async def request(number: int) -> str:
            who = [subject(f"key:{number}"), subject(f"account:{number // 2}")]
            admitted = await limiter.acquire(who, 10)
            limiter.release(who, admitted, -10)
            return admitted.lease

        leases = await asyncio.gather(*(request(number) for number in range(20)))
        await limiter.flush()
        assert all(":" in lease for lease in leases)
        assert (limiter.decided_locally, client.counters.failures) == (0, 0)
        await limiter.close()
        await client.close()


@contextmanager
def cluster_of_one() -> Iterator[str]:
    """It refuses a call whose keys are not in one place, as every cluster does."""
    with services.private_redis() as server:
        server.stop()
        # Its second port would be the first plus 10,000, which may be more than there are.
        server._command += ["--cluster-enabled", "yes", "--cluster-port", str(services.free_port())]
        with server.running(), services.redis_client(server.url) as redis:
            redis.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16_383)
            yield f"{server.url}?cluster=true"


def test_all_keys_of_a_request_are_in_one_place_of_a_cluster():
    key, account = (Slot(each, "account:b") for each in (subject(), subject("account:b")))
    tags = {name[name.index(b"{") + 1 : name.index(b"}")] for slot in (key, account) for name in slot.keys}
    assert tags == {b"account:b"}
    assert len({*key.keys, *account.keys}) == 4
