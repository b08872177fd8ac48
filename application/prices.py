"""Use cases about prices: what vendors' offers cost, and what is put on top of that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from msgspec import Struct
from msgspec.structs import asdict, replace

from domain.catalog import Catalog, Offer, UnknownVendor
from domain.errors import InvalidRequest
from domain.ids import ModelId, PlanId, PriceId, VendorSlug
from domain.markups import PATTERN_LENGTH_MAX, Markup, MarkupScope, parse_markup
from domain.ports.catalog import CatalogSource
from domain.ports.clock import Clock, IdSource
from domain.ports.repositories import Markups, Prices
from domain.pricing import (
    BY_THE_PIECE,
    EACH,
    ImageRate,
    Price,
    PriceSource,
    Rates,
    Tier,
    far_rates,
    parse_rate,
    shown_rate,
)

CLASSES: Final = Rates.__struct_fields__
TIERS_MAX: Final = 10
VARIANTS_MAX: Final = 100
VARIANT_LENGTH_MAX: Final = 60
INPUT_TOKENS_MAX: Final = 100_000_000
PLAN_LENGTH_MAX: Final = 60


class PriceImplausible(InvalidRequest):
    code = "price_implausible"


class PriceWish(Struct, frozen=True, kw_only=True):
    """Decimal strings in USD by the classes of `Rates`: each for images, seconds, searches and requests, and per
    million for tokens and characters.  What is not named falls back as `Rates` says.
    """

    rates: Mapping[str, str]
    tiers: Mapping[int, Mapping[str, str]] = {}
    """By how many input tokens a prompt must exceed; what a tier does not name stays."""
    image_rates: Mapping[str, str] = {}
    """USD for one picture of a size and quality, such as "1024x1536:high"."""


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
        valid_from: datetime | None = None,
        free: bool = False,
        confirmed: bool = False,
        author: str = "",
    ) -> Price:
        """Set what one vendor's offer of a model costs from now on, or from a later moment.

        Raises UnknownVendor, InvalidRequest, and PriceImplausible for a price that is more than three times away
        from what the model's other offers cost, unless it is `confirmed`.
        """
        catalog, now = self.catalog.current(), self.clock.now()
        if valid_from is not None and valid_from < now:
            raise InvalidRequest(
                "What has been charged keeps its price: valid_from cannot be in the past. Leave it out for now.",
                param="valid_from",
            )
        slug = offering_vendor(catalog, model, vendor)
        model_id = offered_model(catalog, model, slug)
        rates = _rates(wish.rates, {})
        price = Price(
            id=PriceId(self.ids.fresh()),
            vendor=slug,
            model=model_id,
            rates=rates,
            valid_from=valid_from or now,
            source=PriceSource.OPERATOR,
            tiers=_tiers(wish),
            free=free,
            author=author,
            image_rates=_image_rates(wish.image_rates),
        )
        _check_free(price)
        if not confirmed and not free:
            _check_against(_others(catalog, model_id, slug), price)
        await self.prices.add(price)
        return price


@dataclass(frozen=True, slots=True)
class ConfirmPrice:
    """The operator says that a vendor's list is right where it was doubted."""

    prices: Prices
    catalog: CatalogSource
    clock: Clock
    ids: IdSource

    async def __call__(self, model: str, vendor: str | None = None, *, author: str = "") -> Price:
        """Set the price that the list has, as the operator's own; it no longer follows the list.

        Raises UnknownVendor, InvalidRequest where nothing is doubted or the list has nothing that could be used.
        """
        catalog = self.catalog.current()
        slug = offering_vendor(catalog, model, vendor)
        model_id = offered_model(catalog, model, slug)
        doubts = (offer.doubt for offer in doubtful_offers(catalog, model=model_id, vendor=slug))
        doubt = next((each for each in doubts if each is not None), None)
        if doubt is None:
            raise InvalidRequest(
                f"The price of {model_id} at {slug} is not in doubt. 'gatewayz prices doubtful' lists those that are.",
                param="model",
            )
        listed = doubt.listed
        if listed is None or listed.rates.is_zero or listed.rates.implausible:
            raise InvalidRequest(
                f"The list of {slug} has no price that could be used: {doubt.reason}. "
                f"Set one with 'gatewayz prices set {model_id} --vendor {slug}'.",
                param="model",
            )
        price = replace(
            listed,
            id=PriceId(self.ids.fresh()),
            source=PriceSource.OPERATOR,
            valid_from=self.clock.now(),
            author=author,
        )
        await self.prices.add(price)
        return price


