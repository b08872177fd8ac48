"""Use cases about vendors and what the operator says about the catalogue: on and off, names, offers of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from statistics import median_low
from typing import Final

from msgspec import Struct

from domain.catalog import UnknownVendor
from domain.errors import InvalidRequest, NotFound
from domain.ids import ModelId, VendorSlug
from domain.ports.catalog import (
    AddedOffer,
    Alias,
    CatalogOverrides,
    CatalogSource,
    Joined,
    Override,
    Switch,
    VendorBoard,
    VendorPulse,
    VendorPulses,
    VendorState,
)
from domain.ports.clock import Clock
from domain.ports.vendors import ListedModel

NAME_LENGTH_MAX: Final = 200
FRESH_S: Final = 1.0
"""Health is asked for by anybody and often; it is worked out at most so often."""


class NothingSaid(NotFound):
    code = "not_found"


class VendorStatus(StrEnum):
    OK = "ok"
    DEGRADED = "degraded"
    """Some of its offers rest, or its list could not be refreshed."""
    RESTING = "resting"
    """All of its offers rest: they are tried last."""
    OFF = "off"


class VendorHealth(Struct, frozen=True, kw_only=True):
    """How a vendor does, as this process has seen it."""

    vendor: VendorSlug
    status: VendorStatus
    offers: int
    priced: int
    """Of them, those that have a price, and so can be asked for."""
    resting: int
    """Of them, those that are tried last, because calls of them failed."""
    latency_ms: int | None
    """Until the first token: the median of its offers that were called."""
    tokens_per_s: int | None
    asked_at: datetime | None
    """When its models list was last asked for."""
    listed_at: datetime | None
    """When it last sent one."""
    failure: str | None
    """Why the list that was last asked for did not come."""


@dataclass(slots=True)
class ShowVendors:
    """Keeps what it found for a moment, so that one instance should serve all callers."""

    board: VendorBoard
    health: VendorPulses
    clock: Clock
    _found: tuple[float, Sequence[VendorHealth]] | None = None

    async def __call__(self) -> Sequence[VendorHealth]:
        """Every vendor that is set up, in order of slug.  Raises StorageUnavailable."""
        now = self.clock.monotonic()
        if self._found is None or now - self._found[0] >= FRESH_S:
            states, pulses = await self.board.states(), self.health.vendors()
            self._found = (now, [_health(state, pulses.get(state.vendor, _NEVER_CALLED)) for state in states])
        return self._found[1]

    async def one(self, vendor: str) -> VendorHealth:
        """Raises UnknownVendor, StorageUnavailable."""
        vendors = {each.vendor: each for each in await self()}
        found = vendors.get(VendorSlug(vendor))
        if found is None:
            raise UnknownVendor(vendor, vendors)
        return found

    def forget(self) -> None:
        """What was found is not true any more."""
        self._found = None


_NEVER_CALLED: Final = VendorPulse(resting=False)


def _health(state: VendorState, pulse: VendorPulse) -> VendorHealth:
    resting = state.priced if pulse.resting else sum(offer.resting for offer in pulse.offers)
    latencies = [offer.latency_ms for offer in pulse.offers if offer.latency_ms is not None]
    speeds = [offer.tokens_per_s for offer in pulse.offers if offer.tokens_per_s is not None]
    if not state.on:
        status = VendorStatus.OFF
    elif pulse.resting or (resting and resting >= state.priced):
        status = VendorStatus.RESTING
    elif resting or state.failure:
        status = VendorStatus.DEGRADED
    else:
        status = VendorStatus.OK
    return VendorHealth(
        vendor=state.vendor,
        status=status,
        offers=state.offers,
        priced=state.priced,
        resting=resting,
        latency_ms=median_low(latencies) if latencies else None,
        tokens_per_s=median_low(speeds) if speeds else None,
        asked_at=state.asked_at,
        listed_at=state.listed_at,
        failure=state.failure,
    )


@dataclass(frozen=True, slots=True)
class OverrideCatalog:
    """What the operator says about the catalogue; it holds here at once, and elsewhere within about a second."""

    overrides: CatalogOverrides
    catalog: CatalogSource
    board: VendorBoard
    clock: Clock
    changed: Callable[[], None]
    """Tells the other processes."""

    async def switch(self, vendor: str, *, on: bool, author: str) -> None:
        """Raises UnknownVendor."""
        await self._put(Switch(self._vendor(vendor), on), author)

    async def alias(self, name: str, model: str, author: str) -> ModelId:
        """Let callers call a model by a further name; returns its id.  Raises InvalidRequest, ModelNotFound."""
        models = self.catalog.current().models
        _check_name(name, "alias")
        if name in models:
            raise InvalidRequest(f"{name} is the id of a model itself; give the alias another name.", param="alias")
        model_id = self._known(model)
        await self._put(Alias(name, model_id), author)
        return model_id

    async def join(self, vendor: str, vendor_model: str, model: str, author: str) -> None:
        """Say which model it is that a vendor calls by its own name.  Raises UnknownVendor, InvalidRequest."""
        _check_name(vendor_model, "vendor_model")
        await self._put(Joined(self._vendor(vendor), vendor_model, _model_id(model)), author)

    async def add_offer(self, vendor: str, row: ListedModel, author: str) -> None:
        """Add an offer that the vendor's own list does not have.  Raises UnknownVendor, InvalidRequest."""
        _check_name(row.vendor_model, "vendor_model")
        if row.canonical:
            _model_id(row.canonical)
        for name in ("context_length", "output_max"):
            if (count := getattr(row, name)) is not None and count < 1:
                raise InvalidRequest(f"{name} must be at least 1.", param=name)
        await self._put(AddedOffer(self._vendor(vendor), row), author)

    async def remove_alias(self, name: str) -> None:
        """Raises NothingSaid."""
        await self._remove(Alias(name, ModelId("")), f"There is no alias {name[:100]!r}.")

    async def part(self, vendor: str, vendor_model: str) -> None:
        """Raises NothingSaid."""
        what = f"Nothing was said about what {vendor[:100]} calls {vendor_model[:100]!r}."
        await self._remove(Joined(VendorSlug(vendor), vendor_model, ModelId("")), what)

    async def remove_offer(self, vendor: str, vendor_model: str) -> None:
        """Raises NothingSaid."""
        what = f"No offer {vendor_model[:100]!r} of {vendor[:100]} was added here."
        await self._remove(AddedOffer(VendorSlug(vendor), ListedModel(vendor_model=vendor_model)), what)

    async def all(self) -> Sequence[Override]:
        return await self.overrides.all()

    async def _put(self, override: Override, author: str) -> None:
        await self.overrides.put(override, self.clock.now(), author)
        await self._take_up()

    async def _remove(self, override: Override, otherwise: str) -> None:
        if not await self.overrides.remove(override):
            raise NothingSaid(otherwise)
        await self._take_up()

    async def _take_up(self) -> None:
        self.changed()
        await self.board.reload()

    def _vendor(self, vendor: str) -> VendorSlug:
        known = self.catalog.current().vendors
        if vendor not in known:
            raise UnknownVendor(vendor, known)
        return VendorSlug(vendor)

    def _known(self, model: str) -> ModelId:
        catalog = self.catalog.current()
        if model in catalog.models:
            return ModelId(model)
        return catalog.find(model).id


def _check_name(name: str, field: str) -> None:
    if not 0 < len(name) <= NAME_LENGTH_MAX or not name.isprintable() or name != name.strip():
        raise InvalidRequest(
            f"{field} must be 1 to {NAME_LENGTH_MAX} printable characters without spaces around them.", param=field
        )


def _model_id(model: str) -> ModelId:
    _check_name(model, "model")
    author, slash, slug = model.partition("/")
    if not (author and slash and slug):
        raise InvalidRequest(f"{model[:100]!r} is no model id; write it as author/slug.", param="model")
    return ModelId(model)
