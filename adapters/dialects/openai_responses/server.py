"""OpenAI's Responses as our callers speak it: reading requests, writing the gateway's own parts of answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Struct

from adapters.dialects.costs import with_cost, with_cost_in_last_usage
from adapters.dialects.gateway_fields import conversation_beginning, read_gateway_fields
from adapters.dialects.json_members import JsonRefused, Members, check_depth, members
from adapters.dialects.object_members import Json
from adapters.dialects.openai_responses.wire import UNREADABLE, usage_object
from adapters.dialects.request_members import count_between, member, raw_member
from adapters.transport.sse import comment, events, named_event
from domain.catalog import Capability, Dialect
from domain.errors import InvalidRequest
from domain.inference.chat import ChatRequest
from domain.inference.tokens import estimated_prompt_tokens
from domain.money import Usd
from domain.usage import Usage

KEEP_ALIVE: Final = comment("keep-alive")
PASSED_HEADERS: Final[tuple[bytes, ...]] = ()

FAILURE_CODES: Final = ("server_error", "rate_limit_exceeded", "invalid_prompt")
"""What this dialect lets a failed answer's code be, as far as it can be ours; its message says the rest."""

FOLDED_BYTES: Final = 64 * 1024
"""So much of an open item waits unread: its events are many times longer than the text in them."""
KEPT_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of one stream; of what comes after it nothing is known when it is cut short."""

_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d+)')
_ENDINGS: Final = (b'"response.completed"', b'"response.incomplete"')

__all__ = ["KEEP_ALIVE", "PASSED_HEADERS", "read_request", "telling", "with_cost"]


def read_request(body: bytes) -> ChatRequest:
    """What the gateway must know of a request; the rest stays in its bytes.  Raises InvalidRequest."""
    try:
        check_depth(body)
        parts = members(body)
    except JsonRefused as refused:
        raise InvalidRequest(f"The body is not a JSON object that can be read: {refused}.") from None
    model = member(parts, "model", str)
    if not model:
        raise InvalidRequest("Name the model to use; GET /v1/models lists them.", param="model")
    given = raw_member(parts, "input")
    if given is None or given[:1] not in (b'"', b"["):
        raise InvalidRequest("'input' must be a string or an array of items.", param="input")
    streamed = member(parts, "stream", bool) or False
    own = read_gateway_fields(parts)
    return ChatRequest(
        dialect=Dialect.OPENAI_RESPONSES,
        body=body,
        model=model,
        streamed=streamed,
        wants_usage=True,
        output_max=count_between(parts, "max_output_tokens", 1, 1 << 31),
        prompt_tokens=estimated_prompt_tokens(body),
        needs=_needs(parts, given, streamed),
        preferences=own.preferences,
        cost_max=own.cost_max,
        parameters=own.parameters,
        session=own.session,
        beginning=partial(conversation_beginning, parts, "input", "instructions"),
        parsed=parts,
    )


def _needs(parts: Members, given: bytes, streamed: bool) -> frozenset[Capability]:
    needs = {Capability.STREAM} if streamed else set[Capability]()
    tools = raw_member(parts, "tools")
    if tools is not None and tools.strip(b"[] \t\r\n"):
        needs.add(Capability.TOOLS)
    if b"json_schema" in (raw_member(parts, "text") or b""):
        needs.add(Capability.JSON_SCHEMA)
    for word, need in (
        (b'"input_image"', Capability.IMAGES_IN),
        (b'"input_audio"', Capability.AUDIO_IN),
        (b'"input_file"', Capability.FILES_IN),
    ):
        if word in given:
            needs.add(need)
    return frozenset(needs)


class _Piece(Struct):
    type: str = ""
    sequence_number: int = -1
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    item_id: str = ""
    delta: Any = None
    item: Any = None
    part: Any = None
    response: Any = None


_PIECE = msgspec.json.Decoder(_Piece, strict=False)


class ResponsesTelling:
    """What the gateway itself writes into one stream, and what it must have seen of the stream for that.

    The events of an answer that is cut short must add up like those of any other, so that what has passed of the open
    item is kept until it is done; the latest of it unread.
    """

    def __init__(self, request: ChatRequest, request_id: str, created_s: int) -> None:
        self._model = request.model
        self._id = f"resp_{request_id}"
        self._created_s = created_s
        self._begun: bytes = b""
        self._items: list[bytes] = []
        self._open: list[bytes] = []
        self._open_bytes = self._kept_bytes = 0
        self._item = _OpenItem()
        self._last: bytes = b""

    def passed(self, piece: bytes) -> None:
        """Note whole events on their way."""
        if not piece:
            return
        self._last = piece
        if b"response.created" in piece and not self._begun:
            self._begun = piece
        if self._kept_bytes > KEPT_BYTES_MAX:
            return
        if b"response.output_item.done" in piece:
            self._items.append(piece)
            self._kept_bytes += len(piece)
            self._open, self._open_bytes, self._item = [], 0, _OpenItem()
        self._open.append(piece)
        self._open_bytes += len(piece)
        if self._open_bytes > FOLDED_BYTES:
            self._kept_bytes += self._item.note(_pieces(self._open))
            self._open, self._open_bytes = [], 0

    def with_cost(self, piece: bytes, cost: Usd) -> bytes:
        return with_cost_in_last_usage(piece, cost) if self.is_end(piece) else piece

    def is_end(self, piece: bytes) -> bool:
        return any(word in piece for word in _ENDINGS)

    def with_usage_before_end(self, piece: bytes, usage: Usage, cost: Usd) -> bytes | None:
        """The usage belongs into the answer that ends the stream; a vendor that gave none gets ours, as estimated."""
        if not self.is_end(piece) or b'"usage":null' not in piece.replace(b" ", b""):
            return None
        told = msgspec.json.encode({**usage_object(usage), "estimated": True})
        costed = with_cost(b'{"usage":%b}' % told, cost).removeprefix(b'{"usage":').removesuffix(b"}")
        return re.sub(rb'"usage"\s*:\s*null', lambda _: b'"usage":' + costed, piece, count=1)

    def error_event(self, body: bytes) -> bytes:
        """A failure in the middle of a stream: the answer failed, and says why."""
        try:
            told = msgspec.json.decode(body)["error"]
        except (*UNREADABLE, KeyError, TypeError):
            told = {}
        code = told.get("code")
        error = {
            "code": code if code in FAILURE_CODES else "server_error",
            "message": told.get("message") or "The answer failed.",
        }
        answer = {**self._answer(), "status": "failed", "error": error}
        return self._event("response.failed", self._next_number(), response=answer)

    def length_stop(self, usage: Usage) -> bytes:
        """The end of a stream that the caller's credit could not carry further: what is open is closed as it is."""
        number = self._next_number()
        written: list[bytes] = []
        items = [each.item for each in _pieces(self._items) if each.type == "response.output_item.done"]
        self._item.note(_pieces(self._open))
        self._open = []
        for kind, told in self._item.closing():
            written.append(self._event(kind, number, **told))
            number += 1
            if kind == "response.output_item.done":
                items.append(told["item"])
        answer = {
            **self._answer(),
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "output": items,
            "usage": usage_object(usage),
        }
        return b"".join([*written, self._event("response.incomplete", number, response=answer)])

    def _answer(self) -> Json:
        """The answer as it began, or one of our own where nothing has come yet."""
        for piece in _pieces([self._begun]):
            if isinstance(piece.response, dict):
                return dict(piece.response)
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created_s,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": self._model,
            "output": [],
            "parallel_tool_calls": True,
            "temperature": None,
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
            "usage": None,
        }

    def _next_number(self) -> int:
        found = _NUMBER.findall(self._last)
        return int(found[-1]) + 1 if found else 0

    def _event(self, kind: str, number: int, **told: Any) -> bytes:
        return named_event(kind, msgspec.json.encode({"type": kind, "sequence_number": number, **told}))


