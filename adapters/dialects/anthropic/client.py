"""Anthropic's Messages as vendors speak it: writing requests to them, reading their answers and streams.

Answers pass through verbatim.  The reader looks only for what costs or ends something: the counts of `message_start`
and `message_delta`, a finish, an error.  Events that hold none of these, all those deltas, are recognised by two
searches and never parsed on their way.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from adapters.dialects.anthropic.errors import error_of, read_fault
from adapters.dialects.anthropic.wire import (
    NO_COUNTS,
    UNREADABLE,
    Counts,
    Event,
    event_payloads,
    read_body,
    read_counts,
    read_event,
)
from adapters.dialects.gateway_fields import GATEWAY_FIELDS
from adapters.dialects.json_members import Members, edit, members
from adapters.dialects.tally import TextTally
from adapters.transport.sse import EventSplitter, EventTooLarge, events
from domain.catalog import Dialect
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.money import Usd
from domain.ports.vendors import ChatAnswer
from domain.usage import Usage

VERSION: Final = "2023-06-01"
"""What a vendor is sent where the caller named no version; newer ones refuse more."""
BUDGET_LEAST: Final = 1_024
LINGER_S: Final = 0.2
"""How long to wait for the vendor's end of a body after `message_stop`, so that its connection can be used again."""
BYTES_PER_TOKEN_LEAST: Final = 2
UNCOUNTED_MAX: Final = 256 * 1024
PACKED: Final = b"gwz1."
"""How the seals of other families begin, as `Opaque.packed` writes them."""

_BLOCK = re.compile(rb".+?(?:\r\n\r\n|\n\n|\r\r|\Z)", re.DOTALL)
# One search each, because only a pattern that begins with a fixed text is searched for at memory speed.
_EMPTY_SIGNATURE = re.compile(rb'"signature"\s*:\s*""')
_EMPTY_INDEX = re.compile(rb'"encrypted_index"\s*:\s*""')


def write_request(call: ChatCall) -> bytes:
    """The caller's body, in which only these members change: `model`, the gateway's own, the output limit where
    credit cannot pay more, and thoughts that another family of models has signed."""
    request = call.request
    body = request.body
    parts = request.parsed if isinstance(request.parsed, Members) else members(body)
    replaced = {"model": msgspec.json.encode(call.vendor_model)}
    remove = {name for name in GATEWAY_FIELDS if name in parts.values}
    add: dict[str, bytes] = {}
    if call.output_limit is not None:
        limit = str(call.output_limit).encode()
        (replaced if "max_tokens" in parts.values else add)["max_tokens"] = limit
        if (thinking := _lowered_thinking(parts, call.output_limit)) is not None:
            replaced["thinking"] = thinking
    if _may_be_foreign(body):
        replaced["messages"] = _without_foreign_seals(parts)
    return edit(body, parts, replace=replaced, remove=remove, add=add)


def write_count_request(call: ChatCall) -> bytes:
    """The same for a request to count tokens, which says nothing of the answer's length."""
    parts = call.request.parsed if isinstance(call.request.parsed, Members) else members(call.request.body)
    remove = {name for name in GATEWAY_FIELDS if name in parts.values}
    replaced = {"model": msgspec.json.encode(call.vendor_model)}
    if _may_be_foreign(call.request.body):
        replaced["messages"] = _without_foreign_seals(parts)
    return edit(call.request.body, parts, replace=replaced, remove=remove)


class _ThinkingBudget(Struct):
    budget_tokens: int | None = None


def _lowered_thinking(parts: Members, limit: int) -> bytes | None:
    """A budget that fits below the lowered output limit, or no thinking where none fits; None where nothing changes."""
    raw = parts.values.get("thinking")
    if raw is None or b'"budget_tokens"' not in bytes(raw):
        return None
    try:
        budget = msgspec.json.decode(raw, type=_ThinkingBudget).budget_tokens
        inner = members(bytes(raw))
    except (msgspec.MsgspecError, ValueError):
        return None
    if budget is None or budget < limit:
        return None
    if limit <= BUDGET_LEAST:
        return b'{"type":"disabled"}'
    return edit(bytes(raw), inner, replace={"budget_tokens": b"%d" % (limit - 1)})


class _RawTurn(Struct):
    content: Raw = Raw()


def _may_be_foreign(raw: bytes) -> bool:
    """Whether a seal of another family, or an empty one, may be in it."""
    return (
        PACKED in raw
        or (b'"signature"' in raw and _EMPTY_SIGNATURE.search(raw) is not None)
        or (b'"encrypted_index"' in raw and _EMPTY_INDEX.search(raw) is not None)
    )


