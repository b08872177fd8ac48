"""Answers that the gateway keeps: how a request continues one, and what of an answer is kept.

The gateway keeps them itself, whoever serves the request: a conversation can so go on at another vendor, and no vendor
needs to keep it.  Vendors are therefore asked not to, and to send sealed reasoning along, without which a conversation
that is sent again would lose it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from adapters.dialects.json_members import JsonRefused, Members, edit, members
from adapters.dialects.object_members import Json
from adapters.dialects.openai_responses.replies import ResponsesReplyWriter
from adapters.dialects.openai_responses.reply_reader import read_reply
from adapters.dialects.openai_responses.server import FAILURE_CODES, read_request
from adapters.dialects.openai_responses.wire import UNREADABLE, usage_of
from adapters.dialects.request_members import member, raw_member
from adapters.transport.sse import events, named_event
from domain.errors import InvalidRequest, UnsupportedParameter
from domain.inference.chat import ChatCall
from domain.inference.conversation import Refusal, Text, Thinking, ToolCall
from domain.inference.faults import VendorFault
from domain.inference.reply import Closed, Finished, Grew, Opened, Reply, ReplyEvent, Sealed, Started, SummaryGrew
from domain.inference.tokens import estimated_prompt_tokens
from domain.usage import NOTHING, Usage

SEALED_REASONING: Final = "reasoning.encrypted_content"
ITEMS_MAX: Final = 10_000
ITEMS_BYTES_MAX: Final = 32 * 1024 * 1024
"""Of a whole conversation: as much as one request may have."""
PAGE_MAX: Final = 100


class Wishes(Struct, frozen=True):
    """What a request says of being kept."""

    keep: bool
    background: bool
    previous: str | None


class _Ended(Struct):
    type: str = ""
    response: Raw = Raw()


_ENDED = msgspec.json.Decoder(_Ended)
_ITEMS = msgspec.json.Decoder(list[Raw])
_OUTPUT = msgspec.json.Decoder(dict[str, Raw])


def wishes(body: bytes) -> Wishes:
    """Raises InvalidRequest for what contradicts itself, UnsupportedParameter for what is kept elsewhere."""
    parts = _members(body)
    store = member(parts, "store", bool)
    background = member(parts, "background", bool) or False
    previous = member(parts, "previous_response_id", str)
    if raw_member(parts, "conversation") is not None:
        raise UnsupportedParameter(
            "Conversations are not kept under ids of their own here; use 'previous_response_id', or send all items.",
            param="conversation",
        )
    if background and store is False:
        raise InvalidRequest("What runs in the background must be kept: leave 'store' out.", param="store")
    if background and member(parts, "stream", bool):
        raise UnsupportedParameter(
            "A background response cannot be streamed; ask for it by its id, or leave 'background' out.", param="stream"
        )
    return Wishes(keep=store is not False, background=background, previous=previous)


def continued(body: bytes, items: bytes | None, answer: bytes | None, *, keeps: bool) -> bytes:
    """The request as it is sent on: with everything that was said before it, and nothing for a vendor to keep."""
    parts = _members(body)
    replace: dict[str, bytes] = {}
    add: dict[str, bytes] = {}
    given = _given(parts)
    if items is not None and answer is not None:
        said = [*_ITEMS.decode(items), *_output(answer), *given]
        if len(said) > ITEMS_MAX or sum(len(item) for item in said) > ITEMS_BYTES_MAX:
            raise InvalidRequest(
                f"This conversation has more than {ITEMS_MAX} items, or {ITEMS_BYTES_MAX // 2**20} MiB. Begin a new "
                "one.",
                param="previous_response_id",
            )
        replace["input"] = msgspec.json.encode(said)
    if keeps:
        (replace if "store" in parts.values else add)["store"] = b"false"
        include = member(parts, "include", list[str]) or []
        if SEALED_REASONING not in include:
            told = msgspec.json.encode([*include, SEALED_REASONING])
            (replace if "include" in parts.values else add)["include"] = told
    remove = {name for name in ("previous_response_id", "background") if name in parts.values}
    return edit(body, parts, replace=replace, remove=remove, add=add)


def items_of(body: bytes) -> bytes:
    """All items of a request, as a JSON array."""
    return msgspec.json.encode(_given(_members(body)))


def answer_in(piece: bytes) -> bytes | None:
    """The answer in the event that ends a stream; None where `piece` has none."""
    for event in reversed(events(piece)):
        try:
            ended = _ENDED.decode(event.data)
        except UNREADABLE:
            continue
        if ended.type in ("response.completed", "response.incomplete", "response.failed") and ended.response:
            return bytes(ended.response)
    return None


def shown(answer: bytes, previous: str | None, *, background: bool) -> bytes:
    """An answer as its caller sees it: kept, and in its place in the conversation."""
    return _with(
        answer,
        store=True,
        **({} if previous is None else {"previous_response_id": previous}),
        **({"background": True} if background else {}),
    )


def stream_shown(piece: bytes, previous: str | None) -> bytes:
    """The same for the events of a stream that carry the answer."""
    if b'"response":' not in piece:
        return piece
    for event in events(piece):
        if b'"response":' not in event.data:
            continue
        try:
            parts = members(event.data)
            told = shown(bytes(parts.values["response"]), previous, background=False)
            piece = piece.replace(event.data, edit(event.data, parts, replace={"response": told}), 1)
        except (JsonRefused, KeyError):
            continue
    return piece


def id_and_status(answer: bytes) -> tuple[str, str]:
    """Raises InvalidRequest for what is no answer."""
    try:
        told = msgspec.json.decode(answer, type=dict[str, Any])
    except UNREADABLE:
        told = {}
    if not isinstance(told.get("id"), str):
        raise InvalidRequest("The vendor's answer has no id, so that it cannot be kept.")
    return told["id"], str(told.get("status") or "completed")


def begun(body: bytes, request_id: str, created_s: int) -> bytes:
    """The answer of a request that was only taken in."""
    call = ChatCall(request=read_request(body), vendor_model="", id=request_id, at_s=created_s)
    writer = ResponsesReplyWriter(call)
    first = writer.write([Started(id="", model="", created_s=created_s)], None)
    for event in events(first):
        created = _ENDED.decode(event.data)
        if created.response:
            return _with(bytes(created.response), status="queued", background=True, store=True)
    raise AssertionError("a writer's first event carries the answer")


def named(answer: bytes, response_id: str) -> bytes:
    """The answer under the id that its caller was given."""
    return _with(answer, id=response_id)


def ended_badly(answer: bytes, status: str, code: str, message: str) -> bytes:
    error = {"code": code if code in FAILURE_CODES else "server_error", "message": message}
    return _with(answer, status=status, error=None if status == "cancelled" else error)


def as_stream(answer: bytes, request: bytes, after: int) -> bytes:
    """A kept answer as the events that a stream of it would have had, from the one after number `after`.

    Raises InvalidRequest for an answer that is in no form of which events can be made.
    """
    told = msgspec.json.decode(answer, type=dict[str, Any])
    if told.get("status") in ("failed", "cancelled"):
        ended = {"type": "response.failed", "sequence_number": 0, "response": Raw(answer)}
        return named_event("response.failed", msgspec.json.encode(ended)) if after < 0 else b""
    try:
        reply = read_reply(answer)
    except VendorFault:
        raise InvalidRequest("This response cannot be streamed; ask for it without 'stream'.", param="stream") from None
    call = ChatCall(request=read_request(request), vendor_model="", id=reply.id, at_s=reply.created_s or 0)
    writer = ResponsesReplyWriter(call)
    usage: Usage = usage_of(told.get("usage")) or NOTHING
    whole = writer.write(_events_of(reply), None) + writer.end(usage)
    numbered = [(event, index) for index, event in enumerate(whole.removesuffix(b"\n\n").split(b"\n\n"))]
    return b"".join(event + b"\n\n" for event, index in numbered if index > after)


def input_page(items: bytes, response_id: str, *, limit: int, after: str | None, newest_first: bool) -> Json:
    """One page of a kept answer's input, each item with an id."""
    listed = [_identified(item, f"item_{response_id.removeprefix('resp_')}_{at}") for at, item in _numbered(items)]
    if newest_first:
        listed.reverse()
    if after is not None:
        places = [at for at, item in enumerate(listed) if item["id"] == after]
        if not places:
            raise InvalidRequest("There is no item of this id in the list.", param="after")
        listed = listed[places[0] + 1 :]
    page = listed[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(listed) > limit,
    }


