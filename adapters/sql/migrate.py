"""Brings the schema to this release's revision, and tells whether it is there.

The migrations are found beside the installed packages, wherever the process was started.  Whether the schema is current
is asked at every start and answered without Alembic, whose import alone takes as long as the rest of the start.
"""

from __future__ import annotations

import re
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from sqlalchemy import Connection, inspect, text

from adapters.sql.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

_REVISION: Final = re.compile(r"^(down_revision|revision)\b[^=\n]*= *(?:\"([^\"]+)\"|None)", re.MULTILINE)


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
    from alembic import command

    async with database.engine.begin() as connection:
        await connection.run_sync(lambda given: command.upgrade(_config(given), revision))


async def upgrade_if_behind(database: Database) -> None:
    """What the embedded default does at every start."""
    if isinstance(await revision_state(database), Behind):
        await upgrade(database)


async def downgrade(database: Database, revision: str) -> None:
    from alembic import command

    async with database.engine.begin() as connection:
        await connection.run_sync(lambda given: command.downgrade(_config(given), revision))


async def revision_state(database: Database) -> Current | Behind | Ahead:
    async with database.reading() as connection:
        revision = await connection.run_sync(partial(_revision_of, schema=database.schema))
    known, head = _history()
    if revision == head:
        return Current(head)
    if revision is not None and revision not in known:
        return Ahead(revision, head)
    return Behind(revision, head)


def _revision_of(connection: Connection, schema: str | None) -> str | None:
    if not inspect(connection).has_table("alembic_version", schema=schema):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _history() -> tuple[frozenset[str], str]:
    """Every revision, and the one that no other follows."""
    known, followed = set[str](), set[str]()
    for script in files("migrations").joinpath("versions").iterdir():
        if script.name.endswith(".py"):
            stated = dict(_REVISION.findall(script.read_text(encoding="utf-8")))
            known.add(stated["revision"])
            followed.add(stated.get("down_revision", ""))
    [head] = known - followed
    return frozenset(known), head


def _config(connection: Connection | None = None, **attributes: Any) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    config.attributes.update(attributes, connection=connection)
    return config
