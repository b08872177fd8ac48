"""Rules of the books that need no storage to be shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from domain.credits import Lot, Source
from domain.ids import AccountId, HoldId, KeyId, LotId, ModelId, RequestId
from domain.ledger import Books, ExtendHold, GrantCredit, KeyBudgetExceeded, KeyCap, OpenHold, SettleHold
from domain.money import Usd
from domain.usage import Generation

ANN = AccountId("ann")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CAP = KeyCap(key_id=KeyId("k"), budget=Usd(100))


def record(name: str, cost: int = 0) -> Generation:
    return Generation(
        id=RequestId(name), account_id=ANN, key_id=KeyId("k"), model=ModelId("m"), dialect="openai_chat",
        streamed=True, started_at=NOON, cost=Usd(cost),
    )  # fmt: skip


def open_hold(name: str, amount: int) -> OpenHold:
    return OpenHold(
        account_id=ANN, hold_id=HoldId(name), wanted=Usd(amount), least=Usd(1), at=NOON,
        lease_until=NOON + timedelta(minutes=15), record=record(name), cap=CAP,
    )  # fmt: skip


def extend(name: str, amount: int) -> ExtendHold:
    return ExtendHold(account_id=ANN, hold_id=HoldId(name), amount=Usd(amount), number=1, at=NOON, cap=CAP)


@pytest.fixture
def books() -> Books:
    books = Books()
    lot = Lot(id=LotId("l"), source=Source.PURCHASE, granted=Usd(1_000), free=Usd(1_000), granted_at=NOON)
    books.apply(GrantCredit(account_id=ANN, lot=lot))
    return books


def test_an_extension_must_fit_into_the_keys_budget_as_its_hold_did(books: Books) -> None:
    books.apply(open_hold("a", 60))

    with pytest.raises(KeyBudgetExceeded) as over:
        books.apply(extend("a", 41))

    assert over.value.left == Usd(40)
    books.apply(extend("a", 40))
    assert books.holds[HoldId("a")].amount == Usd(100)


def test_what_a_settled_hold_gave_back_can_be_held_again_by_its_key(books: Books) -> None:
    books.apply(open_hold("a", 100))
    books.apply(SettleHold(account_id=ANN, hold_id=HoldId("a"), record=record("a", cost=30), at=NOON))

    books.apply(open_hold("b", 100))

    assert books.holds[HoldId("b")].amount == Usd(70)
    with pytest.raises(KeyBudgetExceeded):
        books.apply(open_hold("c", 1))
