"""The current catalogue, and what is known of vendors' health."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from domain.catalog import Catalog, Offer
from domain.ids import VendorSlug
from domain.inference.faults import VendorFault
from domain.routing import Pulse


class CatalogSource(Protocol):
    def current(self) -> Catalog:
        """The snapshot of this moment; never waits, never fetches."""
        ...


class Refreshed(Struct, frozen=True, kw_only=True):
    """What came of asking one vendor for its models."""

    vendor: VendorSlug
    models: int = 0
    failure: str | None = None
    """Why its last good list is kept."""


class CatalogRefresher(Protocol):
    async def refresh(self, vendor: VendorSlug | None = None) -> Sequence[Refreshed]:
        """Ask this vendor, or every one that has a list, and take up what they answer.

        One vendor's failure is its own.  Raises StorageUnavailable.
        """
        ...


class HealthBoard(Protocol):
    def pulse(self, offer: Offer) -> Pulse: ...

    def succeeded(self, offer: Offer, first_token_ms: int, output_tokens: int, duration_ms: int) -> None: ...

    def failed(self, offer: Offer, fault: VendorFault) -> None: ...
