"""Monthly partitions on PostgreSQL: made ahead, by any number of processes, and never in the way of the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from adapters.sql import migrate
from adapters.sql.database import Database
from adapters.sql.partitions import MonthlyPartitions
from tests import services
from tests.contracts.ledgers import NOON, assert_balanced, grant, hold, opened, settle
from tests.fakes.time import FakeClock

pytestmark = pytest.mark.anyio

MONTHS = ("2026_01", "2026_02", "2026_03")


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    with services.postgres_schema(postgres_url, f"partitions_{uuid4().hex[:12]}") as place:
        database = Database(place.server_url, schema=place.schema)
        await migrate.upgrade(database)
        yield database
        await database.close()


def partitions(database: Database, now: datetime = NOON) -> MonthlyPartitions:
    return MonthlyPartitions(database, FakeClock(now))


async def names(database: Database, table: str) -> set[str]:
    children = text(
        "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = to_regclass(:name)"
    )
    async with database.reading() as connection:
        return set((await connection.execute(children, {"name": table})).scalars())


async def count(database: Database, table: str) -> int:
    async with database.reading() as connection:
        number: int = (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()
        return number


async def assert_refused(database: Database, statement: str) -> None:
    async with database.engine.connect() as connection:
        with pytest.raises(DBAPIError, match="append-only"):
            await connection.execute(text(statement))


def monthly(table: str, months: tuple[str, ...] = MONTHS) -> set[str]:
    return {f"{table}_default", *(f"{table}_{month}" for month in months)}


async def charge_once(database: Database) -> None:
    async with opened(database) as ledger:
        await ledger.submit(grant("a", 1_000))
        await ledger.submit(hold("h", 100))
        await ledger.submit(settle("h", 30))
        await assert_balanced(ledger)
        assert await ledger.verify() == []


async def test_what_the_ledger_books_lands_in_its_month(database: Database) -> None:
    await partitions(database)()

    await charge_once(database)

    assert await names(database, "transfers") == monthly("transfers")
    assert await names(database, "generations") == monthly("generations")
    assert await count(database, "transfers_2026_01") == await count(database, "transfers") == 3
    assert await count(database, "generations_2026_01") == await count(database, "generations") == 1
    assert await count(database, "transfers_default") == 0


async def test_many_at_once_make_each_partition_once(database: Database) -> None:
    await asyncio.gather(*(partitions(database)() for _ in range(8)))
    await partitions(database)()

    assert await names(database, "transfers") == monthly("transfers")
    assert await names(database, "generations") == monthly("generations")


async def test_they_are_made_while_the_ledger_books(database: Database) -> None:
    async with opened(database) as ledger:
        await ledger.submit(grant("a", 100_000))
        holds = [ledger.submit(hold(f"h{n}", 10)) for n in range(200)]
        await partitions(database)()
        await asyncio.gather(*holds)
        assert await ledger.verify() == []


async def test_a_month_with_rows_in_the_default_partition_stays_there(database: Database) -> None:
    await charge_once(database)

    await partitions(database)()

    assert await names(database, "transfers") == monthly("transfers", MONTHS[1:])
    assert await count(database, "transfers_default") == 3
    async with opened(database) as ledger:
        await ledger.submit(grant("b", 5))
        assert await ledger.verify() == []


async def test_a_transfer_in_a_partition_cannot_be_changed(database: Database) -> None:
    await partitions(database)()
    await charge_once(database)

    for table in ("transfers", "transfers_2026_01"):
        for statement in (f"UPDATE {table} SET amount = 0", f"DELETE FROM {table}", f"TRUNCATE {table}"):
            await assert_refused(database, statement)
    for table in sorted(monthly("transfers")):
        await assert_refused(database, f"TRUNCATE {table}")


async def test_a_month_that_somebody_made_by_hand_is_guarded_with_the_next_look(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(text("CREATE TABLE transfers_2026_01 (LIKE transfers INCLUDING ALL)"))
        bounds = "FROM ('2026-01-01T00:00:00+00:00') TO ('2026-02-01T00:00:00+00:00')"
        await connection.execute(text(f"ALTER TABLE transfers ATTACH PARTITION transfers_2026_01 FOR VALUES {bounds}"))

    await partitions(database)()

    await assert_refused(database, "TRUNCATE transfers_2026_01")


async def test_the_functions_of_the_schema_touch_nothing_else(database: Database) -> None:
    await partitions(database)()
    for call in (
        "make_month('holds', date '2026-05-01')",
        "drop_generations('transfers_2026_01')",
        "drop_generations('generations_default')",
        "drop_generations('generations')",
    ):
        async with database.engine.connect() as connection:
            with pytest.raises(DBAPIError, match=r"has no months|is no month"):
                await connection.execute(text(f"SELECT {call}"))
    assert await names(database, "transfers") == monthly("transfers")
    assert await names(database, "generations") == monthly("generations")


async def test_old_months_of_generations_go_and_transfers_stay(database: Database) -> None:
    await partitions(database)()
    await charge_once(database)
    later = partitions(database, datetime(2026, 4, 1, tzinfo=UTC))

    assert await later.drop_generations(older_than_months=3) == []
    assert await later.drop_generations(older_than_months=2) == ["generations_2026_01"]

    assert await names(database, "generations") == monthly("generations", MONTHS[1:])
    assert await names(database, "transfers") == monthly("transfers")
    async with opened(database) as ledger:
        assert await ledger.verify() == []


async def test_sqlite_has_none(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/none.db")
    await partitions(database)()
    assert await partitions(database).drop_generations(older_than_months=1) == []
    await database.close()
