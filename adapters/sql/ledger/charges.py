"""Requests and what was booked for them, read in the order of the primary key, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, literal, select, tuple_

from adapters.sql.database import Database
from adapters.sql.ledger.rows import record_of
from adapters.sql.ledger.tables import generations, transfers
from domain.ids import AccountId, RequestId
from domain.money import Usd
from domain.ports.charges import Charge

BOOKED_WITHIN: Final = timedelta(days=31)
"""A request is booked when it ends; so much later no month's partition need be looked into."""
KINDS: Final = ("charge", "excess", "overrun")


class SqlCharges:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, start: datetime, end: datetime, after: tuple[AccountId, RequestId] | None, limit: int
    ) -> Sequence[Charge]:
        request = generations.c
        some = (
            select(request.account_id, request.id, request.cost_nanos, request.record)
            .where(request.started_at >= start, request.started_at < end)
            .order_by(request.account_id, request.id)
            .limit(limit)
        )
        if after is not None:
            some = some.where(tuple_(request.account_id, request.id) > tuple_(literal(after[0]), literal(after[1])))
        page = some.subquery()
        # By the transfers' own ids, which are made of the request's: their primary key finds them.
        booked = (
            select(func.coalesce(func.sum(transfers.c.amount), 0))
            .where(
                transfers.c.account_id == page.c.account_id,
                transfers.c.id.in_([literal(f"{kind}:") + page.c.id for kind in KINDS]),
                transfers.c.at >= start,
                transfers.c.at < end + BOOKED_WITHIN,
            )
            .scalar_subquery()
        )
        query = select(page, booked.label("booked")).order_by(page.c.account_id, page.c.id)
        async with self._database.reading(within_s=None) as connection:
            rows = (await connection.execute(query)).all()
        return [
            Charge(
                account_id=AccountId(row.account_id),
                request_id=RequestId(row.id),
                record=record_of(row.record),
                cost=Usd(row.cost_nanos),
                booked=Usd(int(row.booked)),
            )
            for row in rows
        ]
