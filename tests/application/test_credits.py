"""Credit that an operator gives and takes, and what an account sees of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from domain.accounts import Account, UnknownAccount
from domain.credits import AlreadyBooked, InsufficientCredits, Source
from domain.errors import InvalidRequest
from domain.ids import AccountId, HoldId, KeyId, ModelId, RequestId
from domain.ledger import OpenHold, SettleHold
from domain.money import ZERO, Usd
from domain.usage import Generation
from tests.fakes.gateway import Gateway

pytestmark = pytest.mark.anyio

FIVE = Usd.parse("5")


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
async def ann(gateway) -> AccountId:
    account: Account = await gateway.create_account("ann@example.org")
    return account.id


async def test_a_grant_can_be_spent(gateway, ann):
    granted = await gateway.grant_credit(ann, FIVE, "welcome")
    assert granted.spendable == FIVE
    balance = await gateway.show_balance(ann)
    assert balance.spendable == FIVE
    assert balance.held == balance.charged == ZERO
    assert [(lot.source, lot.free) for lot in balance.lots] == [(Source.ADMIN, FIVE)]


async def test_a_grant_named_twice_is_paid_once(gateway, ann):
    await gateway.grant_credit(ann, FIVE, "welcome", reference="ticket-1")
    with pytest.raises(AlreadyBooked):
        await gateway.grant_credit(ann, FIVE, "welcome", reference="ticket-1")
    assert await gateway.spendable(ann) == FIVE


async def test_one_reference_serves_every_account(gateway, ann):
    bob = (await gateway.create_account("bob@example.org")).id
    await gateway.grant_credit(ann, FIVE, "welcome", reference="spring")
    await gateway.grant_credit(bob, FIVE, "welcome", reference="spring")
    assert await gateway.spendable(bob) == FIVE


async def test_grants_without_a_reference_add_up(gateway, ann):
    await gateway.grant_credit(ann, FIVE, "welcome")
    await gateway.grant_credit(ann, FIVE, "again")
    assert await gateway.spendable(ann) == Usd.parse("10")


async def test_credit_with_a_date_ends_then(gateway, ann):
    tomorrow = gateway.clock.now() + timedelta(days=1)
    await gateway.grant_credit(ann, FIVE, "try it", expires_at=tomorrow)
    gateway.clock.advance(86_400)
    assert await gateway.spendable(ann) == ZERO


@pytest.mark.parametrize(
    ("amount", "reason", "reference", "param"),
    [
        ("0", "why", None, "amount_usd"),
        ("-1", "why", None, "amount_usd"),
        ("1", "  ", None, "reason"),
        ("1", "x" * 501, None, "reason"),
        ("1", "why", "", "reference"),
        ("1", "why", "two words", "reference"),
        ("1", "why", "x" * 101, "reference"),
    ],
)
async def test_a_grant_that_makes_no_sense_is_refused_with_its_field(gateway, ann, amount, reason, reference, param):
    with pytest.raises(InvalidRequest) as refusal:
        await gateway.grant_credit(ann, Usd.parse(amount), reason, reference=reference)
    assert refusal.value.param == param
    assert await gateway.spendable(ann) == ZERO


async def test_credit_cannot_have_ended_before_it_is_given(gateway, ann):
    with pytest.raises(InvalidRequest, match="future"):
        await gateway.grant_credit(ann, FIVE, "late", expires_at=gateway.clock.now())


async def test_nobody_gets_nothing(gateway):
    for act in (gateway.grant_credit, gateway.adjust_credit):
        with pytest.raises(UnknownAccount):
            await act(AccountId("nobody"), FIVE, "why")
    with pytest.raises(UnknownAccount):
        await gateway.adjust_credit(AccountId("nobody"), -FIVE, "why")


async def test_an_adjustment_gives_and_takes(gateway, ann):
    await gateway.adjust_credit(ann, FIVE, "sorry")
    taken = await gateway.adjust_credit(ann, Usd.parse("-1.5"), "too much")
    assert taken.amount == Usd.parse("-1.5")
    assert taken.spendable == await gateway.spendable(ann) == Usd.parse("3.5")


async def test_no_more_is_taken_than_can_be_spent(gateway, ann):
    await gateway.grant_credit(ann, FIVE, "welcome")
    with pytest.raises(InsufficientCredits):
        await gateway.adjust_credit(ann, Usd.parse("-5.000000001"), "all and more")
    assert await gateway.spendable(ann) == FIVE


async def test_credit_is_taken_once_per_reference(gateway, ann):
    await gateway.grant_credit(ann, FIVE, "welcome")
    await gateway.adjust_credit(ann, Usd.parse("-1"), "fee", reference="fee-1")
    with pytest.raises(AlreadyBooked):
        await gateway.adjust_credit(ann, Usd.parse("-1"), "fee", reference="fee-1")
    assert await gateway.spendable(ann) == Usd.parse("4")


async def test_an_adjustment_of_nothing_is_a_mistake(gateway, ann):
    with pytest.raises(InvalidRequest):
        await gateway.adjust_credit(ann, ZERO, "why")


async def test_lots_are_shown_in_the_order_in_which_they_burn(gateway, ann):
    await gateway.grant_credit(ann, Usd(1), "forever")
    gateway.clock.advance(1)
    soon = gateway.clock.now() + timedelta(days=1)
    await gateway.grant_credit(ann, Usd(2), "soon", expires_at=soon)
    balance = await gateway.show_balance(ann)
    assert [lot.granted for lot in balance.lots] == [Usd(2), Usd(1)]


async def test_transactions_are_listed_newest_first_page_by_page(gateway, ann):
    for cents in range(1, 6):
        await gateway.adjust_credit(ann, Usd.from_cents(cents), f"number {cents}")
    one = await gateway.list_transactions(ann, limit=3)
    two = await gateway.list_transactions(ann, limit=3, cursor=one.next_cursor)
    assert [transfer.reason for transfer in (*one.items, *two.items)] == [
        f"number {cents}" for cents in (5, 4, 3, 2, 1)
    ]
    assert two.next_cursor is None


async def test_what_the_house_bears_is_not_among_an_accounts_transactions(gateway, ann):
    await gateway.grant_credit(ann, Usd(10), "little")
    for number in range(3):
        gateway.clock.advance(1)
        await overrun(gateway, ann, f"request{number}")
    seen: list[tuple[str, Usd]] = []
    cursor = None
    while not seen or cursor:
        transactions = await gateway.list_transactions(ann, limit=1, cursor=cursor)
        seen += [(transfer.kind, transfer.amount) for transfer in transactions.items]
        cursor = transactions.next_cursor
    nothing = ("charge", ZERO)
    assert seen == [nothing, nothing, ("charge", Usd(10)), ("grant", Usd(10))]


async def overrun(gateway: Gateway, account_id: AccountId, name: str) -> None:
    """A request that costs far more than the account has, with a loss beside."""
    record = Generation(
        id=RequestId(name),
        account_id=account_id,
        key_id=KeyId("key"),
        model=ModelId("acme/one"),
        dialect="openai_chat",
        streamed=False,
        started_at=gateway.clock.now(),
        cost=Usd(1_000),
        loss=Usd(5),
    )
    spendable = await gateway.spendable(account_id)
    now = gateway.clock.now()
    await gateway.ledger.submit(
        OpenHold(
            account_id=account_id,
            hold_id=HoldId(name),
            wanted=spendable,
            least=ZERO,
            at=now,
            lease_until=now,
            record=record,
        )
    )
    await gateway.ledger.submit(SettleHold(account_id=account_id, hold_id=HoldId(name), record=record, at=now))
