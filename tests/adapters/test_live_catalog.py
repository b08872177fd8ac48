"""The live catalogue: vendors in the background, storage behind it, and requests that never wait."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence

import pytest

from adapters.catalog.book import Sources, build_catalog
from adapters.catalog.genai import LookupFailed, Pair, Quote
from adapters.catalog.live import RETRY_S, LiveCatalog
from adapters.memory.repositories import MemoryCatalogEntries, MemoryOverrides, MemoryPrices, MemoryRevisions
from domain.catalog import CANCEL_AND_BILL_PRODUCED, Catalog, UnknownVendor
from domain.errors import StorageUnavailable
from domain.ids import ModelId, PriceId, VendorSlug
from domain.inference.faults import FaultKind, VendorFault
from domain.ports.catalog import AddedOffer, Alias, Joined, Switch, VendorState
from domain.ports.vendors import LISTED, ListedModel, Listing
from domain.pricing import Price, PriceSource, Rates
from tests.fakes.time import FakeClock

pytestmark = pytest.mark.anyio

RATES = Rates(input=10, output=20)
ALPHA, BETA = VendorSlug("alpha"), VendorSlug("beta")


class Lister:
    abort_policy = CANCEL_AND_BILL_PRODUCED
    listing: Listing = LISTED

    def __init__(self, slug: VendorSlug, *names: str, rates: Rates | None = RATES) -> None:
        self.slug = slug
        self.rates = rates
        self.names = names
        self.fault: BaseException | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0

    async def list_models(self) -> list[ListedModel]:
        self.asked += 1
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return [ListedModel(vendor_model=name, rates=self.rates) for name in self.names]


class Library:
    """Knows the prices it is given, of the vendor beta alone."""

    def __init__(self) -> None:
        self.prices: dict[Pair, Quote] = {}
        self.asked: list[set[Pair]] = []
        self.fails = False
        self.gate = asyncio.Event()
        self.gate.set()

    def knows(self, vendor: VendorSlug) -> bool:
        return vendor == BETA

    async def quotes(self, pairs: Collection[Pair]) -> Mapping[Pair, Quote]:
        self.asked.append(set(pairs))
        await self.gate.wait()
        if self.fails:
            raise LookupFailed("broken")
        return {pair: quote for pair, quote in self.prices.items() if pair in pairs}


class Versions:
    def __init__(self) -> None:
        self.kept: list[Price] = []

    async def latest_recorded(self) -> Sequence[Price]:
        return ()

    async def record(self, prices) -> None:
        self.kept += prices


class Entries(MemoryCatalogEntries):
    """Fails or dawdles when told to."""

    fault: Exception | None = None
    on_reading: Callable[[], None] | None = None

    async def all(self) -> Mapping[VendorSlug, Sequence[ListedModel]]:
        if self.fault is not None:
            raise self.fault
        if self.on_reading is not None:
            self.on_reading()
            await asyncio.sleep(0.02)
        return await super().all()


class Naps:
    """Sleeps until told to wake up, and remembers for how long it was meant to be."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.woken = asyncio.Semaphore(0)

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await self.woken.acquire()


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.revisions = MemoryRevisions()
        self.entries = Entries(self.revisions)
        self.overrides = MemoryOverrides(self.revisions)
        self.prices = MemoryPrices(self.revisions)
        self.library = Library()
        self.versions = Versions()
        self.naps = Naps()
        self.alpha = Lister(ALPHA, "a1", "a2")
        self.beta = Lister(BETA, "b1", rates=None)

    def catalog(self, **others) -> LiveCatalog:
        return LiveCatalog(
            [self.alpha, self.beta],
            self.entries,
            self.overrides,
            self.prices,
            self.clock,
            static=(),
            library=self.library,
            versions=self.versions,
            sleep=self.naps,
            chance=lambda: 0.0,
            **others,
        )

    async def set_price(self, model: str, vendor: VendorSlug = BETA) -> None:
        price = Price(
            id=PriceId(f"op:{model}"),
            vendor=vendor,
            model=ModelId(model),
            rates=RATES,
            valid_from=self.clock.now(),
            source=PriceSource.OPERATOR,
        )
        await self.prices.add(price)


