"""The canonical reply as a Responses answer, whole and as its numbered events.

Each block of a reply is an item of its own: a message, reasoning, a call.  The answer that ends a stream repeats every
item as it was when it was done, so that a client that only reads the end loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from adapters.dialects.object_members import Json
from adapters.dialects.openai_responses.conversation_reader import ORIGIN, OURS, namespaces
from adapters.dialects.openai_responses.wire import usage_object
from adapters.dialects.sources import url_of
from adapters.transport.sse import named_event
from domain.inference.chat import ChatCall
from domain.inference.conversation import Citation, Foreign, Image, Inline, Link, Refusal, Text, Thinking, ToolCall
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
    Started,
    SummaryGrew,
    gathered,
)
from domain.usage import Usage

INCOMPLETE: Final[Mapping[Finish, str]] = {
    Finish.LENGTH: "max_output_tokens",
    Finish.CONTEXT: "max_output_tokens",
    Finish.FILTER: "content_filter",
}
"""Why an answer is not complete; all other finishes are complete answers."""

_ECHOED: Final = (
    "background",
    "include",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "previous_response_id",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "temperature",
    "text",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
)
"""Members of a request that its answer repeats."""


def write_reply(reply: Reply, usage: Usage, call: ChatCall) -> bytes:
    skeleton = _Skeleton(call)
    items = [item for at, block in enumerate(reply.blocks) for item in skeleton.items(block, at)]
    answer = skeleton.response(reply.id, reply.model, reply.created_s)
    return msgspec.json.encode(_ended(answer, items, reply.finish, usage, skeleton.at_s))


class _Skeleton:
    """What every form of one answer shares."""

    def __init__(self, call: ChatCall) -> None:
        self.at_s = call.at_s
        self._id = call.id
        self._spaces = namespaces(call.request.body)
        asked = msgspec.json.decode(call.request.body, type=dict[str, Any])
        echoed = {name: asked[name] for name in _ECHOED if asked.get(name) is not None}
        self._base: Json = {
            "object": "response",
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": asked.get("parallel_tool_calls", True) is not False,
            "temperature": None,
            "tool_choice": asked.get("tool_choice") or "auto",
            "tools": asked.get("tools") or [],
            "top_p": None,
            **echoed,
        }
        self._model = call.request.model

    def response(self, id_: str, model: str, created_s: int | None) -> Json:
        """The answer as it begins."""
        # Ours, because the vendors of other dialects do not promise that theirs are unique.
        given = self._id or id_
        return {
            "id": given if given.startswith("resp_") else f"resp_{given}",
            "created_at": created_s or self.at_s,
            "status": "in_progress",
            "model": model or self._model,
            "output": [],
            "usage": None,
            **self._base,
        }

    def items(self, block: AnswerBlock, at: int) -> list[Json]:
        """A block as the items that it is; none for what only another dialect knows."""
        match block:
            case Text() | Refusal():
                return [self.message(at) | {"status": "completed", "content": [part_of(block)]}]
            case Thinking():
                return [self.reasoning(at, block)]
            case ToolCall():
                item = self.call(at, block) | {"status": "completed"}
                item["input" if block.custom else "arguments"] = block.arguments or ("" if block.custom else "{}")
                return [*self.seal_before(at, block), item]
            case Image():
                return [self.image(at, block)]
            case Foreign():
                return [dict(block.raw)] if block.dialect is OURS else []

    def message(self, at: int) -> Json:
        return {"id": f"msg_{self._id}_{at}", "type": "message", "role": "assistant"}

    def reasoning(self, at: int, block: Thinking) -> Json:
        item: Json = {
            "id": f"rs_{self._id}_{at}",
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": text} for text in block.summary],
        }
        if block.text:
            item["content"] = [{"type": "reasoning_text", "text": block.text}]
        if block.sealed is not None:
            own = block.sealed.origin == ORIGIN
            item["encrypted_content"] = block.sealed.value if own else block.sealed.packed()
        return item

    def seal_before(self, at: int, block: ToolCall) -> list[Json]:
        """A call's seal, which must come back with it, as reasoning that holds nothing else."""
        if block.sealed is None:
            return []
        sealed = {"encrypted_content": block.sealed.packed()}
        return [{"id": f"rs_{self._id}_{at}", "type": "reasoning", "summary": [], **sealed}]

    def call(self, at: int, block: ToolCall) -> Json:
        space, name = self._spaces.get(block.name, (None, block.name))
        kind, prefix = ("custom_tool_call", "ctc") if block.custom else ("function_call", "fc")
        item: Json = {"id": f"{prefix}_{self._id}_{at}", "type": kind, "call_id": block.id, "name": name}
        return item if space is None else {**item, "namespace": space}

    def image(self, at: int, block: Image) -> Json:
        shown = block.source.data if isinstance(block.source, Inline) else None
        if isinstance(block.source, Link):
            shown = url_of(block.source)
        return {"id": f"ig_{self._id}_{at}", "type": "image_generation_call", "status": "completed", "result": shown}


