"""`gatewayz prices`, run as operators run it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from adapters.sql.database import Database
from adapters.sql.ledger.group_commit import SqlLedger
from adapters.vendors.sandbox import MODELS
from domain.credits import Lot, Source
from domain.ids import AccountId, HoldId, KeyId, LotId, RequestId
from domain.ledger import GrantCredit, OpenHold, SettleHold
from domain.money import Usd
from domain.usage import Generation, Usage
from entrypoints.cli.main import REFUSED
from tests.fakes.shell import Shell

ECHO = "sandbox/echo"


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A gateway that the tests of this module share."""
    shell = Shell(tmp_path_factory.mktemp("gateway"))
    shell.json("prices", "list")
    return shell


def prices_of(shell: Shell, model: str) -> dict[str, Any]:
    (offer,) = shell.json("prices", "list", "--model", model)
    found: dict[str, Any] = offer
    return found


def test_a_price_of_every_kind_is_set_and_told(shell):
    view = shell.json(
        "prices", "set", ECHO, "--input", "1.25", "--output", "10", "--cache-read", "0.125", "--per-search", "0.01",
        "--tier", "200000:input=2.5,output=15", "--tier", "400000:input=5", "--image", "1024x1024:high=0.19",
        "--image", "1024x1024:low=0.01",
    )  # fmt: skip
    assert view["usd_per_million"] == {"input": "1.25", "output": "10", "cache_read": "0.125"}
    assert view["usd_each"] == {"searches": "0.01"}
    assert view["image_usd"] == {"1024x1024:high": "0.19", "1024x1024:low": "0.01"}
    assert view["over_input_tokens"]["400000"]["input"] == "5"
    assert prices_of(shell, ECHO)["price"]["id"] == view["id"]
    told = shell.run("prices", "set", ECHO, "--input", "1", "--output", "2", "--per-image", "0.04").stdout
    assert "USD each, images" in told
    assert "0.04" in shell.run("prices", "list", "--model", ECHO).stdout


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--tier", "200000"), "write it like 200000:input=2.5"),
        (("--tier", "5:input"), "write name=amount"),
        (("--tier", "5:input=1", "--tier", "5:input=2"), "no further tier"),
        (("--tier", "5:inptu=1"), "no price for inptu"),
        (("--image", "high"), "write name=amount"),
        (("--image", "a=1", "--image", "a=2"), "each name once"),
        (("--valid-from", "2020-01-01"), "cannot be in the past"),
        (("--input", "x"), "'input' cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(shell, options, told):
    given = ("--input", "1", "--output", "2") if "--input" not in options else ("--output", "2")
    assert told in shell.run("prices", "set", ECHO, *given, *options, status=REFUSED).stderr


def test_a_price_that_begins_later_is_in_the_history_and_not_yet_charged(shell):
    now = prices_of(shell, ECHO)["price"]
    later = (datetime.now(UTC) + timedelta(days=40)).strftime("%Y-%m-%d")
    view = shell.json("prices", "set", ECHO, "--input", "7", "--output", "8", "--valid-from", later, "--yes")
    assert view["valid_from"] == f"{later}T00:00:00Z"
    assert prices_of(shell, ECHO)["price"] == now
    history = shell.json("prices", "history", ECHO)
    assert history[0] == view
    assert now in history
    assert later in shell.run("prices", "history", ECHO).stdout


def test_markups_by_vendor_and_model_are_set_and_removed(shell):
    assert prices_of(shell, ECHO)["markup"] == "1"
    shell.run("prices", "markup", "set", "1.2", "--vendor", "sandbox")
    shell.run("prices", "markup", "set", "1.5", "--model", "sandbox/e*")
    shell.run("prices", "markup", "set", "3", "--plan", "pro")
    assert prices_of(shell, ECHO)["markup"] == "1.5"
    assert prices_of(shell, "sandbox/slow")["markup"] == "1.2"
    told = shell.run("prices", "markup", "list").stdout.splitlines()
    assert [line.split()[0] for line in told[1:]] == ["3", "1.5", "1.2"]
    shell.run("prices", "markup", "remove", "--model", "sandbox/e*")
    assert prices_of(shell, ECHO)["markup"] == "1.2"
    assert "No markup" in shell.run("prices", "markup", "remove", "--model", "sandbox/e*", status=REFUSED).stderr
    assert "more than 0" in shell.run("prices", "markup", "set", "0", status=REFUSED).stderr
    for scope in (("--vendor", "sandbox"), ("--plan", "pro")):
        shell.run("prices", "markup", "remove", *scope)


def test_nothing_of_the_sandbox_is_in_doubt(shell):
    assert shell.json("prices", "doubtful") == []
    assert "not in doubt" in shell.run("prices", "confirm", ECHO, status=REFUSED).stderr


def test_a_month_is_worked_out_again_and_a_changed_row_is_red(tmp_path):
    shell = Shell(tmp_path)
    shell.json("prices", "list")
    path = next(Path(tmp_path).rglob("*.db"))
    asyncio.run(charge(path))
    told = shell.json("prices", "rerate", "--month", "2026-11")
    assert (told["charges"], told["charged_usd"], told["recomputed_usd"]) == (1, "0.000003", "0.000003")
    assert told["vendors"][0]["margin_usd"] == "0.000002"
    assert "Each is what its price" in shell.run("prices", "rerate", "--month", "2026-11").stdout
    assert shell.json("prices", "rerate", "--month", "2026-12")["charges"] == 0
    asyncio.run(tamper(path))
    red = shell.json("prices", "rerate", "--month", "2026-11", status=1)
    assert [each["what"] for each in red["differences"]] == ["cost"]
    shown = shell.run("prices", "rerate", "--month", "2026-11", status=1).stdout
    assert "r1" in shown
    assert "1 difference;" in shown
    assert "2026-11" in shell.run("prices", "rerate", "--month", "November", status=REFUSED).stderr


async def charge(path: Path) -> None:
    """One request at the sandbox's price, which costs what its vendor does not tell."""
    database = Database(f"sqlite+aiosqlite:///{path}")
    ledger = SqlLedger(database)
    await ledger.open()
    (model,) = [each for each in MODELS if each.id == ECHO]
    price = model.offers[0].price
    assert price is not None
    at = datetime(2026, 11, 5, tzinfo=UTC)
    usage = Usage(input=2, output=1)
    record = Generation(
        id=RequestId("r1"), account_id=AccountId("ann"), key_id=KeyId("k"), model=model.id, dialect="openai_chat",
        streamed=False, started_at=at, vendor=price.vendor, price_id=price.id, markup_ppm=1_200_000, usage=usage,
        cost=price.cost(usage, 1_200_000), vendor_cost=Usd(1_000),
    )  # fmt: skip
    lot = Lot(id=LotId("l"), source=Source.ADMIN, granted=Usd(10**9), free=Usd(10**9), granted_at=at)
    await ledger.submit(GrantCredit(account_id=record.account_id, lot=lot, reason="a test"))
    await ledger.submit(
        OpenHold(
            account_id=record.account_id, hold_id=HoldId("r1"), wanted=Usd(10**6), least=Usd(1), at=at,
            lease_until=at + timedelta(hours=1), record=replace(record, cost=Usd(0)),
        )
    )  # fmt: skip
    await ledger.submit(SettleHold(account_id=record.account_id, hold_id=HoldId("r1"), record=record, at=at))
    await ledger.close()
    await database.close()


async def tamper(path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{path}")
    async with database.transaction() as connection:
        await connection.execute(text("UPDATE generations SET cost_nanos = cost_nanos + 1"))
    await database.close()
