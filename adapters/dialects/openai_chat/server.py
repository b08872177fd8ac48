"""OpenAI Chat Completions as our callers speak it: reading requests, writing the gateway's own parts of answers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import msgspec
from msgspec import Raw, Struct

from adapters.dialects import costs
from adapters.dialects.gateway_fields import conversation_beginning, read_gateway_fields
from adapters.dialects.json_members import JsonRefused, Members, check_depth, members
from adapters.dialects.request_members import count_between, member, raw_member
from adapters.transport.sse import comment, data_event
from domain.catalog import Capability, Dialect
from domain.errors import InvalidRequest
from domain.inference.chat import ChatRequest
from domain.inference.tokens import estimated_prompt_tokens
from domain.money import Usd
from domain.usage import Usage

ANSWERS_MAX = 128
KEEP_ALIVE = comment("keep-alive")
PASSED_HEADERS: tuple[bytes, ...] = ()
"""Headers of callers that vendors of this dialect are sent."""
DONE = b"data: [DONE]\n\n"
with_cost = costs.with_cost


class StreamOptions(Struct):
    include_usage: bool | None = None


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
    messages = raw_member(parts, "messages")
    if messages is None or messages[:1] != b"[" or messages[1:64].lstrip().startswith(b"]"):
        raise InvalidRequest("'messages' must be an array with at least one message.", param="messages")
    streamed = member(parts, "stream", bool) or False
    gateway = read_gateway_fields(parts)
    options = member(parts, "stream_options", StreamOptions)
    return ChatRequest(
        dialect=Dialect.OPENAI_CHAT,
        body=body,
        model=model,
        streamed=streamed,
        wants_usage=bool(options and options.include_usage),
        output_max=_output_max(parts),
        answers=count_between(parts, "n", 1, ANSWERS_MAX) or 1,
        prompt_tokens=estimated_prompt_tokens(body),
        needs=_needs(parts, messages, streamed),
        preferences=gateway.preferences,
        cost_max=gateway.cost_max,
        parameters=gateway.parameters,
        session=gateway.session,
        beginning=partial(conversation_beginning, parts, "messages"),
        parsed=parts,
    )


def _output_max(parts: Members) -> int | None:
    newer = count_between(parts, "max_completion_tokens", 1, 1 << 31)
    older = count_between(parts, "max_tokens", 1, 1 << 31)
    return newer if newer is not None else older


def _needs(parts: Members, messages: bytes, streamed: bool) -> frozenset[Capability]:
    needs = {Capability.STREAM} if streamed else set[Capability]()
    tools = raw_member(parts, "tools")
    if tools is not None and tools.strip(b"[] \t\r\n"):
        needs.add(Capability.TOOLS)
    if b"json_schema" in (raw_member(parts, "response_format") or b""):
        needs.add(Capability.JSON_SCHEMA)
    if b'"image_url"' in messages:
        needs.add(Capability.IMAGES_IN)
    if b'"input_audio"' in messages:
        needs.add(Capability.AUDIO_IN)
    if b'"file_data"' in messages or b'"file_id"' in messages:
        needs.add(Capability.FILES_IN)
    return frozenset(needs)


class OpenAIChatTelling:
    """What the gateway itself writes into one stream; this dialect's events neither count nor nest."""

    __slots__ = ("_created_s", "_id", "_model")
    ID_PREFIX: ClassVar = "chatcmpl"
    OBJECT: ClassVar = "chat.completion.chunk"
    NOTHING: ClassVar[Mapping[str, Any]] = {"delta": {}}
    """What a choice holds that says nothing."""

    def __init__(self, request: ChatRequest, request_id: str, created_s: int) -> None:
        self._id = f"{self.ID_PREFIX}-{request_id}"
        self._model = request.model
        self._created_s = created_s

    def passed(self, piece: bytes) -> None:
        """Nothing of it is needed later."""

    def with_cost(self, piece: bytes, cost: Usd) -> bytes:
        """Whole events of which the last usage object gets `cost`; nothing else changes."""
        return costs.with_cost_in_last_usage(piece, cost)

    def is_end(self, piece: bytes) -> bool:
        """Whether the stream ends with this piece."""
        return DONE in piece

    def with_usage_before_end(self, piece: bytes, usage: Usage, cost: Usd) -> bytes | None:
        """The end of a stream with a usage frame of our own, marked as estimated; None where it is not the end."""
        end = piece.rfind(DONE)
        if end < 0:
            return None
        counts = {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
            "cost": Raw(str(cost).encode()),
            "estimated": True,
        }
        return piece[:end] + self._chunk(choices=[], usage=counts) + piece[end:]

    def error_event(self, body: bytes) -> bytes:
        """A failure in the middle of a stream; the official SDK raises on it."""
        return data_event(body)

    def length_stop(self, _usage: Usage) -> bytes:
        """The end of a stream that the caller's credit could not carry further."""
        return self._chunk(choices=[{"index": 0, **self.NOTHING, "finish_reason": "length"}]) + DONE

    def _chunk(self, **members_: Any) -> bytes:
        chunk = {
            "id": self._id,
            "object": self.OBJECT,
            "created": self._created_s,
            "model": self._model,
            **members_,
        }
        return data_event(msgspec.json.encode(chunk))


def telling(request: ChatRequest, request_id: str, created_s: int) -> OpenAIChatTelling:
    return OpenAIChatTelling(request, request_id, created_s)
