"""While vendors work no request holds a database connection: many slow streams run on a pool of two."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg
import pytest
import uvicorn
from dependency_injector import providers
from sqlalchemy import event
from sqlalchemy.pool import QueuePool

from adapters.sql import migrate
from adapters.sql.database import Database
from domain.money import Usd
from entrypoints.container import Container
from entrypoints.http.app import create_gateway
from entrypoints.settings import load_settings
from entrypoints.vendors import VENDOR_NAMES
from tests import services
from tests.e2e.processes import ADMIN_KEY, eventually, free_port

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

POOL_SIZE = 2
STREAMS = 12
WORDS = 24
"""The slow model says one every 200 ms."""
SLOW = {
    "model": "sandbox/slow",
    "messages": [{"role": "user", "content": " ".join(f"word{n}" for n in range(WORDS))}],
    "max_tokens": 200,
    "stream": True,
}
WATCHED_S = 2.5
BRIEF_S = 1.0
"""What background work may take a connection for: far less than a stream lasts."""
KEY = {"Authorization": f"Bearer {ADMIN_KEY}"}


class PoolProbe:
    """Knows at any moment for how long each connection has been out of the pool."""

    def __init__(self, database: Database) -> None:
        pool = database.engine.sync_engine.pool
        assert isinstance(pool, QueuePool)
        self.pool = pool
        self._since: dict[int, float] = {}
        event.listen(pool, "checkout", self._out)
        event.listen(pool, "checkin", self._back)

    def _out(self, _: object, record: object, __: object) -> None:
        self._since[id(record)] = time.monotonic()

    def _back(self, _: object, record: object) -> None:
        self._since.pop(id(record), None)

    def longest_s(self) -> float:
        return max((time.monotonic() - since for since in self._since.values()), default=0.0)


class Running:
    def __init__(self, url: str, base_url: str, probe: PoolProbe) -> None:
        self.url = url
        self.base_url = base_url
        self.probe = probe


@pytest.fixture
async def gateway(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.chdir(tmp_path)
    name = f"gwpool_{uuid4().hex[:12]}"
    with services.postgres_database(postgres_url, name) as url:
        port = free_port()
        environ = {"GATEWAYZ_ENV": "test", "DATABASE_URL": url, "ADMIN_API_KEY": ADMIN_KEY, "PORT": str(port)}
        settings = load_settings(VENDOR_NAMES, environ)
        await prepare(Container(settings=settings))
        container = Container(settings=settings)
        database = Database(url, pool_size=POOL_SIZE)
        container.adapters.database.override(providers.Object(database))
        probe = PoolProbe(database)
        config = uvicorn.Config(create_gateway(container).app, port=port, log_level="error", lifespan="on")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        await eventually(lambda: assert_started(server))
        yield Running(url, f"http://127.0.0.1:{port}", probe)
        server.should_exit = True
        await serving


def assert_started(server: uvicorn.Server) -> None:
    assert server.started


async def prepare(container: Container) -> None:
    """The tables, and an administrator who has credit."""
    database, ledger = container.adapters.database(), container.adapters.ledger()
    await migrate.upgrade(database)
    await ledger.open()
    first = await container.use_cases.bootstrap()()
    await container.use_cases.grant_credit()(first.account.id, Usd.parse("10"), "a test")
    await ledger.close()
    await database.close()


async def streamed(session: aiohttp.ClientSession, url: str, begun: asyncio.Event) -> bytes:
    """A stream read to its end; `begun` is set with its first event."""
    async with session.post(f"{url}/v1/chat/completions", json=SLOW, headers=KEY) as answer:
        assert answer.status == 200, await answer.text()
        body = b""
        async for part in answer.content.iter_any():
            body += part
            if b"word" in body:
                begun.set()
        return body


async def busy_sessions(url: str) -> list[Any]:
    """Connections of the gateway that have been in a transaction, or at work, for longer than a moment."""
    connection = await asyncpg.connect(services.asyncpg_dsn(url))
    try:
        return await connection.fetch(
            "SELECT state, query, now() - state_change AS lasts FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'gatewayz' AND state <> 'idle' "
            "AND now() - xact_start > $1 * interval '1 second'",
            BRIEF_S,
        )
    finally:
        await connection.close()


async def test_no_connection_is_held_while_vendors_work(gateway: Running) -> None:
    begun = [asyncio.Event() for _ in range(STREAMS)]
    async with aiohttp.ClientSession() as session:
        streams = [asyncio.create_task(streamed(session, gateway.base_url, each)) for each in begun]
        async with asyncio.timeout(20):
            await asyncio.gather(*(each.wait() for each in begun))

        free, looks, answered = 0, 0, 0
        until = time.monotonic() + WATCHED_S
        while time.monotonic() < until:
            assert not any(stream.done() for stream in streams), "they are too short to be watched"
            looks += 1
            free += gateway.probe.pool.checkedout() == 0
            assert gateway.probe.longest_s() < BRIEF_S
            assert await busy_sessions(gateway.url) == []
            async with session.get(f"{gateway.base_url}/user/balance", headers=KEY) as answer:
                assert answer.status == 200
                answered += 1
            await asyncio.sleep(0.02)

        bodies = await asyncio.gather(*streams)
    assert STREAMS > POOL_SIZE
    assert answered > 5
    # Background work takes one now and then; whoever held one for a stream would leave none of these looks free.
    assert free > looks // 2
    assert all(f"word{WORDS - 1}".encode() in body and body.endswith(b"data: [DONE]\n\n") for body in bodies)


async def test_a_connection_that_is_held_would_be_seen(gateway: Running) -> None:
    database = Database(gateway.url, pool_size=POOL_SIZE)
    probe = PoolProbe(database)
    async with database.reading() as connection:
        await connection.exec_driver_sql("SELECT 1")
        await asyncio.sleep(BRIEF_S * 1.2)
        assert probe.pool.checkedout() == 1
        assert probe.longest_s() > BRIEF_S
        assert len(await busy_sessions(gateway.url)) == 1
    assert probe.pool.checkedout() == 0
    assert probe.longest_s() == 0
    await database.close()
