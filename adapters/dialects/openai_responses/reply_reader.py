"""A vendor's Responses answer, read into the canonical reply, whole and event by event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from adapters.dialects.object_members import Json
from adapters.dialects.openai_responses.conversation_reader import NAMESPACE, ORIGIN, OURS
from adapters.dialects.openai_responses.wire import UNREADABLE
from adapters.transport.sse import events as read_events
from domain.inference.conversation import (
    Citation,
    Foreign,
    Image,
    Inline,
    Opaque,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
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
    SummaryGrew,
)

_REASONS: Final[Mapping[str, Finish]] = {
    "max_output_tokens": Finish.LENGTH,
    "max_tokens": Finish.LENGTH,
    "max_messages": Finish.LENGTH,
    "content_filter": Finish.FILTER,
    "steered": Finish.END,
}


def read_reply(body: bytes) -> Reply:
    """Raises VendorFault for what is no answer."""
    answer = _decoded(body)
    blocks = [block for item in _list(answer.get("output")) for block in blocks_of(item)]
    return Reply(
        id=_text(answer.get("id")),
        model=_text(answer.get("model")),
        blocks=tuple(blocks),
        finish=finish_of(answer, blocks),
        created_s=_whole(answer.get("created_at")),
    )


def blocks_of(item: object) -> list[AnswerBlock]:
    """What an item of `output` is."""
    if not isinstance(item, dict):
        return []
    match item.get("type"):
        case "message":
            return [block for part in _list(item.get("content")) if (block := _part(part)) is not None]
        case "reasoning":
            summary = tuple(_text(part.get("text")) for part in _list(item.get("summary")) if isinstance(part, dict))
            text = "".join(_text(part.get("text")) for part in _list(item.get("content")) if isinstance(part, dict))
            return [Thinking(text=text, summary=summary, sealed=_seal(item))]
        case "function_call" | "custom_tool_call":
            return [_call(item, opened=False)]
        case "image_generation_call":
            shown = item.get("result")
            return [Image(source=Inline("image/png", shown))] if isinstance(shown, str) and shown else []
        case str() as kind:
            return [Foreign(OURS, kind, item)]
    return []


def finish_of(answer: Json, blocks: Sequence[AnswerBlock]) -> Finish:
    status = answer.get("status")
    if status in ("failed", "cancelled"):
        raise VendorFault(FaultKind.BROKEN_OFF, f"its answer is {status}")
    if status == "incomplete":
        details = answer.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        return _REASONS.get(_text(reason), Finish.LENGTH)
    if any(isinstance(block, ToolCall) for block in blocks):
        return Finish.TOOL
    return Finish.FILTER if any(isinstance(block, Refusal) for block in blocks) else Finish.END


class ResponsesReplyReader:
    """Reads one stream: the protocol `ReplyReader`.

    Items are open one after another in all streams of this dialect that are known; should a vendor ever interleave
    them, what belongs to a later item waits until the earlier one is done.
    """

    def __init__(self) -> None:
        self._open: int | None = None
        """The output index of the item whose blocks are being told."""
        self._waiting: dict[int, list[Json]] = {}
        self._kind: type[AnswerBlock] | None = None
        """Of the open block; None between blocks."""
        self._grown = False
        self._called = self._refused = False
        self._told = 0

    def feed(self, events: bytes) -> Sequence[ReplyEvent]:
        found: list[ReplyEvent] = []
        for event in read_events(events):
            if event.data.startswith(b"[DONE]"):
                continue
            self._read(_decoded(event.data), found)
        return found

    def end(self) -> Sequence[ReplyEvent]:
        return [Closed()] if self._kind is not None else []

    def _read(self, event: Json, found: list[ReplyEvent]) -> None:
        kind = _text(event.get("type"))
        if kind in ("response.created", "response.in_progress", "response.queued"):
            answer = event.get("response")
            if kind == "response.created" and isinstance(answer, dict):
                created_s = _whole(answer.get("created_at"))
                found.append(Started(id=_text(answer.get("id")), model=_text(answer.get("model")), created_s=created_s))
            return
        if kind in ("response.completed", "response.incomplete"):
            self._ended(event, found)
            return
        at = event.get("output_index")
        if not isinstance(at, int):
            return
        if self._open is None and kind == "response.output_item.added":
            self._open = at
        if at != self._open:
            self._waiting.setdefault(at, []).append(event)
            return
        self._of_item(kind, event, found)

    def _of_item(self, kind: str, event: Json, found: list[ReplyEvent]) -> None:
        match kind:
            case "response.output_item.added":
                self._item_added(event.get("item"), found)
            case "response.output_item.done":
                self._item_done(event.get("item"), found)
            case "response.content_part.added":
                part = event.get("part")
                opened = _part(part, empty=True) if isinstance(part, dict) else None
                if opened is not None:
                    self._begin(opened, found)
            case "response.content_part.done":
                if self._kind in (Text, Refusal):
                    self._close(found)
            case (
                "response.output_text.delta"
                | "response.refusal.delta"
                | "response.reasoning_text.delta"
                | "response.function_call_arguments.delta"
                | "response.custom_tool_call_input.delta"
            ):
                self._grew(kind, _text(event.get("delta")), found)
            case "response.reasoning_summary_text.delta":
                self._begin_if(Thinking(), found)
                self._grown = True
                found.append(SummaryGrew(_text(event.get("delta")), _whole(event.get("summary_index")) or 0))
            case "response.output_text.annotation.added":
                if self._kind is Text and (citation := _citation(event.get("annotation"))) is not None:
                    found.append(Cited(citation))

    def _grew(self, kind: str, delta: str, found: list[ReplyEvent]) -> None:
        if kind == "response.output_text.delta":
            self._begin_if(Text(text=""), found)
        elif kind == "response.refusal.delta":
            self._begin_if(Refusal(text=""), found)
        if self._kind is not None and delta:
            self._grown = True
            found.append(Grew(delta))

    def _item_added(self, item: object, found: list[ReplyEvent]) -> None:
        if not isinstance(item, dict):
            return
        match item.get("type"):
            case "reasoning":
                self._begin(Thinking(), found)
            case "function_call" | "custom_tool_call":
                self._called = True
                self._begin(_call(item, opened=True), found)

    def _item_done(self, item: object, found: list[ReplyEvent]) -> None:
        blocks = blocks_of(item)
        self._called = self._called or any(isinstance(block, ToolCall) for block in blocks)
        self._refused = self._refused or any(isinstance(block, Refusal) for block in blocks)
        match blocks:
            case [Thinking() as thought] if self._kind is Thinking:
                self._complete(thought.text, found)
                if not self._grown:
                    found += [SummaryGrew(text, part) for part, text in enumerate(thought.summary)]
                if thought.sealed is not None:
                    found.append(Sealed(thought.sealed))
            case [ToolCall() as call] if self._kind is ToolCall:
                self._complete(call.arguments, found)
            case _ if self._kind is None and not self._told:
                for block in blocks:
                    found += [Opened(block), Closed()]
        if self._kind is not None:
            self._close(found)
        self._open, self._told = None, 0
        self._next(found)

    def _complete(self, whole: str, found: list[ReplyEvent]) -> None:
        """Vendors that send an item's end without its pieces."""
        if whole and not self._grown:
            found.append(Grew(whole))

    def _next(self, found: list[ReplyEvent]) -> None:
        """What came for the next item while this one was open."""
        if self._waiting:
            self._open = min(self._waiting)
            for event in self._waiting.pop(self._open):
                self._of_item(_text(event.get("type")), event, found)

    def _ended(self, event: Json, found: list[ReplyEvent]) -> None:
        if self._kind is not None:
            self._close(found)
        answer = event.get("response")
        answer = answer if isinstance(answer, dict) else {}
        said = [block for item in _list(answer.get("output")) for block in blocks_of(item)]
        finish = finish_of(answer, said)
        if finish is Finish.END:
            finish = Finish.TOOL if self._called else Finish.FILTER if self._refused else Finish.END
        found.append(Finished(finish=finish))

    def _begin(self, block: AnswerBlock, found: list[ReplyEvent]) -> None:
        if self._kind is Thinking and isinstance(block, Thinking):
            return
        if self._kind is not None:
            self._close(found)
        self._kind, self._grown = type(block), False
        self._told += 1
        found.append(Opened(block))

    def _begin_if(self, block: AnswerBlock, found: list[ReplyEvent]) -> None:
        """Vendors that leave out the events before the first piece."""
        if self._kind is not type(block):
            self._begin(block, found)

    def _close(self, found: list[ReplyEvent]) -> None:
        self._kind = None
        found.append(Closed())


