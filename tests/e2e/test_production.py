"""Two gateway processes on one PostgreSQL and one Redis: one truth about credit, keys and limits."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from domain.money import Usd
from tests.e2e.processes import GatewayProcess

pytestmark = pytest.mark.anyio

ECHO = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "one two three four"}], "max_tokens": 4}
COST_NANOS = 4 * 500 + 4 * 1_500
"""Four tokens in and four out, at the sandbox's prices."""
FUNDED_NANOS = 100 * COST_NANOS
REVOKED_WITHIN_S = 2.0
CALLERS = 25


@pytest.fixture(scope="module")
def pair(
    postgres_database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    directory = tmp_path_factory.mktemp("pair")
    settings = {
        "DATABASE_URL": postgres_database_url,
        "REDIS_URL": redis_url,
        "GATEWAYZ_LIMIT_CONCURRENT": "1000",
        "GATEWAYZ_LIMIT_REQUESTS_PER_MINUTE": "100000",
        "GATEWAYZ_LIMIT_BURST": "10000",
    }
    first = GatewayProcess(directory, **settings)
    second = GatewayProcess(directory, **settings, GATEWAYZ_SECRETS="")
    first.cli("migrate")
    first.start()
    second.start()
    yield first, second
    for process in (first, second):
        process.stop()


def funded_key(gateway: GatewayProcess, email: str, usd: str, **policy: Any) -> tuple[str, str]:
    """A new account's id and key, with credit."""
    account = json.loads(gateway.cli("accounts", "create", email, "--json").stdout)["id"]
    gateway.cli("credits", "grant", account, usd, "--reason", "test")
    key = json.loads(gateway.cli("keys", "create", account, "--name", "k", "--json").stdout)
    return str(key["id"]), str(key["key"])


async def statuses(pair: tuple[GatewayProcess, GatewayProcess], key: str, count: int) -> list[int]:
    """What so many requests are answered, sent to both at once."""
    turns = iter(range(count))
    seen: list[int] = []

    async def caller(session: aiohttp.ClientSession) -> None:
        for turn in turns:
            url = f"{pair[turn % 2].base_url}/v1/chat/completions"
            async with session.post(url, json=ECHO, headers={"Authorization": f"Bearer {key}"}) as answer:
                await answer.read()
                seen.append(answer.status)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(caller(session) for _ in range(CALLERS)))
    return seen


async def test_two_processes_never_spend_more_than_there_is(pair: tuple[GatewayProcess, GatewayProcess]) -> None:
    _, key = funded_key(pair[0], "cap@example.com", str(Usd(FUNDED_NANOS)))

    seen = await statuses(pair, key, 200)

    served = seen.count(200)
    assert set(seen) <= {200, 402}
    # The last few are refused although they could be paid, because their prompts are estimated a little too long.
    assert 90 <= served <= FUNDED_NANOS // COST_NANOS
    charged = pair[1].get("/user/balance", key)
    assert Usd.parse(charged["charged_usd"]) == Usd(served * COST_NANOS)
    assert Usd.parse(charged["spendable_usd"]) == Usd(FUNDED_NANOS - served * COST_NANOS)
    pair[0].verify()


async def test_a_revoked_key_stops_working_everywhere_in_time(pair: tuple[GatewayProcess, GatewayProcess]) -> None:
    key_id, key = funded_key(pair[0], "revoked@example.com", "1")
    assert [process.call("GET", "/user/balance", None, key)[0] for process in pair] == [200, 200]

    pair[0].cli("keys", "revoke", "revoked@example.com", key_id)

    revoked_at = time.monotonic()
    while any(process.call("GET", "/user/balance", None, key)[0] == 200 for process in pair):
        assert time.monotonic() - revoked_at < REVOKED_WITHIN_S
        await asyncio.sleep(0.05)


async def test_requests_of_one_key_count_against_one_limit(pair: tuple[GatewayProcess, GatewayProcess]) -> None:
    _, key = funded_key(pair[0], "limit@example.com", "1")

    left = [
        int(process.call("POST", "/v1/chat/completions", ECHO, key)[1]["x-ratelimit-remaining-requests"])
        for process in (*pair, *pair)
    ]

    assert left == sorted(left, reverse=True)
    assert left[0] - left[-1] >= 2
