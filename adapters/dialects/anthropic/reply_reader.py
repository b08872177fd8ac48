"""A vendor's answer in this dialect, whole or streamed, read into the canonical reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from adapters.dialects.anthropic.conversation_reader import ANTHROPIC, citation_of
from adapters.dialects.anthropic.errors import error_of
from adapters.dialects.anthropic.seals import FAMILY, thinking_of
from adapters.dialects.anthropic.wire import (
    FINISHES,
    UNREADABLE,
    Event,
    event_payloads,
    read_body,
    read_event,
)
from adapters.transport.sse import events
from domain.inference.conversation import Extras, Foreign, Opaque, Text, Thinking, ToolCall
from domain.inference.faults import FaultKind, VendorFault
from domain.inference.reply import (
    AnswerBlock,
    Cited,
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

_CLOSED = Closed()
_NO_ARGUMENTS = "{}"


def read_reply(body: bytes) -> Reply:
    """Raises VendorFault for what is no answer."""
    try:
        answer = read_body(body)
    except UNREADABLE:
        raise VendorFault(FaultKind.MALFORMED, "its answer is not JSON of this dialect") from None
    if answer.content is None:
        raise VendorFault(FaultKind.MALFORMED, "its answer has no content")
    return Reply(
        id=answer.id if isinstance(answer.id, str) else "",
        model=answer.model if isinstance(answer.model, str) else "",
        blocks=tuple(_block(raw) for raw in answer.content),
        finish=_finish(answer.stop_reason),
        stop_sequence=answer.stop_sequence,
        extras=_details(answer.stop_details),
    )


def _finish(reason: str | None) -> Finish:
    """A reason that nobody has heard of ended the answer all the same."""
    return FINISHES.get(reason or "", Finish.END)


def _details(stop_details: Any) -> Extras | None:
    return Extras(ANTHROPIC, {"stop_details": stop_details}) if stop_details else None


def _block(raw: dict[str, Any]) -> AnswerBlock:
    match raw.get("type"):
        case "text":
            cited = raw.get("citations") or []
            citations = tuple(citation_of(each) for each in cited if isinstance(each, dict))
            return Text(text=_string(raw, "text"), citations=citations)
        case "thinking":
            return thinking_of(_string(raw, "thinking"), _string(raw, "signature"))
        case "redacted_thinking":
            return thinking_of("", _string(raw, "data"), redacted=True)
        case "tool_use":
            given = raw.get("input")
            arguments = msgspec.json.encode(given if isinstance(given, dict) else {}).decode()
            return ToolCall(
                id=_string(raw, "id"), name=_string(raw, "name"), arguments=arguments, extras=_beside_call(raw)
            )
        case kind:
            return Foreign(ANTHROPIC, kind if isinstance(kind, str) else "", raw)


def _string(raw: Mapping[str, Any], name: str) -> str:
    value = raw.get(name)
    return value if isinstance(value, str) else ""


def _beside_call(raw: Mapping[str, Any]) -> Extras | None:
    beside = {name: value for name, value in raw.items() if name not in ("type", "id", "name", "input") and value}
    return Extras(ANTHROPIC, beside) if beside else None


class ReplyReader:
    """The port of the same name.  Blocks come in sequence in this dialect, so that nothing needs to be put in order."""

    def __init__(self) -> None:
        self._open = False
        self._foreign: tuple[dict[str, Any], list[str]] | None = None
        """A block that is known only when it is whole, and the pieces of its input."""
        self._finished = False
        self._empty = False
        """The open block is a tool call without arguments so far."""

    def feed(self, whole: bytes) -> Sequence[ReplyEvent]:
        """Raises VendorFault where unreadable."""
        found: list[ReplyEvent] = []
        try:
            for payload in event_payloads(whole) or [event.data for event in events(whole)]:
                self._read(read_event(payload), found)
        except UNREADABLE:
            raise VendorFault(FaultKind.MALFORMED, "an event of its stream is not JSON of this dialect") from None
        return found

    def end(self) -> Sequence[ReplyEvent]:
        return []

    def _read(self, event: Event, found: list[ReplyEvent]) -> None:
        match event.type:
            case "content_block_delta":
                self._delta(event, found)
            case "content_block_start":
                self._close(found)
                self._begin(event.content_block or {}, found)
            case "content_block_stop":
                self._close(found)
            case "message_start":
                message = event.message
                id_, model = (None, None) if message is None else (message.id, message.model)
                found.append(
                    Started(id=id_ if isinstance(id_, str) else "", model=model if isinstance(model, str) else "")
                )
            case "message_delta":
                self._finish(event, found)
            case "error":
                raise error_of(None, {}, event.error)

    def _begin(self, raw: dict[str, Any], found: list[ReplyEvent]) -> None:
        block = _block(raw)
        if isinstance(block, Foreign):
            self._foreign = (raw, [])
            return
        if isinstance(block, Text) and block.citations:
            found.append(Opened(Text(text=block.text)))
            found += [Cited(citation) for citation in block.citations]
        elif isinstance(block, ToolCall):
            # The arguments come in pieces, or not at all; only servers that imitate the dialect give them here.
            self._empty = block.arguments == _NO_ARGUMENTS
            found.append(Opened(replace(block, arguments="") if self._empty else block))
        else:
            found.append(Opened(block))
        self._open = True

    def _delta(self, event: Event, found: list[ReplyEvent]) -> None:
        delta = event.delta
        if delta is None:
            return
        if self._foreign is not None:
            self._foreign[1].append(delta.partial_json)
            return
        text = delta.text or delta.thinking or delta.partial_json
        if not self._open:
            # Servers that imitate the dialect forget the beginning of a block.
            opened = Thinking() if delta.type in ("thinking_delta", "signature_delta") else Text(text="")
            found.append(Opened(opened))
            self._open = True
        if text:
            self._empty = False
            found.append(Grew(text))
        elif delta.signature:
            found.append(Sealed(Opaque.unpacked(delta.signature, FAMILY)))
        elif isinstance(delta.citation, dict):
            found.append(Cited(citation_of(delta.citation)))

    def _close(self, found: list[ReplyEvent]) -> None:
        if self._foreign is not None:
            raw, pieces = self._foreign
            self._foreign = None
            if any(pieces):
                try:
                    raw = {**raw, "input": msgspec.json.decode("".join(pieces))}
                except msgspec.MsgspecError:
                    # Cut off in its middle; what it would have been is not known.
                    raw = {**raw, "input": {}}
            found.append(Opened(_block(raw)))
            found.append(_CLOSED)
        elif self._open:
            if self._empty:
                self._empty = False
                found.append(Grew(_NO_ARGUMENTS))
            self._open = False
            found.append(_CLOSED)

    def _finish(self, event: Event, found: list[ReplyEvent]) -> None:
        delta = event.delta
        if delta is None or not delta.stop_reason or self._finished:
            return
        self._finished = True
        self._close(found)
        found.append(
            Finished(
                finish=_finish(delta.stop_reason),
                stop_sequence=delta.stop_sequence,
                extras=_details(delta.stop_details),
            )
        )
