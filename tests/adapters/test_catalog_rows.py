"""A vendor's models list may hold anything; what is taken up of it harms nobody."""

from __future__ import annotations

import pytest

from adapters.catalog.live import LiveCatalog
from adapters.catalog.rows import ALIASES_MAX, ID_LENGTH_MAX, taken_up
from adapters.sql.catalog_entries import SqlCatalogEntries
from adapters.sql.overrides import SqlOverrides
from adapters.sql.prices import SqlPrices
from domain.catalog import CANCEL_AND_BILL_PRODUCED
from domain.ids import VendorSlug
from domain.ports.vendors import LISTED, ListedModel
from domain.pricing import Rates
from tests.contracts.repositories import every_adapter, fresh_database, on_postgres, tables_once
from tests.fakes.time import FakeClock

__all__ = ["every_adapter", "tables_once"]

RATES = Rates(input=10, output=20)
HOSTILE = ("", " ", "a\0b", "a\nb", " a", "a\u202eb", "a\ud800", "x" * (ID_LENGTH_MAX + 1), "m" * 10_000_000)


def row(id_: str, **members) -> ListedModel:
    return ListedModel(vendor_model=id_, rates=RATES, **members)


def test_rows_that_nobody_could_ask_for_are_left_out() -> None:
    good = row("author/../a/b:free", name="Grüezi", description="One\ntwo")

    assert taken_up([*map(row, HOSTILE), good]) == [good]
    assert taken_up([good])[0] is good


def test_what_a_row_says_beside_its_id_is_cut() -> None:
    told = row(
        "a",
        name="N\0" + "x" * 10_000_000,
        description="d" * 10_000_000,
        canonical="b\0",
        aliases=("ok", *HOSTILE, *map(str, range(1_000))),
        input_modalities=("text", "t" * 1_000_000),
    )
    [cut] = taken_up([told])

    assert cut.name.startswith("Nxx")
    assert len(cut.name) < 201
    assert len(cut.description) == 4_000
    assert cut.canonical == ""
    assert len(cut.aliases) == ALIASES_MAX
    assert cut.aliases[0] == "ok"
    assert cut.input_modalities == ("text",)


class Hostile:
    slug = VendorSlug("hostile")
    abort_policy = CANCEL_AND_BILL_PRODUCED
    listing = LISTED

    async def list_models(self) -> list[ListedModel]:
        return [*map(row, HOSTILE[2:]), row("good")]


@pytest.fixture(name="database", params=["sqlite", on_postgres])
async def every_database(request: pytest.FixtureRequest, tmp_path):
    async with fresh_database(request, tmp_path) as database:
        yield database


@pytest.mark.anyio
async def test_one_hostile_list_does_not_stop_prices_from_being_kept(database) -> None:
    prices = SqlPrices(database)
    catalog = LiveCatalog(
        [Hostile()],
        SqlCatalogEntries(database),
        SqlOverrides(database),
        prices,
        FakeClock(),
        static=(),
        versions=prices,
    )

    [refreshed] = await catalog.refresh()

    assert refreshed.failure is None
    assert [model.id for model in catalog.current().listed()] == ["hostile/good"]
    assert [price.model for price in await prices.latest_recorded()] == ["hostile/good"]