@pytest.fixture
async def world() -> World:
    return World()


def priced(catalog: LiveCatalog) -> list[str]:
    return [model.id for model in catalog.current().listed()]


async def test_before_anything_is_loaded_the_sandbox_works(world):
    catalog = LiveCatalog([], world.entries, world.overrides, world.prices, world.clock)
    assert catalog.current().find("sandbox/echo").offers


async def test_a_refresh_takes_up_what_every_vendor_lists(world):
    catalog = world.catalog()
    refreshed = await catalog.refresh()
    assert {(each.vendor, each.models, each.failure) for each in refreshed} == {
        (ALPHA, 2, None),
        (BETA, 1, None),
    }
    assert priced(catalog) == ["alpha/a1", "alpha/a2"]
    assert "beta/b1" in catalog.current().models


async def test_one_vendors_refresh_leaves_the_others_alone(world):
    await world.catalog().refresh(ALPHA)
    assert (world.alpha.asked, world.beta.asked) == (1, 0)


async def test_an_unknown_vendor_cannot_be_refreshed(world):
    with pytest.raises(UnknownVendor):
        await world.catalog().refresh(VendorSlug("gamma"))


@pytest.mark.parametrize(
    "fault",
    [VendorFault(FaultKind.SERVER_ERROR, "it is ill"), TimeoutError(), ValueError("surprise"), None],
)
async def test_a_vendor_that_fails_keeps_its_last_good_list(world, fault):
    catalog = world.catalog()
    await catalog.refresh()
    world.alpha.fault, world.alpha.names = fault, ()
    world.beta.names = ("b1", "b2")
    alpha, beta = await catalog.refresh()
    assert alpha.failure
    assert (beta.models, beta.failure) == (2, None)
    assert priced(catalog) == ["alpha/a1", "alpha/a2"]
    assert "beta/b2" in catalog.current().models


async def test_lists_survive_a_restart(world):
    await world.catalog().refresh()
    world.alpha.fault = VendorFault(FaultKind.UNREACHABLE, "gone")
    restarted = world.catalog()
    await restarted.load()
    assert priced(restarted) == ["alpha/a1", "alpha/a2"]


async def test_refreshes_of_a_vendor_at_one_time_ask_it_once(world):
    catalog = world.catalog()
    world.alpha.gate.clear()
    refreshes = [asyncio.create_task(catalog.refresh(ALPHA)) for _ in range(5)]
    await asyncio.sleep(0.01)
    refreshes[0].cancel()
    await asyncio.sleep(0.01)
    world.alpha.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await refreshes[0]
    results = await asyncio.gather(*refreshes[1:])
    assert world.alpha.asked == 1
    assert all(refreshed.models == 2 for (refreshed,) in results)


async def test_requests_see_the_old_snapshot_while_a_vendor_is_slow(world):
    catalog = world.catalog()
    await catalog.refresh()
    world.alpha.names = ("a3",)
    world.alpha.gate.clear()
    refresh = asyncio.create_task(catalog.refresh(ALPHA))
    await asyncio.sleep(0.01)
    before = catalog.current()
    assert priced(catalog) == ["alpha/a1", "alpha/a2"]
    world.alpha.gate.set()
    await refresh
    assert priced(catalog) == ["alpha/a3"]
    assert catalog.current().version > before.version
    assert [model.id for model in before.listed()] == ["alpha/a1", "alpha/a2"]


async def test_a_price_that_another_process_set_is_there_after_a_reload(world):
    catalog = world.catalog()
    await catalog.refresh()
    await world.set_price("beta/b1")
    await catalog.reload()
    assert "beta/b1" in priced(catalog)


async def test_a_price_makes_a_model_of_a_vendor_that_never_answered_routable(world):
    world.beta.fault = VendorFault(FaultKind.MODEL_MISSING, "no such page")
    await world.set_price("beta/mine")
    catalog = world.catalog()
    await catalog.refresh()
    assert catalog.current().find("beta/mine").offers[0].vendor_model == "mine"


