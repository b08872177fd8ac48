"""One request and its answer on raw ASGI: inference routes pass bytes on, and nothing between may buffer them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from litestar.types import Receive, Scope, Send

from application.inference.chat import CompleteChat
from application.inference.metering import Meter
from domain.errors import InvalidRequest, TooLarge
from domain.money import Usd
from entrypoints.http.errors import MethodNotAllowed

BODY_BYTES_MAX: Final = 32 * 1024 * 1024
BODY_SILENCE_S: Final = 30.0
"""A body that stands still for longer is given up; a front proxy does this too, and better."""
WATCH_AFTER_S: Final = 0.03
"""Shorter requests end before anybody could tell that their caller left, and need no watching."""

Headers = list[tuple[bytes, bytes]]


class CallerGone(Exception):
    """The caller closed the connection."""


class UnsupportedEncoding(InvalidRequest):
    code = "invalid_request"
    param = "content-encoding"


class AnswerKeeper(Protocol):
    in_background: bool

    async def whole(self, answer: bytes) -> bytes:
        """A whole answer as its caller sees it."""
        ...

    async def piece(self, piece: bytes) -> bytes:
        """Whole events of a stream as its caller sees them."""
        ...

    async def begin(self, request_id: str, created_s: int) -> bytes: ...

    async def run(
        self,
        begun: bytes,
        chat: CompleteChat,
        meter: Meter,
        with_cost: Callable[[bytes, Usd], bytes],
    ) -> None: ...


class Exchange:
    """Reads the body once, watches for the caller's leaving, and writes one answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        self.scope = scope
        self.method = str(scope.get("method"))
        self.request_id = request_id
        self.send = send
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.status = 0
        self.answered_bytes = 0
        self.charged = False
        """Something was paid for it, so that it must not run again under its Idempotency-Key."""
        self.keeper: AnswerKeeper | None = None
        """Where the answer is kept for its caller to ask for again."""
        self._receive = receive

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def body(self) -> bytes:
        """The whole body.  Raises TooLarge, InvalidRequest, CallerGone."""
        if self.method != "POST":
            raise MethodNotAllowed(f"{self.method} is not allowed here; use POST.")
        encoding = self.headers.get(b"content-encoding", b"identity")
        if encoding.strip().lower() not in (b"", b"identity"):
            raise UnsupportedEncoding("A compressed request body is not accepted; send it plain.")
        length = self.headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > BODY_BYTES_MAX:
            raise _too_large()
        message = await self._part()
        body: bytes = message.get("body", b"")
        if not message.get("more_body"):
            return body
        parts, size = [body], len(body)
        while message.get("more_body"):
            message = await self._part()
            part: bytes = message.get("body", b"")
            parts.append(part)
            size += len(part)
            if size > BODY_BYTES_MAX:
                raise _too_large()
        return b"".join(parts)

    async def _part(self) -> dict[str, Any]:
        # A bare timer, because the body has nearly always come with its head and a time-out costs more than reading it.
        task, stood_still = asyncio.current_task(), False

        def give_up() -> None:
            nonlocal stood_still
            stood_still = True
            if task is not None:
                task.cancel()

        timer = asyncio.get_running_loop().call_later(BODY_SILENCE_S, give_up)
        try:
            message: Any = await self._receive()
        except asyncio.CancelledError:
            if not stood_still or task is None:
                raise
            task.uncancel()
            raise InvalidRequest(f"The body of this request stood still for {BODY_SILENCE_S:g} s.") from None
        finally:
            timer.cancel()
        if message["type"] == "http.disconnect":
            raise CallerGone
        return message  # type: ignore[no-any-return]

    async def answer(
        self, status: int, headers: Headers, body: bytes, content_type: bytes = b"application/json"
    ) -> None:
        """A whole answer; nothing where one has gone out already."""
        if self.status:
            return
        self.status = status
        self.answered_bytes = len(body)
        headers += ((b"content-type", content_type), (b"content-length", str(len(body)).encode()))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    async def left(self) -> None:
        """Returns when the caller has closed the connection."""
        while True:
            message: Any = await self._receive()
            if message["type"] == "http.disconnect":
                return


class Watch:
    """Cancels the current task when its caller leaves, or when the gateway ends the request.

    Used as a context.  Watching begins a moment late, so that the many short requests pay for no second task.  Where a
    request was promised to happen once, its caller's leaving is only noted: `leaving_cancels` is false.
    """

    __slots__ = (
        "_exchange",
        "_leaving_cancels",
        "_listens",
        "_registry",
        "_task",
        "_timer",
        "_watcher",
        "gone",
        "reason",
    )

    def __init__(
        self, exchange: Exchange, registry: set[Watch], *, listens: bool = True, leaving_cancels: bool = True
    ) -> None:
        self._exchange = exchange
        self._registry = registry
        self._listens = listens
        self._leaving_cancels = leaving_cancels
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.gone = False
        self.reason: str | None = None
        """Why the gateway itself ended the request: "shutdown" or "stalled"."""

    def __enter__(self) -> Watch:
        self._task = asyncio.current_task()
        self._registry.add(self)
        if self._listens:
            self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._begin)
        return self

    def __exit__(self, *_: object) -> None:
        self._task = None
        self._registry.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        # The server tells the watcher of the answer's end as of the caller's leaving, so that it ends by itself.  A
        # task that is cancelled keeps its traceback, which keeps us: only the garbage collector would find that circle.
        self._timer = self._watcher = None

    def end(self, reason: str) -> None:
        """Cancel the watched request for a reason of our own."""
        if self._task is not None and self.reason is None and not (self.gone and self._leaving_cancels):
            self.reason = reason
            self._task.cancel()

    def absorb(self) -> bool:
        """Whether the cancellation just caught was ours; if so the task goes on as if it had not been cancelled."""
        if not (self.gone and self._leaving_cancels) and self.reason is None:
            return False
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        return True

    def _begin(self) -> None:
        if self._task is not None:
            self._watcher = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        await self._exchange.left()
        if self._task is not None and self.reason is None:
            self.gone = True
            if self._leaving_cancels:
                self._task.cancel()


def encoded(headers: Iterable[tuple[str, str]]) -> Headers:
    """Header pairs for ASGI; a value that could break out of its line is left out."""
    return [
        (name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers if value.isprintable()
    ]


def _too_large() -> TooLarge:
    return TooLarge(f"The body of this request is larger than {BODY_BYTES_MAX // 2**20} MiB.")
