"""Brings the schema to this release's revision, and tells whether it is there.

The migrations are found beside the installed packages, wherever the process was started.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from msgspec import Struct
from sqlalchemy import Connection

from adapters.sql.database import Database


class Current(Struct, frozen=True):
    """The schema is this release's."""

    revision: str


class Behind(Struct, frozen=True):
    """The schema must be upgraded; `revision` is None where there is none yet."""

    revision: str | None
    head: str


class Ahead(Struct, frozen=True):
    """A newer release has migrated: this one does not know the revision."""

    revision: str
    head: str


async def upgrade(database: Database, revision: str = "head") -> None:
    """Any number of processes may do this at once: one works, the others find the work done."""
    async with database.engine.begin() as connection:
        await connection.run_sync(lambda given: command.upgrade(_config(given), revision))


async def downgrade(database: Database, revision: str) -> None:
    async with database.engine.begin() as connection:
        await connection.run_sync(lambda given: command.downgrade(_config(given), revision))


async def revision_state(database: Database) -> Current | Behind | Ahead:
    async with database.reading() as connection:
        revision = await connection.run_sync(_revision_of)
    script = ScriptDirectory.from_config(_config())
    head = script.get_current_head()
    assert head is not None, "the history of the schema has one head"
    if revision == head:
        return Current(head)
    if revision is not None and not _knows(script, revision):
        return Ahead(revision, head)
    return Behind(revision, head)


def _revision_of(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _knows(script: ScriptDirectory, revision: str) -> bool:
    try:
        script.get_revision(revision)
    except CommandError:
        return False
    return True


def _config(connection: Connection | None = None, **attributes: Any) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    config.attributes.update(attributes, connection=connection)
    return config
