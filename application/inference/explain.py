"""Use case: what would become of a request, by the rules that admit one; no vendor is called and nothing held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from msgspec import Struct

from application.inference.admission import Admission, demand_of
from domain.access import Caller
from domain.catalog import Offer
from domain.credits import CreditAccount, Lot
from domain.errors import DomainError, PaymentRequired
from domain.ids import RequestId
from domain.inference.chat import ChatRequest
from domain.inference.holds import CostRange, cost_range, within_ceiling
from domain.keys import model_allowed
from domain.ledger import Books, HoldOpened, KeyMeter, OpenHold
from domain.limits import MINUTE_S, NO_WINDOW, Headroom, RateLimitExceeded, Subject, Window
from domain.money import ZERO, Usd
from domain.routing import (
    Exclusion,
    NoOffer,
    Ordering,
    Pulse,
    Route,
    Wanted,
    considered,
    wanted,
    weights,
    why_none,
)

PER_MINUTE: Final = 120
"""Explanations per key: they are free, but each reads the database."""
PERCENT: Final = 100


class ExplainedOffer(Struct, frozen=True, kw_only=True):
    offer: Offer
    cost: CostRange
    pulse: Pulse
    first_percent: int
    """How often it is the first to be tried, in whole percent, rounded down."""
    dropped: tuple[str, ...]
    """Parameters of this request that its vendor would not be sent."""


class Payment(Struct, frozen=True):
    """A lot of credit, and what would be held of it."""

    lot: Lot
    amount: Usd


class Ceiling(Struct, frozen=True):
    """A limit, and how many more requests like this one it allows."""

    name: str
    requests_left: int


class Explanation(Struct, frozen=True, kw_only=True):
    sought: Sequence[Wanted]
    models_refused: tuple[str, ...]
    """Fallbacks that the key may not use."""
    prompt_tokens: int
    ordering: Ordering
    offers: tuple[ExplainedOffer, ...]
    """In the order in which they would be tried; where the first is drawn, with the likeliest one first."""
    excluded: tuple[Exclusion, ...]
    cost: CostRange | None
    """The least of any offer, the first one's likely cost, the most of any."""
    held: Usd | None
    """None where nothing would be."""
    paid_by: tuple[Payment, ...]
    spendable: Usd
    """Before this request."""
    requests: Headroom
    tokens: Headroom
    budget_left: Usd | None
    """Of the key's own budget; None where it has none."""
    ceilings: tuple[Ceiling, ...]
    """What would refuse later requests like this one, the nearest first."""
    refusals: tuple[DomainError, ...]
    """Why this request would be refused, in the order of the checks; empty where it would be served."""


