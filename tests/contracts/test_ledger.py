"""What every ledger promises, whatever it is built on."""

from __future__ import annotations

import asyncio
from asyncio import Future

import pytest
from msgspec.structs import replace

from domain.credits import (
    AlreadyBooked,
    CreditAccount,
    HoldEnded,
    InsufficientCredits,
    Kind,
    NotRefundable,
    Source,
    UnknownHold,
    UnknownLot,
)
from domain.errors import InvalidRequest
from domain.ids import LotId
from domain.ledger import ExpireLots, HoldSettled, KeyBudgetExceeded, KeyCap, KeyMeter, KeyRequestsUsedUp, Operation
from domain.money import ZERO, Usd
from domain.ports.ledger import Ledger
from tests.contracts.ledgers import (  # noqa: F401 - the fixtures are asked for by their names
    ANN,
    BOB,
    HOUR,
    KEY,
    NOON,
    assert_balanced,
    every_ledger,
    extend,
    grant,
    hold,
    lot,
    migrated_file,
    migrated_schema,
    outcomes,
    record,
    refund,
    release,
    renew,
    settle,
    withdraw,
)

pytestmark = pytest.mark.anyio

RACERS = 2_000


async def test_an_unknown_account_is_empty(ledger: Ledger) -> None:
    assert await ledger.account(ANN) == CreditAccount(id=ANN)
    assert await ledger.transfers(ANN, 10, None) == []
    assert await ledger.generation(ANN, "r") is None
    assert await ledger.verify() == []


async def test_a_lot_is_read_back_as_it_was_granted(ledger: Ledger) -> None:
    given = lot("trial", 500, source=Source.TRIAL, expires_at=NOON + HOUR, refundable=True)
    await ledger.submit(grant("trial", 500, source=Source.TRIAL, expires_at=NOON + HOUR, refundable=True))
    await ledger.submit(grant("forever", 10**18))
    account = await ledger.account(ANN)
    assert account.lots == (given, lot("forever", 10**18))
    assert account.funded == Usd(10**18 + 500)


async def test_a_hold_reserves_and_its_settlement_charges_the_cost_and_returns_the_rest(
    ledger: Ledger,
) -> None:
    await ledger.submit(grant("a", 1_000))
    opened = await ledger.submit(hold("h", 600))
    assert (opened.hold.amount, opened.spendable) == (Usd(600), Usd(400))
    assert (await ledger.account(ANN)).held == Usd(600)
    settled = await ledger.submit(settle("h", 250))
    assert settled == HoldSettled(charged=Usd(250), overrun=ZERO, spendable=Usd(750))
    account = await ledger.account(ANN)
    assert (account.free, account.held, account.charged) == (Usd(750), ZERO, Usd(250))
    await assert_balanced(ledger)


async def test_a_hold_takes_what_there_is_but_never_less_than_it_needs(ledger: Ledger) -> None:
    await ledger.submit(grant("a", 1_000))
    opened = await ledger.submit(hold("h", 5_000, least=1_000))
    assert opened.hold.amount == Usd(1_000)
    with pytest.raises(InsufficientCredits) as refused:
        await ledger.submit(hold("i", 5_000, least=1))
    assert (refused.value.required, refused.value.spendable, refused.value.held) == (Usd(1), ZERO, Usd(1_000))
    await assert_balanced(ledger)


async def test_a_cost_above_the_hold_takes_free_credit_and_then_the_house_pays(ledger: Ledger) -> None:
    await ledger.submit(grant("a", 1_000))
    await ledger.submit(hold("h", 600))
    settled = await ledger.submit(settle("h", 1_500))
    assert settled == HoldSettled(charged=Usd(1_000), overrun=Usd(500), spendable=ZERO)
    kinds = {transfer.kind: transfer.amount for transfer in await ledger.transfers(ANN, 10, None)}
    assert kinds == {
        Kind.GRANT: Usd(1_000),
        Kind.CHARGE: Usd(600),
        Kind.EXCESS: Usd(400),
        Kind.OVERRUN: Usd(500),
    }
    await assert_balanced(ledger)


