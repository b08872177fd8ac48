"""Prices that no operator set: what a vendor's list or the library says, and whether it is believed.

A price is compared with the median of what the model's other vendors ask.  More than three times away it is not used:
then the offer keeps the price that it had, or gets the library's, or has none, and says why.  Where prices are so far
apart that nobody agrees with anybody, those stand that agree with one that was in use before, or else with the one in
the middle, of two the dearer: what was sold too cheap cannot be charged later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec.structs import replace

from adapters.catalog.genai import Pair, Quote
from domain.catalog import Catalog, Offer
from domain.ids import ModelId, PriceId, VendorSlug
from domain.ports.vendors import ListedModel
from domain.pricing import EACH, Doubt, Price, PriceSource, Rates, RatesDiffer, Tier, far_rates, shown_rate

PriceKey = tuple[VendorSlug, ModelId]
AUTOMATIC: Final = frozenset({PriceSource.VENDOR, PriceSource.GENAI_PRICES})


def _unhurried() -> None:
    """Nobody else waits for this thread."""


def listed_price(
    vendor: VendorSlug, model: ModelId, row: ListedModel, library: Mapping[Pair, Quote], at: datetime
) -> tuple[Price | None, Doubt | None]:
    """What the vendor's list asks for, else the library, and why the list's own price is not taken."""
    doubt = Doubt(row.price_doubt) if row.price_doubt else None
    if row.rates is not None:
        price = _version(vendor, model, PriceSource.VENDOR, row.rates, row.tiers, at, free=row.free)
        reason = disbelieved(price)
        if reason is None:
            return price, None
        doubt = Doubt(f"its list says {reason}", price)
    return library_price(vendor, model, row.vendor_model, library, at), doubt


def library_price(
    vendor: VendorSlug, model: ModelId, vendor_model: str, library: Mapping[Pair, Quote], at: datetime
) -> Price | None:
    quote = library.get((vendor, vendor_model))
    if quote is None:
        return None
    price = _version(vendor, model, PriceSource.GENAI_PRICES, quote.rates, quote.tiers, at)
    return None if disbelieved(price) else price


def disbelieved(price: Price) -> str | None:
    """Why a price would give a model away by mistake, or cannot be meant; None where it is fine."""
    if price.rates.is_zero and not price.image_rates and not price.free:
        return "0, but not that it is free"
    for rates in (price.rates, *(tier.rates for tier in price.tiers)):
        if name := rates.implausible:
            return f"{_told(getattr(rates, name), name)}, which nobody can mean"
    return None


def judged(
    offers: Sequence[Offer], last_good: Mapping[PriceKey, Price], quoted: Callable[[Offer], Price | None]
) -> tuple[Offer, ...]:
    """The offers of one model, with those prices that are not believed replaced or removed.

    `last_good` are the prices that were in use before, `quoted` tells the library's price of an offer.
    """
    if len(offers) == 1 and offers[0].doubt is None:
        return tuple(offers)
    far = _far_from_others(offers, last_good)
    trusted = [
        offer.price.rates
        for number, offer in enumerate(offers)
        if number not in far and offer.price is not None and not offer.price.free
    ]
    settled: list[Offer] = []
    for number, offer in enumerate(offers):
        differ = far.get(number)
        quote = quoted(offer) if differ is not None else None
        if differ is not None and offer.price is not None and not _agree(quote, offer.price):
            offer = replace(offer, price=None, doubt=_doubt(offer.price, differ))
        if offer.price is None and offer.doubt is not None:
            stand_ins = (last_good.get((offer.vendor, offer.model)), quote)
            fit = (each for each in stand_ins if each is not None and not far_rates(each.rates, trusted))
            offer = replace(offer, price=next(fit, None))
        settled.append(offer)
    return tuple(settled)


def prices_in_use(catalog: Catalog, breathe: Callable[[], None] = _unhurried) -> Mapping[PriceKey, Price]:
    """The versions in force that no operator set.  `breathe` is called often."""
    found: dict[PriceKey, Price] = {}
    for model in catalog.models.values():
        breathe()
        for offer in model.offers:
            price = offer.price
            if price is not None and price.source in AUTOMATIC:
                found[price.vendor, price.model] = price
    return found


def doubted(catalog: Catalog, breathe: Callable[[], None] = _unhurried) -> set[Pair]:
    """The offers whose list price is not believed, so that the library's word would help; `breathe` is called often."""
    found: set[Pair] = set()
    for model in catalog.models.values():
        breathe()
        found.update((offer.vendor, offer.vendor_model) for offer in model.offers if offer.doubt is not None)
    return found


def _far_from_others(offers: Sequence[Offer], last_good: Mapping[PriceKey, Price]) -> dict[int, RatesDiffer]:
    """Which automatic prices are too far away, by their place among the offers."""
    asking = {number: offer for number, offer in enumerate(offers) if offer.price is not None and not offer.price.free}
    if len({offer.vendor for offer in asking.values()}) < 2:
        return {}
    far: dict[int, RatesDiffer] = {}
    for number, offer in asking.items():
        if offer.price is None or offer.price.source not in AUTOMATIC:
            continue
        others = _rates(other for other in asking.values() if other.vendor != offer.vendor)
        if differ := far_rates(offer.price.rates, others):
            far[number] = differ
    if len(far) < len(asking):
        return far
    anchor = _anchor([asking[number] for number in far], last_good)
    against = {number: far_rates(rates, [anchor]) for number in far for rates in _rates([asking[number]])}
    return {number: differ for number, differ in against.items() if differ is not None}


def _anchor(offers: Sequence[Offer], last_good: Mapping[PriceKey, Price]) -> Rates:
    """The rates that stand where no two agree."""
    before = [offer for offer in offers if _in_use_before(offer, last_good)]
    rates = sorted(_rates(before or offers), key=_weight)
    return rates[len(rates) // 2]


def _in_use_before(offer: Offer, last_good: Mapping[PriceKey, Price]) -> bool:
    known = last_good.get((offer.vendor, offer.model))
    return known is not None and offer.price is not None and known.id == offer.price.id


def _weight(rates: Rates) -> int:
    return sum(rate for name in rates.__struct_fields__ if (rate := getattr(rates, name)))


def _rates(offers: Iterable[Offer]) -> list[Rates]:
    return [offer.price.rates for offer in offers if offer.price is not None]


def _agree(quote: Price | None, price: Price) -> bool:
    """Two sources that say nearly the same of one offer are right, whatever others ask."""
    return quote is not None and price.source is PriceSource.VENDOR and not far_rates(price.rates, [quote.rates])


def _doubt(price: Price, differ: RatesDiffer) -> Doubt:
    said = "its list" if price.source is PriceSource.VENDOR else "the price library"
    return Doubt(
        f"{said} says {_told(differ.rate, differ.name)}, more than three times away from the "
        f"{_told(differ.usual, differ.name)} that others ask",
        price,
    )


def _told(rate: int, name: str) -> str:
    return f"{shown_rate(rate, name)} USD {'each for' if name in EACH else 'per million for'} {name}"


def _version(
    vendor: VendorSlug,
    model: ModelId,
    source: PriceSource,
    rates: Rates,
    tiers: tuple[Tier, ...],
    at: datetime,
    *,
    free: bool = False,
) -> Price:
    """A version that has the same id wherever, and whenever, it is found."""
    content = msgspec.json.encode((vendor, model, rates, tiers))
    return Price(
        id=PriceId(f"{source}:{blake2b(content, digest_size=16).hexdigest()}"),
        vendor=vendor,
        model=model,
        rates=rates,
        valid_from=at,
        source=source,
        tiers=tiers,
        free=free,
    )
