"""POST /v1/chat/completions: OpenAI's Chat Completions, whole and streamed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from litestar.types import Receive, Scope, Send
from msgspec.structs import replace

from application.inference.chat import CompleteChat, RunningStream
from application.inference.metering import Meter
from application.inference.once import NOT_KEPT, OncePerKey, Ticket
from application.keys import Authenticate
from domain.access import Caller
from domain.errors import DomainError, InvalidRequest, StorageUnavailable, Unavailable
from domain.ids import RequestId
from domain.inference.chat import ChatRequest
from domain.keys import Scope as KeyScope
from domain.limits import Headroom, RateLimitExceeded
from domain.money import Usd
from domain.ports.clock import Clock, IdSource
from domain.ports.repositories import StoredOutcome
from domain.usage import Outcome, Usage
from entrypoints.http.addresses import ClientAddresses
from entrypoints.http.app_names import app_name
from entrypoints.http.credentials import presented_secret
from entrypoints.http.errors import METHOD_NOT_ALLOWED, InternalError, error_headers, status_of
from entrypoints.http.exchange import AnswerKeeper, CallerGone, Exchange, Headers, Watch, encoded
from entrypoints.http.sessions import in_session
from entrypoints.http.streaming import EventStream, OpenStreams

IN_FLIGHT_MAX: Final = 2_500
"""Requests at once in one process; more are refused at once instead of making all of them slow."""
PASSED_LENGTH_MAX: Final = 4_096
"""Of a header that a vendor is sent too."""

log = structlog.get_logger(__name__)


class StreamTelling(Protocol):
    """What the gateway itself writes into one stream: its cost, and how it ends where the vendor does not say."""

    def passed(self, piece: bytes) -> None:
        """Note whole events on their way; dialects whose events count or nest need it for what they write later."""
        ...

    def with_cost(self, piece: bytes, cost: Usd) -> bytes: ...
    def is_end(self, piece: bytes) -> bool: ...
    def with_usage_before_end(self, piece: bytes, usage: Usage, cost: Usd) -> bytes | None: ...
    def error_event(self, body: bytes) -> bytes: ...
    def length_stop(self, usage: Usage) -> bytes:
        """The end of a stream that the caller's credit could not carry further."""
        ...


class ChatDialect(Protocol):
    """A language that callers speak on a chat route."""

    @property
    def KEEP_ALIVE(self) -> bytes: ...  # noqa: N802 - dialects are modules, and this is a constant of theirs
    @property
    def PASSED_HEADERS(self) -> tuple[bytes, ...]:  # noqa: N802
        """Headers of callers that a vendor of the same dialect is sent too."""
        ...

    def read_request(self, body: bytes) -> ChatRequest: ...
    def with_cost(self, answer: bytes, cost: Usd) -> bytes: ...
    def telling(self, request: ChatRequest, request_id: str, created_s: int) -> StreamTelling: ...


class Overloaded(Unavailable):
    code = "no_vendor_available"
    retry_after_s = 1


class StreamEnded(Unavailable):
    """The gateway ends a stream for reasons of its own."""

    code = "gateway_stopping"


