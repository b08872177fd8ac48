"""A Messages request, read into the canonical conversation."""

from __future__ import annotations

import base64
from typing import Any, Final

import msgspec

from adapters.dialects.anthropic.seals import CALL_SEAL, thinking_of
from adapters.dialects.object_members import ObjectMembers, object_at, unreadable
from adapters.dialects.request_members import UNREADABLE
from domain.catalog import Dialect
from domain.errors import InvalidRequest, UnsupportedParameter
from domain.inference.conversation import (
    Block,
    CacheMark,
    Citation,
    Conversation,
    Document,
    Effort,
    Extras,
    Foreign,
    FunctionTool,
    Image,
    Inline,
    JsonSchema,
    Link,
    Opaque,
    Reasoning,
    ResultBlock,
    Role,
    ServerTool,
    Source,
    StoredFile,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
    Turn,
    WebSearch,
)

Json = dict[str, Any]

ANTHROPIC: Final = Dialect.ANTHROPIC
NOT_SAID: Final = ("model", "stream", "models", "provider", "session_id", "max_cost_usd")
"""Members that are none of the conversation's."""
WEB_SEARCH: Final = "web_search_"
WHOLE: Final = "block"
"""The extra of a text that stands for a block that other dialects do not have; it is written back as it was."""

_DECODER = msgspec.json.Decoder(dict[str, Any])
_ROLES: Final = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM}
_MODES: Final = {"auto": ToolMode.AUTO, "none": ToolMode.NONE, "any": ToolMode.REQUIRED, "tool": ToolMode.REQUIRED}
_EFFORTS: Final = frozenset(map(str, Effort))
_PLAIN_TEXT: Final = frozenset({"type", "text"})


def read_conversation(body: bytes) -> Conversation:
    """Raises InvalidRequest, naming the member that cannot be read."""
    try:
        decoded = _DECODER.decode(body)
    except UNREADABLE as error:
        raise InvalidRequest(f"The body is not a JSON object that can be read: {error}.") from None
    for name in NOT_SAID:
        decoded.pop(name, None)
    request = ObjectMembers(decoded, "", ANTHROPIC)
    output_max = request.taken("max_tokens", int)
    if output_max == 0:
        raise UnsupportedParameter(
            "'max_tokens' 0 only warms a prompt cache, which the vendor of this model does not offer; use 1 or more.",
            param="max_tokens",
        )
    system = _system(request)
    turns = [_turn(each, where) for each, where in request.items("messages")]
    tools = tuple(_tool(each, where) for each, where in request.items("tools"))
    choice, parallel = _tool_choice(request.member("tool_choice"))
    output = request.member("output_config")
    effort = None if output is None else output.taken("effort", str)
    format_ = None if output is None else output.member("format")
    metadata = request.member("metadata")
    return Conversation(
        turns=(*system, *turns),
        tools=tools,
        tool_choice=choice,
        parallel_tools=parallel,
        output_max=output_max,
        output_format=_format(format_),
        reasoning=_reasoning(request.member("thinking"), effort),
        stop=_strings(request, "stop_sequences"),
        temperature=request.number("temperature"),
        top_p=request.number("top_p"),
        top_k=request.taken("top_k", int),
        user=None if metadata is None else metadata.taken("user_id", str),
        service_tier=request.taken("service_tier", str),
        extras=request.rest(),
    )


def _system(request: ObjectMembers) -> list[Turn]:
    value = request.taken("system", object)
    if value is None or value in ("", []):
        return []
    return [Turn(role=Role.SYSTEM, blocks=tuple(_content(value, "system")))]


def _turn(value: object, where: str) -> Turn:
    turn = ObjectMembers.of(value, where, ANTHROPIC)
    role = _ROLES.get(turn.required("role", str))
    if role is None:
        raise unreadable(turn.path("role"), "'user', 'assistant' or 'system'")
    blocks = _content(turn.required("content", object), turn.path("content"))
    return Turn(role=role, blocks=tuple(_with_seals(blocks)), extras=turn.rest())


def _content(value: object, where: str) -> list[Block]:
    if isinstance(value, str):
        return [Text(text=value)] if value else []
    if not isinstance(value, list):
        raise unreadable(where, "a string or an array of blocks")
    return [_block(each, f"{where}[{at}]") for at, each in enumerate(value)]


def _with_seals(blocks: list[Block]) -> list[Block]:
    """Seals of tool calls, which this dialect can only carry in blocks of their own, put back where they belong."""
    seals = {block.kind: block.raw["seal"] for block in blocks if isinstance(block, Foreign) and _is_seal(block)}
    if not seals:
        return blocks
    return [
        msgspec.structs.replace(block, sealed=seals[CALL_SEAL + block.id])
        if isinstance(block, ToolCall) and CALL_SEAL + block.id in seals
        else block
        for block in blocks
        if not (isinstance(block, Foreign) and _is_seal(block))
    ]