def telling(request: ChatRequest, request_id: str, created_s: int) -> ResponsesTelling:
    return ResponsesTelling(request, request_id, created_s)


def _pieces(kept: Sequence[bytes]) -> list[_Piece]:
    found: list[_Piece] = []
    for whole in kept:
        for event in events(whole):
            try:
                found.append(_PIECE.decode(event.data))
            except UNREADABLE:
                continue
    return found


class _OpenItem:
    """The item that is being written, if one is, and its texts so far."""

    def __init__(self) -> None:
        self._opened: _Piece | None = None
        self._texts: dict[tuple[str, int], list[str]] = {}

    def note(self, pieces: Sequence[_Piece]) -> int:
        """About how many bytes of them are kept."""
        kept = 0
        for piece in pieces:
            if piece.type in ("response.output_item.added", "response.output_item.done"):
                self._opened = piece if piece.type.endswith("added") else None
                self._texts = {}
            elif piece.type.endswith(".delta") and isinstance(piece.delta, str):
                summed = piece.type == "response.reasoning_summary_text.delta"
                number = piece.summary_index if summed else piece.content_index
                self._texts.setdefault((piece.type, number), []).append(piece.delta)
                kept += len(piece.delta)
        for deltas in self._texts.values():
            deltas[:] = ["".join(deltas)]
        return kept

    def closing(self) -> list[tuple[str, Json]]:
        """The events that end it; none where no item is open."""
        opened = self._opened
        if opened is None or not isinstance(opened.item, dict):
            return []
        item: Json = dict(opened.item)
        place = {"item_id": item.get("id", ""), "output_index": opened.output_index}
        closing: list[tuple[str, Json]] = []
        for (kind, number), deltas in self._texts.items():
            closing += _closed(kind, number, "".join(deltas), place, item)
        ended = {"output_index": opened.output_index, "item": item | {"status": "incomplete"}}
        closing.append(("response.output_item.done", ended))
        return closing


def _closed(kind: str, number: int, text: str, place: Json, item: Json) -> list[tuple[str, Json]]:
    """The end of one text of an item, which it is put into."""
    part: Json
    match kind:
        case "response.output_text.delta":
            part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
            ended: Json = {"text": text, "logprobs": []}
        case "response.refusal.delta":
            part, ended = {"type": "refusal", "refusal": text}, {"refusal": text}
        case "response.reasoning_text.delta":
            part, ended = {"type": "reasoning_text", "text": text}, {"text": text}
        case "response.reasoning_summary_text.delta":
            part = {"type": "summary_text", "text": text}
            item["summary"] = [*item.get("summary", ()), part]
            told = {**place, "summary_index": number}
            return [
                ("response.reasoning_summary_text.done", {**told, "text": text}),
                ("response.reasoning_summary_part.done", {**told, "part": part}),
            ]
        case "response.function_call_arguments.delta":
            item["arguments"] = text
            done = {**place, "arguments": text}
            return [("response.function_call_arguments.done", done)]
        case "response.custom_tool_call_input.delta":
            item["input"] = text
            return [("response.custom_tool_call_input.done", {**place, "input": text})]
        case _:
            return []
    item["content"] = [*(item.get("content") or ()), part]
    told = {**place, "content_index": number}
    return [
        (kind.removesuffix("delta") + "done", {**told, **ended}),
        ("response.content_part.done", {**told, "part": part}),
    ]
