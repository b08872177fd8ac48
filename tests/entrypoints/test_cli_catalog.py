"""`gatewayz vendors` and `gatewayz catalog`, as operators type them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from entrypoints.cli.main import REFUSED
from tests.fakes.shell import Shell

VENDORS = json.dumps(
    [
        {"slug": slug, "base_url": f"http://127.0.0.1:9/{slug}", "wire": "openai", "api_key": "k", "models": ["m"]}
        for slug in ("mine", "theirs")
    ]
)
SETTINGS: dict[str, Any] = {"GATEWAYZ_VENDORS": VENDORS}


@pytest.fixture(scope="module")
def shell(tmp_path_factory) -> Shell:
    """A gateway with two vendors, which the tests of this module share."""
    shell = Shell(tmp_path_factory.mktemp("gateway"))
    shell.run("prices", "set", "mine/m", "--input", "1", "--output", "2", **SETTINGS)
    return shell


def listed(shell: Shell) -> list[str]:
    models = shell.json("catalog", "list", **SETTINGS)
    return [model["id"] for model in models if not model["id"].startswith("sandbox/")]


def test_vendors_are_listed_with_what_they_serve(shell):
    vendors = {each["vendor"]: each for each in shell.json("vendors", "list", **SETTINGS)}
    assert {"mine", "theirs", "sandbox"} <= set(vendors)
    assert (vendors["mine"]["status"], vendors["mine"]["offers"], vendors["mine"]["priced"]) == ("ok", 1, 1)
    assert vendors["theirs"]["priced"] == 0
    assert "mine" in shell.run("vendors", "list", **SETTINGS).stdout


def test_a_vendor_stays_off_until_it_is_switched_on(shell):
    assert "mine is off" in shell.run("vendors", "disable", "mine", **SETTINGS).stdout
    assert listed(shell) == []
    assert "off" in shell.run("vendors", "list", **SETTINGS).stdout
    assert shell.json("vendors", "enable", "mine", **SETTINGS)["status"] == "ok"
    assert listed(shell) == ["mine/m"]


def test_an_unknown_vendor_is_refused_with_those_that_there_are(shell):
    assert "mine, sandbox, theirs" in shell.run("vendors", "disable", "yours", status=REFUSED, **SETTINGS).stderr


def test_an_offer_is_added_priced_and_taken_back(shell):
    added = shell.run("catalog", "add", "theirs", "x-large", "--model", "acme/x", "--context", "9000", **SETTINGS)
    assert "theirs serves acme/x now." in added.stdout
    assert "gatewayz prices set acme/x --vendor theirs" in added.stdout
    shell.run("prices", "set", "acme/x", "--vendor", "theirs", "--input", "1", "--output", "1", **SETTINGS)
    assert "acme/x" in listed(shell)
    shell.run("catalog", "remove", "theirs", "x-large", **SETTINGS)
    assert "acme/x" not in listed(shell)
    shell.run("catalog", "remove", "theirs", "x-large", status=REFUSED, **SETTINGS)


def test_a_model_gets_a_further_name(shell):
    assert "quick means mine/m now." in shell.run("catalog", "alias", "quick", "mine/m", **SETTINGS).stdout
    assert shell.json("catalog", "aliases", **SETTINGS)["aliases"] == [{"alias": "quick", "model": "mine/m"}]
    shell.run("catalog", "alias", "quick", "--remove", **SETTINGS)
    assert shell.json("catalog", "aliases", **SETTINGS)["aliases"] == []
    assert "Name the model" in shell.run("catalog", "alias", "quick", status=REFUSED, **SETTINGS).stderr


def test_a_vendors_own_name_of_a_model_is_told(shell):
    shell.run("catalog", "alias", "m", "mine/m", "--vendor", "theirs", **SETTINGS)
    shell.run("prices", "set", "mine/m", "--vendor", "theirs", "--input", "1", "--output", "2", **SETTINGS)
    (model,) = [each for each in shell.json("catalog", "list", **SETTINGS) if each["id"] == "mine/m"]
    assert model["providers"] == ["mine", "theirs"]
    shell.run("catalog", "alias", "m", "--vendor", "theirs", "--remove", **SETTINGS)