def _without_foreign_seals(parts: Members) -> bytes:
    """The turns less the thoughts whose signature is another family's, or none: the vendor refuses both.

    Everything else keeps its bytes.  What cannot be read is left for the vendor to judge.
    """
    raw = bytes(parts.values["messages"])
    try:
        turns = msgspec.json.decode(raw, type=list[Raw])
        kept = [_turn_without_foreign_seals(bytes(turn)) for turn in turns]
    except (msgspec.MsgspecError, ValueError):
        return raw
    return b"[%b]" % b",".join(turn for turn in kept if turn)


def _turn_without_foreign_seals(turn: bytes) -> bytes:
    if not _may_be_foreign(turn):
        return turn
    outer = members(turn)
    content = bytes(outer.values.get("content", Raw(b"null")))
    if not content.startswith(b"["):
        return turn
    blocks = [_block_without_foreign_seals(bytes(b)) for b in msgspec.json.decode(content, type=list[Raw])]
    kept = [block for block in blocks if block]
    return edit(turn, outer, replace={"content": b"[%b]" % b",".join(kept)}) if kept else b""


class _Sealed(Struct):
    type: str = ""
    signature: str | None = None
    data: str | None = None


def _block_without_foreign_seals(block: bytes) -> bytes:
    if not _may_be_foreign(block):
        return block
    sealed = msgspec.json.decode(block, type=_Sealed)
    if sealed.type == "thinking" and (not sealed.signature or PACKED.decode() in sealed.signature):
        return b""
    if sealed.type == "redacted_thinking" and (not sealed.data or PACKED.decode() in sealed.data):
        return b""
    if sealed.type == "text":
        parts = members(block)
        if _may_be_foreign(bytes(parts.values.get("citations", Raw()))):
            return edit(block, parts, remove={"citations"})
    return block


def read_answer(data: bytes, headers: Mapping[str, str]) -> ChatAnswer:
    """A whole answer of status 200.  Raises VendorFault for what is none: an error, HTML, nothing at all."""
    try:
        body = read_body(data)
    except UNREADABLE:
        raise VendorFault(FaultKind.MALFORMED, "its answer is not JSON of this dialect") from None
    if body.error or body.type == "error":
        raise read_fault(None, {}, data)
    if body.content is None:
        raise VendorFault(FaultKind.MALFORMED, "its answer has no content")
    usage = read_counts(body.usage).usage()
    tally = TextTally()
    if usage is None or not usage.has_tokens:
        for block in body.content:
            for text in _texts(block):
                tally.add_text(text, is_delta=False)
    return ChatAnswer(
        dialect=Dialect.ANTHROPIC,
        body=data,
        usage=usage,
        produced_tokens=tally.tokens,
        finish_reason=body.stop_reason,
        headers=headers,
    )


def _texts(block: dict[str, Any]) -> list[str]:
    texts = [text for name in ("text", "thinking", "name") if isinstance(text := block.get(name), str) and text]
    if isinstance(block.get("input"), dict):
        texts.append(msgspec.json.encode(block["input"]).decode())
    return texts


