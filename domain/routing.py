"""Which offers may serve a request, in which order, and why the others may not: a pure function."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

from msgspec import Struct

from domain.catalog import Capability, Model, Offer
from domain.errors import InvalidRequest, Unavailable
from domain.ids import VendorSlug
from domain.money import Usd
from domain.usage import Usage


class Sort(StrEnum):
    PRICE = "price"
    LATENCY = "latency"
    THROUGHPUT = "throughput"


class Preferences(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The caller's `models` and `provider` fields."""

    models: tuple[str, ...] = ()
    """Further models to fall back to, in order."""
    order: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    allow_fallbacks: bool = True
    sort: Sort | None = None
    require_parameters: bool = False


class Pulse(Struct, frozen=True):
    """What is known of an offer's health."""

    resting: bool = False
    """Its breaker is open."""
    latency_ms: int | None = None
    tokens_per_s: int | None = None


class Exclusion(Struct, frozen=True):
    """Why an offer may not serve."""

    offer: Offer
    reason: str


class Route(Struct, frozen=True):
    """The offers to try, best first, and the others with their reasons."""

    offers: tuple[Offer, ...]
    excluded: tuple[Exclusion, ...] = ()


class NoOffer(Unavailable):
    """No vendor fits what the caller demands; the reasons say what to change."""

    code = "no_vendor_available"
    retry_after_s = None


class Demand(Struct, frozen=True, kw_only=True):
    """What a request needs of whoever serves it."""

    prompt_tokens: int
    needs: frozenset[Capability]
    preferences: Preferences


def plan_route(models: Sequence[Model], demand: Demand, pulses: Iterable[tuple[Offer, Pulse]] = ()) -> Route:
    """Order the offers of `models`, in the order in which the caller named them.

    Raises NoOffer, with every reason, where nothing is left.  A resting offer is tried last, not never: when all of a
    model's vendors rest, a call is the only way to learn that one of them is back.
    """
    health = {(offer.vendor, offer.vendor_model): pulse for offer, pulse in pulses}
    excluded: list[Exclusion] = []
    offers: list[Offer] = []
    for model in models:
        fitting: list[Offer] = []
        for offer in model.offers:
            reason = _unfit(offer, demand)
            if reason is None:
                fitting.append(offer)
            else:
                excluded.append(Exclusion(offer, reason))
        if len(fitting) > 1:
            fitting.sort(
                key=lambda offer: _rank(offer, demand, health.get((offer.vendor, offer.vendor_model), _UNKNOWN))
            )
        offers += fitting
    if not offers:
        raise NoOffer(_why_none(models, excluded))
    if not demand.preferences.allow_fallbacks:
        excluded += [Exclusion(offer, "allow_fallbacks is false") for offer in offers[1:]]
        del offers[1:]
    return Route(tuple(offers), tuple(excluded))


_UNKNOWN = Pulse()


def _unfit(offer: Offer, demand: Demand) -> str | None:
    wishes = demand.preferences
    if offer.price is None:
        return "it has no price"
    if wishes.only and offer.vendor not in wishes.only:
        return "provider.only does not name it"
    if offer.vendor in wishes.ignore:
        return "provider.ignore names it"
    if wishes.order and not wishes.allow_fallbacks and offer.vendor not in wishes.order:
        return "provider.order does not name it and allow_fallbacks is false"
    if offer.context_length is not None and demand.prompt_tokens > offer.context_length:
        return f"its context of {offer.context_length} tokens is too short for about {demand.prompt_tokens}"
    if demand.needs and offer.capabilities is not None and (missing := demand.needs - offer.capabilities):
        return f"it lacks {', '.join(sorted(missing))}"
    return None


def _rank(offer: Offer, demand: Demand, pulse: Pulse) -> tuple[bool, int, int, int, VendorSlug]:
    wishes = demand.preferences
    place = wishes.order.index(offer.vendor) if offer.vendor in wishes.order else len(wishes.order)
    unknown = 1 << 62
    preferred = 0
    if wishes.sort is Sort.LATENCY:
        preferred = unknown if pulse.latency_ms is None else pulse.latency_ms
    elif wishes.sort is Sort.THROUGHPUT:
        preferred = unknown if pulse.tokens_per_s is None else -pulse.tokens_per_s
    return pulse.resting, place, preferred, _expected_cost(offer, demand.prompt_tokens).nanos, offer.vendor


def _expected_cost(offer: Offer, prompt_tokens: int) -> Usd:
    """For comparing offers: a prompt and an answer a quarter its length, at least 500 tokens."""
    if offer.price is None:
        raise InvalidRequest(f"{offer.vendor} has no price for {offer.model}", param="model")
    usage = Usage(input=prompt_tokens, output=max(500, prompt_tokens // 4), requests=1)
    return offer.price.cost(usage, offer.markup_ppm)


def _why_none(models: Sequence[Model], excluded: Sequence[Exclusion]) -> str:
    names = ", ".join(model.id for model in models)
    reasons = "; ".join(f"{exclusion.offer.vendor}: {exclusion.reason}" for exclusion in excluded[:8])
    return f"No vendor can serve {names} as asked. {reasons or 'No vendor offers it.'}"
