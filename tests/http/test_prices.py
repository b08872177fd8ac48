"""/admin/prices and /admin/markups."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from domain.catalog import Catalog
from domain.pricing import Doubt
from tests.fakes.served import ACME, CATALOG, SOON, model, offer, refusal, run
from tests.fakes.time import NOON


def test_prices_are_listed_by_offer(boss):
    one = boss.get("/admin/prices", limit=3).json()
    two = boss.get("/admin/prices", limit=3, cursor=one["next_cursor"]).json()
    assert [(each["model"], each["vendor"], each["markup"]) for each in one["offers"] + two["offers"]] == [
        ("acme/one", "acme", "1"),
        ("acme/one", "other", "1.25"),
        ("acme/soon", "acme", "1"),
        ("acme/two", "acme", "1"),
        ("hub/author/deep", "other", "1"),
    ]
    assert two["next_cursor"] is None
    assert one["offers"][1]["price"]["usd_per_million"] == {"input": "2", "output": "2"}


def test_what_lacks_a_price_can_be_listed_alone(boss):
    (found,) = boss.get("/admin/prices", unpriced="true").json()["offers"]
    assert (found["model"], found["price"]) == ("acme/soon", None)
    (found,) = boss.get("/admin/prices", model="acme/one", vendor="other").json()["offers"]
    assert found["vendor"] == "other"


def test_a_price_is_set_in_the_name_of_who_set_it(served, boss):
    answer = boss.post("/admin/prices", model="acme/soon", input_usd="1.25", output_usd="10", cache_read_usd="0.125")
    assert answer.status_code == 201
    shown = answer.json()
    assert shown["usd_per_million"] == {"input": "1.25", "output": "10", "cache_read": "0.125"}
    assert (shown["source"], shown["author"], shown["vendor"]) == ("operator", "boss@example.org", "acme")
    (price,) = run(served.prices.current, NOON)
    assert price.rates.input == 1_250_000_000
    assert price.id == shown["id"]


def test_a_price_of_every_kind_is_set_and_shown(boss):
    tier = {"over_input_tokens": 200_000, "input_usd": "2.5", "output_usd": "15"}
    later = (NOON + timedelta(days=30)).isoformat()
    answer = boss.post(
        "/admin/prices", model="acme/soon", input_usd="1.25", output_usd="10", images_usd="0.04", searches_usd="0.01",
        characters_usd="15", tiers=[tier], image_usd={"1024x1024:high": "0.19"}, valid_from=later,
    )  # fmt: skip
    shown = answer.json()
    assert shown["usd_per_million"] == {"input": "1.25", "output": "10", "characters": "15"}
    assert shown["usd_each"] == {"images": "0.04", "searches": "0.01"}
    assert shown["image_usd"] == {"1024x1024:high": "0.19"}
    assert shown["over_input_tokens"] == {"200000": {"input": "2.5", "output": "15", "characters": "15"}}
    assert shown["valid_from"].startswith("2026-04-09")
    boss.post("/admin/prices", model="acme/soon", input_usd="1", output_usd="1", confirmed=True)
    history = boss.get("/admin/prices/history", model="acme/soon").json()["prices"]
    assert [each["usd_per_million"]["input"] for each in history] == ["1.25", "1"]
    assert history[0] == shown


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"model": "acme/soon", "input_usd": "x", "output_usd": "1"}, "invalid_request", "input_usd"),
        ({"model": "acme/soon", "input_usd": "1"}, "invalid_request", "output_usd"),
        ({"model": "acme/soon", "input_usd": 1, "output_usd": "1"}, "invalid_request", "input_usd"),
        ({"model": "acme/soon", "input_usd": "0", "output_usd": "0"}, "invalid_request", "free"),
        (
            {"model": "acme/one", "vendor": "acme", "input_usd": "90", "output_usd": "90"},
            "price_implausible",
            "input_usd",
        ),
        ({"model": "acme/one", "input_usd": "1", "output_usd": "1"}, "invalid_request", "vendor"),
        ({"model": "acme/soon", "image_usd": {"a": "99"}}, "invalid_request", "image_usd"),
        (
            {"model": "acme/soon", "input_usd": "1", "output_usd": "1", "valid_from": "2026-01-01T00:00:00Z"},
            "invalid_request",
            "valid_from",
        ),
        (
            {"model": "acme/soon", "input_usd": "1", "output_usd": "1", "valid_from": "2027-01-01T00:00:00"},
            "invalid_request",
            "valid_from",
        ),
        (
            {"model": "acme/soon", "input_usd": "1", "output_usd": "1", "tiers": 2 * [{"over_input_tokens": 5}]},
            "invalid_request",
            "tiers",
        ),
    ],
)
def test_a_price_that_is_likely_a_slip_is_refused_with_its_field(boss, body, code, param):
    assert refusal(boss.post("/admin/prices", **body), 400, code)["param"] == param


def test_history_needs_a_model(boss):
    refusal(boss.get("/admin/prices/history"), 400, "invalid_request")


def test_doubtful_prices_are_told_and_confirmed(served, boss):
    listed = offer(ACME, SOON, 100).price
    doubted = replace(offer(ACME, SOON, None), doubt=Doubt("its list says a lot", listed))
    served.catalog.catalog = Catalog([*CATALOG.models.values(), model("acme/soon", doubted)], CATALOG.vendors)
    (told,) = boss.get("/admin/prices/doubtful").json()["offers"]
    assert (told["model"], told["vendor"], told["reason"]) == ("acme/soon", "acme", "its list says a lot")
    assert told["listed"]["usd_per_million"] == {"input": "100", "output": "2"}
    assert told["used"] is None
    assert boss.get("/admin/prices/doubtful", vendor="other").json() == {"offers": [], "next_cursor": None}
    confirmed = boss.post("/admin/prices/confirm", model="acme/soon").json()
    assert (confirmed["source"], confirmed["author"]) == ("operator", "boss@example.org")
    assert confirmed["usd_per_million"] == {"input": "100", "output": "2"}
    refusal(boss.post("/admin/prices/confirm", model="acme/two"), 400, "invalid_request")


def test_a_markup_is_set_shown_and_removed(boss):
    answer = boss.put("/admin/markups", markup="1.2", vendor="acme")
    assert answer.status_code == 200
    assert answer.json()["markup"] == "1.2"
    boss.put("/admin/markups", markup="1.5", model="acme/*", plan="pro")
    rules = boss.get("/admin/markups").json()["markups"]
    assert [(each["markup"], each["vendor"], each["model"], each["plan"]) for each in rules] == [
        ("1.5", None, "acme/*", "pro"),
        ("1.2", "acme", None, None),
    ]
    assert rules[0]["author"] == "boss@example.org"
    assert boss.delete("/admin/markups?vendor=acme").status_code == 204
    refusal(boss.delete("/admin/markups?vendor=acme"), 404, "markup_not_found")


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"markup": "0"}, 400, "invalid_request", "markup"),
        ({"markup": 1.2}, 400, "invalid_request", "markup"),
        ({}, 400, "invalid_request", "markup"),
        ({"markup": "1.2", "vendor": "nobody"}, 404, "vendor_not_found", "vendor"),
        ({"markup": "1.2", "account": "ann"}, 400, "invalid_request", "account"),
    ],
)
def test_a_markup_that_cannot_be_meant_is_refused(boss, body, status, code, param):
    assert refusal(boss.put("/admin/markups", **body), status, code)["param"] == param
