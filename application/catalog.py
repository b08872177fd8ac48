"""Use cases about the catalogue: what can be asked for, what it costs, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from anyio.lowlevel import checkpoint
from msgspec import Struct

from domain.catalog import Capability, Catalog, Model, Offer, UnknownVendor
from domain.errors import InvalidRequest
from domain.ids import ModelId, PriceId, VendorSlug
from domain.money import Usd
from domain.ports.catalog import CatalogRefresher, CatalogSource, Refreshed
from domain.ports.clock import Clock, IdSource
from domain.ports.repositories import Prices
from domain.pricing import Price, PriceSource, Rates, far_from_others, usd_per_unit

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
    output_modalities: tuple[str, ...] = ("text",)


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
    owned_by: str
    object: str = "model"


@dataclass(slots=True)
class ListModels:
    """Keeps the records of the current snapshot, so one instance should serve all callers."""

    catalog: CatalogSource
    _made: tuple[Catalog, tuple[ModelRecord, ...]] | None = field(default=None, init=False, repr=False)

    async def __call__(self) -> Sequence[ModelRecord]:
        """Every model that can be asked for, in order of id."""
        catalog = self.catalog.current()
        made = self._made
        if made is None or made[0] is not catalog:
            records: list[ModelRecord] = []
            for number, model in enumerate(catalog.listed(), 1):
                records.append(record(model))
                if number % RECORDS_PER_TURN == 0:
                    await checkpoint()
            made = self._made = (catalog, tuple(records))
        return made[1]

    def one(self, name: str) -> ModelRecord:
        """Raises ModelNotFound, ModelUnpriced."""
        return record(self.catalog.current().find(name))


def record(model: Model) -> ModelRecord:
    """How a model with at least one priced offer is shown."""
    offers = model.priced
    best = min(offers, key=_dearness)
    can = frozenset[Capability]().union(*(offer.capabilities or _LIKELY for offer in offers))
    inputs = ("text", *(word for capability, word in _MODALITIES.items() if capability in can))
    lengths = [offer.context_length for offer in offers if offer.context_length is not None]
    parameters = {name for capability, names in _BY_CAPABILITY.items() if capability in can for name in names}
    return ModelRecord(
        id=model.id,
        name=model.name,
        created=0 if model.created is None else int(model.created.timestamp()),
        description=model.description,
        context_length=max(lengths, default=None),
        architecture=Architecture(modality=f"{'+'.join(inputs)}->text", input_modalities=inputs),
        pricing=_pricing(best),
        top_provider=TopProvider(
            vendor=best.vendor, context_length=best.context_length, max_completion_tokens=best.output_max
        ),
        supported_parameters=tuple(sorted({*_ALWAYS, *parameters})),
        owned_by=model.id.partition("/")[0],
    )


_LIKELY: Final = frozenset({Capability.STREAM, Capability.TOOLS, Capability.JSON_SCHEMA})
"""What is shown of an offer whose vendor does not say what it can do."""


def _dearness(offer: Offer) -> tuple[int, VendorSlug]:
    rates = Rates(input=0, output=0) if offer.price is None else offer.price.rates
    return (rates.input + rates.output) * offer.markup_ppm, offer.vendor


def _pricing(offer: Offer) -> Pricing:
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


class PriceImplausible(InvalidRequest):
    code = "price_implausible"


class PriceWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD per million tokens, as decimal strings; what is not named falls back as `Rates` says."""

    input: str
    output: str
    cache_read: str | None = None
    cache_write_5m: str | None = None
    cache_write_1h: str | None = None
    reasoning: str | None = None