def part_of(block: Text | Refusal) -> Json:
    if isinstance(block, Refusal):
        return {"type": "refusal", "refusal": block.text}
    annotations = [
        {
            "type": "url_citation",
            "url": each.url,
            "title": each.title,
            "start_index": each.start or 0,
            "end_index": each.end if each.end is not None else len(block.text),
        }
        for each in block.citations
    ]
    return {"type": "output_text", "text": block.text, "annotations": annotations, "logprobs": []}


def _ended(answer: Json, items: Sequence[Json], finish: Finish, usage: Usage, at_s: int) -> Json:
    reason = INCOMPLETE.get(finish)
    ended = {**answer, "output": list(items), "usage": usage_object(usage)}
    if reason is not None:
        return {**ended, "status": "incomplete", "incomplete_details": {"reason": reason}}
    return {**ended, "status": "completed", "completed_at": at_s}


class ResponsesReplyWriter:
    """Writes one stream: the protocol `ReplyWriter`."""

    def __init__(self, call: ChatCall) -> None:
        self._skeleton = _Skeleton(call)
        self._answer: Json | None = None
        self._items: list[Json] = []
        self._finish = Finish.END
        self._number = 0
        self._at = 0
        """Of the block; ids are made of it."""
        self._open: list[ReplyEvent] = []
        """The events of the open block."""
        self._item: Json = {}
        self._text_begun = False
        self._summaries: list[int] = []
        self._citations = 0

    def write(self, events: Sequence[ReplyEvent], usage: Usage | None) -> bytes:
        return b"".join([self._written(event) for event in events])

    def end(self, usage: Usage) -> bytes:
        written = [self._begun(), self._close()] if self._open else [self._begun()]
        assert self._answer is not None, "a stream that ends has begun"
        ended = _ended(self._answer, self._items, self._finish, usage, self._skeleton.at_s)
        kind = "response.completed" if ended["status"] == "completed" else "response.incomplete"
        return b"".join([*written, self._event(kind, response=ended)])

    def _written(self, event: ReplyEvent) -> bytes:
        match event:
            case Started():
                return self._begun(event)
            case Finished():
                self._finish = event.finish
                return b""
            case Opened():
                return self._begun() + self._opened(event.block)
            case Closed():
                return self._close()
        self._open.append(event)
        match event:
            case Grew():
                return self._grew(event.text)
            case SummaryGrew():
                return self._summary_grew(event)
            case Cited():
                return self._cited(event.citation)
        return b""

    def _cited(self, citation: Citation) -> bytes:
        number = self._citations
        self._citations += 1
        place = {**self._place(), "content_index": 0, "annotation_index": number}
        annotation = {
            "type": "url_citation",
            "url": citation.url,
            "title": citation.title,
            "start_index": citation.start or 0,
            "end_index": citation.end or 0,
        }
        return self._event("response.output_text.annotation.added", **place, annotation=annotation)

    def _begun(self, event: Started | None = None) -> bytes:
        if self._answer is not None:
            return b""
        started = event or Started(id="", model="")
        self._answer = self._skeleton.response(started.id, started.model, started.created_s)
        return self._event("response.created", response=self._answer) + self._event(
            "response.in_progress", response=self._answer
        )

    def _opened(self, block: AnswerBlock) -> bytes:
        self._open = [Opened(block)]
        self._text_begun, self._summaries, self._citations = False, [], 0
        skeleton, at = self._skeleton, self._at
        match block:
            case Text() | Refusal():
                self._item = skeleton.message(at) | {"status": "in_progress", "content": []}
            case Thinking():
                self._item = skeleton.reasoning(at, Thinking()) | {"status": "in_progress"}
            case ToolCall():
                member = "input" if block.custom else "arguments"
                seals = b"".join(self._whole_item(item) for item in skeleton.seal_before(at, block))
                self._item = skeleton.call(at, block) | {"status": "in_progress", member: ""}
                return seals + self._added() + (self._grew(block.arguments) if block.arguments else b"")
            case Image() | Foreign():
                return b""
        added = self._added()
        match block:
            case Text() | Refusal():
                return added + (self._grew(block.text) if block.text else self._text_part())
            case Thinking():
                summed = [self._summary_grew(SummaryGrew(text, part)) for part, text in enumerate(block.summary)]
                return b"".join([added, *summed, self._grew(block.text) if block.text else b""])
        return added

    def _grew(self, text: str) -> bytes:
        block = self._block()
        place = self._place()
        more: Json = {}
        match block:
            case ToolCall(custom=True):
                return self._event("response.custom_tool_call_input.delta", **place, delta=text)
            case ToolCall():
                return self._event("response.function_call_arguments.delta", **place, delta=text)
            case Text():
                kind, more = "response.output_text.delta", {"logprobs": []}
            case Refusal():
                kind = "response.refusal.delta"
            case Thinking():
                kind = "response.reasoning_text.delta"
            case _:
                return b""
        return self._text_part() + self._event(kind, **place, content_index=0, delta=text, **more)

    def _text_part(self) -> bytes:
        if self._text_begun:
            return b""
        self._text_begun = True
        match self._block():
            case Text():
                part: Json = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            case Refusal():
                part = {"type": "refusal", "refusal": ""}
            case _:
                part = {"type": "reasoning_text", "text": ""}
        return self._event("response.content_part.added", **self._place(), content_index=0, part=part)

    def _summary_grew(self, event: SummaryGrew) -> bytes:
        place = {**self._place(), "summary_index": event.part}
        begun = b""
        if event.part not in self._summaries:
            begun = self._summary_done() if self._summaries else b""
            self._summaries.append(event.part)
            part = {"type": "summary_text", "text": ""}
            begun += self._event("response.reasoning_summary_part.added", **place, part=part)
        return begun + self._event("response.reasoning_summary_text.delta", **place, delta=event.text)

    def _summary_done(self) -> bytes:
        """The end of the summary part that grew last."""
        number = self._summaries[-1]
        block = self._gathered()
        text = block.summary[number] if isinstance(block, Thinking) and number < len(block.summary) else ""
        place = {**self._place(), "summary_index": number}
        return self._event("response.reasoning_summary_text.done", **place, text=text) + self._event(
            "response.reasoning_summary_part.done", **place, part={"type": "summary_text", "text": text}
        )

    def _close(self) -> bytes:
        block = self._gathered()
        place = self._place()
        done: list[bytes] = []
        match block:
            case Text():
                part = part_of(block)
                told = {**place, "content_index": 0}
                done.append(self._event("response.output_text.done", **told, text=block.text, logprobs=[]))
                done.append(self._event("response.content_part.done", **told, part=part))
            case Refusal():
                told = {**place, "content_index": 0}
                done.append(self._event("response.refusal.done", **told, refusal=block.text))
                done.append(self._event("response.content_part.done", **told, part=part_of(block)))
            case Thinking():
                if self._summaries:
                    done.append(self._summary_done())
                if self._text_begun:
                    told = {**place, "content_index": 0}
                    part = {"type": "reasoning_text", "text": block.text}
                    done.append(self._event("response.reasoning_text.done", **told, text=block.text))
                    done.append(self._event("response.content_part.done", **told, part=part))
            case ToolCall(custom=True):
                done.append(self._event("response.custom_tool_call_input.done", **place, input=block.arguments))
            case ToolCall():
                arguments = block.arguments or "{}"
                told = {**place, "arguments": arguments}
                done.append(self._event("response.function_call_arguments.done", **told))
            case Image() | Foreign():
                done += [self._whole_item(item) for item in self._skeleton.items(block, self._at)]
                self._open, self._at = [], self._at + 1
                return b"".join(done)
        # The seal of a call has gone out before it.
        item = self._skeleton.items(block, self._at)[-1]
        done.append(self._event("response.output_item.done", output_index=len(self._items), item=item))
        self._items.append(item)
        self._open, self._at = [], self._at + 1
        return b"".join(done)

    def _gathered(self) -> AnswerBlock:
        return gathered(self._open).blocks[0]

    def _block(self) -> AnswerBlock:
        opened = self._open[0]
        assert isinstance(opened, Opened), "the first event of a block opens it"
        return opened.block

    def _place(self) -> Json:
        return {"item_id": self._item["id"], "output_index": len(self._items)}

    def _added(self) -> bytes:
        return self._event("response.output_item.added", output_index=len(self._items), item=self._item)

    def _whole_item(self, item: Json) -> bytes:
        """An item that is complete when it comes."""
        number = len(self._items)
        self._items.append(item)
        return self._event("response.output_item.added", output_index=number, item=item) + self._event(
            "response.output_item.done", output_index=number, item=item
        )

    def _event(self, kind: str, **members: Any) -> bytes:
        number = self._number
        self._number += 1
        return named_event(kind, msgspec.json.encode({"type": kind, "sequence_number": number, **members}))
