"""The canonical conversation, written as a Converse request."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from adapters.dialects.anthropic.conversation_writer import valid_id
from adapters.dialects.anthropic.models import BUDGETS, EFFORTS, ThinkingStyle, effort_for, rules_of
from adapters.dialects.bedrock_converse.models import Family, family_of
from adapters.dialects.bedrock_converse.wire import FAMILY
from adapters.dialects.custom_tools import arguments_of, as_function
from domain.catalog import Dialect
from domain.errors import UnsupportedParameter
from domain.inference.chat import ChatCall
from domain.inference.conversation import (
    Audio,
    Block,
    CacheMark,
    Conversation,
    CustomTool,
    Document,
    Effort,
    Extras,
    Foreign,
    FunctionTool,
    Image,
    Inline,
    JsonObject,
    JsonSchema,
    Link,
    Reasoning,
    Refusal,
    Role,
    ServerTool,
    Source,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
    Turn,
    WebSearch,
    Written,
    placeholder,
)

Json = dict[str, Any]

LOSSES: Final[Mapping[str, str]] = {
    "cache_control": "Four marks at most are sent, the last ones, and to models that know them; only 1h is told apart "
    "from the default time to live.",
    "citations": "Sources of earlier answers are not sent back.",
    "context": "What a document is about cannot be said beside it.",
    "detail": "How closely to look at a picture cannot be said.",
    "document.name": "The vendor takes letters, digits, spaces, hyphens and brackets; others become a hyphen.",
    "format": "A custom tool's grammar is told to the model in words.",
    "frequency_penalty": "There is no such parameter.",
    "images": "A picture that the assistant made cannot be sent back.",
    "logit_bias": "There is no such parameter.",
    "logprobs": "There is no such parameter.",
    "messages.name": "Who of several people speaks cannot be said.",
    "metadata": "There is no such parameter.",
    "parallel_tool_calls": "Whether several tools may be called at once cannot be said.",
    "presence_penalty": "There is no such parameter.",
    "prompt_cache_key": "A cache is found by its content alone.",
    "reasoning_effort": "Only Anthropic's, OpenAI's and Amazon's newer models can be told; thinking is left out where "
    "a tool is forced and where the answer may be too short for it.",
    "response_format": "Any JSON object cannot be demanded; the model is asked for one in words.",
    "seed": "There is no such parameter.",
    "service_tier": "There is no such parameter.",
    "system": "System messages in the middle of a conversation move to its beginning.",
    "temperature": "As the model takes it, from 0 to 1; Anthropic's newer ones sample as they see fit.",
    "thinking": "Thoughts of another family of models are not sent back, because nobody but it can read them.",
    "top_k": "Only Anthropic's models take it.",
    "top_p": "As `temperature`.",
    "user": "There is no such parameter.",
    "verbosity": "There is no such parameter.",
    "web_search": "The vendor has no search of its own.",
}
"""What cannot be said in this dialect, and what becomes of it."""

ASK_FOR_JSON: Final = "Answer with one JSON object and nothing else."
OPENING: Final = "."
"""Stands for the missing message of a conversation that the assistant begins, and for words beside a document."""
CACHE_MARKS_MAX: Final = 4
BUDGET_LEAST: Final = 1_024
OUTPUT_MAX_UNKNOWN: Final = 8_192

_IMAGES: Final = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}
_DOCUMENTS: Final = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}
_NOT_NAME = re.compile(r"[^A-Za-z0-9 \-()\[\]]")
_SPACES = re.compile(r" {2,}")
_ANY_OBJECT: Final[Json] = {"type": "object", "properties": {}}
_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_CACHES: Final = ("anthropic.", "claude", "nova")
_NOVA_EFFORTS: Final = {Effort.MINIMAL: "low", Effort.LOW: "low", Effort.MEDIUM: "medium"}


def write_conversation(conversation: Conversation, call: ChatCall) -> Written:
    """Raises UnsupportedParameter for what must not be dropped silently."""
    return _Writer(conversation, call).written()


class _Writer:
    def __init__(self, conversation: Conversation, call: ChatCall) -> None:
        self._said = conversation
        self._call = call
        self._family = family_of(call.vendor_model)
        self._rules = rules_of(call.vendor_model)
        self._dropped: dict[str, None] = {}
        self._marks: list[tuple[list[Json], Json]] = []
        """Every cache mark with the list that it is in, in the order in which the vendor reads them."""
        self._called: dict[str, None] = {}
        """The names of the tools that the conversation calls."""

    def written(self) -> Written:
        said = self._said
        self._refuse_what_changes_the_answer()
        own = dict(self._own(said.extras))
        tools = self._tools()
        system, messages = self._turns()
        request: Json = {"messages": messages}
        if isinstance(said.output_format, JsonObject):
            system.append({"text": ASK_FOR_JSON})
            self._drop("response_format")
        if system:
            request["system"] = system
        if (config := self._tool_config(tools)) is not None:
            request["toolConfig"] = config
        fields: Json = {}
        thinks = self._thinking(fields, config)
        self._sampling(request, fields, thinks=thinks)
        if fields:
            request["additionalModelRequestFields"] = fields
        if isinstance(said.output_format, JsonSchema):
            request["outputConfig"] = {"textFormat": _text_format(said.output_format)}
        self._name_what_is_lost()
        self._limit_cache_marks()
        for name, value in own.items():
            request.setdefault(name, value)
        return Written(msgspec.json.encode(request), tuple(self._dropped))

    def _drop(self, name: str) -> None:
        self._dropped[name] = None

    def _own(self, extras: Extras | None) -> Mapping[str, Any]:
        """Members that only this dialect knows; those of others are named, not sent."""
        if extras is None:
            return {}
        if extras.dialect is Dialect.BEDROCK_CONVERSE:
            return extras.members
        for name in extras.members:
            self._drop(name)
        return {}

    def _refuse_what_changes_the_answer(self) -> None:
        if self._said.answers > 1:
            raise UnsupportedParameter("This model gives one answer at a time; send 'n' as 1.", param="n")
        last = self._said.turns[-1] if self._said.turns else None
        if (
            self._family is Family.ANTHROPIC
            and not self._rules.prefills
            and last is not None
            and last.role is Role.ASSISTANT
        ):
            raise UnsupportedParameter(
                "This model does not go on with a message of the assistant's; let the last message be the user's.",
                param="messages",
            )

    def _name_what_is_lost(self) -> None:
        said = self._said
        lost = {
            "seed": said.seed is not None,
            "frequency_penalty": said.frequency_penalty,
            "presence_penalty": said.presence_penalty,
            "logit_bias": said.logit_bias,
            "logprobs": said.logprobs is not None,
            "metadata": said.metadata,
            "prompt_cache_key": said.cache_key,
            "service_tier": said.service_tier not in (None, "auto"),
            "user": said.user,
            "verbosity": said.verbosity,
        }
        for name, value in lost.items():
            if value:
                self._drop(name)

    # What was said.

    def _turns(self) -> tuple[list[Json], list[Json]]:
        """The system prompt, and turns of user and assistant by turns."""
        system: list[Json] = []
        merged: list[tuple[str, list[Json]]] = []
        for number, turn in enumerate(self._said.turns):
            where = f"messages[{number}]"
            if turn.role in (Role.SYSTEM, Role.DEVELOPER):
                self._add_blocks(system, turn, where)
                continue
            self._own(turn.extras)
            if turn.name is not None:
                self._drop("messages.name")
            role = "assistant" if turn.role is Role.ASSISTANT else "user"
            if merged and merged[-1][0] == role:
                self._add_blocks(merged[-1][1], turn, where)
                continue
            blocks: list[Json] = []
            self._add_blocks(blocks, turn, where)
            if blocks:
                merged.append((role, blocks))
        if not merged:
            # A system prompt alone is a question to other models.
            return [], [{"role": "user", "content": system or [{"text": OPENING}]}]
        if merged[0][0] == "assistant":
            merged.insert(0, ("user", [{"text": OPENING}]))
        for role, blocks in merged:
            if role == "user":
                # In place, because cache marks know the list that they are in.
                blocks.sort(key=lambda block: "toolResult" not in block if _has_results(blocks) else False)
                if any("document" in block for block in blocks) and not any("text" in block for block in blocks):
                    blocks.append({"text": OPENING})
        return system, [{"role": role, "content": blocks} for role, blocks in merged]

    def _add_blocks(self, found: list[Json], turn: Turn, where: str) -> None:
        for number, block in enumerate(turn.blocks):
            written = self._block(block, turn.role, f"{where}.content[{number}]")
            if written is not None:
                found.append(written)
                cache = getattr(block, "cache", None)
                if cache is not None:
                    self._mark(found, cache)

    def _block(self, block: Block, role: Role, where: str) -> Json | None:  # noqa: PLR0911, PLR0912 - one per kind
        match block:
            case Text():
                self._own(block.extras)
                if block.citations:
                    self._drop("citations")
                return {"text": block.text} if block.text.strip() else None
            case ToolCall():
                return self._tool_use(block)
            case ToolResult():
                return self._tool_result(block, where)
            case Thinking():
                return self._thought(block)
            case Image() if role is Role.ASSISTANT:
                self._drop("images")
                return None
            case Image():
                if block.detail not in (None, "auto"):
                    self._drop("detail")
                self._own(block.extras)
                return {"image": self._file(block.source, _IMAGES, where, "PNG, JPEG, GIF and WebP")}
            case Document():
                return self._document(block, where)
            case Audio():
                raise UnsupportedParameter(
                    f"'{where}' is sound, which this model cannot hear; send its text, or use another model.",
                    param=where,
                )
            case Refusal():
                return {"text": block.text} if block.text.strip() else None
            case Foreign():
                if block.dialect is Dialect.BEDROCK_CONVERSE:
                    return dict(block.raw)
                self._drop(placeholder(block))
                return None

    def _tool_use(self, call: ToolCall) -> Json:
        self._called[call.name] = None
        self._own(call.extras)
        text = arguments_of(call.arguments) if call.custom else call.arguments
        return {"toolUse": {"toolUseId": valid_id(call.id), "name": call.name, "input": _object_of(text)}}

    def _tool_result(self, result: ToolResult, where: str) -> Json:
        self._own(result.extras)
        content = [
            block
            for number, each in enumerate(result.content)
            if (block := self._block(each, Role.USER, f"{where}.content[{number}]")) is not None
        ]
        written: Json = {"toolUseId": valid_id(result.call_id), "content": content or [{"text": OPENING}]}
        if result.failed:
            written["status"] = "error"
        return {"toolResult": written}

    def _thought(self, thinking: Thinking) -> Json | None:
        sealed = thinking.sealed
        if sealed is None or sealed.origin != FAMILY or self._family is not Family.ANTHROPIC:
            return None
        if thinking.redacted:
            return {"reasoningContent": {"redactedContent": sealed.value}}
        return {"reasoningContent": {"reasoningText": {"text": thinking.text, "signature": sealed.value}}}

    def _document(self, block: Document, where: str) -> Json:
        if block.context is not None:
            self._drop("context")
        self._own(block.extras)
        written = self._file(block.source, _DOCUMENTS, where, "PDF, plain text and office files")
        name = _SPACES.sub(" ", _NOT_NAME.sub("-", block.name or "")).strip()
        if block.name and name != block.name:
            self._drop("document.name")
        # Two documents of one name are refused.
        mark = hashlib.sha256(where.encode()).hexdigest()[:6]
        return {"document": {"name": (name[:190] or "document") + f" {mark}", **written}}

    def _file(self, source: Source, formats: Mapping[str, str], where: str, known: str) -> Json:
        if isinstance(source, Link) and source.url.startswith("s3://"):
            ending = source.url.rpartition(".")[2].lower().replace("jpg", "jpeg")
            if ending in formats.values():
                return {"format": ending, "source": {"s3Location": {"uri": source.url}}}
        if not isinstance(source, Inline):
            raise UnsupportedParameter(
                f"'{where}' is at an address, or a file kept at another vendor, out of this model's reach; send the "
                "file itself, as a data URL or as base64.",
                param=where,
            )
        kind = formats.get(source.media_type.partition(";")[0].strip().lower())
        if kind is None:
            raise UnsupportedParameter(
                f"'{where}' is a file of the type {source.media_type[:80]}; this model reads {known}.", param=where
            )
        return {"format": kind, "source": {"bytes": source.data}}

    # Tools.

    def _tools(self) -> list[Json]:
        allowed = self._said.tool_choice.allowed if self._said.tool_choice is not None else ()
        found: list[Json] = []
        for number, tool in enumerate(self._said.tools):
            match tool:
                case FunctionTool():
                    if not allowed or tool.name in allowed:
                        found.append(self._function(tool))
                        if tool.cache is not None:
                            self._mark(found, tool.cache)
                case CustomTool():
                    if tool.format and tool.format.get("type") not in (None, "text"):
                        self._drop(f"tools[{number}].format")
                    if not allowed or tool.name in allowed:
                        found.append(self._function(as_function(tool)))
                case WebSearch():
                    self._drop("web_search")
                case ServerTool():
                    self._drop(placeholder(tool))
        return found

    def _function(self, tool: FunctionTool) -> Json:
        self._own(tool.extras)
        schema = tool.parameters or _ANY_OBJECT
        schema = schema if schema.get("type") == "object" else {**schema, "type": "object"}
        spec: Json = {"name": tool.name, "inputSchema": {"json": schema}}
        if tool.description:
            spec["description"] = tool.description
        if tool.strict:
            spec["strict"] = True
        return {"toolSpec": spec}

    def _tool_config(self, tools: list[Json]) -> Json | None:
        choice = self._said.tool_choice
        if choice is not None and choice.mode is ToolMode.NONE and choice.named is None:
            if self._called:
                raise UnsupportedParameter(
                    "This model's vendor cannot be told to call no tool while the conversation holds calls; leave "
                    "'tool_choice' out, or use another model.",
                    param="tool_choice",
                )
            # Marks in what is not sent are no marks.
            self._marks = [mark for mark in self._marks if mark[0] is not tools]
            return None
        if not tools:
            if not self._called:
                return None
            # The vendor refuses a conversation with calls of tools that the request does not declare.
            tools = [{"toolSpec": {"name": name, "inputSchema": {"json": _ANY_OBJECT}}} for name in self._called]
            return {"tools": tools}
        config: Json = {"tools": tools}
        if choice is not None and (told := _choice(choice)) is not None:
            config["toolChoice"] = told
        if self._said.parallel_tools is False:
            self._drop("parallel_tool_calls")
        return config

    # How to think and to sample.

    def _thinking(self, fields: Json, config: Json | None) -> bool:
        """Whether one of Anthropic's models is to think."""
        reasoning = self._said.reasoning
        if reasoning is None:
            return False
        effort = reasoning.effort
        match self._family:
            case Family.ANTHROPIC:
                choice = (config or {}).get("toolChoice") or {}
                return self._claude_thinks(fields, reasoning, forced="any" in choice or "tool" in choice)
            case Family.OPENAI:
                if effort is None and reasoning.budget_tokens is not None:
                    effort = _effort_of(reasoning.budget_tokens)
                if effort is not None:
                    fields["reasoning_effort"] = _openai_effort(effort)
            case Family.NOVA:
                if effort is None and reasoning.budget_tokens is not None:
                    effort = _effort_of(reasoning.budget_tokens)
                if effort is Effort.NONE:
                    fields["reasoningConfig"] = {"type": "disabled"}
                elif effort is not None:
                    level = _NOVA_EFFORTS.get(effort, "high")
                    fields["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": level}
            case Family.OTHER:
                if effort not in (None, Effort.NONE) or reasoning.budget_tokens:
                    self._drop("reasoning_effort")
        return False

    def _claude_thinks(self, fields: Json, reasoning: Reasoning, *, forced: bool) -> bool:
        style = self._rules.thinking
        if reasoning.effort is Effort.NONE:
            return False
        if style is ThinkingStyle.ADAPTIVE:
            effort = None if reasoning.effort is None else EFFORTS[reasoning.effort]
            if effort is None and reasoning.budget_tokens is not None:
                effort = effort_for(reasoning.budget_tokens)
            if effort is not None:
                fields["output_config"] = {"effort": effort}
            if forced:
                self._drop("reasoning_effort")
                return False
            fields["thinking"] = {"type": "adaptive"}
            return True
        limit = self._output_max()
        if reasoning.budget_tokens is not None:
            budget = min(max(reasoning.budget_tokens, BUDGET_LEAST), limit - 1)
        else:
            # A quarter of the limit is left for what is not thought.
            budget = min(BUDGETS[reasoning.effort or Effort.MEDIUM], limit * 3 // 4)
        if forced or style is ThinkingStyle.NONE or budget < BUDGET_LEAST:
            self._drop("reasoning_effort")
            return False
        fields["thinking"] = {"type": "enabled", "budget_tokens": budget}
        return True

    def _output_max(self) -> int:
        asked, most = self._said.output_max, self._call.output_max
        if asked is None:
            return most or OUTPUT_MAX_UNKNOWN
        return asked if most is None else min(asked, most)

    def _sampling(self, request: Json, fields: Json, *, thinks: bool) -> None:
        said = self._said
        config: Json = {}
        if said.output_max is not None or self._family is Family.ANTHROPIC:
            config["maxTokens"] = self._output_max()
        claude = self._family is Family.ANTHROPIC
        free = not claude or (self._rules.samples and not thinks)
        for name, here, value in (("temperature", "temperature", said.temperature), ("top_p", "topP", said.top_p)):
            if value is None:
                continue
            if not free or (claude and name == "top_p" and "temperature" in config and not self._rules.samples_both):
                self._drop(name)
            elif name == "temperature" and value > 1:
                config[here] = 1
                self._drop(name)
            else:
                config[here] = value
        if said.top_k is not None:
            if claude and free:
                fields["top_k"] = said.top_k
            else:
                self._drop("top_k")
        if said.stop:
            config["stopSequences"] = list(said.stop)
        if config:
            request["inferenceConfig"] = config

    # Cache marks.

    def _mark(self, found: list[Json], mark: CacheMark) -> None:
        if not any(part in self._call.vendor_model.lower() for part in _CACHES):
            self._drop("cache_control")
            return
        point: Json = {"type": "default"}
        if mark.ttl in ("1h", "12h", "24h"):
            point["ttl"] = "1h"
        if mark.ttl not in (None, "5m", "1h"):
            self._drop("cache_control")
        written: Json = {"cachePoint": point}
        found.append(written)
        self._marks.append((found, written))

    def _limit_cache_marks(self) -> None:
        for found, written in self._marks[:-CACHE_MARKS_MAX]:
            found[:] = [block for block in found if block is not written]
            self._drop("cache_control")


def _has_results(blocks: list[Json]) -> bool:
    return any("toolResult" in block for block in blocks)


def _choice(choice: ToolChoice) -> Json | None:
    if choice.named is not None:
        return {"tool": {"name": choice.named}}
    return {"any": {}} if choice.mode is ToolMode.REQUIRED else {"auto": {}}


def _text_format(format_: JsonSchema) -> Json:
    schema: Json = {"schema": msgspec.json.encode(format_.schema).decode(), "name": format_.name}
    if format_.description:
        schema["description"] = format_.description
    return {"type": "json_schema", "structure": {"jsonSchema": schema}}


def _effort_of(budget_tokens: int) -> Effort:
    return next((effort for effort, tokens in BUDGETS.items() if budget_tokens <= tokens), Effort.MAX)


def _openai_effort(effort: Effort) -> str:
    return {Effort.NONE: "low", Effort.MINIMAL: "low", Effort.LOW: "low", Effort.MEDIUM: "medium"}.get(effort, "high")


def _object_of(arguments: str) -> Any:
    """The arguments' own bytes where they are an object; what is none is wrapped, so that the model sees its fault."""
    if not arguments.strip():
        return {}
    encoded = arguments.encode("utf-8", "surrogatepass")
    try:
        _OBJECT.decode(encoded)
        # Decoded as a whole too, because what the vendor cannot read would spoil the whole request.
        msgspec.json.decode(encoded)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return {"_raw": encoded.decode("utf-8", "replace")}
    return Raw(encoded)
