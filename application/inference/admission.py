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

from application.inference.metering import Meter
from application.inference.outputs import UsualOutputs
from application.inference.settlement import Settler
from domain.access import Caller
from domain.catalog import Catalog, Model
from domain.ids import HoldId, RequestId
from domain.inference.chat import ChatRequest
from domain.inference.holds import HoldPolicy, plan_hold
from domain.keys import check_model, model_allowed
from domain.ledger import HoldOpened, OpenHold, ReleaseHold
from domain.money import ZERO
from domain.ports.catalog import CatalogSource, HealthBoard
from domain.ports.clock import Clock
from domain.ports.ledger import Ledger
from domain.ports.limiter import Limiter
from domain.routing import Demand, Route, plan_route
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

    def route(self, caller: Caller, request: ChatRequest) -> Route:
        """Raises ModelNotFound, ModelUnpriced, KeyNotAllowed, NoOffer."""
        models = self._models(self.catalog.current(), caller, request)
        demand = Demand(prompt_tokens=request.prompt_tokens, needs=request.needs, preferences=request.preferences)
        several = sum(len(model.offers) for model in models) > 1
        pulses = [(o, self.health.pulse(o)) for model in models for o in model.offers] if several else ()
        return plan_route(models, demand, pulses)

    async def admit(self, caller: Caller, request: ChatRequest, request_id: RequestId) -> Meter:
        """Raises the first refusal; then nothing is held or counted."""
        route = self.route(caller, request)
        tokens = request.prompt_tokens + min(request.output_max or 0, self.outputs.usual(route.offers[0].model))
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
        )

    def _models(self, catalog: Catalog, caller: Caller, request: ChatRequest) -> Sequence[Model]:
        """The model asked for, then the fallbacks that exist and that the key may use."""
        first = catalog.find(request.model)
        policy = caller.key.policy
        if policy.models:
            check_model(policy, first.id)
        if not request.preferences.models:
            return (first,)
        further = [catalog.find(name) for name in request.preferences.models]
        allowed = [model for model in further if model.id != first.id and model_allowed(policy, model.id)]
        return (first, *allowed)

    async def _hold(self, caller: Caller, request: ChatRequest, request_id: RequestId, route: Route) -> HoldOpened:
        now = self.clock.now()
        plan = plan_hold(self.policy, request, route.offers, self.outputs.usual(route.offers[0].model))
        capped = plan.wanted != ZERO or caller.key.policy.requests_max is not None
        operation = OpenHold(
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
            ),
            cap=caller.key.cap(now) if capped else None,
        )
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
