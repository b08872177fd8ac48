"""PostgreSQL away, silent or restarted under load: what runs finishes, nothing is served free, all is settled."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from anyio import to_thread

from domain.money import Usd
from tests import services
from tests.conftest import available, own_name
from tests.e2e.conftest import WIDE_LIMITS
from tests.e2e.processes import ADMIN_KEY, GatewayProcess, eventually
from tests.faults.toxic_proxy import ToxicProxy
from tests.services import PrivateServer

pytestmark = [pytest.mark.anyio, pytest.mark.postgres, pytest.mark.fault]

STREAMS = 5
WORDS = 15
OUTAGES = [
    pytest.param(5, STREAMS, id="5s"),
    pytest.param(60, 50, id="60s", marks=pytest.mark.fault_campaign),
]
"""How long, and how many streams run into it."""
REFUSED_S_MAX = 2.0
CALLERS, CALLER_PAUSE_S = 20, 0.1
"""Those who ask while the database is restarted, about a hundred times a second."""
REFUSED_MAX = 2
"""Of each of them, while it takes a second or two to come back."""
BACK_S_MAX = 2.0
SETTINGS = {
    "GATEWAYZ_DRAIN_SECONDS": "1",
    # All leases run out while the database is away, and still nobody comes before the settlements.
    "GATEWAYZ_HOLD_LEASE_SECONDS": "3",
    "GATEWAYZ_HEARTBEAT_SECONDS": "1",
}
COST_NANOS = WORDS * (500 + 1_500)
"""At the sandbox's prices, for so many words in and out."""
CHAT = "/v1/chat/completions"