@dataclass(frozen=True, slots=True)
class SetPrice:
    prices: Prices
    catalog: CatalogSource
    clock: Clock
    ids: IdSource

    async def __call__(
        self,
        model: str,
        wish: PriceWish,
        *,
        vendor: str | None = None,
        free: bool = False,
        confirmed: bool = False,
        author: str = "",
    ) -> Price:
        """Set what one vendor's offer of a model costs from now on.

        Raises UnknownVendor, InvalidRequest, and PriceImplausible for a price that is more than three times away
        from what the model's other offers cost, unless it is `confirmed`.
        """
        catalog = self.catalog.current()
        slug = _vendor(catalog, model, vendor)
        model_id = _model_id(catalog, model, slug)
        price = Price(
            id=PriceId(self.ids.fresh()),
            vendor=slug,
            model=model_id,
            rates=_rates(wish, free),
            valid_from=self.clock.now(),
            source=PriceSource.OPERATOR,
            free=free,
            author=author,
        )
        if not confirmed and not free:
            _check_against(_others(catalog, model_id, slug), price)
        await self.prices.add(price)
        return price


def _vendor(catalog: Catalog, model: str, vendor: str | None) -> VendorSlug:
    """The vendor named; else the only one that serves the model, or the one that its id begins with."""
    if vendor is not None:
        if vendor not in catalog.vendors:
            raise UnknownVendor(vendor, catalog.vendors)
        return VendorSlug(vendor)
    known = catalog.models.get(model)
    serving = sorted({offer.vendor for offer in known.offers}) if known else []
    if len(serving) == 1:
        return serving[0]
    author = model.partition("/")[0]
    if not serving and author in catalog.vendors:
        return VendorSlug(author)
    among = f"{', '.join(serving)} serve it" if serving else f"there are {', '.join(sorted(catalog.vendors))}"
    raise InvalidRequest(f"Name the vendor whose price of {model} this is; {among}.", param="vendor")


def _model_id(catalog: Catalog, model: str, vendor: VendorSlug) -> ModelId:
    """The canonical id of a name that may lack its author."""
    if model in catalog.models:
        return ModelId(model)
    prefixed = ModelId(f"{vendor}/{model}")
    if prefixed in catalog.models or "/" not in model:
        return prefixed
    return ModelId(model)


def _rates(wish: PriceWish, free: bool) -> Rates:
    stated = {name: _nanos(name, text) for name in wish.__struct_fields__ if (text := getattr(wish, name)) is not None}
    rates = Rates(**stated)
    if strange := rates.implausible:
        raise InvalidRequest(f"{strange} must be from 0 to 100000 USD per million tokens.", param=strange)
    if rates.is_zero and not free:
        raise InvalidRequest("A price of zero gives the model away. Say so with 'free' if you mean it.", param="free")
    if free and not rates.is_zero:
        raise InvalidRequest("A free model has prices of zero.", param="free")
    return rates


def _nanos(name: str, text: str) -> int:
    try:
        return Usd.parse(text).nanos
    except ValueError as error:
        raise InvalidRequest(f"'{name}' cannot be read: {error}.", param=name) from None


def _others(catalog: Catalog, model: ModelId, vendor: VendorSlug) -> list[Rates]:
    known = catalog.models.get(model)
    offers: Iterable[Offer] = known.priced if known else ()
    return [offer.price.rates for offer in offers if offer.price and offer.vendor != vendor and not offer.price.free]


def _check_against(others: Sequence[Rates], price: Price) -> None:
    for name in ("input", "output"):
        rate = getattr(price.rates, name)
        usual = far_from_others(rate, [getattr(rates, name) for rates in others])
        if usual is not None:
            raise PriceImplausible(
                f"{Usd(rate)} USD per million {name} tokens is more than three times away from the "
                f"{Usd(usual)} USD that {price.model} costs elsewhere. Confirm it if you mean it.",
                param=name,
            )


@dataclass(frozen=True, slots=True)
class RefreshCatalog:
    catalog: CatalogRefresher

    async def __call__(self, vendor: str | None = None) -> Sequence[Refreshed]:
        """Ask one vendor, or all, for their models now.  Raises UnknownVendor."""
        return await self.catalog.refresh(None if vendor is None else VendorSlug(vendor))
