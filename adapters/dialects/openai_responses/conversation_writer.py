"""The canonical conversation as a Responses request, for vendors that speak this dialect.

Nothing is stored at the vendor (`store` is false unless the caller of this same dialect asked for it): what a
conversation needs again is sent again, sealed reasoning included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from adapters.dialects.anthropic.models import effort_for
from adapters.dialects.object_members import Json
from adapters.dialects.openai_responses.conversation_reader import INSTRUCTIONS, NAMESPACE, ORIGIN, OURS
from adapters.dialects.sources import url_of
from domain.catalog import Dialect
from domain.errors import UnsupportedParameter
from domain.inference.chat import ChatCall
from domain.inference.conversation import (
    Audio,
    Block,
    Conversation,
    CustomTool,
    Document,
    Extras,
    Foreign,
    FunctionTool,
    Image,
    JsonObject,
    JsonSchema,
    Link,
    Refusal,
    Role,
    ServerTool,
    Source,
    StoredFile,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    WebSearch,
    Written,
    placeholder,
)

LOSSES: Final[Mapping[str, str]] = {
    "stop": "Responses has no stop sequences",
    "seed": "Responses has no seed",
    "top_k": "Responses has no top_k",
    "frequency_penalty": "Responses has no penalties",
    "presence_penalty": "Responses has no penalties",
    "logit_bias": "Responses has no logit bias",
    "cache_control": "the vendor decides by itself what it caches",
}
"""What this dialect cannot say, and why; what is left out is named to the caller."""


class _Losses:
    """What is left out, named once; and whether the request was written in another dialect."""

    def __init__(self, caller: Dialect) -> None:
        self.caller = caller
        self.foreign = caller is not OURS
        self.named: dict[str, None] = {}

    def name(self, name: str) -> None:
        self.named[name] = None


def write_conversation(conversation: Conversation, call: ChatCall) -> Written:
    """Raises UnsupportedParameter for several answers, audio, and files that another vendor keeps."""
    if conversation.answers > 1:
        raise UnsupportedParameter(
            "This model answers once per request; send 'n' requests, or choose a model that takes 'n'.", param="n"
        )
    losses = _Losses(call.request.dialect)
    body = _body(conversation, call, losses)
    return Written(msgspec.json.encode(body), tuple(losses.named))


def _body(conversation: Conversation, call: ChatCall, losses: _Losses) -> Json:
    turns = list(conversation.turns)
    body: Json = {"model": call.vendor_model}
    if turns and _is_instructions(turns[0]):
        body[INSTRUCTIONS] = "".join(block.text for block in turns.pop(0).blocks if isinstance(block, Text))
    body["input"] = [item for turn in turns for item in _items(turn, losses)]
    body |= _own(conversation.extras)
    if conversation.extras is not None and conversation.extras.dialect is not OURS:
        for name in conversation.extras.members:
            losses.name(name)
    if call.request.streamed:
        body["stream"] = True
    if conversation.tools:
        body["tools"] = list(_tools(conversation.tools, losses))
    told: Mapping[str, object] = {
        "tool_choice": _tool_choice(conversation.tool_choice, conversation.tools),
        "parallel_tool_calls": conversation.parallel_tools,
        "max_output_tokens": conversation.output_max,
        "temperature": conversation.temperature,
        "top_p": conversation.top_p,
        "top_logprobs": conversation.logprobs,
        "safety_identifier": conversation.user,
        "prompt_cache_key": conversation.cache_key,
        "service_tier": conversation.service_tier,
        "metadata": conversation.metadata,
        "text": _text(conversation),
        "reasoning": _reasoning(conversation),
    }
    body |= {name: value for name, value in told.items() if value is not None}
    if losses.foreign:
        body["store"] = False
        body["include"] = ["reasoning.encrypted_content"]
    for name in ("stop", "seed", "top_k", "frequency_penalty", "presence_penalty", "logit_bias"):
        if getattr(conversation, name) not in (None, ()):
            losses.name("stop_sequences" if name == "stop" and losses.caller is Dialect.ANTHROPIC else name)
    return body


def _is_instructions(turn: Turn) -> bool:
    return turn.role is Role.SYSTEM and bool(_own(turn.extras).get(INSTRUCTIONS))


def _own(extras: Extras | None) -> dict[str, Any]:
    return dict(extras.members) if extras is not None and extras.dialect is OURS else {}


def _items(turn: Turn, losses: _Losses) -> Iterator[Json]:
    """A turn's items; text, pictures and refusals that follow one another are one message."""
    parts: list[Json] = []
    of_model = turn.role is Role.ASSISTANT

    def message() -> Iterator[Json]:
        if parts:
            role = Role.USER if turn.role is Role.TOOL else turn.role
            yield {"type": "message", "role": role.value, "content": list(parts), **_own(turn.extras)}
            parts.clear()

    for block in turn.blocks:
        match block:
            case Thinking():
                if (item := _thinking(block)) is not None:
                    yield from message()
                    yield item
            case ToolCall():
                yield from message()
                if block.sealed is not None and block.sealed.origin != ORIGIN:
                    yield _reasoning_item(summary=(), text="", sealed=block.sealed.packed())
                yield _call(block)
            case ToolResult():
                yield from message()
                yield _result(block, losses)
            case Foreign():
                if block.dialect is not OURS:
                    losses.name(placeholder(block))
                elif of_model and block.kind not in _PARTS:
                    yield from message()
                    yield dict(block.raw)
                else:
                    parts.append(dict(block.raw))
            case _:
                parts.append(_part(block, losses, of_model=of_model))
    yield from message()


