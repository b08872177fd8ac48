"""A caller's Chat Completions request, read into the canonical conversation.

What this dialect alone knows is kept as `Extras`, so that writing it back loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from adapters.dialects.gateway_fields import GATEWAY_FIELDS
from adapters.dialects.object_members import Json, ObjectMembers, object_at, unreadable
from adapters.dialects.openai_chat.reasoning import seals_by_call, thinking_of
from adapters.dialects.request_members import UNREADABLE
from adapters.dialects.sources import source_of
from domain.catalog import Dialect
from domain.errors import InvalidRequest
from domain.inference.conversation import (
    Audio,
    Block,
    CacheMark,
    Conversation,
    CustomTool,
    Document,
    Effort,
    Foreign,
    FunctionTool,
    Image,
    JsonObject,
    JsonSchema,
    Reasoning,
    Refusal,
    ResultBlock,
    Role,
    ServerTool,
    Source,
    StoredFile,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
    Turn,
    WebSearch,
)

_OURS: Final = frozenset({"model", "stream", "stream_options", *GATEWAY_FIELDS})


def read_conversation(body: bytes) -> Conversation:
    """Raises InvalidRequest, naming the member that cannot be read."""
    try:
        request = msgspec.json.decode(body, type=dict[str, Any])
    except UNREADABLE:
        raise InvalidRequest("The body is not a JSON object that can be read.") from None
    members = _members({name: value for name, value in request.items() if name not in _OURS}, "")
    turns = _turns(members.taken("messages", list) or [])
    tools = [_tool(tool, f"tools[{at}]") for at, tool in enumerate(members.taken("tools", list) or [])]
    tools += [
        _function(object_at(each, f"functions[{at}]"), f"functions[{at}]", {})
        for at, each in enumerate(members.taken("functions", list) or [])
    ]
    if (search := members.taken("web_search_options", dict)) is not None:
        tools.append(_web_search(search))
    older = members.taken("max_tokens", int)
    newer = members.taken("max_completion_tokens", int)
    choice = _tool_choice(members)
    return Conversation(
        turns=tuple(turns),
        tools=tuple(tools),
        tool_choice=choice,
        parallel_tools=members.taken("parallel_tool_calls", bool),
        output_max=newer if newer is not None else older,
        output_format=_output_format(members),
        reasoning=_reasoning(members, request.get("reasoning_effort")),
        verbosity=members.taken("verbosity", str),
        stop=_stop(members),
        temperature=members.number("temperature"),
        top_p=members.number("top_p"),
        top_k=members.taken("top_k", int),
        seed=members.taken("seed", int),
        frequency_penalty=members.number("frequency_penalty"),
        presence_penalty=members.number("presence_penalty"),
        logit_bias=_numbers(members),
        logprobs=_logprobs(members),
        answers=members.taken("n", int) or 1,
        user=_user(members),
        cache_key=members.taken("prompt_cache_key", str),
        service_tier=members.taken("service_tier", str),
        metadata=_metadata(members),
        extras=members.rest(),
    )


def _members(values: Json, where: str) -> ObjectMembers:
    return ObjectMembers(values, where, Dialect.OPENAI_CHAT)


# Turns


def _turns(messages: list[Any]) -> list[Turn]:
    turns: list[Turn] = []
    legacy_calls: list[ToolCall] = []
    for at, value in enumerate(messages):
        where = f"messages[{at}]"
        members = _members(object_at(value, where), where)
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
        call = _tool_call(_members(object_at(value, where), where))
        blocks.append(msgspec.structs.replace(call, sealed=seals[call.id]) if call.id in seals else call)
    if (legacy := members.taken("function_call", dict)) is not None:
        where = members.path("function_call")
        named = _members(legacy, where)
        name = named.required("name", str)
        blocks.append(ToolCall(id=f"call_{at}_{name}"[:64], name=name, arguments=_arguments(named)))
    return blocks


def _tool_call(members: ObjectMembers) -> ToolCall:
    id_ = members.required("id", str)
    members.taken("index", int)
    custom = members.taken("type", str) == "custom"
    inner = _members(members.required("custom" if custom else "function", dict), members.path("function"))
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
    members = _members(part, where)
    kind = members.required("type", str)
    if kind in ("text", "input_text", "output_text"):
        text = members.taken("text", str)
        cache = _cache(members)
        return Text(text=text, cache=cache, extras=members.rest()) if text else None
    if kind == "refusal":
        return Refusal(text=members.required("refusal", str))
    if kind == "image_url":
        cache = _cache(members)
        return _image(members, cache)
    if kind == "input_audio":
        inner = _members(members.required("input_audio", dict), members.path("input_audio"))
        data, format_ = inner.required("data", str), inner.required("format", str)
        return Audio(data=data, format=format_, cache=_cache(members), extras=members.rest())
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
    inner = _members({"url": value} if isinstance(value, str) else object_at(value, where), where)
    source = source_of(inner.required("url", str), inner.path("url"))
    return Image(source=source, detail=inner.taken("detail", str), cache=cache, extras=members.rest())


def _file(members: ObjectMembers) -> Document:
    inner = _members(members.required("file", dict), members.path("file"))
    data, id_ = inner.taken("file_data", str), inner.taken("file_id", str)
    name = inner.taken("filename", str)
    if id_:
        source: Source = StoredFile(id_)
    elif data:
        source = source_of(data, inner.path("file_data"), "application/pdf")
    else:
        raise unreadable(inner.path("file_data"), "a data URL")
    return Document(source=source, name=name, cache=_cache(members), extras=members.rest())


def _cache(members: ObjectMembers) -> CacheMark | None:
    for name in ("prompt_cache_breakpoint", "cache_control"):
        mark = members.taken(name, dict)
        if mark is not None:
            ttl = mark.get("ttl")
            return CacheMark(ttl=ttl if isinstance(ttl, str) else None)
    return None


# Tools


def _tool(value: object, where: str) -> Tool:
    tool = object_at(value, where)
    kind = tool.get("type")
    if kind == "function":
        inner = tool.get("function")
        outer = {name: each for name, each in tool.items() if name not in ("type", "function")}
        return _function(object_at(inner, f"{where}.function"), f"{where}.function", outer)
    if kind == "custom":
        members = _members(object_at(tool.get("custom"), f"{where}.custom"), f"{where}.custom")
        return CustomTool(
            name=members.required("name", str),
            description=members.taken("description", str),
            format=members.taken("format", dict),
            extras=members.rest(),
        )
    if not isinstance(kind, str):
        raise unreadable(f"{where}.type", 'a string, such as "function"')
    return ServerTool(Dialect.OPENAI_CHAT, kind, tool)


def _function(function: Json, where: str, outer: Json) -> FunctionTool:
    members = _members(function, where)
    cache = _cache(_members(outer, where))
    return FunctionTool(
        name=members.required("name", str),
        description=members.taken("description", str),
        parameters=members.taken("parameters", dict),
        strict=members.taken("strict", bool),
        cache=cache,
        extras=members.rest(),
    )


def _web_search(options: Json) -> WebSearch:
    members = _members(options, "web_search_options")
    return WebSearch(context_size=members.taken("search_context_size", str), extras=members.rest())


def _tool_choice(members: ObjectMembers) -> ToolChoice | None:
    value = members.taken("tool_choice", object)
    where = "tool_choice"
    if value is None:
        value, where = members.taken("function_call", object), "function_call"
        if isinstance(value, dict):
            value = {"type": "function", "function": value}
    if value is None:
        return None
    if isinstance(value, str) and value in _MODES:
        return ToolChoice(mode=_MODES[value])
    choice = _members(object_at(value, where), where)
    kind = choice.required("type", str)
    if kind in ("function", "custom"):
        inner = _members(choice.required(kind, dict), f"{where}.{kind}")
        return ToolChoice(mode=ToolMode.REQUIRED, named=inner.required("name", str))
    if kind == "allowed_tools":
        inner = _members(choice.required("allowed_tools", dict), f"{where}.allowed_tools")
        mode = _MODES.get(inner.taken("mode", str) or "auto", ToolMode.AUTO)
        names = [_allowed(each, inner.path("tools")) for each in inner.required("tools", list)]
        return ToolChoice(mode=mode, allowed=tuple(names))
    raise InvalidRequest(
        f"'{where}.type' is {kind!r}; use none, auto, required, a function, a custom tool or allowed_tools.",
        param=where,
    )


_MODES: Mapping[str, ToolMode] = {
    "auto": ToolMode.AUTO,
    "none": ToolMode.NONE,
    "required": ToolMode.REQUIRED,
    "any": ToolMode.REQUIRED,
}


def _allowed(value: object, where: str) -> str:
    tool = object_at(value, where)
    inner = tool.get("function") or tool.get("custom") or tool
    name = inner.get("name") if isinstance(inner, dict) else None
    if not isinstance(name, str):
        raise unreadable(where, "an array of {type, function: {name}}")
    return name


# The rest


def _output_format(members: ObjectMembers) -> JsonObject | JsonSchema | None:
    format_ = members.taken("response_format", dict)
    if format_ is None or format_.get("type") == "text":
        return None
    where = "response_format"
    if format_.get("type") == "json_object":
        return JsonObject()
    if format_.get("type") != "json_schema":
        raise InvalidRequest("'response_format.type' must be text, json_object or json_schema.", param=where)
    inner = _members(object_at(format_.get("json_schema"), f"{where}.json_schema"), f"{where}.json_schema")
    return JsonSchema(
        schema=inner.taken("schema", dict) or {},
        name=inner.taken("name", str) or "answer",
        description=inner.taken("description", str),
        strict=inner.taken("strict", bool),
    )


def _reasoning(members: ObjectMembers, wished_effort: object) -> Reasoning | None:
    """`reasoning_effort`, `reasoning` {effort, max_tokens, enabled, exclude}, `thinking` {type, budget_tokens}."""
    effort = _effort(members, wished_effort)
    unified = members.taken("reasoning", dict)
    thinking = members.taken("thinking", dict)
    if unified is not None:
        told = _members(unified, "reasoning")
        wished = told.taken("effort", str)
        effort = effort or (Effort(wished) if wished in _EFFORTS else None)
        budget, hidden = told.taken("max_tokens", int), told.taken("exclude", bool) or False
        enabled, summary = told.taken("enabled", bool), told.taken("summary", str)
        if enabled is False:
            effort = Effort.NONE
        return Reasoning(effort=effort, budget_tokens=budget, adaptive=enabled is True, summary=summary, hidden=hidden)
    if thinking is not None:
        told = _members(thinking, "thinking")
        kind, budget = told.taken("type", str), told.taken("budget_tokens", int)
        if kind == "disabled":
            return Reasoning(effort=Effort.NONE)
        return Reasoning(effort=effort, budget_tokens=budget, adaptive=budget is None)
    return Reasoning(effort=effort) if effort is not None else None


_EFFORTS: Final = frozenset(Effort)


def _effort(members: ObjectMembers, value: object) -> Effort | None:
    """Vendors have words and numbers of their own; those mean nothing to another, and stay extras."""
    if not isinstance(value, str) or value not in _EFFORTS:
        return None
    members.taken("reasoning_effort", str)
    return Effort(value)


def _stop(members: ObjectMembers) -> tuple[str, ...]:
    value = members.taken("stop", object)
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise unreadable("stop", "a string or an array of strings")
    return tuple(stops)


def _numbers(members: ObjectMembers) -> Mapping[str, float] | None:
    value = members.taken("logit_bias", dict)
    if value is not None and not all(isinstance(each, int | float) for each in value.values()):
        raise unreadable("logit_bias", "an object of numbers")
    return value


def _logprobs(members: ObjectMembers) -> int | None:
    wanted = members.taken("logprobs", object)
    most = members.taken("top_logprobs", int)
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        return wanted
    return (most or 0) if wanted is True else None


def _user(members: ObjectMembers) -> str | None:
    newer = members.taken("safety_identifier", str)
    older = members.taken("user", str)
    return newer or older


def _metadata(members: ObjectMembers) -> Mapping[str, str] | None:
    value = members.taken("metadata", dict)
    if value is not None and not all(isinstance(each, str) for each in value.values()):
        raise unreadable("metadata", "an object of strings")
    return value