@dataclass(slots=True)
class ChatRoute:
    """The handler of one dialect's chat route."""

    dialect: ChatDialect
    chat: CompleteChat
    authenticate: Authenticate
    once: OncePerKey
    streams: OpenStreams
    addresses: ClientAddresses
    clock: Clock
    ids: IdSource
    path: str
    error_body: Callable[[DomainError, str], bytes]
    """A refusal in this dialect, with its request's id."""
    answered: Callable[[str, int, Meter | None], None]
    """Counts an answer: the route, its status and its meter."""
    error_status: Callable[[DomainError], int] = status_of
    prepare: Callable[[Exchange, Caller, bytes], Awaitable[bytes]] | None = None
    """Makes of a body what it stands for, before it is read."""
    id_headers: tuple[bytes, ...] = (b"x-request-id",)
    """Which headers of an answer name its request."""
    in_flight: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, self.ids.fresh())
        self.in_flight += 1
        try:
            if self.in_flight > IN_FLIGHT_MAX:
                raise Overloaded("The gateway is busy. Try again in a moment.")
            await self._serve(exchange)
        except CallerGone:
            return
        except DomainError as error:
            await self._refuse(exchange, error)
        except Exception:
            log.exception("request failed", request_id=exchange.request_id, path=self.path)
            if not exchange.status:
                await self._refuse(exchange, InternalError())
        finally:
            self.in_flight -= 1

    async def _serve(self, exchange: Exchange) -> None:
        scope = exchange.scope
        caller = await self.authenticate(
            presented_secret(scope["headers"], scope["query_string"]),
            address=self.addresses(scope),
            referrer=exchange.header(b"referer") or exchange.header(b"origin"),
            scope=KeyScope.INFERENCE,
        )
        body = sent = await exchange.body()
        if self.prepare is not None:
            sent = await self.prepare(exchange, caller, body)
        request = in_session(self.dialect.read_request(sent), exchange)
        if app := app_name(exchange.headers):
            request = replace(request, app=app)
        if passed := passed_headers(scope["headers"], self.dialect.PASSED_HEADERS):
            request = replace(request, headers=passed)
        if exchange.keeper is not None and exchange.keeper.in_background:
            await self._in_background(exchange, caller, request, body)
            return
        key = exchange.header(b"idempotency-key")
        with Watch(exchange, self.streams.watched, listens=key is None) as watch:
            try:
                if key is not None:
                    await self._once(exchange, caller, request, body, key)
                elif request.streamed:
                    await self._stream(exchange, caller, request, watch)
                else:
                    await self._whole(exchange, caller, request, None)
            except asyncio.CancelledError:
                if not watch.absorb():
                    raise
                if watch.reason is not None:
                    raise _stopping() from None

    async def _in_background(self, exchange: Exchange, caller: Caller, request: ChatRequest, body: bytes) -> None:
        """Answer at once that it is taken in; the caller asks for the answer later, by its id."""
        ticket: Ticket | None = None
        if (key := exchange.header(b"idempotency-key")) is not None:
            claim = await self.once.claim(caller.account_id, key, self.path, body)
            if isinstance(claim, StoredOutcome):
                await _replay(exchange, claim)
                return
            ticket = claim
        try:
            meter = await self.chat.admitted(caller, request, RequestId(exchange.request_id))
            begun = await self._begun(exchange, meter)
        except (DomainError, asyncio.CancelledError):
            if ticket is not None:
                await self._give_back(ticket)
            raise
        headers = self._headers(exchange, meter)
        if ticket is not None:
            await self._keep(ticket, 200, [*headers, (b"content-type", b"application/json")], begun)
        self.answered(self.path, 200, None)
        await exchange.answer(200, headers, begun)

    async def _begun(self, exchange: Exchange, meter: Meter) -> bytes:
        """What the caller is told of an admitted request that runs on in the background."""
        chat, keeper = self.chat, exchange.keeper
        assert keeper is not None, "what runs in the background is kept"
        try:
            begun = await keeper.begin(exchange.request_id, int(self.clock.now().timestamp()))
        except BaseException:
            chat.give_up(meter)
            raise
        running = chat.detached.spawn(keeper.run(begun, chat, meter, self.dialect.with_cost))
        # Cancelled before its first step, it could not end its hold itself.
        running.add_done_callback(lambda done: chat.give_up(meter) if done.cancelled() else None)
        return begun

    async def _once(self, exchange: Exchange, caller: Caller, request: ChatRequest, body: bytes, key: str) -> None:
        claim = await self.once.claim(caller.account_id, key, self.path, body)
        if isinstance(claim, StoredOutcome):
            await _replay(exchange, claim)
        else:
            # What was promised to happen once is finished, whether or not its caller still waits.
            work = self._finished_once(exchange, caller, request, claim)
            await asyncio.shield(self.chat.detached.spawn(work))

    async def _finished_once(self, exchange: Exchange, caller: Caller, request: ChatRequest, ticket: Ticket) -> None:
        try:
            if request.streamed:
                with Watch(exchange, self.streams.watched, leaving_cancels=False) as watch:
                    stream, running = await self._stream(exchange, caller, request, watch, keeps=True)
                await self._keep_stream(ticket, stream, running)
            else:
                await self._whole(exchange, caller, request, ticket)
        except (DomainError, asyncio.CancelledError):
            if not exchange.charged:
                await self._give_back(ticket)
            raise

    async def _whole(self, exchange: Exchange, caller: Caller, request: ChatRequest, ticket: Ticket | None) -> None:
        done = await self.chat.whole(caller, request, RequestId(exchange.request_id))
        meter = done.meter
        exchange.charged = bool(done.cost)
        headers = self._headers(exchange, meter)
        headers += (
            (b"x-gatewayz-cost-usd", str(done.cost).encode()),
            (b"x-gatewayz-balance-usd", str(meter.balance).encode()),
        )
        if saved := meter.cache_saved:
            headers.append((b"x-gatewayz-cache-saved-usd", str(saved).encode()))
        headers += encoded(done.answer.headers.items())
        body = self.dialect.with_cost(done.answer.body, done.cost)
        if exchange.keeper is not None:
            body = await exchange.keeper.whole(body)
        kind = done.answer.content_type.encode("latin-1", "replace")
        if ticket is not None:
            await self._keep(ticket, 200, [*headers, (b"content-type", kind)], body)
        self.answered(self.path, 200, meter)
        await exchange.answer(200, headers, body, kind)

    async def _stream(
        self, exchange: Exchange, caller: Caller, request: ChatRequest, watch: Watch, *, keeps: bool = False
    ) -> tuple[EventStream, RunningStream]:
        stream = EventStream(exchange, watch, self.dialect.KEEP_ALIVE, keeps=keeps)
        telling = self.dialect.telling(request, exchange.request_id, int(self.clock.now().timestamp()))
        stream.headers = self._ids(exchange)
        self.streams.add(stream)
        try:
            running = await self.chat.stream(caller, request, RequestId(exchange.request_id))
            try:
                stream.headers = self._headers(exchange, running.meter) + encoded(running.headers.items())
                await self._pass_on(running, stream, request, telling, exchange.keeper)
            except asyncio.CancelledError:
                if not watch.absorb():
                    raise
                running.close(Outcome.CUT_OFF if watch.reason else Outcome.ABORTED)
                if watch.reason == "shutdown":
                    await self._tell_midway(stream, _stopping(), exchange, telling)
            except DomainError as error:
                await self._tell_midway(stream, error, exchange, telling)
            finally:
                running.close(Outcome.ABORTED)
                exchange.charged = running.meter.record is not None and bool(running.meter.record.cost)
        except (DomainError, asyncio.CancelledError) as error:
            # A keep-alive has sent the status before anything had begun: only an event can tell the failure now.
            if not stream.started or (isinstance(error, asyncio.CancelledError) and not watch.absorb()):
                raise
            told = error if isinstance(error, DomainError) else _stopping()
            await self._tell_midway(stream, told, exchange, telling)
            raise
        finally:
            self.streams.remove(stream)
        self.answered(self.path, 200, running.meter)
        return stream, running

    async def _pass_on(
        self,
        running: RunningStream,
        stream: EventStream,
        request: ChatRequest,
        telling: StreamTelling,
        keeper: AnswerKeeper | None,
    ) -> None:
        costed, passed = not request.wants_usage, telling.passed
        async for piece in running.pieces():
            if not costed:
                piece, costed = _costed(piece, running, telling)
            if keeper is not None:
                piece = await keeper.piece(piece)
            passed(piece)
            await stream.write(piece)
        if running.cut_short:
            await stream.write(_length_stop(running, request, telling))
        await stream.finish()

    async def _tell_midway(
        self, stream: EventStream, error: DomainError, exchange: Exchange, telling: StreamTelling
    ) -> None:
        """After the first byte the status has gone; the failure comes as the dialect's own event."""
        await stream.write(telling.error_event(self.error_body(error, exchange.request_id)))
        await stream.finish()

    async def _refuse(self, exchange: Exchange, error: DomainError) -> None:
        status = self.error_status(error)
        headers: Headers = [*self._ids(exchange), *error_headers(error)]
        if isinstance(error, RateLimitExceeded):
            headers += _limit_headers(error.requests, error.tokens)
        if not exchange.status:
            self.answered(self.path, status, None)
        if status == METHOD_NOT_ALLOWED:
            headers.append((b"allow", b"POST"))
        await exchange.answer(status, headers, self.error_body(error, exchange.request_id))

    def _headers(self, exchange: Exchange, meter: Meter) -> Headers:
        offer = meter.offer
        headers: Headers = [
            *self._ids(exchange),
            *_limit_headers(meter.admitted.requests, meter.admitted.tokens),
        ]
        if offer is not None:
            headers += encoded((("x-gatewayz-vendor", offer.vendor), ("x-gatewayz-model", offer.model)))
        if meter.output_limit is not None:
            headers.append((b"x-gatewayz-max-tokens", b"%d" % meter.output_limit))
        return headers

    def _ids(self, exchange: Exchange) -> Headers:
        request_id = exchange.request_id.encode()
        return [(name, request_id) for name in self.id_headers]

    async def _keep(self, ticket: Ticket, status: int, headers: Headers, body: bytes) -> None:
        kept = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
        try:
            await self.once.keep_outcome(ticket, StoredOutcome(status=status, headers=kept, body=body))
        except StorageUnavailable as error:
            # The answer is paid for and goes out; a repeated key waits until the claim's lease has run out.
            log.warning("outcome not kept", request_id="", error=str(error))

    async def _keep_stream(self, ticket: Ticket, stream: EventStream, running: RunningStream) -> None:
        record = running.meter.record
        if record is None or not (record.cost or record.outcome is Outcome.COMPLETED):
            await self._give_back(ticket)
            return
        headers = [*stream.headers, (b"content-type", b"text/event-stream; charset=utf-8")]
        kept = stream.kept()
        await self._keep(ticket, NOT_KEPT if kept is None else 200, headers, kept or b"")

    async def _give_back(self, ticket: Ticket) -> None:
        try:
            await asyncio.shield(self.chat.detached.spawn(self.once.give_back(ticket)))
        except StorageUnavailable:
            log.warning("claim not given back; it ends with its lease")


