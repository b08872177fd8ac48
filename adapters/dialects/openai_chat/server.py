"""OpenAI Chat Completions as our callers speak it: reading requests, writing the gateway's own parts of answers."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from adapters.dialects.json_members import JsonRefused, Members, check_depth, edit, members
from adapters.transport.sse import comment, data_event
from domain.catalog import Capability, Dialect
from domain.errors import InvalidRequest
from domain.inference.chat import ChatRequest
from domain.inference.tokens import estimated_prompt_tokens
from domain.money import Usd
from domain.routing import Preferences, Sort
from domain.usage import Usage

GATEWAY_FIELDS = ("models", "provider", "session_id", "max_cost_usd")
"""The gateway's own request members, never sent to a vendor."""

ANSWERS_MAX = 128
KEEP_ALIVE = comment("keep-alive")
DONE = b"data: [DONE]\n\n"

EMPTY_BYTES = len("null")
"""A usage no longer than this has no member to put another beside."""

_T = TypeVar("_T")
_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d{1,3})?")
_USAGE_OBJECT = re.compile(rb'"usage"\s*:\s*\{')


class _Answer(Struct):
    usage: Raw = Raw()


_ANSWER = msgspec.json.Decoder(_Answer)


class _StreamOptions(Struct):
    include_usage: bool | None = None


class _Provider(Struct, forbid_unknown_fields=True):
    order: tuple[str, ...] | None = None
    only: tuple[str, ...] | None = None
    ignore: tuple[str, ...] | None = None
    allow_fallbacks: bool | None = None
    sort: Sort | None = None
    require_parameters: bool | None = None


def read_request(body: bytes) -> ChatRequest:
    """What the gateway must know of a request; the rest stays in its bytes.  Raises InvalidRequest."""
    try:
        check_depth(body)
        parts = members(body)
    except JsonRefused as refused:
        raise InvalidRequest(f"The body is not a JSON object that can be read: {refused}.") from None
    model = _member(parts, "model", str)
    if not model:
        raise InvalidRequest("Name the model to use; GET /v1/models lists them.", param="model")
    messages = _raw(parts, "messages")
    if messages is None or messages[:1] != b"[" or messages[1:64].lstrip().startswith(b"]"):
        raise InvalidRequest("'messages' must be an array with at least one message.", param="messages")
    streamed = _member(parts, "stream", bool) or False
    options = _member(parts, "stream_options", _StreamOptions)
    return ChatRequest(
        dialect=Dialect.OPENAI_CHAT,
        body=body,
        model=model,
        streamed=streamed,
        wants_usage=bool(options and options.include_usage),
        output_max=_output_max(parts),
        answers=_between(parts, "n", 1, ANSWERS_MAX) or 1,
        prompt_tokens=estimated_prompt_tokens(body),
        needs=_needs(parts, messages, streamed),
        preferences=_preferences(parts),
        cost_max=_cost_max(parts),
        session=_member(parts, "session_id", str),
        parsed=parts,
    )


def _raw(parts: Members, name: str) -> bytes | None:
    """A member's bytes; None where it is absent or null."""
    value = parts.values.get(name)
    raw = None if value is None else bytes(value)
    return None if raw == b"null" else raw


