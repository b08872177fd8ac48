"""The canonical reply, written as a Chat Completions answer for a caller, whole or streamed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from adapters.dialects.custom_tools import restored
from adapters.dialects.openai_chat.reasoning import call_seal, details_of, summary_detail
from adapters.dialects.openai_chat.server import DONE
from adapters.dialects.openai_chat.wire import written_usage
from adapters.dialects.request_members import UNREADABLE
from domain.inference.chat import ChatCall
from domain.inference.conversation import Citation, Image, Inline, Link, Refusal, Text, Thinking, ToolCall
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

FINISHES: Final[Mapping[Finish, str]] = {
    Finish.END: "stop",
    Finish.LENGTH: "length",
    Finish.CONTEXT: "length",
    Finish.TOOL: "tool_calls",
    Finish.STOP_SEQUENCE: "stop",
    Finish.FILTER: "content_filter",
    Finish.PAUSE: "stop",
}
LOSSES: Final[Mapping[str, str]] = {
    "stop_sequence": "This dialect does not say which of the stop sequences ended an answer.",
    "context": "A full context window ends an answer like the output limit.",
    "pause": "An answer that waits for the vendor's own tools looks finished.",
    "server tools": "Calls and results of tools that another dialect's server runs have no place in an answer.",
    "order": "In a whole answer the text stands in one piece, before the calls and behind the reasoning.",
}
"""What an answer of another dialect cannot say in this one, and why."""

BETWEEN_THOUGHTS: Final = "\n\n"

_encode = msgspec.json.encode


def write_reply(reply: Reply, usage: Usage, call: ChatCall) -> bytes:
    message, refused = _message(reply, _custom_names(call))
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": _finish(reply.finish, refused=refused),
    }
    return _encode(
        {
            "id": reply.id or _made_id(call),
            "object": "chat.completion",
            "created": reply.created_s or call.at_s,
            "model": reply.model or call.vendor_model,
            "choices": [choice],
            "usage": written_usage(usage),
        }
    )


def _message(reply: Reply, custom: Collection[str]) -> tuple[Json, bool]:
    texts: list[str] = []
    thoughts: list[str] = []
    refusals: list[str] = []
    annotations: list[Json] = []
    details: list[Json] = []
    calls: list[Json] = []
    images: list[Json] = []
    length = 0
    for block in reply.blocks:
        match block:
            case Text():
                annotations += [_annotation(citation, length) for citation in block.citations]
                texts.append(block.text)
                length += len(block.text)
            case Thinking():
                if shown := block.text or BETWEEN_THOUGHTS.join(block.summary):
                    thoughts.append(shown)
                details += details_of(block, len(thoughts))
            case ToolCall():
                calls.append(_whole_call(restored(block, custom)))
                if block.sealed is not None:
                    details.append(call_seal(block.id, block.sealed))
            case Refusal():
                refusals.append(block.text)
            case Image():
                images.append(_image(block))
    message: Json = {
        "role": "assistant",
        "content": "".join(texts) if texts or not (calls or refusals) else None,
        "refusal": BETWEEN_THOUGHTS.join(refusals) if refusals else None,
        "annotations": annotations,
    }
    if thoughts:
        message["reasoning_content"] = message["reasoning"] = BETWEEN_THOUGHTS.join(thoughts)
    if details:
        message["reasoning_details"] = details
    if calls:
        message["tool_calls"] = calls
    if images:
        message["images"] = images
    return message, bool(refusals)


def _whole_call(call: ToolCall) -> Json:
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}


def _annotation(citation: Citation, before: int) -> Json:
    """Offsets are characters of the whole content, of which `before` stand before the cited text."""
    cited: Json = {"url": citation.url, "title": citation.title}
    if citation.quoted:
        cited["content"] = citation.quoted
    cited["start_index"] = before + (citation.start or 0)
    cited["end_index"] = before + (citation.end or 0)
    return {"type": "url_citation", "url_citation": cited}


def _image(block: Image) -> Json:
    match block.source:
        case Inline(media_type, data):
            url = f"data:{media_type};base64,{data}"
        case Link(url):
            pass
        case stored:
            url = stored.id
    return {"type": "image_url", "image_url": {"url": url}}


def _finish(finish: Finish, *, refused: bool) -> str:
    # A refusal in words ends like any answer of this dialect; the words say what it is.
    return "stop" if refused and finish is Finish.FILTER else FINISHES[finish]


def _made_id(call: ChatCall) -> str:
    return f"chatcmpl-{call.id}"


class _Custom(msgspec.Struct):
    name: str = ""


class _Tool(msgspec.Struct):
    type: str = ""
    custom: _Custom | None = None


class _Tools(msgspec.Struct):
    tools: list[_Tool] | None = None


def _custom_names(call: ChatCall) -> frozenset[str]:
    """The custom tools of the caller's request: a vendor may know them as functions alone."""
    body = call.request.body
    if b'"custom"' not in body:
        return frozenset()
    try:
        tools = msgspec.json.decode(body, type=_Tools).tools or []
    except UNREADABLE:
        return frozenset()
    return frozenset(tool.custom.name for tool in tools if tool.custom is not None)


