"""How much credit to hold for a request, and how long an answer that credit can pay.

`strict` holds the worst case.  `estimate` holds what answers of this model usually need, because coding agents ask for
64,000 output tokens and use 500, and a worst-case hold would refuse the third parallel call of a customer with $5.  In
both, the hold is what there is, as long as that pays the prompt and a short answer, and the output limit sent to the
vendor is never above what the spendable credit can pay.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from domain.catalog import Offer
from domain.inference.chat import ChatRequest, MaxCostExceeded
from domain.money import ZERO, Usd
from domain.routing import Exclusion, Route, Why
from domain.usage import Usage

OUTPUT_TOKENS_LEAST: Final = 16
"""Too little credit for this many output tokens is too little for the request."""
OUTPUT_TOKENS_ESTIMATED_LEAST: Final = 4_000
OUTPUT_TOKENS_UNKNOWN: Final = 128_000
"""The longest answer of a model whose own limit nobody has said."""


class HoldPolicy(StrEnum):
    ESTIMATE = "estimate"
    STRICT = "strict"


class HoldPlan(Struct, frozen=True):
    """Reserve `wanted`, or what there is, but never less than `least`."""

    wanted: Usd
    least: Usd


def plan_hold(policy: HoldPolicy, request: ChatRequest, offers: Sequence[Offer], usual_output: int) -> HoldPlan:
    """The hold that the dearest of `offers` needs; `usual_output` is a high estimate of this model's answers.

    Raises MaxCostExceeded where the caller's own ceiling pays for no answer at all.
    """
    wanted = max(_wanted(policy, request, offer, usual_output) for offer in offers)
    least = max(least_cost(request, offer) for offer in offers)
    if request.cost_max is not None:
        if least > request.cost_max:
            raise MaxCostExceeded(
                f"This request costs at least ${least} and max_cost_usd allows ${request.cost_max}. Raise it, shorten "
                "the prompt, or use a cheaper model.",
                param="max_cost_usd",
            )
        wanted = min(wanted, request.cost_max)
    return HoldPlan(max(wanted, least), least)


def least_cost(request: ChatRequest, offer: Offer) -> Usd:
    """The prompt and a short answer: whoever cannot pay this cannot have the request."""
    return _cost(offer, request, min(OUTPUT_TOKENS_LEAST, _asked(request, offer)))


def within_ceiling(request: ChatRequest, route: Route) -> Route:
    """The route without the offers that `max_cost_usd` pays no answer of, where it pays one of another."""
    most = request.cost_max
    if most is None or len(route.offers) < 2:  # noqa: PLR2004 - there is another
        return route
    costs = [(offer, least_cost(request, offer)) for offer in route.offers]
    fitting = tuple(offer for offer, cost in costs if cost <= most)
    if not fitting or len(fitting) == len(costs):
        return route
    dear = [
        Exclusion(offer, f"it costs at least ${cost} and max_cost_usd allows ${most}", Why.ABOVE_MAX_COST)
        for offer, cost in costs
        if cost > most
    ]
    return replace(route, offers=fitting, excluded=(*route.excluded, *dear))


class CostRange(Struct, frozen=True):
    """What a request may cost at one offer, by our estimate of its prompt, nothing of it read from a cache."""

    least: Usd
    """With the shortest answer."""
    likely: Usd
    most: Usd
    """With the longest answer that may come."""


def cost_range(request: ChatRequest, offer: Offer, typical_output: int) -> CostRange:
    """`typical_output` is what answers of this model usually are."""
    asked = _asked(request, offer)
    least, likely, most = (_cost(offer, request, tokens) for tokens in (1, min(asked, typical_output), asked))
    return CostRange(least, likely, most)


def output_limit(policy: HoldPolicy, request: ChatRequest, offer: Offer, held: Usd, spendable: Usd) -> int | None:
    """The limit to send where it must be lower than the one asked for; None where that can be paid."""
    credit = held if policy is HoldPolicy.STRICT else held + spendable
    if request.cost_max is not None:
        credit = min(credit, request.cost_max)
    if offer.price is None or request.ceiling is not None:
        return None
    affordable = offer.price.output_affordable(credit, prompt_usage(request), offer.markup_ppm)
    if affordable is None:
        return None
    each = max(1, affordable // request.answers)
    return each if each < _asked(request, offer) else None


def prompt_usage(request: ChatRequest) -> Usage:
    if request.ceiling is not None:
        return request.ceiling
    return Usage(input=request.prompt_tokens, requests=1)


def produced_usage(request: ChatRequest, output_tokens: int) -> Usage:
    """Our own account of an answer that its vendor gave no usage for."""
    if request.ceiling is not None:
        return request.ceiling
    return Usage(input=request.prompt_tokens, output=output_tokens, requests=1)


def _wanted(policy: HoldPolicy, request: ChatRequest, offer: Offer, usual_output: int) -> Usd:
    output = _asked(request, offer)
    if policy is HoldPolicy.ESTIMATE:
        output = min(output, max(OUTPUT_TOKENS_ESTIMATED_LEAST, usual_output))
    return _cost(offer, request, output)


def _asked(request: ChatRequest, offer: Offer) -> int:
    """The longest answer that may come: what was asked for, else what the model can."""
    most = offer.output_max or OUTPUT_TOKENS_UNKNOWN
    return most if request.output_max is None else min(request.output_max, offer.output_max or request.output_max)


def _cost(offer: Offer, request: ChatRequest, output_tokens: int) -> Usd:
    if offer.price is None or offer.price.free:
        return ZERO
    return offer.price.cost(produced_usage(request, output_tokens * request.answers), offer.markup_ppm)
