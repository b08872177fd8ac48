"""The rows of the degradation table for Redis and for vendors, seen by the clients of real gateway processes.

PostgreSQL's row is in `test_postgres_faults.py`, a killed worker's in `test_worker_kills.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import httpx
import pytest
from anyio import to_thread

from tests import services
from tests.conftest import available, own_name
from tests.e2e.conftest import (
    HELLO,
    PATH,
    SHARED,
    SOLO,
    WIDE_LIMITS,
    Answer,
    Place,
    cost,
    priced,
    set_prices,
    tell,
    vendor_settings,
)
from tests.e2e.processes import ADMIN_KEY, GatewayProcess, eventually
from tests.fakes.upstream import PROMPT_TOKENS, TEXT_PIECES, Script, Upstream
from tests.faults.toxic_proxy import ToxicProxy
from tests.services import PrivateServer

pytestmark = [pytest.mark.anyio, pytest.mark.fault]

WORKERS = 2
SLOW_S = 0.1
SLOW_MAX = 5
"""Requests of each worker that may notice."""
WAIT_S_MAX = 0.25
BACK_S_MAX = 5.0
LIMITS_KEYS = "gatewayz:limit:*"
SIZES = [
    pytest.param(40, 1.5, id="short"),
    pytest.param(200, 30.0, id="long", marks=pytest.mark.fault_campaign),
]
"""Requests a second, and how long Redis is away."""


@dataclass
class OnRedis:
    """A gateway of two workers, its Redis, and the clients who ask at a steady pace."""

    gateway: GatewayProcess
    redis: PrivateServer
    key: str
    waits_s: list[float] = field(default_factory=list)
    noise_s: list[float] = field(default_factory=list)
    """What others had to wait, and these before anything was broken: the machine is not ours alone."""
    failures: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def under_load(self, per_second: int) -> AsyncIterator[None]:
        self.waits_s, self.noise_s, self.failures = [], [], []
        async with aiohttp.ClientSession(self.gateway.base_url, connector=aiohttp.TCPConnector(limit=0)) as http:
            load = asyncio.create_task(self._load(http, per_second))
            try:
                await asyncio.sleep(1.0)
                self.noise_s.append(max(self.waits_s))
                yield
            finally:
                load.cancel()
                await asyncio.wait([load])

    async def decides_again(self) -> float:
        """How long until Redis counts requests that it has not seen before."""
        began = time.monotonic()
        with services.redis_client(self.redis.url) as redis:
            redis.flushall()

            def counts() -> None:
                assert redis.keys(LIMITS_KEYS)

            await eventually(counts, 2 * BACK_S_MAX)
        return time.monotonic() - began

    def assert_hardly_noticed(self) -> None:
        assert self.failures == []
        # Twice, because a paid request waits for the processor at several steps, and a health check at one.
        noise_s = 2 * max(self.noise_s)
        slow = [wait_s for wait_s in self.waits_s if wait_s > SLOW_S + noise_s]
        tell(
            f"{len(self.waits_s)} requests, {len(slow)} slow, at most {max(self.waits_s):.3f} s, noise {noise_s:.3f} s"
        )
        assert len(slow) <= SLOW_MAX * WORKERS
        assert max(self.waits_s) <= WAIT_S_MAX + noise_s

    async def _load(self, http: aiohttp.ClientSession, per_second: int) -> None:
        body = {"model": "sandbox/echo", "messages": HELLO, "max_tokens": 4}
        running: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        try:
            while True:
                for timed in (
                    self._timed(http.post(PATH, json=body, headers=bearer(self.key)), self.waits_s),
                    self._timed(http.get("/health"), self.noise_s),
                ):
                    task = asyncio.create_task(timed)
                    running.add(task)
                    task.add_done_callback(running.discard)
                due += 1 / per_second
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        finally:
            await asyncio.gather(*running)

    async def _timed(self, call: Any, waits_s: list[float]) -> None:
        began = time.monotonic()
        try:
            async with call as answer:
                said = await answer.text()
                if answer.status != 200:
                    self.failures.append(f"{answer.status} {said}")
        except aiohttp.ClientError as error:
            self.failures.append(repr(error))
        waits_s.append(time.monotonic() - began)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def redis_server() -> Iterator[PrivateServer]:
    found: Any = services.private_redis()
    with available(found) as private:
        yield cast(PrivateServer, private)


@pytest.fixture(scope="module")
async def on_redis(
    postgres_url: str, redis_server: PrivateServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[OnRedis]:
    with services.postgres_database(postgres_url, f"{own_name()}_degradation") as url:
        settings = {"DATABASE_URL": url, "REDIS_URL": redis_server.url, "GATEWAYZ_WORKERS": str(WORKERS)}
        gateway = GatewayProcess(tmp_path_factory.mktemp("on_redis"), **WIDE_LIMITS | settings)
        await to_thread.run_sync(gateway.cli, "migrate")
        try:
            await to_thread.run_sync(gateway.start)
            account = (await to_thread.run_sync(gateway.post, "/admin/users", {"email": "r@example.org"}))["id"]
            await to_thread.run_sync(gateway.cli, "credits", "grant", account, "10", "--reason", "test")
            made = await to_thread.run_sync(gateway.cli, "keys", "create", account, "--name", "k", "--json")
            yield OnRedis(gateway, redis_server, str(json.loads(made.stdout)["key"]))
        finally:
            await to_thread.run_sync(gateway.stop)


async def kill(server: PrivateServer) -> None:
    await to_thread.run_sync(server.stop, signal.SIGKILL)


async def start(server: PrivateServer) -> None:
    await to_thread.run_sync(server.start)


async def freeze(server: PrivateServer) -> None:
    os.kill(server.pid, signal.SIGSTOP)


async def thaw(server: PrivateServer) -> None:
    os.kill(server.pid, signal.SIGCONT)


Happening = Callable[[PrivateServer], Awaitable[None]]


@pytest.mark.parametrize(("per_second", "away_s"), SIZES)
@pytest.mark.parametrize(("begin", "end"), [(kill, start), (freeze, thaw)], ids=["killed", "frozen"])
async def test_without_redis_nobody_is_failed_and_hardly_anybody_waits(
    on_redis: OnRedis, begin: Happening, end: Happening, per_second: int, away_s: float
) -> None:
    async with on_redis.under_load(per_second):
        await begin(on_redis.redis)
        await asyncio.sleep(away_s)
        await end(on_redis.redis)
        back_s = await on_redis.decides_again()
        await asyncio.sleep(0.5)
    on_redis.assert_hardly_noticed()
    assert back_s <= BACK_S_MAX
    await to_thread.run_sync(on_redis.gateway.verify)


@pytest.mark.parametrize("per_second", [40, pytest.param(200, marks=pytest.mark.fault_campaign)])
async def test_a_flushed_redis_is_not_noticed(on_redis: OnRedis, per_second: int) -> None:
    async with on_redis.under_load(per_second):
        for _ in range(3):
            assert await on_redis.decides_again() <= BACK_S_MAX
            await asyncio.sleep(0.2)
    on_redis.assert_hardly_noticed()


FIRST_BYTE_S, IDLE_S = 2, 1
FRAME_DELAY_S = 0.05
SPARE_S = 1.5
"""For a machine that is busy with other things."""


@dataclass
class BehindProxy:
    """A gateway whose vendor alpha can be reached through the proxy only; beta is as it should be."""

    place: Place
    proxy: ToxicProxy


@pytest.fixture(scope="module")
async def proxied(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[BehindProxy]:
    async with Upstream() as alpha, Upstream() as beta, ToxicProxy("127.0.0.1", alpha.port) as proxy:
        through = cast(Upstream, SimpleNamespace(base_url=f"http://{proxy.host}:{proxy.port}/v1"))
        settings = vendor_settings(through, beta) | {
            "GATEWAYZ_FIRST_BYTE_SECONDS": str(FIRST_BYTE_S),
            "GATEWAYZ_IDLE_SECONDS": str(IDLE_S),
        }
        gateway = GatewayProcess(tmp_path_factory.mktemp("proxied"), **WIDE_LIMITS | settings)
        async with httpx.AsyncClient(base_url=gateway.base_url, timeout=30.0) as http:
            place = Place(gateway, alpha, beta, http)
            try:
                await to_thread.run_sync(gateway.start)
                await set_prices(gateway)
                await priced(place)
                yield BehindProxy(place, proxy)
            finally:
                await proxy.heal()
                await to_thread.run_sync(gateway.stop)


Toxic = Callable[[ToxicProxy], Awaitable[None]]


async def is_late(proxy: ToxicProxy) -> None:
    await proxy.latency(5.0)


async def is_thin(proxy: ToxicProxy) -> None:
    await proxy.bandwidth(20)


async def resets(proxy: ToxicProxy) -> None:
    await proxy.limit_data(0, by_reset=True)
    await proxy.reset()


async def half_closes(proxy: ToxicProxy) -> None:
    await proxy.limit_data(0)
    await proxy.half_close()


async def is_gone(proxy: ToxicProxy) -> None:
    await proxy.refuse()
    await proxy.reset()


async def is_a_black_hole(proxy: ToxicProxy) -> None:
    await proxy.black_hole()


TOXICS: list[Toxic] = [is_late, is_thin, resets, half_closes, is_gone, is_a_black_hole]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("number", "toxic"), list(enumerate(TOXICS)), ids=[toxic.__name__ for toxic in TOXICS])
async def test_before_the_first_token_another_vendor_answers(
    proxied: BehindProxy, number: int, toxic: Toxic, streamed: bool
) -> None:
    place, model = proxied.place, SHARED[number]
    before = await place.charged()
    await toxic(proxied.proxy)
    try:
        began = time.monotonic()
        answer = await place.chat(model, stream=streamed)
        took_s = time.monotonic() - began
    finally:
        await proxied.proxy.heal()
    assert (answer.status, answer.headers["x-gatewayz-vendor"]) == (200, "beta"), answer.body
    # Half of the time belongs to the first of two vendors.
    assert took_s <= FIRST_BYTE_S / 2 + SPARE_S
    record = await place.generation(answer.request_id)
    assert [attempt["vendor"] for attempt in record["attempts"]] == ["alpha", "beta"]
    assert await place.charged() - before == cost(PROMPT_TOKENS, len(TEXT_PIECES))
    await place.verify()


@pytest.mark.parametrize("toxic", TOXICS, ids=[toxic.__name__ for toxic in TOXICS])
async def test_after_the_first_token_an_error_event_ends_the_stream_and_the_answer_is_free(
    proxied: BehindProxy, toxic: Toxic
) -> None:
    place = proxied.place
    model = SOLO[TOXICS.index(toxic) % len(SOLO)]
    before = await place.charged()
    place.alpha.by_model[model] = Script(frame_delay_s=FRAME_DELAY_S)
    try:
        answer, cut_s = await cut_after_the_first_word(place, model, lambda: toxic(proxied.proxy))
    finally:
        await proxied.proxy.heal()
    *said, last = answer.events
    assert answer.status == 200
    assert said
    assert last["error"]["code"] in {"vendor_error", "vendor_timeout"}, last
    assert cut_s <= IDLE_S + SPARE_S
    assert await place.charged() == before
    assert (await place.generation(answer.request_id))["outcome"] == "broken_off"
    await place.verify()


async def cut_after_the_first_word(
    place: Place, model: str, cut: Callable[[], Awaitable[None]]
) -> tuple[Answer, float]:
    """The whole answer, and how long it went on after the cut."""
    body = {"model": model, "messages": HELLO, "stream": True}
    async with place.http.stream("POST", PATH, json=body, headers=bearer(ADMIN_KEY)) as response:
        parts = response.aiter_raw()
        read = await anext(parts)
        while b'"content":"' not in read:
            read += await anext(parts)
        await cut()
        began = time.monotonic()
        read += b"".join([part async for part in parts])
    return Answer(response.status_code, dict(response.headers), read), time.monotonic() - began


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_slow_line_and_small_pieces_change_nothing_but_the_time(proxied: BehindProxy, streamed: bool) -> None:
    place = proxied.place
    plain = await place.chat(SHARED[7], stream=streamed)
    await proxied.proxy.latency(0.1, jitter_s=0.05)
    await proxied.proxy.slicing(7)
    try:
        slow = await place.chat(SHARED[7], stream=streamed)
    finally:
        await proxied.proxy.heal()
    assert (slow.status, slow.headers["x-gatewayz-vendor"]) == (200, "alpha")
    if streamed:
        assert [event if event == b"[DONE]" else event["choices"] for event in slow.events] == [
            event if event == b"[DONE]" else event["choices"] for event in plain.events
        ]
    else:
        assert slow.json["choices"] == plain.json["choices"]
    await place.verify()