def counted(body: bytes) -> int:
    """An estimate of a request's input tokens.  Raises InvalidRequest."""
    return estimated_prompt_tokens(read_request(body).body)


def _members(body: bytes) -> Members:
    try:
        return members(body)
    except JsonRefused as refused:
        raise InvalidRequest(f"The body is not a JSON object that can be read: {refused}.") from None


def _given(parts: Members) -> list[Raw]:
    raw = raw_member(parts, "input")
    if raw is None or raw[:1] not in (b'"', b"["):
        raise InvalidRequest("'input' must be a string or an array of items.", param="input")
    if raw[:1] == b'"':
        message = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": Raw(raw)}]}
        return [Raw(msgspec.json.encode(message))] if raw != b'""' else []
    try:
        items = _ITEMS.decode(raw)
    except UNREADABLE as error:
        raise InvalidRequest(f"'input' cannot be read: {error}.", param="input") from None
    if not all(bytes(item).startswith(b"{") for item in items):
        raise InvalidRequest("Each item of 'input' must be an object.", param="input")
    return items


def _output(answer: bytes) -> list[Raw]:
    try:
        output = _OUTPUT.decode(answer).get("output")
        return _ITEMS.decode(output) if output is not None else []
    except UNREADABLE:
        return []


def _with(answer: bytes, **told: object) -> bytes:
    """An answer with other values for some members; unchanged where it is no object."""
    try:
        parts = members(answer)
    except JsonRefused:
        return answer
    values = {name: msgspec.json.encode(value) for name, value in told.items()}
    replace = {name: value for name, value in values.items() if name in parts.values}
    add = {name: value for name, value in values.items() if name not in parts.values}
    return edit(answer, parts, replace=replace, add=add)


