"""/user: an account's credit and keys, as it sees them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from domain.ids import HoldId, KeyId, ModelId, RequestId
from domain.keys import NEW_KEY_SCOPES, KeyPolicy, Scope
from domain.ledger import OpenHold, SettleHold
from domain.money import Usd
from domain.usage import Attempt, Generation, Usage
from entrypoints.http.account import FIELD_NAMES, KeyBody
from tests.fakes.served import ACME, ONE, Caller, refusal, run
from tests.fakes.time import NOON

WRITER = KeyPolicy(scopes=NEW_KEY_SCOPES | {Scope.KEYS_WRITE})


@pytest.fixture
def writer(served, client) -> Caller:
    """A customer who may make keys."""
    return Caller(client, run(served.customer, "writer@example.org", WRITER))


# Credit


def test_an_account_without_credit_has_none(ann):
    assert ann.get("/user/balance").json() == {
        "user_id": ann.account_id, "spendable_usd": "0", "held_usd": "0", "charged_usd": "0", "lots": [],
    }  # fmt: skip


def test_credit_is_shown_to_the_nano_dollar(served, ann):
    tomorrow = served.clock.now() + timedelta(days=1)
    run(served.grant_credit, ann.account_id, Usd.parse("5.000000001"), "welcome", reference="a")
    run(served.grant_credit, ann.account_id, Usd.parse("1"), "soon", expires_at=tomorrow)
    balance = ann.get("/user/balance").json()
    assert balance["spendable_usd"] == "6.000000001"
    assert [(lot["free_usd"], lot["expires_at"]) for lot in balance["lots"]] == [
        ("1", "2026-03-11T12:00:00Z"),
        ("5.000000001", None),
    ]


def test_movements_of_credit_are_listed_with_their_sign_page_by_page(served, ann):
    for amount in ("5", "-2.5", "1"):
        served.clock.advance(1)
        run(served.adjust_credit, ann.account_id, Usd.parse(amount), f"by {amount}")
    one = ann.get("/user/credit-transactions", limit=2).json()
    two = ann.get("/user/credit-transactions", limit=2, cursor=one["next_cursor"]).json()
    shown = [(each["amount_usd"], each["description"]) for each in one["transactions"] + two["transactions"]]
    assert shown == [("1", "by 1"), ("-2.5", "by -2.5"), ("5", "by 5")]
    assert two["next_cursor"] is None
    assert one["transactions"][0]["created_at"] == "2026-03-10T12:00:03Z"


@pytest.mark.parametrize("limit", ["0", "101", "many", "-1"])
def test_a_page_of_an_impossible_size_is_refused(ann, limit):
    told = refusal(ann.get("/user/credit-transactions", limit=limit), 400, "invalid_request")
    assert told["param"] == "limit"


# Keys


def test_a_new_key_is_told_once_and_works(client, writer):
    made = writer.post("/user/api-keys", key_name="mine")
    assert made.status_code == 201
    secret = made.json()["api_key"]
    assert client.get("/user/balance", headers={"x-api-key": secret}).status_code == 200
    listed = writer.get("/user/api-keys")
    assert secret not in listed.text
    assert {key["key_name"] for key in listed.json()["keys"]} == {"first", "mine"}


def test_every_restriction_of_a_key_can_be_set_and_is_shown(writer):
    wished: dict[str, Any] = {
        "key_name": "narrow",
        "environment_tag": "test",
        "scope_permissions": ["inference"],
        "expires_at": "2027-01-01T00:00:00+01:00",
        "max_requests": 100,
        "budget": {"amount_usd": "2.5", "period": "week", "time_zone": "Europe/Berlin"},
        "allowed_models": ["acme/*"],
        "ip_allowlist": ["203.0.113.0/24"],
        "domain_referrers": ["*.example.com"],
        "limits": {"requests_per_minute": 5},
    }
    assert wished.keys() | {"expiration_days"} == set(KeyBody.__struct_fields__)
    made = writer.post("/user/api-keys", **wished).json()
    assert made["api_key"].startswith("gw_test_")
    expires_at = made.pop("expires_at")
    assert datetime.fromisoformat(expires_at) == datetime.fromisoformat(wished.pop("expires_at"))
    assert {name: made[name] for name in wished} == wished


def test_a_key_can_be_given_so_many_days(writer):
    made = writer.post("/user/api-keys", key_name="short", expiration_days=30).json()
    assert made["expires_at"] == "2026-04-09T12:00:00Z"


@pytest.mark.parametrize("tag", ["dev", "development"])
def test_development_has_two_spellings(writer, tag):
    assert writer.post("/user/api-keys", key_name="x", environment_tag=tag).json()["api_key"].startswith("gw_dev_")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"key_name": ""}, "key_name"),
        ({"key_name": "x", "colour": "red"}, "colour"),
        ({}, "key_name"),
        ({"key_name": 5}, "key_name"),
        ({"key_name": "x", "environment_tag": "moon"}, "environment_tag"),
        ({"key_name": "x", "scope_permissions": ["everything"]}, "scope_permissions[0]"),
        ({"key_name": "x", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"key_name": "x", "expires_at": "2027-01-01T00:00:00"}, "expires_at"),
        ({"key_name": "x", "expires_at": "2027-01-01T00:00:00Z", "expiration_days": 1}, "expires_at"),
        ({"key_name": "x", "expiration_days": 0}, "expiration_days"),
        ({"key_name": "x", "max_requests": 0}, "max_requests"),
        ({"key_name": "x", "budget": {"amount_usd": "a lot"}}, "budget.amount_usd"),
        ({"key_name": "x", "budget": {"amount_usd": "0"}}, "budget.amount_usd"),
        ({"key_name": "x", "budget": {"amount_usd": "1e-10"}}, "budget.amount_usd"),
        ({"key_name": "x", "budget": {"amount_usd": "NaN"}}, "budget.amount_usd"),
        ({"key_name": "x", "budget": {"amount_usd": 5}}, "budget.amount_usd"),
        ({"key_name": "x", "budget": {"amount_usd": "5", "time_zone": "Mars"}}, "budget.time_zone"),
        ({"key_name": "x", "budget": {"amount_usd": "5", "period": "year"}}, "budget.period"),
        ({"key_name": "x", "allowed_models": [""]}, "allowed_models"),
        ({"key_name": "x", "allowed_models": ["a"] * 101}, "allowed_models"),
        ({"key_name": "x", "ip_allowlist": ["here"]}, "ip_allowlist"),
        ({"key_name": "x", "domain_referrers": ["https://x.example"]}, "domain_referrers"),
        ({"key_name": "x", "limits": {"requests_per_minute": 0}}, "limits.requests_per_minute"),
        ({"key_name": "x", "limits": {"requests_per_second": 1}}, "requests_per_second"),
    ],
)
def test_a_key_that_cannot_be_made_is_refused_with_the_field(writer, body, param):
    assert refusal(writer.post("/user/api-keys", **body), 400, "invalid_request")["param"] == param
    assert len(writer.get("/user/api-keys").json()["keys"]) == 1


def test_a_name_is_taken_once(writer):
    refusal(writer.post("/user/api-keys", key_name="first"), 409, "key_name_taken")


def test_nobody_makes_a_key_that_can_do_more(writer):
    for scopes in (["admin:*"], ["inference", "billing"]):
        told = refusal(writer.post("/user/api-keys", key_name="x", scope_permissions=scopes), 403, "key_not_allowed")
        assert scopes[-1] in told["message"]


def test_what_is_sent_is_changed_and_what_is_not_stays(writer):
    key = writer.post("/user/api-keys", key_name="x", max_requests=5, allowed_models=["acme/*"]).json()
    changed = writer.patch(f"/user/api-keys/{key['id']}", key_name="y", max_requests=None).json()
    assert (changed["key_name"], changed["max_requests"], changed["allowed_models"]) == ("y", None, ["acme/*"])
    assert "api_key" not in changed


def test_a_listed_key_sent_back_whole_is_refused_not_half_taken(writer):
    (key,) = writer.get("/user/api-keys").json()["keys"]
    answer = writer.patch(f"/user/api-keys/{key['id']}", **key)
    assert refusal(answer, 400, "invalid_request")["param"] not in FIELD_NAMES.values()


def test_a_revoked_key_opens_nothing(client, writer):
    made = writer.post("/user/api-keys", key_name="x").json()
    assert writer.delete(f"/user/api-keys/{made['id']}").json()["revoked_at"] == "2026-03-10T12:00:00Z"
    answer = client.get("/user/balance", headers={"x-api-key": made["api_key"]})
    refusal(answer, 401, "invalid_api_key")


def test_the_last_admin_key_cannot_be_revoked(boss):
    refusal(boss.delete(f"/user/api-keys/{boss.key.id}"), 409, "last_admin_key")


# One request's record


def test_a_request_is_shown_with_its_tokens_and_price(served, ann):
    record = Generation(
        id=RequestId("req1"), account_id=ann.account_id, key_id=KeyId("k"), model=ModelId(ONE), dialect="openai_chat",
        streamed=True, started_at=NOON, vendor=ACME, usage=Usage(input=10, output=5), cost=Usd(12_345),
        markup_ppm=1_250_000, attempts=(Attempt(vendor=ACME, duration_ms=7),), duration_ms=9,
    )  # fmt: skip

    async def settled() -> None:
        hold = HoldId("req1")
        await served.grant_credit(ann.account_id, Usd.parse("1"), "welcome")
        opened = OpenHold(
            account_id=ann.account_id,
            hold_id=hold,
            wanted=Usd(20_000),
            least=Usd(1),
            at=NOON,
            lease_until=NOON,
            record=record,
        )
        await served.ledger.submit(opened)
        await served.ledger.submit(SettleHold(account_id=ann.account_id, hold_id=hold, record=record, at=NOON))

    run(settled)
    shown = ann.get("/v1/generations/req1").json()
    assert shown["cost_usd"] == "0.000012345"
    assert shown["usage"] == {"input": 10, "output": 5}
    assert shown["markup"] == "1.25"
    assert shown["attempts"] == [{"vendor": "acme", "duration_ms": 7}]
    assert "key_id" not in shown


def test_a_request_that_never_was_is_not_found(ann):
    told = refusal(ann.get("/v1/generations/nothing"), 404, "not_found")
    assert "nothing" in told["message"]
