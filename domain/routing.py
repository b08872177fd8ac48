"""Which offers may serve a request, in which order, and why the others may not: a pure function.

Nobody who may not serve is ever tried, and everybody who is not tried has a reason.  Where the caller asks for no
order, the first try is drawn by the inverse square of the price, so that a vendor that is twice as dear gets a quarter
of the requests: the cheapest one would otherwise get all of them until it fails.  Whoever draws passes its chance in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from operator import itemgetter
from typing import Final, TypeAlias

from msgspec import Struct

from domain.catalog import Capability, Catalog, Model, Offer
from domain.errors import Unavailable
from domain.ids import VendorSlug
from domain.pricing import MARKUP_ONE_PPM, Price, Rates

OUTPUT_COMPARED_LEAST: Final = 500
"""Offers are compared by a prompt and an answer a quarter its length, but at least so many tokens."""
WEIGHT_SCALE: Final = 1 << 16
"""The cheapest offer's weight, before it is squared; an offer so many times dearer is never drawn."""
REASONS_TOLD_MAX: Final = 8
QUANTIZATION_UNKNOWN: Final = "unknown"

_NEVER: Final = 1 << 62
"""Sorts behind everything that was measured."""


class Sort(StrEnum):
    PRICE = "price"
    LATENCY = "latency"
    THROUGHPUT = "throughput"


class MaxPrice(Struct, frozen=True, kw_only=True):
    """The most that the caller would pay, its markup included: nano-dollars per million units, as in `Rates`."""

    prompt: int | None = None
    completion: int | None = None
    request: int | None = None
    image: int | None = None