def _length_stop(running: RunningStream, request: ChatRequest, telling: StreamTelling) -> bytes:
    """The end of a stream that credit could not carry further, with what it cost where that was asked for."""
    record = running.meter.record
    end = telling.length_stop(running.produced() if record is None else record.usage)
    if not request.wants_usage or record is None:
        return end
    return telling.with_usage_before_end(end, record.usage, record.cost) or telling.with_cost(end, record.cost)


def _costed(piece: bytes, running: RunningStream, telling: StreamTelling) -> tuple[bytes, bool]:
    """The piece with the cost in its usage frame, or with a frame of our own where the vendor sent none."""
    if running.cost is not None:
        told = telling.with_cost(piece, running.cost)
        # A translated stream may know its usage some events before it writes it.
        return told, told is not piece
    if not telling.is_end(piece):
        return piece, False
    usage = running.produced()
    ended = telling.with_usage_before_end(piece, usage, running.meter.cost(usage))
    return (piece, False) if ended is None else (ended, True)


def passed_headers(headers: Iterable[tuple[bytes, bytes]], names: tuple[bytes, ...]) -> dict[str, str]:
    """The headers of these names that a caller sent, several of one name joined as a list.  Raises InvalidRequest."""
    found: dict[str, str] = {}
    if not names:
        return found
    for name, value in headers:
        if name not in names or not (text := value.strip().decode("latin-1")):
            continue
        if not text.isascii() or not text.isprintable() or len(text) > PASSED_LENGTH_MAX:
            raise InvalidRequest(f"The header {name.decode()} cannot be read.", param=name.decode())
        known = found.get(name.decode())
        found[name.decode()] = text = text if known is None else f"{known},{text}"
        if len(text) > PASSED_LENGTH_MAX:
            raise InvalidRequest(f"The header {name.decode()} is too long.", param=name.decode())
    return found


