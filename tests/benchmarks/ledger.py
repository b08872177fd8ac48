"""Pairs of hold and settlement on one hot account: group commit beside one transaction for each operation.

CPU is this process's own, storage's threads included, the database server's not.  Each figure is the best of several
short windows, because other work only ever adds; compare ratios within a run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from msgspec import Struct

from adapters.sql import migrate
from adapters.sql.database import Database
from adapters.sql.ledger.batch import Store
from adapters.sql.ledger.postgresql import PostgresStore
from adapters.sql.ledger.sqlite import SqliteStore
from adapters.system.ids import TimeOrderedIds
from domain.ledger import Operation
from tests import services
from tests.benchmarks.rows import Row, Wanted
from tests.contracts.ledgers import grant, hold, opened, settle

BARS = {1: None, 32: 5.0, 256: 15.0}
"""Callers at once, and how many times as fast as one by one the ledger must be."""
NAMES = tuple(f"ledger-{callers}" for callers in BARS)
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


async def compare(database: Database, wanted: Wanted, seconds: float) -> AsyncIterator[Row]:
    await migrate.upgrade(database)
    async with opened(database) as ledger:
        await ledger.submit(grant("a", 10**18))
        await measured(ledger.submit, 32, seconds / 3)
    for (callers, bar), name in zip(BARS.items(), NAMES, strict=True):
        if name not in wanted:
            continue
        async with opened(database) as ledger:
            grouped = await best(ledger.submit, callers, seconds)
        naive_ledger = OneByOne(database)
        await naive_ledger.open()
        naive = await best(naive_ledger.submit, callers, seconds)
        await naive_ledger.close()
        times = grouped.pairs_per_s / naive.pairs_per_s
        seen = (
            f"{grouped.pairs_per_s:,.0f}/s / {naive.pairs_per_s:,.0f}/s = {times:.1f} x, "
            f"{grouped.cpu_us_per_pair:.0f} / {naive.cpu_us_per_pair:.0f} us CPU"
        )
        what = f"ledger, hold + settle, {callers} callers / one by one"
        yield Row(name, what, seen, f">= {bar:g} x" if bar else "", times >= bar if bar else None)


@asynccontextmanager
async def closing(database: Database) -> AsyncIterator[Database]:
    try:
        yield database
    finally:
        await database.close()


async def rows(wanted: Wanted, seconds: float = SECONDS) -> AsyncIterator[Row]:
    """On PostgreSQL."""
    with services.postgres() as url, services.postgres_schema(url, f"bench_{uuid4().hex[:12]}") as place:
        async with closing(Database(place.server_url, schema=place.schema)) as database:
            async for row in compare(database, wanted, seconds):
                yield row
