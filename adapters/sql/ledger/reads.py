"""What is read of the ledger outside its batches: an account, a record, lists for people and for jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Select, select, text, tuple_

from adapters.sql.database import Database
from adapters.sql.ledger.rows import Rows, account_of, record_of
from adapters.sql.ledger.tables import POSTED, credit_accounts, generations, holds, key_meters, transfers
from domain.credits import CreditAccount, Hold, Transfer
from domain.ids import AccountId, KeyId
from domain.ledger import KeyMeter
from domain.usage import Generation

IS_OPEN = text("state = 'open'")
"""The condition of the partial index, in its own words."""


class LedgerReads:
    def __init__(self, database: Database) -> None:
        self._database = database
        # The column types have already turned what is stored into datetimes.
        self._rows = Rows(read=_unchanged, write=_unchanged)

    async def account(self, account_id: AccountId) -> CreditAccount:
        account = credit_accounts.c
        query = select(
            account.account_id, account.funded, account.held, account.charged, account.removed, account.lots
        ).where(account.account_id == account_id)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        return CreditAccount(id=account_id) if row is None else account_of(tuple(row))

    async def key_meter(self, key_id: KeyId) -> KeyMeter | None:
        meter = key_meters.c
        query = select(
            meter.key_id, meter.account_id, meter.requests, meter.spent, meter.held, meter.period_start
        ).where(meter.key_id == key_id)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else self._rows.meter_of(tuple(row))

    async def overdue_holds(self, at: datetime, limit: int) -> Sequence[Hold]:
        hold = holds.c
        query = (
            select(
                hold.id,
                hold.account_id,
                hold.amount,
                hold.watermark,
                hold.draws,
                hold.opened_at,
                hold.lease_until,
                hold.metered_key,
                hold.last_extension,
                hold.record,
            )
            .where(IS_OPEN, hold.lease_until < at)
            .order_by(hold.lease_until, hold.id)
            .limit(limit)
        )
        async with self._database.reading() as connection:
            return [self._rows.hold_of(tuple(row)) for row in await connection.execute(query)]

    async def accounts_to_expire(self, at: datetime, limit: int) -> Sequence[AccountId]:
        query = (
            select(credit_accounts.c.account_id)
            .where(credit_accounts.c.next_expiry <= at)
            .order_by(credit_accounts.c.next_expiry)
            .limit(limit)
        )
        async with self._database.reading() as connection:
            return [AccountId(account_id) for account_id in await connection.scalars(query)]

    async def transfers(self, account_id: AccountId, limit: int, before: str | None) -> Sequence[Transfer]:
        transfer = transfers.c
        query = (
            select(
                transfer.account_id,
                transfer.id,
                transfer.at,
                transfer.kind,
                transfer.debit,
                transfer.credit,
                transfer.amount,
                transfer.reference,
                transfer.reason,
                transfer.draws,
            )
            .where(transfer.account_id == account_id, POSTED)
            .order_by(transfer.at.desc(), transfer.id.desc())
            .limit(limit)
        )
        if before is not None:
            query = query.where(tuple_(transfer.at, transfer.id) < _place_of(account_id, before).scalar_subquery())
        async with self._database.reading() as connection:
            return [self._rows.transfer_of(tuple(row)) for row in await connection.execute(query)]

    async def generation(self, account_id: AccountId, request_id: str) -> Generation | None:
        query = select(generations.c.record).where(
            generations.c.account_id == account_id, generations.c.id == request_id
        )
        async with self._database.reading() as connection:
            record = await connection.scalar(query)
        return None if record is None else record_of(record)


def _place_of(account_id: AccountId, transfer_id: str) -> Select[tuple[datetime, str]]:
    return (
        select(transfers.c.at, transfers.c.id)
        .where(transfers.c.account_id == account_id, transfers.c.id == transfer_id)
        .limit(1)
    )


def _unchanged(moment: datetime) -> datetime:
    return moment
