"""The current catalogue, and what is known of vendors' health."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from domain.catalog import Catalog, Offer
from domain.ids import ModelId, VendorSlug
from domain.inference.faults import VendorFault
from domain.ports.vendors import ListedModel
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


class Switch(Struct, frozen=True, tag="switch"):
    """A vendor switched on or off."""

    vendor: VendorSlug
    on: bool


class Alias(Struct, frozen=True, tag="alias"):
    """A further name that callers may use."""

    name: str
    model: ModelId


class Joined(Struct, frozen=True, tag="name"):
    """The canonical id of what a vendor calls by its own name."""

    vendor: VendorSlug
    vendor_model: str
    model: ModelId


class AddedOffer(Struct, frozen=True, tag="offer"):
    """An offer that the vendor's own list does not have, or has wrong."""

    vendor: VendorSlug
    row: ListedModel


Override = Switch | Alias | Joined | AddedOffer
"""One thing that the operator has said about the catalogue."""


def subject(override: Override) -> tuple[str, str, str]:
    """What an override is about: its kind, a vendor, and a name; of two about the same the later one counts."""
    match override:
        case Switch():
            return "switch", override.vendor, ""
        case Alias():
            return "alias", "", override.name
        case Joined():
            return "name", override.vendor, override.vendor_model
        case AddedOffer():
            return "offer", override.vendor, override.row.vendor_model


class CatalogOverrides(Protocol):
    """What the operator has said; it wins over what vendors list."""

    async def all(self) -> Sequence[Override]: ...

    async def put(self, override: Override, at: datetime, author: str) -> None:
        """It replaces what was said about the same thing before.  Bumps the topic "catalog" if anything changed."""
        ...

    async def remove(self, override: Override) -> bool:
        """Take back what was said about the same thing; whether there was anything.  Bumps the topic "catalog"."""
        ...


class VendorState(Struct, frozen=True, kw_only=True):
    """How a vendor stands here."""

    vendor: VendorSlug
    on: bool
    lists: bool
    """Its models list can be asked for."""
    offers: int
    """That could be asked for if it were on, with or without a price."""
    priced: int
    asked_at: datetime | None = None
    """When its list was last asked for, by whichever process."""
    listed_at: datetime | None = None
    """When it last sent one."""
    failure: str | None = None
    """Why the last list that was asked for did not come."""


class Asked(Struct, frozen=True, kw_only=True):
    """The last time that a vendor was asked for its list."""

    at: datetime
    listed_at: datetime | None
    failure: str | None


class VendorBoard(Protocol):
    async def states(self) -> Sequence[VendorState]:
        """Every vendor that is set up, in order of slug.  Raises StorageUnavailable."""
        ...

    async def reload(self) -> None:
        """Take up what was changed in storage.  Raises StorageUnavailable."""
        ...


class CatalogRefresher(Protocol):
    async def refresh(self, vendor: VendorSlug | None = None) -> Sequence[Refreshed]:
        """Ask this vendor, or every one that has a list, and take up what they answer.

        One vendor's failure is its own.  Raises StorageUnavailable.
        """
        ...


class VendorPulse(Struct, frozen=True):
    """What is known of a vendor's health."""

    resting: bool
    """It refuses our account, so that all of its offers rest."""
    offers: Sequence[Pulse] = ()
    """Of those that were called."""


class VendorPulses(Protocol):
    def vendors(self) -> Mapping[VendorSlug, VendorPulse]:
        """Those that were called; asking changes nothing, and takes as long as there are offers."""
        ...


class HealthBoard(Protocol):
    def pulse(self, offer: Offer) -> Pulse:
        """What is known of it; asking changes nothing."""
        ...

    def begins(self, offer: Offer) -> bool:
        """A call of this offer is about to be made, and finds out whether it has recovered where that is open.

        False where another call is finding that out right now: better try another offer first.
        """
        ...

    def succeeded(self, offer: Offer, first_token_ms: int, output_tokens: int, duration_ms: int) -> None: ...

    def failed(self, offer: Offer, fault: VendorFault) -> None: ...
