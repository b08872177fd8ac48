"""The migrations lead from nothing to the tables that the code knows, and back, on both databases."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

import migrations
from adapters.sql import migrate
from adapters.sql.database import Database
from adapters.sql.tables import metadata
from tests import services

pytestmark = pytest.mark.anyio

PARTITIONS = ("_default",)
ROOT = Path(migrations.__file__).parents[1]
MIGRATE = """
import asyncio, sys
from adapters.sql import migrate
from adapters.sql.database import Database
asyncio.run(migrate.upgrade(Database(sys.argv[1], schema=sys.argv[2] or None)))
"""


@pytest.fixture(name="database", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def nothing_yet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        database = Database(f"sqlite+aiosqlite:///{tmp_path}/empty.db")
        yield database
        await database.close()
        return
    server: str = request.getfixturevalue("postgres_url")
    with services.postgres_schema(server, f"migrations_{uuid4().hex[:12]}") as place:
        database = Database(place.server_url, schema=place.schema)
        yield database
        await database.close()


def script() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", os.fspath(ROOT / "migrations"))
    return ScriptDirectory.from_config(config)


def differences(connection: Connection) -> list[Any]:
    def counts(_: object, name: str | None, kind: str, *__: object) -> bool:
        return not (kind == "table" and str(name).endswith(PARTITIONS))

    context = MigrationContext.configure(connection, opts={"compare_type": True, "include_object": counts})
    return list(compare_metadata(context, metadata))


def table_names(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


async def test_there_is_one_head() -> None:
    assert len(script().get_heads()) == 1


async def test_migrating_leads_to_the_tables_that_the_code_knows(database: Database) -> None:
    await migrate.upgrade(database)
    async with database.reading() as connection:
        assert await connection.run_sync(differences) == []


async def test_a_difference_would_be_seen(database: Database) -> None:
    await migrate.upgrade(database)
    async with database.transaction() as connection:
        await connection.execute(text("ALTER TABLE holds ADD COLUMN stranger TEXT"))
    async with database.reading() as connection:
        assert len(await connection.run_sync(differences)) == 1


async def test_every_revision_can_be_undone_and_done_again(database: Database) -> None:
    revisions = [revision.revision for revision in script().walk_revisions()]
    for revision in reversed(revisions):
        await migrate.upgrade(database, revision)
        await migrate.downgrade(database, "-1")
        await migrate.upgrade(database, revision)
    await migrate.downgrade(database, "base")
    async with database.reading() as connection:
        assert await connection.run_sync(table_names) <= {"alembic_version"}
    await migrate.upgrade(database)
    async with database.reading() as connection:
        assert await connection.run_sync(differences) == []


async def test_the_state_of_the_schema_is_told(database: Database) -> None:
    head = script().get_current_head()
    assert head is not None
    assert await migrate.revision_state(database) == migrate.Behind(None, head)
    await migrate.upgrade(database, "0001")
    assert await migrate.revision_state(database) == migrate.Behind("0001", head)
    await migrate.upgrade(database)
    assert await migrate.revision_state(database) == migrate.Current(head)
    async with database.transaction() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert await migrate.revision_state(database) == migrate.Ahead("9999", head)


async def test_processes_that_migrate_at_once_do_not_disturb_each_other(database: Database) -> None:
    url = database.url.render_as_string(hide_password=False)
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", MIGRATE, url, database.schema or "", env={"PYTHONPATH": os.fspath(ROOT)}
        )
        for _ in range(3)
    ]
    assert [await process.wait() for process in processes] == [0, 0, 0]
    assert isinstance(await migrate.revision_state(database), migrate.Current)


async def test_migrations_are_found_from_any_directory(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await migrate.upgrade(database)
    assert isinstance(await migrate.revision_state(database), migrate.Current)