class Preferences(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The caller's `models` and `provider` fields."""

    models: tuple[str, ...] = ()
    """Further models to fall back to, in order."""
    order: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    allow_fallbacks: bool = True
    """False: only the vendors of `order`, or without one only the first of each model."""
    sort: Sort | None = None
    across_models: bool = False
    """Sort the offers of all models together, instead of model by model."""
    max_price: MaxPrice | None = None
    require_parameters: bool = False
    """Only vendors that understand every parameter that was sent."""
    deny_data_collection: bool = False
    """Only vendors that are known to keep nothing for training."""
    quantizations: tuple[str, ...] = ()


NO_PREFERENCES: Final = Preferences()
"""Of the callers who say nothing of it, which are most: compared by identity."""


class Pulse(Struct, frozen=True):
    """What is known of an offer's health."""

    resting: bool = False
    """Its breaker is open."""
    latency_ms: int | None = None
    tokens_per_s: int | None = None


class Why(StrEnum):
    """Why an offer may not serve; stable names."""

    UNPRICED = "unpriced"
    NOT_PINNED = "not_pinned"
    NOT_FREE = "not_free"
    NOT_IN_ONLY = "not_in_only"
    IGNORED = "ignored"
    NOT_IN_ORDER = "not_in_order"
    CONTEXT_TOO_SHORT = "context_too_short"
    CAPABILITY_MISSING = "capability_missing"
    PARAMETER_UNSUPPORTED = "parameter_unsupported"
    COLLECTS_DATA = "collects_data"
    QUANTIZATION = "quantization"
    TOO_DEAR = "too_dear"
    ABOVE_MAX_COST = "above_max_cost"
    NO_FALLBACKS = "no_fallbacks"


class Exclusion(Struct, frozen=True):
    """Why an offer may not serve."""

    offer: Offer
    reason: str
    """In words that follow the vendor's name."""
    why: Why


class Ordering(StrEnum):
    """What decided the order of the offers."""

    ONLY_ONE = "only_one"
    ORDER = "order"
    SORT = "sort"
    CACHE = "cache"
    """The vendor that has the conversation in its prompt cache comes first."""
    PRICE_WEIGHTED = "price_weighted"


class Route(Struct, frozen=True):
    """The offers to try, best first, and the others with their reasons."""

    offers: tuple[Offer, ...]
    excluded: tuple[Exclusion, ...] = ()
    ordering: Ordering = Ordering.ONLY_ONE
    """Of the first model's offers."""


class NoOffer(Unavailable):
    """No vendor fits what the caller demands; the reasons say what to change."""

    code = "no_vendor_available"
    retry_after_s = None


class Demand(Struct, frozen=True, kw_only=True):
    """What a request needs of whoever serves it."""

    prompt_tokens: int
    needs: frozenset[Capability]
    preferences: Preferences
    parameters: frozenset[str] = frozenset()
    """The names of the parameters that were sent."""
    one_prompt: bool = True
    """False where its tokens are those of many inputs, each of which has the whole context: embeddings, documents."""


class Wanted(Struct, frozen=True):
    """One of the models that the caller named, and what its name says beside."""

    model: Model
    vendor: VendorSlug | None = None
    """The only one that may serve it."""
    sort: Sort | None = None
    free_only: bool = False


Draw: TypeAlias = Callable[[int], int]
"""A whole number from 0 up to the one given, all as likely as each other; the one given is not among them."""


def wanted(catalog: Catalog, name: str) -> Wanted:
    """The model that `name` means.  A model of exactly this name goes before what parts of it could mean.

    A name may pin a vendor, "groq:llama-3" or "openrouter/meta/llama-3", and may end with ":free" (offers that cost
    nothing), ":floor" (cheapest first) or ":nitro" (fastest first).  Raises ModelNotFound, ModelUnpriced.
    """
    if catalog.knows(name):
        return Wanted(catalog.find(name))
    for separator in (":", "/"):
        vendor, found_separator, rest = name.partition(separator)
        if found_separator and vendor in catalog.vendors and catalog.knows(rest):
            return Wanted(catalog.find(rest), VendorSlug(vendor))
    stem, colon, suffix = name.rpartition(":")
    if colon and stem and suffix in _SUFFIXES:
        found = wanted(catalog, stem)
        return Wanted(found.model, found.vendor, _SUFFIXES[suffix] or found.sort, found.free_only or suffix == _FREE)
    return Wanted(catalog.find(name))


_FREE: Final = "free"
_SUFFIXES: Final = {_FREE: None, "floor": Sort.PRICE, "nitro": Sort.THROUGHPUT}


def _unmeasured(_: Offer) -> Pulse:
    return _UNKNOWN


_UNKNOWN = Pulse()


def plan_route(
    sought: Sequence[Wanted],
    demand: Demand,
    pulse: Callable[[Offer], Pulse] = _unmeasured,
    *,
    cached_at: VendorSlug | None = None,
    draw: Draw | None = None,
) -> Route:
    """The route of `considered`.  Raises NoOffer, with every reason, where nothing is left."""
    route = considered(sought, demand, pulse, cached_at=cached_at, draw=draw)
    if not route.offers:
        raise NoOffer(why_none(sought, route.excluded))
    return route


def considered(
    sought: Sequence[Wanted],
    demand: Demand,
    pulse: Callable[[Offer], Pulse] = _unmeasured,
    *,
    cached_at: VendorSlug | None = None,
    draw: Draw | None = None,
) -> Route:
    """Order the offers of the models `sought`, in the order in which the caller named them; there may be none.

    A resting offer is tried last, not never: when all of a model's vendors rest, a call is the only way to learn that
    one of them is back.  `cached_at` is the vendor that has the conversation in its prompt cache.  Without `draw` the
    cheapest comes first.
    """
    excluded: list[Exclusion] = []
    groups: list[tuple[Wanted, list[Offer]]] = []
    for each in sought:
        fitting: list[Offer] = []
        for offer in each.model.offers:
            unfit = _unfit(offer, each, demand)
            if unfit is None:
                fitting.append(offer)
            else:
                excluded.append(Exclusion(offer, unfit[1], unfit[0]))
        if fitting:
            groups.append((each, fitting))
    wishes = demand.preferences
    if wishes.across_models and len(groups) > 1:
        groups = [
            (Wanted(groups[0][0].model, None, groups[0][0].sort), [offer for _, some in groups for offer in some])
        ]
    offers: list[Offer] = []
    ordering: Ordering | None = None
    for each, fitting in groups:
        decided = Ordering.ONLY_ONE
        if len(fitting) > 1:
            decided = _order(fitting, each, demand, pulse, cached_at, draw)
            if not wishes.allow_fallbacks and not wishes.order:
                excluded += [Exclusion(o, "provider.allow_fallbacks is false", Why.NO_FALLBACKS) for o in fitting[1:]]
                del fitting[1:]
        ordering = ordering or decided
        offers += fitting
    return Route(tuple(offers), tuple(excluded), ordering or Ordering.ONLY_ONE)


def weights(offers: Sequence[Offer], prompt_tokens: int) -> list[int]:
    """How often each is drawn for the first try, in parts of the sum: the inverse square of its price."""
    return _weights([_compared_cost(offer, prompt_tokens) for offer in offers])


def why_none(sought: Sequence[Wanted], excluded: Sequence[Exclusion]) -> str:
    names = ", ".join(dict.fromkeys(each.model.id for each in sought))
    told = [f"{exclusion.offer.vendor}: {exclusion.reason}" for exclusion in excluded[:REASONS_TOLD_MAX]]
    for each in sought:
        vendors = sorted({offer.vendor for offer in each.model.offers})
        if each.vendor is not None and each.vendor not in vendors:
            told.insert(0, f"{each.vendor}: it does not offer {each.model.id}; {', '.join(vendors)} do")
    return f"No vendor can serve {names} as asked. {'; '.join(told) or 'No vendor offers it'}."


def _unfit(offer: Offer, each: Wanted, demand: Demand) -> tuple[Why, str] | None:
    """The first reason why `offer` may not serve; None where there is none."""
    price = offer.price
    if price is None:
        return Why.UNPRICED, "it has no price"
    if each.vendor is not None and offer.vendor != each.vendor:
        return Why.NOT_PINNED, f"the model's name pins {each.vendor}"
    if each.free_only and not price.free:
        return Why.NOT_FREE, "it is not free and the model's name ends with :free"
    if demand.one_prompt and offer.context_length is not None and demand.prompt_tokens > offer.context_length:
        told = f"its context of {offer.context_length} tokens is too short for about {demand.prompt_tokens}"
        return Why.CONTEXT_TOO_SHORT, told
    if demand.needs and offer.capabilities is not None and not demand.needs <= offer.capabilities:
        return Why.CAPABILITY_MISSING, f"it lacks {', '.join(sorted(demand.needs - offer.capabilities))}"
    return None if demand.preferences is NO_PREFERENCES else _unwanted(offer, price, demand)


def _unwanted(offer: Offer, price: Price, demand: Demand) -> tuple[Why, str] | None:
    """The first of the caller's wishes that `offer` does not fulfil."""
    wishes, vendor = demand.preferences, offer.vendor
    if wishes.only and vendor not in wishes.only:
        return Why.NOT_IN_ONLY, "provider.only does not name it"
    if vendor in wishes.ignore:
        return Why.IGNORED, "provider.ignore names it"
    if not wishes.allow_fallbacks and wishes.order and vendor not in wishes.order:
        return Why.NOT_IN_ORDER, "provider.order does not name it and provider.allow_fallbacks is false"
    if wishes.require_parameters and (lacking := demand.parameters & offer.unsupported):
        return Why.PARAMETER_UNSUPPORTED, f"it does not take {', '.join(sorted(lacking))}"
    if wishes.deny_data_collection and offer.trains_on_data is not False:
        told = "it may train on what it is sent" if offer.trains_on_data else "nobody has said that it keeps no data"
        return Why.COLLECTS_DATA, f"{told}, and provider.data_collection is deny"
    if wishes.quantizations and (offer.quantization or QUANTIZATION_UNKNOWN).lower() not in wishes.quantizations:
        return Why.QUANTIZATION, f"its quantization is {offer.quantization or QUANTIZATION_UNKNOWN}"
    if wishes.max_price is not None:
        rates = price.rates_for(demand.prompt_tokens)
        if dear := _dearer(rates, offer.markup_ppm, wishes.max_price):
            return Why.TOO_DEAR, f"its price for a {dear} is above provider.max_price.{dear}"
    return None


def _dearer(rates: Rates, markup_ppm: int, most: MaxPrice) -> str | None:
    """The first part of the price that is above `most`."""
    parts = (
        ("prompt", rates.input, most.prompt),
        ("completion", rates.output, most.completion),
        ("request", rates.requests, most.request),
        ("image", rates.images, most.image),
    )
    for name, rate, limit in parts:
        if limit is not None and rate * markup_ppm > limit * MARKUP_ONE_PPM:
            return name
    return None


def _order(
    fitting: list[Offer],
    each: Wanted,
    demand: Demand,
    pulse: Callable[[Offer], Pulse],
    cached_at: VendorSlug | None,
    draw: Draw | None,
) -> Ordering:
    """Put the best one first, in place.  Resting ones go last whatever else is wanted."""
    wishes, tokens = demand.preferences, demand.prompt_tokens
    sort = wishes.sort or each.sort
    place = {vendor: at for at, vendor in reversed(list(enumerate(wishes.order)))} if wishes.order else {}
    last = len(wishes.order)
    ranked: list[tuple[tuple[bool, int, int, int, VendorSlug], Offer]] = []
    for offer in fitting:
        known = pulse(offer)
        measured = 0
        if sort is Sort.LATENCY:
            measured = _NEVER if known.latency_ms is None else known.latency_ms
        elif sort is Sort.THROUGHPUT:
            measured = _NEVER if known.tokens_per_s is None else -known.tokens_per_s
        vendor = offer.vendor
        cost = _compared_cost(offer, tokens)
        ranked.append(((known.resting, place.get(vendor, last) if place else last, measured, cost, vendor), offer))
    ranked.sort(key=_RANK)
    fitting[:] = [offer for _, offer in ranked]
    if place or sort is not None:
        return Ordering.ORDER if place else Ordering.SORT
    awake = sum([not rank[0] for rank, _ in ranked])
    if cached_at is not None:
        for at in range(awake):
            if fitting[at].vendor == cached_at:
                fitting.insert(0, fitting.pop(at))
                return Ordering.CACHE
    if draw is not None and awake > 1:
        fitting.insert(0, fitting.pop(_drawn(_weights([rank[3] for rank, _ in ranked[:awake]]), draw)))
    return Ordering.PRICE_WEIGHTED


_RANK = itemgetter(0)


def _weights(costs: Sequence[int]) -> list[int]:
    cheapest = max(1, min(costs)) * WEIGHT_SCALE
    return [(cheapest // (cost or 1)) ** 2 for cost in costs]


def _drawn(shares: Sequence[int], draw: Draw) -> int:
    """A place in `shares`, as often as its share of their sum."""
    left = draw(sum(shares))
    for at, share in enumerate(shares):
        left -= share
        if left < 0:
            return at
    return len(shares) - 1


def _compared_cost(offer: Offer, prompt_tokens: int) -> int:
    """What a usual answer to such a prompt costs, in parts of a nano-dollar that are the same for every offer."""
    price = offer.price
    if price is None:
        return _NEVER
    rates = price.rates_for(prompt_tokens) if price.tiers else price.rates
    output_tokens = max(OUTPUT_COMPARED_LEAST, prompt_tokens // 4)
    return (rates.input * prompt_tokens + rates.output * output_tokens + rates.requests) * offer.markup_ppm
