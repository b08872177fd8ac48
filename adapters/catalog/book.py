"""From lists of models and lists of prices to one catalogue: a pure function.

An operator's price wins over the vendor's own list, and that over the library.  A canonical id is never made by
guessing: it is the vendor's own id where that names an author, else the vendor's name and its id; two vendors that
spell a model differently are joined only by the table of names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from adapters.catalog.genai import Pair, Quote
from domain.catalog import AbortPolicy, Catalog, Model, Offer
from domain.ids import ModelId, PriceId, VendorSlug
from domain.ports.vendors import ListedModel
from domain.pricing import MARKUP_ONE_PPM, Price, PriceSource, Rates, Tier

CREATED_S_MAX: Final = 4_102_444_800
"""The year 2100; a list that says more counts in milliseconds."""


class Sources(Struct, frozen=True, kw_only=True):
    """Everything that a catalogue is made of."""

    static: Sequence[Model] = ()
    """Models that are always there, with their offers and prices."""
    vendors: Mapping[VendorSlug, AbortPolicy] = {}
    """The vendors that are on."""
    listed: Mapping[VendorSlug, Sequence[ListedModel]] = {}
    declared: Mapping[VendorSlug, Sequence[str]] = {}
    """Models that the operator named, of vendors whose own list cannot be asked for."""
    prices: Sequence[Price] = ()
    """The stored ones, of which the operator's count."""
    library: Mapping[Pair, Quote] = {}
    names: Mapping[Pair, ModelId] = {}
    """Canonical ids of models whose own name does not tell."""
    markup_ppm: int = MARKUP_ONE_PPM

    @property
    def by_operator(self) -> Mapping[tuple[VendorSlug, ModelId], Price]:
        operators = (price for price in self.prices if price.source is PriceSource.OPERATOR)
        return {(price.vendor, price.model): price for price in operators}

    def rows(self, vendor: VendorSlug) -> Sequence[ListedModel]:
        """What a vendor serves: what the operator named, else its own list, else what the operator has priced."""
        if declared := self.declared.get(vendor):
            return [ListedModel(vendor_model=name) for name in declared]
        listed = self.listed.get(vendor)
        if listed is not None:
            return listed
        spelt = {model: vendor_model for (at, vendor_model), model in self.names.items() if at == vendor}
        return [
            ListedModel(vendor_model=spelt.get(model) or model.removeprefix(f"{vendor}/"))
            for at, model in self.by_operator
            if at == vendor
        ]

    def canonical(self, vendor: VendorSlug, vendor_model: str) -> ModelId:
        return self.names.get((vendor, vendor_model)) or canonical_id(vendor, vendor_model)


def build_catalog(sources: Sources, at: datetime, version: int = 0) -> Catalog:
    """The catalogue of this moment; `at` is when prices from lists count as found."""
    by_operator = sources.by_operator
    drafts: dict[ModelId, _Draft] = {}
    for model in sources.static:
        offers = [
            replace(
                offer,
                price=_believed(by_operator.get((offer.vendor, model.id))) or offer.price,
                markup_ppm=sources.markup_ppm,
            )
            for offer in model.offers
        ]
        drafts[model.id] = _Draft(model, offers)
    static = {offer.vendor for model in sources.static for offer in model.offers}
    for vendor, policy in sources.vendors.items():
        if vendor in static:
            continue
        for row in {row.vendor_model: row for row in reversed(sources.rows(vendor))}.values():
            model_id = sources.canonical(vendor, row.vendor_model)
            price = _believed(by_operator.get((vendor, model_id)))
            offer = Offer(
                vendor=vendor,
                model=model_id,
                vendor_model=row.vendor_model,
                price=price or _automatic(vendor, model_id, row, sources.library, at),
                markup_ppm=sources.markup_ppm,
                context_length=row.context_length,
                output_max=row.output_max,
                capabilities=row.capabilities,
                abort_policy=policy,
            )
            draft = drafts.get(model_id)
            if draft is None:
                draft = drafts[model_id] = _Draft(Model(id=model_id, name="", offers=()), [])
            draft.add(offer, row)
    models = sorted((draft.model() for draft in drafts.values()), key=lambda model: model.id)
    return Catalog(models, vendors=static | sources.vendors.keys(), version=version)


def automatic_prices(catalog: Catalog) -> list[Price]:
    """The versions in force that no operator set."""
    offers = (offer for model in catalog.models.values() for offer in model.offers)
    prices = {offer.price.id: offer.price for offer in offers if offer.price is not None}
    return [price for price in prices.values() if price.source is not PriceSource.OPERATOR]


def unpriced(sources: Sources) -> set[Pair]:
    """The offers for which only the library could have a price."""
    by_operator = sources.by_operator
    return {
        (vendor, row.vendor_model)
        for vendor in sources.vendors
        for row in sources.rows(vendor)
        if row.rates is None and (vendor, sources.canonical(vendor, row.vendor_model)) not in by_operator
    }


def canonical_id(vendor: VendorSlug, vendor_model: str) -> ModelId:
    """`author/slug` as the vendor spells it, or the vendor's name before an id that names no author."""
    author, slash, slug = vendor_model.partition("/")
    if slash and author and slug and "/" not in slug:
        return ModelId(vendor_model)
    return ModelId(f"{vendor}/{vendor_model}")


class _Draft:
    """A model to which its vendors add their offers."""

    def __init__(self, first: Model, offers: list[Offer]) -> None:
        self._first = first
        self._offers = offers
        self._name = first.name
        self._created_s: int | None = None

    def add(self, offer: Offer, row: ListedModel) -> None:
        self._offers.append(offer)
        self._name = self._name or row.name
        if row.created_s is not None and 0 < row.created_s < CREATED_S_MAX:
            self._created_s = min(row.created_s, self._created_s or row.created_s)

    def model(self) -> Model:
        created = self._first.created
        if created is None and self._created_s is not None:
            created = datetime.fromtimestamp(self._created_s, UTC)
        name = self._name or self._first.id.rpartition("/")[2]
        return replace(self._first, name=name, offers=tuple(self._offers), created=created)


def _automatic(
    vendor: VendorSlug, model: ModelId, row: ListedModel, library: Mapping[Pair, Quote], at: datetime
) -> Price | None:
    """What the vendor's list or the library asks for, as a version that has the same id wherever it is found."""
    if row.rates is not None:
        source, rates, tiers, free = PriceSource.VENDOR, row.rates, row.tiers, row.free
    elif quote := library.get((vendor, row.vendor_model)):
        source, rates, tiers, free = PriceSource.GENAI_PRICES, quote.rates, quote.tiers, False
    else:
        return None
    price = Price(
        id=_price_id(vendor, model, source, rates, tiers),
        vendor=vendor,
        model=model,
        rates=rates,
        valid_from=at,
        source=source,
        tiers=tiers,
        free=free,
    )
    return _believed(price)


def _believed(price: Price | None) -> Price | None:
    """None instead of a price that would give a model away by mistake, or that nobody can mean."""
    if price is None or (price.rates.is_zero and not price.free):
        return None
    if price.rates.implausible or any(tier.rates.implausible for tier in price.tiers):
        return None
    return price


def _price_id(vendor: VendorSlug, model: ModelId, source: PriceSource, rates: Rates, tiers: Iterable[Tier]) -> PriceId:
    content = msgspec.json.encode((vendor, model, rates, tuple(tiers)))
    return PriceId(f"{source}:{blake2b(content, digest_size=16).hexdigest()}")