def _call(item: Json, *, opened: bool) -> ToolCall:
    custom = item.get("type") == "custom_tool_call"
    name, space = _text(item.get("name")), item.get(NAMESPACE)
    whole = _text(item.get("input" if custom else "arguments"))
    return ToolCall(
        id=_text(item.get("call_id")) or _text(item.get("id")),
        name=f"{space}__{name}" if isinstance(space, str) else name,
        arguments="" if opened else whole,
        custom=custom,
    )


def _part(part: object, *, empty: bool = False) -> Text | Refusal | Thinking | None:
    """`empty`: as a part begins, to which its pieces come."""
    if not isinstance(part, dict):
        return None
    match part.get("type"):
        case "output_text":
            if empty:
                return Text(text="")
            cited = [citation for each in _list(part.get("annotations")) if (citation := _citation(each)) is not None]
            return Text(text=_text(part.get("text")), citations=tuple(cited))
        case "refusal":
            return Refusal(text="" if empty else _text(part.get("refusal")))
        case "reasoning_text" if empty:
            return Thinking()
    return None


def _citation(value: object) -> Citation | None:
    if not isinstance(value, dict) or value.get("type") != "url_citation":
        return None
    return Citation(
        url=_text(value.get("url")),
        title=_text(value.get("title")),
        start=_whole(value.get("start_index")),
        end=_whole(value.get("end_index")),
    )


def _seal(item: Json) -> Opaque | None:
    sealed = item.get("encrypted_content")
    return Opaque.unpacked(sealed, ORIGIN) if isinstance(sealed, str) and sealed else None


def _decoded(data: bytes) -> Json:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except UNREADABLE:
        raise VendorFault(FaultKind.MALFORMED, "its answer is not JSON of this dialect") from None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