async def test_a_release_returns_everything_and_keeps_no_record(ledger: Ledger) -> None:
    await ledger.submit(grant("a", 1_000))
    await ledger.submit(hold("h", 600))
    await ledger.submit(release("h"))
    assert (await ledger.account(ANN)).free == Usd(1_000)
    assert await ledger.generation(ANN, "h") is None
    await assert_balanced(ledger)


async def test_a_request_that_cost_nothing_is_recorded_with_the_vendors_loss(ledger: Ledger) -> None:
    await ledger.submit(grant("a", 1_000))
    await ledger.submit(hold("h", 600))
    await ledger.submit(settle("h", 0, loss=77))
    assert (await ledger.account(ANN)).free == Usd(1_000)
    (loss, _) = await ledger.transfers(ANN, 10, None)
    assert (loss.kind, loss.amount, loss.debit) == (Kind.LOSS, Usd(77), "house:vendor_loss")
    assert await ledger.generation(ANN, "h") == record("h", loss=Usd(77))
    await assert_balanced(ledger)


async def test_a_record_belongs_to_its_account(ledger: Ledger) -> None:
    await ledger.submit(grant("a", 1_000))
    await ledger.submit(hold("h", 600))
    await ledger.submit(settle("h", 5))
    assert await ledger.generation(ANN, "h") == record("h", 5)
    assert await ledger.generation(BOB, "h") is None


async def test_racing_holds_share_what_there_is_and_not_a_nano_more(ledger: Ledger) -> None:
    await ledger.submit(grant("a", 100 * 7 + 6))
    answers = await outcomes(*(ledger.submit(hold(f"h{n}", 7)) for n in range(RACERS)))
    assert answers == {"HoldOpened": 100, "InsufficientCredits": RACERS - 100}
    assert (await ledger.account(ANN)).free == Usd(6)
    await assert_balanced(ledger)


async def test_a_settlement_repeated_takes_effect_once(ledger: Ledger) -> None:
    await ledger.submit(grant("a", 100_000))
    await asyncio.gather(*(ledger.submit(hold(f"h{n}", 70)) for n in range(100)))
    answers = await outcomes(*(ledger.submit(settle(f"h{n}", 30)) for _ in range(5) for n in range(100)))
    assert answers == {"HoldSettled": 100, "HoldEnded": 400}
    with pytest.raises(HoldEnded):
        await ledger.submit(settle("h0", 30))
    assert (await ledger.account(ANN)).charged == Usd(3_000)
    await assert_balanced(ledger)


async def test_a_hold_ends_once_whoever_ends_it(ledger: Ledger) -> None:
    await ledger.submit(grant("a", 100_000))
    await asyncio.gather(*(ledger.submit(hold(f"h{n}", 70)) for n in range(100)))
    racers = [racer for n in range(100) for racer in (settle(f"h{n}", 30), release(f"h{n}"))]
    answers = await outcomes(*map(ledger.submit, racers), *map(ledger.submit, reversed(racers)))
    assert answers == {"HoldSettled": 100, "HoldEnded": 300}
    await assert_balanced(ledger)


async def test_a_hold_can_be_opened_once_even_after_it_has_ended(ledger: Ledger) -> None:
    await ledger.submit(grant("a", 1_000))
    assert await outcomes(*(ledger.submit(hold("h", 10)) for _ in range(3))) == {
        "HoldOpened": 1,
        "AlreadyBooked": 2,
    }
    await ledger.submit(release("h"))
    with pytest.raises(AlreadyBooked):
        await ledger.submit(hold("h", 10))
    await assert_balanced(ledger)


async def test_only_its_own_account_can_touch_a_hold(ledger: Ledger) -> None:
    await ledger.submit(grant("a", 1_000))
    await ledger.submit(grant("b", 1_000, BOB))
    await ledger.submit(hold("h", 600))
    for stranger in (settle("h", 5, BOB), release("h", BOB), extend("h", 5, 1, BOB)):
        with pytest.raises(UnknownHold):
            await ledger.submit(stranger)
    assert (await ledger.account(ANN)).held == Usd(600)
    await assert_balanced(ledger, BOB)


async def test_what_was_never_opened_cannot_be_ended(ledger: Ledger) -> None:
    for operation in (settle("h", 5), release("h"), extend("h", 5), renew("h", 5)):
        with pytest.raises(UnknownHold):
            await ledger.submit(operation)