async def test_a_vendor_whose_models_are_declared_is_not_asked(world):
    catalog = world.catalog(declared={BETA: ("mine",)})
    (refreshed,) = await catalog.refresh(BETA)
    assert refreshed.failure == "it has no models list"
    await catalog.refresh()
    assert world.beta.asked == 0
    assert "beta/mine" in catalog.current().models


async def test_the_library_prices_what_lists_do_not(world):
    world.library.prices[BETA, "b1"] = Quote(RATES)
    catalog = world.catalog()
    await catalog.refresh()
    assert "beta/b1" in priced(catalog)
    assert world.library.asked == [{(BETA, "b1")}]


async def test_a_reload_does_not_wait_for_the_library_but_a_load_does(world):
    await world.catalog().refresh()
    world.library.prices[BETA, "b1"] = Quote(RATES)
    world.library.gate.clear()
    catalog = world.catalog()
    await asyncio.wait_for(catalog.reload(), 5)
    assert "beta/b1" not in priced(catalog)
    loading = asyncio.create_task(catalog.load())
    await asyncio.sleep(0.01)
    assert not loading.done()
    world.library.gate.set()
    await loading
    assert "beta/b1" in priced(catalog)


async def test_the_library_is_asked_once_a_day_for_each_offer(world):
    catalog = world.catalog()
    for _ in range(3):
        await catalog.refresh()
    assert len(world.library.asked) == 1
    world.beta.names = ("b1", "b2")
    await catalog.refresh()
    assert world.library.asked[1:] == [{(BETA, "b2")}]
    world.clock.advance(86_400)
    await catalog.refresh()
    assert world.library.asked[2:] == [{(BETA, "b1"), (BETA, "b2")}]


async def test_a_library_that_fails_is_asked_again_and_takes_no_price_away(world):
    world.library.prices[BETA, "b1"] = Quote(RATES)
    catalog = world.catalog()
    await catalog.refresh()
    world.library.fails = True
    world.clock.advance(86_400)
    await catalog.refresh()
    assert "beta/b1" in priced(catalog)
    await catalog.refresh()
    assert len(world.library.asked) == 3


async def test_prices_that_arrive_while_storage_is_read_are_not_lost(world):
    await world.catalog().refresh()
    world.library.prices[BETA, "b1"] = Quote(RATES)
    world.library.gate.clear()
    catalog = world.catalog()
    await catalog.reload()

    world.entries.on_reading = world.library.gate.set
    await catalog.load()
    assert "beta/b1" in priced(catalog)


async def test_versions_found_in_lists_are_recorded_once(world):
    catalog = world.catalog()
    await catalog.refresh()
    await catalog.refresh()
    assert sorted(price.model for price in world.versions.kept) == ["alpha/a1", "alpha/a2"]
    await world.set_price("alpha/a1", ALPHA)
    await catalog.reload()
    assert len(world.versions.kept) == 2


async def test_without_storage_the_snapshot_stays(world):
    catalog = world.catalog()
    await catalog.refresh()
    world.entries.fault = StorageUnavailable("down")
    with pytest.raises(StorageUnavailable):
        await catalog.reload()
    assert priced(catalog) == ["alpha/a1", "alpha/a2"]


