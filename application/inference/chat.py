"""Use case: one chat answer, whole or streamed, from a held balance to a settled one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from application.inference.admission import Admission
from application.inference.failover import Failover, OpenedStream
from application.inference.heartbeats import Heartbeats
from application.inference.metering import Meter
from domain.access import Caller
from domain.catalog import Offer
from domain.ids import RequestId
from domain.inference.chat import ChatRequest
from domain.inference.faults import FaultKind, VendorFault, told
from domain.inference.holds import produced_usage
from domain.inference.tokens import estimated_tokens
from domain.money import Usd
from domain.ports.catalog import HealthBoard
from domain.ports.clock import Clock
from domain.ports.vendors import ChatAnswer
from domain.usage import Outcome, Usage

TOTAL_S: Final = 3_600.0
"""The longest that a stream may run."""
CHECK_AFTER_BYTES: Final = 8 * 1024
"""How often a stream's hold is compared with what it may have produced."""


class WholeAnswer:
    """An answer, what it cost, and the meter that has ended."""

    __slots__ = ("answer", "cost", "meter")

    def __init__(self, answer: ChatAnswer, cost: Usd, meter: Meter) -> None:
        self.answer = answer
        self.cost = cost
        self.meter = meter


class DetachedWork:
    """Tasks that outlive the request that began them: reading on at vendors that bill after an abort."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def drain(self, timeout_s: float) -> None:
        """Wait so long, then cancel what is left and wait as long again for what it does on its way out."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout_s)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout_s)


@dataclass(frozen=True, slots=True)
class CompleteChat:
    admission: Admission
    failover: Failover
    health: HealthBoard
    heartbeats: Heartbeats
    clock: Clock
    idle: timedelta
    detached: DetachedWork = field(default_factory=DetachedWork)

    async def whole(self, caller: Caller, request: ChatRequest, request_id: RequestId) -> WholeAnswer:
        """Cancelled, it hangs up on the vendor and is free, unless the vendor works on and bills all the same."""
        return await self.answered(await self.admitted(caller, request, request_id))

    async def admitted(self, caller: Caller, request: ChatRequest, request_id: RequestId) -> Meter:
        """A request that may run; whoever does not let it run says so with `give_up`."""
        meter = await self.admission.admit(caller, request, request_id)
        self.heartbeats.watch(meter)
        return meter

    def give_up(self, meter: Meter) -> None:
        """An admitted request that never ran; nothing where it has ended."""
        self.heartbeats.forget(meter)
        meter.end(Outcome.FAILED, None)

    async def answered(self, meter: Meter) -> WholeAnswer:
        """The whole answer of an admitted request."""
        if all(offer.abort_policy.cancellable for offer in meter.route.offers):
            return await self._answered(meter)
        return await asyncio.shield(self.detached.spawn(self._answered(meter)))

    async def _answered(self, meter: Meter) -> WholeAnswer:
        outcome = Outcome.FAILED
        try:
            answer = await self.failover.answer(meter)
            meter.end(
                Outcome.COMPLETED,
                answer.usage,
                produced=lambda: answer.produced_tokens or _tokens_of_body(answer),
                finish_reason=answer.finish_reason,
                vendor_cost=answer.vendor_cost,
            )
        except asyncio.CancelledError:
            outcome = Outcome.ABORTED
            raise
        finally:
            self.heartbeats.forget(meter)
            meter.end(outcome, None)
        record, offer = meter.record, meter.offer
        assert record is not None and offer is not None, "an answered request has both"  # noqa: PT018
        # Not the time of the vendors that failed before it.
        self.health.succeeded(offer, meter.wait_ms, record.usage.output_tokens, meter.wait_ms)
        return WholeAnswer(answer, record.cost, meter)

    async def stream(self, caller: Caller, request: ChatRequest, request_id: RequestId) -> RunningStream:
        """Returns once content has begun; the caller of this must `close` the stream by whatever way it leaves."""
        meter = await self.admission.admit(caller, request, request_id)
        self.heartbeats.watch(meter)
        outcome = Outcome.FAILED
        try:
            opened = await self.failover.stream(meter)
        except asyncio.CancelledError:
            outcome = Outcome.ABORTED
            raise
        else:
            return RunningStream(self, meter, opened)
        finally:
            self.heartbeats.forget(meter)
            if meter.first_token_at is None:
                meter.end(outcome, None)


