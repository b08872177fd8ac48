"""Messages of a caller's Chat Completions request, read into turns of the canonical conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from adapters.dialects.object_members import Json, ObjectMembers, object_at, unreadable
from adapters.dialects.openai_chat.reasoning import seals_by_call, thinking_of
from adapters.dialects.sources import source_of
from domain.catalog import Dialect
from domain.errors import InvalidRequest
from domain.inference.conversation import (
    Audio,
    Block,
    CacheMark,
    Document,
    Foreign,
    Image,
    Refusal,
    ResultBlock,
    Role,
    Source,
    StoredFile,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
)


def read_turns(messages: list[Any]) -> list[Turn]:
    turns: list[Turn] = []
    legacy_calls: list[ToolCall] = []
    for at, value in enumerate(messages):
        where = f"messages[{at}]"
        members = members_of(object_at(value, where), where)
        role = members.required("role", str)
        if role in ("tool", "function"):
            result = _tool_result(members, role, legacy_calls)
            if turns and turns[-1].role is Role.TOOL:
                turns[-1] = msgspec.structs.replace(turns[-1], blocks=(*turns[-1].blocks, result))
            else:
                turns.append(Turn(role=Role.TOOL, blocks=(result,)))
            continue
        if role not in _ROLES:
            raise InvalidRequest(
                f"'{where}.role' is {role!r}; use developer, system, user, assistant or tool.", param=f"{where}.role"
            )
        if role == Role.ASSISTANT:
            blocks = _assistant_blocks(members, at)
            legacy_calls = [block for block in blocks if isinstance(block, ToolCall)]
        else:
            blocks = _parts(members)
        name = members.taken("name", str)
        turns.append(Turn(role=_ROLES[role], blocks=tuple(blocks), name=name, extras=members.rest()))
    return turns


_ROLES: Mapping[str, Role] = {role.value: role for role in (Role.SYSTEM, Role.DEVELOPER, Role.USER, Role.ASSISTANT)}


def members_of(values: Json, where: str) -> ObjectMembers:
    return ObjectMembers(values, where, Dialect.OPENAI_CHAT)


def _parts(members: ObjectMembers) -> list[Block]:
    """The content, a string or parts of it; empty text is nothing."""
    content = members.taken("content", object)
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [Text(text=content)]
    where = members.path("content")
    if not isinstance(content, list):
        raise unreadable(where, "a string or an array of parts")
    found = (_part(object_at(part, f"{where}[{at}]"), f"{where}[{at}]") for at, part in enumerate(content))
    return [block for block in found if block is not None]


def _assistant_blocks(members: ObjectMembers, at: int) -> list[Block]:
    blocks: list[Block] = []
    details = members.taken("reasoning_details", list) or []
    plain = members.taken("reasoning_content", str)
    other = members.taken("reasoning", str)
    seals = seals_by_call(details)
    blocks += thinking_of(details, plain or other or "")
    blocks += _parts(members)
    if refusal := members.taken("refusal", str):
        blocks.append(Refusal(text=refusal))
    for number, value in enumerate(members.taken("tool_calls", list) or []):
        where = f"{members.path('tool_calls')}[{number}]"
        call = _tool_call(members_of(object_at(value, where), where))
        blocks.append(msgspec.structs.replace(call, sealed=seals[call.id]) if call.id in seals else call)
    if (legacy := members.taken("function_call", dict)) is not None:
        where = members.path("function_call")
        named = members_of(legacy, where)
        name = named.required("name", str)
        blocks.append(ToolCall(id=f"call_{at}_{name}"[:64], name=name, arguments=_arguments(named)))
    return blocks


def _tool_call(members: ObjectMembers) -> ToolCall:
    id_ = members.required("id", str)
    members.taken("index", int)
    custom = members.taken("type", str) == "custom"
    inner = members_of(members.required("custom" if custom else "function", dict), members.path("function"))
    name = inner.required("name", str)
    arguments = (inner.taken("input", str) or "") if custom else _arguments(inner)
    return ToolCall(id=id_, name=name, arguments=arguments, custom=custom, extras=members.rest())


def _arguments(members: ObjectMembers) -> str:
    """JSON text; some clients send the object itself."""
    value = members.taken("arguments", object)
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    if value is not None and not isinstance(value, str):
        raise unreadable(members.path("arguments"), "a string of JSON")
    return value or ""


def _tool_result(members: ObjectMembers, role: str, calls: list[ToolCall]) -> ToolResult:
    name = members.taken("name", str) or ""
    if role == "function":
        call_id = next((call.id for call in calls if call.name == name), f"call_{name}"[:64])
    else:
        call_id = members.required("tool_call_id", str)
    content = tuple(cast(list[ResultBlock], _parts(members)))
    return ToolResult(call_id=call_id, content=content, name=name, extras=members.rest())


def _part(part: Json, where: str) -> Block | None:
    members = members_of(part, where)
    kind = members.required("type", str)
    if kind in ("text", "input_text", "output_text"):
        text = members.taken("text", str)
        cache = cache_of(members)
        return Text(text=text, cache=cache, extras=members.rest()) if text else None
    if kind == "refusal":
        return Refusal(text=members.required("refusal", str))
    if kind == "image_url":
        cache = cache_of(members)
        return _image(members, cache)
    if kind == "input_audio":
        inner = members_of(members.required("input_audio", dict), members.path("input_audio"))
        data, format_ = inner.required("data", str), inner.required("format", str)
        return Audio(data=data, format=format_, cache=cache_of(members), extras=members.rest())
    if kind == "file":
        return _file(members)
    if kind == "thinking":
        return _thinking_chunk(members)
    return Foreign(Dialect.OPENAI_CHAT, kind, part)


def _thinking_chunk(members: ObjectMembers) -> Thinking | None:
    """As content lists with reasoning in them have it."""
    pieces = members.taken("thinking", object)
    if isinstance(pieces, list):
        text = "".join(str(piece.get("text") or "") for piece in pieces if isinstance(piece, dict))
    else:
        text = pieces if isinstance(pieces, str) else ""
    return Thinking(text=text) if text else None


def _image(members: ObjectMembers, cache: CacheMark | None) -> Image:
    value = members.taken("image_url", object)
    where = members.path("image_url")
    inner = members_of({"url": value} if isinstance(value, str) else object_at(value, where), where)
    source = source_of(inner.required("url", str), inner.path("url"))
    return Image(source=source, detail=inner.taken("detail", str), cache=cache, extras=members.rest())


def _file(members: ObjectMembers) -> Document:
    inner = members_of(members.required("file", dict), members.path("file"))
    data, id_ = inner.taken("file_data", str), inner.taken("file_id", str)
    name = inner.taken("filename", str)
    if id_:
        source: Source = StoredFile(id_)
    elif data:
        source = source_of(data, inner.path("file_data"), "application/pdf")
    else:
        raise unreadable(inner.path("file_data"), "a data URL")
    return Document(source=source, name=name, cache=cache_of(members), extras=members.rest())


def cache_of(members: ObjectMembers) -> CacheMark | None:
    for name in ("prompt_cache_breakpoint", "cache_control"):
        mark = members.taken(name, dict)
        if mark is not None:
            ttl = mark.get("ttl")
            return CacheMark(ttl=ttl if isinstance(ttl, str) else None)
    return None