async def test_the_loop_asks_again_after_the_ttl_and_sooner_after_a_failure(world):
    catalog = world.catalog()
    world.beta.fault = VendorFault(FaultKind.UNREACHABLE, "gone")
    running = asyncio.create_task(catalog.run())
    await until(lambda: len(world.naps.seconds) == 2)
    assert sorted(world.naps.seconds) == [RETRY_S, LISTED.ttl_s]
    for naps in range(3, 15):
        world.naps.woken.release()
        await until(lambda naps=naps: len(world.naps.seconds) == naps)
    assert max(world.naps.seconds) == LISTED.ttl_s
    assert {RETRY_S * 2, RETRY_S * 4} <= set(world.naps.seconds)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_nothing_that_one_vendor_does_ends_the_loop_of_the_others(world):
    catalog = world.catalog()
    world.alpha.fault = ValueError("surprise")
    world.entries.fault = RuntimeError("a bug")
    running = asyncio.create_task(catalog.run())
    await until(lambda: len(world.naps.seconds) == 2)
    world.entries.fault = None
    world.alpha.fault = None
    world.naps.woken.release()
    world.naps.woken.release()
    await until(lambda: len(world.naps.seconds) == 4)
    assert priced(catalog) == ["alpha/a1", "alpha/a2"]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_rebuilding_a_large_catalogue_does_not_hold_up_the_loop(world):
    """20,000 offers; the longest silence of the loop is compared with the time that the rebuild takes."""
    names = [f"author{number % 300}/Model-{number}-Instruct" for number in range(10_000)]
    world.alpha.names = world.beta.names = tuple(names)
    world.beta.rates = RATES
    catalog = world.catalog()
    await catalog.refresh()
    listed = await world.entries.all()
    sources = Sources(vendors={ALPHA: CANCEL_AND_BILL_PRODUCED, BETA: CANCEL_AND_BILL_PRODUCED}, listed=listed)
    start = time.perf_counter()
    build_catalog(sources, world.clock.now())
    whole_s = time.perf_counter() - start
    await world.set_price(names[7], ALPHA)
    before_reload = catalog.current()
    longest_s, rebuild = 0.0, asyncio.create_task(catalog.reload())
    while not rebuild.done():
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        longest_s = max(longest_s, time.perf_counter() - before)
    assert catalog.current() is not before_reload
    assert len(catalog.current().models) == 10_000
    assert longest_s < max(0.25, whole_s / 2)


async def test_a_switch_holds_at_once_and_for_all_processes_after_a_reload(world):
    catalog, other = world.catalog(), world.catalog()
    await catalog.refresh()
    await other.load()
    await world.overrides.put(Switch(ALPHA, on=False), world.clock.now(), "ann")
    for process in (catalog, other):
        await process.reload()
        assert priced(process) == []
        assert process.current().off == {ALPHA}
    (refreshed,) = await catalog.refresh(ALPHA)
    assert "gatewayz vendors enable alpha" in refreshed.failure
    await catalog.refresh()
    assert (world.alpha.asked, world.beta.asked) == (1, 2)
    await world.overrides.put(Switch(ALPHA, on=True), world.clock.now(), "ann")
    await other.reload()
    assert priced(other) == ["alpha/a1", "alpha/a2"]


async def test_a_switch_does_not_wait_for_a_catalogue_that_is_being_built(world):
    catalog = world.catalog()
    await catalog.refresh()
    building, go_on = threading.Event(), threading.Event()

    def slow(_catalog: Catalog, _breathe: Callable[[], None]) -> None:
        building.set()
        go_on.wait(10)

    catalog.prepare = slow
    await world.set_price("alpha/a1", ALPHA)
    rebuild = asyncio.create_task(catalog.reload())
    await asyncio.to_thread(building.wait, 10)
    await world.overrides.put(Switch(ALPHA, on=False), world.clock.now(), "ann")
    switching = asyncio.create_task(catalog.reload())
    await until(lambda: catalog.current().off == {ALPHA})
    assert not rebuild.done()
    go_on.set()
    await asyncio.gather(rebuild, switching)
    assert catalog.current().off == {ALPHA}
    assert priced(catalog) == []