@dataclass(frozen=True, slots=True)
class Explain:
    admission: Admission

    async def __call__(self, caller: Caller, request: ChatRequest) -> Explanation:
        """Raises ModelNotFound, ModelUnpriced, KeyNotAllowed, and RateLimitExceeded to who asks too often."""
        admission = self.admission
        window = Window("explanations_per_minute", PER_MINUTE, MINUTE_S, PER_MINUTE, False)
        await admission.limiter.hit(Subject(f"key:explain:{caller.key.id}", (window,), 0))
        sought = admission.sought(caller, request)
        route = await self._route(caller, request, sought)
        account = await admission.ledger.account(caller.account_id)
        meter = await admission.ledger.key_meter(caller.key.id)
        refusals: list[DomainError] = []
        if not route.offers:
            refusals.append(NoOffer(why_none(sought, route.excluded)))
        model = route.offers[0].model if route.offers else sought[0].model.id
        tokens = admission.limited_tokens(request, model)
        seen = await self._headroom(caller, tokens, refusals)
        opened = self._opened(caller, request, route, account, meter, refusals) if route.offers else None
        offers = self._explained(request, route)
        now = admission.clock.now()
        spendable, budget_left = account.spendable(now), _budget_left(caller, meter, now)
        credits = (("credit", spendable), ("key_budget", budget_left))
        likely = offers[0].cost.likely if offers else ZERO
        return Explanation(
            sought=sought,
            models_refused=self._refused(caller, request),
            prompt_tokens=request.prompt_tokens,
            ordering=route.ordering,
            offers=offers,
            excluded=route.excluded,
            cost=_range(offers),
            held=None if opened is None else opened.hold.amount,
            paid_by=() if opened is None else _paid_by(account, opened),
            spendable=spendable,
            requests=seen[0],
            tokens=seen[1],
            budget_left=budget_left,
            ceilings=_ceilings(caller, meter, seen, tokens, credits, likely),
            refusals=tuple(refusals),
        )

    async def _route(self, caller: Caller, request: ChatRequest, sought: Sequence[Wanted]) -> Route:
        """As admission would plan it, except that nothing is left to chance."""
        admission, cached_at = self.admission, None
        if admission.caches is not None:
            conversation = admission.caches.conversation(caller, request, sought)
            if conversation is not None:
                cached_at = await admission.caches.cached_at(conversation)
        route = considered(sought, demand_of(request), admission.health.pulse, cached_at=cached_at)
        return within_ceiling(request, route)

    async def _headroom(self, caller: Caller, tokens: int, refusals: list[DomainError]) -> tuple[Headroom, Headroom]:
        try:
            seen = await self.admission.limiter.peek(caller.limited_as, tokens)
        except RateLimitExceeded as refusal:
            refusals.append(refusal)
            return refusal.requests, refusal.tokens
        return seen.requests, seen.tokens

    def _opened(
        self,
        caller: Caller,
        request: ChatRequest,
        route: Route,
        account: CreditAccount,
        meter: KeyMeter | None,
        refusals: list[DomainError],
    ) -> HoldOpened | None:
        """The hold, opened in books that nobody keeps."""
        try:
            operation: OpenHold = self.admission.opening(caller, request, RequestId("explained"), route)
            books = Books()
            books.accounts[account.id] = account
            if meter is not None:
                books.meters[meter.key_id] = meter
            opened = books.apply(operation)
        except PaymentRequired as refusal:
            refusals.append(refusal)
            return None
        assert isinstance(opened, HoldOpened), "an OpenHold opens a hold"
        return opened

    def _explained(self, request: ChatRequest, route: Route) -> tuple[ExplainedOffer, ...]:
        admission, offers = self.admission, route.offers
        if not offers:
            return ()
        pulses = [admission.health.pulse(offer) for offer in offers]
        shares = [PERCENT, *(0 for _ in offers[1:])]
        if route.ordering is Ordering.PRICE_WEIGHTED and admission.draw is not None:
            drawn = [
                offer for offer, pulse in zip(offers, pulses, strict=True)
                if offer.model == offers[0].model and not pulse.resting
            ]  # fmt: skip
            if len(drawn) > 1:
                parts = weights(drawn, request.prompt_tokens)
                shares[: len(drawn)] = [part * PERCENT // sum(parts) for part in parts]
        return tuple(
            ExplainedOffer(
                offer=offer,
                cost=cost_range(request, offer, admission.outputs.typical(offer.model)),
                pulse=pulse,
                first_percent=share,
                dropped=tuple(sorted(request.parameters & offer.unsupported)),
            )
            for offer, pulse, share in zip(offers, pulses, shares, strict=True)
        )

    def _refused(self, caller: Caller, request: ChatRequest) -> tuple[str, ...]:
        catalog, policy = self.admission.catalog.current(), caller.key.policy
        found = [wanted(catalog, name).model.id for name in request.preferences.models]
        return tuple(dict.fromkeys(model for model in found if not model_allowed(policy, model)))


def _range(offers: Sequence[ExplainedOffer]) -> CostRange | None:
    if not offers:
        return None
    costs = [offer.cost for offer in offers]
    return CostRange(min(cost.least for cost in costs), costs[0].likely, max(cost.most for cost in costs))


def _paid_by(account: CreditAccount, opened: HoldOpened) -> tuple[Payment, ...]:
    lots = {lot.id: lot for lot in account.lots}
    return tuple(Payment(lots[draw.lot_id], draw.amount) for draw in opened.hold.draws)


def _budget_left(caller: Caller, meter: KeyMeter | None, at: datetime) -> Usd | None:
    cap = caller.key.cap(at)
    if cap is None or cap.budget is None:
        return None
    if meter is None:
        return cap.budget
    anew = cap.period_start is not None and (meter.period_start is None or meter.period_start < cap.period_start)
    spent = ZERO if anew else meter.spent
    return max(ZERO, cap.budget - spent - meter.held)


def _ceilings(
    caller: Caller,
    meter: KeyMeter | None,
    seen: tuple[Headroom, Headroom],
    tokens: int,
    credits: Sequence[tuple[str, Usd | None]],
    likely: Usd,
) -> tuple[Ceiling, ...]:
    """Every limit with how many requests like this one it still allows, the nearest first."""
    found = [
        Ceiling(name, room.remaining // max(1, each))
        for name, room, each in (("requests", seen[0], 1), ("tokens", seen[1], tokens))
        if room is not NO_WINDOW
    ]
    found += [Ceiling(name, left.nanos // likely.nanos) for name, left in credits if left is not None and likely]
    requests_max = caller.key.policy.requests_max
    if requests_max is not None:
        used = 0 if meter is None else meter.requests
        found.append(Ceiling("key_max_requests", max(0, requests_max - used)))
    return tuple(sorted(found, key=lambda ceiling: ceiling.requests_left))
