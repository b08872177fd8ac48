"""Pairs of hold and settlement on one hot account: group commit beside one transaction for each operation.

Run it as `python -m tests.benchmarks.ledger [seconds]`.  CPU is this process's own, storage's threads included, the
database server's not.  Each figure is the best of several short windows, because other work only ever adds; compare
ratios within a run.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import uvloop
from msgspec import Struct

from adapters.sql import migrate
from adapters.sql.database import Database
from adapters.sql.ledger.batch import Store
from adapters.sql.ledger.postgresql import PostgresStore
from adapters.sql.ledger.sqlite import SqliteStore
from adapters.system.ids import TimeOrderedIds
from domain.ledger import Operation
from tests import services
from tests.contracts.ledgers import grant, hold, opened, settle

CALLERS = (1, 16, 32, 256)
SECONDS = 4.0
WINDOWS = 8
NAIVE_CONNECTIONS = 10

Submit = Callable[[Operation], Awaitable[Any]]


class Measured(Struct, frozen=True):
    pairs_per_s: float
    cpu_us_per_pair: float


class OneByOne:
    """What group commit is measured against: every operation its own transaction, on a pool of connections."""

    def __init__(self, database: Database) -> None:
        connections = 1 if database.is_sqlite else NAIVE_CONNECTIONS
        kind = SqliteStore if database.is_sqlite else PostgresStore
        self._stores = [kind(database) for _ in range(connections)]
        self._idle: asyncio.Queue[Store] = asyncio.Queue()

    async def open(self) -> None:
        for store in self._stores:
            await store.open()
            self._idle.put_nowait(store)

    async def submit(self, operation: Operation) -> Any:
        store = await self._idle.get()
        try:
            (outcome,) = await store.transact([operation])
        finally:
            self._idle.put_nowait(store)
        return outcome

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


async def best(submit: Submit, callers: int, seconds: float) -> Measured:
    windows = [await measured(submit, callers, seconds / WINDOWS) for _ in range(WINDOWS)]
    return Measured(max(window.pairs_per_s for window in windows), min(window.cpu_us_per_pair for window in windows))


async def measured(submit: Submit, callers: int, seconds: float) -> Measured:
    pairs = 0
    ids = TimeOrderedIds()
    stop_at = time.perf_counter() + seconds

    async def caller() -> None:
        """As the gateway does: a settlement runs beside the next request's hold."""
        nonlocal pairs
        settled: Awaitable[Any] = asyncio.sleep(0)
        while time.perf_counter() < stop_at:
            name = ids.fresh()
            await submit(hold(name, 50_000_000))
            await settled
            settled = asyncio.ensure_future(submit(settle(name, 12_345_678)))
            pairs += 1
        await settled

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
    return Measured(pairs / elapsed, cpu / pairs * 1e6)


async def baseline(seconds: float) -> float:
    """CPU per pair that the callers themselves cost: making the operations, waiting for a future."""

    async def nothing(_: Operation) -> None:
        await asyncio.sleep(0)

    return (await best(nothing, 32, seconds)).cpu_us_per_pair


async def compare(database: Database, seconds: float) -> None:
    await migrate.upgrade(database)
    async with opened(database) as ledger:
        await ledger.submit(grant("a", 10**18))
        await measured(ledger.submit, 32, seconds / 3)
    for callers in CALLERS:
        async with opened(database) as ledger:
            grouped = await best(ledger.submit, callers, seconds)
        naive_ledger = OneByOne(database)
        await naive_ledger.open()
        naive = await best(naive_ledger.submit, callers, seconds)
        await naive_ledger.close()
        print(
            f"{callers:8}  {grouped.pairs_per_s:10,.0f} {grouped.cpu_us_per_pair:8.1f}"
            f"  {naive.pairs_per_s:10,.0f} {naive.cpu_us_per_pair:8.1f}"
            f"  {grouped.pairs_per_s / naive.pairs_per_s:8.1f}x {naive.cpu_us_per_pair / grouped.cpu_us_per_pair:6.1f}x"
        )


@asynccontextmanager
async def closing(database: Database) -> AsyncIterator[Database]:
    try:
        yield database
    finally:
        await database.close()


async def run(seconds: float) -> None:
    print(f"callers alone: {await baseline(seconds / 3):.1f} us of CPU per pair, contained in all figures below")
    print(" callers   group/s    us CPU   one by one/s   us CPU     faster  less CPU")
    with tempfile.TemporaryDirectory() as directory:
        print("SQLite")
        async with closing(Database(f"sqlite+aiosqlite:///{directory}/ledger.db")) as database:
            await compare(database, seconds)
    with services.postgres() as url, services.postgres_schema(url, f"bench_{uuid4().hex[:12]}") as place:
        print("PostgreSQL")
        async with closing(Database(place.server_url, schema=place.schema)) as database:
            await compare(database, seconds)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    uvloop.run(run(seconds))


if __name__ == "__main__":
    main()
