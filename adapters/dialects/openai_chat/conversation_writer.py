"""The canonical conversation, written as a Chat Completions request for a vendor."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from adapters.dialects.custom_tools import as_function
from adapters.dialects.openai_chat.message_writer import MessageWriter
from adapters.dialects.openai_chat.quirks import Quirks, ReasoningWish, ToolChoices
from adapters.dialects.openai_chat.target import Target, own, short
from domain.catalog import Dialect
from domain.errors import UnsupportedParameter
from domain.inference.chat import ChatCall
from domain.inference.conversation import (
    Conversation,
    CustomTool,
    Effort,
    FunctionTool,
    JsonObject,
    Reasoning,
    ServerTool,
    ToolChoice,
    ToolMode,
    WebSearch,
    Written,
    placeholder,
)

Json = dict[str, Any]

USER_LENGTH_MAX: Final = 64
_OPENAI: Final = frozenset({Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES})
_BUDGETS: Final = ((1_024, Effort.MINIMAL), (2_048, Effort.LOW), (8_192, Effort.MEDIUM), (16_384, Effort.HIGH))


def write_conversation(conversation: Conversation, call: ChatCall, quirks: Quirks) -> Written:
    """Raises UnsupportedParameter for what must not be dropped in silence."""
    return _Writer(conversation, call, quirks).written()


class _Writer:
    def __init__(self, conversation: Conversation, call: ChatCall, quirks: Quirks) -> None:
        self._conversation = conversation
        self._call = call
        self._target = Target(quirks, call.request.dialect, conversation)

    def written(self) -> Written:
        said, request = self._conversation, self._call.request
        if said.answers > 1:
            raise UnsupportedParameter(
                "This model gives one answer at a time; leave 'n' out and send the request again for another.",
                param="n",
            )
        body: Json = {"model": self._call.vendor_model, "messages": MessageWriter(self._target).messages(said.turns)}
        if request.streamed:
            body["stream"] = True
            if self._target.quirks.asks_for_usage:
                body["stream_options"] = {"include_usage": True}
        if said.output_max is not None:
            # What the model cannot reach is refused by many vendors; callers name it as "no limit".
            most = self._call.output_max or said.output_max
            body[self._target.quirks.output_limit_field] = min(said.output_max, most)
        self._add_tools(body)
        self._add_reasoning(body)
        self._add_sampling(body)
        self._add_format(body)
        if said.user is not None:
            body["user"] = short(said.user, USER_LENGTH_MAX)
        if said.cache_key is not None:
            body["prompt_cache_key"] = said.cache_key
        if said.service_tier is not None:
            if self._target.dialect in _OPENAI:
                body["service_tier"] = said.service_tier
            else:
                self._target.drop("service_tier")
        body |= self._target.own_members(said.extras)
        if said.metadata is not None:
            if body.get("store") is True:
                body["metadata"] = dict(said.metadata)
            else:
                self._target.drop("metadata")
        return Written(msgspec.json.encode(body), tuple(self._target.dropped))

    # Tools

    def _add_tools(self, body: Json) -> None:
        said = self._conversation
        choice = said.tool_choice
        tools: list[Json] = []
        for at, tool in enumerate(said.tools):
            match tool:
                case FunctionTool():
                    if self._may_be_called(tool.name, choice):
                        tools.append(self._function(tool))
                case CustomTool():
                    if self._may_be_called(tool.name, choice):
                        tools.append(self._custom(tool, at))
                case WebSearch():
                    self._add_search(body, tool)
                case ServerTool():
                    if tool.dialect is Dialect.OPENAI_CHAT:
                        tools.append(dict(tool.raw))
                    else:
                        self._target.drop(placeholder(tool))
        if tools:
            body["tools"] = tools
            if said.parallel_tools is not None:
                body["parallel_tool_calls"] = said.parallel_tools
        if choice is not None and tools:
            self._add_choice(body, choice)

    def _may_be_called(self, name: str, choice: ToolChoice | None) -> bool:
        everything = choice is None or not choice.allowed or self._target.quirks.tool_choices is ToolChoices.ALL
        return everything or name in choice.allowed  # type: ignore[union-attr]

    def _function(self, tool: FunctionTool) -> Json:
        function: Json = {"name": tool.name}
        for name, value in (
            ("description", tool.description),
            ("parameters", tool.parameters),
            ("strict", tool.strict),
        ):
            if value is not None:
                function[name] = value
        told: Json = {"type": "function", "function": function | own(tool.extras)}
        if tool.cache is not None:
            if self._target.quirks.cache_field == "cache_control":
                self._target.mark(told, tool.cache)
            else:
                self._target.drop("cache_control")
        return told

    def _custom(self, tool: CustomTool, at: int) -> Json:
        if not self._target.quirks.custom_tools:
            if tool.format is not None and tool.format.get("type") != "text":
                self._target.drop(f"tools[{at}].format")
            return self._function(as_function(tool))
        custom: Json = {"name": tool.name}
        if tool.description is not None:
            custom["description"] = tool.description
        if tool.format is not None:
            custom["format"] = tool.format
        return {"type": "custom", "custom": custom | own(tool.extras)}

    def _add_search(self, body: Json, tool: WebSearch) -> None:
        if not self._target.quirks.web_search:
            self._target.drop("web_search")
            return
        options: Json = {"search_context_size": tool.context_size} if tool.context_size else {}
        body["web_search_options"] = options | own(tool.extras)

    def _add_choice(self, body: Json, choice: ToolChoice) -> None:
        form = self._target.quirks.tool_choices
        must = choice.mode is ToolMode.REQUIRED or choice.named is not None
        if form is ToolChoices.FREE and must:
            raise UnsupportedParameter(
                "The vendor of this model cannot be made to call a tool; use tool_choice 'auto', or another model.",
                param="tool_choice",
            )
        required = "any" if form is ToolChoices.ANY else "required"
        mode = required if choice.mode is ToolMode.REQUIRED else choice.mode.value
        if choice.named is not None:
            kind = self._kind_of(choice.named)
            body["tool_choice"] = {"type": kind, kind: {"name": choice.named}}
        elif choice.allowed and form is ToolChoices.ALL:
            kinds = ((name, self._kind_of(name)) for name in choice.allowed)
            tools = [{"type": kind, kind: {"name": name}} for name, kind in kinds]
            body["tool_choice"] = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}
        else:
            body["tool_choice"] = mode

    def _kind_of(self, name: str) -> str:
        custom = any(isinstance(tool, CustomTool) and tool.name == name for tool in self._conversation.tools)
        return "custom" if custom and self._target.quirks.custom_tools else "function"

    # What tunes the answer

    def _add_reasoning(self, body: Json) -> None:
        wish = self._conversation.reasoning
        if wish is None:
            return
        effort = wish.effort or _effort_of(wish.budget_tokens)
        told = False
        for words in self._target.quirks.reasoning_wishes:
            match words:
                case ReasoningWish.EFFORT:
                    name = self._effort(effort)
                    if name:
                        body["reasoning_effort"] = name
                    told = told or bool(name) or effort is None
                case ReasoningWish.OBJECT:
                    body["reasoning"] = self._unified(wish)
                    told = True
                case ReasoningWish.THINKING:
                    kind = "disabled" if effort is Effort.NONE else "enabled"
                    body["thinking"] = {"type": kind}
                    told = True
                case ReasoningWish.SWITCH:
                    on = effort is not Effort.NONE
                    body["chat_template_kwargs"] = {"enable_thinking": on, "thinking": on}
                    told = True
                case ReasoningWish.FLAG:
                    body["enable_thinking"] = effort is not Effort.NONE
                    told = True
        if not told:
            self._target.drop("reasoning")

    def _effort(self, effort: Effort | None) -> str:
        if effort is None:
            return ""
        return self._target.quirks.efforts.get(effort.value, effort.value)

    def _unified(self, wish: Reasoning) -> Json:
        told: Json = {}
        if wish.budget_tokens is not None:
            told["max_tokens"] = wish.budget_tokens
        elif wish.effort is not None:
            told["effort"] = self._effort(wish.effort)
        else:
            told["enabled"] = True
        if wish.hidden:
            told["exclude"] = True
        return told

    def _add_sampling(self, body: Json) -> None:
        said = self._conversation
        for name in ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty", "logit_bias"):
            value = getattr(said, name)
            if value is not None:
                body[name] = value
        if said.stop:
            body["stop"] = list(said.stop)
        if said.top_k is not None:
            if self._target.quirks.top_k:
                body["top_k"] = said.top_k
            else:
                self._target.drop("top_k")
        if said.logprobs is not None:
            self._target.drop("logprobs")

    def _add_format(self, body: Json) -> None:
        said = self._conversation
        if said.verbosity is not None:
            if self._target.quirks.verbosity:
                body["verbosity"] = said.verbosity
            else:
                self._target.drop("verbosity")
        wanted = said.output_format
        if isinstance(wanted, JsonObject):
            body["response_format"] = {"type": "json_object"}
        elif wanted is not None:
            schema: Json = {"name": wanted.name, "schema": wanted.schema}
            if wanted.description is not None:
                schema["description"] = wanted.description
            if wanted.strict is not None:
                schema["strict"] = wanted.strict
            body["response_format"] = {"type": "json_schema", "json_schema": schema}


def _effort_of(budget_tokens: int | None) -> Effort | None:
    if budget_tokens is None:
        return None
    for most, effort in _BUDGETS:
        if budget_tokens <= most:
            return effort
    return Effort.XHIGH
