"""Converse as Bedrock speaks it: writing requests to it, reading its answers and its binary streams.

Answers pass through verbatim; a stream is passed on in whole frames.  Frames come with checksums, which are proven for
every one of them, because a damaged frame would be told to the caller as the model's words.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

import msgspec

from adapters.dialects.bedrock_converse.errors import ERROR_TYPE, read_fault
from adapters.dialects.bedrock_converse.frames import Frame, FrameBroken, FrameSplitter, frame, frames
from adapters.dialects.bedrock_converse.wire import (
    FAILURES,
    UNREADABLE,
    Event,
    read_body,
    read_counts,
    read_event,
)
from adapters.dialects.gateway_fields import GATEWAY_FIELDS
from adapters.dialects.json_members import Members, edit, members
from adapters.dialects.tally import TextTally
from domain.catalog import Dialect
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.money import Usd
from domain.ports.vendors import ChatAnswer
from domain.usage import Usage

STREAM_TYPE: Final = "application/vnd.amazon.eventstream"


def write_request(call: ChatCall) -> bytes:
    """The body, in which only these members change: the gateway's own and `model`, which the address names, go, and
    the output limit is lowered where credit cannot pay more."""
    request = call.request
    parts = request.parsed if isinstance(request.parsed, Members) else members(request.body)
    remove = {name for name in (*GATEWAY_FIELDS, "model", "stream") if name in parts.values}
    replaced: dict[str, bytes] = {}
    add: dict[str, bytes] = {}
    if call.output_limit is not None:
        config = parts.values.get("inferenceConfig")
        limited = _limited(b"{}" if config is None else bytes(config), call.output_limit)
        (add if config is None else replaced)["inferenceConfig"] = limited
        extra = parts.values.get("additionalModelRequestFields")
        if extra is not None and (lower := _lowered_thinking(bytes(extra), call.output_limit)) is not None:
            replaced["additionalModelRequestFields"] = lower
    return edit(request.body, parts, replace=replaced, remove=remove, add=add)


def _limited(config: bytes, limit: int) -> bytes:
    inner = members(config)
    told = {"maxTokens": b"%d" % limit}
    return edit(config, inner, replace=told) if "maxTokens" in inner.values else edit(config, inner, add=told)


def _lowered_thinking(extra: bytes, limit: int) -> bytes | None:
    """Anthropic's budget must stay below the limit, and has a least of its own; where none fits, no thinking."""
    inner = members(extra)
    thinking = inner.values.get("thinking")
    if thinking is None or b'"budget_tokens"' not in bytes(thinking):
        return None
    budget = msgspec.json.decode(thinking, type=_Thinking).budget_tokens
    if budget < limit:
        return None
    if limit <= _BUDGET_LEAST:
        return edit(extra, inner, remove={"thinking"})
    lowered = edit(bytes(thinking), members(bytes(thinking)), replace={"budget_tokens": b"%d" % (limit - 1)})
    return edit(extra, inner, replace={"thinking": lowered})


_BUDGET_LEAST: Final = 1_024


class _Thinking(msgspec.Struct):
    budget_tokens: int = 0


def read_answer(data: bytes, headers: Mapping[str, str]) -> ChatAnswer:
    """A whole answer of status 200.  Raises VendorFault for what is none."""
    try:
        answer = read_body(data)
    except UNREADABLE:
        raise VendorFault(FaultKind.MALFORMED, "its answer is not JSON of this dialect") from None
    if answer.content is None:
        raise VendorFault(FaultKind.MALFORMED, "its answer has no content")
    _refuse_failure(answer.stop_reason)
    usage = read_counts(answer.usage).usage()
    tally = TextTally()
    if usage is None:
        tally.add_text(msgspec.json.encode(answer.content).decode(), is_delta=False)
    return ChatAnswer(
        dialect=Dialect.BEDROCK_CONVERSE,
        body=data,
        usage=usage,
        produced_tokens=tally.tokens,
        finish_reason=answer.stop_reason,
        headers=headers,
    )


def _refuse_failure(stop_reason: str | None) -> None:
    if stop_reason in FAILURES:
        raise VendorFault(FaultKind.MALFORMED, f"its model failed ({stop_reason})")


def exception_of(told: Frame) -> VendorFault:
    """What a frame that is no event says went wrong."""
    text = told.headers.get(":error-message")
    body = told.payload if text is None else msgspec.json.encode({"message": text})
    return read_fault(None, {ERROR_TYPE: told.kind}, body)


class ConverseStream:
    """A vendor's stream, as the port `ChatStream` describes it."""

    dialect = Dialect.BEDROCK_CONVERSE

    def __init__(self, chunks: AsyncIterator[bytes], hang_up: Callable[[], None], headers: Mapping[str, str]) -> None:
        self.started = False
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.vendor_cost: Usd | None = None
        self.headers = headers
        self._chunks = chunks
        self._hang_up = hang_up
        self._splitter = FrameSplitter()
        self._tally = TextTally()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._chunks:
                if whole := self._splitter.feed(chunk):
                    passed, fault = self._passed(whole)
                    if passed:
                        yield passed
                    if fault is not None:
                        raise fault
        except FrameBroken as error:
            raise VendorFault(FaultKind.MALFORMED, str(error)) from None
        # The counts come behind the reason to stop; without them the answer is whole all the same.
        if self.finish_reason is None:
            if not self.started:
                raise VendorFault(FaultKind.MALFORMED, "its stream was empty")
            raise VendorFault(FaultKind.BROKEN_OFF, "it closed the stream before its answer was finished")

    def produced_tokens(self) -> int:
        return self._tally.tokens

    def produced_at_most(self) -> int:
        return self._tally.tokens

    def close(self) -> None:
        self._hang_up()

    def _passed(self, whole: bytes) -> tuple[bytes, VendorFault | None]:
        """Some whole frames, and the fault that an exception among them tells, to be raised behind those before it."""
        before: list[Frame] = []
        for each in frames(whole):
            if each.fails:
                return b"".join(frame(told.headers, told.payload) for told in before), exception_of(each)
            self._note(each)
            before.append(each)
        return whole, None

    def _note(self, told: Frame) -> None:
        kind = told.kind
        if kind not in _TELLING:
            return
        try:
            event = read_event(told.payload)
        except UNREADABLE:
            raise VendorFault(FaultKind.MALFORMED, "an event of its stream is not JSON of this dialect") from None
        match kind:
            case "contentBlockDelta":
                self._add(event)
            case "contentBlockStart":
                self.started = self.started or (event.start is not None and event.start.tool_use is not None)
            case "messageStop":
                _refuse_failure(event.stop_reason)
                self.finish_reason = event.stop_reason or "end_turn"
            case _:
                self.usage = read_counts(event.usage).usage() or self.usage

    def _add(self, event: Event) -> None:
        if event.delta is not None and (text := event.delta.written):
            self._tally.add_text(text, is_delta=True)
            self.started = True


_TELLING: Final = frozenset({"contentBlockDelta", "contentBlockStart", "messageStop", "metadata"})
