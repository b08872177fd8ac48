"""What becomes of operations while PostgreSQL fails, and that afterwards the books add up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest
from sqlalchemy import make_url, text

from adapters.sql.database import ANSWERS_WITHIN_S, Database
from adapters.sql.ledger.group_commit import SqlLedger
from domain.credits import HoldEnded
from domain.errors import StorageUnavailable
from domain.ids import AccountId
from domain.ledger import SettleHold
from domain.money import Usd
from tests import services
from tests.contracts.ledgers import (  # noqa: F401 - the fixtures are asked for by their names
    ANN,
    assert_balanced,
    empty_tables,
    grant,
    hold,
    migrated_schema,
    opened,
    outcomes,
    release,
    settle,
)
from tests.faults.toxic_proxy import ToxicProxy

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

CALLERS = 20
REQUESTS = 30
KILLS = 6


class NamedDatabase(Database):
    """One whose connections can be told from all others on the server."""

    name = f"outage-{uuid4().hex[:12]}"

    def server_settings(self) -> dict[str, str]:
        return super().server_settings() | {"application_name": self.name}


@pytest.fixture(name="database")
async def named_database(ledger_on_postgres: services.PostgresPlace) -> AsyncIterator[NamedDatabase]:
    database = NamedDatabase(ledger_on_postgres.server_url, schema=ledger_on_postgres.schema)
    await empty_tables(database)
    # Idle connections of the pool must not be what is killed.
    await database.close()
    yield database
    await database.close()


@pytest.fixture(name="others")
async def other_connections(ledger_on_postgres: services.PostgresPlace) -> AsyncIterator[Database]:
    database = Database(ledger_on_postgres.server_url, schema=ledger_on_postgres.schema)
    yield database
    await database.close()


async def kill(others: Database, at_most: int = 100) -> int:
    """Terminate the ledgers' connections, whatever they are doing; of more than `at_most`, any."""
    theirs = "SELECT pid FROM pg_stat_activity WHERE application_name = :name ORDER BY random() LIMIT :at_most"
    query = f"SELECT count(pg_terminate_backend(pid)) FROM ({theirs}) AS theirs"
    async with others.transaction() as connection:
        return int(await connection.scalar(text(query), {"name": NamedDatabase.name, "at_most": at_most}) or 0)


async def test_a_connection_killed_between_two_batches_is_not_noticed(
    database: NamedDatabase, others: Database
) -> None:
    async with opened(database) as ledger:
        await ledger.submit(grant("a", 1_000))
        assert await kill(others) == 1
        await ledger.submit(hold("h", 10))
        await assert_balanced(ledger)


async def test_a_server_that_says_nothing_is_an_outage_for_all_who_wait(
    ledger_on_postgres: services.PostgresPlace,
) -> None:
    """Also for who came while another batch waited already."""
    url = make_url(ledger_on_postgres.server_url)
    async with ToxicProxy(url.host or "127.0.0.1", url.port or 5432) as proxy:
        through = url.set(host=proxy.host, port=proxy.port).render_as_string(hide_password=False)
        database = Database(through, schema=ledger_on_postgres.schema)
        await empty_tables(database)
        async with opened(database) as ledger:
            await ledger.submit(grant("a", 1_000))
            await proxy.black_hole()
            loop = asyncio.get_running_loop()
            began = loop.time()
            first = ledger.submit(hold("h1", 10))
            await asyncio.sleep(ANSWERS_WITHIN_S - 0.2)
            second = ledger.submit(hold("h2", 10))
            assert await outcomes(first, second) == {"StorageUnavailable": 2}
            assert loop.time() - began < ANSWERS_WITHIN_S + 0.5
            await proxy.heal()
            await ledger.submit(hold("h3", 10))
            await assert_balanced(ledger)
        await database.close()


