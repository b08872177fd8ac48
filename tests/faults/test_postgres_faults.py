"""PostgreSQL away under running streams: they finish, nobody is served for nothing, and every settlement arrives."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest
from anyio import to_thread

from domain.money import Usd
from tests import services
from tests.conftest import own_name
from tests.e2e.processes import ADMIN_KEY, GatewayProcess, eventually
from tests.faults.toxic_proxy import ToxicProxy

pytestmark = [pytest.mark.anyio, pytest.mark.postgres, pytest.mark.fault]

STREAMS = 5
WORDS = 15
AWAY_S = 5.0
REFUSED_S_MAX = 2.0
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

    async def streams_begin(self) -> list[asyncio.Task[str]]:
        tasks = [asyncio.create_task(self.stream()) for _ in range(STREAMS)]
        await asyncio.sleep(1.0)
        assert not any(task.done() for task in tasks)
        return tasks

    async def stream(self) -> str:
        """What a slow answer says, read to its end."""
        body = request("sandbox/slow", WORDS) | {"stream": True}
        async with self.http.stream("POST", CHAT, json=body, headers=bearer(self.key)) as answer:
            assert answer.status_code == 200, await answer.aread()
            return (await answer.aread()).decode()

    async def ask(self) -> httpx.Response:
        return await self.http.post(CHAT, json=request("sandbox/echo", WORDS), headers=bearer(self.key))

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
    server = urlsplit(postgres_url)
    assert server.hostname is not None
    with services.postgres_database(postgres_url, f"{own_name()}_faults") as url:
        async with ToxicProxy(server.hostname, server.port or 5432) as proxy:
            address = server.netloc.rpartition("@")[0] + f"@{proxy.host}:{proxy.port}"
            through = urlsplit(url)._replace(netloc=address.removeprefix("@")).geturl()
            gateway = GatewayProcess(
                tmp_path_factory.mktemp("gateway"), DATABASE_URL=through, GATEWAYZ_DRAIN_SECONDS="5"
            )
            await to_thread.run_sync(gateway.cli, "migrate")
            await to_thread.run_sync(gateway.start)
            try:
                key = await to_thread.run_sync(funded, gateway)
                async with httpx.AsyncClient(base_url=gateway.base_url, timeout=30.0) as http:
                    yield Place(gateway, proxy, http, key)
            finally:
                await proxy.heal()
                await to_thread.run_sync(gateway.stop)


def funded(gateway: GatewayProcess) -> str:
    """The key of a new account with ten dollars."""
    account = str(gateway.post("/admin/users", {"email": "faults@example.org"})["id"])
    gateway.post("/admin/credits/grant", {"account": account, "amount_usd": "10", "reason": "a test"})
    made = json.loads(gateway.cli("keys", "create", account, "--name", "k", "--json").stdout)
    return str(made["key"])


def request(model: str, words: int) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": " ".join(["word"] * words)}], "max_tokens": 100}


def bearer(key: str = ADMIN_KEY) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_streams_outlive_an_outage_and_are_settled_after_it(place: Place) -> None:
    assert (await place.ask()).status_code == 200
    before = await place.charged_nanos()
    streams = await place.streams_begin()

    await place.database_goes()
    back_at = time.monotonic() + AWAY_S
    for _ in range(3):
        began = time.monotonic()
        refused = await place.ask()
        assert time.monotonic() - began <= REFUSED_S_MAX
        assert refused.status_code == 503, refused.text
        assert int(refused.headers["retry-after"]) > 0
        assert refused.json()["error"]["message"]
    said = await asyncio.gather(*streams)
    assert all(each.endswith("data: [DONE]\n\n") for each in said)
    await asyncio.sleep(max(0.5, back_at - time.monotonic()))
    assert len(place.journal()) == STREAMS

    await place.proxy.heal()
    await eventually(place.has_settled_all, 10)
    assert await place.charged_nanos() - before == STREAMS * COST_NANOS
    await eventually(place.served_again, 5)
    await to_thread.run_sync(place.gateway.verify)


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
