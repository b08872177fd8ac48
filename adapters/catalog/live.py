"""The catalogue that requests see, kept up to date behind their backs.

Vendors are asked one by one in the background; whoever fails keeps its last good list, which also survives a restart.
A new snapshot is built in a thread and takes the old one's place at once; no request ever waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import Final, Protocol

from adapters.catalog.book import Sources, build_catalog, unpriced
from adapters.catalog.genai import LookupFailed, Pair, Quote
from domain.catalog import AbortPolicy, Catalog, Model
from domain.errors import StorageUnavailable
from domain.ids import ModelId, VendorSlug
from domain.inference.faults import VendorFault
from domain.ports.catalog import Refreshed
from domain.ports.clock import Clock
from domain.ports.repositories import CatalogEntries, Prices
from domain.ports.vendors import ListedModel, ModelLister

LIST_TIMEOUT_S: Final = 60.0
TTL_S: Final = 1_800.0
RETRY_S: Final = 60.0
"""After a failure, doubling up to the TTL."""
JITTER: Final = 0.2
"""So much of a pause is random, so that many gateways do not ask at once."""

log = logging.getLogger(__name__)


class PriceLibrary(Protocol):
    def knows(self, vendor: VendorSlug) -> bool: ...

    async def quotes(self, pairs: Collection[Pair]) -> Mapping[Pair, Quote]: ...


class LiveCatalog:
    """The ports `CatalogSource` and `CatalogRefresher`.  Until `load`, it holds only what is always there."""

    def __init__(
        self,
        *,
        static: Sequence[Model],
        vendors: Mapping[VendorSlug, AbortPolicy],
        listers: Iterable[ModelLister],
        entries: CatalogEntries,
        prices: Prices,
        library: PriceLibrary,
        clock: Clock,
        names: Mapping[Pair, ModelId] | None = None,
        markups_ppm: Mapping[VendorSlug, int] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._listers = {lister.slug: lister for lister in listers}
        self._entries = entries
        self._prices = prices
        self._library = library
        self._clock = clock
        self._sleep = sleep
        self._chance = chance
        self._sources = Sources(
            static=static, vendors=dict(vendors), names=names or {}, markups_ppm=markups_ppm or {}
        )
