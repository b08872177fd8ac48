"""A caller's Responses request, read into the canonical conversation.

Items of one side that follow one another are one turn: what a model thought, said and called is one answer of it.  The
dialect's own members, and items of tools that the vendor runs, are kept so that writing them back loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from adapters.dialects.gateway_fields import GATEWAY_FIELDS
from adapters.dialects.object_members import Json, ObjectMembers, object_at, unreadable
from adapters.dialects.request_members import UNREADABLE
from adapters.dialects.sources import source_of
from domain.catalog import Dialect
from domain.errors import InvalidRequest
from domain.inference.conversation import (
    Audio,
    Block,
    Citation,
    Conversation,
    CustomTool,
    Document,
    Effort,
    Extras,
    Foreign,
    FunctionTool,
    Image,
    JsonObject,
    JsonSchema,
    Opaque,
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

OURS: Final = Dialect.OPENAI_RESPONSES
ORIGIN: Final = "openai"
"""Who sealed the reasoning that this dialect's own vendors send."""
INSTRUCTIONS: Final = "instructions"
NAMESPACE: Final = "namespace"

_SKIPPED: Final = frozenset({"model", "stream", "stream_options", *GATEWAY_FIELDS})
_ROLES: Final[Mapping[str, Role]] = {
    role.value: role for role in (Role.SYSTEM, Role.DEVELOPER, Role.USER, Role.ASSISTANT)
}
_MODES: Final[Mapping[object, ToolMode]] = {
    "auto": ToolMode.AUTO,
    "none": ToolMode.NONE,
    "required": ToolMode.REQUIRED,
}
_EFFORTS: Final = frozenset(Effort)


def read_conversation(body: bytes) -> Conversation:
    """Raises InvalidRequest, naming the member that cannot be read."""
    try:
        request = msgspec.json.decode(body, type=dict[str, Any])
    except UNREADABLE:
        raise InvalidRequest("The body is not a JSON object that can be read.") from None
    members = _members({name: value for name, value in request.items() if name not in _SKIPPED}, "")
    turns = _Turns()
    if told := members.taken(INSTRUCTIONS, str):
        turns.add(Role.SYSTEM, Text(text=told), Extras(OURS, {INSTRUCTIONS: True}))
    _read_input(members, turns)
    tools = [tool for value, where in members.items("tools") for tool in _tools(value, where)]
    text = members.member("text")
    format_ = verbosity = None
    if text is not None:
        format_, verbosity = _output_format(text), text.taken("verbosity", str)
    return Conversation(
        turns=turns.whole(),
        tools=tuple(tools),
        tool_choice=_tool_choice(members),
        parallel_tools=members.taken("parallel_tool_calls", bool),
        output_max=members.taken("max_output_tokens", int),
        output_format=format_,
        reasoning=_reasoning(members),
        verbosity=verbosity,
        temperature=members.number("temperature"),
        top_p=members.number("top_p"),
        logprobs=members.taken("top_logprobs", int),
        user=_user(members),
        cache_key=members.taken("prompt_cache_key", str),
        service_tier=members.taken("service_tier", str),
        metadata=_metadata(members),
        extras=members.rest(),
    )


def namespaces(body: bytes) -> Mapping[str, tuple[str, str]]:
    """The tools of a request that stand in a namespace: their flat name -> namespace, own name."""
    if b'"namespace"' not in body:
        return {}
    return {
        tool.name: (str(extras.members[NAMESPACE]), tool.name.removeprefix(f"{extras.members[NAMESPACE]}__"))
        for tool in read_conversation(body).tools
        if isinstance(tool, FunctionTool) and (extras := tool.extras) is not None and NAMESPACE in extras.members
    }


class _Turns:
    """Turns as they grow; what belongs to the side that spoke last joins its turn."""

    def __init__(self) -> None:
        self._turns: list[tuple[Role, list[Block], Extras | None]] = []

    def add(self, role: Role, block: Block, extras: Extras | None = None) -> None:
        last = self._turns[-1] if self._turns else None
        if last is not None and last[0] is role and role in (Role.ASSISTANT, Role.TOOL) and last[2] == extras:
            last[1].append(block)
        else:
            self._turns.append((role, [block], extras))

    def begin(self, role: Role, blocks: list[Block], extras: Extras | None) -> None:
        if role is Role.ASSISTANT:
            for block in blocks:
                self.add(role, block, extras)
        elif blocks:
            self._turns.append((role, blocks, extras))

    def sealed(self, call: ToolCall) -> ToolCall:
        """The call with the seal that stands alone before it: another family's, which no item of a call can hold."""
        role, blocks, _ = self._turns[-1] if self._turns else (Role.USER, [], None)
        last = blocks[-1] if blocks else None
        if role is not Role.ASSISTANT or not isinstance(last, Thinking) or last.sealed is None:
            return call
        if last.text or last.summary or last.sealed.origin == ORIGIN:
            return call
        blocks.pop()
        if not blocks:
            self._turns.pop()
        return replace(call, sealed=last.sealed)

    def whole(self) -> tuple[Turn, ...]:
        return tuple(Turn(role=role, blocks=tuple(blocks), extras=extras) for role, blocks, extras in self._turns)


