"""The catalogue that requests see, kept up to date behind their backs.

Vendors are asked one by one in the background; whoever fails keeps its last good list, which also survives a
restart.  A new snapshot is built in a thread and then takes the old one's place; no request ever waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from adapters.catalog.book import Sources, automatic_prices, build_catalog, unpriced
from adapters.catalog.genai import GenaiPrices, LookupFailed, Pair, Quote
from adapters.vendors.sandbox import MODELS
from domain.catalog import Catalog, Model, UnknownVendor
from domain.errors import StorageUnavailable
from domain.ids import ModelId, PriceId, VendorSlug
from domain.inference.faults import VendorFault
from domain.ports.catalog import Refreshed
from domain.ports.clock import Clock
from domain.ports.repositories import CatalogEntries, Prices, PriceVersions
from domain.ports.vendors import ModelLister
from domain.pricing import MARKUP_ONE_PPM, Price

LIST_TIMEOUT_S: Final = 60.0
TTL_S: Final = 1_800.0
RETRY_S: Final = 60.0
"""The pause after a failure; it doubles up to the TTL."""
JITTER: Final = 0.2
"""So much of a pause is random, so that many gateways do not ask at once."""

log = logging.getLogger(__name__)


class PriceLibrary(Protocol):
    def knows(self, vendor: VendorSlug) -> bool: ...

    async def quotes(self, pairs: Collection[Pair]) -> Mapping[Pair, Quote]:
        """The prices it has, for no pair that it has none for.  Raises LookupFailed."""
        ...


class LiveCatalog:
    """The ports `CatalogSource` and `CatalogRefresher`.  Before `load` it holds the sandbox alone."""

    def __init__(
        self,
        listers: Iterable[ModelLister],
        entries: CatalogEntries,
        prices: Prices,
        clock: Clock,
        *,
        declared: Mapping[VendorSlug, Sequence[str]] = {},
        names: Mapping[Pair, ModelId] = {},
        markup_ppm: int = MARKUP_ONE_PPM,
        static: Sequence[Model] = MODELS,
        library: PriceLibrary | None = None,
        versions: PriceVersions | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        known = {lister.slug: lister for lister in listers}
        self._listers = {slug: lister for slug, lister in known.items() if not declared.get(slug)}
        self._entries = entries
        self._prices = prices
        self._library = library or GenaiPrices()
        self._clock = clock
        self._versions = versions
        self._sleep = sleep
        self._chance = chance
        self._sources = Sources(
            static=static,
            vendors={slug: lister.abort_policy for slug, lister in known.items()},
            declared=declared,
            names=names,
            markup_ppm=markup_ppm,
        )
        self._catalog = build_catalog(self._sources, clock.now())
        self._wanting: set[Pair] = set()
        """The offers that only the library may have a price for."""
        self._asked: set[Pair] = set()
        """What the library was asked on this day."""
        self._asked_on = date.min
        self._recorded: set[PriceId] = set()
        self._flights: dict[VendorSlug, asyncio.Task[Refreshed]] = {}
        self._quoting: asyncio.Task[None] | None = None
        self._building = asyncio.Lock()
        self._wanted = self._built = 0

    def current(self) -> Catalog:
        return self._catalog

    async def load(self) -> None:
        """Reload, and wait for the library's prices too, so that what was routable before a restart is again."""
        await self.reload()
        await self._quoted()

    async def reload(self) -> None:
        """Rebuild from storage; new prices of the library follow as soon as they are looked up.

        Raises StorageUnavailable; then the snapshot stays as it is.
        """
        await self._rebuild()
        self._start_quoting()

    async def refresh(self, vendor: VendorSlug | None = None) -> Sequence[Refreshed]:
        if vendor is not None and vendor not in self._listers:
            if vendor not in self._catalog.vendors:
                raise UnknownVendor(vendor, self._catalog.vendors)
            return [Refreshed(vendor=vendor, failure="it has no models list")]
        slugs = self._listers.keys() if vendor is None else (vendor,)
        refreshed = await asyncio.gather(*(self._asked_once(slug) for slug in slugs))
        await self.load()
        return refreshed

    async def run(self) -> None:
        """Keep every vendor's list fresh, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for slug in self._listers:
                    group.create_task(self._keep_fresh(slug))
        finally:
            for task in (*self._flights.values(), self._quoting):
                if task is not None:
                    task.cancel()

    async def _keep_fresh(self, slug: VendorSlug) -> None:
        failures = 0
        while True:
            try:
                (refreshed,) = await self.refresh(slug)
                failed = refreshed.failure is not None
            except StorageUnavailable:
                log.warning("the list of %s cannot be kept: storage does not answer", slug)
                failed = True
            except Exception:  # A background loop: one vendor's surprise must not end the others' refreshing.
                log.exception("the list of %s cannot be refreshed", slug)
                failed = True
            failures = failures + 1 if failed else 0
            pause_s = min(TTL_S, RETRY_S * 2 ** min(failures - 1, 10)) if failures else TTL_S
            await self._sleep(pause_s * (1 - JITTER * self._chance()))

    async def _asked_once(self, slug: VendorSlug) -> Refreshed:
        """Ask a vendor, or join whoever is asking it already."""
        flight = self._flights.get(slug)
        if flight is None:
            flight = self._flights[slug] = asyncio.create_task(self._ask(slug))
            flight.add_done_callback(lambda _: self._flights.pop(slug, None))
        return await asyncio.shield(flight)

    async def _ask(self, slug: VendorSlug) -> Refreshed:
        try:
            async with asyncio.timeout(LIST_TIMEOUT_S):
                models = await self._listers[slug].list_models()
        except VendorFault as fault:
            return _failed(slug, fault.message)
        except TimeoutError:
            return _failed(slug, f"it sent no list within {LIST_TIMEOUT_S:g} s")
        except Exception:  # Isolation: whatever one vendor's list does to its reader is that vendor's failure.
            log.exception("the list of %s cannot be read", slug)
            return _failed(slug, "its list cannot be read")
        if not models:
            return _failed(slug, "its list is empty")
        await self._entries.replace(slug, models, self._clock.now())
        return Refreshed(vendor=slug, models=len(models))

    async def _rebuild(self) -> None:
        self._wanted += 1
        mine = self._wanted
        async with self._building:
            if self._built >= mine:
                return
            newest, now = self._wanted, self._clock.now()
            listed, prices = await self._entries.all(), await self._prices.current(now)
            # Not before: the library's prices may arrive while storage is read.
            self._sources = replace(self._sources, listed=listed, prices=prices)
            version = self._catalog.version + 1
            built = await asyncio.to_thread(_assembled, self._sources, now, version, self._library.knows)
            self._catalog, self._wanting = built.catalog, built.wanting
            self._built = newest
            await self._record(built.automatic)

    async def _record(self, automatic: Sequence[Price]) -> None:
        """Keep the versions that lists gave, so that whatever is charged by them can be rated again."""
        if self._versions is None:
            return
        fresh = [price for price in automatic if price.id not in self._recorded]
        if fresh:
            await self._versions.record(fresh)
            self._recorded.update(price.id for price in fresh)

    def _start_quoting(self) -> None:
        if self._quoting is None and self._unasked():
            self._quoting = asyncio.create_task(self._quote())
            self._quoting.add_done_callback(self._quoted_all)

    def _quoted_all(self, quoting: asyncio.Task[None]) -> None:
        self._quoting = None
        if not quoting.cancelled() and (error := quoting.exception()) is not None:
            log.warning("prices that were looked up cannot be taken up yet: %s", error)

    async def _quoted(self) -> None:
        if self._quoting is not None:
            await asyncio.shield(self._quoting)

    def _unasked(self) -> set[Pair]:
        """The library is asked once a day for each offer, because its prices begin at dates."""
        today = self._clock.now().date()
        if today != self._asked_on:
            self._asked_on = today
            self._asked.clear()
        return self._wanting - self._asked

    async def _quote(self) -> None:
        while pairs := self._unasked():
            try:
                quotes = await self._library.quotes(sorted(pairs))
            except LookupFailed as failed:
                log.warning("prices cannot be looked up, the known ones stay: %s", failed)
                return
            self._asked |= pairs
            known = {pair: quote for pair, quote in self._sources.library.items() if pair not in pairs}
            self._sources = replace(self._sources, library={**known, **quotes})
            await self._rebuild()


class _Assembled(Struct, frozen=True):
    catalog: Catalog
    wanting: set[Pair]
    automatic: Sequence[Price]


def _assembled(sources: Sources, now: datetime, version: int, known: Callable[[VendorSlug], bool]) -> _Assembled:
    """Everything that takes long for a large catalogue, to be done in a thread."""
    catalog = build_catalog(sources, now, version)
    wanting = {(vendor, model) for vendor, model in unpriced(sources) if known(vendor)}
    return _Assembled(catalog, wanting, automatic_prices(catalog))


def _failed(slug: VendorSlug, why: str) -> Refreshed:
    log.warning("the list of %s cannot be refreshed, its last one stays: %s", slug, why)
    return Refreshed(vendor=slug, failure=why)
