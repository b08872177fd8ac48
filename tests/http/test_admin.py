"""/admin: what the operator does."""

from __future__ import annotations

import pytest

from domain.ids import HoldId, KeyId, ModelId, RequestId
from domain.ledger import OpenHold
from domain.money import Usd
from domain.usage import Generation
from tests.fakes.served import refusal, run
from tests.fakes.time import NOON


def test_credit_is_given_once_per_reference(boss, ann):
    grant = {"account": "ann@example.org", "amount_usd": "5", "reason": "welcome", "reference": "ticket-7"}
    given = boss.post("/admin/credits/grant", **grant)
    assert given.status_code == 200
    assert given.json()["spendable_usd"] == "5"
    refusal(boss.post("/admin/credits/grant", **grant), 409, "already_booked")
    assert boss.get(f"/admin/credits/{ann.account_id}").json()["spendable_usd"] == "5"
    assert ann.get("/user/balance").json()["spendable_usd"] == "5"


def test_credit_is_taken_as_far_as_there_is_some(boss, ann):
    boss.post("/admin/credits/adjust", account=ann.account_id, amount_usd="2", reason="sorry")
    taken = boss.post("/admin/credits/adjust", account=ann.account_id, amount_usd="-0.5", reason="oops").json()
    assert (taken["amount_usd"], taken["spendable_usd"]) == ("-0.5", "1.5")
    answer = boss.post("/admin/credits/adjust", account=ann.account_id, amount_usd="-2", reason="more")
    told = refusal(answer, 402, "insufficient_credits")
    assert (told["required_usd"], told["spendable_usd"]) == ("2", "1.5")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"amount_usd": "5", "reason": "x"}, "account"),
        ({"account": "ann@example.org", "amount_usd": 5, "reason": "x"}, "amount_usd"),
        ({"account": "ann@example.org", "amount_usd": "five", "reason": "x"}, "amount_usd"),
        ({"account": "ann@example.org", "amount_usd": "0", "reason": "x"}, "amount_usd"),
        ({"account": "ann@example.org", "amount_usd": "99999999999999", "reason": "x"}, "amount_usd"),
        ({"account": "ann@example.org", "amount_usd": "5"}, "reason"),
        ({"account": "ann@example.org", "amount_usd": "5", "reason": " "}, "reason"),
        ({"account": "ann@example.org", "amount_usd": "5", "reason": "x", "credits": 5}, "credits"),
    ],
)
def test_a_gift_that_cannot_be_understood_is_refused_with_its_field(boss, ann, body, param):
    assert refusal(boss.post("/admin/credits/grant", **body), 400, "invalid_request")["param"] == param


def test_nobody_gets_nothing(boss):
    answer = boss.post("/admin/credits/grant", account="nobody", amount_usd="5", reason="x")
    refusal(answer, 404, "account_not_found")


def test_accounts_are_opened_found_and_listed(boss):
    made = boss.post("/admin/users", email="New@Example.org", name="New")
    assert made.status_code == 201
    new = made.json()
    assert boss.get("/admin/users/new@example.org").json() == new == boss.get(f"/admin/users/{new['id']}").json()
    listed = boss.get("/admin/users").json()
    assert new in listed["users"]
    assert listed["next_cursor"] is None
    refusal(boss.post("/admin/users", email="new@example.org"), 409, "email_taken")
    refusal(boss.post("/admin/users", email="nobody"), 400, "invalid_request")


def test_a_suspended_account_is_locked_out_until_it_is_restored(boss, ann):
    assert ann.get("/user/balance").status_code == 200
    suspended = boss.post(f"/admin/users/{ann.account_id}/suspend")
    assert suspended.json()["status"] == "suspended"
    refusal(ann.get("/user/balance"), 403, "account_suspended")
    assert boss.post("/admin/users/ann@example.org/restore").json()["status"] == "active"
    assert ann.get("/user/balance").status_code == 200


def test_the_last_administrator_is_not_suspended(boss):
    refusal(boss.post(f"/admin/users/{boss.account_id}/suspend"), 409, "last_admin_key")


def test_vendors_are_asked_anew(boss):
    assert boss.post("/admin/catalog/refresh").json() == [{"vendor": "acme", "models": 3, "failure": None}]


def test_open_holds_and_those_that_nobody_renewed_are_shown(served, boss, ann):
    async def held() -> None:
        await served.grant_credit(ann.account_id, Usd.parse("1"), "welcome")
        for number, name in enumerate(("req1", "req2")):
            record = Generation(
                id=RequestId(name), account_id=ann.account_id, key_id=KeyId("k"), model=ModelId("acme/one"),
                dialect="openai_chat", streamed=False, started_at=NOON,
            )  # fmt: skip
            operation = OpenHold(
                account_id=ann.account_id, hold_id=HoldId(name), wanted=Usd(5), least=Usd(5), at=NOON,
                lease_until=served.clock.now().replace(minute=1 + number), record=record,
            )  # fmt: skip
            await served.ledger.submit(operation)

    run(held)
    served.clock.advance(90)
    shown = boss.get("/admin/settlements").json()
    assert [hold["request_id"] for hold in shown["overdue"]] == ["req1"]
    assert [hold["request_id"] for hold in shown["open"]] == ["req2"]
    assert shown["open"][0]["amount_usd"] == "0.000000005"