class RunningStream:
    """A stream that has begun: its bytes, and what they cost so far."""

    def __init__(self, chat: CompleteChat, meter: Meter, opened: OpenedStream) -> None:
        assert meter.offer is not None, "a stream that has begun is served by an offer"
        self.meter = meter
        self.offer: Offer = meter.offer
        self.headers = opened.stream.headers
        self.cost: Usd | None = None
        """Known once the vendor's usage has passed."""
        self.cut_short = False
        """It ended because no credit was left to go on."""
        self._chat = chat
        self._stream = opened.stream
        self._rest = opened.rest
        self._first = opened.first
        self._last_event = chat.clock.monotonic()
        self._started = self._last_event
        self._given_up = ""
        """Why we hung up on the vendor."""
        self._overdue = False
        """It was our deadline that ended it, not the vendor."""
        meter.progress = opened.stream.produced_tokens
        chat.heartbeats.watch(self)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Whole events, as the vendor sent them.

        Raises what the caller is told where the vendor breaks off; the answer is free then.
        """
        chat, stream, meter = self._chat, self._stream, self.meter
        unchecked = 0
        try:
            self._tell_cost()
            if self._first:
                yield self._first
            async for piece in self._rest:
                self._last_event = chat.clock.monotonic()
                if stream.usage is not None:
                    self._tell_cost()
                if piece:
                    yield piece
                    unchecked += len(piece)
                    if unchecked > CHECK_AFTER_BYTES:
                        unchecked = 0
                        if meter.may_outgrow(stream.produced_at_most()) and not await meter.produced(
                            stream.produced_tokens()
                        ):
                            self.cut_short = True
                            self.close(Outcome.CUT_OFF, "length")
                            return
        except VendorFault as raised:
            fault = VendorFault(FaultKind.IDLE_TIMEOUT, self._given_up) if self._given_up else raised
            chat.failover.redact(self.offer, fault)
            chat.health.failed(self.offer, fault)
            # A caller who reads slowly must not reach our deadline to get its answer free.
            self.close(Outcome.CUT_OFF if self._overdue else Outcome.BROKEN_OFF)
            raise told(fault, self.offer.vendor) from fault
        self.close(Outcome.COMPLETED, stream.finish_reason)
        if self.cost is None and meter.record is not None:
            self.cost = meter.record.cost
        record = meter.record
        if record is not None:
            writing_ms = record.duration_ms - (record.first_token_ms or 0)
            chat.health.succeeded(self.offer, meter.wait_ms, record.usage.output_tokens, meter.wait_ms + writing_ms)

    def _tell_cost(self) -> None:
        """The cost by the vendor's usage, where that is what will be charged."""
        usage = self._stream.usage
        if usage is not None and usage.has_tokens and self.meter.believes(usage):
            self.cost = self.meter.cost(usage)

    def produced(self) -> Usage:
        """Our own account of what has been written so far."""
        return produced_usage(self.meter.request, self._stream.produced_tokens())

    def close(self, outcome: Outcome, finish_reason: str | None = None) -> None:
        """Hang up and end the hold with what was produced; only the first call does anything."""
        meter, stream = self.meter, self._stream
        if meter.ended:
            return
        self._chat.heartbeats.forget(self)
        policy = self.offer.abort_policy
        if outcome in (Outcome.COMPLETED, Outcome.BROKEN_OFF):
            named = None
        elif policy.cancellable or stream.usage is not None:
            named = policy.id
        else:
            self._chat.detached.spawn(self._read_on(outcome))
            return
        stream.close()
        meter.end(
            outcome,
            stream.usage,
            produced=stream.produced_tokens,
            finish_reason=finish_reason,
            abort_policy=named,
            vendor_cost=stream.vendor_cost,
        )

    def beat(self, period_s: float) -> None:
        now = self._chat.clock.monotonic()
        if now - self._last_event > self._chat.idle.total_seconds():
            self._given_up = "it fell silent"
        elif now - self._started > TOTAL_S:
            self._given_up = f"its answer took longer than {TOTAL_S:g} s"
            self._overdue = True
        if self._given_up:
            self._stream.close()
        self.meter.beat(period_s)

    async def _read_on(self, outcome: Outcome) -> None:
        """The vendor bills what it writes after an abort, so that we read on until it says how much."""
        stream, policy = self._stream, self.offer.abort_policy
        self._chat.heartbeats.watch(self.meter)
        try:
            async with asyncio.timeout(policy.drain_s):
                async for _ in self._rest:
                    if stream.usage is not None:
                        break
        except (TimeoutError, VendorFault):
            # What it had produced by then is what we know, and what is charged.
            pass
        finally:
            stream.close()
            self._chat.heartbeats.forget(self.meter)
            self.meter.end(
                outcome,
                stream.usage,
                produced=stream.produced_tokens,
                abort_policy=policy.id,
                vendor_cost=stream.vendor_cost,
            )


def _tokens_of_body(answer: ChatAnswer) -> int:
    """Where no word of an answer could be counted; none where its vendor counted none either."""
    return 0 if answer.usage is not None and not answer.usage.has_tokens else estimated_tokens(answer.body)
