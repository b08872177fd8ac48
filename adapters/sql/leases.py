"""Leases, one row for each name that somebody holds or held; the database's clock says which are over."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Set as AbstractSet
from datetime import timedelta

from sqlalchemy import BigInteger, Column, ColumnElement, Table, Text, cast, delete, func, or_, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sql.database import Database
from adapters.sql.schema import MICROSECOND, Instant, metadata
from adapters.sql.upserts import insert_into

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", Instant, nullable=False),
)

JULIAN_DAY_OF_1970 = 2_440_587.5
MICROS_PER_DAY = 86_400_000_000


class SqlLeases:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def acquire(self, names: Collection[str], holder: str, ttl: timedelta) -> AbstractSet[str]:
        if not names:
            return frozenset()
        async with self._database.transaction() as connection:
            until = _from_now(connection, ttl)
            # In one order everywhere, so that processes that take the same ones do not wait in a circle.
            rows = [{"name": name, "holder": holder, "until": until} for name in sorted(names)]
            take = insert_into(connection, leases).values(rows)
            free = or_(leases.c.holder == holder, leases.c.until <= _from_now(connection, timedelta()))
            taken = {"holder": take.excluded.holder, "until": take.excluded.until}
            take = take.on_conflict_do_update(index_elements=[leases.c.name], set_=taken, where=free)
            return frozenset((await connection.execute(take.returning(leases.c.name))).scalars())

    async def release(self, holder: str) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(delete(leases).where(leases.c.holder == holder))


def _from_now(connection: AsyncConnection, distance: timedelta) -> ColumnElement[object]:
    if connection.dialect.name == "postgresql":
        # Not now(): a transaction that waited for the row would decide by the time before it waited.
        return func.clock_timestamp() + distance
    micros = cast((func.julianday("now") - JULIAN_DAY_OF_1970) * MICROS_PER_DAY, BigInteger)
    return type_coerce(micros + distance // MICROSECOND, Instant)
