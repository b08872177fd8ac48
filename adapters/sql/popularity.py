"""Usage by the hour, counted from the records of requests.

Each count looks at a few hours alone, account by account, because the records are indexed so.  The last hours are
counted anew each time, because a record is written when its request ends, which may be an hour after it began.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import BigInteger, Column, Table, Text, delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sql.database import Database
from adapters.sql.schema import Instant, metadata, to_micros
from domain.ports.popularity import Counted, Popularity

HOUR: Final = timedelta(hours=1)
COUNTED_ANEW: Final = 3 * HOUR
STEP: Final = 12 * HOUR
"""Counted in one transaction."""
KEPT: Final = timedelta(days=32)
GROUPS_MAX: Final = 5_000
"""Of one hour and kind: callers name their apps themselves, and could make up a new one for each request."""
RANKED_MAX: Final = 10_000

usage_hours = Table(
    "usage_hours",
    metadata,
    Column("hour", Instant, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("vendor", Text, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("first_token_ms", BigInteger, nullable=False),
    Column("duration_ms", BigInteger, nullable=False),
    Column("timed", BigInteger, nullable=False),
)

_POSTGRESQL_HOUR = "date_trunc('hour', g.started_at, 'UTC')"
_SQLITE_HOUR = "g.started_at / 3600000000 * 3600000000"
_POSTGRESQL_FIELD = "(g.record::json ->> '{name}')"
_SQLITE_FIELD = "json_extract(g.record, '$.{name}')"

_COUNT = """
INSERT INTO usage_hours (hour, kind, name, vendor, requests, failed, input_tokens, output_tokens,
                         first_token_ms, duration_ms, timed)
SELECT hour, kind, name, vendor, requests, failed, input_tokens, output_tokens, first_token_ms, duration_ms, timed
FROM (
    SELECT hour, '{kind}' AS kind, name, vendor, count(*) AS requests,
           sum(CASE WHEN outcome IN ('failed', 'broken_off') THEN 1 ELSE 0 END) AS failed,
           sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
           sum(CASE WHEN first_token_ms IS NULL THEN 0 ELSE first_token_ms END) AS first_token_ms,
           sum(CASE WHEN first_token_ms IS NULL THEN 0 ELSE duration_ms END) AS duration_ms,
           sum(CASE WHEN first_token_ms IS NULL THEN 0 ELSE 1 END) AS timed,
           row_number() OVER (PARTITION BY hour ORDER BY sum(input_tokens + output_tokens) DESC, name) AS place
    FROM (
        SELECT {hour} AS hour, {name} AS name, {vendor} AS vendor, g.outcome, g.input_tokens, g.output_tokens,
               CAST({first_token} AS BIGINT) AS first_token_ms,
               coalesce(CAST({duration} AS BIGINT), 0) AS duration_ms
        FROM accounts AS a {join} JOIN generations AS g ON g.account_id = a.id
        WHERE g.started_at >= :since AND g.started_at < :until
    ) AS requests
    WHERE name IS NOT NULL AND name <> ''
    GROUP BY hour, name, vendor
) AS counted
WHERE place <= {most}
"""


class SqlPopularity:
    """The port `PopularityCounts`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._statements = [text(_statement(kind, is_sqlite=database.is_sqlite)) for kind in Counted]

    async def count(self, at: datetime) -> int:
        hour = usage_hours.c.hour
        async with self._database.reading() as connection:
            last = (await connection.execute(select(hour).order_by(hour.desc()).limit(1))).scalar()
        oldest = _whole_hour(at - KEPT)
        since = oldest if last is None else max(oldest, last - COUNTED_ANEW)
        written = 0
        while since <= at:
            until = min(since + STEP, _whole_hour(at) + HOUR)
            async with self._database.transaction(within_s=None) as connection:
                await connection.execute(delete(usage_hours).where(hour >= since, hour < until))
                written += await self._count(connection, since, until)
            since = until
        async with self._database.transaction() as connection:
            await connection.execute(delete(usage_hours).where(hour < oldest))
        return written

    async def between(self, kind: Counted, since: datetime, until: datetime) -> Sequence[Popularity]:
        column = usage_hours.c
        sums = [func.sum(column[name]).label(name) for name in _SUMMED]
        most = func.sum(column.input_tokens + column.output_tokens).desc()
        query = (
            select(column.name, column.vendor, *sums)
            .where(column.kind == kind.value, column.hour >= since, column.hour < until)
            .group_by(column.name, column.vendor)
            .order_by(most, column.name, column.vendor)
            .limit(RANKED_MAX)
        )
        async with self._database.reading() as connection:
            return [
                Popularity(name=row["name"], vendor=row["vendor"], **{summed: int(row[summed]) for summed in _SUMMED})
                for row in (await connection.execute(query)).mappings()
            ]

    async def _count(self, connection: AsyncConnection, since: datetime, until: datetime) -> int:
        sqlite = self._database.is_sqlite
        span = {"since": to_micros(since) if sqlite else since, "until": to_micros(until) if sqlite else until}
        return sum([(await connection.execute(statement, span)).rowcount for statement in self._statements])


_SUMMED: Final = ("requests", "failed", "input_tokens", "output_tokens", "first_token_ms", "duration_ms", "timed")


def _statement(kind: Counted, *, is_sqlite: bool) -> str:
    field = _SQLITE_FIELD if is_sqlite else _POSTGRESQL_FIELD
    return _COUNT.format(
        kind=kind.value,
        hour=_SQLITE_HOUR if is_sqlite else _POSTGRESQL_HOUR,
        name="g.model" if kind is Counted.MODEL else field.format(name="app"),
        vendor="g.vendor" if kind is Counted.MODEL else "''",
        first_token=field.format(name="first_token_ms"),
        duration=field.format(name="duration_ms"),
        # SQLite takes tables in the written order then, and finds each account's records by their index.
        join="CROSS" if is_sqlite else "INNER",
        most=GROUPS_MAX,
    )


def _whole_hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)