def _stopping() -> StreamEnded:
    return StreamEnded("The gateway is restarting. Send the request again.")


async def _replay(exchange: Exchange, outcome: StoredOutcome) -> None:
    """The outcome of the first request with this key, as it was."""
    headers = [*encoded(outcome.headers), (b"x-gatewayz-replayed", b"true")]
    kinds = [value for name, value in headers if name == b"content-type"]
    exchange.status = outcome.status
    if not kinds:
        headers.append((b"content-type", b"application/json"))
    headers.append((b"content-length", str(len(outcome.body)).encode()))
    await exchange.send({"type": "http.response.start", "status": outcome.status, "headers": headers})
    await exchange.send({"type": "http.response.body", "body": outcome.body, "more_body": False})


def _limit_headers(requests: Headroom, tokens: Headroom) -> Headers:
    return [
        (b"x-ratelimit-limit-requests", b"%d" % requests.limit),
        (b"x-ratelimit-remaining-requests", b"%d" % requests.remaining),
        (b"x-ratelimit-reset-requests", _duration(requests.reset_s)),
        (b"x-ratelimit-limit-tokens", b"%d" % tokens.limit),
        (b"x-ratelimit-remaining-tokens", b"%d" % tokens.remaining),
        (b"x-ratelimit-reset-tokens", _duration(tokens.reset_s)),
    ]


def _duration(seconds: float) -> bytes:
    """As OpenAI writes it: 20ms, 1s, 6m0s, 1h2m3s."""
    if seconds < 1:
        return b"%dms" % int(seconds * 1000)
    minutes, rest = divmod(int(seconds), 60)
    if not minutes:
        return b"%ds" % rest
    hours, minutes = divmod(minutes, 60)
    return b"%dh%dm%ds" % (hours, minutes, rest) if hours else b"%dm%ds" % (minutes, rest)
