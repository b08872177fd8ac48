"""Idempotency keys: who runs a request, and the answer kept for its repetitions.

A row without a status is a claim whose lease ends at `expires_at`; with one it is an outcome kept until then.
Either way an expired row is free to be taken.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Delete,
    Index,
    LargeBinary,
    RowMapping,
    SmallInteger,
    Table,
    Text,
    Update,
    and_,
    delete,
    select,
    tuple_,
    update,
)

from adapters.sql.database import STATEMENT_TIMEOUT_MS, Database
from adapters.sql.schema import Instant, metadata
from adapters.sql.upserts import insert_into
from domain.ids import AccountId
from domain.ports.repositories import Claim, StoredOutcome

idempotency = Table(
    "idempotency",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("status", SmallInteger),
    Column("headers", Text),
    Column("body", LargeBinary),
)
Index("ix_idempotency_expires_at", idempotency.c.expires_at)

CLAIM_ATTEMPTS_MAX = 5
"""Only a claim that was abandoned or forgotten between two statements takes more than one."""

_headers = msgspec.json.Decoder(tuple[tuple[str, str], ...])


class SqlIdempotency:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(
        self, account_id: AccountId, key: str, fingerprint: str, at: datetime, lease_until: datetime
    ) -> Claim:
        named = {"account_id": account_id, "key": key}
        claim = {"fingerprint": fingerprint, "expires_at": lease_until}
        unfinished = {"status": None, "headers": None, "body": None}
        expired = idempotency.c.expires_at <= at
        take_over = update(idempotency).where(_is(account_id, key), expired).values(**claim, **unfinished)

        async def claimed() -> Claim:
            async with self._database.transaction() as connection:
                take = insert_into(connection, idempotency).values(**named, **claim).on_conflict_do_nothing()
                # Whoever loses writes nothing, so that repetitions wait neither for each other nor for the disk.
                for _ in range(CLAIM_ATTEMPTS_MAX):
                    for attempt in (take, take_over):
                        if (await connection.execute(attempt.returning(idempotency.c.key))).first():
                            return Claim(won=True)
                    row = (await connection.execute(select(idempotency).where(_is(account_id, key)))).mappings().first()
                    if row is not None:
                        return _lost(row, fingerprint)
            return Claim(won=False)

        return await self._database.promptly(claimed())

    async def finish(
        self, account_id: AccountId, key: str, fingerprint: str, outcome: StoredOutcome, keep_until: datetime
    ) -> None:
        finished = update(idempotency).values(
            expires_at=keep_until,
            status=outcome.status,
            headers=msgspec.json.encode(outcome.headers).decode(),
            body=outcome.body,
        )
        # A large answer takes longer than a claim, but what is already paid for must not wait for ever either.
        kept = self._execute(finished.where(_is_running(account_id, key, fingerprint)))
        await self._database.promptly(kept, within_s=STATEMENT_TIMEOUT_MS / 1000)

    async def abandon(self, account_id: AccountId, key: str, fingerprint: str) -> None:
        forgotten = delete(idempotency).where(_is_running(account_id, key, fingerprint))
        await self._database.promptly(self._execute(forgotten))

    async def _execute(self, change: Update | Delete) -> None:
        async with self._database.transaction(within_s=None) as connection:
            await connection.execute(change)

    async def forget_before(self, at: datetime, limit: int) -> int:
        names = (idempotency.c.account_id, idempotency.c.key)
        expired = idempotency.c.expires_at < at
        oldest = select(*names).where(expired).order_by(idempotency.c.expires_at).limit(limit)
        # `expired` once more, for a row that is claimed anew between being chosen and being deleted.
        forget = delete(idempotency).where(tuple_(*names).in_(oldest), expired)
        async with self._database.transaction(within_s=None) as connection:
            return (await connection.execute(forget)).rowcount


def _is(account_id: AccountId, key: str) -> ColumnElement[bool]:
    return and_(idempotency.c.account_id == account_id, idempotency.c.key == key)


def _is_running(account_id: AccountId, key: str, fingerprint: str) -> ColumnElement[bool]:
    same_request = idempotency.c.fingerprint == fingerprint
    return and_(_is(account_id, key), same_request, idempotency.c.status.is_(None))


def _lost(row: RowMapping, fingerprint: str) -> Claim:
    same_request = row["fingerprint"] == fingerprint
    if row["status"] is None or not same_request:
        return Claim(won=False, same_request=same_request)
    outcome = StoredOutcome(status=row["status"], headers=_headers.decode(row["headers"]), body=row["body"])
    return Claim(won=False, outcome=outcome)