async def test_a_grant_repeated_in_parallel_gives_one_lot(ledger: Ledger) -> None:
    answers = await outcomes(*(ledger.submit(grant("topup:1", 500)) for _ in range(100)))
    assert answers == {"Booked": 1, "AlreadyBooked": 99}
    assert (await ledger.account(ANN)).funded == Usd(500)
    await assert_balanced(ledger)


async def test_a_grant_repeated_after_its_lot_was_used_up_is_refused(ledger: Ledger) -> None:
    await ledger.submit(grant("topup:1", 500))
    await ledger.submit(withdraw("w", 500))
    for account_id in (ANN, BOB):
        with pytest.raises(AlreadyBooked):
            await ledger.submit(grant("topup:1", 500, account_id))
    await assert_balanced(ledger)


async def test_an_extension_adds_to_a_hold_once(ledger: Ledger) -> None:
    await ledger.submit(grant("a", 1_000))
    await ledger.submit(hold("h", 600))
    assert (await ledger.submit(extend("h", 100, 1))).hold.amount == Usd(700)
    with pytest.raises(AlreadyBooked):
        await ledger.submit(extend("h", 100, 1))
    with pytest.raises(InsufficientCredits):
        await ledger.submit(extend("h", 301, 2))
    await ledger.submit(extend("h", 300, 2))
    assert (await ledger.submit(settle("h", 999))).charged == Usd(999)
    with pytest.raises(HoldEnded):
        await ledger.submit(extend("h", 1, 3))
    await assert_balanced(ledger)


async def test_a_heartbeat_moves_the_lease_and_the_watermark(ledger: Ledger) -> None:
    await ledger.submit(grant("a", 1_000))
    opened = await ledger.submit(hold("h", 600))
    heartbeat = renew("h", 120, NOON + 5 * HOUR)
    await ledger.submit(heartbeat)
    assert await ledger.overdue_holds(NOON + 5 * HOUR, 10) == []
    (overdue,) = await ledger.overdue_holds(NOON + 6 * HOUR, 10)
    assert overdue == replace(opened.hold, lease_until=NOON + 5 * HOUR, watermark=Usd(120), record=heartbeat.record)
    extended = await ledger.submit(extend("h", 50))
    assert extended.hold.record == heartbeat.record


async def test_overdue_holds_come_oldest_first(ledger: Ledger) -> None:
    await ledger.submit(grant("a", 1_000))
    for n in (3, 1, 2):
        await ledger.submit(hold(f"h{n}", 10, at=NOON + n * HOUR))
    await ledger.submit(hold("ended", 10))
    await ledger.submit(release("ended"))
    overdue = await ledger.overdue_holds(NOON + 4 * HOUR, 10)
    assert [held.id for held in overdue] == ["h1", "h2"]
    assert [held.id for held in await ledger.overdue_holds(NOON + 9 * HOUR, 2)] == ["h1", "h2"]


async def test_operations_take_effect_in_the_order_of_their_submission(ledger: Ledger) -> None:
    await ledger.submit(grant("a", 1_000))
    # Submitted without waiting, so that one batch opens, extends and ends the hold.
    operations: list[Operation] = [hold("h", 600), extend("h", 100), renew("h", 5), settle("h", 650), release("h")]
    answers: list[Future[object]] = [ledger.submit(operation) for operation in operations]
    assert (await ledger.account(ANN)).charged == Usd(650)
    assert await outcomes(*answers) == {
        "HoldOpened": 1,
        "HoldExtended": 1,
        "Booked": 1,
        "HoldSettled": 1,
        "HoldEnded": 1,
    }
    with pytest.raises(HoldEnded):
        await ledger.submit(release("h"))
    with pytest.raises(AlreadyBooked):
        await ledger.submit(hold("h", 1))
    await assert_balanced(ledger)


async def test_a_refused_operation_fails_alone(ledger: Ledger) -> None:
    await ledger.submit(grant("a", 1_000))
    mixed: list[Operation] = [
        hold("h", 600),
        hold("too-much", 600),
        grant("a", 5),
        settle("h", 1),
        grant("b", -5),
        withdraw("w", 9),
    ]
    answers = [ledger.submit(operation) for operation in mixed]
    assert await outcomes(*answers) == {
        "HoldOpened": 1,
        "InsufficientCredits": 1,
        "AlreadyBooked": 1,
        "HoldSettled": 1,
        "InvalidRequest": 1,
        "Booked": 1,
    }
    assert (await ledger.account(ANN)).free == Usd(990)
    await assert_balanced(ledger)