@dataclass
class Place:
    """A gateway with a funded customer, and what stands between it and its database."""

    gateway: GatewayProcess
    proxy: ToxicProxy
    http: httpx.AsyncClient
    key: str

    async def database_goes(self) -> None:
        await self.proxy.refuse()
        await self.proxy.reset()

    async def streams_begin(self, count: int = STREAMS) -> list[asyncio.Task[str]]:
        tasks = [asyncio.create_task(self.stream()) for _ in range(count)]
        await asyncio.sleep(1.0)
        assert not any(task.done() for task in tasks)
        return tasks

    async def stream(self) -> str:
        """What a slow answer says, read to its end."""
        body = request("sandbox/slow", WORDS) | {"stream": True}
        async with self.http.stream("POST", CHAT, json=body, headers=bearer(self.key)) as answer:
            assert answer.status_code == 200, await answer.aread()
            return (await answer.aread()).decode()

    async def ask(self, headers: dict[str, str] | None = None) -> httpx.Response:
        body = request("sandbox/echo", WORDS)
        return await self.http.post(CHAT, json=body, headers=bearer(self.key) | (headers or {}))

    async def served_again(self) -> None:
        assert (await self.ask()).status_code == 200

    async def has_settled_all(self) -> None:
        assert self.journal() == []
        settlements = await self.http.get("/admin/settlements", headers=bearer())
        assert settlements.status_code == 200
        assert not settlements.json()["open"]
        assert not settlements.json()["overdue"]

    async def charged_nanos(self) -> int:
        answer = await self.http.get("/user/balance", headers=bearer(self.key))
        assert answer.status_code == 200
        balance = answer.json()
        assert balance["held_usd"] == "0"
        return Usd.parse(balance["charged_usd"]).nanos

    def journal(self) -> list[str]:
        """The lines of all journals."""
        files = sorted((self.gateway.directory / "var" / "journal").glob("*.jsonl"))
        return [line for file in files for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
async def place(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    with services.postgres_database(postgres_url, f"{own_name()}_faults") as url:
        async with gateway_on(url, tmp_path_factory.mktemp("gateway")) as place:
            yield place


@asynccontextmanager
async def gateway_on(url: str, directory: Path) -> AsyncIterator[Place]:
    server = urlsplit(url)
    assert server.hostname is not None
    async with ToxicProxy(server.hostname, server.port or 5432) as proxy:
        address = server.netloc.rpartition("@")[0] + f"@{proxy.host}:{proxy.port}"
        through = server._replace(netloc=address.removeprefix("@")).geturl()
        gateway = GatewayProcess(directory, DATABASE_URL=through, **WIDE_LIMITS | SETTINGS)
        await to_thread.run_sync(gateway.cli, "migrate")
        try:
            await to_thread.run_sync(gateway.start)
            key = await to_thread.run_sync(funded, gateway)
            async with httpx.AsyncClient(base_url=gateway.base_url, timeout=30.0) as http:
                yield Place(gateway, proxy, http, key)
        finally:
            await proxy.heal()
            await to_thread.run_sync(gateway.stop)


def funded(gateway: GatewayProcess) -> str:
    """The key of a new account with ten dollars."""
    account = str(gateway.post("/admin/users", {"email": "faults@example.org"})["id"])
    grant = {"account": account, "amount_usd": "10", "reason": "a test"}
    status, _, told = gateway.call("POST", "/admin/credits/grant", grant)
    assert status == 200, told
    made = json.loads(gateway.cli("keys", "create", account, "--name", "k", "--json").stdout)
    return str(made["key"])


def request(model: str, words: int) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": " ".join(["word"] * words)}], "max_tokens": 100}


def bearer(key: str = ADMIN_KEY) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(("away_s", "streaming"), OUTAGES)
async def test_streams_outlive_an_outage_and_are_settled_after_it(place: Place, away_s: float, streaming: int) -> None:
    assert (await place.ask()).status_code == 200
    before = await place.charged_nanos()
    streams = await place.streams_begin(streaming)

    await place.database_goes()
    back_at = time.monotonic() + away_s
    for _ in range(3):
        await refused_in_time(place, {})
    assert (await place.http.get("/health")).status_code == 200
    assert (await place.http.get("/health/ready")).status_code == 503
    said = await asyncio.gather(*streams)
    assert all(each.endswith("data: [DONE]\n\n") for each in said)
    while time.monotonic() < back_at - 3.0:
        await refused_in_time(place, {})
        await asyncio.sleep(1.0)
    await asyncio.sleep(max(0.5, back_at - time.monotonic()))
    assert len(place.journal()) == streaming

    await place.proxy.heal()
    await eventually(place.has_settled_all, 10)
    assert await place.charged_nanos() - before == streaming * COST_NANOS
    await eventually(place.served_again, 5)
    await to_thread.run_sync(place.gateway.verify)


async def test_a_database_that_accepts_and_never_answers_refuses_new_requests_in_time(place: Place) -> None:
    assert (await place.ask()).status_code == 200
    before = await place.charged_nanos()
    streams = await place.streams_begin()

    await place.proxy.black_hole()
    kinds: list[dict[str, str]] = [{}, {"Idempotency-Key": "black-hole"}, bearer("gw_dev_" + "x" * 43)]
    for headers in kinds:
        await refused_in_time(place, headers)
    await asyncio.gather(*(refused_in_time(place, {}) for _ in range(40)))
    assert (await place.http.get("/health")).status_code == 200
    assert (await place.http.get("/health/ready")).status_code == 503
    said = await asyncio.gather(*streams)
    assert all(each.endswith("data: [DONE]\n\n") for each in said)

    await place.proxy.heal()
    await eventually(place.served_again, 5)
    await eventually(place.has_settled_all, 10)
    # The first and the last answer, of which one came before the count.
    assert await place.charged_nanos() - before == (STREAMS + 1) * COST_NANOS
    await to_thread.run_sync(place.gateway.verify)
    assert "request failed" not in place.gateway.log.read_text()


MANAGED_S_MAX = 6.0
"""Long enough for a page of a list on a busy server."""


async def test_a_database_that_accepts_and_never_answers_refuses_its_managers_in_time(place: Place) -> None:
    """Each connection of the pool waits once, and none is waited for without an end."""
    asked: list[tuple[str, str, dict[str, object] | None]] = [
        ("GET", "/admin/users", None),
        ("GET", "/user/balance", None),
        ("GET", "/user/credit-transactions", None),
        ("POST", "/admin/users", {"email": "away@example.org"}),
        ("POST", "/admin/credits/grant", {"account": "faults@example.org", "amount_usd": "1", "reason": "a test"}),
    ]
    # With their keys known and a connection for each of them open.
    await asyncio.gather(*(managed(place, *each) for each in asked[:3] * 2))

    await place.proxy.black_hole()
    for _ in range(2):
        for refused, took_s in await asyncio.gather(*(managed(place, *each) for each in asked)):
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "storage_unavailable"), refused.text
            assert took_s <= MANAGED_S_MAX

    await place.proxy.heal()
    await eventually(place.served_again, 5)
    await to_thread.run_sync(place.gateway.verify)
    log = place.gateway.log.read_text()
    assert "request failed" not in log
    assert "Traceback" not in log


async def managed(place: Place, method: str, path: str, body: object) -> tuple[httpx.Response, float]:
    began = time.monotonic()
    answer = await place.http.request(method, path, json=body, headers=bearer())
    return answer, time.monotonic() - began


async def refused_in_time(place: Place, headers: dict[str, str]) -> None:
    began = time.monotonic()
    refused = await place.ask(headers)
    took_s = time.monotonic() - began
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "storage_unavailable"), refused.text
    assert int(refused.headers["retry-after"]) > 0
    assert took_s <= REFUSED_S_MAX


