"""Gemini as vendors speak it: writing requests to them, reading their answers and streams.

Answers pass through verbatim.  The reader looks only for what costs or ends something: a finish, a blocked prompt, an
error.  Every event of a stream holds its usage so far and there is no mark of the end, so that the last event before
the connection closes has the last word; the events before it are recognised by a search and never parsed on their way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from adapters.dialects.gateway_fields import GATEWAY_FIELDS
from adapters.dialects.gemini.errors import error_of, read_fault
from adapters.dialects.gemini.wire import (
    FAILURES,
    UNREADABLE,
    Answer,
    Part,
    event_payloads,
    read_answer_body,
)
from adapters.dialects.json_members import Members, edit, members
from adapters.dialects.tally import TextTally
from adapters.transport.sse import EventSplitter, EventTooLarge, data_event, events
from domain.catalog import Dialect
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.money import Usd
from domain.ports.vendors import ChatAnswer
from domain.usage import Usage

BYTES_PER_TOKEN_LEAST: Final = 2
UNCOUNTED_MAX: Final = 256 * 1024
_OUTPUT_LIMIT: Final = "maxOutputTokens"


def write_request(call: ChatCall) -> bytes:
    """The body, in which only these members change: the gateway's own and `model`, which the address names, go, and
    the output limit is lowered where credit cannot pay more."""
    request = call.request
    parts = request.parsed if isinstance(request.parsed, Members) else members(request.body)
    remove = {name for name in (*GATEWAY_FIELDS, "model", "stream") if name in parts.values}
    replaced: dict[str, bytes] = {}
    add: dict[str, bytes] = {}
    if call.output_limit is not None:
        config = parts.values.get("generationConfig")
        limited = _limited(b"{}" if config is None else bytes(config), call.output_limit)
        (add if config is None else replaced)["generationConfig"] = limited
    return edit(request.body, parts, replace=replaced, remove=remove, add=add)


class _Thinking(Struct, rename="camel"):
    thinking_budget: int | None = None


def _limited(config: bytes, limit: int) -> bytes:
    """A generationConfig with the lower limit.  Thoughts count towards it: their budget leaves a quarter of it."""
    inner = members(config)
    change = {_OUTPUT_LIMIT: b"%d" % limit}
    raw = inner.values.get("thinkingConfig")
    if raw is not None and b'"thinkingBudget"' in bytes(raw):
        budget = msgspec.json.decode(raw, type=_Thinking).thinking_budget
        if budget is not None and budget > limit * 3 // 4:
            thinking = members(bytes(raw))
            change["thinkingConfig"] = edit(bytes(raw), thinking, replace={"thinkingBudget": b"%d" % (limit * 3 // 4)})
    known = {name: value for name, value in change.items() if name in inner.values}
    return edit(config, inner, replace=known, add={n: v for n, v in change.items() if n not in known})


def read_answer(data: bytes, headers: Mapping[str, str]) -> ChatAnswer:
    """A whole answer of status 200.  Raises VendorFault for what is none: an error, HTML, nothing at all."""
    try:
        answer = read_answer_body(data)
    except UNREADABLE:
        raise VendorFault(FaultKind.MALFORMED, "its answer is not JSON of this dialect") from None
    if answer.error:
        raise read_fault(None, {}, data)
    finish = _finish_of(answer)
    if finish is None:
        raise VendorFault(FaultKind.MALFORMED, "its answer has neither content nor a reason why")
    usage = answer.usage()
    tally = TextTally()
    if usage is None and answer.first is not None:
        for part in answer.first.parts:
            if text := _text_of(part):
                tally.add_text(text, is_delta=False)
    return ChatAnswer(
        dialect=Dialect.GEMINI,
        body=data,
        usage=usage,
        produced_tokens=tally.tokens,
        finish_reason=finish,
        headers=headers,
    )


def _finish_of(answer: Answer) -> str | None:
    """Why it ended, in the vendor's words.  Raises VendorFault where it ended in a failure."""
    candidate = answer.first
    if candidate is None:
        return answer.block_reason
    if candidate.finish_reason in FAILURES:
        told = candidate.finish_message if isinstance(candidate.finish_message, str) else ""
        raise VendorFault(FaultKind.MALFORMED, f"its model failed ({candidate.finish_reason}) {told}".strip()[:1_000])
    return candidate.finish_reason or ("STOP" if candidate.parts else answer.block_reason)


def _text_of(part: Part) -> str:
    if part.function_call is not None:
        return part.function_call.name + msgspec.json.encode(part.function_call.args).decode()
    return part.text or ""


