"""Prices that begin later, markups and doubts in the catalogue that requests see."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from adapters.catalog.live import CLOCK_TRUSTED_S, LiveCatalog
from adapters.memory.repositories import (
    MemoryCatalogEntries,
    MemoryMarkups,
    MemoryOverrides,
    MemoryPrices,
    MemoryRevisions,
)
from domain.catalog import CANCEL_AND_BILL_PRODUCED, Offer
from domain.errors import StorageUnavailable
from domain.ids import ModelId, PlanId, PriceId, VendorSlug
from domain.markups import Markup, MarkupScope
from domain.ports.vendors import LISTED, ListedModel
from domain.pricing import Price, PriceSource, Rates
from tests.fakes.time import NOON, FakeClock

pytestmark = pytest.mark.anyio

ALPHA, BETA = VendorSlug("alpha"), VendorSlug("beta")
MODEL = ModelId("meta/llama")
USD = 10**9


class Lister:
    abort_policy = CANCEL_AND_BILL_PRODUCED
    listing = LISTED

    def __init__(self, slug: VendorSlug, usd: int) -> None:
        self.slug = slug
        self.usd = usd

    async def list_models(self) -> list[ListedModel]:
        return [ListedModel(vendor_model=MODEL, rates=Rates(input=self.usd * USD, output=self.usd * USD))]


class Library:
    def knows(self, vendor: VendorSlug) -> bool:
        return False

    async def quotes(self, pairs: object) -> dict[Any, Any]:
        return {}


class SleepyClock(FakeClock):
    """Sleeping moves it on, a little less than was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.naps: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.advance(max(seconds * 0.75, 0.001))
        await asyncio.sleep(0)


class ShakyPrices(MemoryPrices):
    away = 0

    async def current(self, at: datetime) -> Any:
        if self.away:
            self.away -= 1
            raise StorageUnavailable("away")
        return await super().current(at)


class World:
    def __init__(self) -> None:
        self.clock = SleepyClock()
        self.revisions = MemoryRevisions()
        self.entries = MemoryCatalogEntries(self.revisions)
        self.prices = ShakyPrices(self.revisions)
        self.markups = MemoryMarkups(self.revisions)
        self.alpha, self.beta = Lister(ALPHA, 2), Lister(BETA, 3)

    def catalog(self) -> LiveCatalog:
        return LiveCatalog(
            [self.alpha, self.beta],
            self.entries,
            MemoryOverrides(self.revisions),
            self.prices,
            self.clock,
            static=(),
            library=Library(),
            versions=self.prices,
            markups=self.markups,
            markup_ppm=1_100_000,
            sleep=self.clock.sleep,
        )

    async def set_price(self, usd: int, begins: datetime) -> None:
        rates = Rates(input=usd * USD, output=usd * USD)
        await self.prices.add(
            Price(
                id=PriceId(f"{usd} from {begins}"), vendor=ALPHA, model=MODEL, rates=rates, valid_from=begins,
                source=PriceSource.OPERATOR,
            )
        )  # fmt: skip

    async def set_markup(self, ppm: int, **scope: Any) -> None:
        await self.markups.put(Markup(scope=MarkupScope(**scope), ppm=ppm, set_at=NOON))


def offer(catalog: LiveCatalog, vendor: VendorSlug = ALPHA) -> Offer:
    (found,) = [each for each in catalog.current().models[MODEL].offers if each.vendor == vendor]
    return found


def usd(catalog: LiveCatalog, vendor: VendorSlug = ALPHA) -> int | None:
    price = offer(catalog, vendor).price
    return None if price is None else price.rates.input // USD


async def until(catalog: LiveCatalog, expected: int) -> None:
    async with asyncio.timeout(60):
        while usd(catalog) != expected:  # noqa: ASYNC110 - what is waited for is a snapshot
            await asyncio.sleep(0.001)


async def test_a_price_that_begins_later_takes_effect_by_itself_and_not_before():
    world = World()
    catalogs = [world.catalog(), world.catalog()]
    await catalogs[0].refresh()
    await world.set_price(4, NOON + timedelta(hours=2))
    await world.set_price(5, NOON + timedelta(hours=5))
    seen: list[tuple[int | None, timedelta]] = []
    for catalog in catalogs:
        world.clock._now = NOON
        await catalog.load()
        assert usd(catalog) == 2
        for expected, hours in ((4, 2), (5, 5)):
            await until(catalog, expected)
            seen.append((usd(catalog), timedelta(hours=hours)))
            assert world.clock.now() >= NOON + timedelta(hours=hours)
            assert offer(catalog).price.valid_from <= world.clock.now()  # type: ignore[union-attr]
    assert len(seen) == 4
    assert max(world.clock.naps) <= CLOCK_TRUSTED_S
    assert catalogs[0]._changing is None


async def test_a_price_whose_time_comes_while_storage_is_away_is_taken_up_afterwards():
    world = World()
    catalog = world.catalog()
    await catalog.refresh()
    await world.set_price(4, NOON + timedelta(minutes=1))
    await catalog.reload()
    world.prices.away = 3
    await until(catalog, 4)
    assert world.prices.away == 0


async def test_markups_are_taken_up_with_the_next_reload():
    world = World()
    catalog = world.catalog()
    await catalog.refresh()
    assert (offer(catalog).markup_ppm, offer(catalog).plan_markups) == (1_100_000, ())
    await world.set_markup(1_200_000, vendor=ALPHA)
    await world.set_markup(1_500_000, model="meta/*", plan=PlanId("pro"))
    await catalog.reload()
    assert offer(catalog).markup_ppm == 1_200_000
    assert offer(catalog, BETA).markup_ppm == 1_100_000
    assert offer(catalog).plan_markups == ((PlanId("pro"), 1_500_000),)
    await world.markups.remove(MarkupScope(ALPHA))
    await catalog.reload()
    assert offer(catalog).markup_ppm == 1_100_000


async def test_an_offer_keeps_its_last_good_price_also_over_a_restart():
    world = World()
    first = world.catalog()
    await first.refresh()
    assert (usd(first), usd(first, BETA)) == (2, 3)
    world.beta.usd = 200
    await first.refresh()
    assert (usd(first), usd(first, BETA)) == (2, 3)
    assert offer(first, BETA).doubt is not None
    restarted = world.catalog()
    await restarted.load()
    assert (usd(restarted), usd(restarted, BETA)) == (2, 3)
    world.beta.usd = 4
    await restarted.refresh()
    assert usd(restarted, BETA) == 4
    assert offer(restarted, BETA).doubt is None
