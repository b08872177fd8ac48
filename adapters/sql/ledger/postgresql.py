"""Batches on PostgreSQL: lock and read the accounts, read the rest, write everything at once, commit.

One connection for this alone.  The locks are the rows of the accounts, taken in order of id, so that any
number of processes can run batches on the same accounts: each sees what the others committed, and none
deadlocks.  Whatever else a batch reads belongs to one of its accounts and is read after the lock, by a later
statement, which sees later commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
import msgspec
from asyncpg.prepared_stmt import PreparedStatement

from adapters.sql.database import CONNECT_TIMEOUT_S, STATEMENT_TIMEOUT_MS, Database
from adapters.sql.ledger.batch import DOWN, Changes, Named, Outcome, apply_all, changes_of, named_by
from adapters.sql.ledger.rows import Rows, account_of
from domain.errors import StorageUnavailable
from domain.ids import AccountId, HoldId, KeyId, TransferId
from domain.ledger import Books, Operation

COMMAND_TIMEOUT_S = STATEMENT_TIMEOUT_MS / 1000 + 1
"""The server gives up first, unless it is gone."""

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

OUTAGES = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)

LOCK = """
SELECT account_id, funded, held, charged, removed, lots FROM credit_accounts
WHERE account_id = ANY($1::text[]) ORDER BY account_id FOR UPDATE
"""
CREATE = """
INSERT INTO credit_accounts (account_id, funded, free, held, charged, removed, lots)
SELECT id, 0, 0, 0, 0, 0, '[]' FROM unnest($1::text[]) AS new(id)
ON CONFLICT DO NOTHING
"""
READ = """
SELECT state, ROW(id, account_id, amount, watermark, draws, opened_at, lease_until, metered_key,
    last_extension, CASE WHEN NOT id = ANY($2::text[]) THEN record END)
FROM holds WHERE id = ANY($1::text[])
UNION ALL
SELECT 'meter', ROW(key_id, account_id, requests, spent, held, period_start)
FROM key_meters WHERE key_id IN (
    SELECT id FROM unnest($3::text[]) AS named(id)
    UNION SELECT metered_key FROM holds WHERE id = ANY($1::text[]) AND state = 'open'
)
UNION ALL
SELECT 'booked', ROW(id) FROM booked_transfers WHERE id = ANY($4::text[])
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
    def __init__(self, database: Database) -> None:
        self._where = _address(database)
        self._settings = database.server_settings() | PLANNER
        self._rows = Rows(read=_unchanged, write=_unchanged)
        self._connected: _Prepared | None = None

    async def open(self) -> None:
        """The connection opens with the first batch, and again after each outage."""

    async def close(self) -> None:
        if self._connected is not None:
            await self._connected.connection.close(timeout=CONNECT_TIMEOUT_S)
            self._connected = None

    async def transact(self, operations: Sequence[Operation]) -> Sequence[Outcome]:
        try:
            prepared = self._connected or await self._connect()
            try:
                return await self._transact(prepared, operations)
            except REFUSALS:
                await prepared.connection.execute("ROLLBACK")
                raise
            except BaseException:
                # Whatever else happened, this connection's state is unknown.
                self._connected = None
                prepared.connection.terminate()
                raise
        except REFUSALS:
            raise
        except OUTAGES as error:
            raise StorageUnavailable(DOWN) from error

    async def _connect(self) -> _Prepared:
        connection = await asyncpg.connect(
            **self._where,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings=self._settings,
        )
        self._connected = _Prepared(
            connection,
            lock=await connection.prepare(LOCK),
            read=await connection.prepare(READ),
            write=await connection.prepare(WRITE),
        )
        return self._connected

    async def _transact(self, prepared: _Prepared, operations: Sequence[Operation]) -> Sequence[Outcome]:
        named = named_by(operations)
        books = Books()
        await self._lock(prepared, named, books)
        if named.holds or named.derived:
            found = await prepared.read.fetch(named.holds, list(named.records), named.keys, named.derived)
            self._load(found, named, books)
        outcomes = apply_all(books, operations)
        await prepared.write.fetch(*_arguments(changes_of(books, operations, outcomes, self._rows)))
        await prepared.connection.execute("COMMIT")
        return outcomes

    async def _lock(self, prepared: _Prepared, named: Named, books: Books) -> None:
        """Begin, and lock every account; one that has no row yet gets one, to have something to lock."""
        await prepared.connection.execute("BEGIN")
        rows = await prepared.lock.fetch(named.accounts)
        if len(rows) < len(named.accounts):
            # In a transaction of its own: rows added after other rows were locked could deadlock.
            await prepared.connection.execute("ROLLBACK")
            await prepared.connection.execute(CREATE, named.accounts)
            await prepared.connection.execute("BEGIN")
            rows = await prepared.lock.fetch(named.accounts)
        for row in rows:
            books.accounts[AccountId(row[0])] = account_of(row)

    def _load(self, found: Sequence[Any], named: Named, books: Books) -> None:
        for what, row in found:
            match what:
                case "open":
                    books.holds[HoldId(row[0])] = self._rows.hold_of(row, named.records.get(HoldId(row[0])))
                case "charged" | "voided":
                    books.ended.add(HoldId(row[0]))
                case "meter":
                    books.meters[KeyId(row[0])] = self._rows.meter_of(row)
                case _:
                    books.booked.add(TransferId(row[0]))


class _Prepared:
    """A connection with the statements that it has parsed."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        *,
        lock: PreparedStatement,
        read: PreparedStatement,
        write: PreparedStatement,
    ) -> None:
        self.connection = connection
        self.lock = lock
        self.read = read
        self.write = write


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
