"""A vendor's Chat Completions answer, whole or streamed, read into the canonical reply.

Vendors take liberties: tool calls without an index or an id, arguments as an object, several calls interleaved,
reasoning under three names or between tags in the text, content as a list of chunks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from adapters.dialects.openai_chat.block_sequence import BlockSequence, Slot, is_json
from adapters.dialects.openai_chat.quirks import STANDARD, Quirks
from adapters.dialects.openai_chat.reasoning import (
    TagSplitter,
    sealing,
    seals_by_call,
    split_whole,
    text_of,
    thinking_of,
)
from adapters.dialects.openai_chat.wire import BROKEN_FINISHES
from adapters.dialects.request_members import UNREADABLE
from adapters.transport.sse import events as sse_events
from domain.inference.conversation import Citation, Image, Inline, Link, Opaque, Refusal, Text, Thinking, ToolCall
from domain.inference.faults import FaultKind, VendorFault
from domain.inference.reply import (
    Cited,
    Finish,
    Finished,
    Grew,
    Reply,
    ReplyEvent,
    Sealed,
    Started,
    SummaryGrew,
    gathered,
)

FINISHES: Final[Mapping[str, Finish]] = {
    "stop": Finish.END,
    "eos": Finish.END,
    "eos_token": Finish.END,
    "stop_sequence": Finish.END,
    "end_turn": Finish.END,
    "length": Finish.LENGTH,
    "max_tokens": Finish.LENGTH,
    "model_length": Finish.CONTEXT,
    "tool_calls": Finish.TOOL,
    "function_call": Finish.TOOL,
    "content_filter": Finish.FILTER,
}
"""Any other word is an end: vendors invent new ones for it."""


class _Message(Struct, gc=False):
    """A message, or a piece of one; what has no one type is read by hand."""

    content: Any = None
    refusal: str | None = None
    reasoning: Any = None
    reasoning_content: Any = None
    reasoning_details: Any = None
    tool_calls: Any = None
    function_call: Any = None
    annotations: Any = None
    images: Any = None


class _Choice(Struct, gc=False):
    index: int | None = None
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: str | None = None


class _Answer(Struct, gc=False):
    id: Any = None
    model: Any = None
    created: Any = None
    choices: list[_Choice] | None = None


_ANSWER = msgspec.json.Decoder(_Answer, strict=False)


def read_reply(body: bytes, quirks: Quirks = STANDARD) -> Reply:
    """Raises VendorFault for what is no answer."""
    answer = _read(body)
    choice = next(iter(answer.choices or ()), None)
    if choice is None or choice.message is None:
        raise VendorFault(FaultKind.MALFORMED, "its answer has no choices")
    reader = ReplyReader(quirks)
    events = [*reader.take(answer, whole=True), *reader.end()]
    return gathered(events)


def _read(data: bytes) -> _Answer:
    try:
        return _ANSWER.decode(data)
    except UNREADABLE:
        raise VendorFault(FaultKind.MALFORMED, "its answer is not JSON of this dialect") from None


class ReplyReader:
    """Reads one answer's chunks into events that come strictly block by block."""

    def __init__(self, quirks: Quirks = STANDARD) -> None:
        self._quirks = quirks
        self._blocks = BlockSequence()
        self._calls: list[Slot] = []
        self._started = False
        self._id = ""
        self._finish: str | None = None
        self._refused = False
        self._tags: TagSplitter | None = None
        self._summary_part = 0

    def feed(self, events: bytes) -> Sequence[ReplyEvent]:
        told: list[ReplyEvent] = []
        for event in sse_events(events):
            if not event.data.startswith(b"[DONE]"):
                told += self.take(_read(event.data))
        return told

    def take(self, answer: _Answer, *, whole: bool = False) -> Sequence[ReplyEvent]:
        """The events of one chunk, or of a whole answer."""
        if not self._started:
            self._start(answer, whole=whole)
        for choice in answer.choices or ():
            # A translated caller asked for one answer; a further one has nowhere to go.
            if choice.index:
                continue
            message = choice.message if whole else choice.delta or choice.message
            if message is not None:
                self._take_message(message, whole=whole)
            if choice.finish_reason:
                if choice.finish_reason in BROKEN_FINISHES:
                    raise VendorFault(FaultKind.BROKEN_OFF, f"it finished with {choice.finish_reason!r}")
                self._finish = choice.finish_reason
        return self._blocks.taken()

    def end(self) -> Sequence[ReplyEvent]:
        if not self._started:
            self._start(_Answer(), whole=False)
        if self._tags is not None:
            self._take_pieces(self._tags.end())
        self._blocks.end()
        self._blocks.put(Finished(finish=self._finish_told()))
        return self._blocks.taken()

    def _start(self, answer: _Answer, *, whole: bool) -> None:
        self._started = True
        model = answer.model if isinstance(answer.model, str) else ""
        created = answer.created if isinstance(answer.created, int) else None
        self._id = answer.id if isinstance(answer.id, str) else ""
        self._blocks.put(Started(id=self._id, model=model, created_s=created))
        if self._quirks.think_tags and not whole:
            self._tags = TagSplitter(opened=any(part in model.lower() for part in self._quirks.think_opened))

    def _finish_told(self) -> Finish:
        finish = FINISHES.get(self._finish or "", Finish.END)
        if self._refused and finish is Finish.END:
            return Finish.FILTER
        # Some vendors stop for a tool and call it an end.
        called = any(slot.name_known for slot in self._calls)
        return Finish.TOOL if finish is Finish.END and called else finish

    # One message

    def _take_message(self, message: _Message, *, whole: bool) -> None:
        details = message.reasoning_details
        if details or message.reasoning_content or message.reasoning:
            # It parts its reasoning from the text itself, and what it calls text is text.
            self._tags = None
        if isinstance(details, list) and details:
            self._take_details(details, message, whole=whole)
        elif thought := message.reasoning_content or message.reasoning:
            self._take_thought(thought)
        content = message.content
        if content:
            if isinstance(content, str):
                self._take_text(content, whole=whole)
            elif isinstance(content, list):
                self._take_chunks(content)
        if message.refusal:
            self._refused = True
            self._blocks.grow(Refusal, message.refusal)
        if message.annotations:
            self._take_annotations(message.annotations)
        if message.images:
            self._take_images(message.images)
        if message.tool_calls or message.function_call:
            self._take_calls(message, whole=whole)

    def _take_calls(self, message: _Message, *, whole: bool) -> None:
        for call in message.tool_calls if isinstance(message.tool_calls, list) else ():
            if isinstance(call, dict):
                self._take_call(call, whole=whole)
        if isinstance(message.function_call, dict):
            self._take_call({"index": 0, "function": message.function_call}, whole=whole)

    def _take_thought(self, thought: object) -> None:
        if isinstance(thought, str):
            self._blocks.grow(Thinking, thought)

    def _take_text(self, text: str, *, whole: bool) -> None:
        if whole and self._quirks.think_tags:
            self._take_pieces(split_whole(text))
        elif self._tags is None or self._tags.passive:
            self._blocks.grow(Text, text)
        else:
            self._take_pieces(self._tags.feed(text))

    def _take_pieces(self, pieces: Iterable[tuple[bool, str]]) -> None:
        for reasoned, text in pieces:
            self._blocks.grow(Thinking if reasoned else Text, text)

    def _take_chunks(self, chunks: list[Any]) -> None:
        """Content as a list: text and thinking in turns."""
        for chunk in chunks:
            if not isinstance(chunk, dict):
                continue
            match chunk.get("type"):
                case "thinking":
                    pieces = chunk.get("thinking")
                    pieces = pieces if isinstance(pieces, list) else [{"text": pieces}]
                    if text := "".join(text_of(piece, "text") for piece in pieces if isinstance(piece, dict)):
                        self._blocks.grow(Thinking, text)
                    signature = text_of(chunk, "signature")
                    if signature and self._quirks.family:
                        self._blocks.seal(Opaque(self._quirks.family, signature))
                case "image_url":
                    self._take_images([chunk])
                case _:
                    if text := text_of(chunk, "text"):
                        self._blocks.grow(Text, text)

    def _take_details(self, details: list[Any], message: _Message, *, whole: bool) -> None:
        plain = message.reasoning_content or message.reasoning
        plain = plain if isinstance(plain, str) else ""
        if whole:
            for block in thinking_of(details, plain):
                self._blocks.add(block)
        else:
            self._take_detail_pieces([each for each in details if isinstance(each, dict)], plain)
        for call_id, seal in seals_by_call(details).items():
            self._seal_call(call_id, seal)

    def _take_detail_pieces(self, details: list[dict[str, Any]], plain: str) -> None:
        told = [each for each in details if not seals_by_call([each])]
        summarised = any(each.get("type") == "reasoning.summary" for each in told)
        text = "".join(text_of(each, "text") for each in told)
        if (text or plain) and not summarised:
            self._blocks.grow(Thinking, text or plain)
        for each in told:
            slot = self._blocks.thinking(redacted=each.get("type") == "reasoning.encrypted")
            if each.get("type") == "reasoning.summary" and (summary := text_of(each, "summary")):
                part = each.get("index")
                self._blocks.tell(slot, SummaryGrew(summary, part if isinstance(part, int) else 0))
            slot.details.append(each)
            if (seal := sealing([each])) is not None and seal.origin != "reasoning_details":
                slot.sealed = True
                self._blocks.tell(slot, Sealed(seal))

    def _take_annotations(self, annotations: object) -> None:
        for each in annotations if isinstance(annotations, list) else ():
            cited = each.get("url_citation") if isinstance(each, dict) else None
            slot = self._blocks.last
            if not isinstance(cited, dict) or slot is None or not isinstance(slot.block, Text):
                continue
            start, end = cited.get("start_index"), cited.get("end_index")
            citation = Citation(
                url=text_of(cited, "url"),
                title=text_of(cited, "title"),
                quoted=text_of(cited, "content"),
                start=start if isinstance(start, int) else None,
                end=end if isinstance(end, int) else None,
            )
            self._blocks.tell(slot, Cited(citation))

    def _take_images(self, images: object) -> None:
        for each in images if isinstance(images, list) else ():
            inner = each.get("image_url") if isinstance(each, dict) else None
            url = inner.get("url") if isinstance(inner, dict) else inner
            if not isinstance(url, str) or not url:
                continue
            head, comma, data = url.removeprefix("data:").partition(";base64,")
            source = Inline(head, data) if comma and url.startswith("data:") else Link(url)
            self._blocks.add(Image(source=source))

    # Tool calls

    def _take_call(self, told: dict[str, Any], *, whole: bool) -> None:
        inner = told.get("function") or told.get("custom")
        inner = inner if isinstance(inner, dict) else {}
        id_ = told.get("id")
        id_ = id_ if isinstance(id_, str) and id_ not in ("", "null") else ""
        index = told.get("index")
        index = index if isinstance(index, int) and not whole else None
        slot = None if whole else self._call_slot(index, id_, named=bool(inner.get("name")))
        name = inner.get("name")
        name = name if isinstance(name, str) else ""
        if slot is None:
            number = len(self._calls)
            custom = told.get("type") == "custom" or "custom" in told
            call = ToolCall(id=id_ or self._made_id(number, name), name=name, arguments="", custom=custom)
            slot = Slot(call, index)
            self._calls.append(slot)
            self._blocks.append(slot)
        elif not slot.name_known and name:
            assert isinstance(slot.block, ToolCall)
            slot.block = msgspec.structs.replace(slot.block, name=name, id=id_ or slot.block.id)
            slot.name_known = True
            self._blocks.advance()
        arguments = inner.get("arguments", inner.get("input"))
        if isinstance(arguments, dict | list):
            arguments = msgspec.json.encode(arguments).decode()
        if isinstance(arguments, str) and arguments:
            slot.told.append(arguments)
            self._blocks.tell(slot, Grew(arguments))

    def _call_slot(self, index: int | None, id_: str, *, named: bool) -> Slot | None:
        """The call that a piece belongs to: by index, where a new id means a new call; else by id, else the last."""
        calls = self._calls
        if index is not None:
            found = next((slot for slot in reversed(calls) if slot.index == index), None)
            return None if found is not None and id_ and named and self._is_other(found, id_) else found
        if id_:
            return next((slot for slot in calls if isinstance(slot.block, ToolCall) and slot.block.id == id_), None)
        if not calls or (named and calls[-1].name_known and is_json(calls[-1].told)):
            return None
        return calls[-1]

    @staticmethod
    def _is_other(slot: Slot, id_: str) -> bool:
        return slot.name_known and isinstance(slot.block, ToolCall) and slot.block.id != id_

    def _made_id(self, number: int, name: str) -> str:
        """The same for the same answer, and another for another one."""
        return "call_" + hashlib.sha256(f"{self._id}|{number}|{name}".encode()).hexdigest()[:24]

    def _seal_call(self, call_id: str, seal: Opaque) -> None:
        for slot in self._calls:
            if isinstance(slot.block, ToolCall) and slot.block.id == call_id and not slot.closed:
                self._blocks.tell(slot, Sealed(seal))
