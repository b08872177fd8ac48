"""Batches on PostgreSQL: lock and read everything, write everything, commit: three round trips while there is work.

One connection for this alone.  The locks are the rows of the accounts, taken in order of id, so that any number of
processes can run batches on the same accounts: each sees what the others committed, and none deadlocks.  Whatever
else a batch reads belongs to one of its accounts, and changes only under that account's lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import asyncpg
import msgspec
from asyncpg.prepared_stmt import PreparedStatement

from adapters.sql.database import ANSWERS_WITHIN_S, CONNECT_TIMEOUT_S, DOWN, Database
from adapters.sql.ledger.batch import Changes, Named, Outcome, apply_all, changes_of, named_by
from adapters.sql.ledger.rows import Rows, account_of
from domain.errors import StorageUnavailable
from domain.ids import AccountId, HoldId, KeyId, TransferId
from domain.ledger import Books, Operation

PLANNER = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
"""Every statement here finds a few rows by their keys: one plan fits, also for tables not yet analysed."""

REFUSALS = (
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.DataError,
    asyncpg.RaiseError,
    asyncpg.TransactionRollbackError,
)
"""Errors that a batch brings upon itself; after a rollback the connection is as good as before."""

OUTAGES = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""The last is what the driver may say when a connection breaks between two of its own steps."""

CUT_OFF = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""Outages that a restart of the server brings, which is over soon."""
RETURNS_WITHIN_S = 1.0
TRIED_AGAIN_S = 0.05

READ = """
WITH locked AS MATERIALIZED (
    SELECT account_id, funded, held, charged, removed, lots, ctid AS version FROM credit_accounts
    WHERE account_id = ANY($1::text[]) ORDER BY account_id FOR UPDATE
)
SELECT 'account', ROW(account_id, funded, held, charged, removed, lots, version <> (
    SELECT ctid FROM credit_accounts AS seen WHERE seen.account_id = locked.account_id
)) FROM locked
UNION ALL
SELECT state, ROW(id, account_id, amount, watermark, draws, opened_at, lease_until, metered_key, last_extension,
    CASE WHEN NOT id = ANY($3::text[]) THEN record END)
FROM holds WHERE id = ANY($2::text[])
UNION ALL
SELECT 'meter', ROW(key_id, account_id, requests, spent, held, period_start)
FROM key_meters WHERE key_id IN (
    SELECT id FROM unnest($4::text[]) AS named(id)
    UNION SELECT metered_key FROM holds WHERE id = ANY($2::text[]) AND state = 'open'
)
UNION ALL
SELECT 'booked', ROW(id) FROM booked_transfers WHERE id = ANY($5::text[])
"""
"""Locks the accounts and reads them as they are now, but the rest as it was when the statement began.