async def test_a_gateway_stopped_during_an_outage_settles_when_it_starts_again(place: Place) -> None:
    before = await place.charged_nanos()
    streams = await place.streams_begin()

    await place.database_goes()
    await asyncio.gather(*streams)
    status = await to_thread.run_sync(place.gateway.stop)
    assert status == 0
    assert len(place.journal()) == STREAMS

    await place.proxy.heal()
    await to_thread.run_sync(place.gateway.start)
    await eventually(place.has_settled_all, 10)
    assert await place.charged_nanos() - before == STREAMS * COST_NANOS
    await to_thread.run_sync(place.gateway.verify)


async def test_an_answer_that_was_charged_but_not_kept_blocks_its_key_and_is_not_charged_again(place: Place) -> None:
    """Its outcome is being stored when the gateway is stopped, and never is."""
    named = {"Idempotency-Key": "cut-while-it-was-kept"}
    body = {"model": "sandbox/stall", "messages": [{"role": "user", "content": "1s"}]}

    async def ask() -> httpx.Response:
        return await place.http.post(CHAT, json=body, headers=bearer(place.key) | named)

    before = await place.charged_nanos()
    database = await asyncpg.connect(services.asyncpg_dsn(place.gateway.environ["DATABASE_URL"]))
    try:
        first = asyncio.create_task(ask())
        await asyncio.sleep(0.5)
        async with database.transaction():
            kept_from_storing = "SELECT status FROM idempotency WHERE key = $1 FOR UPDATE"
            assert await database.fetchval(kept_from_storing, named["Idempotency-Key"]) is None
            await asyncio.sleep(1.0)
            assert not first.done()
            assert await to_thread.run_sync(place.gateway.stop) == 0
        await asyncio.gather(first, return_exceptions=True)
        await to_thread.run_sync(place.gateway.start)
        await eventually(place.has_settled_all, 10)
        charged = await place.charged_nanos() - before
        assert charged > 0

        with pytest.raises(TimeoutError):
            # It waits for the first one's outcome, as any repetition does.
            await asyncio.wait_for(ask(), 2.0)
        assert await place.charged_nanos() - before == charged

        await database.execute("UPDATE idempotency SET expires_at = now() WHERE key = $1", named["Idempotency-Key"])
        assert (await ask()).status_code == 200
        assert await place.charged_nanos() - before == 2 * charged
    finally:
        await database.close()
    await to_thread.run_sync(place.gateway.verify)


@pytest.fixture
def server() -> Iterator[PrivateServer]:
    found: Any = services.private_postgres()
    with available(found) as private:
        yield cast(PrivateServer, private)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGINT, id="fast"),
        pytest.param(signal.SIGQUIT, id="immediate", marks=pytest.mark.fault_campaign),
        pytest.param(signal.SIGKILL, id="killed", marks=pytest.mark.fault_campaign),
    ],
)
async def test_a_restart_of_the_database_is_hardly_noticed(
    server: PrivateServer, tmp_path: Path, how: signal.Signals
) -> None:
    async with gateway_on(server.url, tmp_path) as place:
        assert (await place.ask()).status_code == 200
        statuses, last_refused_at, over = Counter[int](), 0.0, False

        async def caller() -> None:
            nonlocal last_refused_at
            while not over:
                answer = await place.ask()
                statuses[answer.status_code] += 1
                if answer.status_code != 200:
                    last_refused_at = time.monotonic()
                    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
                    assert int(answer.headers["retry-after"]) > 0
                await asyncio.sleep(CALLER_PAUSE_S)

        streams = await place.streams_begin()
        callers = [asyncio.create_task(caller()) for _ in range(CALLERS)]
        await asyncio.sleep(1.0)
        await to_thread.run_sync(server.stop, how)
        await to_thread.run_sync(server.start)
        back_at = time.monotonic()
        await asyncio.sleep(3.0)
        over = True
        await asyncio.gather(*callers)
        said = await asyncio.gather(*streams)
        assert all(each.endswith("data: [DONE]\n\n") for each in said)
        assert last_refused_at < back_at + BACK_S_MAX
        assert statuses[503] <= REFUSED_MAX * CALLERS, statuses
        await eventually(place.has_settled_all, 10)
        assert await place.charged_nanos() == (1 + STREAMS + statuses[200]) * COST_NANOS
        await to_thread.run_sync(place.gateway.verify)