def _is_seal(block: Foreign) -> bool:
    return block.kind.startswith(CALL_SEAL)


def _block(value: object, where: str) -> Block:
    raw = object_at(value, where)
    kind = raw.get("type")
    if kind == "text":
        text = raw.get("text")
        if isinstance(text, str) and raw.keys() == _PLAIN_TEXT:
            return Text(text=text)
        return _text(ObjectMembers(raw, where, ANTHROPIC))
    if not isinstance(kind, str):
        raise unreadable(f"{where}.type", "a string")
    reader = _READERS.get(kind)
    if reader is None:
        return Foreign(ANTHROPIC, kind, raw)
    block: Block = reader(ObjectMembers(raw, where, ANTHROPIC), raw)
    return block


def _text(block: ObjectMembers) -> Text:
    block.taken("type", str)
    cache = _cache(block)
    citations = tuple(citation_of(object_at(each, where)) for each, where in block.items("citations"))
    return Text(text=block.required("text", str), cache=cache, citations=citations, extras=block.rest())


def citation_of(raw: Json) -> Citation:
    """Offsets here count characters of the source, not of the answer's text, and so stay in the extras."""

    def text(*names: str) -> str:
        return next((value for name in names if isinstance(value := raw.get(name), str)), "")

    return Citation(
        url=text("url", "source"),
        title=text("title", "document_title"),
        quoted=text("cited_text"),
        # A source that another family of models named has no index of Anthropic's.
        extras=None if raw.get("encrypted_index") == "" else Extras(ANTHROPIC, raw),
    )


def _image(block: ObjectMembers, _: Json) -> Image:
    block.taken("type", str)
    cache = _cache(block)
    source = block.member("source")
    if source is None:
        raise unreadable(block.path("source"), "an object")
    return Image(source=_source(source), cache=cache, extras=block.rest())


def _document(block: ObjectMembers, _: Json) -> Document:
    block.taken("type", str)
    cache = _cache(block)
    raw = block.required("source", dict)
    source = ObjectMembers(raw, block.path("source"), ANTHROPIC)
    name, context = block.taken("title", str), block.taken("context", str)
    extras = block.rest()
    if raw.get("type") == "content":
        # Made of blocks; others are shown its text, and it is written back as it was.
        members = {} if extras is None else extras.members
        extras = Extras(ANTHROPIC, {**members, "source": raw})
        return Document(
            source=_plain(_texts(raw.get("content"))), name=name, context=context, cache=cache, extras=extras
        )
    return Document(source=_source(source), name=name, context=context, cache=cache, extras=extras)


def _source(source: ObjectMembers) -> Source:
    kind = source.required("type", str)
    match kind:
        case "base64":
            return Inline(source.required("media_type", str), source.required("data", str))
        case "text":
            return _plain(source.required("data", str))
        case "url":
            return Link(source.required("url", str))
        case "file":
            return StoredFile(source.required("file_id", str))
        case _:
            raise unreadable(source.path("type"), "'base64', 'url', 'text' or 'file'")


def _plain(text: str) -> Inline:
    return Inline("text/plain", base64.b64encode(text.encode("utf-8", "surrogatepass")).decode())


