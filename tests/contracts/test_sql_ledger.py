"""What the ledger promises beyond its port where it is built on a database: races of processes, outages, proofs."""

from __future__ import annotations

import asyncio
from asyncio import Future
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from adapters.sql.database import Database
from adapters.sql.ledger import group_commit
from adapters.sql.ledger.group_commit import SqlLedger, StorageRefusedError
from domain.errors import StorageUnavailable
from domain.ids import AccountId
from domain.ledger import SettleHold
from domain.money import Usd
from domain.usage import Usage
from tests.contracts.ledgers import (  # noqa: F401 - the fixtures are asked for by their names
    ANN,
    BOB,
    HOUR,
    NOON,
    OpenLedger,
    assert_balanced,
    every_database,
    grant,
    hold,
    ledgers_on_one_database,
    migrated_file,
    migrated_schema,
    opened,
    outcomes,
    release,
    settle,
)

pytestmark = pytest.mark.anyio

RACERS = 1_000


async def test_two_processes_share_a_balance_and_never_overdraw_it(open_ledger: OpenLedger) -> None:
    one, other = await open_ledger(), await open_ledger()
    await one.submit(grant("a", 100 * 7 + 6))
    answers = await outcomes(
        *(one.submit(hold(f"h{n}", 7)) for n in range(RACERS)),
        *(other.submit(hold(f"i{n}", 7)) for n in range(RACERS)),
    )
    assert answers == {"HoldOpened": 100, "InsufficientCredits": 2 * RACERS - 100}
    await assert_balanced(other)


async def test_two_processes_that_create_the_same_accounts_both_find_them(open_ledger: OpenLedger) -> None:
    ledgers = [await open_ledger(), await open_ledger()]
    accounts = [AccountId(f"account-{n}") for n in range(50)]
    answers = await outcomes(
        *(
            ledger.submit(grant(f"{account}:{ledger_number}", 10, account))
            for ledger_number, ledger in enumerate(ledgers)
            for account in (accounts if ledger_number else reversed(accounts))
        )
    )
    assert answers == {"Booked": 100}
    for account in accounts:
        assert (await ledgers[0].account(account)).funded == Usd(20)
    assert await ledgers[0].verify() == []


async def test_two_processes_give_one_lot_for_one_payment_even_to_two_accounts(open_ledger: OpenLedger) -> None:
    one, other = await open_ledger(), await open_ledger()
    answers = await outcomes(
        *(one.submit(grant(f"topup:{n}", 10, ANN)) for n in range(50)),
        *(other.submit(grant(f"topup:{n}", 10, BOB)) for n in range(50)),
    )
    assert answers == {"Booked": 50, "AlreadyBooked": 50}
    assert (await one.account(ANN)).funded.nanos + (await one.account(BOB)).funded.nanos == 500
    assert await one.verify() == []


async def test_a_settlement_and_the_sweeper_of_another_process_end_each_hold_once(open_ledger: OpenLedger) -> None:
    serving, sweeping = await open_ledger(), await open_ledger()
    await serving.submit(grant("a", 100_000))
    await asyncio.gather(*(serving.submit(hold(f"h{n}", 70)) for n in range(100)))
    answers = await outcomes(
        *(serving.submit(settle(f"h{n}", 30)) for n in range(100)),
        *(sweeping.submit(release(f"h{n}")) for n in reversed(range(100))),
    )
    assert answers["HoldSettled"] + answers["Booked"] == answers["HoldEnded"] == 100
    assert (await serving.account(ANN)).charged.nanos == 30 * answers["HoldSettled"]
    await assert_balanced(serving)


async def test_everything_is_found_again_after_a_restart(open_ledger: OpenLedger) -> None:
    before = await open_ledger()
    await before.submit(grant("a", 1_000))
    opened_hold = (await before.submit(hold("h", 600))).hold
    await before.close()
    after = await open_ledger()
    assert await after.overdue_holds(NOON + 2 * HOUR, 10) == [opened_hold]
    assert (await after.submit(settle("h", 50))).charged == Usd(50)
    await assert_balanced(after)


async def test_an_operation_that_cannot_be_stored_fails_alone(open_ledger: OpenLedger) -> None:
    ledger = await open_ledger()
    await ledger.submit(grant("a", 1_000))
    await asyncio.gather(*(ledger.submit(hold(f"h{n}", 10)) for n in range(5)))
    settlements: list[SettleHold] = [settle(f"h{n}", 5) for n in range(5)]
    # More tokens than a column holds.
    settlements[2] = replace(
        settlements[2],
        record=replace(settlements[2].record, usage=Usage(input=2**63 - 1, output=2**63 - 1, cache_read=9)),
    )
    answers = await asyncio.gather(*map(ledger.submit, settlements), return_exceptions=True)
    assert isinstance(answers.pop(2), StorageRefusedError)
    assert [answer.charged for answer in answers if not isinstance(answer, BaseException)] == [Usd(5)] * 4
    account = await ledger.account(ANN)
    assert (account.charged, account.held) == (Usd(20), Usd(10))
    await assert_balanced(ledger)


async def test_closing_finishes_what_was_submitted_and_refuses_what_comes_later(database: Database) -> None:
    ledger = SqlLedger(database)
    with pytest.raises(StorageUnavailable):
        await ledger.submit(grant("a", 1_000))
    await ledger.open()
    answers: list[Future[object]] = [ledger.submit(grant("a", 1_000)), ledger.submit(hold("h", 10))]
    await ledger.close()
    assert all(answer.done() and answer.exception() is None for answer in answers)
    with pytest.raises(StorageUnavailable):
        await ledger.submit(hold("i", 10))


