"""/v1/responses beside answering: responses that are kept, continued, run in the background, shown and deleted."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from litestar import Controller, Response, delete, get, post
from litestar.connection import Request
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from litestar.response import Stream
from litestar.status_codes import HTTP_200_OK

from application.inference.chat import CompleteChat
from application.inference.metering import Meter
from application.responses import KeepResponses, NotCancellable
from domain.access import Caller
from domain.errors import DomainError, InvalidRequest, StorageUnavailable
from domain.keys import Scope
from domain.money import Usd
from domain.ports.responses import ResponseStatus
from entrypoints.http.exchange import Exchange
from entrypoints.http.guards import Needs

CANCEL_SEEN_S: Final = 1.0
"""How soon a background response notices that it was cancelled, from whatever process."""
EVENTS: Final = "text/event-stream"
PAGE_MAX: Final = 100

_ID = re.compile(r"[!-~]{1,200}")

log = structlog.get_logger(__name__)


class Wishes(Protocol):
    @property
    def keep(self) -> bool: ...
    @property
    def background(self) -> bool: ...
    @property
    def previous(self) -> str | None: ...


class StoredDialect(Protocol):
    """What the Responses dialect knows of being kept."""

    def wishes(self, body: bytes) -> Wishes: ...
    def continued(self, body: bytes, items: bytes | None, answer: bytes | None, *, keeps: bool) -> bytes: ...
    def items_of(self, body: bytes) -> bytes: ...
    def answer_in(self, piece: bytes) -> bytes | None: ...
    def shown(self, answer: bytes, previous: str | None, *, background: bool) -> bytes: ...
    def stream_shown(self, piece: bytes, previous: str | None) -> bytes: ...
    def id_and_status(self, answer: bytes) -> tuple[str, str]: ...
    def begun(self, body: bytes, request_id: str, created_s: int) -> bytes: ...
    def named(self, answer: bytes, response_id: str) -> bytes: ...
    def ended_badly(self, answer: bytes, status: str, code: str, message: str) -> bytes: ...
    def as_stream(self, answer: bytes, request: bytes, after: int) -> bytes: ...
    def input_page(
        self, items: bytes, response_id: str, *, limit: int, after: str | None, newest_first: bool
    ) -> Mapping[str, Any]: ...
    def counted(self, body: bytes) -> int: ...


@dataclass(frozen=True, slots=True)
class PrepareResponse:
    """What a Responses request passes before it is read: what it continues is put before it."""

    keep: KeepResponses
    stored: StoredDialect

    async def __call__(self, exchange: Exchange, caller: Caller, body: bytes) -> bytes:
        """The request as it goes on; the exchange gets its keeper.

        Raises InvalidRequest, UnsupportedParameter, PreviousNotFound, StorageUnavailable.
        """
        wishes = self.stored.wishes(body)
        keeps = wishes.keep and self.keep.keeps
        if wishes.background and not keeps:
            raise InvalidRequest("This gateway keeps no responses, so that none can run in the background.")
        items = answer = None
        if wishes.previous is not None:
            previous = await self.keep.previous(caller.account_id, wishes.previous)
            items, answer = previous.items, previous.answer
        if not keeps and items is None:
            return body
        sent = self.stored.continued(body, items, answer, keeps=keeps)
        if keeps:
            exchange.keeper = ResponseKeeper(self, caller, sent, wishes)
        return sent


class ResponseKeeper:
    """Keeps the answer of one request; a failure to keep it does not take the answer from its caller."""

    def __init__(self, prepared: PrepareResponse, caller: Caller, sent: bytes, wishes: Wishes) -> None:
        self.in_background = wishes.background
        self._keep = prepared.keep
        self._stored = prepared.stored
        self._caller = caller
        self._sent = sent
        self._previous = wishes.previous

    async def whole(self, answer: bytes) -> bytes:
        """The answer as its caller sees it, kept."""
        shown = self._stored.shown(answer, self._previous, background=self.in_background)
        await self._put_answer(shown)
        return shown

    async def piece(self, piece: bytes) -> bytes:
        """A stream's events as its caller sees them; the last one is kept before it goes out."""
        shown = self._stored.stream_shown(piece, self._previous)
        answer = self._stored.answer_in(shown) if b"output" in shown and b'"status"' in shown else None
        if answer is not None:
            await self._put_answer(answer)
        return shown

    async def begin(self, request_id: str, created_s: int) -> bytes:
        """The answer of a request that runs on without its caller.  Raises StorageUnavailable."""
        begun = self._stored.shown(
            self._stored.begun(self._sent, request_id, created_s), self._previous, background=True
        )
        response_id, _ = self._stored.id_and_status(begun)
        items = self._stored.items_of(self._sent)
        await self._keep.put(self._caller.account_id, response_id, ResponseStatus.QUEUED, items, begun)
        return begun

    async def run(
        self,
        begun: bytes,
        chat: CompleteChat,
        meter: Meter,
        with_cost: Callable[[bytes, Usd], bytes],
    ) -> None:
        """Answer in the background, until done, cancelled by its caller, or stopped with the process."""
        response_id, _ = self._stored.id_and_status(begun)
        work = asyncio.ensure_future(chat.answered(meter))
        try:
            while not (await asyncio.wait((work,), timeout=CANCEL_SEEN_S))[0]:
                if await self._cancelled(response_id):
                    work.cancel()
            done = work.result()
        except asyncio.CancelledError:
            work.cancel()
            status = "cancelled" if await self._cancelled(response_id) else "failed"
            told = self._stored.ended_badly(begun, status, "server_error", "The gateway restarted. Send it again.")
        except DomainError as error:
            told = self._stored.ended_badly(begun, "failed", error.code, error.message)
        except Exception:
            # Nobody else would end what its caller asks for again and again.
            log.exception("background response failed", response_id=response_id)
            told = self._stored.ended_badly(begun, "failed", "server_error", "The gateway failed. Send it again.")
        else:
            told = self._stored.shown(with_cost(done.answer.body, done.cost), self._previous, background=True)
            told = self._stored.named(told, response_id)
        await self._put(response_id, self._stored.id_and_status(told)[1], told)

    async def _cancelled(self, response_id: str) -> bool:
        try:
            return await self._keep.is_cancelled(self._caller.account_id, response_id)
        except StorageUnavailable:
            return False

    async def _put_answer(self, answer: bytes) -> None:
        """A vendor's answer, unless it cannot be kept under the id that its vendor gave it."""
        try:
            response_id, status = self._stored.id_and_status(answer)
        except InvalidRequest:
            response_id = status = ""
        if _ID.fullmatch(response_id):
            await self._put(response_id, status, answer)
        else:
            log.warning("response not kept", error="its vendor's id is none that can be asked for")

    async def _put(self, response_id: str, status: str, answer: bytes) -> None:
        try:
            known = ResponseStatus(status)
        except ValueError:
            known = ResponseStatus.COMPLETED
        items = self._stored.items_of(self._sent)
        try:
            await self._keep.put(self._caller.account_id, response_id, known, items, answer)
        except StorageUnavailable as error:
            log.warning("response not kept", response_id=response_id, error=str(error))