_PARTS: Final = frozenset({"input_text", "output_text", "input_image", "input_file", "input_audio", "refusal"})


def _thinking(block: Thinking) -> Json | None:
    """What the vendor can read of it: its own seal, or what was shown."""
    sealed = None if block.sealed is None else block.sealed.value if block.sealed.origin == ORIGIN else None
    if sealed is None and not block.text and not block.summary:
        return None
    return {**_reasoning_item(block.summary, block.text, sealed), **_own(block.extras)}


def _reasoning_item(summary: tuple[str, ...], text: str, sealed: str | None) -> Json:
    item: Json = {"type": "reasoning", "summary": [{"type": "summary_text", "text": each} for each in summary]}
    if text:
        item["content"] = [{"type": "reasoning_text", "text": text}]
    if sealed is not None:
        item["encrypted_content"] = sealed
    return item


def _call(block: ToolCall) -> Json:
    own = _own(block.extras)
    name = block.name
    space = own.get(NAMESPACE)
    if isinstance(space, str):
        name = name.removeprefix(f"{space}__")
    kind, member = ("custom_tool_call", "input") if block.custom else ("function_call", "arguments")
    arguments = block.arguments if block.arguments or block.custom else "{}"
    return {"type": kind, "call_id": block.id, "name": name, member: arguments, **own}


def _result(block: ToolResult, losses: _Losses) -> Json:
    """There is no flag for a failure here; the model reads of it in the output."""
    kind = "custom_tool_call_output" if block.custom else "function_call_output"
    shown = [each for each in block.content if not isinstance(each, Foreign)]
    for each in block.content:
        if isinstance(each, Foreign):
            losses.name(placeholder(each))
    match shown:
        case []:
            output: object = "Error" if block.failed else ""
        case [Text() as only]:
            output = f"Error: {only.text}" if block.failed else only.text
        case _:
            parts = [_part(each, losses, of_model=False) for each in shown]
            output = [{"type": "input_text", "text": "Error:"}, *parts] if block.failed else parts
    return {"type": kind, "call_id": block.call_id, "output": output}


def _part(block: Block, losses: _Losses, *, of_model: bool) -> Json:
    if getattr(block, "cache", None) is not None:
        losses.name("cache_control")
    match block:
        case Text():
            if not of_model:
                return {"type": "input_text", "text": block.text, **_own(block.extras)}
            annotations = [
                {
                    "type": "url_citation",
                    "url": each.url,
                    "title": each.title,
                    "start_index": each.start or 0,
                    "end_index": each.end or 0,
                    **_own(each.extras),
                }
                for each in block.citations
            ]
            return {"type": "output_text", "text": block.text, "annotations": annotations, **_own(block.extras)}
        case Refusal():
            return {"type": "refusal", "refusal": block.text}
        case Image():
            part: Json = {"type": "input_image", **_own(block.extras)}
            if block.detail is not None:
                part["detail"] = block.detail
            return part | _source(block.source, "image_url", losses)
        case Document():
            part = {"type": "input_file", **_own(block.extras)}
            if block.name is not None:
                part["filename"] = block.name
            return part | _source(block.source, "file_url" if isinstance(block.source, Link) else "file_data", losses)
        case Audio():
            return {"type": "input_audio", "input_audio": {"data": block.data, "format": block.format}}
        case _:
            raise AssertionError(f"{block} is no part of a message")


