"""The catalogue that requests see, kept up to date behind their backs.

Vendors are asked one by one in the background; whoever fails keeps its last good list, which also survives a
restart.  A new snapshot is built in a thread, slowly enough that requests hardly notice, and then takes the old one's
place; none ever waits for it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from typing import Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from adapters.catalog.book import Remembered, Sources, automatic_prices, build_catalog, unpriced
from adapters.catalog.genai import GenaiPrices, LookupFailed, Pair, Quote
from adapters.catalog.listed_prices import PriceKey, doubted, prices_in_use
from adapters.catalog.rows import taken_up
from adapters.system.pace import Pace
from adapters.vendors.sandbox import MODELS
from adapters.vendors.sandbox_tasks import TASK_MODELS
from domain.catalog import Catalog, Model, Traits, UnknownVendor
from domain.errors import StorageUnavailable
from domain.ids import ModelId, PriceId, VendorSlug
from domain.inference.faults import VendorFault
from domain.markups import Markup
from domain.ports.catalog import (
    AddedOffer,
    Alias,
    CatalogOverrides,
    Joined,
    Override,
    Refreshed,
    Switch,
    VendorState,
)
from domain.ports.clock import Clock
from domain.ports.repositories import CatalogEntries, Markups, Prices, PriceVersions
from domain.ports.vendors import ListedModel, ModelLister
from domain.pricing import MARKUP_ONE_PPM, Price

LIST_TIMEOUT_S: Final = 60.0
RETRY_S: Final = 60.0
"""The pause after a failure; it doubles up to the TTL."""
CLOCK_TRUSTED_S: Final = 60.0
"""So long a wait is believed; then the clock, which somebody may have set, is asked again."""
RETRY_AFTER_STORAGE_S: Final = 1.0
JITTER: Final = 0.2
"""So much of a pause is random, so that many gateways do not ask at once."""

RECORDED_AT_ONCE: Final = 100
"""Versions of prices in one transaction: more would hold up whoever else is served."""

Prepare = Callable[[Catalog, Callable[[], None]], object]
"""What else is made of a new snapshot before requests see it, in its thread; it breathes by its second argument."""

log = logging.getLogger(__name__)


class PriceLibrary(Protocol):
    def knows(self, vendor: VendorSlug) -> bool: ...

    async def quotes(self, pairs: Collection[Pair]) -> Mapping[Pair, Quote]:
        """The prices it has, for no pair that it has none for.  Raises LookupFailed."""
        ...


class LiveCatalog:
    """The ports `CatalogSource`, `CatalogRefresher` and `VendorBoard`.  Before `load` it holds the sandbox alone."""

    def __init__(
        self,
        listers: Iterable[ModelLister],
        entries: CatalogEntries,
        overrides: CatalogOverrides,
        prices: Prices,
        clock: Clock,
        *,
        declared: Mapping[VendorSlug, Sequence[str]] = {},
        traits: Mapping[VendorSlug, Traits] = {},
        names: Mapping[Pair, ModelId] = {},
        markup_ppm: int = MARKUP_ONE_PPM,
        static: Sequence[Model] = (*MODELS, *TASK_MODELS),
        library: PriceLibrary | None = None,
        versions: PriceVersions | None = None,
        markups: Markups | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        known = {lister.slug: lister for lister in listers}
        self._listers = {slug: lister for slug, lister in known.items() if not declared.get(slug)}
        self._off_at_first = frozenset(slug for slug, lister in known.items() if not lister.listing.on)
        self._entries = entries
        self._overrides = overrides
        self._prices = prices
        self._library = library or GenaiPrices()
        self._clock = clock
        self._versions = versions
        self._markups = markups
        self._sleep = sleep
        self._chance = chance
        self._sources = Sources(
            static=static,
            vendors={slug: lister.abort_policy for slug, lister in known.items()},
            fallback={slug: lister.listing.fallback for slug, lister in known.items()},
            declared=declared,
            traits=traits,
            names=names,
            markup_ppm=markup_ppm,
        )
        self._names = names
        self._sources = replace(self._sources, off=self._off_at_first)
        self._remembered = Remembered()
        self._catalog = build_catalog(self._sources, clock.now())
        self.prepare: Prepare = lambda _catalog, _breathe: None
        self._offers, self._priced = _counted(self._catalog, lambda: None)
        self._wanting: set[Pair] = set()
        """The offers that only the library may have a price for."""
        self._asked: set[Pair] = set()
        """What the library was asked on this day."""
        self._asked_on = date.min
        self._recorded: set[PriceId] = set()
        self._flights: dict[VendorSlug, asyncio.Task[Refreshed]] = {}
        self._switched_on = {slug: asyncio.Event() for slug in self._listers}
        self._quoting: asyncio.Task[None] | None = None
        self._changing: asyncio.Task[None] | None = None
        """Waits for the next price that begins later."""
        self._in_use: Mapping[PriceKey, Price] = {}
        """What offers cost now by lists that are believed."""
        self._read: _Read | None = None
        """What the current snapshot was made of."""
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
        off = self._catalog.off
        if vendor is not None and vendor in off:
            return [Refreshed(vendor=vendor, failure=f"it is switched off; run 'gatewayz vendors enable {vendor}'")]
        slugs = [slug for slug in self._listers if slug not in off] if vendor is None else [vendor]
        refreshed = await asyncio.gather(*(self._asked_once(slug) for slug in slugs))
        await self.load()
        return refreshed

    async def states(self) -> Sequence[VendorState]:
        asked, catalog = await self._entries.last_asked(), self._catalog
        return [
            VendorState(
                vendor=slug,
                on=slug not in catalog.off,
                lists=slug in self._listers,
                offers=self._offers[slug],
                priced=self._priced[slug],
                asked_at=asked[slug].at if slug in asked else None,
                listed_at=asked[slug].listed_at if slug in asked else None,
                failure=asked[slug].failure if slug in asked else None,
            )
            for slug in sorted(catalog.vendors)
        ]

    async def run(self) -> None:
        """Keep every vendor's list fresh, until cancelled."""
        try:
            # Only then is known who is switched off.
            await self.reload()
        except StorageUnavailable:
            log.warning("the catalogue cannot be read: storage does not answer")
        except Exception:  # A background loop: the vendors' own ones tell the same trouble again.
            log.exception("the catalogue cannot be read")
        try:
            async with asyncio.TaskGroup() as group:
                for slug in self._listers:
                    group.create_task(self._keep_fresh(slug))
        finally:
            for task in (*self._flights.values(), self._quoting, self._changing):
                if task is not None:
                    task.cancel()

    async def _keep_fresh(self, slug: VendorSlug) -> None:
        failures = 0
        ttl_s = self._listers[slug].listing.ttl_s
        while True:
            if slug in self._catalog.off:
                await self._until_switched_on(slug)
                continue
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
            pause_s = min(ttl_s, RETRY_S * 2 ** min(failures - 1, 10)) if failures else ttl_s
            await self._sleep(pause_s * (1 - JITTER * self._chance()))

    async def _until_switched_on(self, slug: VendorSlug) -> None:
        """A process that hears no news of changes looks now and then by itself."""
        switched_on = self._switched_on[slug]
        switched_on.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(RETRY_S):
                await switched_on.wait()
        with suppress(StorageUnavailable):
            await self.reload()

    async def _asked_once(self, slug: VendorSlug) -> Refreshed:
        """Ask a vendor, or join whoever is asking it already."""
        flight = self._flights.get(slug)
        if flight is None:
            flight = self._flights[slug] = asyncio.create_task(self._ask(slug))
            flight.add_done_callback(lambda _: self._flights.pop(slug, None))
        return await asyncio.shield(flight)

    async def _ask(self, slug: VendorSlug) -> Refreshed:
        models, failure = await self._answered(slug)
        if failure is None:
            await self._entries.replace(slug, models, self._clock.now())
        else:
            log.warning("the list of %s cannot be refreshed, its last one stays: %s", slug, failure)
            await self._entries.asked(slug, self._clock.now(), failure)
        return Refreshed(vendor=slug, models=len(models), failure=failure)

    async def _answered(self, slug: VendorSlug) -> tuple[Sequence[ListedModel], str | None]:
        """The vendor's list, or why there is none."""
        try:
            async with asyncio.timeout(LIST_TIMEOUT_S):
                models = await self._listers[slug].list_models()
        except VendorFault as fault:
            return (), fault.message
        except TimeoutError:
            return (), f"it sent no list within {LIST_TIMEOUT_S:g} s"
        except Exception:  # Isolation: whatever one vendor's list does to its reader is that vendor's failure.
            log.exception("the list of %s cannot be read", slug)
            return (), "its list cannot be read"
        taken = await asyncio.to_thread(taken_up, models)
        if len(taken) < len(models):
            log.warning(
                "%d rows of the list of %s are left out: their ids cannot be used", len(models) - len(taken), slug
            )
        return taken, None if taken else "its list is empty"

    async def _rebuild(self) -> None:
        self._wanted += 1
        mine = self._wanted
        # A switch must not wait for a large catalogue that is just being built.
        self._switch(await self._overrides.all())
        async with self._building:
            if self._built >= mine:
                return
            newest, now = self._wanted, self._clock.now()
            said = await self._overrides.all()
            self._switch(said)
            listed, prices = await self._entries.all(), await self._prices.current(now)
            markups = () if self._markups is None else await self._markups.all()
            if not self._built and self._versions is not None:
                before = await self._versions.latest_recorded()
                self._in_use = {(price.vendor, price.model): price for price in before}
            read = _Read(said, listed, prices, markups, self._sources.library)
            if self._read is not None and read.is_like(self._read):
                # As after most refreshes: a vendor's list seldom changes.  A price that begins later may be new.
                self._await_change(await self._prices.next_change(now))
                self._built = newest
                return
            # Not before: the library's prices may arrive while storage is read.
            self._sources = replace(
                self._overridden(said), listed=listed, prices=prices, markups=markups, last_good=self._in_use
            )
            version = self._catalog.version + 1
            built = await asyncio.to_thread(self._assembled, self._sources, now, version)
            off, catalog = self._catalog.off, built.catalog
            self._catalog = catalog if catalog.off == off else catalog.switched(off, version + 1)
            self._wanting = built.wanting
            self._offers, self._priced = built.offers, built.priced
            self._built = newest
            self._in_use = built.in_use
            await self._record(built.automatic)
            self._await_change(await self._prices.next_change(now))
            self._read = read

    def _await_change(self, at: datetime | None) -> None:
        """A price that begins later takes effect by itself, in every process."""
        if self._changing is not None:
            self._changing.cancel()
        self._changing = None if at is None else asyncio.create_task(self._change(at))

    async def _change(self, at: datetime) -> None:
        while (left_s := (at - self._clock.now()).total_seconds()) > 0:
            await self._sleep(min(left_s, CLOCK_TRUSTED_S))
        # Forgotten first, so that the reload does not cancel its own task.
        self._changing = None
        try:
            await self.reload()
        except StorageUnavailable:
            log.warning("a new price cannot be taken up yet: storage does not answer")
            self._changing = asyncio.create_task(self._change_later(at))

    async def _change_later(self, at: datetime) -> None:
        await self._sleep(RETRY_AFTER_STORAGE_S)
        await self._change(at)

    def _switch(self, said: Sequence[Override]) -> None:
        """Switch vendors at once, before everything else is made anew."""
        vendors = self._catalog.vendors
        switches = {each.vendor: each.on for each in said if isinstance(each, Switch)}
        off = frozenset(slug for slug in vendors if not switches.get(slug, slug not in self._off_at_first))
        before = self._catalog.off
        if off != before:
            self._catalog = self._catalog.switched(off, self._catalog.version + 1)
            for slug in before - off:
                if slug in self._switched_on:
                    self._switched_on[slug].set()

    def _overridden(self, said: Sequence[Override]) -> Sources:
        added: dict[VendorSlug, list[ListedModel]] = {}
        for each in said:
            if isinstance(each, AddedOffer):
                added.setdefault(each.vendor, []).append(each.row)
        joined = {(each.vendor, each.vendor_model): each.model for each in said if isinstance(each, Joined)}
        return replace(
            self._sources,
            off=self._catalog.off,
            added=added,
            names={**self._names, **joined},
            aliases={each.name: each.model for each in said if isinstance(each, Alias)},
        )

    def _assembled(self, sources: Sources, now: datetime, version: int) -> _Assembled:
        """Everything that takes long for a large catalogue, in a thread that lets requests go first."""
        breathe = Pace()
        # A collection would look at everything made so far, again and again, and all threads wait for it.
        gc.disable()
        try:
            catalog = build_catalog(sources, now, version, self._remembered, breathe)
            wishes = unpriced(sources, breathe) | doubted(catalog, breathe)
            wanting = {(vendor, model) for vendor, model in wishes if self._library.knows(vendor)}
            offers, priced = _counted(catalog, breathe)
            self.prepare(catalog, breathe)
            automatic, in_use = automatic_prices(catalog, breathe), prices_in_use(catalog, breathe)
        finally:
            gc.enable()
        return _Assembled(catalog, wanting, automatic, in_use, offers, priced)

    async def _record(self, automatic: Sequence[Price]) -> None:
        """Keep the versions that lists gave, so that whatever is charged by them can be rated again."""
        if self._versions is None:
            return
        fresh = [price for price in automatic if price.id not in self._recorded]
        for start in range(0, len(fresh), RECORDED_AT_ONCE):
            some = fresh[start : start + RECORDED_AT_ONCE]
            await self._versions.record(some)
            self._recorded.update(price.id for price in some)

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


