"""Moves a whole embedded database to an empty PostgreSQL, goes on where it was interrupted, and proves the copy.

Each batch is committed together with a mark of how far its table has come.  The marks are dropped only when the copy
has been proven, so that a database that has none and is not empty is somebody's and stays as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    MetaData,
    RowMapping,
    Table,
    Text,
    event,
    exists,
    func,
    inspect,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sql.database import Database
from adapters.sql.ledger.verify import differences
from adapters.sql.migrate import Current, revision_state, upgrade
from adapters.sql.partitions import MonthlyPartitions
from adapters.sql.schema import Instant, from_micros, to_micros
from adapters.sql.tables import credit_accounts, generations, metadata, transfers
from adapters.sql.upserts import insert_into
from domain.errors import Conflict, StorageUnavailable
from domain.ports.clock import Clock

marks = Table(
    "moving_marks",
    MetaData(),
    Column("name", Text, primary_key=True),
    Column("last", Text),
    Column("copied", BigInteger, nullable=False),
    Column("done", Boolean, nullable=False),
)

MONTHLY = (transfers.c.at, generations.c.started_at)
READ_AT_ONCE = 1_000
PROBLEMS_MAX = 20
DIGEST_BITS = 256
START_AGAIN = "Empty the PostgreSQL database, and move again."


class MoveRefused(Conflict):
    """Nothing is lost: the embedded database is only read."""

    code = "move_refused"


class Progress(Struct, frozen=True):
    """So many rows of a table have been copied."""

    table: str
    copied: int
    total: int


class Move:
    """One attempt; the embedded file belongs to it alone until it ends."""

    def __init__(
        self, source_url: str, target_url: str, clock: Clock, *, batch: int, tell: Callable[[Progress], None]
    ) -> None:
        self._source_url = source_url
        self._target_url = target_url
        self._clock = clock
        self._batch = batch
        self._tell = tell

    async def __call__(self) -> Mapping[str, int]:
        """The rows of each table, all of them proven to be in PostgreSQL.  Raises MoveRefused."""
        async with AsyncExitStack() as stack:
            source = _alone_on(self._source_url)
            stack.push_async_callback(source.close)
            await _prepare_source(source)
            target = Database(self._target_url, pool_size=2)
            stack.push_async_callback(target.close)
            await _prepare_target(target)
            reading = await stack.enter_async_context(source.reading())
            now = self._clock.now()
            await MonthlyPartitions(target, self._clock).make(await _oldest(reading) or now, now)
            for table in metadata.sorted_tables:
                await self._copy(reading, target, table)
            counts = await _proven(reading, target)
            async with target.transaction(within_s=None) as connection:
                await connection.run_sync(marks.drop)
            return counts

    async def _copy(self, reading: AsyncConnection, target: Database, table: Table) -> None:
        async with target.reading(within_s=None) as connection:
            mark = (await connection.execute(select(marks).where(marks.c.name == table.name))).mappings().one()
        total = await reading.scalar(select(func.count()).select_from(table)) or 0
        last, copied, done = _read_last(table, mark["last"]), mark["copied"], mark["done"]
        while not done:
            rows = await _batch_after(reading, table, last, self._batch)
            done = len(rows) < self._batch
            last = _primary_key(table, rows[-1]) if rows else last
            copied += len(rows)
            progress = {"last": _written(last), "copied": copied, "done": done}
            try:
                async with target.transaction(within_s=None) as connection:
                    if rows:
                        insert = insert_into(connection, table).on_conflict_do_nothing()
                        await connection.execute(insert, [dict(row) for row in rows])
                    await connection.execute(update(marks).where(marks.c.name == table.name).values(progress))
            except IntegrityError as error:
                raise MoveRefused(f"PostgreSQL refuses a row of {table.name}: {error.orig}") from error
            self._tell(Progress(table.name, copied, total))


def _alone_on(url: str) -> Database:
    """The embedded database, locked from the first use on: whoever else has it open makes that fail."""
    database = Database(url)
    if not Path(database.sqlite_path).is_file():
        raise MoveRefused(f"There is no database {database.sqlite_path} here. Run this where the gateway ran.")

    # Before the connection's other settings, because write-ahead logging asks for the lock when it is first used.
    @event.listens_for(database.engine.sync_engine, "connect", insert=True)
    def on_connect(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA locking_mode=EXCLUSIVE")
        cursor.close()

    return database


async def _prepare_source(source: Database) -> None:
    try:
        state = await revision_state(source)
    except StorageUnavailable as error:
        raise MoveRefused(
            f"Another process uses {source.sqlite_path}. Stop the gateway, its workers and every other command on it, "
            "so that nothing is charged while it is copied; then move again."
        ) from error
    if not isinstance(state, Current):
        raise MoveRefused("The embedded database has another release's schema. Run 'gatewayz migrate' on it first.")


async def _prepare_target(target: Database) -> None:
    """Migrated, and either empty or left by an interrupted move."""
    try:
        await revision_state(target)
    except StorageUnavailable as error:
        cause = getattr(error.__cause__, "orig", error.__cause__)
        raise MoveRefused(f"The PostgreSQL database does not answer: {cause}") from error
    await upgrade(target)
    if not isinstance(await revision_state(target), Current):
        raise MoveRefused("The PostgreSQL database has a newer release's schema. Use the newer release.")
    async with target.transaction(within_s=None) as connection:
        if await connection.run_sync(lambda given: inspect(given).has_table(marks.name)):
            return
        for table in metadata.sorted_tables:
            if await connection.scalar(select(exists(select(literal(1)).select_from(table)))):
                raise MoveRefused(f"The PostgreSQL database is not empty: {table.name} has rows. {START_AGAIN}")
        await connection.run_sync(marks.create)
        await connection.execute(
            marks.insert(), [{"name": name, "copied": 0, "done": False} for name in metadata.tables]
        )


async def _oldest(reading: AsyncConnection) -> datetime | None:
    """When the first row was made of those that lie in months."""
    found = [await reading.scalar(select(func.min(column, type_=Instant()))) for column in MONTHLY]
    return min((instant for instant in found if instant is not None), default=None)


async def _batch_after(
    reading: AsyncConnection, table: Table, last: Sequence[Any] | None, limit: int
) -> Sequence[RowMapping]:
    columns = table.primary_key.columns.values()
    query = select(table).order_by(*columns).limit(limit)
    if last is not None:
        pairs = zip(last, columns, strict=True)
        query = query.where(tuple_(*columns) > tuple_(*(literal(value, column.type) for value, column in pairs)))
    return (await reading.execute(query)).mappings().all()


def _primary_key(table: Table, row: RowMapping) -> Sequence[Any]:
    return [row[column.name] for column in table.primary_key.columns]


def _written(last: Sequence[Any] | None) -> str | None:
    return None if last is None else msgspec.json.encode([_plain(value) for value in last]).decode()


def _read_last(table: Table, written: str | None) -> Sequence[Any] | None:
    if written is None:
        return None
    pairs = zip(msgspec.json.decode(written), table.primary_key.columns, strict=True)
    return [from_micros(value) if isinstance(column.type, Instant) else value for value, column in pairs]


def _plain(value: Any) -> Any:
    return to_micros(value) if isinstance(value, datetime) else value


async def _proven(reading: AsyncConnection, target: Database) -> Mapping[str, int]:
    """The rows of each table, where both databases have the same and the ledger adds up."""
    problems, counts = [], {}
    async with target.reading(within_s=None) as copy:
        for table in metadata.sorted_tables:
            (has, digest), (copied, copied_digest) = await _content(reading, table), await _content(copy, table)
            counts[table.name] = has
            if has != copied:
                problems.append(f"{table.name} has {has} rows here and {copied} in PostgreSQL.")
            elif digest != copied_digest:
                problems.append(f"{table.name} has other rows here than in PostgreSQL.")
        ours, theirs = await _balances(reading), await _balances(copy)
    unequal = sorted(account for account in ours.keys() | theirs.keys() if ours.get(account) != theirs.get(account))
    problems += [f"The account {account} has another balance in PostgreSQL." for account in unequal]
    problems += [
        f"The ledger in PostgreSQL does not add up: {each.what} of {each.account_id} is {each.stored_nanos}, "
        f"its transfers say {each.recomputed_nanos}."
        for each in await differences(target)
    ]
    if problems:
        shown = "\n".join(problems[:PROBLEMS_MAX])
        raise MoveRefused(
            f"The copy is not what was copied. Go on using the embedded database.\n{shown}\n{START_AGAIN}"
        )
    return counts


async def _content(connection: AsyncConnection, table: Table) -> tuple[int, int]:
    """How many rows, and a digest of them that no order changes: the databases sort texts differently."""
    rows, digest = 0, 0
    result = await connection.stream(select(table).execution_options(yield_per=READ_AT_ONCE))
    async for row in result:
        written = repr([_plain(value) for value in row]).encode("utf-8", "surrogatepass")
        digest += int.from_bytes(hashlib.sha256(written).digest(), "big")
        rows += 1
    return rows, digest % (1 << DIGEST_BITS)


async def _balances(connection: AsyncConnection) -> Mapping[str, Sequence[int]]:
    column = credit_accounts.c
    query = select(column.account_id, column.funded, column.free, column.held, column.charged, column.removed)
    return {account: amounts for account, *amounts in await connection.execute(query)}
