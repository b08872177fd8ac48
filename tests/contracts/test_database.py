"""What the connection to storage promises, whatever happens to those who use it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.sql.database import Database
from adapters.sql.leases import SqlLeases
from adapters.sql.tables import metadata
from domain.errors import InvalidRequest

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)


@pytest.fixture
async def database(tmp_path: Path):
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/test.db")
    async with database.transaction() as connection:
        await connection.run_sync(metadata.create_all)
    yield database
    await database.close()


async def test_a_cancelled_transaction_does_not_keep_the_lock_of_the_only_writer(database: Database) -> None:
    leases = SqlLeases(database)
    loop = asyncio.get_running_loop()
    slowest_s = 0.0
    for number in range(60):
        cut_short = asyncio.create_task(leases.acquire(["job"], "holder", SECOND))
        await asyncio.sleep(0.0003 * (number % 30))
        cut_short.cancel()
        await asyncio.wait([cut_short])
        began = loop.time()
        await leases.acquire(["job"], "holder", SECOND)
        slowest_s = max(slowest_s, loop.time() - began)

    # A lock that was kept shows as the whole busy time-out of five seconds, or as an error.
    assert slowest_s < 4


async def test_what_cannot_be_stored_is_the_callers_mistake(database: Database) -> None:
    with pytest.raises(InvalidRequest):
        await SqlLeases(database).acquire(["half a pair \ud800"], "holder", SECOND)
