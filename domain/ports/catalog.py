"""The current catalogue, and what is known of vendors' health."""

from __future__ import annotations

from typing import Protocol

from domain.catalog import Catalog, Offer
from domain.inference.faults import VendorFault
from domain.routing import Pulse


class CatalogSource(Protocol):
    def current(self) -> Catalog:
        """The snapshot of this moment; never waits, never fetches."""
        ...


class HealthBoard(Protocol):
    def pulse(self, offer: Offer) -> Pulse: ...

    def succeeded(self, offer: Offer, first_token_ms: int, output_tokens: int, duration_ms: int) -> None: ...

    def failed(self, offer: Offer, fault: VendorFault) -> None: ...
