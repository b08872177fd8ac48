"""Two gateway processes on one PostgreSQL, without Redis: one catalogue, asked for once, switched in two seconds."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.sql.database import Database
from adapters.sql.popularity import SqlPopularity
from domain.ports.popularity import Counted
from tests.e2e.processes import GatewayProcess, eventually
from tests.fakes.upstream import Upstream

pytestmark = pytest.mark.anyio

SWITCHED_WITHIN_S = 2.0
SHARED = "acme/Shared-Model"
CHAT = {"model": SHARED, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}

Place = tuple[GatewayProcess, GatewayProcess, Upstream, Upstream]


@pytest.fixture
async def place(postgres_database_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    async with Upstream(models=[SHARED, "only-alpha"]) as alpha, Upstream(models=[SHARED]) as beta:
        vendors = [
            {"slug": slug, "base_url": upstream.base_url, "wire": "openai", "api_key": "k"}
            for slug, upstream in (("alpha", alpha), ("beta", beta))
        ]
        settings = {"DATABASE_URL": postgres_database_url, "GATEWAYZ_VENDORS": json.dumps(vendors)}
        first, second = GatewayProcess(tmp_path, **settings), GatewayProcess(tmp_path, **settings)
        await asyncio.to_thread(first.cli, "migrate")
        for vendor, usd in (("alpha", "1"), ("beta", "2")):
            # The database is shared by all tests of a run.
            await asyncio.to_thread(first.cli, "vendors", "enable", vendor)
            await asyncio.to_thread(
                first.cli, "prices", "set", SHARED, "--vendor", vendor, "--input", usd, "--output", usd
            )
        await asyncio.to_thread(first.start)
        await asyncio.to_thread(second.start)
        await asyncio.to_thread(first.cli, "credits", "grant", "admin", "5", "--reason", "test")
        yield first, second, alpha, beta
        for process in (first, second):
            await asyncio.to_thread(process.stop)


async def providers(gateway: GatewayProcess, *expected: str) -> None:
    async def listed() -> None:
        found = await asyncio.to_thread(gateway.get, f"/v1/models/{SHARED}")
        assert found.get("providers") == list(expected), found

    await eventually(listed)


async def served_by(gateway: GatewayProcess, **headers: str) -> tuple[int, str | None, Any]:
    status, told, body = await asyncio.to_thread(gateway.call, "POST", "/v1/chat/completions", CHAT, headers=headers)
    return status, told.get("x-gatewayz-vendor"), body


async def test_a_vendor_switched_off_in_one_process_gets_nothing_more_from_any(place: Place) -> None:
    first, second, alpha, beta = place
    for gateway in (first, second):
        await providers(gateway, "alpha", "beta")
    lists = [request for upstream in (alpha, beta) for request in upstream.requests if request.method == "GET"]
    assert len(lists) == 2, "each vendor is asked for its list by one process"

    off_at = time.monotonic()
    shown = await asyncio.to_thread(first.post, "/admin/vendors/alpha/disable", None)
    assert shown["status"] == "off"
    assert (await served_by(first))[:2] == (200, "beta")
    await asyncio.sleep(SWITCHED_WITHIN_S - (time.monotonic() - off_at))
    asked = len(alpha.requests)
    for gateway in (first, second):
        assert [(await served_by(gateway))[:2] for _ in range(5)] == [(200, "beta")] * 5
        assert [each["slug"] for each in gateway.get("/v1/providers")["data"]] == ["beta", "sandbox"]
    assert len(alpha.requests) == asked

    await asyncio.to_thread(first.cli, "vendors", "disable", "beta")
    await asyncio.sleep(SWITCHED_WITHIN_S)
    for gateway in (first, second):
        status, _, body = await served_by(gateway)
        assert (status, body["error"]["code"]) == (404, "model_not_found")
        assert "switched off" in body["error"]["message"]
    await asyncio.to_thread(first.cli, "vendors", "enable", "alpha")
    await asyncio.to_thread(first.cli, "catalog", "alias", "quick", SHARED)
    await providers(second, "alpha")

    async def known_by_its_alias() -> None:
        assert (await asyncio.to_thread(second.get, "/v1/models/quick")).get("id") == SHARED

    await eventually(known_by_its_alias)


async def test_programs_that_say_what_they_are_called_are_ranked(place: Place, postgres_database_url: str) -> None:
    first, second, _, _ = place
    await providers(first, "alpha", "beta")
    for headers in ({"X-Title": "Painter"}, {"X-Title": "Painter"}, {"HTTP-Referer": "https://a.example.org/secret"}):
        assert (await served_by(first, **headers))[0] == 200
    assert (await served_by(first))[0] == 200
    database = Database(postgres_database_url)

    counts, now = SqlPopularity(database), datetime.now(UTC)

    async def counted() -> None:
        await counts.count(now)
        found = await counts.between(Counted.APP, now - timedelta(hours=2), now)
        assert {(each.name, each.requests) for each in found} >= {("Painter", 2), ("a.example.org", 1)}

    try:
        await eventually(counted)
    finally:
        await database.close()
    apps = (await asyncio.to_thread(second.get, "/ranking/apps"))["data"]
    assert {(app["app"], app["requests"]) for app in apps} >= {("Painter", 2), ("a.example.org", 1)}
    models = (await asyncio.to_thread(second.get, "/v1/models/trending?limit=100"))["data"]
    assert sum(model["requests"] for model in models if model["model"] == SHARED) >= 4
