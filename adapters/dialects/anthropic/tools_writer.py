"""Tools and the choice among them, written for a vendor of this dialect."""

from __future__ import annotations

from typing import Any, Final

from adapters.dialects.anthropic.dropping import CacheMarks, Dropped
from adapters.dialects.anthropic.models import ModelRules
from adapters.dialects.custom_tools import as_function
from domain.catalog import Dialect
from domain.inference.conversation import (
    Conversation,
    CustomTool,
    FunctionTool,
    ServerTool,
    ToolChoice,
    ToolMode,
    WebSearch,
    placeholder,
)

Json = dict[str, Any]

_ANY_OBJECT: Final[Json] = {"type": "object", "properties": {}}
_MODES: Final = {ToolMode.AUTO: "auto", ToolMode.NONE: "none", ToolMode.REQUIRED: "any"}


class ToolsWriter:
    def __init__(self, said: Conversation, rules: ModelRules, dropped: Dropped, marks: CacheMarks) -> None:
        self._said = said
        self._rules = rules
        self._dropped = dropped
        self._marks = marks

    def tools(self) -> list[Json]:
        allowed = self._said.tool_choice.allowed if self._said.tool_choice is not None else ()
        found: list[Json] = []
        for number, tool in enumerate(self._said.tools):
            match tool:
                case FunctionTool():
                    if not allowed or tool.name in allowed:
                        found.append(self._function(tool))
                case CustomTool():
                    if tool.format and tool.format.get("type") not in (None, "text"):
                        self._dropped.add(f"tools[{number}].format")
                    if not allowed or tool.name in allowed:
                        found.append(self._function(as_function(tool)))
                case WebSearch():
                    found.append(self._web_search(tool))
                case ServerTool():
                    if tool.dialect is Dialect.ANTHROPIC:
                        found.append(dict(tool.raw))
                    else:
                        self._dropped.add(placeholder(tool))
        return found

    def _function(self, tool: FunctionTool) -> Json:
        schema = tool.parameters or _ANY_OBJECT
        written: Json = {
            "name": tool.name,
            "input_schema": schema if schema.get("type") == "object" else {**schema, "type": "object"},
            **self._dropped.own(tool.extras),
        }
        if tool.description:
            written["description"] = tool.description
        if tool.strict is not None:
            if self._rules.strict_tools:
                written["strict"] = tool.strict
            elif tool.strict:
                self._dropped.add("strict")
        return self._marks.put(tool.cache, written)

    def _web_search(self, tool: WebSearch) -> Json:
        written: Json = {"type": "web_search_20250305", "name": "web_search", **self._dropped.own(tool.extras)}
        if tool.uses_max is not None:
            written["max_uses"] = tool.uses_max
        # The vendor takes one of the two lists; what is allowed says more than what is not.
        if tool.allowed_domains:
            written["allowed_domains"] = tool.allowed_domains
        elif tool.blocked_domains:
            written["blocked_domains"] = tool.blocked_domains
        if tool.context_size is not None:
            self._dropped.add("web_search.context_size")
        return written

    def choice(self, tools: list[Json]) -> Json | None:
        choice, alone = self._said.tool_choice, self._said.parallel_tools
        if not tools or (choice is None and alone is None):
            return None
        choice = choice or ToolChoice()
        kind = _MODES[choice.mode] if choice.named is None else "tool"
        written: Json = {"type": kind} if choice.named is None else {"type": kind, "name": choice.named}
        if alone is not None and written["type"] != "none":
            written["disable_parallel_tool_use"] = not alone
        return written