class ResponseController(Controller):
    path = "/v1/responses"
    tags = ("Inference",)

    @get("/{response_id:str}", guards=[Needs(Scope.INFERENCE)])
    async def show(
        self,
        response_id: FromPath[str],
        caller: NamedDependency[Caller],
        keep_responses: NamedDependency[KeepResponses],
        prepare_response: NamedDependency[PrepareResponse],
        stream: FromQuery[bool] = False,
        starting_after: FromQuery[int] = -1,
    ) -> Response[bytes] | Stream:
        """A response that was kept, as JSON or as the events of its stream."""
        kept = await keep_responses.show(caller.account_id, response_id)
        if keep_responses.is_lost(kept):
            told = "The gateway stopped while it was being written. Send the request again."
            lost = prepare_response.stored.ended_badly(kept.answer, "failed", "server_error", told)
            await keep_responses.put(caller.account_id, response_id, ResponseStatus.FAILED, kept.items, lost)
            kept = await keep_responses.show(caller.account_id, response_id)
        if not stream:
            return Response(kept.answer, media_type="application/json")
        if kept.status.is_running:
            raise InvalidRequest("A response that is still running cannot be streamed; ask again.", param="stream")
        request = b'{"model":"-","input":%b}' % kept.items
        return Stream(
            iter([prepare_response.stored.as_stream(kept.answer, request, starting_after)]), media_type=EVENTS
        )

    @delete("/{response_id:str}", guards=[Needs(Scope.INFERENCE)], status_code=HTTP_200_OK)
    async def forget(
        self,
        response_id: FromPath[str],
        caller: NamedDependency[Caller],
        keep_responses: NamedDependency[KeepResponses],
    ) -> dict[str, Any]:
        """Delete a response that was kept."""
        await keep_responses.delete(caller.account_id, response_id)
        return {"id": response_id, "object": "response.deleted", "deleted": True}

    @get("/{response_id:str}/input_items", guards=[Needs(Scope.INFERENCE)])
    async def input_items(
        self,
        response_id: FromPath[str],
        caller: NamedDependency[Caller],
        keep_responses: NamedDependency[KeepResponses],
        prepare_response: NamedDependency[PrepareResponse],
        limit: FromQuery[int] = 20,
        order: FromQuery[str] = "desc",
        after: FromQuery[str | None] = None,
    ) -> dict[str, Any]:
        """What a kept response was asked, earlier answers of its conversation included."""
        if not 1 <= limit <= PAGE_MAX:
            raise InvalidRequest(f"'limit' must be from 1 to {PAGE_MAX}.", param="limit")
        if order not in ("asc", "desc"):
            raise InvalidRequest("'order' must be asc or desc.", param="order")
        kept = await keep_responses.show(caller.account_id, response_id)
        newest_first = order == "desc"
        return dict(
            prepare_response.stored.input_page(
                kept.items, response_id, limit=limit, after=after, newest_first=newest_first
            )
        )

    @post("/{response_id:str}/cancel", guards=[Needs(Scope.INFERENCE)], status_code=HTTP_200_OK)
    async def cancel(
        self,
        response_id: FromPath[str],
        caller: NamedDependency[Caller],
        keep_responses: NamedDependency[KeepResponses],
        prepare_response: NamedDependency[PrepareResponse],
    ) -> Response[bytes]:
        """Stop a response that runs in the background; what its vendor has produced may be charged."""
        kept = await keep_responses.show(caller.account_id, response_id)
        if kept.status is ResponseStatus.CANCELLED:
            return Response(kept.answer, media_type="application/json")
        if not kept.status.is_running:
            raise NotCancellable(
                f"The response is {kept.status}; only one that runs in the background can be cancelled."
            )
        told = prepare_response.stored.ended_badly(kept.answer, "cancelled", "", "")
        await keep_responses.put(caller.account_id, response_id, ResponseStatus.CANCELLED, kept.items, told)
        return Response(told, media_type="application/json")

    @post("/input_tokens", guards=[Needs(Scope.INFERENCE)], status_code=HTTP_200_OK)
    async def input_tokens(
        self, request: Request[Any, Any, State], prepare_response: NamedDependency[PrepareResponse]
    ) -> dict[str, Any]:
        """About how many tokens a request's input has; free."""
        tokens = prepare_response.stored.counted(await request.body())
        return {"object": "response.input_tokens", "input_tokens": tokens, "estimated": True}
