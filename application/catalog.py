"""Use cases about the catalogue: what can be asked for, what it costs, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from anyio.lowlevel import checkpoint
from msgspec import Struct

from domain.catalog import Capability, Model, Offer
from domain.ids import ModelId, VendorSlug
from domain.ports.catalog import CatalogRefresher, CatalogSource, Refreshed
from domain.pricing import Rates, usd_per_unit

RECORDS_PER_TURN: Final = 200
"""After so many records others get their turn: a large catalogue takes longer than a request may wait."""

_ALWAYS: Final = ("max_completion_tokens", "max_tokens", "seed", "stop", "stream", "temperature", "top_p")
_BY_CAPABILITY: Final[Mapping[Capability, tuple[str, ...]]] = {
    Capability.TOOLS: ("parallel_tool_calls", "tool_choice", "tools"),
    Capability.JSON_SCHEMA: ("response_format", "structured_outputs"),
    Capability.REASONING: ("reasoning", "reasoning_effort"),
}
_MODALITIES: Final[Mapping[Capability, str]] = {
    Capability.IMAGES_IN: "image",
    Capability.AUDIO_IN: "audio",
    Capability.FILES_IN: "file",
}


class Architecture(Struct, frozen=True, kw_only=True, gc=False):
    modality: str
    input_modalities: tuple[str, ...]
    output_modalities: tuple[str, ...]


class Pricing(Struct, frozen=True, kw_only=True, gc=False):
    """What callers pay, in USD per token, request, image or search: decimal strings."""

    prompt: str
    completion: str
    request: str
    image: str
    web_search: str
    internal_reasoning: str
    input_cache_read: str
    input_cache_write: str


class TopProvider(Struct, frozen=True, kw_only=True, gc=False):
    """The offer that a request without wishes is sent to."""

    vendor: VendorSlug
    context_length: int | None
    max_completion_tokens: int | None
    is_moderated: bool = False


class ModelRecord(Struct, frozen=True, kw_only=True, gc=False):
    """A model as lists show it."""

    id: ModelId
    name: str
    created: int
    """Seconds since 1970; 0 where nobody says."""
    description: str
    context_length: int | None
    architecture: Architecture
    pricing: Pricing
    top_provider: TopProvider
    supported_parameters: tuple[str, ...]
    capabilities: tuple[str, ...]
    """What at least one of its vendors is known to do, or likely does."""
    providers: tuple[VendorSlug, ...]
    """The vendors that serve it."""
    is_free: bool
    deprecated: bool
    """All of its vendors have said when they stop serving it."""
    deprecation_date: datetime | None
    """When the last of them does."""
    aliases: tuple[str, ...]
    """Further names by which it can be asked for."""
    owned_by: str
    canonical_slug: ModelId
    object: str = "model"


@dataclass(frozen=True, slots=True)
class ListModels:
    catalog: CatalogSource

    async def __call__(self) -> Sequence[ModelRecord]:
        """Every model that can be asked for, in order of id."""
        records: list[ModelRecord] = []
        for number, model in enumerate(self.catalog.current().listed(), 1):
            records.append(record(model))
            if number % RECORDS_PER_TURN == 0:
                await checkpoint()
        return records

    def one(self, name: str) -> ModelRecord:
        """Raises ModelNotFound, ModelUnpriced."""
        return record(self.catalog.current().find(name))


def record(model: Model) -> ModelRecord:
    """How a model with at least one priced offer is shown."""
    offers = model.priced
    best = min(offers, key=dearness)
    can = frozenset[Capability]().union(*(offer.capabilities or _LIKELY for offer in offers))
    inputs, outputs = _modalities(offers, can)
    lengths = [offer.context_length for offer in offers if offer.context_length is not None]
    parameters = {name for capability, names in _BY_CAPABILITY.items() if capability in can for name in names}
    return ModelRecord(
        id=model.id,
        name=model.name,
        created=0 if model.created is None else int(model.created.timestamp()),
        description=model.description,
        context_length=max(lengths, default=None),
        architecture=Architecture(
            modality=f"{'+'.join(inputs)}->{'+'.join(outputs)}", input_modalities=inputs, output_modalities=outputs
        ),
        pricing=pricing_of(best),
        top_provider=TopProvider(
            vendor=best.vendor, context_length=best.context_length, max_completion_tokens=best.output_max
        ),
        supported_parameters=tuple(sorted({*_ALWAYS, *parameters})),
        capabilities=tuple(sorted(can)),
        providers=tuple(sorted({offer.vendor for offer in offers})),
        is_free=best.price is not None and best.price.free,
        deprecated=model.deprecated_at is not None,
        deprecation_date=model.deprecated_at,
        aliases=model.aliases,
        owned_by=model.author,
        canonical_slug=model.id,
    )


def _modalities(offers: Sequence[Offer], can: frozenset[Capability]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What goes in and what comes out at one of the offers at least; text first."""
    inputs = {word for capability, word in _MODALITIES.items() if capability in can}
    outputs: set[str] = set()
    for offer in offers:
        inputs.update(offer.input_modalities or ("text",))
        outputs.update(offer.output_modalities or ("text",))
    return _text_first(inputs), _text_first(outputs)


def _text_first(words: set[str]) -> tuple[str, ...]:
    return tuple(sorted(words, key=lambda word: (word != "text", word)))


_LIKELY: Final = frozenset({Capability.STREAM, Capability.TOOLS, Capability.JSON_SCHEMA})
"""What is shown of an offer whose vendor does not say what it can do."""


def dearness(offer: Offer) -> tuple[int, VendorSlug]:
    rates = Rates(input=0, output=0) if offer.price is None else offer.price.rates
    return (rates.input + rates.output) * offer.markup_ppm, offer.vendor


def pricing_of(offer: Offer) -> Pricing:
    rates = Rates(input=0, output=0) if offer.price is None else offer.price.rates

    def per_unit(rate: int | None, instead: int = 0) -> str:
        return usd_per_unit(instead if rate is None else rate, offer.markup_ppm)

    return Pricing(
        prompt=per_unit(rates.input),
        completion=per_unit(rates.output),
        request=per_unit(rates.requests),
        image=per_unit(rates.images),
        web_search=per_unit(rates.searches),
        internal_reasoning=per_unit(rates.reasoning, rates.output),
        input_cache_read=per_unit(rates.cache_read, rates.input),
        input_cache_write=per_unit(rates.cache_write_5m, rates.input),
    )


@dataclass(frozen=True, slots=True)
class RefreshCatalog:
    catalog: CatalogRefresher

    async def __call__(self, vendor: str | None = None) -> Sequence[Refreshed]:
        """Ask one vendor, or all, for their models now.  Raises UnknownVendor."""
        return await self.catalog.refresh(None if vendor is None else VendorSlug(vendor))
