"""Answers and streams of Bedrock, read into the canonical form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from adapters.dialects.bedrock_converse.client import exception_of
from adapters.dialects.bedrock_converse.frames import FrameBroken, frames
from adapters.dialects.bedrock_converse.wire import FAMILY, FINISHES, UNREADABLE, Event, read_body, read_event
from domain.catalog import Dialect
from domain.inference.conversation import Foreign, Image, Inline, Opaque, Text, Thinking, ToolCall
from domain.inference.faults import FaultKind, VendorFault
from domain.inference.reply import (
    AnswerBlock,
    Closed,
    Finish,
    Finished,
    Grew,
    Opened,
    Reply,
    ReplyEvent,
    Sealed,
    Started,
)

_CLOSED: Final = Closed()
_NO_ARGUMENTS: Final = "{}"


def read_reply(body: bytes) -> Reply:
    """Raises VendorFault for what is no answer."""
    try:
        answer = read_body(body)
    except UNREADABLE:
        raise VendorFault(FaultKind.MALFORMED, "its answer is not JSON of this dialect") from None
    if answer.content is None:
        raise VendorFault(FaultKind.MALFORMED, "its answer has no content")
    return Reply(id="", model="", blocks=tuple(map(_block, answer.content)), finish=_finish(answer.stop_reason))


def _finish(reason: str | None) -> Finish:
    """A reason that nobody has heard of ended the answer all the same."""
    return FINISHES.get(reason or "", Finish.END)


def _block(raw: dict[str, Any]) -> AnswerBlock:
    kind = next(iter(raw), "")
    value = raw.get(kind)
    match kind:
        case "text":
            return Text(text=value if isinstance(value, str) else "")
        case "toolUse" if isinstance(value, dict):
            given = value.get("input")
            arguments = msgspec.json.encode(given if isinstance(given, dict) else {}).decode()
            return ToolCall(id=_string(value, "toolUseId"), name=_string(value, "name"), arguments=arguments)
        case "reasoningContent" if isinstance(value, dict):
            return _thought(value)
        case "image" if isinstance(value, dict):
            source = value.get("source")
            data = source.get("bytes") if isinstance(source, dict) else None
            if isinstance(data, str):
                return Image(source=Inline(f"image/{_string(value, 'format') or 'png'}", data))
            return Foreign(Dialect.BEDROCK_CONVERSE, kind, raw)
        case _:
            return Foreign(Dialect.BEDROCK_CONVERSE, kind, raw)


def _thought(value: Mapping[str, Any]) -> Thinking:
    redacted = _string(value, "redactedContent")
    if redacted:
        return Thinking(sealed=Opaque(FAMILY, redacted), redacted=True)
    told = value.get("reasoningText")
    told = told if isinstance(told, dict) else {}
    signature = _string(told, "signature")
    return Thinking(text=_string(told, "text"), sealed=Opaque.unpacked(signature, FAMILY) if signature else None)


def _string(raw: Mapping[str, Any], name: str) -> str:
    value = raw.get(name)
    return value if isinstance(value, str) else ""


class ReplyReader:
    """The port of the same name.  A block's beginning is told for tool calls alone, and blocks come in sequence."""

    def __init__(self) -> None:
        self._index: int | None = None
        """Of the open block."""
        self._empty_call = False
        """The open block is a tool call without arguments so far."""
        self._finish: Finish | None = None
        self._started = False

    def feed(self, whole: bytes) -> Sequence[ReplyEvent]:
        """Raises VendorFault where unreadable."""
        found: list[ReplyEvent] = []
        try:
            for frame in frames(whole):
                if frame.fails:
                    raise exception_of(frame)
                self._read(frame.kind, read_event(frame.payload), found)
        except (FrameBroken, *UNREADABLE):
            raise VendorFault(FaultKind.MALFORMED, "an event of its stream is not of this dialect") from None
        return found

    def end(self) -> Sequence[ReplyEvent]:
        """The reason to stop is told when all is said: the counts come behind it."""
        found: list[ReplyEvent] = []
        self._start(found)
        self._close(found)
        found.append(Finished(finish=self._finish or Finish.END))
        return found

    def _read(self, kind: str, event: Event, found: list[ReplyEvent]) -> None:
        match kind:
            case "messageStart":
                self._start(found)
            case "contentBlockStart":
                self._start(found)
                if event.start is not None and (call := event.start.tool_use) is not None:
                    self._open(ToolCall(id=call.tool_use_id, name=call.name, arguments=""), event, found)
                    self._empty_call = True
            case "contentBlockDelta":
                self._start(found)
                self._delta(event, found)
            case "contentBlockStop":
                self._close(found)
            case "messageStop":
                self._close(found)
                self._finish = _finish(event.stop_reason)

    def _start(self, found: list[ReplyEvent]) -> None:
        if not self._started:
            self._started = True
            # The wire names neither the answer nor its model.
            found.append(Started(id="", model=""))

    def _open(self, block: AnswerBlock, event: Event, found: list[ReplyEvent]) -> None:
        self._close(found)
        found.append(Opened(block))
        self._index = event.content_block_index

    def _delta(self, event: Event, found: list[ReplyEvent]) -> None:
        delta = event.delta
        if delta is None:
            return
        thought = delta.reasoning_content
        if thought is not None and thought.redacted_content:
            self._open(Thinking(sealed=Opaque(FAMILY, thought.redacted_content), redacted=True), event, found)
            return
        text = delta.written
        if self._index != event.content_block_index and (text or (thought is not None and thought.signature)):
            self._open(Text(text="") if thought is None else Thinking(), event, found)
        if text:
            self._empty_call = False
            found.append(Grew(text))
        if thought is not None and thought.signature:
            found.append(Sealed(Opaque.unpacked(thought.signature, FAMILY)))

    def _close(self, found: list[ReplyEvent]) -> None:
        if self._index is None:
            return
        if self._empty_call:
            self._empty_call = False
            found.append(Grew(_NO_ARGUMENTS))
        self._index = None
        found.append(_CLOSED)