def _member(parts: Members, name: str, kind: type[_T]) -> _T | None:
    """A member of the type it must have; None where it is absent or null."""
    raw = _raw(parts, name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except _UNREADABLE as error:
        raise InvalidRequest(f"'{name}' cannot be read: {error}.", param=name) from None


def _between(parts: Members, name: str, least: int, most: int) -> int | None:
    value = _member(parts, name, int)
    if value is not None and not least <= value <= most:
        raise InvalidRequest(f"'{name}' must be a whole number from {least} to {most}.", param=name)
    return value


def _output_max(parts: Members) -> int | None:
    newer = _between(parts, "max_completion_tokens", 1, 1 << 31)
    older = _between(parts, "max_tokens", 1, 1 << 31)
    return newer if newer is not None else older


def _needs(parts: Members, messages: bytes, streamed: bool) -> frozenset[Capability]:
    needs = {Capability.STREAM} if streamed else set[Capability]()
    tools = _raw(parts, "tools")
    if tools is not None and tools.strip(b"[] \t\r\n"):
        needs.add(Capability.TOOLS)
    if b"json_schema" in (_raw(parts, "response_format") or b""):
        needs.add(Capability.JSON_SCHEMA)
    if b'"image_url"' in messages:
        needs.add(Capability.IMAGES_IN)
    if b'"input_audio"' in messages:
        needs.add(Capability.AUDIO_IN)
    if b'"file_data"' in messages or b'"file_id"' in messages:
        needs.add(Capability.FILES_IN)
    return frozenset(needs)


def _preferences(parts: Members) -> Preferences:
    if "models" not in parts.values and "provider" not in parts.values:
        return Preferences()
    models = _member(parts, "models", tuple[str, ...]) or ()
    provider = _member(parts, "provider", _Provider) or _Provider()
    return Preferences(
        models=models,
        order=provider.order or (),
        only=provider.only or (),
        ignore=provider.ignore or (),
        allow_fallbacks=provider.allow_fallbacks is not False,
        sort=provider.sort,
        require_parameters=provider.require_parameters or False,
    )


def _cost_max(parts: Members) -> Usd | None:
    """`max_cost_usd` as a decimal string or as a number, read from its digits so that no float touches it."""
    raw = _raw(parts, "max_cost_usd")
    if raw is None:
        return None
    text = raw.decode("utf-8", "replace").strip('"')
    try:
        if not _NUMBER.fullmatch(text):
            raise ValueError(f"{text[:40]!r} is not an amount in USD")
        amount = Usd.parse(text)
    except ValueError as error:
        raise InvalidRequest(f"'max_cost_usd' cannot be read: {error}.", param="max_cost_usd") from None
    if amount.nanos < 0:
        raise InvalidRequest("'max_cost_usd' must not be negative.", param="max_cost_usd")
    return amount


def with_cost(answer: bytes, cost: Usd) -> bytes:
    """A whole answer with `usage.cost`, a JSON number; unchanged where it has no usage object."""
    try:
        usage = bytes(_ANSWER.decode(answer).usage)
    except _UNREADABLE:
        return answer
    if len(usage) > EMPTY_BYTES and usage.endswith(b"}") and b'"cost"' not in usage and answer.count(usage) == 1:
        end = answer.find(usage) + len(usage) - 1
        return b'%b,"cost":%b%b' % (answer[:end], str(cost).encode(), answer[end:])
    try:
        parts = members(answer)
        raw = _raw(parts, "usage")
        if raw is None or not raw.startswith(b"{"):
            return answer
        return edit(answer, parts, replace={"usage": _costed(raw, cost)})
    except JsonRefused:
        return answer


def stream_with_cost(events: bytes, cost: Usd) -> bytes:
    """Whole events of which the last usage object gets `cost`; nothing else changes."""
    found = list(_USAGE_OBJECT.finditer(events))
    if not found:
        return events
    start = found[-1].end() - 1
    try:
        _, end = _object_at(events, start)
        return events[:start] + _costed(events[start:end], cost) + events[end:]
    except JsonRefused:
        return events


def _object_at(data: bytes, start: int) -> tuple[bytes, int]:
    """The JSON object that begins at `start`, and where it ends."""
    depth, at = 0, start
    for token in re.finditer(rb'"(?:[^"\\]|\\.)*"|[{}]', data[start:]):
        depth += {b"{": 1, b"}": -1}.get(token[0], 0)
        at = start + token.end()
        if depth == 0:
            return data[start:at], at
    return data[start:at], at


def _costed(usage: bytes, cost: Usd) -> bytes:
    parts = members(usage)
    number = str(cost).encode()
    if "cost" in parts.values:
        return edit(usage, parts, replace={"cost": number})
    return edit(usage, parts, add={"cost": number})


def error_event(body: bytes) -> bytes:
    """A failure in the middle of a stream; the official SDK raises on it."""
    return data_event(body)


def length_stop(model: str, request_id: str, created_s: int) -> bytes:
    """The end of a stream that the caller's credit could not carry further."""
    chunk: dict[str, Any] = {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion.chunk",
        "created": created_s,
        "model": model,
        "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}],
    }
    return data_event(msgspec.json.encode(chunk)) + DONE


def is_end(piece: bytes) -> bool:
    """Whether the stream ends with this piece."""
    return DONE in piece


def with_usage_before_end(
    piece: bytes, model: str, request_id: str, created_s: int, usage: Usage, cost: Usd
) -> bytes | None:
    """The end of a stream with a usage frame of our own, marked as estimated; None where `piece` is not the end."""
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
    chunk = {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion.chunk",
        "created": created_s,
        "model": model,
        "choices": [],
        "usage": counts,
    }
    return piece[:end] + data_event(msgspec.json.encode(chunk)) + piece[end:]
