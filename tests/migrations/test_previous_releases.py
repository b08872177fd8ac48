"""While a release replaces another one, both serve on the new schema: what the old one says must still work there."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import event, text

from adapters.sql import migrate
from adapters.sql.database import Database
from adapters.sql.ledger.verify import differences
from adapters.sql.partitions import MonthlyPartitions
from adapters.system.clock import SystemClock
from tests import services
from tests.migrations.record import SEPARATOR

pytestmark = pytest.mark.anyio

RELEASES = sorted((Path(__file__).parent / "releases").glob("*.sql"))
CALLS_RECORDED = 3

BREAKING = {
    "drops or renames what the old release names": r"\b(DROP (TABLE|COLUMN|VIEW|FUNCTION)|RENAME)\b",
    "changes a column's type": r"ALTER COLUMN \S+ (SET DATA )?TYPE\b",
    "asks for a value that the old release does not give": r"SET NOT NULL|ALTER COLUMN \S+ DROP DEFAULT",
    "adds a column that the old release leaves empty": r"ADD COLUMN (?!.*\bDEFAULT\b).*\bNOT NULL\b",
    "refuses rows that the old release may write": r"ALTER TABLE .* ADD (CONSTRAINT|CHECK|UNIQUE|FOREIGN|EXCLUDE)\b",
}
UNIQUE_INDEX = re.compile(r'CREATE UNIQUE INDEX\s.*\sON "?(\w+)', re.IGNORECASE | re.DOTALL)
NEW_TABLE = re.compile(r'CREATE TABLE "?(\w+)', re.IGNORECASE)


@pytest.fixture(name="database")
async def nothing_yet(postgres_url: str) -> AsyncIterator[Database]:
    with services.postgres_schema(postgres_url, f"releases_{uuid4().hex[:12]}") as place:
        database = Database(place.server_url, schema=place.schema)
        yield database
        await database.close()


def breaks(statements: list[str]) -> list[str]:
    """Why an older release could not go on beside an upgrade made of these statements."""
    made = {match[1] for statement in statements if (match := NEW_TABLE.search(statement))}
    found = []
    for statement in statements:
        # The body of a function runs later, and for whoever calls it.
        outside = re.sub(r"\$\$.*?\$\$", "", statement, flags=re.DOTALL)
        line = " ".join(outside.split())
        found += [f"{why}: {line}" for why, sign in BREAKING.items() if re.search(sign, line, re.IGNORECASE)]
        if (match := UNIQUE_INDEX.search(line)) and match[1] not in made:
            found.append(f"refuses rows that the old release may write: {line}")
    return found


async def test_no_upgrade_takes_anything_from_the_release_before_it(database: Database) -> None:
    said: list[str] = []

    @event.listens_for(database.engine.sync_engine, "before_cursor_execute")
    def note(_: object, __: object, statement: str, *___: object) -> None:
        said.append(statement)

    known = 0
    while not isinstance(await migrate.revision_state(database), migrate.Current):
        said.clear()
        await migrate.upgrade(database, "+1")
        assert breaks(said) == []
        known += 1
    assert known >= 4


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE holds DROP COLUMN draws",
        "DROP TABLE keys",
        "ALTER TABLE keys RENAME name TO label",
        "ALTER TABLE keys ADD COLUMN team TEXT NOT NULL",
        "ALTER TABLE keys ALTER COLUMN revoked_at SET NOT NULL",
        "ALTER TABLE keys ALTER COLUMN name TYPE VARCHAR(10)",
        "ALTER TABLE keys ADD CONSTRAINT short CHECK (length(name) < 9)",
        "CREATE UNIQUE INDEX uq_keys_name ON keys (name)",
    ],
)
def test_what_would_break_the_release_before_it_is_seen(statement: str) -> None:
    assert len(breaks(["CREATE TABLE teams (id TEXT NOT NULL)", statement])) == 1


def test_what_breaks_nothing_is_let_through() -> None:
    harmless = [
        "CREATE TABLE teams (id TEXT NOT NULL, CONSTRAINT pk_teams PRIMARY KEY (id))",
        "CREATE UNIQUE INDEX uq_teams_id ON teams (id)",
        "CREATE INDEX ix_keys_name ON keys (name)",
        "ALTER TABLE keys ADD COLUMN team TEXT",
        "ALTER TABLE keys ADD COLUMN seats BIGINT DEFAULT 1 NOT NULL",
        "CREATE FUNCTION f() RETURNS void AS $$ BEGIN DROP TABLE keys; END $$",
    ]
    assert breaks(harmless) == []


def test_there_is_a_release_to_ask() -> None:
    assert RELEASES


@pytest.mark.parametrize("release", RELEASES, ids=[path.stem for path in RELEASES])
async def test_what_an_older_release_says_still_works(database: Database, release: Path) -> None:
    await migrate.upgrade(database)

    async with database.engine.connect() as connection:
        connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        for statement in release.read_text(encoding="utf-8").split(SEPARATOR):
            if statement:
                await driver.execute(statement)

    # What the old release wrote is right for the new one, and what it made the new one guards.
    assert await differences(database) == []
    async with database.reading() as connection:
        calls = await connection.scalar(text("SELECT count(*) FROM generations WHERE cost_nanos > 0"))
        charged = await connection.scalar(text("SELECT sum(charged) FROM credit_accounts"))
    assert calls == CALLS_RECORDED
    assert charged > 0
    await MonthlyPartitions(database, SystemClock())()
    async with database.reading() as connection:
        bare = text(
            "SELECT relid::regclass::text FROM pg_partition_tree('transfers') WHERE NOT EXISTS "
            "(SELECT FROM pg_trigger WHERE tgrelid = relid AND tgname = 'transfers_not_truncated')"
        )
        assert (await connection.scalars(bare)).all() == []