class _Read(Struct, frozen=True):
    """What a snapshot is made of."""

    said: Sequence[Override]
    listed: Mapping[VendorSlug, Sequence[ListedModel]]
    prices: Sequence[Price]
    markups: Sequence[Markup]
    library: Mapping[Pair, Quote]

    def is_like(self, other: _Read) -> bool:
        """Lists are compared by identity, because comparing all their rows takes as long as building."""
        return (
            self.library is other.library
            and self.listed.keys() == other.listed.keys()
            and all(rows is other.listed[vendor] for vendor, rows in self.listed.items())
            and (self.said, self.prices, self.markups) == (other.said, other.prices, other.markups)
        )


class _Assembled(Struct, frozen=True):
    catalog: Catalog
    wanting: set[Pair]
    automatic: Sequence[Price]
    in_use: Mapping[PriceKey, Price]
    offers: Counter[VendorSlug]
    priced: Counter[VendorSlug]


def _counted(catalog: Catalog, breathe: Callable[[], None]) -> tuple[Counter[VendorSlug], Counter[VendorSlug]]:
    """How many offers each vendor has, and how many of them have a price."""
    offers, priced = Counter[VendorSlug](), Counter[VendorSlug]()
    for model in catalog.models.values():
        breathe()
        for offer in model.offers:
            offers[offer.vendor] += 1
            priced[offer.vendor] += offer.price is not None
    return offers, priced
