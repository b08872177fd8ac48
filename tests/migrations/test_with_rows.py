"""Every revision goes up, down and up again on tables that are full, in seconds, and loses no row that it keeps."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Connection, inspect, text

from adapters.sql import migrate
from adapters.sql.database import Database
from tests import services

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ROWS = {"sqlite": 10_000, "postgresql": 100_000}
STEP_S = 20.0
"""Of one step up, down or up again: the machine may be busy, and each took well below two seconds alone."""
NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {rows})",
    "postgresql": "WITH numbers AS (SELECT generate_series(1, {rows}) AS n)",
}
AT = {
    "sqlite": "1767225600000000 + n * 60000000",
    "postgresql": "timestamptz '2026-01-01 00:00:00+00' + n * interval '1 minute'",
}
FULL = {
    "credit_accounts": "SELECT 'a' || n, 1, 1, 0, 0, 0, '[]', NULL FROM numbers",
    "key_meters": "SELECT 'k' || n, 'a' || n, 0, 0, 0, NULL FROM numbers",
    "holds": "SELECT 'h' || n, 'a' || n, 'voided', 1, 0, '[]', {at}, {at}, {at}, NULL, 0, NULL FROM numbers",
    "booked_transfers": "SELECT 't' || n, 'a' || n FROM numbers",
    "transfers": "SELECT 'a' || n, 't' || n, {at}, 'grant', 'funding', 'free', 1, '', '', '[]' FROM numbers",
    "generations": "SELECT 'a' || n, 'g' || n, {at}, 'k', 'm', 'v', 'completed', 1, 1, 1, '{{}}' FROM numbers",
    "accounts": "SELECT 'a' || n, 'e' || n, 'e' || n, '', 'active', NULL, '{{}}', {at} FROM numbers",
    "keys": "SELECT 'k' || n, 'a' || n, 'n', 'live', 'p', 'last', 'v1', 'd' || n, '{{}}', {no}, {no}, {at}, NULL "
    "FROM numbers",
    "prices": "SELECT 'p' || n, 'v', 'm' || n, {at}, '{{}}', '[]', {no}, 'operator', '' FROM numbers",
    "idempotency": "SELECT 'a' || n, 'k' || n, 'f', {at}, NULL, NULL, NULL FROM numbers",
}
"""Rows for the tables as their own revision made them, in the order in which they refer to each other."""
COLUMNS = {
    "credit_accounts": "account_id, funded, free, held, charged, removed, lots, next_expiry",
    "key_meters": "key_id, account_id, requests, spent, held, period_start",
    "holds": "id, account_id, state, amount, watermark, draws, opened_at, lease_until, ended_at, metered_key, "
    "last_extension, record",
    "booked_transfers": "id, account_id",
    "transfers": "account_id, id, at, kind, debit, credit, amount, reference, reason, draws",
    "generations": "account_id, id, started_at, key_id, model, vendor, outcome, input_tokens, output_tokens, "
    "cost_nanos, record",
    "accounts": "id, email, normalised_email, name, status, parent_id, limits, created_at",
    "keys": "id, account_id, name, environment, prefix, last4, pepper_id, digest, policy, is_admin, bootstrap, "
    "created_at, revoked_at",
    "prices": "id, vendor, model, valid_from, rates, tiers, free, source, author",
    "idempotency": "account_id, key, fingerprint, expires_at, status, headers, body",
}


@pytest.fixture(name="database", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def nothing_yet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        database = Database(f"sqlite+aiosqlite:///{tmp_path}/full.db")
        yield database
        await database.close()
        return
    server: str = request.getfixturevalue("postgres_url")
    with services.postgres_schema(server, f"full_{uuid4().hex[:12]}") as place:
        database = Database(place.server_url, schema=place.schema)
        yield database
        await database.close()


def kind(database: Database) -> str:
    return "sqlite" if database.is_sqlite else "postgresql"


async def fill(database: Database) -> None:
    """Rows for every known table that is there and empty."""
    async with database.transaction() as connection:
        there = await connection.run_sync(table_names)
        for table, rows in FULL.items():
            if table in there and not await connection.scalar(text(f"SELECT EXISTS (SELECT 1 FROM {table})")):
                select = rows.format(at=AT[kind(database)], no="0" if database.is_sqlite else "false")
                numbers = NUMBERS[kind(database)].format(rows=ROWS[kind(database)])
                if database.is_sqlite:
                    await connection.execute(text(f"INSERT INTO {table} ({COLUMNS[table]}) {numbers} {select}"))
                else:
                    await connection.execute(text("SET LOCAL statement_timeout = '60s'"))
                    await connection.execute(text(f"{numbers} INSERT INTO {table} ({COLUMNS[table]}) {select}"))


async def counts(database: Database) -> dict[str, int]:
    async with database.reading() as connection:
        there = await connection.run_sync(table_names)
        return {
            table: (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()
            for table in FULL
            if table in there
        }


def table_names(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


async def test_every_revision_goes_up_down_and_up_with_rows_in_the_tables(database: Database) -> None:
    steps = 0
    while not isinstance(await migrate.revision_state(database), migrate.Current):
        full = await counts(database)
        for change, to in ((migrate.upgrade, "+1"), (migrate.downgrade, "-1"), (migrate.upgrade, "+1")):
            began = time.monotonic()
            await change(database, to)
            assert time.monotonic() - began < STEP_S
            left = await counts(database)
            assert {table: left.get(table) for table in full} == full
            if change is migrate.upgrade:
                # What this revision brought is full as well when it goes, and for the next one.
                await fill(database)
        assert set((await counts(database)).values()) == {ROWS[kind(database)]}
        steps += 1
    assert steps >= 4