def _members(values: Json, where: str) -> ObjectMembers:
    return ObjectMembers(values, where, OURS)


def _read_input(members: ObjectMembers, turns: _Turns) -> None:
    value = members.taken("input", object)
    if isinstance(value, str):
        if value:
            turns.add(Role.USER, Text(text=value))
        return
    if not isinstance(value, list):
        raise unreadable("input", "a string or an array of items")
    for at, each in enumerate(value):
        where = f"input[{at}]"
        _item(object_at(each, where), where, turns)


def _item(item: Json, where: str, turns: _Turns) -> None:
    members = _members(item, where)
    kind = members.taken("type", str) or "message"
    match kind:
        case "message":
            role = members.required("role", str)
            if role not in _ROLES:
                raise InvalidRequest(
                    f"'{where}.role' is {role!r}; use developer, system, user or assistant.", param=f"{where}.role"
                )
            blocks = _content(members)
            for name in ("id", "status"):
                members.taken(name, object)
            turns.begin(_ROLES[role], blocks, members.rest())
        case "reasoning":
            turns.add(Role.ASSISTANT, _thinking(members))
        case "function_call" | "custom_tool_call":
            turns.add(Role.ASSISTANT, turns.sealed(_call(members, custom=kind == "custom_tool_call")))
        case "function_call_output" | "custom_tool_call_output":
            result = ToolResult(
                call_id=members.required("call_id", str),
                content=_output(members),
                custom=kind == "custom_tool_call_output",
            )
            turns.add(Role.TOOL, result)
        case _:
            turns.add(Role.ASSISTANT, Foreign(OURS, kind, item))


def _thinking(members: ObjectMembers) -> Thinking:
    summary = tuple(_text_of(value, where) for value, where in members.items("summary"))
    text = "".join(_text_of(value, where) for value, where in members.items("content"))
    sealed = members.taken("encrypted_content", str)
    members.taken("status", object)
    return Thinking(
        text=text,
        summary=summary,
        sealed=None if not sealed else Opaque.unpacked(sealed, ORIGIN),
        extras=members.rest(),
    )


def _text_of(value: object, where: str) -> str:
    return _members(object_at(value, where), where).required("text", str)


def _call(members: ObjectMembers, *, custom: bool) -> ToolCall:
    name = members.required("name", str)
    if (space := members.taken(NAMESPACE, str)) is not None:
        name = f"{space}__{name}"
    for ours in ("id", "status"):
        members.taken(ours, object)
    return ToolCall(
        id=members.required("call_id", str),
        name=name,
        arguments=members.taken("input" if custom else "arguments", str) or "",
        custom=custom,
        extras=members.rest(),
    )


def _output(members: ObjectMembers) -> tuple[ResultBlock, ...]:
    value = members.taken("output", object)
    if isinstance(value, str):
        return (Text(text=value),) if value else ()
    if not isinstance(value, list):
        raise unreadable(members.path("output"), "a string or an array of parts")
    where = members.path("output")
    found = [_part(object_at(part, f"{where}[{at}]"), f"{where}[{at}]") for at, part in enumerate(value)]
    return tuple(block for block in found if isinstance(block, Text | Image | Document | Audio | Foreign))


def _content(members: ObjectMembers) -> list[Block]:
    value = members.taken("content", object)
    where = members.path("content")
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [Text(text=value)]
    if not isinstance(value, list):
        raise unreadable(where, "a string or an array of parts")
    found = [_part(object_at(part, f"{where}[{at}]"), f"{where}[{at}]") for at, part in enumerate(value)]
    return [block for block in found if block is not None]


def _part(part: Json, where: str) -> Block | None:
    members = _members(part, where)
    kind = members.required("type", str)
    match kind:
        case "input_text" | "output_text" | "text":
            text = members.taken("text", str) or ""
            members.taken("logprobs", object)
            citations = tuple(_citation(value, at) for value, at in members.items("annotations"))
            return Text(text=text, citations=citations, extras=members.rest()) if text else None
        case "refusal":
            return Refusal(text=members.required("refusal", str))
        case "input_image":
            file, url = members.taken("file_id", str), members.taken("image_url", str)
            source: Source = StoredFile(file) if file else source_of(url or "", f"{where}.image_url")
            return Image(source=source, detail=members.taken("detail", str), extras=members.rest())
        case "input_file":
            return _file(members, where)
        case "input_audio":
            inner = members.member("input_audio") or members
            return Audio(data=inner.required("data", str), format=inner.required("format", str))
        case _:
            return Foreign(OURS, kind, part)


def _file(members: ObjectMembers, where: str) -> Document:
    file, data, url = (members.taken(name, str) for name in ("file_id", "file_data", "file_url"))
    if file:
        source: Source = StoredFile(file)
    elif data:
        source = source_of(data, f"{where}.file_data", "application/pdf")
    else:
        source = source_of(url or "", f"{where}.file_url")
    return Document(source=source, name=members.taken("filename", str), extras=members.rest())


