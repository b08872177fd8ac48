"""The only retry loop: try the offers in order until one begins to answer.

Nothing has reached the caller while this runs, so another vendor may be tried; once a first piece of content is there,
the vendor is final.  The same vendor is tried again only where it is the last one, the fault may pass, and the budget
for retries, a fifth of all requests, allows it: retries must not become the outage.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from msgspec import Struct

from application.inference.caching import PromptCaches
from application.inference.metering import Meter
from domain.catalog import Offer
from domain.errors import UnsupportedParameter
from domain.ids import VendorSlug
from domain.inference.chat import ChatCall
from domain.inference.faults import OPERATORS_OWN, FaultKind, VendorFault, told
from domain.ports.catalog import HealthBoard
from domain.ports.clock import Clock
from domain.ports.vendors import ChatAnswer, ChatStream, ChatVendor
from domain.usage import Attempt

TRIES_MAX: Final = 3
"""At one vendor, where it is the only one left."""
BACKOFF_S: Final = 0.05
RETRIES_PERCENT: Final = 20
RETRIES_LEAST: Final = 3

_MAY_PASS: Final = frozenset({FaultKind.SERVER_ERROR, FaultKind.OVERLOADED, FaultKind.UNREACHABLE, FaultKind.MALFORMED})

_T = TypeVar("_T")


class OpenedStream(Struct, frozen=True):
    """A stream whose first content has arrived."""

    stream: ChatStream
    rest: AsyncIterator[bytes]
    first: bytes


class RetryBudget:
    """At most a fifth of the requests of the last minute or so may be retries, and three always may."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.monotonic()
        self._requests = self._retries = 0

    def request(self) -> None:
        if self._clock.monotonic() - self._since > 60:  # noqa: PLR2004 - a minute
            self._since, self._requests, self._retries = self._clock.monotonic(), 0, 0
        self._requests += 1

    def retry(self) -> bool:
        if self._retries >= max(RETRIES_LEAST, self._requests * RETRIES_PERCENT // 100):
            return False
        self._retries += 1
        return True


@dataclass(frozen=True, slots=True)
class Failover:
    vendors: Mapping[VendorSlug, ChatVendor]
    health: HealthBoard
    clock: Clock
    first_byte_s: float
    """One deadline over all tries."""
    jitter: Callable[[], float]
    """A number from 0 to 1."""
    budget: RetryBudget
    alert: Callable[[Offer, VendorFault], None] = field(default=lambda _offer, _fault: None)
    """Tells the operator that our own account at a vendor needs care."""
    caches: PromptCaches | None = None
    redacted: dict[VendorSlug, Callable[[str], str]] = field(default_factory=dict)
    """Take the credentials that a vendor is sent out of its own words, whatever way these came."""

    async def answer(self, meter: Meter) -> ChatAnswer:
        """The first whole answer.  Raises what the caller is told where there is none."""

        async def complete(vendor: ChatVendor, call: ChatCall) -> ChatAnswer:
            return await vendor.complete(call)

        return await self._first(meter, complete)

    async def stream(self, meter: Meter) -> OpenedStream:
        """The first stream that has begun.  Raises what the caller is told where none does."""
        return await self._first(meter, _begun)

    async def _first(self, meter: Meter, attempt: Callable[[ChatVendor, ChatCall], Awaitable[_T]]) -> _T:
        self.budget.request()
        deadline = self.clock.monotonic() + self.first_byte_s
        waiting = list(meter.route.offers)
        put_off: list[Offer] = []
        tries, rest_s = 0, 0
        while True:
            offer = self._next(waiting, put_off)
            tries += 1
            started = self.clock.monotonic()
            meter.offer = offer
            # A silent vendor leaves its successors their share of the time.
            share_s = (deadline - started) / (1 + len(waiting))
            try:
                begun = await attempt(self.vendors[offer.vendor], self._call(meter, offer, share_s))
            except UnsupportedParameter:
                # It was not even asked; another vendor may be able to do it.
                meter.offer = None
                if not waiting:
                    raise
                continue
            except VendorFault as raised:
                fault = raised
            else:
                meter.attempts.append(Attempt(vendor=offer.vendor, duration_ms=self._ms_since(started)))
                meter.began()
                if self.caches is not None and meter.conversation is not None:
                    self.caches.answered(meter.conversation, offer)
                return begun
            self._note(meter, offer, fault, started)
            if fault.retry_after_s is not None:
                # Of several vendors that say when to come back, the last word must not send the caller to a busy one.
                rest_s = fault.retry_after_s = max(rest_s, fault.retry_after_s)
            if not fault.worth_another_vendor or self.clock.monotonic() >= deadline:
                raise told(fault, offer.vendor) from fault
            if not waiting:
                if fault.kind not in _MAY_PASS or tries >= TRIES_MAX or not self.budget.retry():
                    raise told(fault, offer.vendor) from fault
                await asyncio.sleep(self.jitter() * BACKOFF_S * 2**tries)
                waiting.append(offer)

    def _next(self, waiting: list[Offer], put_off: list[Offer]) -> Offer:
        """The next to try.  Once, an offer that another request is finding out about lets the others go first."""
        while True:
            offer = waiting.pop(0)
            if self.health.begins(offer) or not waiting or offer in put_off:
                return offer
            put_off.append(offer)
            waiting.append(offer)

    def _call(self, meter: Meter, offer: Offer, left_s: float) -> ChatCall:
        meter.output_limit = meter.limit_for(offer)
        return ChatCall(
            request=meter.request,
            vendor_model=offer.vendor_model,
            output_limit=meter.output_limit,
            first_byte_s=min(left_s, offer.first_byte_s),
            id=meter.hold.id,
            at_s=int(self.clock.now().timestamp()),
            output_max=offer.output_max,
            conversation="" if meter.conversation is None else meter.conversation.mark,
        )

    def _note(self, meter: Meter, offer: Offer, fault: VendorFault, started: float) -> None:
        meter.attempts.append(
            Attempt(
                vendor=offer.vendor,
                fault=fault.kind,
                status=fault.status,
                duration_ms=self._ms_since(started),
            )
        )
        meter.offer = None
        self.redact(offer, fault)
        if fault.hurts_health:
            self.health.failed(offer, fault)
        if fault.kind in OPERATORS_OWN:
            self.alert(offer, fault)

    def redact(self, offer: Offer, fault: VendorFault) -> None:
        if (redacted := self.redacted.get(offer.vendor)) is not None:
            fault.message = redacted(fault.message)

    def _ms_since(self, started: float) -> int:
        return int((self.clock.monotonic() - started) * 1000)


async def _begun(vendor: ChatVendor, call: ChatCall) -> OpenedStream:
    """Read until something worth showing has come, so that a vendor that fails before it can still be replaced."""
    stream = await vendor.stream(call)
    rest = aiter(stream)
    pieces: list[bytes] = []
    try:
        async with asyncio.timeout(call.first_byte_s):
            async for piece in rest:
                pieces.append(piece)
                if stream.started:
                    break
    except TimeoutError:
        stream.close()
        raise VendorFault(FaultKind.FIRST_BYTE_TIMEOUT, "its answer did not begin in time") from None
    except BaseException:
        stream.close()
        raise
    if not stream.started and stream.finish_reason is None:
        stream.close()
        raise VendorFault(FaultKind.MALFORMED, "its stream was empty")
    return OpenedStream(stream, rest, b"".join(pieces))
