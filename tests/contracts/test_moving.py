"""A move that is cut off after any of its batches goes on, and each month of what was moved has its partition."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from adapters.sql import migrate
from adapters.sql.database import Database
from adapters.sql.ledger.verify import differences
from adapters.sql.moving import Move, MoveRefused, Progress
from tests import services
from tests.contracts.ledgers import grant, hold, opened, settle
from tests.fakes.time import FakeClock

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

MONTHS = (11, 12, 1, 2, 3)
REQUESTS = 6
"""In each month."""
TABLES_MOVED = ("transfers", "generations", "holds", "credit_accounts", "booked_transfers")


class Cut(Exception):
    """The move's process dies, just after a batch."""


def instant(month: int) -> datetime:
    return datetime(2025 if month > 6 else 2026, month, 28, 23, 30, tzinfo=UTC)


NOW = instant(MONTHS[-1]) + timedelta(days=1)


@pytest.fixture
async def source_url(tmp_path: Path) -> str:
    """An embedded database that was used for months; its first request began before its first transfer's month."""
    url = f"sqlite+aiosqlite:///{tmp_path}/embedded.db"
    database = Database(url)
    await migrate.upgrade(database)
    async with opened(database) as ledger:
        first = instant(MONTHS[0])
        await ledger.submit(grant("lot", 1_000_000, granted_at=first))
        for month in MONTHS:
            at = instant(month)
            for number in range(REQUESTS):
                name = f"{at:%Y%m}-{number}"
                began = replace(settle(name, 30).record, started_at=at - timedelta(days=30))
                await ledger.submit(hold(name, 100, at=at))
                await ledger.submit(replace(settle(name, 30, at=at), record=began))
    await database.close()
    return url


@pytest.fixture
async def target_url(postgres_url: str) -> AsyncIterator[str]:
    with services.postgres_database(postgres_url, f"gwmoved_{uuid4().hex[:12]}") as url:
        yield url


async def counts(url: str) -> dict[str, int]:
    database = Database(url)
    try:
        async with database.reading() as connection:
            return {
                table: (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()
                for table in TABLES_MOVED
            }
    finally:
        await database.close()


def quiet(_: Progress) -> None:
    """Nobody looks."""


async def test_it_goes_on_after_every_interruption(source_url: str, target_url: str) -> None:
    has = await counts(source_url)
    steps: list[Progress] = []

    def cut(progress: Progress) -> None:
        steps.append(progress)
        raise Cut

    attempts = 0
    moved: Mapping[str, int] | None = None
    while moved is None:
        attempts += 1
        assert attempts < 200
        with suppress(Cut):
            moved = await Move(source_url, target_url, FakeClock(NOW), batch=9, tell=cut)()
    assert attempts > 10

    # Each attempt copied one batch, and none a row twice or a table anew.
    for table in TABLES_MOVED:
        copied = [step.copied for step in steps if step.table == table]
        assert copied == sorted(copied)
        assert len(copied) <= has[table] // 9 + 1
        assert copied[-1] == has[table]
        assert moved[table] == has[table]
    assert await counts(target_url) == has == await counts(source_url)
    target = Database(target_url)
    assert await differences(target) == []
    await target.close()


async def test_a_second_move_is_refused_and_changes_nothing(source_url: str, target_url: str) -> None:
    await Move(source_url, target_url, FakeClock(NOW), batch=50, tell=quiet)()
    before = await counts(target_url)

    with pytest.raises(MoveRefused, match="not empty"):
        await Move(source_url, target_url, FakeClock(NOW), batch=50, tell=quiet)()

    assert await counts(target_url) == before


async def test_every_month_that_was_moved_has_its_partition(source_url: str, target_url: str) -> None:
    await Move(source_url, target_url, FakeClock(NOW), batch=50, tell=quiet)()

    target = Database(target_url)
    async with target.reading() as connection:
        for table, months in (("transfers", MONTHS), ("generations", (10, *MONTHS[:-1]))):
            assert await connection.scalar(text(f"SELECT count(*) FROM {table}_default")) == 0
            found = await connection.execute(
                text(f"SELECT tableoid::regclass::text, count(*) FROM {table} GROUP BY 1 ORDER BY 1")
            )
            names = [name for name, _ in found]
            assert names == [f"{table}_{instant(month):%Y_%m}" for month in months]
        unguarded = text(
            "SELECT count(*) FROM pg_partition_tree('transfers') WHERE NOT EXISTS "
            "(SELECT FROM pg_trigger WHERE tgrelid = relid AND tgname = 'transfers_not_truncated')"
        )
        assert await connection.scalar(unguarded) == 0
    await target.close()
