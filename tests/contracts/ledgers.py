"""Every adapter of the ledger's port, and operations to ask of it."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from adapters.memory.ledger import MemoryLedger
from adapters.sql import migrate
from adapters.sql.database import Database
from adapters.sql.ledger.group_commit import SqlLedger
from domain.credits import NEVER, Lot, Source
from domain.errors import DomainError
from domain.ids import AccountId, HoldId, KeyId, LotId, ModelId, RequestId, TransferId, VendorSlug
from domain.ledger import (
    ExtendHold,
    GrantCredit,
    KeyCap,
    OpenHold,
    RefundLot,
    ReleaseHold,
    RenewHold,
    SettleHold,
    WithdrawCredit,
)
from domain.money import ZERO, Usd
from domain.ports.ledger import Ledger
from domain.usage import Attempt, Generation, Usage
from tests import services

NOON = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)
ANN, BOB = AccountId("ann"), AccountId("bob")
KEY = KeyId("key-1")
TABLES = "generations, transfers, booked_transfers, key_meters, holds, credit_accounts"

OpenLedger = Callable[[], Awaitable[SqlLedger]]

on_postgres = pytest.param("postgres", marks=pytest.mark.postgres)


@pytest.fixture(name="ledger", params=["memory", "sqlite", on_postgres])
async def every_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ledger]:
    if request.param == "memory":
        yield MemoryLedger()
        return
    async with empty_database(request, tmp_path) as database, opened(database) as ledger:
        yield ledger


@pytest.fixture(name="database", params=["sqlite", on_postgres])
async def every_database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    async with empty_database(request, tmp_path) as database:
        yield database


@pytest.fixture(name="open_ledger")
async def ledgers_on_one_database(database: Database) -> AsyncIterator[OpenLedger]:
    """Each call opens another ledger, as another process would."""
    async with AsyncExitStack() as stack:

        async def open_another() -> SqlLedger:
            return await stack.enter_async_context(opened(database))

        yield open_another


@asynccontextmanager
async def opened(database: Database) -> AsyncIterator[SqlLedger]:
    ledger = SqlLedger(database)
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.close()


@asynccontextmanager
async def empty_database(request: pytest.FixtureRequest, directory: Path) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        migrated: Path = request.getfixturevalue("ledger_on_sqlite")
        database = Database(f"sqlite+aiosqlite:///{shutil.copy(migrated, directory)}")
    else:
        place: services.PostgresPlace = request.getfixturevalue("ledger_on_postgres")
        database = Database(place.server_url, schema=place.schema)
        await empty_tables(database)
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture(name="ledger_on_sqlite", scope="module")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated once for all tests of a module, because that takes longer than any of them."""
    path = tmp_path_factory.mktemp("migrated") / "ledger.db"
    services.finished(upgrade(Database(f"sqlite+aiosqlite:///{path}")))
    return path


@pytest.fixture(name="ledger_on_postgres", scope="module")
def migrated_schema(postgres_url: str) -> Iterator[services.PostgresPlace]:
    name = f"ledger_{uuid4().hex[:12]}"
    with services.postgres_schema(postgres_url, name) as place:
        services.finished(upgrade(Database(postgres_url, schema=name)))
        yield place


async def upgrade(database: Database) -> None:
    await migrate.upgrade(database)
    await database.close()


async def empty_tables(database: Database) -> None:
    """Only the tables' owner can do this, and not without saying so."""
    async with database.transaction() as connection:
        guarded = (
            await connection.scalars(text("SELECT relid::regclass::text FROM pg_partition_tree('transfers')"))
        ).all()
        for table in guarded:
            await connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER transfers_not_truncated"))
        await connection.execute(text(f"TRUNCATE {TABLES}"))
        for table in guarded:
            await connection.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER transfers_not_truncated"))


def lot(
    lot_id: str,
    nanos: int,
    *,
    source: Source = Source.PURCHASE,
    expires_at: datetime = NEVER,
    refundable: bool = False,
    granted_at: datetime = NOON,
) -> Lot:
    return Lot(
        id=LotId(lot_id),
        source=source,
        granted=Usd(nanos),
        free=Usd(nanos),
        granted_at=granted_at,
        expires_at=expires_at,
        refundable=refundable,
    )


