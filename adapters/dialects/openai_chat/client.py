"""OpenAI Chat Completions as vendors speak it: writing requests to them, reading their answers and streams.

Answers pass through verbatim.  The reader looks only for what costs or ends something: content, a finish, usage, an
error.  A chunk that holds none of these is recognised by one search and never parsed on its way.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

import msgspec

from adapters.dialects.gateway_fields import GATEWAY_FIELDS
from adapters.dialects.json_members import JsonRefused, Members, edit, members
from adapters.dialects.openai_chat.errors import read_fault
from adapters.dialects.openai_chat.quirks import STANDARD, Quirks
from adapters.dialects.openai_chat.server import DONE
from adapters.dialects.openai_chat.wire import (
    BROKEN_FINISHES,
    Body,
    Delta,
    has_content,
    read_body,
    read_extension,
    read_usage,
    text_bytes,
)
from adapters.dialects.vendor_cost import read_vendor_cost
from adapters.transport.sse import EventSplitter, EventTooLarge, events
from domain.catalog import Dialect
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.inference.tokens import ASCII_BYTES_PER_TOKEN_X10, OTHER_BYTES_PER_TOKEN_X10
from domain.money import Usd
from domain.ports.vendors import ChatAnswer
from domain.usage import Usage

OUTPUT_LIMITS: Final = ("max_completion_tokens", "max_tokens")
LINGER_S: Final = 0.2
"""How long to wait for the vendor's end of a body after [DONE], so that its connection can be used again."""
BYTES_PER_DELTA_X10: Final = 80
"""Up to this many bytes a delta, a vendor sends one token at a time, and counting deltas counts tokens."""
BYTES_PER_TOKEN_LEAST: Final = 2
UNCOUNTED_MAX: Final = 256 * 1024

_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
# One search each, because only a pattern that begins with a fixed text is searched for at memory speed.
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')
_ERROR = re.compile(rb'"error"\s*:\s*[^n\s]')
_NULL_USAGE = re.compile(rb'"usage"\s*:\s*null')
_LAST_NULL_USAGE = re.compile(rb',\s*"usage"\s*:\s*null\s*(?=\}\s*(?:[\r\n]|\Z))')
"""As vendors write it: the last member of its chunk, and so never one of an object inside it."""
_BLOCK = re.compile(rb".+?(?:\r\n\r\n|\n\n|\r\r|\Z)", re.DOTALL)


def write_request(
    call: ChatCall,
    *,
    output_limit_field: str = "max_completion_tokens",
    renamed: Mapping[str, str] = {},
    dropped: frozenset[str] = frozenset(),
    rewritten: Mapping[str, Callable[[bytes], bytes]] = {},
    asks_for_usage: bool = True,
) -> bytes:
    """The caller's body, in which only these members change: `model`, the gateway's own, what this vendor does not
    take or wants in another form, the output limit where credit cannot pay more, and the wish for usage at the end of
    a stream."""
    request = call.request
    body = request.body
    parts = request.parsed if isinstance(request.parsed, Members) else members(body)
    replace = {"model": msgspec.json.encode(call.vendor_model)}
    remove = {name for name in (*GATEWAY_FIELDS, *dropped) if name in parts.values}
    add: dict[str, bytes] = {}
    if call.output_limit is not None:
        limit = str(call.output_limit).encode()
        set_already = [name for name in OUTPUT_LIMITS if name in parts.values]
        replace |= dict.fromkeys(set_already, limit)
        if not set_already:
            add[output_limit_field] = limit
    # A translated request wants usage without asking for it in this dialect's words.
    asked = request.wants_usage and "stream_options" in parts.values
    if request.streamed and asks_for_usage and not asked:
        _ask_for_usage(parts, replace, add)
    for name, form in rewritten.items():
        if name in parts.values and name not in remove:
            replace[name] = form(bytes(parts.values[name]))
    for name, theirs in renamed.items():
        if name in parts.values and name not in remove:
            remove.add(name)
            value = replace.pop(name) if name in replace else bytes(parts.values[name])
            # A member that is there twice would mean whatever the vendor's parser makes of it.
            (replace if theirs in parts.values else add)[theirs] = value
    return edit(body, parts, replace=replace, remove=remove, add=add)