def _source(source: Source, member: str, losses: _Losses) -> Json:
    if not isinstance(source, StoredFile):
        return {member: url_of(source)}
    if losses.foreign:
        raise UnsupportedParameter(
            f"The file {source.id!r} is kept at another vendor. Send its bytes, or a link to it.", param="input"
        )
    return {"file_id": source.id}


def _tools(tools: tuple[Tool, ...], losses: _Losses) -> Iterator[Json]:
    spaces: dict[str, Json] = {}
    for tool in tools:
        match tool:
            case FunctionTool():
                own = _own(tool.extras)
                space = own.pop(NAMESPACE, None)
                about = own.pop("namespace_description", None)
                if not isinstance(space, str):
                    yield {"type": "function", **_function(tool, tool.name), **own}
                    continue
                if space not in spaces:
                    told = {} if about is None else {"description": about}
                    spaces[space] = {"type": NAMESPACE, "name": space, **told, "tools": []}
                    yield spaces[space]
                inner = {"type": "function", **_function(tool, tool.name.removeprefix(f"{space}__")), **own}
                spaces[space]["tools"].append(inner)
            case CustomTool():
                told = {"description": tool.description, "format": tool.format}
                known = {name: value for name, value in told.items() if value is not None}
                yield {"type": "custom", "name": tool.name, **known, **_own(tool.extras)}
            case WebSearch():
                yield _web_search(tool)
            case ServerTool():
                if tool.dialect is OURS:
                    yield dict(tool.raw)
                else:
                    losses.name(placeholder(tool))


def _function(tool: FunctionTool, name: str) -> Json:
    told: Json = {"name": name}
    if tool.description is not None:
        told["description"] = tool.description
    # Both members are required here; a schema that was not written for it must not be taken for a strict one.
    own = tool.extras is not None and tool.extras.dialect is OURS
    if tool.parameters is not None or not own:
        told["parameters"] = tool.parameters or {"type": "object", "properties": {}}
    if tool.strict is not None or not own:
        told["strict"] = tool.strict or False
    return told


def _web_search(tool: WebSearch) -> Json:
    told: Json = {"type": "web_search"}
    if tool.allowed_domains:
        told["filters"] = {"allowed_domains": list(tool.allowed_domains)}
    if tool.context_size is not None:
        told["search_context_size"] = tool.context_size
    return told | _own(tool.extras)


def _tool_choice(choice: ToolChoice | None, tools: tuple[Tool, ...]) -> object:
    if choice is None:
        return None
    custom = {tool.name for tool in tools if isinstance(tool, CustomTool)}
    known = {tool.name for tool in tools if isinstance(tool, FunctionTool | CustomTool)}
    if choice.named is not None:
        if choice.named not in known:
            return {"type": choice.named}
        return {"type": "custom" if choice.named in custom else "function", "name": choice.named}
    if choice.allowed:
        allowed = [{"type": "custom" if name in custom else "function", "name": name} for name in choice.allowed]
        return {"type": "allowed_tools", "mode": choice.mode.value, "tools": allowed}
    return choice.mode.value


def _text(conversation: Conversation) -> Json | None:
    told: Json = {}
    match conversation.output_format:
        case JsonObject():
            told["format"] = {"type": "json_object"}
        case JsonSchema() as wanted:
            format_: Json = {"type": "json_schema", "name": wanted.name, "schema": wanted.schema}
            if wanted.description is not None:
                format_["description"] = wanted.description
            if wanted.strict is not None:
                format_["strict"] = wanted.strict
            told["format"] = format_
        case None:
            pass
    if conversation.verbosity is not None:
        told["verbosity"] = conversation.verbosity
    return told or None


def _reasoning(conversation: Conversation) -> Json | None:
    wanted = conversation.reasoning
    if wanted is None:
        return None
    told = _own(wanted.extras)
    effort = wanted.effort
    if effort is not None:
        told["effort"] = effort.value
    elif wanted.budget_tokens is not None:
        told["effort"] = effort_for(wanted.budget_tokens)
    if wanted.summary is not None:
        told["summary"] = wanted.summary
    return told or None
