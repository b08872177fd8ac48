"""Every adapter of the repositories' ports, and values to put into them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pytest

from adapters.memory.repositories import (
    MemoryAccounts,
    MemoryCatalogEntries,
    MemoryIdempotency,
    MemoryKeys,
    MemoryMarkups,
    MemoryPrices,
    MemoryRevisions,
)
from adapters.sql.accounts import SqlAccounts
from adapters.sql.catalog_entries import SqlCatalogEntries
from adapters.sql.database import Database
from adapters.sql.idempotency import SqlIdempotency
from adapters.sql.keys import SqlKeys
from adapters.sql.markups import SqlMarkups
from adapters.sql.prices import SqlPrices
from adapters.sql.revisions import SqlRevisions
from adapters.sql.tables import metadata
from domain.accounts import Account
from domain.errors import DomainError
from domain.ids import AccountId, KeyId, ModelId, PriceId, VendorSlug
from domain.keys import ApiKey, Environment, KeyPolicy
from domain.ports.repositories import Accounts, CatalogEntries, Idempotency, Keys, Markups, Revisions
from domain.pricing import Price, PriceSource, Rates
from tests import services

NOON = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
SECOND = timedelta(seconds=1)
RACERS = 100
LANES = 8
"""Racers that run at once: fewer than a pool has connections, because more would only wait for one."""

T = TypeVar("T")

on_postgres = pytest.param("postgres", marks=pytest.mark.postgres)


@dataclass(frozen=True)
class Repositories:
    accounts: Accounts
    keys: Keys
    prices: SqlPrices | MemoryPrices
    """With the versions that no operator set."""
    markups: Markups
    catalog_entries: CatalogEntries
    revisions: Revisions
    idempotency: Idempotency


@pytest.fixture(name="stored", params=["memory", "sqlite", on_postgres])
async def every_adapter(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Repositories]:
    if request.param == "memory":
        yield in_memory()
        return
    async with fresh_database(request, tmp_path) as database:
        yield in_sql(database)


@pytest.fixture(name="database", params=["sqlite", on_postgres])
async def every_database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    async with fresh_database(request, tmp_path) as database:
        yield database


def in_memory() -> Repositories:
    revisions = MemoryRevisions()
    accounts = MemoryAccounts(revisions)
    return Repositories(
        accounts=accounts,
        keys=MemoryKeys(accounts, revisions),
        prices=MemoryPrices(revisions),
        markups=MemoryMarkups(revisions),
        catalog_entries=MemoryCatalogEntries(revisions),
        revisions=revisions,
        idempotency=MemoryIdempotency(),
    )


def in_sql(database: Database) -> Repositories:
    return Repositories(
        accounts=SqlAccounts(database),
        keys=SqlKeys(database),
        prices=SqlPrices(database),
        markups=SqlMarkups(database),
        catalog_entries=SqlCatalogEntries(database),
        revisions=SqlRevisions(database),
        idempotency=SqlIdempotency(database),
    )


@asynccontextmanager
async def fresh_database(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[Database]:
    """A database with nothing in it but the tables."""
    if request.param == "sqlite":
        database = Database(f"sqlite+aiosqlite:///{directory}/test.db")
        prepare = create_tables
    else:
        place: services.PostgresPlace = request.getfixturevalue("tables_on_postgres")
        database = Database(place.server_url, schema=place.schema)
        prepare = empty_tables
    try:
        await prepare(database)
        yield database
    finally:
        await database.close()


@pytest.fixture(name="tables_on_postgres", scope="module")
def tables_once(postgres_url: str) -> Iterator[services.PostgresPlace]:
    """Made once for all tests, because that takes longer than any of them."""

    async def create() -> None:
        database = Database(postgres_url, schema=schema)
        await create_tables(database)
        await database.close()

    schema = f"repositories_{uuid4().hex}"
    with services.postgres_schema(postgres_url, schema) as place:
        services.finished(create())
        yield place


async def create_tables(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.run_sync(metadata.create_all)


async def empty_tables(database: Database) -> None:
    async with database.transaction() as connection:
        for table in reversed(metadata.sorted_tables):
            await connection.execute(table.delete())


def account(name: str, email: str | None = None) -> Account:
    return Account(id=AccountId(name), email=email or f"{name}@example.org", created_at=NOON)


def key(name: str, owner: str = "ann", *, called: str | None = None, policy: KeyPolicy | None = None) -> ApiKey:
    return ApiKey(
        id=KeyId(name),
        account_id=AccountId(owner),
        name=called or f"key {name}",
        environment=Environment.LIVE,
        prefix="gw_live_Ab3d",
        last4="wxyz",
        pepper_id="p1",
        digest=f"digest of {name}",
        policy=policy or KeyPolicy(),
        created_at=NOON,
    )


def price(
    name: str, *, valid_from: datetime = NOON, vendor: str = "acme", model: str = "acme/one", rate: int = 1
) -> Price:
    return Price(
        id=PriceId(name),
        vendor=VendorSlug(vendor),
        model=ModelId(model),
        rates=Rates(input=rate, output=rate),
        valid_from=valid_from,
        source=PriceSource.OPERATOR,
    )


async def raced(action: Callable[[int], Awaitable[T]], *, refused: type[DomainError] | None = None) -> list[T]:
    """What `action` gave for each number below RACERS, less those refused with this error."""
    lanes = asyncio.Semaphore(LANES)

    async def run(number: int) -> T | BaseException:
        async with lanes:
            try:
                return await action(number)
            except DomainError as error:
                return error

    given: list[T] = []
    for result in await asyncio.gather(*map(run, range(RACERS))):
        if not isinstance(result, BaseException):
            given.append(result)
        elif refused is None or type(result) is not refused:
            raise result
    return given