def dropped_members(call: ChatCall, dropped: frozenset[str]) -> list[str]:
    """Which of the request's members `write_request` leaves out because the vendor does not take them."""
    if not dropped:
        return []
    parts = call.request.parsed
    named = parts if isinstance(parts, Members) else members(call.request.body)
    return sorted(dropped & named.values.keys())


def _ask_for_usage(parts: Members, replace: dict[str, bytes], add: dict[str, bytes]) -> None:
    raw = bytes(parts.values["stream_options"]) if "stream_options" in parts.values else None
    if raw is None:
        add["stream_options"] = b'{"include_usage":true}'
        return
    try:
        options = members(raw)
        wish = {"include_usage": b"true"}
        known = "include_usage" in options.values
        replace["stream_options"] = edit(raw, options, replace=wish) if known else edit(raw, options, add=wish)
    except JsonRefused:
        replace["stream_options"] = b'{"include_usage":true}'


def read_answer(data: bytes, headers: Mapping[str, str], quirks: Quirks = STANDARD) -> ChatAnswer:
    """A whole answer of status 200.  Raises VendorFault for what is none: an error, HTML, nothing at all."""
    try:
        body = read_body(data)
    except _UNREADABLE:
        raise VendorFault(FaultKind.MALFORMED, "its answer is not JSON of this dialect") from None
    if body.error:
        raise read_fault(None, {}, data, quirks.fault_words)
    if not body.choices:
        fault = read_fault(None, {}, data, quirks.fault_words, quirks.extension)
        raise fault if fault.message else VendorFault(FaultKind.MALFORMED, "its answer has no choices")
    finishes = [choice.finish_reason for choice in body.choices if choice.finish_reason]
    if broken := BROKEN_FINISHES.intersection(finishes):
        raise VendorFault(FaultKind.SERVER_ERROR, f"it finished with {min(broken)!r}")
    if quirks.extension and not body.has_usage and (extension := read_extension(data, quirks.extension)):
        body.usage = extension.usage
    usage = read_usage(body.usage) if body.has_usage else None
    tally = Tally()
    if usage is None or not usage.has_tokens:
        tally.add(body)
    return ChatAnswer(
        dialect=Dialect.OPENAI_CHAT,
        body=data,
        usage=usage,
        produced_tokens=tally.tokens,
        finish_reason=finishes[0] if finishes else None,
        headers=headers,
        vendor_cost=read_vendor_cost(body.usage) if body.has_usage else None,
    )


