"""The one door: key policy, route, rate limits and a hold, in this order, before any vendor is called.

Admission is decided once.  What passes here is answered and charged; whoever leaves it, by whatever way, gives its rate
limits back and ends its hold exactly once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from msgspec.structs import replace

from application.inference.caching import PromptCaches
from application.inference.metering import Meter
from application.inference.outputs import UsualOutputs
from application.inference.settlement import Settler
from domain.access import Caller
from domain.ids import HoldId, ModelId, RequestId
from domain.inference.chat import ChatRequest
from domain.inference.holds import HoldPolicy, plan_hold, within_ceiling
from domain.keys import check_model, model_allowed
from domain.ledger import HoldOpened, OpenHold, ReleaseHold
from domain.money import ZERO
from domain.ports.affinity import Conversation
from domain.ports.catalog import CatalogSource, HealthBoard
from domain.ports.clock import Clock
from domain.ports.ledger import Ledger
from domain.ports.limiter import Limiter
from domain.routing import Demand, Draw, Route, Wanted, plan_route, wanted
from domain.usage import Generation


@dataclass(frozen=True, slots=True)
class Admission:
    catalog: CatalogSource
    health: HealthBoard
    limiter: Limiter
    ledger: Ledger
    settler: Settler
    outputs: UsualOutputs
    clock: Clock
    policy: HoldPolicy
    lease: timedelta
    draw: Draw | None = None
    """Decides the first try where the caller does not; None: the cheapest."""
    caches: PromptCaches | None = None

    def sought(self, caller: Caller, request: ChatRequest) -> Sequence[Wanted]:
        """The model asked for, then the fallbacks that the key may use.

        Raises ModelNotFound, ModelUnpriced, KeyNotAllowed.
        """
        catalog, policy = self.catalog.current(), caller.key.policy
        first = _on_plan(caller, wanted(catalog, request.model))
        if policy.models:
            check_model(policy, first.model.id)
        if not request.preferences.models:
            return (first,)
        sought = [first]
        for name in request.preferences.models:
            further = _on_plan(caller, wanted(catalog, name))
            if further not in sought and model_allowed(policy, further.model.id):
                sought.append(further)
        return sought

    async def route(self, sought: Sequence[Wanted], request: ChatRequest, conversation: Conversation | None) -> Route:
        """Raises NoOffer."""
        cached_at = None
        if conversation is not None and self.caches is not None and sum(len(each.model.offers) for each in sought) > 1:
            cached_at = await self.caches.cached_at(conversation)
        route = plan_route(sought, demand_of(request), self.health.pulse, cached_at=cached_at, draw=self.draw)
        return within_ceiling(request, route)

    def limited_tokens(self, request: ChatRequest, model: ModelId) -> int:
        """What the rate limits count for a request before its answer is known."""
        return request.prompt_tokens + min(request.output_max or 0, self.outputs.usual(model))

    async def admit(self, caller: Caller, request: ChatRequest, request_id: RequestId) -> Meter:
        """Raises the first refusal; then nothing is held or counted."""
        sought = self.sought(caller, request)
        conversation = None if self.caches is None else self.caches.conversation(caller, request, sought)
        route = await self.route(sought, request, conversation)
        tokens = self.limited_tokens(request, route.offers[0].model)
        admitted = await self.limiter.acquire(caller.limited_as, tokens)
        try:
            opened = await self._hold(caller, request, request_id, route)
        except BaseException:
            self.limiter.release(caller.limited_as, admitted, -tokens)
            raise
        return Meter(
            caller=caller,
            request=request,
            route=route,
            opened=opened,
            admitted=admitted,
            limited_tokens=tokens,
            ledger=self.ledger,
            settler=self.settler,
            limiter=self.limiter,
            outputs=self.outputs,
            clock=self.clock,
            policy=self.policy,
            lease=self.lease,
            conversation=conversation,
        )

    def opening(self, caller: Caller, request: ChatRequest, request_id: RequestId, route: Route) -> OpenHold:
        """The hold that this request needs.  Raises MaxCostExceeded."""
        now = self.clock.now()
        plan = plan_hold(self.policy, request, route.offers, self.outputs.usual(route.offers[0].model))
        capped = plan.wanted != ZERO or caller.key.policy.requests_max is not None
        return OpenHold(
            account_id=caller.account_id,
            hold_id=HoldId(request_id),
            wanted=plan.wanted,
            least=plan.least,
            at=now,
            lease_until=now + self.lease,
            record=Generation(
                id=request_id,
                account_id=caller.account_id,
                key_id=caller.key.id,
                model=route.offers[0].model,
                dialect=request.dialect,
                streamed=request.streamed,
                started_at=now,
                app=request.app,
            ),
            cap=caller.key.cap(now) if capped else None,
        )

    async def _hold(self, caller: Caller, request: ChatRequest, request_id: RequestId, route: Route) -> HoldOpened:
        operation = self.opening(caller, request, request_id, route)
        future = self.ledger.submit(operation)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            # The caller left while the hold was being written: it may be durable a moment later, and nobody else
            # would end it.
            future.add_done_callback(lambda done: self._undo(operation, done))
            raise

    def _undo(self, operation: OpenHold, opened: asyncio.Future[Any]) -> None:
        if not opened.cancelled() and opened.exception() is None:
            self.settler.end(
                ReleaseHold(account_id=operation.account_id, hold_id=operation.hold_id, at=self.clock.now())
            )


def demand_of(request: ChatRequest) -> Demand:
    return Demand(
        prompt_tokens=request.prompt_tokens,
        needs=request.needs,
        preferences=request.preferences,
        parameters=request.parameters,
        one_prompt=request.ceiling is None,
    )


def _on_plan(caller: Caller, found: Wanted) -> Wanted:
    """The model as this caller pays for it."""
    return found if caller.plan is None else replace(found, model=found.model.for_plan(caller.plan))