@pytest.mark.parametrize(
    "nonsense",
    [hold("i", 5, least=6), hold("i", 5, least=-1), extend("h", 0), extend("h", -1), settle("h", -1)],
)
async def test_no_operation_moves_less_than_nothing(ledger: Ledger, nonsense: object) -> None:
    await ledger.submit(grant("a", 1_000))
    await ledger.submit(hold("h", 10))
    with pytest.raises(InvalidRequest):
        await ledger.submit(nonsense)  # type: ignore[call-overload]
    await assert_balanced(ledger)


async def test_credit_past_its_date_expires_once_and_what_is_held_when_it_comes_back(ledger: Ledger) -> None:
    await ledger.submit(grant("trial", 1_000, expires_at=NOON + HOUR))
    await ledger.submit(grant("kept", 50))
    await ledger.submit(hold("h", 300))
    late = NOON + HOUR
    assert await ledger.accounts_to_expire(NOON, 10) == []
    assert await ledger.accounts_to_expire(late, 10) == [ANN]
    assert (await ledger.submit(ExpireLots(account_id=ANN, at=late))).amount == Usd(700)
    assert await ledger.accounts_to_expire(late, 10) == []
    assert (await ledger.submit(settle("h", 100, at=late + HOUR))).charged == Usd(100)
    assert await ledger.accounts_to_expire(late + HOUR, 10) == [ANN]
    assert (await ledger.submit(ExpireLots(account_id=ANN, at=late + HOUR))).amount == Usd(200)
    account = await ledger.account(ANN)
    assert (account.free, account.removed, account.charged) == (Usd(50), Usd(900), Usd(100))
    await assert_balanced(ledger)


async def test_a_lot_can_expire_twice_at_one_moment(ledger: Ledger) -> None:
    await ledger.submit(grant("trial", 1_000, expires_at=NOON + HOUR))
    await ledger.submit(hold("h", 300))
    late = NOON + HOUR
    assert (await ledger.submit(ExpireLots(account_id=ANN, at=late))).amount == Usd(700)
    await ledger.submit(settle("h", 100, at=late))
    assert (await ledger.submit(ExpireLots(account_id=ANN, at=late))).amount == Usd(200)
    assert len({transfer.id for transfer in await ledger.transfers(ANN, 10, None)}) == 4
    await assert_balanced(ledger)


async def test_a_withdrawal_takes_all_or_nothing_and_once(ledger: Ledger) -> None:
    await ledger.submit(grant("a", 1_000))
    with pytest.raises(InsufficientCredits):
        await ledger.submit(withdraw("w", 1_001))
    assert (await ledger.submit(withdraw("w", 400))).amount == Usd(400)
    with pytest.raises(AlreadyBooked):
        await ledger.submit(withdraw("w", 400))
    assert (await ledger.account(ANN)).removed == Usd(400)
    await assert_balanced(ledger)


async def test_only_unused_purchased_credit_is_refunded_and_once(ledger: Ledger) -> None:
    await ledger.submit(grant("bought", 1_000, refundable=True))
    await ledger.submit(grant("gift", 1_000, source=Source.COUPON))
    await ledger.submit(withdraw("w", 1_300))
    with pytest.raises(NotRefundable):
        await ledger.submit(refund("r", "bought", 701))
    assert (await ledger.submit(refund("r", "bought"))).amount == Usd(700)
    with pytest.raises(AlreadyBooked):
        await ledger.submit(refund("r", "bought"))
    with pytest.raises(UnknownLot):
        await ledger.submit(refund("r2", LotId("gift")))
    await assert_balanced(ledger)


