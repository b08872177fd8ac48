"""Monthly partitions of `transfers` and `generations`: made ahead of time on PostgreSQL; SQLite has none.

What takes ownership of the tables is done by functions of the schema, so that whoever runs this need not own them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import structlog
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sql.database import Database
from domain.errors import StorageUnavailable
from domain.ports.clock import Clock

log = structlog.get_logger(__name__)

PARTITIONED = {"transfers": "at", "generations": "started_at"}
"""Each table with the column whose month decides."""
MONTHS_AHEAD = 2
ONE_AT_A_TIME = 7_238_195_461
"""The advisory lock under which one process changes partitions while the others wait."""
LOOKING_MS = 30_000
LOCKED_MS = 3_000
"""While a partition is attached nobody can use the default partition, which is read through."""
WAIT_MS = 500
"""Whoever comes later queues behind our wait for the default partition, so that it must be short."""


class MonthlyPartitions:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def __call__(self) -> None:
        """Make those of this month and the next ones.  Any number of processes may do this at once."""
        now = self._clock.now()
        await self.make(now, now)

    async def make(self, first: datetime, last: datetime) -> None:
        """Make those from one instant's month to another's and the next ones.

        A month of which the default partition has rows, or that cannot be made now, stays with the default partition.
        """
        if self._database.is_sqlite:
            return
        for start, end in _months(first, last, MONTHS_AHEAD):
            for table in PARTITIONED:
                await self._make(table, start, end)
        async with self._database.transaction(within_s=None) as connection:
            # For months that an older release made, or somebody by hand.
            await _alone(connection)
            await connection.execute(text("SELECT guard_transfers()"))

    async def drop_generations(self, older_than_months: int) -> list[str]:
        """Drop whole months of requests that began so long ago.  Transfers stay for ever: they are the truth.

        Raises StorageUnavailable where a month is in use for too long; those before it are gone.
        """
        if self._database.is_sqlite:
            return []
        first_kept = f"generations_{first_month_kept(self._clock.now(), older_than_months):%Y_%m}"
        dropped = []
        for name in await self._names("generations"):
            if re.fullmatch(r"generations_\d{4}_\d{2}", name) and name < first_kept:
                async with self._database.transaction(within_s=None) as connection:
                    await _alone(connection)
                    await connection.execute(text("SELECT drop_generations(:name)"), {"name": name})
                dropped.append(name)
                log.info("partition dropped", partition=name)
        return dropped

    async def _make(self, table: str, start: datetime, end: datetime) -> None:
        name = f"{table}_{start:%Y_%m}"
        try:
            async with self._database.transaction(within_s=None) as connection:
                made = await _made(connection, table, name, start, end)
        except (IntegrityError, StorageUnavailable) as error:
            # A row of that month came meanwhile, or somebody kept the default partition for too long.
            made, reason = False, repr(error.__cause__ or error)
        else:
            reason = "it has rows of that month"
        if not made:
            log.warning("month left to the default partition", partition=name, reason=reason)

    async def _names(self, table: str) -> list[str]:
        query = text(
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
            "WHERE inhparent = to_regclass(:parent) ORDER BY relname"
        )
        async with self._database.reading() as connection:
            return list((await connection.execute(query, {"parent": table})).scalars())


async def _made(connection: AsyncConnection, table: str, name: str, start: datetime, end: datetime) -> bool:
    """Whether the partition exists now."""
    exists = text("SELECT to_regclass(:name) IS NOT NULL")
    if await connection.scalar(exists, {"name": name}):
        return True
    await _alone(connection)
    if await connection.scalar(exists, {"name": name}):
        return True
    column = PARTITIONED[table]
    rows = text(f"SELECT EXISTS (SELECT FROM {table}_default WHERE {column} >= :start AND {column} < :end)")  # noqa: S608
    if await connection.scalar(rows, {"start": start, "end": end}):
        return False
    await connection.execute(text(f"SET LOCAL statement_timeout = {LOCKED_MS}"))
    await connection.execute(text("SELECT make_month(:table, :month)"), {"table": table, "month": start.date()})
    log.info("partition made", partition=name)
    return True


async def _alone(connection: AsyncConnection) -> None:
    await connection.execute(text(f"SET LOCAL statement_timeout = {LOOKING_MS}"))
    await connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": ONE_AT_A_TIME})
    await connection.execute(text(f"SET LOCAL lock_timeout = {WAIT_MS}"))


def first_month_kept(now: datetime, months: int) -> datetime:
    """When the oldest month starts that is kept: this one and so many before it are."""
    return _start(_number(now) - months)


def _months(first: datetime, last: datetime, further: int) -> Iterator[tuple[datetime, datetime]]:
    """Where each month starts and ends, from the first's to so many after the last's, in UTC."""
    number, stop = _number(first), _number(last) + further
    while number <= stop:
        yield _start(number), _start(number + 1)
        number += 1


def _number(instant: datetime) -> int:
    utc = instant.astimezone(UTC)
    return utc.year * 12 + utc.month - 1


def _start(number: int) -> datetime:
    return datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)