@dataclass(frozen=True, slots=True)
class PriceHistory:
    prices: Prices
    catalog: CatalogSource

    async def __call__(self, model: str, vendor: str | None = None) -> Sequence[Price]:
        """Every version of what one vendor's offer cost, newest first.  Raises UnknownVendor, InvalidRequest."""
        catalog = self.catalog.current()
        slug = offering_vendor(catalog, model, vendor)
        return await self.prices.history(slug, offered_model(catalog, model, slug))


def listed_offers(
    catalog: Catalog,
    *,
    model: str | None = None,
    vendor: str | None = None,
    unpriced: bool = False,
    after: str | None = None,
) -> list[Offer]:
    """The offers that fit, in order of `offer_place`."""
    fitting = [
        offer
        for known in catalog.models.values()
        for offer in known.offers
        if (model is None or offer.model == model)
        and (vendor is None or offer.vendor == vendor)
        and (offer.price is None or not unpriced)
        and (after is None or offer_place(offer) > after)
    ]
    return sorted(fitting, key=offer_place)


def doubtful_offers(
    catalog: Catalog, *, model: str | None = None, vendor: str | None = None, after: str | None = None
) -> list[Offer]:
    """The offers that do not cost what their vendors list, and say why."""
    offers = listed_offers(catalog, model=model, vendor=vendor, after=after)
    return [offer for offer in offers if offer.doubt is not None]


def offer_place(offer: Offer) -> str:
    """Where an offer stands in a list; also the cursor that leads on from it."""
    return f"{offer.model} {offer.vendor} {offer.vendor_model}"


@dataclass(frozen=True, slots=True)
class ListMarkups:
    markups: Markups

    async def __call__(self) -> Sequence[Markup]:
        """The rules, the one that wins over others first."""
        return sorted(await self.markups.all(), key=lambda rule: rule.scope.specificity, reverse=True)


@dataclass(frozen=True, slots=True)
class SetMarkup:
    markups: Markups
    catalog: CatalogSource
    clock: Clock

    async def __call__(
        self, factor: str, *, vendor: str = "", model: str = "", plan: str = "", author: str = ""
    ) -> Markup:
        """Set the markup of what fits; an empty part stands for all.  Raises UnknownVendor, InvalidRequest."""
        scope = _scope(vendor, model, plan)
        vendors = self.catalog.current().vendors
        if scope.vendor and scope.vendor not in vendors:
            raise UnknownVendor(scope.vendor, vendors)
        markup = Markup(scope=scope, ppm=parse_markup(factor), author=author, set_at=self.clock.now())
        await self.markups.put(markup)
        return markup


@dataclass(frozen=True, slots=True)
class RemoveMarkup:
    markups: Markups

    async def __call__(self, *, vendor: str = "", model: str = "", plan: str = "") -> None:
        """Raises UnknownMarkup."""
        await self.markups.remove(_scope(vendor, model, plan))


def _scope(vendor: str, model: str, plan: str) -> MarkupScope:
    for name, text, longest in (("model", model, PATTERN_LENGTH_MAX), ("plan", plan, PLAN_LENGTH_MAX)):
        if len(text) > longest or not text.isprintable():
            raise InvalidRequest(f"{name} must be at most {longest} printable characters.", param=name)
    return MarkupScope(VendorSlug(vendor), model.strip(), PlanId(plan.strip()))


def offering_vendor(catalog: Catalog, model: str, vendor: str | None) -> VendorSlug:
    """The vendor named; else the only one that serves the model, or the one that its id begins with.

    Raises UnknownVendor, InvalidRequest.
    """
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


def offered_model(catalog: Catalog, model: str, vendor: VendorSlug) -> ModelId:
    """The canonical id of a name that may lack its author."""
    if model in catalog.models:
        return ModelId(model)
    prefixed = ModelId(f"{vendor}/{model}")
    if prefixed in catalog.models or "/" not in model:
        return prefixed
    return ModelId(model)