async def test_the_queue_is_bounded(open_ledger: OpenLedger) -> None:
    ledger = await open_ledger()
    await ledger.submit(grant("a", 1_000_000))
    answers = await outcomes(*(ledger.submit(hold(f"h{n}", 1)) for n in range(group_commit.QUEUE_MAX + 5)))
    assert answers == {"HoldOpened": group_commit.QUEUE_MAX, "StorageUnavailable": 5}
    await assert_balanced(ledger)


async def test_a_stopped_event_loop_leaves_nobody_waiting(open_ledger: OpenLedger) -> None:
    ledger = await open_ledger()
    answers: list[Future[object]] = [ledger.submit(grant(f"g{n}", 1)) for n in range(group_commit.BATCH_MAX + 1)]
    await asyncio.sleep(0)
    (worker,) = (task for task in asyncio.all_tasks() if task.get_name() == "ledger")
    worker.cancel()
    assert await outcomes(*answers) == {"StorageUnavailable": group_commit.BATCH_MAX + 1}


TAMPERINGS = {
    "a balance": "UPDATE credit_accounts SET free = free - 1, charged = charged + 1",
    "credit out of nothing": "UPDATE credit_accounts SET free = free + 1, funded = funded + 1",
    "a lot": """UPDATE credit_accounts SET lots = replace(lots, '[["a",', '[["b",')""",
    "what is held of a lot": "UPDATE credit_accounts SET lots = replace(lots, ',370,600,', ',360,610,')",
    "a negative lot": "UPDATE credit_accounts SET lots = replace(lots, ',370,600,', ',-30,1000,')",
    "the amount of a hold": "UPDATE holds SET amount = amount + 1 WHERE id = 'open'",
    "a hold ended by hand": "UPDATE holds SET state = 'voided', ended_at = opened_at WHERE id = 'open'",
    "a hold reopened": "UPDATE holds SET state = 'open', ended_at = NULL WHERE id = 'settled'",
    "a hold removed": "DELETE FROM holds WHERE id = 'open'",
    "a meter": "INSERT INTO key_meters VALUES ('key-1', 'ann', 1, 0, 7, NULL)",
    "a transfer added": """
        INSERT INTO transfers (account_id, id, at, kind, debit, credit, amount, reference, reason, draws)
        SELECT account_id, 'forged', at, kind, debit, credit, amount, reference, reason, draws
        FROM transfers WHERE kind = 'charge'
    """,
    "an account without transfers": """
        INSERT INTO credit_accounts (account_id, funded, free, held, charged, removed, lots)
        VALUES ('eve', 5, 5, 0, 0, 0, '[]')
    """,
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
async def test_a_changed_row_is_found_by_recomputing(
    database: Database, open_ledger: OpenLedger, tampering: str
) -> None:
    ledger = await open_ledger()
    await ledger.submit(grant("a", 1_000))
    await ledger.submit(hold("settled", 100))
    await ledger.submit(settle("settled", 30))
    await ledger.submit(hold("open", 600))
    await assert_balanced(ledger)
    async with database.transaction() as connection:
        changed = await connection.execute(text(TAMPERINGS[tampering]))
        assert changed.rowcount == 1
    assert await ledger.verify() != []


async def test_a_difference_says_whose_what_and_by_how_much(database: Database, open_ledger: OpenLedger) -> None:
    ledger = await open_ledger()
    await ledger.submit(grant("a", 1_000))
    async with database.transaction() as connection:
        await connection.execute(text("UPDATE credit_accounts SET free = free - 1, charged = charged + 1"))
    found = {(d.account_id, d.what, d.stored_nanos, d.recomputed_nanos) for d in await ledger.verify()}
    assert found == {(ANN, "charged", 1, 0), (ANN, "free", 999, 1_000)}


@pytest.mark.parametrize(
    "change", ["UPDATE transfers SET amount = 1", "DELETE FROM transfers WHERE amount > 0", "DELETE FROM transfers"]
)
async def test_transfers_cannot_be_changed_or_removed(database: Database, open_ledger: OpenLedger, change: str) -> None:
    ledger = await open_ledger()
    await ledger.submit(grant("a", 1_000))
    with pytest.raises((DBAPIError, StorageUnavailable)) as refused:
        async with database.transaction() as connection:
            await connection.execute(text(change))
    assert "append-only" in f"{refused.value} {refused.value.__cause__}"
    await assert_balanced(ledger)


async def test_a_batch_that_fails_leaves_nothing_behind(database: Database, open_ledger: OpenLedger) -> None:
    ledger = await open_ledger()
    await ledger.submit(grant("a", 1_000))
    async with database.transaction() as connection:
        await connection.execute(text("ALTER TABLE generations RENAME TO elsewhere"))
    answers = await asyncio.gather(ledger.submit(hold("h", 10)), ledger.submit(settle("h", 5)), return_exceptions=True)
    assert {type(answer) for answer in answers} <= {StorageUnavailable, StorageRefusedError}
    async with database.transaction() as connection:
        await connection.execute(text("ALTER TABLE elsewhere RENAME TO generations"))
    assert (await ledger.account(ANN)).free == Usd(1_000)
    await ledger.submit(hold("h", 10))
    await assert_balanced(ledger)


async def test_a_database_that_cannot_be_reached_is_unavailable(tmp_path: Path) -> None:
    nowhere = [f"sqlite+aiosqlite:///{tmp_path}", "postgresql+asyncpg://nobody@127.0.0.1:1/nothing"]
    for url in nowhere:
        database = Database(url)
        async with opened(database) as ledger:
            with pytest.raises(StorageUnavailable):
                await ledger.submit(hold("h", 10))
        await database.close()
