"""OpenAI's Responses as vendors speak it to us: writing requests, passing answers on.

A stream is passed on event by event; only the events that tell something (a failure, the end with its usage) are
parsed, all others are recognised by their names.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

import msgspec

from adapters.dialects.gateway_fields import GATEWAY_FIELDS
from adapters.dialects.json_members import Members, edit, members
from adapters.dialects.openai_chat.errors import read_fault
from adapters.dialects.openai_responses.wire import EVENT, RESPONSE, UNREADABLE, EventHead, Response, used_by
from adapters.transport.sse import EventSplitter, EventTooLarge, events
from domain.catalog import Dialect
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.inference.tokens import estimated_tokens
from domain.money import Usd
from domain.ports.vendors import ChatAnswer
from domain.usage import Usage

BYTES_PER_TOKEN_LEAST: Final = 2
UNCOUNTED_MAX: Final = 256 * 1024

_BLOCK = re.compile(rb".+?(?:\r\n\r\n|\n\n|\r\r|\Z)", re.DOTALL)

_ENDINGS: Final = ("response.completed", "response.incomplete")
_FRAME_BYTES: Final = 150
"""About what a piece of text takes in its event beside itself."""
_TELLING: Final = (b"response.completed", b"response.incomplete", b"response.failed", b'"error"', b"response.cancelled")
_CONTENT: Final = (b'.delta"', b"response.output_item.done")


def write_request(call: ChatCall, dropped: frozenset[str] = frozenset()) -> bytes:
    """The caller's body, in which only `model`, the gateway's own members and the output limit change."""
    request = call.request
    parts = request.parsed if isinstance(request.parsed, Members) else members(request.body)
    replace = {"model": msgspec.json.encode(call.vendor_model)}
    add: dict[str, bytes] = {}
    if call.output_limit is not None:
        limit = str(call.output_limit).encode()
        (replace if "max_output_tokens" in parts.values else add)["max_output_tokens"] = limit
    remove = {name for name in (*GATEWAY_FIELDS, *dropped) if name in parts.values}
    return edit(request.body, parts, replace=replace, remove=remove, add=add)


def read_answer(data: bytes, headers: Mapping[str, str]) -> ChatAnswer:
    """A whole answer of status 200.  Raises VendorFault for what is none, and for an answer that failed."""
    try:
        answer = RESPONSE.decode(data)
    except UNREADABLE:
        raise VendorFault(FaultKind.MALFORMED, "its answer is not JSON of this dialect") from None
    if answer.error or answer.status in ("failed", "cancelled"):
        raise read_fault(None, {}, data)
    if answer.output is None:
        raise VendorFault(FaultKind.MALFORMED, "its answer has no output")
    usage = used_by(answer)
    return ChatAnswer(
        dialect=Dialect.OPENAI_RESPONSES,
        body=data,
        usage=usage,
        produced_tokens=estimated_tokens(msgspec.json.encode(answer.output))
        if usage is None or not usage.has_tokens
        else 0,
        finish_reason=_finish(answer),
        headers=headers,
    )


class ResponsesStream:
    """A vendor's stream, as the port `ChatStream` describes it."""

    dialect = Dialect.OPENAI_RESPONSES

    def __init__(self, chunks: AsyncIterator[bytes], hang_up: Callable[[], None], headers: Mapping[str, str]) -> None:
        self.started = False
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.vendor_cost: Usd | None = None
        self.headers = headers
        self._chunks = chunks
        self._hang_up = hang_up
        self._fault: VendorFault | None = None
        """Raised once the events before it have been yielded."""
        self._uncounted: list[bytes] = []
        self._uncounted_bytes = 0
        self._counted = self._whole = 0
        self._passed_bytes = self._passed_events = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        splitter = EventSplitter()
        try:
            async for chunk in self._chunks:
                if whole := splitter.feed(chunk):
                    yield self._passed(whole)
                    if self._fault is not None:
                        raise self._fault
            if rest := splitter.end().strip():
                yield self._passed(rest + b"\n\n")
        except EventTooLarge as error:
            raise VendorFault(FaultKind.MALFORMED, str(error)) from None
        if self._fault is not None:
            raise self._fault
        if self.finish_reason is None:
            raise VendorFault(FaultKind.BROKEN_OFF, "it closed the stream before its answer was finished")

    def produced_tokens(self) -> int:
        """By the pieces, or where an answer came in none, by what its end holds."""
        self._count()
        return self._counted or self._whole

    def produced_at_most(self) -> int:
        text_bytes = max(0, self._passed_bytes - self._passed_events * _FRAME_BYTES)
        return max(self._passed_events, text_bytes // BYTES_PER_TOKEN_LEAST)

    def close(self) -> None:
        self._hang_up()

    def _passed(self, whole: bytes) -> bytes:
        """What of some whole events the caller gets: all before a failure, which is told in the gateway's words."""
        if any(word in whole for word in _TELLING):
            whole = self._up_to_failure(whole)
        if not self.started:
            self.started = any(word in whole for word in _CONTENT)
        self._passed_bytes += len(whole)
        self._passed_events += whole.count(b"\n\n")
        self._uncounted.append(whole)
        self._uncounted_bytes += len(whole)
        if self._uncounted_bytes > UNCOUNTED_MAX:
            self._count()
        return whole

    def _up_to_failure(self, whole: bytes) -> bytes:
        passed: list[bytes] = []
        for block in _BLOCK.findall(whole):
            try:
                for event in events(block):
                    self._read(event.data)
            except VendorFault as fault:
                self._fault = fault
                break
            passed.append(block)
        return b"".join(passed)

    def _read(self, data: bytes) -> None:
        if data.startswith(b"[DONE]"):
            return
        try:
            head = EVENT.decode(data)
        except UNREADABLE:
            raise VendorFault(FaultKind.MALFORMED, "an event of its stream is not JSON of this dialect") from None
        if head.type in _ENDINGS and head.response is not None:
            self.usage = used_by(head.response)
            if self.usage is None and head.response.output:
                self._whole = estimated_tokens(msgspec.json.encode(head.response.output))
            self.finish_reason = _finish(head.response)
            self.started = True
        elif head.type in ("response.failed", "response.cancelled"):
            told = head.response.error if head.response is not None else None
            raise read_fault(None, {}, msgspec.json.encode({"error": told or {"message": "its answer failed"}}))
        elif head.type == "error" or (not head.type and head.error):
            raise read_fault(None, {}, msgspec.json.encode({"error": _error_of(head)}))

    def _count(self) -> None:
        """The tokens of what has passed, by the text in its pieces."""
        texts: list[str] = []
        for whole in self._uncounted:
            for event in events(whole):
                try:
                    head = EVENT.decode(event.data)
                except UNREADABLE:
                    continue
                if head.type.endswith(".delta") and isinstance(head.delta, str):
                    texts.append(head.delta)
        self._counted += estimated_tokens("".join(texts).encode("utf-8", "surrogatepass"))
        self._uncounted.clear()
        self._uncounted_bytes = 0


def _error_of(head: EventHead) -> object:
    return head.error or {"code": head.code, "message": head.message}


def _finish(answer: Response) -> str:
    if answer.status == "incomplete":
        return (answer.incomplete_details.reason if answer.incomplete_details else None) or "incomplete"
    return answer.status or "completed"
