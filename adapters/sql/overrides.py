"""What the operator has said about the catalogue, a row for each thing said."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import Column, Table, Text, delete, select

from adapters.sql.database import Database
from adapters.sql.revisions import bump
from adapters.sql.schema import Instant, metadata
from adapters.sql.upserts import insert_into
from domain.ports.catalog import Override, subject

catalog_overrides = Table(
    "catalog_overrides",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("vendor", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("said", Text, nullable=False),
    Column("said_at", Instant, nullable=False),
    Column("author", Text, nullable=False),
)

_override: msgspec.json.Decoder[Override] = msgspec.json.Decoder(Override)
_key = (catalog_overrides.c.kind, catalog_overrides.c.vendor, catalog_overrides.c.name)


class SqlOverrides:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> Sequence[Override]:
        async with self._database.reading() as connection:
            rows = await connection.scalars(select(catalog_overrides.c.said).order_by(*_key))
            return [_override.decode(said) for said in rows]

    async def put(self, override: Override, at: datetime, author: str) -> None:
        kind, vendor, name = subject(override)
        said = msgspec.json.encode(override).decode()
        async with self._database.transaction() as connection:
            insert = insert_into(connection, catalog_overrides)
            insert = insert.values(kind=kind, vendor=vendor, name=name, said=said, said_at=at, author=author)
            new = {column: getattr(insert.excluded, column) for column in ("said", "said_at", "author")}
            changed = insert.on_conflict_do_update(
                index_elements=_key, set_=new, where=catalog_overrides.c.said != insert.excluded.said
            )
            if (await connection.execute(changed.returning(catalog_overrides.c.kind))).first():
                await bump(connection, "catalog")

    async def remove(self, override: Override) -> bool:
        place = [column == part for column, part in zip(_key, subject(override), strict=True)]
        async with self._database.transaction() as connection:
            gone = delete(catalog_overrides).where(*place).returning(catalog_overrides.c.kind)
            if not (await connection.execute(gone)).first():
                return False
            await bump(connection, "catalog")
            return True
