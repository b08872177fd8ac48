"""The last good models list of every vendor, one row each, and when each was last asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import Column, Table, Text, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sql.database import Database
from adapters.sql.revisions import bump
from adapters.sql.schema import Instant, metadata
from adapters.sql.upserts import insert_into
from adapters.system.pace import Pace
from domain.ids import VendorSlug
from domain.ports.catalog import Asked
from domain.ports.vendors import ListedModel

ROWS_PER_BREATH: Final = 50
"""So many rows are written or read at once: about a tenth of a millisecond."""

catalog_entries = Table(
    "catalog_entries",
    metadata,
    Column("vendor", Text, primary_key=True),
    Column("models", Text, nullable=False),
    Column("listed_at", Instant, nullable=False),
)

catalog_asks = Table(
    "catalog_asks",
    metadata,
    Column("vendor", Text, primary_key=True),
    Column("asked_at", Instant, nullable=False),
    Column("failure", Text),
)

_encoder = msgspec.json.Encoder()
_models = msgspec.json.Decoder(list[ListedModel])


class _Known(Struct, frozen=True):
    """A list as it was last read: its time, the hash of its text, and its rows."""

    listed_at: datetime
    text_hash: int
    models: Sequence[ListedModel]


class SqlCatalogEntries:
    """Keeps what it has read, so that a list that has not changed is not read again."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[VendorSlug, _Known] = {}

    async def replace(self, vendor: VendorSlug, models: Sequence[ListedModel], at: datetime) -> None:
        entry = catalog_entries.c
        written = await asyncio.to_thread(_written, models, Pace())
        async with self._database.transaction() as connection:
            await _note_asked(connection, vendor, at, None)
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
        entry = catalog_entries.c
        async with self._database.reading() as connection:
            times = {
                row.vendor: row.listed_at for row in await connection.execute(select(entry.vendor, entry.listed_at))
            }
            newer = [vendor for vendor, at in times.items() if not self._is_known(vendor, at)]
            query = select(entry.vendor, entry.models, entry.listed_at).where(entry.vendor.in_(newer))
            rows = (await connection.execute(query)).all() if newer else ()
        for row in rows:
            await self._take_up(row.vendor, row.models, row.listed_at)
        return {VendorSlug(vendor): self._known[vendor].models for vendor in times if vendor in self._known}

    async def asked(self, vendor: VendorSlug, at: datetime, failure: str) -> None:
        async with self._database.transaction() as connection:
            await _note_asked(connection, vendor, at, failure)

    async def last_asked(self) -> Mapping[VendorSlug, Asked]:
        asks, entry = catalog_asks.c, catalog_entries.c
        joined = catalog_asks.outerjoin(catalog_entries, asks.vendor == entry.vendor)
        query = select(asks.vendor, asks.asked_at, asks.failure, entry.listed_at).select_from(joined)
        async with self._database.reading() as connection:
            return {
                VendorSlug(row.vendor): Asked(at=row.asked_at, listed_at=row.listed_at, failure=row.failure)
                for row in await connection.execute(query)
            }

    def _is_known(self, vendor: VendorSlug, at: datetime) -> bool:
        known = self._known.get(vendor)
        return known is not None and known.listed_at == at

    async def _take_up(self, vendor: VendorSlug, text: str, at: datetime) -> None:
        known, text_hash = self._known.get(vendor), hash(text)
        if known is not None and known.text_hash == text_hash:
            models = known.models
        else:
            models = await asyncio.to_thread(_read, text, Pace())
        self._known[vendor] = _Known(at, text_hash, models)


async def _note_asked(connection: AsyncConnection, vendor: VendorSlug, at: datetime, failure: str | None) -> None:
    insert = insert_into(connection, catalog_asks).values(vendor=vendor, asked_at=at, failure=failure)
    new = {"asked_at": insert.excluded.asked_at, "failure": insert.excluded.failure}
    await connection.execute(insert.on_conflict_do_update(index_elements=[catalog_asks.c.vendor], set_=new))


def _written(models: Sequence[ListedModel], breathe: Callable[[], None]) -> str:
    """A JSON array with a line for every few rows, so that it can be read again in small pieces."""
    pieces: list[bytes] = []
    for start in range(0, len(models), ROWS_PER_BREATH):
        pieces.append(_encoder.encode(list(models[start : start + ROWS_PER_BREATH]))[1:-1])
        breathe()
    return "[" + b",\n".join(pieces).decode() + "]"


def _read(text: str, breathe: Callable[[], None]) -> Sequence[ListedModel]:
    models: list[ListedModel] = []
    # No string in JSON holds a bare line break, so that every line is whole rows.
    for line in text[1:-1].split(",\n"):
        models += _models.decode(f"[{line}]")
        breathe()
    return models
