"""From lists of models and lists of prices to one catalogue: a pure function.

An operator's price wins over the vendor's own list, and that over the library.  What models are called is decided in
`adapters.catalog.names`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from adapters.catalog.genai import Pair, Quote
from adapters.catalog.listed_prices import PriceKey, disbelieved, judged, library_price, listed_price
from adapters.catalog.names import canonical_name, further_names, vendor_id
from domain.catalog import NO_TRAITS, AbortPolicy, Catalog, Model, Offer, Traits
from domain.ids import ModelId, PlanId, PriceId, VendorSlug
from domain.markups import Markup, MarkupTable
from domain.ports.vendors import ListedModel
from domain.pricing import MARKUP_ONE_PPM, Price, PriceSource

CREATED_S_MAX: Final = 4_102_444_800
"""The year 2100; a list that says more counts in milliseconds."""


class Sources(Struct, frozen=True, kw_only=True):
    """Everything that a catalogue is made of."""

    static: Sequence[Model] = ()
    """Models that are always there, with their offers and prices."""
    vendors: Mapping[VendorSlug, AbortPolicy] = {}
    """The vendors that are set up."""
    traits: Mapping[VendorSlug, Traits] = {}
    """Of those whose offers have any."""
    listed: Mapping[VendorSlug, Sequence[ListedModel]] = {}
    fallback: Mapping[VendorSlug, Sequence[ListedModel]] = {}
    """What stands for the lists of vendors that have never sent one."""
    declared: Mapping[VendorSlug, Sequence[str]] = {}
    """Models that the operator named, of vendors whose own list cannot be asked for."""
    added: Mapping[VendorSlug, Sequence[ListedModel]] = {}
    """Offers that the operator added; each wins over the row of the vendor's list with the same id."""
    prices: Sequence[Price] = ()
    """The stored ones, of which the operator's count."""
    library: Mapping[Pair, Quote] = {}
    names: Mapping[Pair, ModelId] = {}
    """Canonical ids as the operator says."""
    aliases: Mapping[str, ModelId] = {}
    """Further names of models, as the operator says."""
    off: frozenset[VendorSlug] = frozenset()
    """Vendors that are switched off."""
    last_good: Mapping[PriceKey, Price] = {}
    """What offers cost before by lists that were believed."""
    markup_ppm: int = MARKUP_ONE_PPM
    """Where no rule of `markups` fits."""
    markups: Sequence[Markup] = ()

    @property
    def by_operator(self) -> Mapping[tuple[VendorSlug, ModelId], Price]:
        operators = (price for price in self.prices if price.source is PriceSource.OPERATOR)
        return {(price.vendor, price.model): price for price in operators}

    def rows(self, vendor: VendorSlug) -> Sequence[ListedModel]:
        """What a vendor serves: what the operator added, and what the vendor is known to list."""
        added = self.added.get(vendor)
        known = self._known(vendor)
        if not added:
            return known
        ids = {row.vendor_model for row in added}
        return [*added, *(row for row in known if row.vendor_model not in ids)]

    def _known(self, vendor: VendorSlug) -> Sequence[ListedModel]:
        """What the operator named, else the vendor's own list, else what stands for it and what has a price."""
        if declared := self.declared.get(vendor):
            return [ListedModel(vendor_model=name) for name in declared]
        listed = self.listed.get(vendor)
        if listed is not None:
            return listed
        fallback = self.fallback.get(vendor, ())
        named = {self.canonical(vendor, row) for row in fallback}
        priced = [
            ListedModel(vendor_model=vendor_id(vendor, model, self.names), canonical=model)
            for at, model in self.by_operator
            if at == vendor and model not in named
        ]
        return [*fallback, *priced]

    def canonical(self, vendor: VendorSlug, row: ListedModel) -> ModelId:
        return canonical_name(vendor, row, self.names)


class _MadeOf(Struct, frozen=True, gc=False):
    """Everything that an offer is made of."""

    row: ListedModel
    model: ModelId
    priced: Price | None
    quote: Quote | None
    markup_ppm: int
    plan_markups: tuple[tuple[PlanId, int], ...]
    policy: AbortPolicy
    traits: Traits


class _Made(Struct, frozen=True, gc=False):
    of: _MadeOf
    offer: Offer


class Remembered:
    """What the last catalogue was made of, so that the next one is made anew only where something has changed."""

    def __init__(self) -> None:
        self.offers: dict[VendorSlug, dict[str, _Made]] = {}
        self.models: dict[ModelId, Model] = {}
        self.catalog: Catalog | None = None


def _unhurried() -> None:
    """Nobody else waits for this thread."""


