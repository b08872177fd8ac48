"""A caller's Chat Completions request, read into the canonical conversation.

What this dialect alone knows is kept as `Extras`, so that writing it back loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from adapters.dialects.gateway_fields import GATEWAY_FIELDS
from adapters.dialects.object_members import Json, ObjectMembers, object_at, unreadable
from adapters.dialects.openai_chat.message_reader import cache_of, members_of, read_turns
from adapters.dialects.request_members import UNREADABLE
from domain.catalog import Dialect
from domain.errors import InvalidRequest
from domain.inference.conversation import (
    Conversation,
    CustomTool,
    Effort,
    FunctionTool,
    JsonObject,
    JsonSchema,
    Reasoning,
    ServerTool,
    Tool,
    ToolChoice,
    ToolMode,
    WebSearch,
)

_OURS: Final = frozenset({"model", "stream", "stream_options", *GATEWAY_FIELDS})


def read_conversation(body: bytes) -> Conversation:
    """Raises InvalidRequest, naming the member that cannot be read."""
    try:
        request = msgspec.json.decode(body, type=dict[str, Any])
    except UNREADABLE:
        raise InvalidRequest("The body is not a JSON object that can be read.") from None
    members = members_of({name: value for name, value in request.items() if name not in _OURS}, "")
    turns = read_turns(members.taken("messages", list) or [])
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


# Tools


def _tool(value: object, where: str) -> Tool:
    tool = object_at(value, where)
    kind = tool.get("type")
    if kind == "function":
        inner = tool.get("function")
        outer = {name: each for name, each in tool.items() if name not in ("type", "function")}
        return _function(object_at(inner, f"{where}.function"), f"{where}.function", outer)
    if kind == "custom":
        members = members_of(object_at(tool.get("custom"), f"{where}.custom"), f"{where}.custom")
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
    members = members_of(function, where)
    cache = cache_of(members_of(outer, where))
    return FunctionTool(
        name=members.required("name", str),
        description=members.taken("description", str),
        parameters=members.taken("parameters", dict),
        strict=members.taken("strict", bool),
        cache=cache,
        extras=members.rest(),
    )


def _web_search(options: Json) -> WebSearch:
    members = members_of(options, "web_search_options")
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
    choice = members_of(object_at(value, where), where)
    kind = choice.required("type", str)
    if kind in ("function", "custom"):
        inner = members_of(choice.required(kind, dict), f"{where}.{kind}")
        return ToolChoice(mode=ToolMode.REQUIRED, named=inner.required("name", str))
    if kind == "allowed_tools":
        inner = members_of(choice.required("allowed_tools", dict), f"{where}.allowed_tools")
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
    inner = members_of(object_at(format_.get("json_schema"), f"{where}.json_schema"), f"{where}.json_schema")
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
        told = members_of(unified, "reasoning")
        wished = told.taken("effort", str)
        effort = effort or (Effort(wished) if wished in _EFFORTS else None)
        budget, hidden = told.taken("max_tokens", int), told.taken("exclude", bool) or False
        enabled, summary = told.taken("enabled", bool), told.taken("summary", str)
        if enabled is False:
            effort = Effort.NONE
        return Reasoning(effort=effort, budget_tokens=budget, adaptive=enabled is True, summary=summary, hidden=hidden)
    if thinking is not None:
        told = members_of(thinking, "thinking")
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