class Tally:
    """Counts output tokens for which the vendor gives no figure."""

    __slots__ = ("_ascii", "_deltas", "_other")

    def __init__(self) -> None:
        self._deltas = self._ascii = self._other = 0

    def add(self, body: Body) -> None:
        for choice in body.choices or ():
            part: Delta | None = choice.delta
            if part is None:
                part = choice.message
            if part is None or not has_content(part):
                continue
            ascii_, other = text_bytes(part)
            self._ascii += ascii_
            self._other += other
            self._deltas += choice.delta is not None

    @property
    def text_bytes(self) -> int:
        return self._ascii + self._other

    @property
    def tokens(self) -> int:
        """Deltas where they are as short as tokens, else an estimate by bytes."""
        size = self._ascii + self._other
        if self._deltas and size * 10 <= self._deltas * BYTES_PER_DELTA_X10:
            return self._deltas
        return -(-self._ascii * 10 // ASCII_BYTES_PER_TOKEN_X10) - (-self._other * 10 // OTHER_BYTES_PER_TOKEN_X10)


class OpenAIChatStream:
    """A vendor's stream, as the port `ChatStream` describes it."""

    dialect = Dialect.OPENAI_CHAT

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        hang_up: Callable[[], None],
        headers: Mapping[str, str],
        *,
        shows_usage: bool,
        quirks: Quirks = STANDARD,
        redacted: Callable[[str], str] = str,
    ) -> None:
        self.started = False
        self.usage: Usage | None = None
        self.vendor_cost: Usd | None = None
        self.finish_reason: str | None = None
        self.headers = headers
        self._chunks = chunks
        self._hang_up = hang_up
        self._shows_usage = shows_usage
        self._quirks = quirks
        self._redacted = redacted
        """Takes our secrets out of the vendor's words."""
        self._done = False
        self._fault: VendorFault | None = None
        """Raised once the events before it have been yielded."""
        self._splitter = EventSplitter()
        self._tally = Tally()
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
        if self._done:
            return
        if self.finish_reason is None:
            raise VendorFault(FaultKind.BROKEN_OFF, "it closed the stream before its answer was finished")
        yield DONE

    def produced_tokens(self) -> int:
        self._count()
        return self._tally.tokens

    def produced_at_most(self) -> int:
        text_bytes = self._uncounted_bytes - self._uncounted_events * self._frame_bytes
        return self._tally.tokens + max(self._uncounted_events, text_bytes // BYTES_PER_TOKEN_LEAST)

    def close(self) -> None:
        self._hang_up()

    async def _linger(self) -> None:
        try:
            async with asyncio.timeout(LINGER_S):
                async for _ in self._chunks:
                    pass
        except (TimeoutError, VendorFault):
            self._hang_up()

    def _passed(self, whole: bytes) -> bytes:
        """What of some whole events the caller gets; notes what they tell."""
        if not self.started:
            return self._opening(whole)
        at = _first_noteworthy(whole)
        if at < 0:
            return self._plain(whole) if _looks_whole(whole) else self._read(whole)
        # Events before the one that tells something need no reading; CR line ends are too rare to look for.
        cut = whole.rfind(b"\n\n", 0, at) + 2
        if cut > 1 and _looks_whole(whole[:cut]):
            return self._plain(whole[:cut]) + self._read(whole[cut:])
        return self._read(whole)

    def _opening(self, whole: bytes) -> bytes:
        """Read event by event until the first content; what follows it in the same bytes is no longer special."""
        passed: list[bytes] = []
        blocks = _blocks(whole)
        for number, block in enumerate(blocks, 1):
            passed.append(self._read(block))
            if self._fault is not None:
                break
            if self.started:
                self._frame_bytes = len(block) - self._tally.text_bytes
                if number < len(blocks):
                    passed.append(self._passed(b"".join(blocks[number:])))
                break
        return b"".join(passed)

    def _plain(self, whole: bytes) -> bytes:
        self._uncounted.append(whole)
        self._uncounted_bytes += len(whole)
        self._uncounted_events += whole.count(b"\n\n")
        if self._uncounted_bytes > UNCOUNTED_MAX:
            self._count()
        return whole if self._shows_usage else self._without_null_usage(whole)

    def _read(self, whole: bytes) -> bytes:
        passed: list[bytes] = []
        try:
            for block in _blocks(whole):
                passed.append(self._noted(block))
        except VendorFault as fault:
            self._fault = fault
        return b"".join(passed)

    def _noted(self, block: bytes) -> bytes:
        passed = block
        for event in events(block):
            if event.data.startswith(b"[DONE]"):
                self._done = True
                return self._done_event(block)
            try:
                body = read_body(event.data)
            except _UNREADABLE:
                raise VendorFault(FaultKind.MALFORMED, "a chunk of its stream is not JSON of this dialect") from None
            if self._quirks.extension:
                self._note_extension(body, event.data)
            if body.error:
                fault = read_fault(None, {}, event.data, self._quirks.fault_words, self._quirks.extension)
                fault.message = self._redacted(fault.message)
                raise fault
            self._note(body)
            hidden = not self._shows_usage and not body.choices and body.has_usage and self.usage is not None
            passed = b"" if hidden else block
        return passed if self._shows_usage else self._without_null_usage(passed)

    def _note_extension(self, body: Body, data: bytes) -> None:
        """What stands in the vendor's own member counts as if it stood where OpenAI puts it; what does goes first."""
        name = self._quirks.extension
        if name.encode() in data and (extension := read_extension(data, name)) is not None:
            body.error = body.error or extension.error
            if not body.has_usage and self.usage is None:
                body.usage = extension.usage

    def _note(self, body: Body) -> None:
        self._tally.add(body)
        if body.has_usage:
            # The last one wins: cumulative counts grow, and no request is charged twice.
            self.usage = read_usage(body.usage) or self.usage
            if (told := read_vendor_cost(body.usage)) is not None:
                self.vendor_cost = told
        for choice in body.choices or ():
            if choice.finish_reason in BROKEN_FINISHES:
                raise VendorFault(FaultKind.BROKEN_OFF, f"it finished with {choice.finish_reason!r}")
            self.finish_reason = choice.finish_reason or self.finish_reason
            self.started = self.started or has_content(choice.delta)

    def _done_event(self, block: bytes) -> bytes:
        if self.finish_reason is None and not self.started:
            raise VendorFault(FaultKind.MALFORMED, "its stream was empty")
        return block

    def _without_null_usage(self, events_: bytes) -> bytes:
        """Less the `"usage":null` that vendors add to every chunk because we, not the caller, asked for usage."""
        if b'"usage"' not in events_:
            return events_
        events_ = _LAST_NULL_USAGE.sub(b"", events_)
        if _NULL_USAGE.search(events_) is None:
            return events_
        return b"".join(_without_member(block, "usage") for block in _blocks(events_))

    def _count(self) -> None:
        for whole in self._uncounted:
            for event in events(whole):
                try:
                    self._tally.add(read_body(event.data))
                except _UNREADABLE:
                    # It has been passed on already; what cannot be read cannot be charged for.
                    continue
        self._uncounted.clear()
        self._uncounted_bytes = self._uncounted_events = 0


def _first_noteworthy(whole: bytes) -> int:
    """Where the first sign of usage, a finish, an error or the end is; -1 where there is none."""
    # As most chunks are written, counting tells in less time than a pattern that none of it is there.
    if (
        whole.count(b'"finish_reason"') == whole.count(b'"finish_reason":null')
        and (b'"usage"' not in whole or whole.count(b'"usage"') == whole.count(b'"usage":null'))
        and b'"error"' not in whole
        and b"[DONE]" not in whole
    ):
        return -1
    found = [whole.find(b"[DONE]")]
    for word, pattern in ((b'"usage"', _USAGE), (b'"finish_reason"', _FINISH), (b'"error"', _ERROR)):
        if word in whole and (match := pattern.search(whole)):
            found.append(match.start())
    return min((at for at in found if at >= 0), default=-1)


def _blocks(whole: bytes) -> list[bytes]:
    """Whole events, one by one and verbatim."""
    if b"\r" in whole:
        return _BLOCK.findall(whole)
    return [block + b"\n\n" for block in whole.removesuffix(b"\n\n").split(b"\n\n")]


def _looks_whole(whole: bytes) -> bool:
    """Whether every event is one line that begins and ends like an object; anything else is worth reading."""
    if whole.find(b"\n") == len(whole) - 2:
        return whole.startswith(b"data: {") and whole.endswith(b"}\n\n")
    ends = whole.count(b"\n\n")
    return ends == whole.count(b"}\n\n") == whole.count(b"data: {") and whole.startswith(b"data: {")


def _without_member(block: bytes, name: str) -> bytes:
    """One event's bytes without a top-level member that is null; others of that name stay."""
    for event in events(block):
        try:
            parts = members(event.data)
        except JsonRefused:
            return block
        if name in parts.values and bytes(parts.values[name]) == b"null":
            return block.replace(event.data, edit(event.data, parts, remove={name}), 1)
    return block
