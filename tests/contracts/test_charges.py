"""Charges are read back as they were booked, and worked out again to the nano-dollar."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import text

from adapters.sql.database import Database
from adapters.sql.ledger.charges import SqlCharges
from adapters.sql.ledger.group_commit import SqlLedger
from adapters.sql.ledger.tables import generations, transfers
from adapters.sql.prices import SqlPrices, prices
from application.rerating import RerateMonth, Rerating
from domain.errors import InvalidRequest
from domain.ids import AccountId, HoldId, ModelId, PriceId, RequestId, VendorSlug
from domain.ledger import OpenHold, SettleHold
from domain.money import ZERO, Usd
from domain.pricing import ImageRate, Price, PriceSource, Rates, Tier
from domain.usage import Generation, Outcome, Usage
from tests.contracts.ledgers import (  # noqa: F401 - the fixtures are asked for by their names
    ANN,
    BOB,
    KEY,
    OpenLedger,
    every_database,
    grant,
    ledgers_on_one_database,
    migrated_file,
    migrated_schema,
)

pytestmark = pytest.mark.anyio

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
ACME = VendorSlug("acme")
PRICE = Price(
    id=PriceId("p1"),
    vendor=ACME,
    model=ModelId("acme/one"),
    rates=Rates(input=123_456_789, output=7_000_000_001, cache_read=1, images=40_000 * 10**9),
    valid_from=NOVEMBER,
    source=PriceSource.VENDOR,
    tiers=(Tier(1_000, Rates(input=246_913_578, output=9_000_000_001, images=1)),),
    image_rates=(ImageRate("big", 190_000 * 10**9),),
)
FREE = replace(PRICE, id=PriceId("free"), rates=Rates(input=0, output=0), tiers=(), image_rates=(), free=True)


def record(name: str, usage: Usage, account_id: AccountId = ANN, **others: Any) -> Generation:
    """A request as it is charged: at the price that it names."""
    made = Generation(
        id=RequestId(name),
        account_id=account_id,
        key_id=KEY,
        model=PRICE.model,
        dialect="openai_chat",
        streamed=False,
        usage=usage,
        **{
            "started_at": NOVEMBER + timedelta(days=3),
            "vendor": ACME,
            "price_id": PRICE.id,
            "markup_ppm": 1_234_567,
            **others,
        },
    )
    price = {PRICE.id: PRICE}.get(made.price_id)
    return made if price is None else replace(made, cost=price.cost(usage, made.markup_ppm))


async def charge(ledger: SqlLedger, made: Generation, held: int = 10**9) -> None:
    at = made.started_at
    await ledger.submit(
        OpenHold(
            account_id=made.account_id,
            hold_id=HoldId(made.id),
            wanted=Usd(held),
            least=Usd(held),
            at=at,
            lease_until=at + timedelta(hours=1),
            record=made,
        )
    )
    await ledger.submit(SettleHold(account_id=made.account_id, hold_id=HoldId(made.id), record=made, at=at))


async def a_month(database: Database, ledger: SqlLedger) -> None:
    """One charge of every kind."""
    async with database.transaction() as connection:
        # Of an earlier test on the same server.
        await connection.execute(prices.delete())
    await SqlPrices(database).record([PRICE, FREE])
    await ledger.submit(grant("a", 10**12, ANN))
    await ledger.submit(grant("b", 2_000, BOB))
    for made in (
        record("plain", Usage(input=999, cache_read=1, output=3, requests=1)),
        record("tiered", Usage(input=999, cache_read=2, output=3, requests=1), vendor_cost=Usd(17)),
        record("images", Usage(images=3, image_variant="big")),
        record("unmarked", Usage(input=1), markup_ppm=1_000_000, vendor_cost=Usd(0)),
        record("free", Usage(input=50, output=60), price_id=FREE.id),
        record("nothing", Usage(), outcome=Outcome.FAILED, price_id=PriceId(""), vendor=VendorSlug("")),
        record("recovered", Usage(input=5, output=6), outcome=Outcome.RECOVERED, estimated=True),
    ):
        await charge(ledger, made)
    broken = record("broken", Usage(input=500, output=600), outcome=Outcome.BROKEN_OFF)
    await charge(ledger, replace(broken, cost=ZERO, loss=broken.cost))
    # Dearer than its hold and than all that there is: the house bears the rest.
    await charge(ledger, record("dear", Usage(input=400, output=500), BOB), held=1_000)
    for name, at in (
        ("before", NOVEMBER - MOMENT),
        ("first", NOVEMBER),
        ("last", DECEMBER - MOMENT),
        ("after", DECEMBER),
    ):
        await charge(ledger, record(name, Usage(input=7), started_at=at))


async def rerated(database: Database, month: str = "2026-11", page: int = 3) -> Rerating:
    return await RerateMonth(SqlCharges(database), SqlPrices(database), page)(month)


async def test_a_month_comes_out_as_it_was_charged(database: Database, open_ledger: OpenLedger) -> None:
    await a_month(database, await open_ledger())
    result = await rerated(database)
    assert (result.differences, result.found, result.charges) == ([], 0, 11)
    assert result.charged == result.recomputed
    assert result.charged > PRICE.cost(Usage(images=3, image_variant="big"))
    assert [(await rerated(database, month)).charges for month in ("2026-10", "2026-12", "2027-01")] == [1, 1, 0]
    for page in (1, 11, 1_000):
        assert (await rerated(database, page=page)) == result


async def test_what_vendors_tell_of_their_costs_is_added_up(database: Database, open_ledger: OpenLedger) -> None:
    await a_month(database, await open_ledger())
    (acme,) = (await rerated(database)).vendors
    told = [record("tiered", Usage(input=999, cache_read=2, output=3, requests=1)), record("u", Usage(input=1))]
    charged = told[0].cost + PRICE.cost(told[1].usage)
    assert (acme.vendor, acme.requests, acme.told) == (ACME, 10, 2)
    assert (acme.charged_told, acme.vendor_cost, acme.margin) == (charged, Usd(17), charged - Usd(17))


UNTOUCHED = {"cost": None, "cost in its record": None, "loss in its record": None, "booked by the ledger": None}


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"cost_nanos": 5}, {"cost"}),
        ({"cost": Usd(5)}, {"cost in its record"}),
        ({"loss": Usd(5)}, {"loss in its record"}),
        ({"usage": Usage(input=1_000_000)}, {"cost", "cost in its record", "booked by the ledger"}),
        ({"markup_ppm": 3_000_000}, {"cost", "cost in its record", "booked by the ledger"}),
        ({"outcome": Outcome.FAILED}, {*UNTOUCHED}),
        ({"price_id": PriceId("")}, {"cost", "cost in its record", "booked by the ledger"}),
        ({"price_id": PriceId("gone")}, {"the price version 'gone' is not stored"}),
    ],
)
async def test_a_row_that_was_tampered_with_is_found(
    database: Database, open_ledger: OpenLedger, changed: Mapping[str, Any], what: set[str]
) -> None:
    ledger = await open_ledger()
    await a_month(database, ledger)
    stored = await ledger.generation(ANN, "plain")
    assert stored is not None
    values: dict[str, Any] = dict(changed)
    if "cost_nanos" not in changed:
        values = {"record": msgspec.json.encode(replace(stored, **changed)).decode()}
    async with database.transaction() as connection:
        await connection.execute(generations.update().where(generations.c.id == "plain").values(**values))
    result = await rerated(database)
    assert {each.what for each in result.differences} == what
    assert {(each.account_id, each.request_id) for each in result.differences} == {(ANN, "plain")}
    assert result.found == len(what)


async def test_a_price_that_was_tampered_with_is_found(database: Database, open_ledger: OpenLedger) -> None:
    await a_month(database, await open_ledger())
    async with database.transaction() as connection:
        await connection.execute(
            text("UPDATE prices SET rates = :rates WHERE id = 'p1'"),
            {"rates": '{"input":246913578,"output":7000000001}'},
        )
    result = await rerated(database)
    assert {each.request_id for each in result.differences} >= {"plain", "recovered", "broken", "dear"}
    assert result.charged != result.recomputed


async def test_a_charge_that_the_ledger_booked_otherwise_is_found(database: Database, open_ledger: OpenLedger) -> None:
    ledger = await open_ledger()
    await a_month(database, ledger)
    forged = {
        "account_id": ANN,
        "id": "excess:plain",
        "at": NOVEMBER + timedelta(days=3),
        "kind": "excess",
        "debit": ANN,
        "credit": "house:revenue",
        "amount": 1,
        "reference": "plain",
        "reason": "",
        "draws": "[]",
    }
    async with database.transaction() as connection:
        await connection.execute(transfers.insert(), forged)
    (difference,) = (await rerated(database)).differences
    assert (difference.request_id, difference.what) == ("plain", "booked by the ledger")
    assert difference.stored_nanos == (difference.recomputed_nanos or 0) + 1


async def test_many_pages_are_read_one_by_one(database: Database) -> None:
    made = record("model", Usage(input=3, output=4))
    async with database.transaction() as connection:
        await connection.execute(prices.delete())
    await SqlPrices(database).record([PRICE])
    rows, booked = [], []
    for n in range(5_000):
        one = replace(made, id=RequestId(f"r{n}"), account_id=AccountId(f"a{n % 7}"))
        rows.append(
            {
                "account_id": one.account_id, "id": one.id, "started_at": one.started_at, "key_id": KEY,
                "model": one.model, "vendor": ACME, "outcome": "completed", "input_tokens": 3, "output_tokens": 4,
                "cost_nanos": one.cost.nanos, "record": msgspec.json.encode(one).decode(),
            }
        )  # fmt: skip
        booked.append(
            {
                "account_id": one.account_id, "id": f"charge:{one.id}", "at": one.started_at, "kind": "charge",
                "debit": one.account_id, "credit": "house:revenue", "amount": one.cost.nanos, "reference": one.id,
                "reason": "", "draws": "[]",
            }
        )  # fmt: skip
    async with database.transaction() as connection:
        await connection.execute(generations.insert(), rows)
        await connection.execute(transfers.insert(), booked)
    result = await rerated(database, page=500)
    assert (result.charges, result.found) == (5_000, 0)
    assert result.charged == Usd(5_000 * made.cost.nanos)
    async with database.transaction() as connection:
        await connection.execute(generations.update().values(cost_nanos=0))
    result = await rerated(database, page=500)
    assert (result.found, len(result.differences)) == (5_000, 1_000)


@pytest.mark.parametrize(
    "month", ["", "2026", "2026-13", "2026-00", "26-01", "2026-1", "2026-01-01", "1999-12", "٢٠٢٦-01"]
)
async def test_what_is_no_month_is_refused(database: Database, month: str) -> None:
    with pytest.raises(InvalidRequest, match="2026-11"):
        await rerated(database, month)