If it had to wait for another process, it locked a later version of the account than it saw at its beginning.  The last
value of an account's row says so; then the rest may be out of date and must be read again.
"""

CREATE = """
INSERT INTO credit_accounts (account_id, funded, free, held, charged, removed, lots)
SELECT id, 0, 0, 0, 0, 0, '[]' FROM unnest($1::text[]) AS new(id)
ON CONFLICT DO NOTHING
"""
WRITE = """
WITH saved_accounts AS (
    UPDATE credit_accounts SET
        funded = (new->>1)::int8, free = (new->>2)::int8, held = (new->>3)::int8, charged = (new->>4)::int8,
        removed = (new->>5)::int8, lots = new->>6, next_expiry = (new->>7)::timestamptz
    FROM jsonb_array_elements($1::jsonb) AS new WHERE account_id = new->>0
), opened_holds AS (
    INSERT INTO holds (id, account_id, state, amount, watermark, draws, opened_at, lease_until, ended_at,
        metered_key, last_extension, record)
    SELECT new->>0, new->>1, new->>2, (new->>3)::int8, (new->>4)::int8, new->>5, (new->>6)::timestamptz,
        (new->>7)::timestamptz, (new->>8)::timestamptz, new->>9, (new->>10)::int4, new->>11
    FROM jsonb_array_elements($2::jsonb) AS new
), changed_holds AS (
    UPDATE holds SET
        amount = (new->>1)::int8, watermark = (new->>2)::int8, draws = new->>3,
        lease_until = (new->>4)::timestamptz, last_extension = (new->>5)::int4, record = new->>6
    FROM jsonb_array_elements($3::jsonb) AS new WHERE id = new->>0
), ended_holds AS (
    UPDATE holds SET state = new->>1, ended_at = (new->>2)::timestamptz, record = NULL
    FROM jsonb_array_elements($4::jsonb) AS new WHERE id = new->>0
), saved_meters AS (
    INSERT INTO key_meters (key_id, account_id, requests, spent, held, period_start)
    SELECT new->>0, new->>1, (new->>2)::int8, (new->>3)::int8, (new->>4)::int8, (new->>5)::timestamptz
    FROM jsonb_array_elements($5::jsonb) AS new
    ON CONFLICT (key_id) DO UPDATE SET
        requests = excluded.requests, spent = excluded.spent, held = excluded.held,
        period_start = excluded.period_start
), booked AS (
    INSERT INTO booked_transfers (id, account_id)
    SELECT new->>0, new->>1 FROM jsonb_array_elements($6::jsonb) AS new
), added_transfers AS (
    INSERT INTO transfers (account_id, id, at, kind, debit, credit, amount, reference, reason, draws)
    SELECT new->>0, new->>1, (new->>2)::timestamptz, new->>3, new->>4, new->>5, (new->>6)::int8, new->>7,
        new->>8, new->>9
    FROM jsonb_array_elements($7::jsonb) AS new
)
INSERT INTO generations (account_id, id, started_at, key_id, model, vendor, outcome, input_tokens,
    output_tokens, cost_nanos, record)
SELECT new->>0, new->>1, (new->>2)::timestamptz, new->>3, new->>4, new->>5, new->>6, (new->>7)::int8,
    (new->>8)::int8, (new->>9)::int8, new->>10
