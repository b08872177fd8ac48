"""/admin/vendors and /admin/catalog: switching, naming, adding."""

from __future__ import annotations

import pytest

from domain.ids import ModelId
from domain.ports.catalog import AddedOffer, Alias, Joined, Switch
from tests.fakes.served import ACME, OTHER, refusal, run


def test_a_vendor_is_switched_off_and_on(boss, client, served):
    off = boss.post("/admin/vendors/other/disable").json()
    assert (off["vendor"], off["status"]) == ("other", "off")
    assert [each["slug"] for each in client.get("/v1/providers").json()["data"]] == ["acme"]
    assert client.get("/v1/models/acme/one").json()["providers"] == ["acme"]
    told = refusal(client.get("/v1/models/hub/author/deep"), 404, "model_not_found")
    assert "switched off" in told["message"]
    refusal(client.get("/v1/providers/other/stats"), 404, "vendor_not_found")
    assert [each["status"] for each in boss.get("/admin/vendors").json()["vendors"]] == ["ok", "off"]
    assert run(served.overrides.all) == [Switch(OTHER, on=False)]
    on = boss.post("/admin/vendors/other/enable").json()
    assert on["status"] == "ok"
    assert client.get("/v1/models/hub/author/deep").status_code == 200
    assert served.told == ["catalog", "catalog"]


def test_a_vendor_that_is_not_there_cannot_be_switched_or_shown(boss):
    for path in ("enable", "disable"):
        told = refusal(boss.post(f"/admin/vendors/acne/{path}"), 404, "vendor_not_found")
        assert "acme, other" in told["message"]
    refusal(boss.get("/admin/vendors/acne"), 404, "vendor_not_found")
    assert boss.get("/admin/vendors/acme").json()["priced"] == 2


def test_a_vendor_is_asked_for_its_models(boss):
    assert boss.post("/admin/vendors/other/refresh").json() == {"vendor": "other", "models": 3, "failure": None}


def test_names_and_offers_are_added_shown_and_taken_back(boss, served):
    assert boss.post("/admin/catalog/aliases", alias="quick", model="one").json() == {
        "alias": "quick", "model": "acme/one",
    }  # fmt: skip
    boss.post("/admin/catalog/names", vendor="acme", vendor_model="theirs", model="meta/one")
    added = boss.post("/admin/catalog/offers", vendor="other", vendor_model="x", model="meta/x", context_length=9)
    assert added.status_code == 200, added.text
    said = run(served.overrides.all)
    assert [type(each) for each in said] == [Alias, Joined, AddedOffer]
    assert said[0] == Alias("quick", ModelId("acme/one"))
    shown = boss.get("/admin/catalog/overrides").json()
    assert shown["names"] == [{"vendor": "acme", "vendor_model": "theirs", "model": "meta/one"}]
    assert shown["offers"][0]["context_length"] == 9
    for path in (
        "aliases?alias=quick",
        "names?vendor=acme&vendor_model=theirs",
        "offers?vendor=other&vendor_model=x",
    ):
        assert boss.delete(f"/admin/catalog/{path}").status_code == 204
        refusal(boss.delete(f"/admin/catalog/{path}"), 404, "not_found")
    assert run(served.overrides.all) == []
    assert served.catalog.reloads == 6


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param"),
    [
        ("aliases", {"alias": "acme/two", "model": "one"}, 400, "invalid_request", "alias"),
        ("aliases", {"alias": " x", "model": "one"}, 400, "invalid_request", "alias"),
        ("aliases", {"alias": "quick", "model": "nobody/knows"}, 404, "model_not_found", "model"),
        ("aliases", {"alias": "quick"}, 400, "invalid_request", "model"),
        ("names", {"vendor": "acne", "vendor_model": "x", "model": "a/x"}, 404, "vendor_not_found", "vendor"),
        ("names", {"vendor": "acme", "vendor_model": "x", "model": "x"}, 400, "invalid_request", "model"),
        ("offers", {"vendor": "acme", "vendor_model": "x", "model": "x"}, 400, "invalid_request", "model"),
        ("offers", {"vendor": "acme", "vendor_model": "x", "context_length": 0}, 400, "invalid_request", None),
        ("offers", {"vendor": "acme", "vendor_model": "x", "colour": "red"}, 400, "invalid_request", None),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(boss, served, path, body, status, code, param):
    told = refusal(boss.post(f"/admin/catalog/{path}", **body), status, code)
    assert param is None or told["param"] == param
    assert run(served.overrides.all) == []


def test_who_is_no_operator_can_switch_nothing(ann, served):
    for path in ("/admin/vendors/acme/disable", "/admin/catalog/aliases"):
        refusal(ann.post(path, alias="x", model="one"), 403, "key_not_allowed")
    assert ACME not in served.catalog.catalog.off