def _rates(stated: Mapping[str, str], base: Mapping[str, int]) -> Rates:
    """Raises InvalidRequest."""
    if unknown := stated.keys() - set(CLASSES):
        raise InvalidRequest(f"There is no price for {min(unknown)}; there are {', '.join(CLASSES)}.", param="rates")
    read = {name: _rate(name, text) for name, text in stated.items()}
    # A price that names only what is sold by the piece has no tokens; one that forgot them would give them away.
    missing = next((name for name in ("input", "output") if name not in read), None)
    if missing is not None and read.keys() - BY_THE_PIECE:
        raise InvalidRequest(f"Name the price of {missing} too; 0 where there is none.", param=missing)
    rates = Rates(**{"input": 0, "output": 0, **base, **read})
    if strange := rates.implausible:
        most = "10 USD each" if strange in EACH else "100000 USD per million"
        raise InvalidRequest(f"{strange} must be from 0 to {most}.", param=strange)
    return rates


def _tiers(wish: PriceWish) -> tuple[Tier, ...]:
    if len(wish.tiers) > TIERS_MAX:
        raise InvalidRequest(f"A price has at most {TIERS_MAX} tiers.", param="tiers")
    tiers: list[Tier] = []
    stated = {name: _rate(name, text) for name, text in wish.rates.items()}
    for over, changed in sorted(wish.tiers.items()):
        if not 0 < over <= INPUT_TOKENS_MAX:
            raise InvalidRequest(f"A tier begins beyond 1 to {INPUT_TOKENS_MAX} input tokens.", param="tiers")
        if not changed:
            raise InvalidRequest(f"The tier over {over} input tokens names no price.", param="tiers")
        both = {name: wish.rates[name] for name in ("input", "output") if name in wish.rates}
        rates = _rates({**both, **changed}, stated)
        if rates.is_zero:
            raise InvalidRequest(f"The tier over {over} input tokens gives the model away.", param="tiers")
        tiers.append(Tier(over, rates))
    return tuple(tiers)


def _image_rates(stated: Mapping[str, str]) -> tuple[ImageRate, ...]:
    if len(stated) > VARIANTS_MAX:
        raise InvalidRequest(
            f"At most {VARIANTS_MAX} kinds of pictures have a price of their own.", param="image_rates"
        )
    for variant in stated:
        if not 0 < len(variant) <= VARIANT_LENGTH_MAX or not variant.isprintable():
            raise InvalidRequest("A kind of picture is written like 1024x1536:high.", param="image_rates")
    rates = tuple(ImageRate(variant, _rate("images", text)) for variant, text in sorted(stated.items()))
    for each in rates:
        if Rates(input=0, output=0, images=each.rate).implausible:
            raise InvalidRequest("A picture costs from 0 to 10 USD.", param="image_rates")
    return rates


def _rate(name: str, text: str) -> int:
    try:
        return parse_rate(text, name)
    except ValueError as error:
        raise InvalidRequest(f"'{name}' cannot be read: {error}.", param=name) from None


def _check_free(price: Price) -> None:
    gives_away = price.rates.is_zero and not any(each.rate for each in price.image_rates)
    if gives_away and not price.free:
        raise InvalidRequest("A price of zero gives the model away. Say so with 'free' if you mean it.", param="free")
    if price.free and (not gives_away or price.tiers):
        raise InvalidRequest("A free model has prices of zero.", param="free")


def _others(catalog: Catalog, model: ModelId, vendor: VendorSlug) -> list[Rates]:
    known = catalog.models.get(model)
    offers: Iterable[Offer] = known.priced if known else ()
    return [offer.price.rates for offer in offers if offer.price and offer.vendor != vendor and not offer.price.free]


def _check_against(others: Sequence[Rates], price: Price) -> None:
    differ = far_rates(price.rates, others)
    if differ is not None:
        name = differ.name
        unit = f"each for {name}" if name in EACH else f"per million {name}{'' if name in BY_THE_PIECE else ' tokens'}"
        raise PriceImplausible(
            f"{shown_rate(differ.rate, name)} USD {unit} is more than three times away from the "
            f"{shown_rate(differ.usual, name)} USD that {price.model} costs elsewhere. "
            "If you mean it, confirm it: with --yes, or over HTTP with 'confirmed': true.",
            param=name,
        )


def stated_rates(rates: Rates) -> dict[str, str]:
    """The classes that have a rate of their own, each as operators write it."""
    return {name: shown_rate(rate, name) for name, rate in asdict(rates).items() if rate or name in {"input", "output"}}