async def test_a_keys_budget_counts_what_is_spent_and_held(ledger: Ledger) -> None:
    cap = KeyCap(key_id=KEY, budget=Usd(100), period_start=NOON)
    await ledger.submit(grant("a", 1_000))
    await ledger.submit(hold("h", 70, cap=cap))
    assert (await ledger.submit(hold("i", 70, least=30, cap=cap))).hold.amount == Usd(30)
    with pytest.raises(KeyBudgetExceeded):
        await ledger.submit(hold("j", 1, cap=cap))
    await ledger.submit(settle("h", 60))
    await ledger.submit(release("i"))
    with pytest.raises(KeyBudgetExceeded):
        await ledger.submit(hold("j", 41, cap=cap))
    await ledger.submit(hold("j", 40, cap=cap))
    await assert_balanced(ledger)


async def test_what_a_key_has_used_can_be_read(ledger: Ledger) -> None:
    cap = KeyCap(key_id=KEY, budget=Usd(100), period_start=NOON)
    await ledger.submit(grant("a", 1_000))
    assert await ledger.key_meter(KEY) is None
    await ledger.submit(hold("h", 70, cap=cap))
    await ledger.submit(settle("h", 60))
    ledger.submit(hold("i", 10, cap=cap))
    meter = KeyMeter(key_id=KEY, account_id=ANN, requests=2, spent=Usd(60), held=Usd(10), period_start=NOON)
    assert await ledger.key_meter(KEY) == meter


async def test_a_keys_budget_starts_anew_with_its_period_and_never_goes_back(ledger: Ledger) -> None:
    yesterday = KeyCap(key_id=KEY, budget=Usd(100), period_start=NOON)
    today = replace(yesterday, period_start=NOON + 24 * HOUR)
    await ledger.submit(grant("a", 1_000))
    await ledger.submit(hold("h", 100, cap=yesterday))
    await ledger.submit(settle("h", 100))
    await ledger.submit(hold("i", 90, cap=today))
    await ledger.submit(settle("i", 90))
    for late in (yesterday, today):
        with pytest.raises(KeyBudgetExceeded):
            await ledger.submit(hold("j", 11, cap=late))
    await ledger.submit(hold("j", 10, cap=today))
    await assert_balanced(ledger)


async def test_a_keys_requests_are_counted_but_not_those_that_led_to_nothing(ledger: Ledger) -> None:
    cap = KeyCap(key_id=KEY, requests_max=2)
    await ledger.submit(grant("a", 1_000))
    for name in ("h", "i"):
        await ledger.submit(hold(name, 5, cap=cap))
    with pytest.raises(KeyRequestsUsedUp):
        await ledger.submit(hold("j", 5, cap=cap))
    await ledger.submit(release("h"))
    await ledger.submit(hold("j", 5, cap=cap))
    await ledger.submit(settle("i", 0))
    with pytest.raises(KeyRequestsUsedUp):
        await ledger.submit(hold("k", 5, cap=cap))
    await assert_balanced(ledger)


async def test_transfers_are_listed_newest_first_without_what_moved_nothing(ledger: Ledger) -> None:
    await ledger.submit(grant("b", 5, BOB))
    await ledger.submit(grant("a", 1_000))
    for n in range(5):
        await ledger.submit(hold(f"h{n}", 10))
        await ledger.submit(settle(f"h{n}", n, at=NOON + n * HOUR))
    expected = ["charge:h4", "charge:h3", "charge:h2", "charge:h1", "grant:a"]
    listed = await ledger.transfers(ANN, 10, None)
    assert [transfer.id for transfer in listed] == expected
    assert (listed[-1].debit, listed[-1].reason, listed[-1].reference) == ("house:cash", "a test", "a")
    assert [draw.amount for draw in listed[0].draws] == [Usd(4)]
    first = await ledger.transfers(ANN, 2, None)
    second = await ledger.transfers(ANN, 2, first[-1].id)
    third = await ledger.transfers(ANN, 2, second[-1].id)
    assert [transfer.id for transfer in (*first, *second, *third)] == expected
    assert await ledger.transfers(ANN, 2, third[-1].id) == []
    assert await ledger.transfers(ANN, 2, "unknown") == []


async def test_a_caller_that_leaves_takes_nothing_back_and_disturbs_nobody(ledger: Ledger) -> None:
    await ledger.submit(grant("a", 1_000))

    async def ask(name: str) -> object:
        return await ledger.submit(hold(name, 10))

    tasks = [asyncio.ensure_future(ask(f"h{n}")) for n in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (await ledger.account(ANN)).held == Usd(200)
    await assert_balanced(ledger)