FROM jsonb_array_elements($8::jsonb) AS new
"""
"""All rows of a table are one argument, a JSON array of arrays: encoding an array of values for each column would
cost this process eight times the CPU, and the server no less."""


_encoder = msgspec.json.Encoder()


class PostgresStore:
    def __init__(self, database: Database, is_more_waiting: Callable[[], bool] = lambda: False) -> None:
        """`is_more_waiting` says whether another batch follows at once."""
        self._is_more_waiting = is_more_waiting
        self._where = _address(database)
        self._settings = database.server_settings() | PLANNER
        self._rows = Rows(read=_unchanged, write=_unchanged)
        self._prepared: _Prepared | None = None

    async def open(self) -> None:
        """The connection opens with the first batch, and again after each outage."""

    async def close(self) -> None:
        if self._prepared is not None:
            await self._prepared.connection.close(timeout=CONNECT_TIMEOUT_S)
            self._prepared = None

    async def transact(self, operations: Sequence[Operation]) -> Sequence[Outcome]:
        try:
            return await self._through_a_restart(operations)
        except REFUSALS:
            raise
        except OUTAGES as error:
            self._drop()
            raise StorageUnavailable(DOWN) from error
        except BaseException:
            # A defect, or the end of the event loop: nobody knows where in its transaction the connection is.
            self._drop()
            raise

    async def _through_a_restart(self, operations: Sequence[Operation]) -> Sequence[Outcome]:
        """Nothing has happened before COMMIT is sent, so that until then a batch can begin once more."""
        time = asyncio.get_running_loop().time
        until = time() + RETURNS_WITHIN_S
        while True:
            try:
                prepared = self._prepared or await self._connect()
                return await self._transact(prepared, operations)
            except REFUSALS:
                if self._prepared is not None:
                    await self._prepared.rollback()
                raise
            except CUT_OFF:
                if (self._prepared is not None and self._prepared.committing) or time() >= until:
                    raise
                self._drop()
                await asyncio.sleep(TRIED_AGAIN_S)

    async def _connect(self) -> _Prepared:
        connection = await asyncpg.connect(
            **self._where,
            timeout=ANSWERS_WITHIN_S,
            # Each step has this long, because a busy server may be slow with several and still be there.
            command_timeout=ANSWERS_WITHIN_S,
            server_settings=self._settings,
        )
        try:
            read, write = await connection.prepare(READ), await connection.prepare(WRITE)
        except BaseException:
            connection.terminate()
            raise
        self._prepared = _Prepared(connection, read, write)
        return self._prepared

    def _drop(self) -> None:
        if self._prepared is not None:
            self._prepared.connection.terminate()
            self._prepared = None

    async def _transact(self, prepared: _Prepared, operations: Sequence[Operation]) -> Sequence[Outcome]:
        books = await self._begin(prepared, named_by(operations))
        outcomes = apply_all(books, operations)
        await prepared.write.fetch(*_arguments(changes_of(books, operations, outcomes, self._rows)))
        await prepared.commit(and_begin=self._is_more_waiting())
        return outcomes

    async def _begin(self, prepared: _Prepared, named: Named) -> Books:
        """Begin, lock the accounts, and load them with all that the operations name."""
        names = (named.accounts, named.holds, list(named.records), named.keys, named.derived)
        await prepared.begin()
        books, is_overtaken = self._loaded(await prepared.read.fetch(*names), named)
        if len(books.accounts) < len(named.accounts):
            # One that has no row yet gets one, to have something to lock; in a transaction of its own, because
            # rows added after others were locked could deadlock.
            await prepared.rollback()
            await prepared.connection.execute(CREATE, named.accounts)
            await prepared.begin()
            books, is_overtaken = self._loaded(await prepared.read.fetch(*names), named)
        if is_overtaken:
            books, _ = self._loaded(await prepared.read.fetch(*names), named)
        return books

    def _loaded(self, found: Sequence[Any], named: Named) -> tuple[Books, bool]:
        """The books, and whether another process changed one of the accounts while they were read."""
        books = Books()
        is_overtaken = False
        for what, row in found:
            match what:
                case "account":
                    *account, is_newer = row
                    books.accounts[AccountId(row[0])] = account_of(tuple(account))
                    is_overtaken |= is_newer
                case "open":
                    books.holds[HoldId(row[0])] = self._rows.hold_of(row, named.records.get(HoldId(row[0])))
                case "charged" | "voided":
                    books.ended.add(HoldId(row[0]))
                case "meter":
                    books.meters[KeyId(row[0])] = self._rows.meter_of(row)
                case _:
                    books.booked.add(TransferId(row[0]))
        return books, is_overtaken


class _Prepared:
    """A connection with the statements that it has parsed, which knows whether it is in a transaction."""

    def __init__(self, connection: asyncpg.Connection, read: PreparedStatement, write: PreparedStatement) -> None:
        self.connection = connection
        self.read = read
        self.write = write
        self._has_begun = False
        self.committing = False
        """Whether a COMMIT has been sent that was not answered."""

    async def begin(self) -> None:
        if not self._has_begun:
            await self.connection.execute("BEGIN")
            self._has_begun = True

    async def commit(self, *, and_begin: bool) -> None:
        self.committing = True
        await self.connection.execute("COMMIT AND CHAIN" if and_begin else "COMMIT")
        self.committing = False
        self._has_begun = and_begin

    async def rollback(self) -> None:
        await self.connection.execute("ROLLBACK")
        self._has_begun = self.committing = False


def _address(database: Database) -> dict[str, Any]:
    """What asyncpg needs to connect, read from the URL as for every other connection."""
    _, arguments = database.engine.dialect.create_connect_args(database.url)
    return {name: value for name, value in arguments.items() if not name.startswith("prepared_statement_")}


def _arguments(changes: Changes) -> list[str]:
    """The arguments of WRITE, in its order."""
    return [
        _encoder.encode(rows).decode()
        for rows in (
            changes.accounts,
            changes.opened,
            changes.changed,
            changes.ended,
            changes.meters,
            changes.booked,
            changes.transfers,
            changes.generations,
        )
    ]


def _unchanged(moment: datetime) -> datetime:
    return moment