async def test_nothing_is_lost_or_doubled_while_connections_are_killed(
    database: NamedDatabase, others: Database
) -> None:
    """Callers settle until they are told that it is done, as the settlement's own retries do."""
    outages = 0

    async def settled(operation: SettleHold) -> None:
        nonlocal outages
        while True:
            try:
                await ledger.submit(operation)
                return
            except HoldEnded:
                return
            except StorageUnavailable:
                outages += 1
                await asyncio.sleep(0.01)

    async def caller(number: int) -> int:
        served = 0
        for request in range(REQUESTS):
            try:
                await ledger.submit(hold(f"h{number}-{request}", 100))
            except StorageUnavailable:
                continue
            await settled(settle(f"h{number}-{request}", 7))
            served += 1
        return served

    async def killer() -> int:
        killed = 0
        while killed < KILLS:
            await asyncio.sleep(0.02)
            killed += await kill(others)
        return killed

    async with opened(database) as ledger:
        await ledger.submit(grant("a", 10**9))
        (killed, *served) = await asyncio.gather(killer(), *map(caller, range(CALLERS)))
        assert killed == KILLS
        account = await ledger.account(ANN)
        assert account.charged == Usd(7 * sum(served))
        await assert_balanced(ledger)


async def test_an_account_locked_by_someone_else_is_an_outage_until_it_is_free(
    database: NamedDatabase, others: Database
) -> None:
    async with opened(database) as ledger:
        await ledger.submit(grant("a", 1_000))
        async with others.transaction() as connection:
            await connection.execute(text("SELECT 1 FROM credit_accounts FOR UPDATE"))
            with pytest.raises(StorageUnavailable):
                await ledger.submit(hold("h", 10))
        await ledger.submit(hold("h", 10))
        await assert_balanced(ledger)


async def test_who_waited_for_an_account_sees_what_happened_to_its_holds_meanwhile(
    database: NamedDatabase, others: Database
) -> None:
    async with opened(database) as serving, opened(others) as sweeping:
        await serving.submit(grant("a", 1_000))
        await serving.submit(hold("h", 600))
        await sweeping.submit(hold("warm", 1))
        async with others.transaction() as connection:
            await connection.execute(text("SELECT 1 FROM credit_accounts FOR UPDATE"))
            # Both begin to read while the hold is open, and only then can one of them end it.
            answers = [serving.submit(settle("h", 50)), sweeping.submit(release("h"))]
            await asyncio.sleep(0.2)
        ended = await outcomes(*answers)
        assert ended["HoldEnded"] == 1
        assert ended["HoldSettled"] + ended["Booked"] == 1
        await assert_balanced(serving)


@pytest.mark.parametrize("accounts", [300, pytest.param(4_000, marks=pytest.mark.fault_campaign)])
async def test_credit_that_was_granted_can_be_held_by_any_process_while_connections_are_killed(
    ledger_on_postgres: services.PostgresPlace, others: Database, accounts: int
) -> None:
    """Each account's first operations race for the making of its row; whoever heard of the grant, has it."""
    databases = [NamedDatabase(ledger_on_postgres.server_url, schema=ledger_on_postgres.schema) for _ in range(4)]
    numbers, dice, over = iter(range(accounts)), random.Random(3), False
    outages = 0

    async def caller(ledgers: Sequence[SqlLedger]) -> None:
        nonlocal outages
        for number in numbers:
            account = AccountId(f"racing-{accounts}-{number}")
            first, second, *rest = dice.sample(ledgers, len(ledgers))
            racing = [ledger.submit(hold(f"too-early-{account}", 1, account)) for ledger in rest[: number % 3]]
            try:
                await asyncio.gather(
                    first.submit(grant(f"one-{account}", 150, account)),
                    second.submit(grant(f"two-{account}", 150, account)),
                )
                for place, ledger in enumerate((*rest, first)):
                    # Raises InsufficientCredits where a grant is not seen.
                    await ledger.submit(hold(f"held-{place}-{account}", 99, account))
            except StorageUnavailable:
                outages += 1
            await asyncio.gather(*racing, return_exceptions=True)

    async def killer() -> None:
        while not over:
            await asyncio.sleep(0.05)
            await kill(others, at_most=1)

    async with AsyncExitStack() as stack:
        ledgers = [await stack.enter_async_context(opened(database)) for database in databases]
        killing = asyncio.create_task(killer())
        try:
            await asyncio.gather(*(caller(ledgers) for _ in range(CALLERS)))
        finally:
            over = True
            await killing
        assert outages < accounts / 2
        assert await ledgers[0].verify() == []
    for database in databases:
        await database.close()
