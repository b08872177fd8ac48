"""A model's offers side by side: what each vendor asks, allows, and how it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from msgspec import Struct

from application.catalog import ModelRecord, Pricing, dearness, pricing_of, record
from domain.catalog import Catalog, Model, ModelNotFound, Offer
from domain.errors import InvalidRequest
from domain.ids import ModelId, VendorSlug
from domain.ports.catalog import CatalogSource, HealthBoard
from domain.pricing import ModelUnpriced

COMPARED_MAX: Final = 50


class OfferRecord(Struct, frozen=True, kw_only=True):
    """One vendor's way of serving a model."""

    vendor: VendorSlug
    vendor_model: str
    """What the vendor itself calls it."""
    pricing: Pricing
    context_length: int | None
    max_completion_tokens: int | None
    quantization: str | None
    capabilities: tuple[str, ...] | None
    """None where the vendor does not say."""
    input_modalities: tuple[str, ...]
    output_modalities: tuple[str, ...]
    deprecation_date: datetime | None
    status: str
    """"ok", or "resting" while calls of it fail: it is tried last then."""
    latency_ms: int | None
    """Until the first token, as seen here."""
    tokens_per_s: int | None


class ModelOffers(Struct, frozen=True, kw_only=True):
    model: ModelRecord
    offers: tuple[OfferRecord, ...]
    """The cheapest first."""


class Comparison(Struct, frozen=True, kw_only=True):
    """Which of a model's offers to take."""

    id: ModelId
    offers: tuple[OfferRecord, ...]
    cheapest: VendorSlug
    fastest: VendorSlug | None
    """By tokens per second as seen here; None where none was called yet."""
    longest_context: VendorSlug | None
    savings_percent: int
    """How much less the cheapest asks than the dearest."""


class ComparedModel(Struct, frozen=True, kw_only=True):
    id: ModelId
    name: str
    context_length: int | None
    pricing: Pricing
    """The cheapest vendor's."""
    providers: tuple[VendorSlug, ...]
    available: bool
    """At least one of its vendors does not rest."""


class ComparedModels(Struct, frozen=True, kw_only=True):
    data: tuple[ComparedModel, ...]
    """In the order asked for."""
    cheapest: ModelId | None
    longest_context: ModelId | None
    not_found: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShowOffers:
    catalog: CatalogSource
    health: HealthBoard

    def __call__(self, name: str) -> ModelOffers:
        """Raises ModelNotFound, ModelUnpriced."""
        model = self.catalog.current().find(name)
        return ModelOffers(model=record(model), offers=self._offers(model))

    def compared(self, name: str, vendors: Sequence[str] = ()) -> Comparison:
        """The offers of these vendors, or of all.  Raises ModelNotFound, ModelUnpriced, InvalidRequest."""
        model = self.catalog.current().find(name)
        offers = [offer for offer in model.priced if not vendors or offer.vendor in vendors]
        if not offers:
            serving = ", ".join(sorted({offer.vendor for offer in model.priced}))
            raise InvalidRequest(f"None of these vendors serves {model.id}; {serving} do.", param="vendors")
        offers.sort(key=dearness)
        least, most = dearness(offers[0])[0], dearness(offers[-1])[0]
        shown = tuple(map(self._shown, offers))
        fast = [each for each in shown if each.tokens_per_s is not None]
        long = [each for each in shown if each.context_length is not None]
        return Comparison(
            id=model.id,
            offers=shown,
            cheapest=offers[0].vendor,
            fastest=max(fast, key=lambda each: each.tokens_per_s or 0).vendor if fast else None,
            longest_context=max(long, key=lambda each: each.context_length or 0).vendor if long else None,
            savings_percent=(most - least) * 100 // most if most else 0,
        )

    def compared_models(self, names: Sequence[str]) -> ComparedModels:
        """Several models side by side.  Raises InvalidRequest."""
        if not 1 <= len(names) <= COMPARED_MAX:
            raise InvalidRequest(f"Name 1 to {COMPARED_MAX} models.", param="model_ids")
        found, missing = _found(self.catalog.current(), names)
        costs = {model.id: min(map(dearness, model.priced))[0] for model in found}
        lengths = {model.id: record(model).context_length or 0 for model in found}
        return ComparedModels(
            data=tuple(map(self._compared_model, found)),
            cheapest=min(costs, key=lambda each: costs[each]) if costs else None,
            longest_context=max(lengths, key=lambda each: lengths[each]) if any(lengths.values()) else None,
            not_found=tuple(missing),
        )

    def _compared_model(self, model: Model) -> ComparedModel:
        shown = record(model)
        return ComparedModel(
            id=model.id,
            name=model.name,
            context_length=shown.context_length,
            pricing=shown.pricing,
            providers=shown.providers,
            available=any(not self.health.pulse(offer).resting for offer in model.priced),
        )

    def _offers(self, model: Model) -> tuple[OfferRecord, ...]:
        return tuple(map(self._shown, sorted(model.priced, key=dearness)))

    def _shown(self, offer: Offer) -> OfferRecord:
        pulse = self.health.pulse(offer)
        return OfferRecord(
            vendor=offer.vendor,
            vendor_model=offer.vendor_model,
            pricing=pricing_of(offer),
            context_length=offer.context_length,
            max_completion_tokens=offer.output_max,
            quantization=offer.quantization or None,
            capabilities=None if offer.capabilities is None else tuple(sorted(offer.capabilities)),
            input_modalities=offer.input_modalities,
            output_modalities=offer.output_modalities,
            deprecation_date=offer.retires_at,
            status="resting" if pulse.resting else "ok",
            latency_ms=pulse.latency_ms,
            tokens_per_s=pulse.tokens_per_s,
        )


def _found(catalog: Catalog, names: Sequence[str]) -> tuple[list[Model], list[str]]:
    found: list[Model] = []
    missing: list[str] = []
    for name in names:
        try:
            model = catalog.find(name)
        except (ModelNotFound, ModelUnpriced):
            missing.append(name)
        else:
            if model not in found:
                found.append(model)
    return found, missing
