"""Custom tools, which take plain text, for vendors that know functions alone.

Such a tool becomes a function whose only argument is that text; the dialect of the caller turns the call back into
one of a custom tool, by the names that its own request declares.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec
from msgspec import Struct

from adapters.dialects.request_members import UNREADABLE
from domain.inference.conversation import CustomTool, FunctionTool, ToolCall

INPUT: Final = "input"


class _Arguments(Struct):
    input: str = ""


def as_function(tool: CustomTool) -> FunctionTool:
    """The function that stands for it; a grammar is told in words, because nothing can enforce it."""
    format_ = tool.format or {}
    grammar = format_.get("grammar", format_)
    definition = grammar.get("definition") if isinstance(grammar, dict) else None
    told = [tool.description or ""]
    if isinstance(definition, str):
        told.append(f"The text of '{INPUT}' must match this {grammar.get('syntax', '')} grammar:\n{definition}")
    text = {"type": "string", "description": "The tool's whole input, as plain text."}
    return FunctionTool(
        name=tool.name,
        description="\n\n".join(filter(None, told)) or None,
        parameters={"type": "object", "properties": {INPUT: text}, "required": [INPUT], "additionalProperties": False},
    )


def arguments_of(text: str) -> str:
    """A custom call's text as that function's arguments."""
    return msgspec.json.encode({INPUT: text}).decode()


def restored(call: ToolCall, names: Collection[str]) -> ToolCall:
    """A call of a function that stands for one of `names` as the custom call that it is; any other unchanged."""
    if call.custom or call.name not in names:
        return call
    try:
        text = msgspec.json.decode(call.arguments, type=_Arguments).input
    except UNREADABLE:
        text = call.arguments
    return msgspec.structs.replace(call, custom=True, arguments=text)