class GeminiStream:
    """A vendor's stream, as the port `ChatStream` describes it."""

    dialect = Dialect.GEMINI

    def __init__(self, chunks: AsyncIterator[bytes], hang_up: Callable[[], None], headers: Mapping[str, str]) -> None:
        self.started = False
        self.usage: Usage | None = None
        """The last word on it, once there is a reason why the answer ended."""
        self.finish_reason: str | None = None
        self.vendor_cost: Usd | None = None
        self.headers = headers
        self._chunks = chunks
        self._hang_up = hang_up
        self._splitter = EventSplitter()
        self._tally = TextTally()
        self._last = b""
        """The last events passed on, which hold the counts so far."""
        self._fault: VendorFault | None = None
        """Raised once the events before it have been yielded."""
        self._uncounted: list[bytes] = []
        self._uncounted_bytes = self._uncounted_events = 0
        self._frame_bytes = 0
        """What the first event with content took beside its text."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        feed = self._splitter.feed
        try:
            async for chunk in self._chunks:
                if whole := feed(chunk):
                    yield self._passed(whole)
                    if self._fault is not None:
                        raise self._fault
        except EventTooLarge as error:
            raise VendorFault(FaultKind.MALFORMED, str(error)) from None
        rest = self._splitter.end()
        if rest.strip():
            yield self._passed(rest + b"\n\n")
            if self._fault is not None:
                raise self._fault
        if self.finish_reason is None:
            if not self.started and not self._last:
                raise VendorFault(FaultKind.MALFORMED, "its stream was empty")
            raise VendorFault(FaultKind.BROKEN_OFF, "it closed the stream before its answer was finished")

    def produced_tokens(self) -> int:
        self._count()
        return self._tally.tokens

    def produced_at_most(self) -> int:
        text_bytes = self._uncounted_bytes - self._uncounted_events * self._frame_bytes
        return self._tally.tokens + max(self._uncounted_events, text_bytes // BYTES_PER_TOKEN_LEAST)

    def close(self) -> None:
        """Hang up.  A stream that is left early has told what it read and thought; its output is our own count."""
        self._hang_up()
        if self.usage is None and self.started:
            told = self._told_so_far()
            if told is not None:
                self.usage = replace(told, output=max(self.produced_tokens() - told.image_out, told.output))

    def _told_so_far(self) -> Usage | None:
        usage = None
        for event in events(self._last):
            try:
                usage = read_answer_body(event.data).usage() or usage
            except UNREADABLE:
                continue
        return usage

    def _passed(self, whole: bytes) -> bytes:
        """Some whole events; notes what they tell."""
        if (
            self.started
            and self.finish_reason is None
            and b'"finishReason"' not in whole
            and b'"error"' not in whole
            and b'"blockReason"' not in whole
            and _looks_whole(whole)
        ):
            self._last = whole
            self._uncounted.append(whole)
            self._uncounted_bytes += len(whole)
            self._uncounted_events += max(1, whole.count(b"\ndata:") + whole.startswith(b"data:"))
            if self._uncounted_bytes > UNCOUNTED_MAX:
                self._count()
            return whole
        passed: list[bytes] = []
        try:
            for payload in event_payloads(whole):
                self._note(payload)
                passed.append(data_event(payload))
        except VendorFault as fault:
            self._fault = fault
            return b"".join(passed)
        if whole.strip() and not whole.startswith(b":"):
            self._last = whole
        return whole

    def _note(self, payload: bytes) -> None:
        try:
            answer = read_answer_body(payload)
        except UNREADABLE:
            raise VendorFault(FaultKind.MALFORMED, "an event of its stream is not JSON of this dialect") from None
        if answer.error:
            raise error_of(answer.error)
        before = self._tally.text_bytes
        if self._add(answer) and not self.started:
            self.started = True
            self._frame_bytes = max(len(payload) - (self._tally.text_bytes - before), 0)
        candidate = answer.first
        if (candidate is not None and candidate.finish_reason) or (candidate is None and answer.block_reason):
            self.finish_reason = _finish_of(answer)
        if self.finish_reason is not None:
            self.usage = answer.usage() or self.usage

    def _add(self, answer: Answer) -> bool:
        """Whether there is content in it."""
        found = False
        for part in answer.first.parts if answer.first is not None else ():
            if text := _text_of(part):
                self._tally.add_text(text, is_delta=True)
            found = found or bool(text) or part.inline_data is not None
        return found

    def _count(self) -> None:
        for whole in self._uncounted:
            for payload in event_payloads(whole):
                try:
                    self._add(read_answer_body(payload))
                except UNREADABLE:
                    # It has been passed on already; what cannot be read cannot be charged for.
                    continue
        self._uncounted.clear()
        self._uncounted_bytes = self._uncounted_events = 0


def _looks_whole(whole: bytes) -> bool:
    """Whether it begins and ends like events of one object each; anything else is worth reading."""
    return whole.startswith(b"data: {") and whole.rstrip(b"\r\n").endswith(b"}")