class AnthropicStream:
    """A vendor's stream, as the port `ChatStream` describes it."""

    dialect = Dialect.ANTHROPIC

    def __init__(self, chunks: AsyncIterator[bytes], hang_up: Callable[[], None], headers: Mapping[str, str]) -> None:
        self.started = False
        self.usage: Usage | None = None
        """The last word on it; the counts with which a stream begins are no more than a beginning."""
        self.finish_reason: str | None = None
        self.vendor_cost: Usd | None = None
        self.headers = headers
        self._chunks = chunks
        self._hang_up = hang_up
        self._counts = NO_COUNTS
        self._done = False
        self._fault: VendorFault | None = None
        """Raised once the events before it have been yielded."""
        self._splitter = EventSplitter()
        self._tally = TextTally()
        self._uncounted: list[bytes] = []
        self._uncounted_bytes = self._uncounted_events = 0
        self._frame_bytes = 0
        """What the first event with content took beside its text."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        feed = self._splitter.feed
        try:
            async for chunk in self._chunks:
                whole = feed(chunk)
                if not whole:
                    continue
                yield self._passed(whole)
                if self._fault is not None:
                    raise self._fault
                if self._done:
                    break
        except EventTooLarge as error:
            raise VendorFault(FaultKind.MALFORMED, str(error)) from None
        if self._done:
            await self._linger()
            return
        rest = self._splitter.end()
        if rest.strip():
            yield self._passed(rest + b"\n\n")
        if self._fault is not None:
            raise self._fault
        if not self._done:
            raise VendorFault(FaultKind.BROKEN_OFF, "it closed the stream before its answer was finished")

    def produced_tokens(self) -> int:
        self._count()
        return self._tally.tokens

    def produced_at_most(self) -> int:
        text_bytes = self._uncounted_bytes - self._uncounted_events * self._frame_bytes
        return self._tally.tokens + max(self._uncounted_events, text_bytes // BYTES_PER_TOKEN_LEAST)

    def close(self) -> None:
        """Hang up.  A stream that is left early has told what it read, so that only its output is our own count."""
        self._hang_up()
        if self.usage is None and self.started:
            begun = self._counts.usage()
            if begun is not None:
                self.usage = replace(begun, output=max(self.produced_tokens(), begun.output), reasoning=0)

    async def _linger(self) -> None:
        try:
            async with asyncio.timeout(LINGER_S):
                async for _ in self._chunks:
                    pass
        except (TimeoutError, VendorFault):
            self._hang_up()

    def _passed(self, whole: bytes) -> bytes:
        """What of some whole events the caller gets; notes what they tell."""
        if self.started and b'"message_' not in whole and b'"error"' not in whole and _looks_whole(whole):
            self._uncounted.append(whole)
            self._uncounted_bytes += len(whole)
            self._uncounted_events += whole.count(b"\n\n")
            if self._uncounted_bytes > UNCOUNTED_MAX:
                self._count()
            return whole
        return self._read(whole)

    def _read(self, whole: bytes) -> bytes:
        passed: list[bytes] = []
        try:
            blocks = _blocks(whole)
            for number, block in enumerate(blocks, 1):
                begun = self.started
                self._noted(block)
                passed.append(block)
                if self._done:
                    break
                if self.started and not begun and number < len(blocks):
                    passed.append(self._passed(b"".join(blocks[number:])))
                    break
        except VendorFault as fault:
            self._fault = fault
        return b"".join(passed)

    def _noted(self, block: bytes) -> None:
        for event in events(block):
            try:
                told = read_event(event.data)
            except UNREADABLE:
                raise VendorFault(FaultKind.MALFORMED, "an event of its stream is not JSON of this dialect") from None
            if told.error or told.type == "error":
                raise error_of(None, {}, told.error or {"type": "api_error", "message": ""})
            self._note(told, block)

    def _note(self, event: Event, block: bytes) -> None:
        match event.type:
            case "content_block_delta":
                self._add(event)
                if not self.started:
                    self.started = True
                    self._frame_bytes = max(len(block) - self._tally.text_bytes, 0)
            case "content_block_start":
                kind = (event.content_block or {}).get("type")
                self.started = self.started or (isinstance(kind, str) and kind not in ("text", "thinking"))
            case "message_start":
                self._counts = read_counts(event.message.usage) if event.message is not None else NO_COUNTS
            case "message_delta":
                self._counts = self._counts.updated(_known(read_counts(event.usage)))
                if event.delta is not None and event.delta.stop_reason:
                    self.finish_reason = event.delta.stop_reason
                if self.finish_reason is not None:
                    self.usage = self._counts.usage() or self.usage
            case "message_stop":
                if self.finish_reason is None and not self.started:
                    raise VendorFault(FaultKind.MALFORMED, "its stream was empty")
                self._done = True

    def _add(self, event: Event) -> None:
        delta = event.delta
        if delta is not None and (text := delta.text or delta.thinking or delta.partial_json):
            self._tally.add_text(text, is_delta=True)

    def _count(self) -> None:
        for whole in self._uncounted:
            for payload in event_payloads(whole) or [event.data for event in events(whole)]:
                try:
                    self._add(read_event(payload))
                except UNREADABLE:
                    # It has been passed on already; what cannot be read cannot be charged for.
                    continue
        self._uncounted.clear()
        self._uncounted_bytes = self._uncounted_events = 0


def _known(counts: Counts) -> Counts:
    """The last event of some servers names their input as 0, having named it rightly at the beginning."""
    return replace(counts, input_tokens=counts.input_tokens or None)


def _blocks(whole: bytes) -> list[bytes]:
    """Whole events, one by one and verbatim."""
    if b"\r" in whole:
        return _BLOCK.findall(whole)
    return [block + b"\n\n" for block in whole.removesuffix(b"\n\n").split(b"\n\n")]


def _looks_whole(whole: bytes) -> bool:
    """Whether every event is one line that begins and ends like an object; anything else is worth reading."""
    ends = whole.count(b"\n\n")
    return ends == whole.count(b"}\n\n") == whole.count(b"data: {") and b"\r" not in whole
