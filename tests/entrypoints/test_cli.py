"""The command line, run as operators and scripts run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from entrypoints.cli.main import MISCONFIGURED, REFUSED, USAGE
from tests.fakes.shell import Shell

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shell(tmp_path_factory) -> Shell:
    """A gateway with one account, which the tests of this module share."""
    shell = Shell(tmp_path_factory.mktemp("gateway"))
    shell.json("accounts", "create", "ann@example.org", "--name", "Ann")
    return shell


def test_help_needs_nothing_and_names_every_command(tmp_path):
    told = subprocess.run(
        [sys.executable, "-m", "entrypoints.cli.main", "--help"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for command in (
        "serve",
        "worker",
        "migrate",
        "doctor",
        "accounts",
        "keys",
        "credits",
        "prices",
        "catalog",
        "ledger",
    ):
        assert command in told
    assert list(tmp_path.iterdir()) == []


def test_an_account_is_found_by_its_address(shell):
    (listed,) = shell.json("accounts", "list")["users"]
    assert (listed["email"], listed["name"]) == ("ann@example.org", "Ann")
    assert listed["id"] in shell.run("accounts", "show", "ann@example.org").stdout


def test_a_key_is_made_for_a_script(shell):
    made = shell.json(
        "keys", "create", "ann@example.org", "--name", "script", "--max-requests", "5", "--scope", "inference"
    )
    assert list(made)[:2] == ["id", "key"]
    assert made["key"].startswith("gw_live_")
    assert made["max_requests"] == 5
    listed = shell.run("keys", "list", "ann@example.org").stdout
    assert made["id"] in listed
    assert made["key"] not in listed
    assert shell.json("keys", "revoke", "ann@example.org", made["id"])["revoked_at"]


def test_a_refusal_is_a_reason_and_a_status(shell):
    refused = shell.run("accounts", "create", "ANN@example.org", status=REFUSED)
    assert refused.stdout == ""
    assert "has an account" in refused.stderr
    refused = shell.run("accounts", "create", "ANN@example.org", "--json", status=REFUSED)
    assert json.loads(refused.stderr)["error"]["code"] == "email_taken"


def test_credit_is_given_taken_and_shown(shell):
    grant = ("credits", "grant", "ann@example.org", "12.5", "--reason", "welcome", "--reference", "spring")
    assert shell.json(*grant)["spendable_usd"] == "12.5"
    shell.run(*grant, status=REFUSED)
    assert "-$2.5" in shell.run("credits", "adjust", "ann@example.org", "-2.5", "--reason", "fee").stdout
    shell.run("credits", "adjust", "ann@example.org", "-20", "--reason", "fee", status=REFUSED)
    assert shell.json("credits", "balance", "ann@example.org")["spendable_usd"] == "10"
    assert "sum of its transfers" in shell.run("ledger", "verify").stdout
    assert shell.json("ledger", "verify") == {"differences": []}


def test_wrong_usage_is_told_apart_from_a_refusal(shell):
    shell.run("keys", "create", "ann@example.org", status=USAGE)
    shell.run("credits", "grant", "ann@example.org", status=USAGE)
    shell.run("dance", status=USAGE)
    shell.run("accounts", "list", "--limit", "many", status=USAGE)


def test_wrong_settings_have_a_status_of_their_own(shell):
    told = shell.run("accounts", "list", status=MISCONFIGURED, GATEWAYZ_LOG_LEVL="info", PORT="x").stderr
    assert "GATEWAYZ_LOG_LEVEL" in told
    assert "PORT" in told


def test_a_database_that_does_not_answer_is_told_without_its_password(shell):
    url = "postgresql://nobody:canary@127.0.0.1:1/gateway"
    told = shell.run("accounts", "list", status=REFUSED, DATABASE_URL=url).stderr
    assert "DATABASE_URL" in told
    findings = shell.json("doctor", status=REFUSED, DATABASE_URL=url)
    (database,) = [finding for finding in findings if finding["subject"] == "Database"]
    assert database["state"] == "bad"
    assert database["cure"]
    assert "canary" not in json.dumps(findings) + told


def test_the_doctor_names_each_trouble_with_its_cure(shell):
    findings = shell.json(
        "doctor",
        status=REFUSED,
        REDIS_URL="redis://127.0.0.1:1",
        GATEWAYZ_VENDORS='[{"slug":"local","base_url":"http://127.0.0.1:1/v1","wire":"openai","api_key":"canary"}]',
        HOST="0.0.0.0",
    )
    states = {finding["subject"]: finding["state"] for finding in findings}
    assert states == {
        "Settings": "good",
        "Address": "note",
        "Database": "good",
        "Redis": "bad",
        "Vendor local": "bad",
    }
    assert all(finding["cure"] for finding in findings if finding["state"] != "good")
    assert "canary" not in json.dumps(findings)


def test_a_healthy_gateway_leaves_the_doctor_nothing_to_do(shell):
    told = shell.run("doctor").stdout
    assert "FAIL" not in told
    assert "Prices" not in told


def test_the_doctor_tells_of_models_without_a_price(shell):
    local = '[{"slug":"local","base_url":"http://127.0.0.1:1/v1","wire":"openai","models":["llama3","phi"]}]'
    findings = shell.json("doctor", status=REFUSED, GATEWAYZ_VENDORS=local)
    (prices,) = [finding for finding in findings if finding["subject"] == "Prices"]
    assert (prices["state"], "2 of local" in prices["told"]) == ("note", True)
    assert "gatewayz prices set" in prices["cure"]


def test_prices_and_models_are_listed(shell):
    assert "sandbox/echo" in shell.run("prices", "list").stdout
    assert "sandbox/echo" in [model["id"] for model in shell.json("catalog", "list")]
    shell.run("prices", "set", "sandbox/echo", "--input", "0", "--output", "0", status=REFUSED)


def test_the_schema_is_brought_up_to_date_once(tmp_path):
    shell = Shell(tmp_path)
    assert shell.json("migrate") == shell.json("migrate")