def _citation(value: object, where: str) -> Citation:
    members = _members(object_at(value, where), where)
    return Citation(
        url=members.taken("url", str) or "",
        title=members.taken("title", str) or "",
        start=members.taken("start_index", int),
        end=members.taken("end_index", int),
        extras=members.rest(),
    )


def _tools(value: object, where: str) -> list[Tool]:
    tool = object_at(value, where)
    kind = tool.get("type")
    members = _members({name: each for name, each in tool.items() if name != "type"}, where)
    if kind == "function":
        return [_function(members, {})]
    if kind == "custom":
        return [
            CustomTool(
                name=members.required("name", str),
                description=members.taken("description", str),
                format=members.taken("format", dict),
                extras=members.rest(),
            )
        ]
    if kind == NAMESPACE:
        space = members.required("name", str)
        told = {NAMESPACE: space, "namespace_description": members.taken("description", str)}
        inner = [ObjectMembers.of(each, at, OURS) for each, at in members.items("tools")]
        return [_function(each, told) for each in inner]
    if isinstance(kind, str) and kind.startswith("web_search"):
        filters = members.taken("filters", dict) or {}
        allowed = filters.get("allowed_domains") or ()
        size = members.taken("search_context_size", str)
        extras = Extras(OURS, {"type": kind, **(rest.members if (rest := members.rest()) else {})})
        return [WebSearch(allowed_domains=tuple(map(str, allowed)), context_size=size, extras=extras)]
    if not isinstance(kind, str):
        raise unreadable(f"{where}.type", 'a string, such as "function"')
    return [ServerTool(OURS, kind, tool)]


def _function(members: ObjectMembers, told: Mapping[str, Any]) -> FunctionTool:
    """A flat function; `told` is what its namespace adds to it."""
    members.taken("type", object)
    name = members.required("name", str)
    description = members.taken("description", str)
    parameters = members.taken("parameters", dict)
    strict = members.taken("strict", bool)
    rest = members.rest()
    known = {key: value for key, value in told.items() if value is not None}
    if known:
        name = f"{known[NAMESPACE]}__{name}"
    left = {**(rest.members if rest is not None else {}), **known}
    return FunctionTool(
        name=name,
        description=description,
        parameters=parameters,
        strict=strict,
        extras=Extras(OURS, left) if left else None,
    )


def _tool_choice(members: ObjectMembers) -> ToolChoice | None:
    value = members.taken("tool_choice", object)
    if value is None:
        return None
    if isinstance(value, str):
        if value not in _MODES:
            raise InvalidRequest("'tool_choice' must be none, auto, required or an object.", param="tool_choice")
        return ToolChoice(mode=_MODES[value])
    choice = ObjectMembers.of(value, "tool_choice", OURS)
    kind = choice.required("type", str)
    if kind in ("function", "custom"):
        return ToolChoice(mode=ToolMode.REQUIRED, named=choice.required("name", str))
    if kind == "allowed_tools":
        mode = _MODES.get(choice.taken("mode", str) or "auto", ToolMode.AUTO)
        names = [ObjectMembers.of(each, at, OURS).taken("name", str) for each, at in choice.items("tools")]
        return ToolChoice(mode=mode, allowed=tuple(name for name in names if name))
    # A tool of the vendor's own; where the vendor is another one, the tool is not there either.
    return ToolChoice(mode=ToolMode.REQUIRED, named=kind)


def _output_format(text: ObjectMembers) -> JsonObject | JsonSchema | None:
    format_ = text.member("format")
    if format_ is None:
        return None
    kind = format_.taken("type", str) or "text"
    if kind == "text":
        return None
    if kind == "json_object":
        return JsonObject()
    if kind != "json_schema":
        raise InvalidRequest("'text.format.type' must be text, json_object or json_schema.", param="text.format.type")
    return JsonSchema(
        schema=format_.taken("schema", dict) or {},
        name=format_.taken("name", str) or "answer",
        description=format_.taken("description", str),
        strict=format_.taken("strict", bool),
    )


def _reasoning(members: ObjectMembers) -> Reasoning | None:
    told = members.member("reasoning")
    if told is None:
        return None
    effort = told.taken("effort", str)
    if effort is not None and effort not in _EFFORTS:
        raise InvalidRequest(f"'reasoning.effort' must be one of {', '.join(Effort)}.", param="reasoning.effort")
    summary = told.taken("summary", str)
    if summary is None and effort is None and told.rest() is None:
        return None
    return Reasoning(effort=None if effort is None else Effort(effort), summary=summary, extras=told.rest())


def _user(members: ObjectMembers) -> str | None:
    newer, older = members.taken("safety_identifier", str), members.taken("user", str)
    return newer or older


def _metadata(members: ObjectMembers) -> Mapping[str, str] | None:
    value = members.taken("metadata", dict)
    if value is not None and not all(isinstance(each, str) for each in value.values()):
        raise unreadable("metadata", "an object of strings")
    return value or None
