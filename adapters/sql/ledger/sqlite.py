"""Batches on SQLite: one connection in one thread, which is the only writer of the ledger.

Plain `sqlite3` and one hop into the thread for a whole transaction, because a hop for each statement costs
more than the statement.  The commit is durable: write-ahead logging with a synchronised log.
"""

from __future__ import annotations

import asyncio
import sqlite3
from asyncio import Future
from collections.abc import Sequence
from functools import partial
from queue import SimpleQueue
from threading import Thread

import msgspec

from adapters.sql.database import BUSY_TIMEOUT_MS, DOWN, SQLITE_PRAGMAS, Database
from adapters.sql.ledger.batch import Changes, Named, Outcome, apply_all, changes_of, named_by
from adapters.sql.ledger.rows import Rows, account_of
from adapters.sql.schema import from_micros, to_micros
from domain.errors import StorageUnavailable
from domain.ids import AccountId, HoldId, KeyId, TransferId
from domain.ledger import Books, Operation

Batch = tuple[Sequence[Operation], Future[Sequence[Outcome]]]

OUTAGES = (sqlite3.OperationalError, sqlite3.InternalError)

ACCOUNTS = """
SELECT account_id, funded, held, charged, removed, lots FROM credit_accounts
WHERE account_id IN (SELECT value FROM json_each(?))
"""
HOLDS = """
SELECT id, account_id, amount, watermark, draws, opened_at, lease_until, metered_key, last_extension, record,
    state
FROM holds WHERE id IN (SELECT value FROM json_each(?))
"""
METERS = """
SELECT key_id, account_id, requests, spent, held, period_start FROM key_meters
WHERE key_id IN (SELECT value FROM json_each(?))
"""
BOOKED = "SELECT id FROM booked_transfers WHERE id IN (SELECT value FROM json_each(?))"

SAVE_ACCOUNT = """
INSERT INTO credit_accounts (account_id, funded, free, held, charged, removed, lots, next_expiry)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (account_id) DO UPDATE SET
    funded = excluded.funded, free = excluded.free, held = excluded.held, charged = excluded.charged,
    removed = excluded.removed, lots = excluded.lots, next_expiry = excluded.next_expiry
"""
OPEN_HOLD = """
INSERT INTO holds (id, account_id, state, amount, watermark, draws, opened_at, lease_until, ended_at,
    metered_key, last_extension, record)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
CHANGE_HOLD = """
UPDATE holds SET amount = ?2, watermark = ?3, draws = ?4, lease_until = ?5, last_extension = ?6, record = ?7
WHERE id = ?1
"""
END_HOLD = "UPDATE holds SET state = ?2, ended_at = ?3, record = NULL WHERE id = ?1"
SAVE_METER = """
INSERT INTO key_meters (key_id, account_id, requests, spent, held, period_start) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (key_id) DO UPDATE SET
    requests = excluded.requests, spent = excluded.spent, held = excluded.held,
    period_start = excluded.period_start
"""
BOOK = "INSERT INTO booked_transfers (id, account_id) VALUES (?, ?)"
ADD_TRANSFER = """
INSERT INTO transfers (account_id, id, at, kind, debit, credit, amount, reference, reason, draws)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
ADD_GENERATION = """
INSERT INTO generations (account_id, id, started_at, key_id, model, vendor, outcome, input_tokens,
    output_tokens, cost_nanos, record)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class SqliteStore:
    def __init__(self, database: Database) -> None:
        self._path = database.sqlite_path
        self._rows = Rows(read=from_micros, write=to_micros)
        self._connection: sqlite3.Connection | None = None
        self._batches: SimpleQueue[Batch | None] = SimpleQueue()
        self._thread = Thread(target=self._serve, name="ledger", daemon=True)

    async def open(self) -> None:
        """The connection opens with the first batch, in the thread that uses it."""
        self._thread.start()

    async def close(self) -> None:
        self._batches.put(None)
        await asyncio.to_thread(self._thread.join)

    async def transact(self, operations: Sequence[Operation]) -> Sequence[Outcome]:
        answer: Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()
        self._batches.put((operations, answer))
        return await answer

    def _serve(self) -> None:
        """The thread: a plain queue, because an executor's hop costs twice as much as a small transaction's SQL."""
        while (batch := self._batches.get()) is not None:
            operations, answer = batch
            try:
                tell = partial(_answer, answer, self._transact(operations))
            except Exception as error:
                tell = partial(_refuse, answer, error)
            try:
                answer.get_loop().call_soon_threadsafe(tell)
            except RuntimeError:
                break  # The event loop has ended, and with it everyone who waited.
        self._disconnect()

    def _transact(self, operations: Sequence[Operation]) -> Sequence[Outcome]:
        try:
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            try:
                named = named_by(operations)
                books = self._load(connection, named)
                outcomes = apply_all(books, operations)
                _save(connection, changes_of(books, operations, outcomes, self._rows))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except OUTAGES as error:
            self._disconnect()
            raise StorageUnavailable(DOWN) from error
        return outcomes

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(
                self._path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False
            )
            for pragma in SQLITE_PRAGMAS:
                self._connection.execute(pragma)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _load(self, connection: sqlite3.Connection, named: Named) -> Books:
        books = Books()
        for row in connection.execute(ACCOUNTS, (_json(named.accounts),)):
            books.accounts[AccountId(row[0])] = account_of(row)
        keys = set(named.keys)
        if named.holds:
            for *hold, state in connection.execute(HOLDS, (_json(named.holds),)):
                hold_id = HoldId(hold[0])
                if state == "open":
                    loaded = self._rows.hold_of(tuple(hold), named.records.get(hold_id))
                    books.holds[hold_id] = loaded
                    if loaded.metered_key:
                        keys.add(loaded.metered_key)
                else:
                    books.ended.add(hold_id)
        if keys:
            for row in connection.execute(METERS, (_json(list(keys)),)):
                books.meters[KeyId(row[0])] = self._rows.meter_of(row)
        if named.derived:
            books.booked.update(TransferId(row[0]) for row in connection.execute(BOOKED, (_json(named.derived),)))
        return books


def _answer(answer: Future[Sequence[Outcome]], outcomes: Sequence[Outcome]) -> None:
    if not answer.done():
        answer.set_result(outcomes)


def _refuse(answer: Future[Sequence[Outcome]], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


def _save(connection: sqlite3.Connection, changes: Changes) -> None:
    for statement, rows in (
        (SAVE_ACCOUNT, changes.accounts),
        (OPEN_HOLD, changes.opened),
        (CHANGE_HOLD, changes.changed),
        (END_HOLD, changes.ended),
        (SAVE_METER, changes.meters),
        (BOOK, changes.booked),
        (ADD_TRANSFER, changes.transfers),
        (ADD_GENERATION, changes.generations),
    ):
        if rows:
            connection.executemany(statement, rows)


def _json(ids: Sequence[str]) -> str:
    return msgspec.json.encode(ids).decode()
