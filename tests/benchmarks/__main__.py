"""`make bench`: the tables, and a failure where a bar is missed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy import make_url

from tests.benchmarks.gateway import Row, measure

POSTGRES = os.environ.get("TEST_DATABASE_URL", "postgresql+asyncpg://postgres@127.0.0.1:5432/postgres")
REDIS = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/15")


async def tables() -> list[Row]:
    print("One worker on SQLite, all accounting on, beside a bare ASGI + aiohttp passthrough of the same run")
    rows = shown(await measure())
    try:
        async with database() as url:
            print("The same on PostgreSQL and Redis")
            rows += shown(await measure(DATABASE_URL=url, REDIS_URL=REDIS))
    except OSError as error:
        print(f"PostgreSQL does not answer, so that its table is missing: {error}")
    return rows


def shown(rows: list[Row]) -> list[Row]:
    for row in rows:
        print(row)
    return rows


@asynccontextmanager
async def database() -> AsyncIterator[str]:
    """A database of this run alone."""
    url, name = make_url(POSTGRES), f"gatewayz_bench_{os.getpid()}"
    server = url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(server, timeout=5)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        yield url.set(database=name).render_as_string(hide_password=False)
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()


def main() -> int:
    rows = asyncio.run(tables())
    return int(any(row.kept is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
