"""One endpoint of a vendor for one task: the request passes through, the answer passes back, its usage is read.

It is the port `ChatVendor` for requests of that task's dialect, so that everything around it (holds, failover, limits,
settlement, health) is the same as for a chat.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from msgspec.structs import asdict, replace

from adapters.dialects.openai_chat.errors import read_fault
from adapters.dialects.openai_tasks.image_words import ImageWords
from adapters.dialects.openai_tasks.task import Task, decoded, dropped_fields, holds_any, write_body
from adapters.dialects.translation import DROPPED_HEADER
from adapters.transport.http import ERROR_BYTES_MAX, Answer, VendorHttp
from adapters.transport.sse import EventSplitter, EventTooLarge, events
from domain.catalog import Dialect
from domain.ids import VendorSlug
from domain.inference.chat import ChatCall, ChatRequest
from domain.inference.faults import FaultKind, VendorFault
from domain.money import Usd
from domain.ports.vendors import ChatAnswer, ChatStream
from domain.usage import Usage

_JSON = "application/json"
_EVENTS = "text/event-stream"


class Credentials(Protocol):
    """Headers that open a vendor's door."""

    def __call__(self) -> Mapping[str, str]: ...


class TaskEndpoint:
    def __init__(
        self,
        slug: VendorSlug,
        task: Task,
        base_url: str,
        credentials: Credentials,
        http: VendorHttp,
        *,
        path: str | None = None,
        dropped: frozenset[str] = frozenset(),
        words: ImageWords | None = None,
    ) -> None:
        self.slug = slug
        self._task = task
        self._url = base_url.rstrip("/") + (path or task.path)
        self._credentials = credentials
        self._http = http
        self._dropped = dropped
        self._words = words

    async def complete(self, call: ChatCall) -> ChatAnswer:
        answer, shown = await self._posted(call)
        try:
            body = await answer.read()
        except VendorFault as fault:
            raise self._redacted(fault) from None
        finally:
            answer.close()
        request, kind = call.request, answer.headers.get("Content-Type", _JSON)
        by_bytes = self._task.used_by_bytes
        if by_bytes is None or kind.startswith(_JSON):
            self._refuse_errors(body)
            self._refuse_nothing(body)
            usage = self._task.used(body, request)
        else:
            if kind.startswith("text/html") or not body:
                raise VendorFault(FaultKind.MALFORMED, "its answer is a web page" if body else "its answer is empty")
            usage = by_bytes(body, kind, request)
        return ChatAnswer(
            dialect=self._task.dialect,
            body=body,
            usage=usage,
            # Where nothing tells what was used, the most that it could use is charged: 1 stands for "something".
            produced_tokens=1,
            finish_reason="stop",
            headers=shown,
            content_type=kind,
        )

    async def stream(self, call: ChatCall) -> ChatStream:
        answer, shown = await self._posted(call)
        if not answer.headers.get("Content-Type", "").startswith(_EVENTS):
            try:
                body = await answer.read(ERROR_BYTES_MAX)
            finally:
                answer.close()
            self._refuse_errors(body)
            raise VendorFault(FaultKind.MALFORMED, "it did not answer with a stream")
        return TaskStream(answer, self._task, call.request, shown)

    async def _posted(self, call: ChatCall) -> tuple[Answer, Mapping[str, str]]:
        """The answer, and what its caller is told of what the vendor was not."""
        body, content_type = write_body(call.request, call.vendor_model, self._dropped)
        dropped = dropped_fields(call.request, self._dropped)
        if self._words is not None and content_type == _JSON:
            body, more = self._words.written(body)
            dropped += more
        shown = {DROPPED_HEADER: ", ".join(dropped)} if dropped else {}
        headers = {**self._credentials(), "Content-Type": content_type}
        answer = await self._http.post(self._url, headers, body, call.first_byte_s)
        if answer.status == 200:
            return answer, shown
        try:
            refusal = await answer.read(ERROR_BYTES_MAX)
        except VendorFault:
            refusal = b""
        finally:
            answer.close()
        raise self._redacted(read_fault(answer.status, answer.headers, refusal))

    def _refuse_errors(self, body: bytes) -> None:
        """An error that came with status 200."""
        told = decoded(body)
        if not told:
            raise VendorFault(FaultKind.MALFORMED, "its answer is not JSON that can be read")
        if told.get("error"):
            raise self._redacted(read_fault(None, {}, body))

    def _refuse_nothing(self, body: bytes) -> None:
        """An answer without what was asked for, which nobody may be charged for."""
        names = self._task.answer_members
        if not names or holds_any(decoded(body), names):
            return
        fault = read_fault(None, {}, body)
        raise self._redacted(
            fault if fault.message else VendorFault(FaultKind.MALFORMED, "its answer has nothing that was asked for")
        )

    def _redacted(self, fault: VendorFault) -> VendorFault:
        fault.message = self._http.redacted(fault.message)
        return fault


class TaskStream:
    """The port `ChatStream`: a vendor's events, passed on as they came."""

    def __init__(self, answer: Answer, task: Task, request: ChatRequest, headers: Mapping[str, str]) -> None:
        self.dialect: Dialect = task.dialect
        self.started = False
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.vendor_cost: Usd | None = None
        self.headers = headers
        self._answer = answer
        self._task = task
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        splitter = EventSplitter()
        try:
            async for chunk in self._answer.chunks():
                if whole := splitter.feed(chunk):
                    self._note(whole)
                    yield whole
            if rest := splitter.end().strip():
                self._note(rest + b"\n\n")
                yield rest + b"\n\n"
        except EventTooLarge as error:
            raise VendorFault(FaultKind.MALFORMED, str(error)) from None
        finally:
            self.close()
        if self.finish_reason is None:
            raise VendorFault(FaultKind.BROKEN_OFF, "it closed the stream before its answer was finished")

    def produced_tokens(self) -> int:
        """Where nothing tells what was used, the most that it could use is charged: 1 stands for "something"."""
        return int(self.started)

    def produced_at_most(self) -> int:
        return 0

    def close(self) -> None:
        self._answer.close()

    def _note(self, whole: bytes) -> None:
        for event in events(whole):
            data = event.data
            if data.startswith(b"[DONE]"):
                self.finish_reason = self.finish_reason or "stop"
                continue
            told = decoded(data)
            kind = str(told.get("type", event.name))
            if told.get("error") or kind == "error":
                raise read_fault(None, {}, data)
            self.started = True
            usage = self._task.used(data, self._request) if b'"usage"' in data else None
            if usage is not None:
                both = self._task.frames_add_up and self.usage is not None
                self.usage = _sum(self.usage, usage) if both and self.usage is not None else usage
            if kind.endswith((".done", ".completed")):
                self.finish_reason = "stop"


def _sum(left: Usage, right: Usage) -> Usage:
    """Two answers of one request."""
    counts = {
        name: count + other
        for name, count in asdict(left).items()
        if isinstance(count, int) and isinstance(other := getattr(right, name), int)
    }
    return replace(left, **{**counts, "requests": 1})
