"""The last good models list of every vendor, one row each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from sqlalchemy import Column, Table, Text, select, update

from adapters.sql.database import Database
from adapters.sql.revisions import bump
from adapters.sql.schema import Instant, metadata
from adapters.sql.upserts import insert_into
from domain.ids import VendorSlug
from domain.ports.vendors import ListedModel

catalog_entries = Table(
    "catalog_entries",
    metadata,
    Column("vendor", Text, primary_key=True),
    Column("models", Text, nullable=False),
    Column("listed_at", Instant, nullable=False),
)

_models = msgspec.json.Decoder(list[ListedModel])


class SqlCatalogEntries:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def replace(self, vendor: VendorSlug, models: Sequence[ListedModel], at: datetime) -> None:
        entry = catalog_entries.c
        written = msgspec.json.encode(models).decode()
        async with self._database.transaction() as connection:
            insert = insert_into(connection, catalog_entries)
            insert = insert.values(vendor=vendor, models=written, listed_at=at)
            new = {"models": insert.excluded.models, "listed_at": insert.excluded.listed_at}
            changed = insert.on_conflict_do_update(
                index_elements=[entry.vendor], set_=new, where=entry.models != insert.excluded.models
            )
            if (await connection.execute(changed.returning(entry.vendor))).first():
                await bump(connection, "catalog")
            else:
                await connection.execute(update(catalog_entries).where(entry.vendor == vendor).values(listed_at=at))

    async def all(self) -> Mapping[VendorSlug, Sequence[ListedModel]]:
        async with self._database.reading() as connection:
            rows = await connection.execute(select(catalog_entries.c.vendor, catalog_entries.c.models))
            return {VendorSlug(row.vendor): _models.decode(row.models) for row in rows}