def _texts(content: object) -> str:
    """All text in a content of any depth, for those who cannot be given its structure."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(filter(None, map(_texts, content)))
    if isinstance(content, dict):
        return _texts(content.get("text") or content.get("content"))
    return ""


def _search_result(block: ObjectMembers, raw: Json) -> Text:
    """Text for those who know no search results."""
    block.taken("type", str)
    cache = _cache(block)
    told = (block.required("title", str), block.required("source", str), _texts(block.taken("content", list)))
    return Text(text="\n".join(filter(None, told)), cache=cache, extras=Extras(ANTHROPIC, {WHOLE: raw}))


def _thinking(block: ObjectMembers, _: Json) -> Block:
    block.taken("type", str)
    text = block.required("thinking", str)
    return thinking_of(text, block.taken("signature", str) or "", block.rest())


def _redacted(block: ObjectMembers, _: Json) -> Block:
    block.taken("type", str)
    data = block.required("data", str)
    if data.startswith(CALL_SEAL):
        call_id, packed = data.removeprefix(CALL_SEAL).split(".", 1) if "." in data[len(CALL_SEAL) :] else (data, "")
        return Foreign(ANTHROPIC, CALL_SEAL + call_id, {"seal": Opaque.unpacked(packed, ANTHROPIC)})
    return thinking_of("", data, block.rest(), redacted=True)


def _tool_use(block: ObjectMembers, _: Json) -> ToolCall:
    block.taken("type", str)
    cache = _cache(block)
    input_ = block.taken("input", dict)
    return ToolCall(
        id=block.required("id", str),
        name=block.required("name", str),
        arguments=msgspec.json.encode(input_ or {}).decode(),
        cache=cache,
        extras=block.rest(),
    )


def _tool_result(block: ObjectMembers, _: Json) -> ToolResult:
    block.taken("type", str)
    cache = _cache(block)
    content = block.taken("content", object)
    blocks = [] if content is None else _content(content, block.path("content"))
    kept: list[ResultBlock] = []
    for each in blocks:
        if not isinstance(each, Text | Image | Document | Foreign):
            raise unreadable(block.path("content"), "text, images or documents")
        kept.append(each)
    return ToolResult(
        call_id=block.required("tool_use_id", str),
        content=tuple(kept),
        failed=block.taken("is_error", bool) or False,
        cache=cache,
        extras=block.rest(),
    )


_READERS: Final[dict[str, Any]] = {
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
}


def _cache(block: ObjectMembers) -> CacheMark | None:
    mark = block.member("cache_control")
    return None if mark is None else CacheMark(mark.taken("ttl", str))


def _tool(value: object, where: str) -> Tool:
    raw = object_at(value, where)
    kind = raw.get("type")
    if kind is not None and not isinstance(kind, str):
        raise unreadable(f"{where}.type", "a string")
    tool = ObjectMembers(raw, where, ANTHROPIC)
    if kind not in (None, "custom"):
        return _web_search(tool) if kind.startswith(WEB_SEARCH) else ServerTool(ANTHROPIC, kind, raw)
    tool.taken("type", str)
    cache = _cache(tool)
    return FunctionTool(
        name=tool.required("name", str),
        description=tool.taken("description", str),
        parameters=tool.taken("input_schema", dict),
        strict=tool.taken("strict", bool),
        cache=cache,
        extras=tool.rest(),
    )


def _web_search(tool: ObjectMembers) -> WebSearch:
    return WebSearch(
        uses_max=tool.taken("max_uses", int),
        allowed_domains=_strings(tool, "allowed_domains"),
        blocked_domains=_strings(tool, "blocked_domains"),
        extras=tool.rest(),
    )


def _strings(members: ObjectMembers, name: str) -> tuple[str, ...]:
    found: list[str] = []
    for each, where in members.items(name):
        if not isinstance(each, str):
            raise unreadable(where, "a string")
        found.append(each)
    return tuple(found)


def _tool_choice(choice: ObjectMembers | None) -> tuple[ToolChoice | None, bool | None]:
    """The choice, and whether several tools may be called at once."""
    if choice is None:
        return None, None
    kind = choice.required("type", str)
    mode = _MODES.get(kind)
    if mode is None:
        raise unreadable(choice.path("type"), "'auto', 'any', 'tool' or 'none'")
    named = choice.required("name", str) if kind == "tool" else None
    alone = choice.taken("disable_parallel_tool_use", bool)
    return ToolChoice(mode=mode, named=named), None if alone is None else not alone


def _format(format_: ObjectMembers | None) -> JsonSchema | None:
    if format_ is None:
        return None
    if format_.required("type", str) != "json_schema":
        raise unreadable(format_.path("type"), "'json_schema'")
    return JsonSchema(schema=format_.required("schema", dict))


def _reasoning(thinking: ObjectMembers | None, effort: str | None) -> Reasoning | None:
    if effort is not None and effort not in _EFFORTS:
        raise unreadable("output_config.effort", f"one of {', '.join(Effort)}")
    wanted = None if effort is None else Effort(effort)
    if thinking is None:
        return None if wanted is None else Reasoning(effort=wanted)
    kind = thinking.required("type", str)
    display = thinking.taken("display", str)
    budget = thinking.taken("budget_tokens", int)
    if kind == "disabled":
        wanted = Effort.NONE
    elif kind not in ("adaptive", "enabled"):
        # Newer kinds are Anthropic's own affair; others think as their default is.
        return Reasoning(effort=wanted, extras=Extras(ANTHROPIC, {"type": kind}))
    return Reasoning(
        effort=wanted,
        budget_tokens=budget if kind == "enabled" else None,
        adaptive=kind == "adaptive",
        summary="auto" if display == "summarized" else None,
        hidden=display == "omitted",
        extras=thinking.rest(),
    )
