"""How many tokens a prompt has: asked of a vendor that counts them, else estimated.  Free, but rate limited."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from application.inference.admission import Admission
from domain.access import Caller
from domain.catalog import Offer
from domain.ids import VendorSlug
from domain.inference.chat import ChatCall, ChatRequest
from domain.inference.faults import VendorFault, told
from domain.ports.vendors import TokenCounter

COUNT_S: Final = 10.0
TRIES_MAX: Final = 2

log = logging.getLogger(__name__)


class Counted(Struct, frozen=True, kw_only=True):
    input_tokens: int
    offer: Offer | None = None
    """Whose vendor counted; None where the figure is our own estimate."""


@dataclass(frozen=True, slots=True)
class CountTokens:
    admission: Admission
    counters: Mapping[VendorSlug, TokenCounter]

    async def __call__(self, caller: Caller, request: ChatRequest) -> Counted:
        """Raises what admission raises for an unknown model or a key that may not use it, and RateLimitExceeded."""
        admission = self.admission
        route = await admission.route(admission.sought(caller, request), request, None)
        admitted = await admission.limiter.acquire(caller.limited_as, 0)
        try:
            able = [offer for offer in route.offers if offer.vendor in self.counters]
            for offer in able[:TRIES_MAX]:
                counted = await self._counted(offer, request)
                if counted is not None:
                    return counted
        finally:
            admission.limiter.release(caller.limited_as, admitted, 0)
        return Counted(input_tokens=request.prompt_tokens)

    async def _counted(self, offer: Offer, request: ChatRequest) -> Counted | None:
        call = ChatCall(request=request, vendor_model=offer.vendor_model, first_byte_s=COUNT_S)
        try:
            async with asyncio.timeout(COUNT_S):
                tokens = await self.counters[offer.vendor].count_input(call)
        except VendorFault as fault:
            if not fault.worth_another_vendor:
                raise told(fault, offer.vendor) from fault
            log.info("vendor %s does not count tokens now: %s", offer.vendor, fault.kind)
            return None
        except TimeoutError:
            return None
        return Counted(input_tokens=tokens, offer=offer)
