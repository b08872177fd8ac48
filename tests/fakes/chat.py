"""The chat use case on memory adapters, with vendors that answer step by step as a test says."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from typing import Any

from adapters.dialects.openai_chat.client import OpenAIChatStream, read_answer
from adapters.dialects.openai_chat.server import read_request
from adapters.memory.affinity import MemoryAffinity
from adapters.memory.ledger import MemoryLedger
from adapters.memory.limiter import MemoryLimiter
from application.inference.admission import Admission
from application.inference.caching import PromptCaches
from application.inference.chat import CompleteChat, DetachedWork, RunningStream, WholeAnswer
from application.inference.failover import Failover, RetryBudget
from application.inference.heartbeats import Heartbeats
from application.inference.outputs import UsualOutputs
from application.inference.settlement import Settler
from domain.access import Caller, subjects
from domain.accounts import Account
from domain.catalog import CANCEL_AND_BILL_PRODUCED, AbortPolicy, Catalog, Model, Offer
from domain.credits import CreditAccount, Kind, Lot, Source, Transfer
from domain.errors import DomainError, StorageUnavailable
from domain.ids import AccountId, KeyId, LotId, ModelId, PriceId, RequestId, VendorSlug
from domain.inference.chat import ChatCall, ChatRequest
from domain.inference.faults import FaultKind, VendorFault
from domain.inference.holds import HoldPolicy
from domain.keys import ApiKey, Environment, KeyPolicy
from domain.ledger import GrantCredit, Operation
from domain.limits import LimitSet
from domain.money import Usd
from domain.ports.clock import Clock
from domain.ports.vendors import ChatAnswer
from domain.pricing import Price, PriceSource, Rates
from domain.routing import Draw, Pulse
from domain.usage import Generation
from tests.fakes.time import NOON, CountingIds, FakeClock
from tests.fakes.upstream import encode

MODEL = ModelId("acme/one")
ANN = AccountId("ann")
INPUT_USD, OUTPUT_USD = "1", "2"
"""Per million tokens: one token costs 1,000 or 2,000 nano-dollars."""
LEASE = timedelta(minutes=15)

Step = bytes | asyncio.Event | VendorFault
"""What a connection delivers, waits for, or ends with."""


class Line:
    """A vendor's open connection."""

    def __init__(self, *steps: Step) -> None:
        self.hung_up = asyncio.Event()
        self.delivered = 0
        self._steps = steps

    def hang_up(self) -> None:
        self.hung_up.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        for step in self._steps:
            if isinstance(step, VendorFault):
                raise step
            if isinstance(step, asyncio.Event):
                await self._until(step)
            else:
                self.delivered += 1
                yield step
            if self.hung_up.is_set():
                raise VendorFault(FaultKind.BROKEN_OFF, "it broke its answer off")

    async def _until(self, gate: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (gate, self.hung_up)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


Act = bytes | VendorFault | DomainError | Line | asyncio.Event
"""A whole answer, a refusal, a stream, or silence until the event."""


class ActingVendor:
    """A `ChatVendor` that plays one act for each call, the last one for ever."""

    def __init__(self, slug: str, *acts: Act, abort_policy: AbortPolicy = CANCEL_AND_BILL_PRODUCED) -> None:
        self.slug = VendorSlug(slug)
        self.abort_policy = abort_policy
        self.calls: list[ChatCall] = []
        self.cancelled = 0
        self._acts = deque(acts)

    async def complete(self, call: ChatCall) -> ChatAnswer:
        act = await self._act(call)
        assert isinstance(act, bytes), "this act is a stream"
        return read_answer(act, {})

    async def stream(self, call: ChatCall) -> OpenAIChatStream:
        act = await self._act(call)
        assert isinstance(act, Line), "this act is no stream"
        return OpenAIChatStream(act.chunks(), act.hang_up, {}, shows_usage=call.request.wants_usage)

    async def _act(self, call: ChatCall) -> bytes | Line:
        self.calls.append(call)
        act = self._acts[0]
        if len(self._acts) > 1:
            self._acts.popleft()
        if isinstance(act, asyncio.Event):
            try:
                async with asyncio.timeout(call.first_byte_s):
                    await act.wait()
            except TimeoutError:
                raise VendorFault(FaultKind.FIRST_BYTE_TIMEOUT, "it sent nothing in time") from None
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            return await self._act(call)
        if isinstance(act, VendorFault | DomainError):
            raise act
        return act


class Board:
    """A health board that only remembers."""

    def __init__(self) -> None:
        self.failures: list[tuple[VendorSlug, FaultKind]] = []
        self.successes: list[VendorSlug] = []
        self.probed: set[VendorSlug] = set()
        """Vendors that another call is finding out about."""

    def pulse(self, offer: Offer) -> Pulse:
        return Pulse()

    def begins(self, offer: Offer) -> bool:
        return offer.vendor not in self.probed

    def succeeded(self, offer: Offer, first_token_ms: int, output_tokens: int, duration_ms: int) -> None:
        self.successes.append(offer.vendor)

    def failed(self, offer: Offer, fault: VendorFault) -> None:
        self.failures.append((offer.vendor, fault.kind))


class FixedCatalog:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def current(self) -> Catalog:
        return self._catalog


class MoodyLedger(MemoryLedger):
    """Answers late while `gate` is closed, and not at all to what `refuses` says."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.refuses: Callable[[Operation], bool] = lambda _: False
        self.submitted: list[Operation] = []
        self._late: set[asyncio.Task[None]] = set()

    def submit(self, operation: Operation) -> Future[Any]:
        self.submitted.append(operation)
        if self.refuses(operation):
            refusal: Future[Any] = asyncio.get_running_loop().create_future()
            refusal.set_exception(StorageUnavailable("The database is away."))
            return refusal
        answer = super().submit(operation)
        if self.gate.is_set():
            return answer
        late: Future[Any] = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(self._pass_on(answer, late))
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        return late

    async def _pass_on(self, answer: Future[Any], late: Future[Any]) -> None:
        await self.gate.wait()
        if late.cancelled():
            return
        if error := answer.exception():
            late.set_exception(error)
        else:
            late.set_result(answer.result())


class Stage:
    """A customer with credit, a model, and the vendors that serve it, in their order."""

    def __init__(
        self,
        *vendors: ActingVendor,
        policy: HoldPolicy = HoldPolicy.ESTIMATE,
        output_max: int | None = 16_000,
        first_byte_s: float = 30.0,
        offers_first_byte_s: int = 30,
        concurrent: int = 50,
        clock: Clock | None = None,
        rates: Mapping[str, Rates] = {},
        draw: Draw | None = None,
        policy_of_key: KeyPolicy = KeyPolicy(),  # noqa: B008 - it never changes
    ) -> None:
        self.clock = clock or FakeClock()
        self.ids = CountingIds()
        self.ledger = MoodyLedger()
        self.settler = Settler(self.ledger)
        self.limiter = MemoryLimiter(self.clock)
        self.board = Board()
        self.heartbeats = Heartbeats(5.0)
        self.alerts: list[tuple[VendorSlug, FaultKind]] = []
        offers = tuple(
            Offer(
                vendor=vendor.slug,
                model=MODEL,
                vendor_model=f"{vendor.slug}-one",
                price=price(vendor.slug, rates.get(vendor.slug)),
                output_max=output_max,
                abort_policy=vendor.abort_policy,
                first_byte_s=offers_first_byte_s,
            )
            for vendor in vendors
        )
        self.outputs = UsualOutputs()
        self.detached = DetachedWork()
        self.caches = PromptCaches(MemoryAffinity(self.clock), b"k" * 32)
        self.chat = CompleteChat(
            admission=Admission(
                catalog=FixedCatalog(Catalog([Model(id=MODEL, name="One", offers=offers)])),
                health=self.board,
                limiter=self.limiter,
                ledger=self.ledger,
                settler=self.settler,
                outputs=self.outputs,
                clock=self.clock,
                policy=policy,
                lease=LEASE,
                draw=draw,
                caches=self.caches,
            ),
            failover=Failover(
                vendors={vendor.slug: vendor for vendor in vendors},
                health=self.board,
                clock=self.clock,
                first_byte_s=first_byte_s,
                jitter=lambda: 0.0,
                budget=RetryBudget(self.clock),
                alert=lambda offer, fault: self.alerts.append((offer.vendor, fault.kind)),
                caches=self.caches,
            ),
            health=self.board,
            heartbeats=self.heartbeats,
            clock=self.clock,
            idle=timedelta(seconds=60),
            detached=self.detached,
        )
        self.caller = _caller(concurrent, policy_of_key)
        self.latest = RequestId("")
        """The request that was made last."""

    async def fund(self, usd: str) -> None:
        lot = Lot(
            id=LotId(f"lot:{self.ids.fresh()}"),
            source=Source.PURCHASE,
            granted=Usd.parse(usd),
            free=Usd.parse(usd),
            granted_at=NOON,
        )
        await self.ledger.submit(GrantCredit(account_id=ANN, lot=lot))

    async def whole(self, request: ChatRequest) -> WholeAnswer:
        self.latest = RequestId(self.ids.fresh())
        return await self.chat.whole(self.caller, request, self.latest)

    async def stream(self, request: ChatRequest) -> RunningStream:
        self.latest = RequestId(self.ids.fresh())
        return await self.chat.stream(self.caller, request, self.latest)

    async def account(self) -> CreditAccount:
        return await self.ledger.account(ANN)

    async def settled(self) -> CreditAccount:
        """The account once nothing is under way any more; asserts that every promise about money was kept."""
        await self.detached.drain(2)
        assert await self.settler.drain(2)
        account = await self.account()
        assert not account.held
        assert account.charged <= account.funded
        assert await self.ledger.verify() == []
        assert not self.heartbeats.running
        return account

    async def charged(self) -> Usd:
        return (await self.settled()).charged

    async def booked(self, kind: Kind) -> list[Transfer]:
        return [transfer for transfer in await self.ledger.transfers(ANN, 100, None) if transfer.kind is kind]

    async def generation(self) -> Generation:
        """The record of the latest request."""
        record = await self.ledger.generation(ANN, self.latest)
        assert record is not None
        return record


def price(vendor: VendorSlug, rates: Rates | None = None) -> Price:
    return Price(
        id=PriceId(f"price:{vendor}"),
        vendor=vendor,
        model=MODEL,
        rates=rates or Rates(input=Usd.parse(INPUT_USD).nanos, output=Usd.parse(OUTPUT_USD).nanos),
        valid_from=NOON,
        source=PriceSource.OPERATOR,
    )


def cost(input_tokens: int, output_tokens: int) -> Usd:
    """What so many tokens cost of any vendor here."""
    return Usd(input_tokens * 1_000 + output_tokens * 2_000)


def request(**members: Any) -> ChatRequest:
    return read_request(encode({"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]} | members))


def streamed(**members: Any) -> ChatRequest:
    return request(stream=True, **members)


async def read(stream: RunningStream) -> bytes:
    return b"".join([piece async for piece in stream.pieces()])


async def begun(condition: Callable[[], object]) -> None:
    """Let others run until the condition holds."""
    async with asyncio.timeout(2):
        while not condition():  # noqa: ASYNC110 - the condition may be anything
            await asyncio.sleep(0)


def _caller(concurrent: int, policy: KeyPolicy) -> Caller:
    account = Account(id=ANN, email="ann@example.org", created_at=NOON)
    key = ApiKey(
        id=KeyId("key-1"),
        account_id=ANN,
        name="first",
        environment=Environment.LIVE,
        prefix="gw_live_",
        last4="abcd",
        digest="d",
        pepper_id="v1",
        policy=policy,
        created_at=NOON,
    )
    return Caller(
        account=account, key=key, limited_as=subjects(account, key, LimitSet(concurrent=concurrent, burst=250))
    )
