"""The canonical reply, whole or streamed, written as Anthropic's clients read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from adapters.dialects.anthropic.conversation_writer import valid_id
from adapters.dialects.anthropic.seals import call_seal, shown, signature_of
from adapters.dialects.anthropic.wire import STOP_REASONS, written_usage
from adapters.dialects.custom_tools import arguments_of
from domain.catalog import Dialect
from domain.inference.chat import ChatCall
from domain.inference.conversation import (
    Citation,
    Extras,
    Foreign,
    Image,
    Inline,
    Link,
    Opaque,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from domain.inference.holds import prompt_usage
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
    SummaryGrew,
)
from domain.usage import Usage

Json = dict[str, Any]

REPLY_LOSSES: Final[Mapping[str, str]] = {
    "images": "A picture that the model made is written as a link in Markdown.",
    "refusal": "A refusal is the text of an answer that stops with `refusal`.",
    "created": "An answer says nothing of its time.",
}
"""What of an answer cannot be said in this dialect, and what becomes of it."""

SUMMARY_GAP: Final = "\n\n"

_encode = msgspec.json.Encoder().encode


def write_reply(reply: Reply, usage: Usage, call: ChatCall) -> bytes:
    refused = any(isinstance(block, Refusal) for block in reply.blocks)
    message = {
        "id": _message_id(reply.id, call),
        "type": "message",
        "role": "assistant",
        "model": reply.model or call.request.model,
        "content": [written for block in reply.blocks for written in _whole(block)],
        "stop_reason": _stop_reason(reply.finish, refused=refused),
        "stop_sequence": reply.stop_sequence,
        **_own(reply.extras),
        "usage": written_usage(usage),
    }
    return _encode(message)


def _message_id(vendors: str, call: ChatCall) -> str:
    """The vendor's where it is one of this dialect's."""
    return vendors if vendors.startswith("msg_") else f"msg_{call.id}"


def _stop_reason(finish: Finish, *, refused: bool) -> str:
    return STOP_REASONS[Finish.FILTER if refused and finish is Finish.END else finish]


def _own(extras: Extras | None) -> Mapping[str, Any]:
    return extras.members if extras is not None and extras.dialect is Dialect.ANTHROPIC else {}


def _whole(block: AnswerBlock) -> list[Json]:
    """The blocks that stand for one; none for what is empty, because nobody may send it back."""
    match block:
        case Text():
            if not block.text:
                return []
            written: Json = {"type": "text", "text": block.text}
            if block.citations:
                written["citations"] = [_citation(each) for each in block.citations]
            return [written]
        case Thinking():
            return _thought(block)
        case ToolCall():
            call: Json = {"type": "tool_use", "id": valid_id(block.id), "name": block.name, "input": _input(block)}
            seal = [] if block.sealed is None else [call_seal(valid_id(block.id), block.sealed)]
            return [*seal, call | dict(_own(block.extras))]
        case Refusal():
            return [{"type": "text", "text": block.text}] if block.text else []
        case Image():
            return [{"type": "text", "text": _markdown(block)}]
        case Foreign():
            return [dict(block.raw)] if block.dialect is Dialect.ANTHROPIC else []


def _thought(block: Thinking) -> list[Json]:
    text, signature = shown(block), signature_of(block.sealed)
    if block.redacted:
        return [{"type": "redacted_thinking", "data": signature}] if signature else []
    return [{"type": "thinking", "thinking": text, "signature": signature}] if text or signature else []


def _citation(citation: Citation) -> Mapping[str, Any]:
    """Anthropic's own as it was; any other as the nearest kind, with the index that only Anthropic gives left empty."""
    if own := _own(citation.extras):
        return own
    return {
        "type": "web_search_result_location",
        "url": citation.url,
        "title": citation.title,
        "cited_text": citation.quoted,
        "encrypted_index": "",
    }


