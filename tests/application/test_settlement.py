"""A hold's end reaches the ledger once, whatever storage and the request that asked for it do meanwhile."""

from __future__ import annotations

import asyncio
import logging

import pytest

from application.inference.settlement import RETRY_S, Settler
from application.sweeping import SweepHolds
from domain.credits import Kind
from domain.errors import StorageUnavailable
from domain.ids import HoldId
from domain.ledger import ReleaseHold, RenewHold, SettleHold
from domain.money import Usd
from tests.contracts.ledgers import ANN, HOUR, grant, hold, release, renew, settle
from tests.fakes.chat import MoodyLedger
from tests.fakes.time import NOON, FakeClock

pytestmark = pytest.mark.anyio


@pytest.fixture
async def ledger() -> MoodyLedger:
    """With one open hold, "r1", of 600 nano-dollars."""
    ledger = MoodyLedger()
    await ledger.submit(grant("lot-1", 1_000))
    await ledger.submit(hold("r1", 600))
    return ledger


async def assert_charged(ledger: MoodyLedger, nanos: int) -> None:
    account = await ledger.account(ANN)
    assert account.charged == Usd(nanos)
    assert not account.held
    assert await ledger.verify() == []


async def test_a_settlement_charges_and_is_done(ledger: MoodyLedger) -> None:
    settler = Settler(ledger)

    settler.end(settle("r1", 250))

    assert await settler.drain(1)
    await assert_charged(ledger, 250)
    assert settler.waiting == 0


async def test_a_settlement_that_storage_refuses_is_tried_until_it_is_taken(ledger: MoodyLedger) -> None:
    settler = Settler(ledger)
    outage = 2

    def refuses(operation: object) -> bool:
        nonlocal outage
        if isinstance(operation, SettleHold) and outage:
            outage -= 1
            return True
        return False

    ledger.refuses = refuses

    settler.end(settle("r1", 250))
    await asyncio.sleep(0)

    assert settler.refused == settler.waiting == 1
    assert settler.outstanding() == [settle("r1", 250)]
    assert await settler.drain(4 * RETRY_S)
    assert settler.refused == settler.waiting == 0
    await assert_charged(ledger, 250)


async def test_draining_gives_up_when_time_is_over_and_keeps_what_is_left(ledger: MoodyLedger) -> None:
    settler = Settler(ledger)
    ledger.refuses = lambda operation: isinstance(operation, SettleHold)

    settler.end(settle("r1", 250))

    assert not await settler.drain(0.05)
    assert settler.outstanding() == [settle("r1", 250)]


async def test_draining_waits_for_what_is_under_way(ledger: MoodyLedger) -> None:
    settler = Settler(ledger)
    ledger.gate.clear()
    settler.end(settle("r1", 250))
    draining = asyncio.create_task(settler.drain(1))
    await asyncio.sleep(0.01)

    assert not draining.done()
    ledger.gate.set()
    assert await draining


async def test_a_settlement_that_arrived_although_its_answer_did_not_is_not_charged_twice(ledger: MoodyLedger) -> None:
    settler = Settler(ledger)

    settler.end(settle("r1", 250))
    settler.end(settle("r1", 250))
    settler.end(release("r1"))

    assert await settler.drain(1)
    await assert_charged(ledger, 250)
    charges = [each for each in await ledger.transfers(ANN, 100, None) if each.kind is Kind.CHARGE]
    assert len(charges) == 1


async def test_a_settlement_without_a_hold_is_dropped(ledger: MoodyLedger) -> None:
    settler = Settler(ledger)

    settler.end(settle("never-opened", 250))

    assert await settler.drain(1)
    assert not settler.outstanding()


async def test_a_cancelled_answer_counts_as_no_answer(ledger: MoodyLedger) -> None:
    """A ledger that is torn down cancels its futures; the hold must end all the same."""
    settler = Settler(ledger)
    answers: list[asyncio.Future[object]] = []
    submit = ledger.submit

    def cancelled_once(operation: SettleHold | ReleaseHold) -> asyncio.Future[object]:
        if answers:
            return submit(operation)
        answers.append(asyncio.get_running_loop().create_future())
        return answers[0]

    ledger.submit = cancelled_once  # type: ignore[method-assign, assignment]
    settler.end(settle("r1", 250))
    answers[0].cancel()

    assert await settler.drain(4 * RETRY_S)
    await assert_charged(ledger, 250)


async def test_many_settlements_survive_one_outage(ledger: MoodyLedger) -> None:
    for number in range(2, 12):
        await ledger.submit(hold(f"r{number}", 10))
    settler = Settler(ledger)
    ledger.refuses = lambda operation: isinstance(operation, SettleHold | ReleaseHold)
    for number in range(1, 12):
        settler.end(settle(f"r{number}", 5))
    await asyncio.sleep(0.01)
    assert settler.refused == 11

    ledger.refuses = lambda _: False

    assert await settler.drain(4 * RETRY_S)
    await assert_charged(ledger, 55)


async def test_a_lost_heartbeat_harms_nothing(ledger: MoodyLedger) -> None:
    settler = Settler(ledger)
    ledger.refuses = lambda operation: isinstance(operation, RenewHold)

    settler.renew(renew("r1", 5))
    settler.renew(renew("no-such-hold", 5))
    settler.end(settle("r1", 250))

    assert await settler.drain(1)
    await assert_charged(ledger, 250)


async def test_ending_a_hold_neither_waits_nor_raises_while_storage_is_away(ledger: MoodyLedger) -> None:
    settler = Settler(ledger)
    ledger.refuses = lambda _: True

    settler.end(ReleaseHold(account_id=ANN, hold_id=HoldId("r1"), at=settle("r1", 0).at))
    with pytest.raises(StorageUnavailable):
        await ledger.submit(grant("lot-2", 1))

    ledger.refuses = lambda _: False
    assert await settler.drain(4 * RETRY_S)
    await assert_charged(ledger, 0)


@pytest.mark.parametrize("cost", [250, 30], ids=["more", "less"])
async def test_a_settlement_after_its_lease_changes_nothing_and_both_amounts_are_told(
    ledger: MoodyLedger, cost: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that alone could not reach storage: another one took it for dead, and a hold ends once."""
    caplog.set_level(logging.WARNING)
    settler = Settler(ledger)
    await ledger.submit(renew("r1", 100, lease_until=NOON + HOUR))
    ledger.refuses = lambda operation: isinstance(operation, SettleHold)
    settler.end(settle("r1", cost))
    await asyncio.sleep(0)
    assert settler.refused == 1

    ledger.refuses = lambda _: False
    assert await SweepHolds(ledger, FakeClock(NOON + 2 * HOUR))() == 1
    assert await settler.drain(2 * RETRY_S)
    await asyncio.sleep(0)

    await assert_charged(ledger, 100)
    assert [t.amount for t in await ledger.transfers(ANN, 100, None) if t.kind is Kind.CHARGE] == [Usd(100)]
    assert settler.waiting == 0
    assert str(Usd(cost)) in caplog.text
    assert str(Usd(100)) in caplog.text


async def test_the_sweeper_finds_nothing_where_the_settlement_came_first(ledger: MoodyLedger) -> None:
    settler = Settler(ledger)
    await ledger.submit(renew("r1", 100, lease_until=NOON + HOUR))
    settler.end(settle("r1", 250))
    assert await settler.drain(1)

    assert await SweepHolds(ledger, FakeClock(NOON + 2 * HOUR))() == 0
    await assert_charged(ledger, 250)