class ReplyWriter:
    """Writes one stream's chunks; whatever the events are, what it writes is a sequence that callers can read."""

    def __init__(self, call: ChatCall) -> None:
        self._call = call
        self._custom = _custom_names(call)
        self._head = b""
        self._wants_usage = call.request.wants_usage
        self._open: AnswerBlock | None = None
        self._calls = 0
        self._thoughts = 0
        self._length = self._block_length = 0
        self._held: list[str] | None = None
        """A call's arguments that are told only when they are whole."""
        self._refused = False
        self._finish: Finish | None = None
        self._summed = self._thought_sealed = self._thought_open = False

    def write(self, events: Sequence[ReplyEvent], usage: Usage | None) -> bytes:
        return b"".join([self._written(event) for event in events])

    def end(self, usage: Usage) -> bytes:
        frames = b"" if self._head else self._start("", "", None)
        finish = _finish(self._finish or Finish.END, refused=self._refused)
        frames += self._chunk(b"{}", finish)
        if self._wants_usage:
            frames += b'data: %b"choices":[],"usage":%b}\n\n' % (self._head, _encode(written_usage(usage)))
        return frames + DONE

    def _written(self, event: ReplyEvent) -> bytes:  # noqa: PLR0911 - one return per kind of event
        if isinstance(event, Started):
            return b"" if self._head else self._start(event.id, event.model, event.created_s)
        if not self._head:
            return self._start("", "", None) + self._written(event)
        match event:
            case Grew():
                return self._grew(event.text)
            case Opened():
                return self._opened(event.block)
            case SummaryGrew():
                return self._summary(event)
            case Sealed():
                return self._sealed(event)
            case Cited():
                return self._delta({"annotations": [_annotation(event.citation, self._length)]})
            case Closed():
                return self._closed()
            case Finished():
                self._finish = event.finish
        return b""

    def _start(self, id_: str, model: str, created_s: int | None) -> bytes:
        call = self._call
        head = {
            "id": id_ or _made_id(call),
            "object": "chat.completion.chunk",
            "created": created_s or call.at_s,
            "model": model or call.vendor_model,
        }
        self._head = _encode(head)[:-1] + b","
        return self._chunk(b'{"role":"assistant","content":""}')

    def _opened(self, block: AnswerBlock) -> bytes:
        self._open = block
        self._block_length = 0
        self._thought_sealed = False
        match block:
            case Text():
                frames = self._grew(block.text) if block.text else b""
                return frames + b"".join(
                    self._delta({"annotations": [_annotation(each, self._length)]}) for each in block.citations
                )
            case Thinking():
                return self._opened_thinking(block)
            case ToolCall():
                return self._opened_call(block)
            case Refusal():
                self._refused = True
                return self._grew(block.text) if block.text else b""
            case Image():
                return self._delta({"images": [_image(block)]})
        return b""

    def _opened_thinking(self, block: Thinking) -> bytes:
        self._summed = False
        frames = b""
        if self._thought_open and not block.redacted:
            frames += self._thought(BETWEEN_THOUGHTS)
        if not block.redacted:
            self._thoughts += 1
        for part, text in enumerate(block.summary):
            frames += self._summary(SummaryGrew(text, part))
        if block.text:
            frames += self._thought(block.text)
        return frames + (self._sealed(Sealed(block.sealed)) if block.sealed is not None else b"")

    def _opened_call(self, block: ToolCall) -> bytes:
        if block.name in self._custom and not block.custom:
            # The text is known only when the arguments around it are whole.
            self._held = [block.arguments]
            return b""
        kind, argument = ("custom", "input") if block.custom else ("function", "arguments")
        told = {"index": self._calls, "id": block.id, "type": kind, kind: {"name": block.name, argument: ""}}
        frames = self._delta({"tool_calls": [told]})
        if block.sealed is not None:
            frames += self._sealed(Sealed(block.sealed))
        return frames + (self._grew(block.arguments) if block.arguments else b"")

    def _grew(self, text: str) -> bytes:
        block = self._open
        self._block_length += len(text)
        if isinstance(block, Text):
            return self._chunk(b'{"content":%b}' % _encode(text))
        if isinstance(block, Thinking):
            return self._thought(text)
        if isinstance(block, ToolCall):
            if self._held is not None:
                self._held.append(text)
                return b""
            kind = b'"custom":{"input":%b}' if block.custom else b'"function":{"arguments":%b}'
            return self._chunk(b'{"tool_calls":[{"index":%d,%b}]}' % (self._calls, kind % _encode(text)))
        return self._chunk(b'{"refusal":%b}' % _encode(text)) if isinstance(block, Refusal) else b""

    def _thought(self, text: str) -> bytes:
        told = _encode(text)
        return self._chunk(b'{"reasoning_content":%b,"reasoning":%b}' % (told, told))

    def _summary(self, event: SummaryGrew) -> bytes:
        if not isinstance(self._open, Thinking):
            return b""
        self._summed = True
        told = _encode(event.text)
        details = _encode([summary_detail(event.text, event.part)])
        return self._chunk(b'{"reasoning_content":%b,"reasoning":%b,"reasoning_details":%b}' % (told, told, details))

    def _sealed(self, event: Sealed) -> bytes:
        block = self._open
        if isinstance(block, ToolCall):
            return self._delta({"reasoning_details": [call_seal(block.id, event.sealed)]})
        if isinstance(block, Thinking):
            self._thought_sealed = True
            shell = Thinking(sealed=event.sealed, redacted=block.redacted or self._summed)
            return self._delta({"reasoning_details": details_of(shell, self._thoughts)})
        return b""

    def _closed(self) -> bytes:
        block, self._open = self._open, None
        frames = b""
        # Thoughts that follow one another would read as one, unless a seal parts them.
        self._thought_open = isinstance(block, Thinking) and not block.redacted and not self._thought_sealed
        if isinstance(block, Text):
            self._length += self._block_length
        elif isinstance(block, ToolCall):
            if self._held is not None:
                call = restored(msgspec.structs.replace(block, arguments="".join(self._held)), self._custom)
                frames = self._delta({"tool_calls": [{"index": self._calls, **_whole_call(call)}]})
                if block.sealed is not None:
                    frames += self._delta({"reasoning_details": [call_seal(block.id, block.sealed)]})
                self._held = None
            elif not self._block_length:
                # Callers parse the arguments, and an empty string is no JSON.
                self._open = block
                frames = b"" if block.custom else self._grew("{}")
                self._open = None
            self._calls += 1
        return frames

    def _delta(self, delta: Json) -> bytes:
        return self._chunk(_encode(delta))

    def _chunk(self, delta: bytes, finish: str | None = None) -> bytes:
        return b'data: %b"choices":[{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}]%b}\n\n' % (
            self._head,
            delta,
            b'"%b"' % finish.encode() if finish else b"null",
            b',"usage":null' if self._wants_usage else b"",
        )
