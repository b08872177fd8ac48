"""Anthropic's Messages as our callers speak it: reading requests, writing the gateway's own parts of answers."""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Raw

from adapters.dialects import costs
from adapters.dialects.anthropic.wire import UNREADABLE, event_payloads, read_event, written_usage
from adapters.dialects.gateway_fields import conversation_beginning, read_gateway_fields
from adapters.dialects.json_members import JsonRefused, Members, check_depth, members
from adapters.dialects.request_members import count_between, member, raw_member
from adapters.transport.sse import named_event
from domain.catalog import Capability, Dialect
from domain.errors import InvalidRequest, UnsupportedParameter
from domain.inference.chat import ChatRequest
from domain.inference.tokens import estimated_prompt_tokens
from domain.money import Usd
from domain.usage import Usage

KEEP_ALIVE: Final = b'event: ping\ndata: {"type": "ping"}\n\n'
PASSED_HEADERS: tuple[bytes, ...] = (b"anthropic-version", b"anthropic-beta")
"""Headers of callers that vendors of this dialect are sent."""
OUTPUT_MAX: Final = 1 << 31

with_cost = costs.with_cost

_MEDIA = re.compile(rb'"type"\s*:\s*"(image|document)"')
_BLOCK_EDGE = re.compile(rb'"type"\s*:\s*"content_block_(start|stop)"')
_INDEX = re.compile(rb'"index"\s*:\s*(\d+)')
_END = re.compile(rb'"type"\s*:\s*"message_stop"')


def read_request(body: bytes) -> ChatRequest:
    """What the gateway must know of a request; the rest stays in its bytes.  Raises InvalidRequest."""
    parts = _parts(body)
    output_max = count_between(parts, "max_tokens", 0, OUTPUT_MAX)
    if output_max is None:
        raise InvalidRequest("'max_tokens' is missing: say how long the answer may be.", param="max_tokens")
    if member(parts, "speed", str) == "fast":
        raise UnsupportedParameter("'speed' cannot be 'fast' here: that mode has a price of its own.", param="speed")
    return _request(body, parts, output_max)


def read_count_request(body: bytes) -> ChatRequest:
    """A request whose tokens shall be counted: as for an answer, but nothing is said of the answer's length."""
    return _request(body, _parts(body), None)


def _parts(body: bytes) -> Members:
    try:
        check_depth(body)
        return members(body)
    except JsonRefused as refused:
        raise InvalidRequest(f"The body is not a JSON object that can be read: {refused}.") from None


def _request(body: bytes, parts: Members, output_max: int | None) -> ChatRequest:
    model = member(parts, "model", str)
    if not model:
        raise InvalidRequest("Name the model to use; GET /v1/models lists them.", param="model")
    messages = raw_member(parts, "messages")
    if messages is None or messages[:1] != b"[" or messages[1:64].lstrip().startswith(b"]"):
        raise InvalidRequest("'messages' must be an array with at least one message.", param="messages")
    streamed = member(parts, "stream", bool) or False
    gateway = read_gateway_fields(parts)
    return ChatRequest(
        dialect=Dialect.ANTHROPIC,
        body=body,
        model=model,
        streamed=streamed,
        # Every stream of this dialect ends with its usage.
        wants_usage=True,
        output_max=output_max,
        prompt_tokens=estimated_prompt_tokens(body),
        needs=_needs(parts, messages, streamed),
        preferences=gateway.preferences,
        cost_max=gateway.cost_max,
        parameters=frozenset(_OPENAI_NAMES.get(name, name) for name in gateway.parameters),
        session=gateway.session,
        beginning=partial(conversation_beginning, parts, "messages", "system"),
        parsed=parts,
    )


_OPENAI_NAMES: Final = {"stop_sequences": "stop"}


def _needs(parts: Members, messages: bytes, streamed: bool) -> frozenset[Capability]:
    """`thinking` is not among them: agents always ask for it, and a model that cannot think answers all the same."""
    needs = {Capability.STREAM} if streamed else set[Capability]()
    tools = raw_member(parts, "tools")
    if tools is not None and tools.strip(b"[] \t\r\n"):
        needs.add(Capability.TOOLS)
    if b"json_schema" in (raw_member(parts, "output_config") or b""):
        needs.add(Capability.JSON_SCHEMA)
    if b'"image"' in messages or b'"document"' in messages:
        for kind in set(_MEDIA.findall(messages)):
            needs.add(Capability.IMAGES_IN if kind == b"image" else Capability.FILES_IN)
    return frozenset(needs)