def build_catalog(
    sources: Sources,
    at: datetime,
    version: int = 0,
    remembered: Remembered | None = None,
    breathe: Callable[[], None] = _unhurried,
) -> Catalog:
    """The catalogue of this moment; `at` is when prices from lists count as found.

    `breathe` is called often, so that a thread can let others run.
    """
    before, after = remembered or Remembered(), Remembered()
    by_operator = sources.by_operator
    markups = MarkupTable(sources.markups, sources.markup_ppm)
    drafts: dict[ModelId, _Draft] = {}
    for model in sources.static:
        offers = [
            replace(
                offer,
                price=_believed(by_operator.get((offer.vendor, model.id))) or offer.price,
                markup_ppm=markups.ppm(offer.vendor, model.id),
                plan_markups=markups.by_plan(offer.vendor, model.id),
            )
            for offer in model.offers
        ]
        drafts[model.id] = _Draft(model, offers)
    static = {offer.vendor for model in sources.static for offer in model.offers}
    for vendor, policy in sources.vendors.items():
        if vendor in static:
            continue
        traits = sources.traits.get(vendor, NO_TRAITS)
        made_before, made = before.offers.get(vendor, {}), after.offers.setdefault(vendor, {})
        for row in {row.vendor_model: row for row in reversed(sources.rows(vendor))}.values():
            breathe()
            model_id = sources.canonical(vendor, row)
            priced = by_operator.get((vendor, model_id))
            quote = sources.library.get((vendor, row.vendor_model))
            markup_ppm, plan_markups = markups.ppm(vendor, model_id), markups.by_plan(vendor, model_id)
            made_of = _MadeOf(row, model_id, priced, quote, markup_ppm, plan_markups, policy, traits)
            known = made_before.get(row.vendor_model)
            # What has not changed is taken over as it was.
            if known is not None and known.of == made_of:
                offer = known.offer
            else:
                price, doubt = _believed(priced), None
                if price is None:
                    price, doubt = listed_price(vendor, model_id, row, sources.library, at)
                offer = Offer(
                    vendor=vendor,
                    model=model_id,
                    vendor_model=row.vendor_model,
                    price=price,
                    doubt=doubt,
                    markup_ppm=markup_ppm,
                    plan_markups=plan_markups,
                    context_length=row.context_length,
                    output_max=row.output_max,
                    capabilities=row.capabilities,
                    abort_policy=policy,
                    unsupported=traits.unsupported,
                    trains_on_data=traits.trains_on_data,
                    input_modalities=row.input_modalities,
                    output_modalities=row.output_modalities,
                    quantization=row.quantization,
                    retires_at=_moment(row.retires_s),
                )
            made[row.vendor_model] = _Made(made_of, offer)
            draft = drafts.get(model_id)
            if draft is None:
                draft = drafts[model_id] = _Draft(Model(id=model_id, name="", offers=()), [])
            draft.add(offer, row)

    def quoted(offer: Offer) -> Price | None:
        return library_price(offer.vendor, offer.model, offer.vendor_model, sources.library, at)

    for model_id, draft in drafts.items():
        breathe()
        draft.offers = judged(draft.offers, sources.last_good, quoted)
        after.models[model_id] = draft.model(before.models.get(model_id))
    catalog = Catalog(
        sorted(after.models.values(), key=lambda model: model.id),
        vendors=static | sources.vendors.keys(),
        version=version,
        off=sources.off,
        aliases=sources.aliases,
        previous=before.catalog,
        breathe=breathe,
    )
    catalog.listed(breathe)
    if remembered is not None:
        remembered.offers, remembered.models, remembered.catalog = after.offers, after.models, catalog
    return catalog


def automatic_prices(catalog: Catalog, breathe: Callable[[], None] = _unhurried) -> list[Price]:
    """The versions in force that no operator set."""
    prices: dict[PriceId, Price] = {}
    for model in catalog.models.values():
        breathe()
        for offer in model.offers:
            if offer.price is not None and offer.price.source is not PriceSource.OPERATOR:
                prices[offer.price.id] = offer.price
    return list(prices.values())


def unpriced(sources: Sources, breathe: Callable[[], None] = _unhurried) -> set[Pair]:
    """The offers for which only the library could have a price."""
    by_operator = sources.by_operator
    found: set[Pair] = set()
    for vendor in sources.vendors:
        for row in sources.rows(vendor):
            breathe()
            if row.rates is None and (vendor, sources.canonical(vendor, row)) not in by_operator:
                found.add((vendor, row.vendor_model))
    return found


class _Draft:
    """A model to which its vendors add their offers."""

    __slots__ = ("_aliases", "_created_s", "_description", "_first", "_name", "offers")

    def __init__(self, first: Model, offers: list[Offer]) -> None:
        self._first = first
        self.offers: Sequence[Offer] = offers
        self._name = first.name
        self._description = first.description
        self._created_s: int | None = None
        self._aliases: dict[str, None] = {}

    def add(self, offer: Offer, row: ListedModel) -> None:
        self.offers = [*self.offers, offer]
        self._name = self._name or row.name
        self._description = self._description or row.description
        if row.created_s is not None and 0 < row.created_s < CREATED_S_MAX:
            self._created_s = min(row.created_s, self._created_s or row.created_s)
        self._aliases.update(dict.fromkeys(further_names(offer.vendor, row, offer.model)))

    def model(self, before: Model | None) -> Model:
        """The finished model; `before` itself where nothing has changed."""
        created = self._first.created
        if created is None and self._created_s is not None:
            created = datetime.fromtimestamp(self._created_s, UTC)
        model = replace(
            self._first,
            name=self._name or self._first.id.rpartition("/")[2],
            description=self._description,
            offers=tuple(self.offers),
            created=created,
            aliases=tuple(self._aliases),
        )
        return before if before == model else model


def _moment(seconds: int | None) -> datetime | None:
    plausible = seconds is not None and 0 < seconds < CREATED_S_MAX
    return datetime.fromtimestamp(seconds, UTC) if plausible and seconds is not None else None


def _believed(price: Price | None) -> Price | None:
    """None instead of a price that would give a model away by mistake, or that nobody can mean."""
    return None if price is None or disbelieved(price) else price