def _numbered(items: bytes) -> Sequence[tuple[int, Json]]:
    return list(enumerate(msgspec.json.decode(items, type=list[dict[str, Any]])))


def _identified(item: Mapping[str, Any], id_: str) -> Json:
    told = {"type": "message", **item}
    content = told.get("content")
    if told["type"] == "message" and isinstance(content, str):
        kind = "output_text" if told.get("role") == "assistant" else "input_text"
        told["content"] = [{"type": kind, "text": content}]
    return {**told, "id": item.get("id") or id_}


def _events_of(reply: Reply) -> list[ReplyEvent]:
    told: list[ReplyEvent] = [Started(id=reply.id, model=reply.model, created_s=reply.created_s)]
    for block in reply.blocks:
        match block:
            case Text():
                told += [Opened(msgspec.structs.replace(block, text="")), Grew(block.text)]
            case Refusal():
                told += [Opened(Refusal(text="")), Grew(block.text)]
            case ToolCall():
                told += [Opened(msgspec.structs.replace(block, arguments="")), Grew(block.arguments)]
            case Thinking():
                told.append(Opened(Thinking()))
                told += [SummaryGrew(text, part) for part, text in enumerate(block.summary)]
                told += [Grew(block.text)] if block.text else []
                told += [Sealed(block.sealed)] if block.sealed is not None else []
            case _:
                told.append(Opened(block))
        told.append(Closed())
    return [*told, Finished(finish=reply.finish)]