class AnthropicTelling:
    """What the gateway itself writes into one stream, whose blocks must be closed before it may end."""

    __slots__ = ("_model", "_open", "_request_id", "_started", "_stop")

    def __init__(self, request: ChatRequest, request_id: str, _created_s: int) -> None:
        self._request_id = request_id
        self._model = request.model
        self._started = False
        self._open: int | None = None
        self._stop: dict[str, Any] = {"stop_reason": "end_turn", "stop_sequence": None}

    def passed(self, piece: bytes) -> None:
        """Notes which block is open; most pieces hold only deltas and cost one search."""
        if b"content_block_st" in piece:
            edges = list(_BLOCK_EDGE.finditer(piece))
            if edges:
                self._edge(piece, edges[-1])
        if not self._started or b'"message_' in piece:
            self._note(piece)

    def with_cost(self, piece: bytes, cost: Usd) -> bytes:
        """Whole events of which the last `message_delta` gets `cost` into its usage."""
        at = piece.rfind(b'"message_delta"')
        start = piece.rfind(b"\n\n", 0, at) + 2 if at >= 0 else -1
        if at < 0:
            return piece
        start = max(start, 0) if start > 1 else 0
        end = piece.find(b"\n\n", at)
        end = len(piece) if end < 0 else end
        return piece[:start] + costs.with_cost_in_last_usage(piece[start:end], cost) + piece[end:]

    def is_end(self, piece: bytes) -> bool:
        """Whether the stream ends with this piece."""
        return b"message_stop" in piece and _END.search(piece) is not None

    def with_usage_before_end(self, piece: bytes, usage: Usage, cost: Usd) -> bytes | None:
        """The end of a stream with a usage of our own, marked as estimated; None where it is not the end."""
        end = _END.search(piece)
        if end is None:
            return None
        self._note(piece)
        counts = written_usage(usage) | {"cost": Raw(str(cost).encode()), "estimated": True}
        delta = self._event("message_delta", delta=self._stop, usage=counts)
        # A frame of the vendor's that gives the finish but no usage is replaced, so that there is only one.
        before = piece.rfind(b"\n\n", 0, end.start()) + 2
        before = before if before > 1 else 0
        kept = [block for block in piece[:before].split(b"\n\n") if block and b'"message_delta"' not in block]
        return b"".join(block + b"\n\n" for block in kept) + delta + piece[before:]

    def error_event(self, body: bytes) -> bytes:
        """A failure in the middle of a stream; the official SDK raises on it."""
        return named_event("error", body)

    def length_stop(self, usage: Usage) -> bytes:
        """The end of a stream that the caller's credit could not carry further."""
        stop = {"stop_reason": "max_tokens", "stop_sequence": None}
        self._stop = stop
        pieces = [] if self._started else [self._start(usage)]
        if self._open is not None:
            pieces.append(self._event("content_block_stop", index=self._open))
        pieces.append(self._event("message_delta", delta=stop, usage=written_usage(usage)))
        pieces.append(self._event("message_stop"))
        return b"".join(pieces)

    def _edge(self, piece: bytes, edge: re.Match[bytes]) -> None:
        # Beside the type, in either order, and never across the end of the line.
        line_start, line_end = piece.rfind(b"\n", 0, edge.start()) + 1, piece.find(b"\n", edge.end())
        line = piece[line_start : line_end if line_end >= 0 else len(piece)]
        index = _INDEX.search(line)
        self._open = int(index[1]) if edge[1] == b"start" and index is not None else None

    def _note(self, piece: bytes) -> None:
        for payload in event_payloads(piece):
            if b'"message_' not in payload:
                continue
            try:
                event = read_event(payload)
            except UNREADABLE:
                continue
            if event.type == "message_start":
                self._started = True
            elif event.type == "message_delta" and event.delta is not None and event.delta.stop_reason:
                self._stop = {"stop_reason": event.delta.stop_reason, "stop_sequence": event.delta.stop_sequence}

    def _start(self, usage: Usage) -> bytes:
        message: dict[str, Any] = {
            "id": f"msg_{self._request_id}",
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": written_usage(usage),
        }
        return self._event("message_start", message=message)

    @staticmethod
    def _event(name: str, **members_: Any) -> bytes:
        return named_event(name, msgspec.json.encode({"type": name, **members_}))


def telling(request: ChatRequest, request_id: str, created_s: int) -> AnthropicTelling:
    return AnthropicTelling(request, request_id, created_s)
