"""What leases promise, whatever they are kept in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from adapters.memory.leases import MemoryLeases
from adapters.sql.database import Database
from adapters.sql.leases import SqlLeases
from adapters.sql.leases import leases as table
from adapters.system.clock import SystemClock
from domain.ports.leases import Leases
from tests.contracts.repositories import (  # noqa: F401 - the fixtures are asked for by their names
    LANES,
    every_database,
    fresh_database,
    on_postgres,
    raced,
    tables_once,
)

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
SHORT = timedelta(milliseconds=50)
AFTER_SHORT_S = 0.1
SWEEP, EXPIRE = "sweep holds", "expire credit"


@pytest.fixture(params=["memory", "sqlite", on_postgres])
async def leases(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Leases]:
    if request.param == "memory":
        yield MemoryLeases(SystemClock())
        return
    async with fresh_database(request, tmp_path) as database:
        yield SqlLeases(database)


async def test_a_free_lease_is_taken_and_nobody_else_gets_it(leases: Leases) -> None:
    assert await leases.acquire([SWEEP], "one", MINUTE) == {SWEEP}
    assert await leases.acquire([SWEEP], "other", MINUTE) == set()


async def test_its_holder_renews_it(leases: Leases) -> None:
    await leases.acquire([SWEEP], "one", SHORT)
    assert await leases.acquire([SWEEP], "one", MINUTE) == {SWEEP}
    await asyncio.sleep(AFTER_SHORT_S)
    assert await leases.acquire([SWEEP], "other", MINUTE) == set()


async def test_a_lease_that_was_not_renewed_is_free(leases: Leases) -> None:
    await leases.acquire([SWEEP], "one", SHORT)
    await asyncio.sleep(AFTER_SHORT_S)
    assert await leases.acquire([SWEEP], "other", MINUTE) == {SWEEP}
    assert await leases.acquire([SWEEP], "one", MINUTE) == set()


async def test_a_released_lease_is_free_at_once(leases: Leases) -> None:
    await leases.acquire([SWEEP, EXPIRE], "one", MINUTE)
    await leases.release("one")
    assert await leases.acquire([EXPIRE, SWEEP], "other", MINUTE) == {SWEEP, EXPIRE}


async def test_nobody_releases_what_another_holds(leases: Leases) -> None:
    await leases.acquire([SWEEP], "one", MINUTE)
    await leases.release("other")
    assert await leases.acquire([SWEEP], "other", MINUTE) == set()


async def test_of_several_names_those_are_taken_that_are_free(leases: Leases) -> None:
    await leases.acquire([SWEEP], "one", MINUTE)
    assert await leases.acquire([SWEEP, EXPIRE], "other", MINUTE) == {EXPIRE}
    assert await leases.acquire([EXPIRE, SWEEP], "one", MINUTE) == {SWEEP}
    assert await leases.acquire([], "one", MINUTE) == set()


async def test_of_many_who_race_each_lease_has_one_holder(leases: Leases) -> None:
    names = [f"job {number}" for number in range(5)]

    async def race(number: int) -> list[str]:
        return list(await leases.acquire(names[number % 5 :] + names[: number % 5], f"racer {number}", MINUTE))

    taken = [name for won in await raced(race) for name in won]
    assert sorted(taken) == names


async def test_of_processes_that_race_for_an_ended_lease_one_gets_it(database: Database) -> None:
    """Each on connections of its own, as processes are, and again for each of many leases."""
    url = database.url.render_as_string(hide_password=False)
    processes = [Database(url, schema=database.schema) for _ in range(LANES)]
    names = [f"job {number}" for number in range(20)]
    try:
        await SqlLeases(database).acquire(names, "dead", SHORT)
        await asyncio.sleep(AFTER_SHORT_S)
        for name in names:
            racers = [SqlLeases(one).acquire([name], f"process {n}", MINUTE) for n, one in enumerate(processes)]
            assert sorted(len(taken) for taken in await asyncio.gather(*racers)) == [0] * (LANES - 1) + [1]
    finally:
        for one in processes:
            await one.close()


async def test_processes_that_name_leases_in_different_orders_do_not_wait_in_a_circle(database: Database) -> None:
    names = [f"job {number}" for number in range(20)]
    leases = SqlLeases(database)
    for _ in range(10):
        racers = [leases.acquire(names[n:] + names[:n], f"process {n}", MINUTE) for n in range(LANES)]
        assert sorted(name for taken in await asyncio.gather(*racers) for name in taken) == sorted(names)
        await asyncio.gather(*(leases.release(f"process {n}") for n in range(LANES)))


async def test_an_hour_is_an_hour_by_the_databases_clock(database: Database) -> None:
    before = SystemClock().now()
    await SqlLeases(database).acquire([SWEEP], "one", timedelta(hours=1))
    async with database.reading() as connection:
        until = (await connection.execute(select(table.c.until))).scalar_one()
    tolerance = timedelta(seconds=5)
    assert before - tolerance < until - timedelta(hours=1) < SystemClock().now() + tolerance