def _input(call: ToolCall) -> Any:
    """The arguments as an object; what the model wrote amiss is wrapped, because the dialect knows objects alone."""
    text = arguments_of(call.arguments) if call.custom else call.arguments
    if not text.strip():
        return {}
    encoded = text.encode("utf-8", "surrogatepass")
    try:
        if isinstance(msgspec.json.decode(encoded), dict):
            return Raw(encoded)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        pass
    return {"_raw": encoded.decode("utf-8", "replace")}


def _markdown(image: Image) -> str:
    source = image.source
    if isinstance(source, Inline):
        return f"![image](data:{source.media_type};base64,{source.data})"
    return f"![image]({source.url})" if isinstance(source, Link) else "[image]"


_HEAD: Final = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b":%b}}\n\n'
)
_TEXT: Final = b'text_delta","text'
_THINKING: Final = b'thinking_delta","thinking'
_JSON: Final = b'input_json_delta","partial_json'
_SIGNATURE: Final = b'signature_delta","signature'
_CITATION: Final = b'citations_delta","citation'


_CUSTOM_HEAD: Final = arguments_of("")[:-2]
_CUSTOM_END: Final = arguments_of("")[-2:]


def _event(name: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode({"type": name, **members}))


class ReplyWriter:
    """The port of the same name.

    Whatever the events are, what is written is a sequence that the dialect allows: one message, its blocks one after
    another and each closed, no block that is empty, one finish.
    """

    def __init__(self, call: ChatCall) -> None:
        self._call = call
        self._started = False
        self._index = 0
        self._waiting: AnswerBlock | None = None
        """Opened, but nothing to show of it yet; a block without anything is never written."""
        self._open: AnswerBlock | None = None
        self._part = 0
        """Of a summary, the one that grew last."""
        self._cited: list[Citation] = []
        """Of a text that has not begun."""
        self._seal: Opaque | None = None
        """Of the open block, to be written at its end."""
        self._finish: Finished | None = None
        self._refused = False
        self._out: list[bytes] = []

    def write(self, events: Sequence[ReplyEvent], usage: Usage | None) -> bytes:
        for event in events:
            if self._finish is None:
                self._take(event, usage)
        return self._taken()

    def end(self, usage: Usage) -> bytes:
        self._start(None, usage)
        self._close()
        finish = self._finish or Finished(finish=Finish.END)
        delta = {
            "stop_reason": _stop_reason(finish.finish, refused=self._refused),
            "stop_sequence": finish.stop_sequence,
            **_own(finish.extras),
        }
        counts = written_usage(usage)
        # The type of a stream's last counts has the sum of what was cached alone.
        counts.pop("cache_creation", None)
        self._out.append(_event("message_delta", delta=delta, usage=counts))
        self._out.append(_event("message_stop"))
        return self._taken()

    def _taken(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out

    def _take(self, event: ReplyEvent, usage: Usage | None) -> None:
        match event:
            case Grew():
                if event.text:
                    self._grow(event.text)
            case Started():
                self._start(event, usage)
            case Opened():
                self._start(None, usage)
                self._close()
                self._begin(event.block)
            case SummaryGrew():
                if event.text:
                    self._grow_summary(event)
            case Sealed():
                self._seal = event.sealed
            case Cited():
                if isinstance(self._waiting, Text):
                    self._cited.append(event.citation)
                elif isinstance(self._open, Text):
                    self._delta(_CITATION, _encode(_citation(event.citation)))
            case Closed():
                self._close()
            case Finished():
                self._start(None, usage)
                self._close()
                self._finish = event

    def _start(self, started: Started | None, usage: Usage | None) -> None:
        if self._started:
            return
        self._started = True
        call = self._call
        message: Json = {
            "id": _message_id("" if started is None else started.id, call),
            "type": "message",
            "role": "assistant",
            "model": (started and started.model) or call.request.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            # An estimate, until the end says better: some clients show how full their context is from here on.
            "usage": written_usage(usage or prompt_usage(call.request)),
        }
        self._out.append(_event("message_start", message=message))

    def _begin(self, block: AnswerBlock) -> None:
        self._seal, self._part = None, 0
        self._cited.clear()
        match block:
            case Text():
                self._waiting = Text(text="")
                self._cited += block.citations
                if block.text:
                    self._grow(block.text)
            case Thinking():
                self._waiting, self._seal = Thinking(redacted=block.redacted), block.sealed
                if text := shown(block):
                    self._part = max(len(block.summary) - 1, 0)
                    self._grow(text)
            case ToolCall():
                if block.sealed is not None:
                    self._write_whole(call_seal(valid_id(block.id), block.sealed))
                self._waiting = block
                self._shown()
                if block.custom:
                    self._delta(_JSON, _encode(_CUSTOM_HEAD))
                if block.arguments:
                    self._grow(block.arguments)
            case Refusal():
                self._refused = True
                self._waiting = Text(text="")
                if block.text:
                    self._grow(block.text)
            case Image() | Foreign():
                for raw in _whole(block):
                    self._write_whole(raw)

    def _shown(self) -> AnswerBlock | None:
        """The open block, whose beginning is written by now."""
        if self._waiting is not None:
            block = self._open = self._waiting
            self._waiting = None
            match block:
                case ToolCall():
                    raw: Json = {"type": "tool_use", "id": valid_id(block.id), "name": block.name, "input": {}}
                    raw |= _own(block.extras)
                case Thinking():
                    raw = {"type": "thinking", "thinking": "", "signature": ""}
                case _:
                    raw = {"type": "text", "text": ""}
            self._out.append(_event("content_block_start", index=self._index, content_block=raw))
            for citation in self._cited:
                self._delta(_CITATION, _encode(_citation(citation)))
            self._cited.clear()
        return self._open

    def _grow(self, text: str) -> None:
        if self._open is None and self._waiting is None:
            self._start(None, None)
            self._waiting = Text(text="")
        waiting = self._waiting
        if isinstance(waiting, Thinking) and waiting.redacted:
            return
        block = self._shown()
        if isinstance(block, ToolCall):
            if not block.custom:
                self._delta(_JSON, _encode(text))
            else:
                # A piece of a JSON string inside a JSON string.
                self._delta(_JSON, _encode(_encode(text)[1:-1].decode()))
        else:
            self._delta(_THINKING if isinstance(block, Thinking) else _TEXT, _encode(text))

    def _grow_summary(self, event: SummaryGrew) -> None:
        if event.part != self._part:
            self._part = event.part
            if isinstance(self._open, Thinking):
                self._grow(SUMMARY_GAP)
        self._grow(event.text)

    def _delta(self, kind: bytes, encoded: bytes) -> None:
        self._out.append(_HEAD % (self._index, kind, encoded))

    def _close(self) -> None:
        seal, self._seal = self._seal, None
        waiting = self._waiting
        if isinstance(waiting, Thinking) and seal is not None:
            if waiting.redacted:
                self._waiting = None
                self._write_whole({"type": "redacted_thinking", "data": signature_of(seal)})
                return
            self._shown()
        self._waiting = None
        block = self._open
        if block is None:
            return
        if isinstance(block, Thinking) and seal is not None:
            self._delta(_SIGNATURE, _encode(signature_of(seal)))
        elif isinstance(block, ToolCall) and block.custom:
            self._delta(_JSON, _encode(_CUSTOM_END))
        self._stop()
        if isinstance(block, ToolCall) and seal is not None:
            self._write_whole(call_seal(valid_id(block.id), seal))

    def _write_whole(self, raw: Mapping[str, Any]) -> None:
        """A block that has no pieces."""
        self._start(None, None)
        if raw.get("type") == "text":
            self._out.append(_event("content_block_start", index=self._index, content_block={**raw, "text": ""}))
            self._delta(_TEXT, _encode(raw["text"]))
        else:
            self._out.append(_event("content_block_start", index=self._index, content_block=raw))
        self._stop()

    def _stop(self) -> None:
        self._out.append(_event("content_block_stop", index=self._index))
        self._index += 1
        self._open = None
