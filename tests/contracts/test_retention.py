"""What is no longer needed goes in bounded steps; what is owed, held or younger stays, and the books still add up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec.structs import replace
from sqlalchemy import event, text

from adapters.sql import migrate
from adapters.sql.database import Database
from adapters.sql.partitions import MonthlyPartitions
from adapters.sql.retention import Retention
from domain.credits import UnknownHold
from tests import services
from tests.contracts.ledgers import NOON, assert_balanced, grant, hold, opened, settle
from tests.fakes.time import FakeClock

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
on_postgres = pytest.param("postgres", marks=pytest.mark.postgres)


@pytest.fixture(name="database", params=["sqlite", on_postgres])
async def migrated(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        database = Database(f"sqlite+aiosqlite:///{tmp_path}/kept.db")
        await migrate.upgrade(database)
        yield database
        await database.close()
        return
    server: str = request.getfixturevalue("postgres_url")
    with services.postgres_schema(server, f"retention_{uuid4().hex[:12]}") as place:
        database = Database(place.server_url, schema=place.schema)
        await migrate.upgrade(database)
        yield database
        await database.close()


def retention(database: Database, now: datetime, *, days: int = 30, months: int = 0, batch: int = 7) -> Retention:
    clock = FakeClock(now)
    partitions = MonthlyPartitions(database, clock)
    return Retention(database, partitions, clock, ended_hold_days=days, generation_months=months, batch=batch)


async def ids(database: Database, table: str) -> list[str]:
    async with database.reading() as connection:
        return list((await connection.execute(text(f"SELECT id FROM {table} ORDER BY id"))).scalars())


async def use(database: Database, *, open_holds: int = 3, ended: int = 40, young: int = 5) -> None:
    """Holds that ended at NOON, others among them that are still open, and some opened and ended a day later."""
    async with opened(database) as ledger:
        await ledger.submit(grant("a", 1_000_000))
        for number in range(ended):
            await ledger.submit(hold(f"h{number:03}", 100))
            if number >= open_holds:
                await ledger.submit(settle(f"h{number:03}", 30))
        for number in range(ended, ended + young):
            later = NOON + DAY
            await ledger.submit(replace(hold(f"h{number:03}", 100), at=later, lease_until=later + DAY))
            await ledger.submit(replace(settle(f"h{number:03}", 30), at=later))


async def test_ended_holds_go_when_their_days_are_over_and_the_books_still_add_up(database: Database) -> None:
    await use(database)

    assert await retention(database, NOON + 30 * DAY).forget_holds() == 0
    assert await retention(database, NOON + 30 * DAY + timedelta(seconds=1)).forget_holds() == 37

    assert await ids(database, "holds") == [f"h{n:03}" for n in (0, 1, 2, 40, 41, 42, 43, 44)]
    async with opened(database) as ledger:
        await assert_balanced(ledger)
        assert await ledger.verify() == []
        await ledger.submit(settle("h001", 30))
        # What is long over cannot be charged a second time.
        with pytest.raises(UnknownHold):
            await ledger.submit(settle("h010", 30))
        assert await ledger.verify() == []


async def test_holds_go_while_the_ledger_books(database: Database) -> None:
    await use(database, ended=200)
    async with opened(database) as ledger:
        holds = [ledger.submit(hold(f"n{n:03}", 10)) for n in range(100)]
        forgotten, *_ = await asyncio.gather(retention(database, NOON + 31 * DAY).forget_holds(), *holds)
        assert forgotten >= 197
        assert await ledger.verify() == []


async def test_no_step_is_larger_than_its_bound(database: Database) -> None:
    await use(database, ended=60)
    removed: list[int] = []

    @event.listens_for(database.engine.sync_engine, "after_cursor_execute")
    def note(_: object, cursor: object, statement: str, *__: object) -> None:
        if statement.startswith("DELETE"):
            removed.append(getattr(cursor, "rowcount", -1))

    await retention(database, NOON + 31 * DAY + DAY, batch=10, months=1).forget_holds()
    await retention(database, datetime(2026, 6, 1, tzinfo=UTC), batch=10, months=1).forget_generations()

    assert sum(removed) == 62 + 62
    assert max(removed) <= 10


async def test_records_are_kept_for_ever_unless_told_otherwise(database: Database) -> None:
    await use(database)
    assert await retention(database, NOON + 10_000 * DAY).forget_generations() == 0
    assert len(await ids(database, "generations")) == 42


async def test_old_records_go_by_whole_months_and_transfers_stay(database: Database) -> None:
    await use(database)
    transfers = await ids(database, "transfers")
    last_of_march, april = datetime(2026, 3, 31, 23, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)

    assert await retention(database, last_of_march, months=2).forget_generations() == 0
    assert await retention(database, april, months=2).forget_generations() == 42

    assert await ids(database, "generations") == []
    assert await ids(database, "transfers") == transfers
    async with opened(database) as ledger:
        assert await ledger.verify() == []


async def test_a_month_of_its_own_is_dropped_whole(postgres_url: str) -> None:
    with services.postgres_schema(postgres_url, f"retention_{uuid4().hex[:12]}") as place:
        database = Database(place.server_url, schema=place.schema)
        await migrate.upgrade(database)
        await MonthlyPartitions(database, FakeClock(NOON))()
        await use(database)
        await retention(database, datetime(2026, 4, 1, tzinfo=UTC), months=2).forget_generations()
        async with database.reading() as connection:
            gone = "SELECT to_regclass('generations_2026_01') IS NULL AND to_regclass('transfers_2026_01') IS NOT NULL"
            assert await connection.scalar(text(gone))
        assert await ids(database, "generations") == []
        await database.close()