async def test_a_vendor_that_is_off_at_first_is_not_asked_until_it_is_switched_on(world):
    world.alpha.listing = Listing(on=False)
    catalog = world.catalog()
    running = asyncio.create_task(catalog.run())
    await until(lambda: world.beta.asked == 1)
    assert world.alpha.asked == 0
    await world.overrides.put(Switch(ALPHA, on=True), world.clock.now(), "ann")
    await catalog.reload()
    await until(lambda: world.alpha.asked == 1)
    await until(lambda: priced(catalog) == ["alpha/a1", "alpha/a2"])
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_each_list_has_a_time_to_live_of_its_own(world):
    world.alpha.listing, world.beta.listing = Listing(ttl_s=300.0), Listing(ttl_s=7_200.0)
    running = asyncio.create_task(world.catalog().run())
    await until(lambda: len(world.naps.seconds) == 2)
    assert sorted(world.naps.seconds) == [300.0, 7_200.0]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_what_a_vendor_is_known_to_serve_stands_for_its_list_until_it_first_answers(world):
    world.alpha.listing = Listing(fallback=(ListedModel(vendor_model="known", rates=RATES),))
    world.alpha.fault = VendorFault(FaultKind.UNREACHABLE, "gone")
    catalog = world.catalog()
    await catalog.refresh()
    assert priced(catalog) == ["alpha/known"]
    world.alpha.fault = None
    await catalog.refresh()
    world.alpha.fault = VendorFault(FaultKind.UNREACHABLE, "gone")
    await catalog.refresh()
    assert priced(catalog) == ["alpha/a1", "alpha/a2"]


async def test_the_operators_names_and_offers_are_taken_up(world):
    catalog = world.catalog()
    await catalog.refresh()
    now = world.clock.now()
    await world.overrides.put(Alias("quick", ModelId("meta/one")), now, "ann")
    await world.overrides.put(Joined(ALPHA, "a1", ModelId("meta/one")), now, "ann")
    added = ListedModel(vendor_model="a2", canonical="meta/two", context_length=9, rates=RATES)
    await world.overrides.put(AddedOffer(ALPHA, added), now, "ann")
    await catalog.reload()
    assert priced(catalog) == ["meta/one", "meta/two"]
    assert catalog.current().find("quick").id == "meta/one"
    assert catalog.current().find("a1").offers[0].vendor_model == "a1"
    assert catalog.current().find("meta/two").offers[0].context_length == 9
    await world.overrides.remove(AddedOffer(ALPHA, added))
    await catalog.reload()
    assert priced(catalog) == ["alpha/a2", "meta/one"]


async def test_how_vendors_stand_is_known_to_every_process(world):
    catalog = world.catalog()
    world.beta.fault = VendorFault(FaultKind.UNREACHABLE, "gone")
    await catalog.refresh()
    await world.overrides.put(Switch(BETA, on=False), world.clock.now(), "ann")
    other = world.catalog()
    await other.load()
    now = world.clock.now()
    alpha, beta = await other.states()
    assert alpha == VendorState(vendor=ALPHA, on=True, lists=True, offers=2, priced=2, asked_at=now, listed_at=now)
    assert beta == VendorState(vendor=BETA, on=False, lists=True, offers=0, priced=0, asked_at=now, failure="gone")


async def test_what_is_made_of_a_snapshot_is_ready_before_requests_see_it(world):
    catalog, seen = world.catalog(), []

    def prepare(made: Catalog, _breathe: Callable[[], None]) -> None:
        seen.append((made, catalog.current() is made))

    catalog.prepare = prepare
    await catalog.refresh()
    assert seen[-1] == (catalog.current(), False)


async def test_a_refresh_that_changes_nothing_leaves_the_snapshot_as_it_is(world):
    catalog = world.catalog()
    await catalog.refresh()
    before = catalog.current()
    await catalog.refresh()
    assert catalog.current() is before
    world.alpha.names = ("a1",)
    await catalog.refresh()
    assert catalog.current() is not before


async def test_what_has_not_changed_is_not_made_anew(world):
    catalog = world.catalog()
    await catalog.refresh()
    before = dict(catalog.current().models)
    await world.set_price("alpha/a2", ALPHA)
    await catalog.reload()
    after = catalog.current().models
    assert after["alpha/a1"] is before["alpha/a1"]
    assert after["alpha/a2"] is not before["alpha/a2"]


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the tested code offers nothing to wait for
            await asyncio.sleep(0.001)
