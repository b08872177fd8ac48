"""The price book: a row per version, which nothing changes once it is written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Boolean, Column, Index, RowMapping, Subquery, Table, Text, func, select

from adapters.sql.database import Database
from adapters.sql.revisions import bump
from adapters.sql.schema import Instant, metadata
from adapters.sql.upserts import insert_into
from domain.credits import AlreadyBooked
from domain.ids import ModelId, PriceId, VendorSlug
from domain.pricing import ImageRate, Price, PriceSource, Rates, Tier

prices = Table(
    "prices",
    metadata,
    Column("id", Text, primary_key=True),
    Column("vendor", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("valid_from", Instant, nullable=False),
    Column("rates", Text, nullable=False),
    Column("tiers", Text, nullable=False),
    Column("free", Boolean, nullable=False),
    Column("source", Text, nullable=False),
    Column("author", Text, nullable=False),
    # With a default, because the release before this one does not know it and writes on while processes are replaced.
    Column("image_rates", Text, nullable=False, server_default="[]"),
)
Index(
    "ix_prices_vendor_model_valid_from_id",
    prices.c.vendor,
    prices.c.model,
    prices.c.valid_from,
    prices.c.id,
)

IDS_AT_ONCE = 500

_newest_first = (prices.c.valid_from.desc(), prices.c.id.desc())
_by_operator = prices.c.source == PriceSource.OPERATOR.value
_rates = msgspec.json.Decoder(Rates)
_image_rates = msgspec.json.Decoder(tuple[ImageRate, ...])
_tiers = msgspec.json.Decoder(tuple[Tier, ...])


class SqlPrices:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, price: Price) -> None:
        async with self._database.transaction() as connection:
            insert = insert_into(connection, prices).values(_row(price)).on_conflict_do_nothing()
            if not (await connection.execute(insert.returning(prices.c.id))).first():
                raise AlreadyBooked(f"The price {price.id} has been added before; a change is a new version.")
            await bump(connection, "prices")

    async def record(self, versions: Sequence[Price]) -> None:
        async with self._database.transaction() as connection:
            insert = insert_into(connection, prices).on_conflict_do_nothing()
            await connection.execute(insert, [_row(version) for version in versions])

    async def current(self, at: datetime) -> Sequence[Price]:
        place = func.row_number().over(partition_by=(prices.c.vendor, prices.c.model), order_by=_newest_first)
        valid = select(prices.c.id, place.label("place")).where(prices.c.valid_from <= at, _by_operator).subquery()
        return await self._first_of(valid)

    async def latest_recorded(self) -> Sequence[Price]:
        place = func.row_number().over(partition_by=(prices.c.vendor, prices.c.model), order_by=_newest_first)
        return await self._first_of(select(prices.c.id, place.label("place")).where(~_by_operator).subquery())

    async def next_change(self, after: datetime) -> datetime | None:
        query = select(func.min(prices.c.valid_from)).where(prices.c.valid_from > after, _by_operator)
        async with self._database.reading() as connection:
            found: datetime | None = await connection.scalar(query)
        return found

    async def versions(self, ids: Collection[PriceId]) -> Sequence[Price]:
        wanted, found = sorted(ids), []
        async with self._database.reading() as connection:
            for start in range(0, len(wanted), IDS_AT_ONCE):
                some = wanted[start : start + IDS_AT_ONCE]
                rows = await connection.execute(select(prices).where(prices.c.id.in_(some)))
                found += [_read_price(row) for row in rows.mappings()]
        return found

    async def _first_of(self, placed: Subquery) -> Sequence[Price]:
        query = select(prices).join(placed, placed.c.id == prices.c.id).where(placed.c.place == 1)
        async with self._database.reading() as connection:
            rows = await connection.execute(query.order_by(prices.c.vendor, prices.c.model))
            return [_read_price(row) for row in rows.mappings()]

    async def history(self, vendor: VendorSlug, model: ModelId) -> Sequence[Price]:
        query = select(prices).where(prices.c.vendor == vendor, prices.c.model == model)
        async with self._database.reading() as connection:
            rows = await connection.execute(query.order_by(*_newest_first))
            return [_read_price(row) for row in rows.mappings()]


def _read_price(row: RowMapping) -> Price:
    return Price(
        id=row[prices.c.id],
        vendor=row[prices.c.vendor],
        model=row[prices.c.model],
        rates=_rates.decode(row[prices.c.rates]),
        valid_from=row[prices.c.valid_from],
        source=PriceSource(row[prices.c.source]),
        tiers=_tiers.decode(row[prices.c.tiers]),
        free=row[prices.c.free],
        author=row[prices.c.author],
        image_rates=_image_rates.decode(row[prices.c.image_rates]),
    )


def _row(price: Price) -> dict[str, Any]:
    return {
        "id": price.id,
        "vendor": price.vendor,
        "model": price.model,
        "valid_from": price.valid_from,
        "rates": msgspec.json.encode(price.rates).decode(),
        "tiers": msgspec.json.encode(price.tiers).decode(),
        "free": price.free,
        "source": price.source.value,
        "author": price.author,
        "image_rates": msgspec.json.encode(price.image_rates).decode(),
    }