def grant(lot_id: str, nanos: int, account_id: AccountId = ANN, **rest: Any) -> GrantCredit:
    return GrantCredit(account_id=account_id, lot=lot(lot_id, nanos, **rest), reason="a test")


def record(hold_id: str, nanos: int = 0, account_id: AccountId = ANN, **rest: Any) -> Generation:
    return Generation(
        id=RequestId(hold_id),
        account_id=account_id,
        key_id=KEY,
        model=ModelId("acme/one"),
        dialect="openai_chat",
        streamed=True,
        started_at=NOON,
        vendor=VendorSlug("acme"),
        vendor_model="one-2026",
        usage=Usage(input=1_000, cache_read=200, output=345, reasoning=6),
        cost=Usd(nanos),
        attempts=(
            Attempt(vendor=VendorSlug("other"), fault="timeout"),
            Attempt(vendor=VendorSlug("acme"), status=200),
        ),
        **rest,
    )


def hold(
    hold_id: str,
    nanos: int,
    account_id: AccountId = ANN,
    *,
    least: int | None = None,
    at: datetime = NOON,
    cap: KeyCap | None = None,
) -> OpenHold:
    return OpenHold(
        account_id=account_id,
        hold_id=HoldId(hold_id),
        wanted=Usd(nanos),
        least=Usd(nanos if least is None else least),
        at=at,
        lease_until=at + HOUR,
        record=record(hold_id, account_id=account_id),
        cap=cap,
    )


def extend(
    hold_id: str, nanos: int, number: int = 1, account_id: AccountId = ANN, *, at: datetime = NOON
) -> ExtendHold:
    return ExtendHold(account_id=account_id, hold_id=HoldId(hold_id), amount=Usd(nanos), number=number, at=at)


def renew(hold_id: str, watermark: int, lease_until: datetime = NOON + 2 * HOUR) -> RenewHold:
    return RenewHold(
        account_id=ANN,
        hold_id=HoldId(hold_id),
        lease_until=lease_until,
        watermark=Usd(watermark),
        record=replace(record(hold_id), duration_ms=5_000),
    )


def settle(hold_id: str, nanos: int, account_id: AccountId = ANN, *, at: datetime = NOON, loss: int = 0) -> SettleHold:
    outcome = record(hold_id, nanos, account_id, loss=Usd(loss))
    return SettleHold(account_id=account_id, hold_id=HoldId(hold_id), record=outcome, at=at)


def release(hold_id: str, account_id: AccountId = ANN) -> ReleaseHold:
    return ReleaseHold(account_id=account_id, hold_id=HoldId(hold_id), at=NOON)


def withdraw(withdrawal_id: str, nanos: int, at: datetime = NOON) -> WithdrawCredit:
    return WithdrawCredit(
        account_id=ANN, withdrawal_id=TransferId(withdrawal_id), amount=Usd(nanos), at=at, reason="a test"
    )


def refund(refund_id: str, lot_id: str, nanos: int | None = None) -> RefundLot:
    amount = None if nanos is None else Usd(nanos)
    return RefundLot(account_id=ANN, refund_id=TransferId(refund_id), lot_id=LotId(lot_id), amount=amount, at=NOON)


async def outcomes(*answers: Awaitable[Any]) -> Counter[str]:
    """How often each kind of result, or of refusal, came back."""
    results = await asyncio.gather(*answers, return_exceptions=True)
    unexpected = [r for r in results if isinstance(r, BaseException) and not isinstance(r, DomainError)]
    assert not unexpected
    return Counter(type(result).__name__ for result in results)


async def assert_balanced(ledger: Ledger, account_id: AccountId = ANN) -> None:
    account = await ledger.account(account_id)
    assert account.funded == account.free + account.held + account.charged + account.removed
    assert all(lot.free >= ZERO and lot.held >= ZERO for lot in account.lots)
    assert account.charged + account.held <= account.funded
    assert await ledger.verify() == []
