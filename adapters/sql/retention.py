"""How long what is no longer needed stays: ended holds, and the records of requests.

Transfers are not among them: they are the truth about credit, and no job removes one.  Everything goes in bounded
steps, each a transaction of its own, so that the ledger waits for none of them for long.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import ColumnElement, MetaData, Table, and_, delete, literal, select, true, tuple_

from adapters.sql.database import Database
from adapters.sql.ledger.tables import generations, holds
from adapters.sql.partitions import MonthlyPartitions, first_month_kept
from domain.ports.clock import Clock

log = structlog.get_logger(__name__)

BATCH = 500


class Retention:
    def __init__(
        self,
        database: Database,
        partitions: MonthlyPartitions,
        clock: Clock,
        *,
        ended_hold_days: int,
        generation_months: int,
        batch: int = BATCH,
    ) -> None:
        """`generation_months` is how many months are kept beside the current one, and 0 keeps all of them."""
        self._database = database
        self._partitions = partitions
        self._clock = clock
        self._hold_days = ended_hold_days
        self._generation_months = generation_months
        self._batch = batch

    async def forget_holds(self) -> int:
        """Remove holds that ended so long ago; returns how many.  What they charged stays in the transfers.

        Ids sort by the time a hold was opened, so that the walk can end at the first batch that is young.
        """
        before = self._clock.now() - timedelta(days=self._hold_days)
        gone, last = 0, ""
        columns = (holds.c.id, holds.c.opened_at, holds.c.ended_at)
        while True:
            query = select(*columns).where(holds.c.id > last).order_by(holds.c.id).limit(self._batch)
            async with self._database.reading(within_s=None) as connection:
                rows = (await connection.execute(query)).all()
            if any(row.ended_at is not None and row.ended_at < before for row in rows):
                span = and_(holds.c.id > last, holds.c.id <= rows[-1].id)
                gone += await self._delete(holds, span, holds.c.state != "open", holds.c.ended_at < before)
            if len(rows) < self._batch or rows[-1].opened_at >= before:
                break
            last = rows[-1].id
        if gone:
            log.info("ended holds forgotten", count=gone)
        return gone

    async def forget_generations(self) -> int:
        """Drop whole months of requests, and remove old rows that lie in none; returns how many those rows were."""
        if not self._generation_months:
            return 0
        await self._partitions.drop_generations(self._generation_months)
        before = first_month_kept(self._clock.now(), self._generation_months)
        table = _outside_months(is_sqlite=self._database.is_sqlite)
        key = (table.c.account_id, table.c.id, table.c.started_at)
        gone = 0
        after: ColumnElement[bool] = true()
        while True:
            query = select(*key).where(after).order_by(*key).limit(self._batch)
            async with self._database.reading(within_s=None) as connection:
                rows = (await connection.execute(query)).all()
            if any(row.started_at < before for row in rows):
                upto = tuple_(*key) <= _place(table, rows[-1])
                gone += await self._delete(table, and_(after, upto), table.c.started_at < before)
            if len(rows) < self._batch:
                break
            after = tuple_(*key) > _place(table, rows[-1])
        if gone:
            log.info("records of requests forgotten", count=gone)
        return gone

    async def _delete(self, table: Table, *conditions: ColumnElement[bool]) -> int:
        async with self._database.transaction(within_s=None) as connection:
            return (await connection.execute(delete(table).where(*conditions))).rowcount


def _outside_months(*, is_sqlite: bool) -> Table:
    """Where rows lie that no month has: all of them on SQLite."""
    return generations if is_sqlite else generations.to_metadata(MetaData(), name="generations_default")


def _place(table: Table, row: Sequence[Any]) -> ColumnElement[Any]:
    columns = (table.c.account_id, table.c.id, table.c.started_at)
    return tuple_(*(literal(value, column.type) for value, column in zip(row, columns, strict=True)))
