"""The canonical conversation, written as a Chat Completions request for a vendor."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from adapters.dialects.custom_tools import arguments_of, as_function
from adapters.dialects.openai_chat.quirks import Quirks, ReasoningBack, ReasoningWish, ToolChoices
from adapters.dialects.openai_chat.reasoning import vendor_details
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
    Reasoning,
    Refusal,
    Role,
    ServerTool,
    Source,
    StoredFile,
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
    "cache_control": "Most vendors cache prompts unasked and know no marks; four at most are sent to those that do.",
    "citations": "A message that is sent back has no place for the sources of its text.",
    "context": "What an attached document says about itself beside its name.",
    "format": "A custom tool's grammar is told to the model in words where the vendor has no custom tools.",
    "logprobs": "A translated answer has no place for them.",
    "metadata": "Only an answer that OpenAI stores carries it.",
    "reasoning": "Not every vendor can be told how long to think, and not in every word.",
    "service_tier": "A tier of another dialect means nothing to the vendor.",
    "thinking": "A vendor takes back its own seals alone, and many take back no reasoning at all.",
    "top_k": "Some vendors do not know it.",
    "verbosity": "Only OpenAI knows it.",
    "web_search": "Only some vendors search the web themselves.",
}
"""What this dialect cannot say, or not to every vendor, and why; dropped and told to the caller by these names.

Further things change their place: images in a tool's result come in a user message behind it, a failed result is
marked in words, and an answer's text stands before its tool calls.  Tools and blocks that another dialect's server
runs or writes are left out and named as `dialect:kind`.
"""

_NAMES: Final[Mapping[tuple[str, Dialect], str]] = {
    ("reasoning", Dialect.OPENAI_CHAT): "reasoning_effort",
    ("reasoning", Dialect.ANTHROPIC): "thinking",
    ("reasoning", Dialect.GEMINI): "generationConfig.thinkingConfig",
    ("thinking", Dialect.OPENAI_CHAT): "reasoning_details",
    ("thinking", Dialect.OPENAI_RESPONSES): "encrypted_content",
    ("thinking", Dialect.ANTHROPIC): "signature",
    ("thinking", Dialect.GEMINI): "thoughtSignature",
    ("logprobs", Dialect.GEMINI): "generationConfig.logprobs",
    ("logprobs", Dialect.OPENAI_RESPONSES): "top_logprobs",
    ("top_k", Dialect.GEMINI): "generationConfig.topK",
    ("cache_control", Dialect.OPENAI_RESPONSES): "prompt_cache_breakpoint",
    ("verbosity", Dialect.OPENAI_RESPONSES): "text.verbosity",
}
"""What a caller of a dialect calls it, where that differs."""

CACHE_MARKS_MAX: Final = 4
USER_LENGTH_MAX: Final = 64
CALL_ID_LENGTH_MAX: Final = 64
BETWEEN_TEXTS: Final = "\n\n"
BETWEEN_TURNS: Final = "(I have the results of the tools.)"
"""Said by the assistant where a vendor lets nobody else speak behind a tool."""
_OPENAI: Final = frozenset({Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES})
_BUDGETS: Final = ((1_024, Effort.MINIMAL), (2_048, Effort.LOW), (8_192, Effort.MEDIUM), (16_384, Effort.HIGH))
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def write_conversation(conversation: Conversation, call: ChatCall, quirks: Quirks) -> Written:
    """Raises UnsupportedParameter for what must not be dropped in silence."""
    return _Writer(conversation, call, quirks).written()


class _Writer:
    def __init__(self, conversation: Conversation, call: ChatCall, quirks: Quirks) -> None:
        self._conversation = conversation
        self._call = call
        self._quirks = quirks
        self._dialect = call.request.dialect
        self._dropped: dict[str, None] = {}
        self._marks_left = CACHE_MARKS_MAX
        self._marks_to_skip = 0
        if quirks.cache_field:
            self._marks_to_skip = max(0, _marks(conversation) - CACHE_MARKS_MAX)

    def written(self) -> Written:
        said, request = self._conversation, self._call.request
        if said.answers > 1:
            raise UnsupportedParameter(
                "This model gives one answer at a time; leave 'n' out and send the request again for another.",
                param="n",
            )
        body: Json = {"model": self._call.vendor_model, "messages": self._messages(said.turns)}
        if request.streamed:
            body["stream"] = True
            if self._quirks.asks_for_usage:
                body["stream_options"] = {"include_usage": True}
        if said.output_max is not None:
            # What the model cannot reach is refused by many vendors; callers name it as "no limit".
            most = self._call.output_max or said.output_max
            body[self._quirks.output_limit_field] = min(said.output_max, most)
        self._add_tools(body)
        self._add_reasoning(body)
        self._add_sampling(body)
        self._add_format(body)
        if said.user is not None:
            body["user"] = _short(said.user, USER_LENGTH_MAX)
        if said.cache_key is not None:
            body["prompt_cache_key"] = said.cache_key
        if said.service_tier is not None:
            if self._dialect in _OPENAI:
                body["service_tier"] = said.service_tier
            else:
                self._drop("service_tier")
        body |= _own(said.extras)
        if said.metadata is not None:
            if body.get("store") is True:
                body["metadata"] = dict(said.metadata)
            else:
                self._drop("metadata")
        return Written(msgspec.json.encode(body), tuple(self._dropped))

    def _drop(self, name: str) -> None:
        self._dropped[_NAMES.get((name, self._dialect), name)] = None

    # Messages

    def _messages(self, turns: Sequence[Turn]) -> list[Json]:
        messages: list[Json] = []
        for turn in turns:
            match turn.role:
                case Role.SYSTEM | Role.DEVELOPER:
                    role = turn.role if self._quirks.developer_role else Role.SYSTEM
                    messages += self._message(role.value, turn, self._content(turn.blocks))
                case Role.ASSISTANT:
                    messages.append(self._assistant(turn))
                case Role.USER | Role.TOOL:
                    for message in self._from_user(turn):
                        self._add_behind(messages, message)
        return messages

    def _add_behind(self, messages: list[Json], message: Json) -> None:
        last = messages[-1] if messages else message
        parted = self._quirks.user_after_tool or message["role"] != "user" or last["role"] != "tool"
        if parted:
            messages.append(message)
        elif isinstance(last["content"], str) and isinstance(message["content"], str):
            last["content"] += BETWEEN_TEXTS + message["content"]
        else:
            messages += [{"role": "assistant", "content": BETWEEN_TURNS}, message]

    def _message(self, role: str, turn: Turn, content: str | list[Json]) -> list[Json]:
        if not content and not turn.extras:
            return []
        message: Json = {"role": role, "content": content}
        if turn.name is not None:
            message["name"] = turn.name
        return [message | _own(turn.extras)]

    def _from_user(self, turn: Turn) -> list[Json]:
        """Results of tools first, each a message; what they cannot hold comes behind all of them."""
        results = [block for block in turn.blocks if isinstance(block, ToolResult)]
        messages: list[Json] = []
        behind: list[Block] = []
        for result in results:
            messages.append(self._result(result))
            shown = [block for block in result.content if not isinstance(block, Text | Foreign)]
            if shown:
                behind += [Text(text=f"What the tool call {result.call_id} returned beside its text:"), *shown]
        said = [block for block in turn.blocks if not isinstance(block, ToolResult)]
        return messages + self._message("user", turn, self._content([*behind, *said]))

    def _result(self, result: ToolResult) -> Json:
        content = self._content([block for block in result.content if isinstance(block, Text | Foreign)])
        if result.failed:
            texts = [part.text for part in result.content if isinstance(part, Text)]
            content = "Error: " + BETWEEN_TEXTS.join(texts)
        if not content:
            others = any(not isinstance(block, Text | Foreign) for block in result.content)
            content = "(see the next message)" if others else ""
        return {"role": "tool", "tool_call_id": self._call_id(result.call_id), "content": content} | _own(result.extras)

    def _assistant(self, turn: Turn) -> Json:
        message: Json = {"role": "assistant"}
        shown = [block for block in turn.blocks if isinstance(block, Text | Image | Document | Audio | Foreign)]
        content = self._content(shown)
        chunks = self._add_thoughts(message, [block for block in turn.blocks if isinstance(block, Thinking)])
        if chunks:
            content = chunks + ([{"type": "text", "text": content}] if isinstance(content, str) else content)
        message["content"] = content or None
        if turn.name is not None:
            message["name"] = turn.name
        if refusals := [block.text for block in turn.blocks if isinstance(block, Refusal)]:
            message["refusal"] = BETWEEN_TEXTS.join(refusals)
        if calls := [self._tool_call(block) for block in turn.blocks if isinstance(block, ToolCall)]:
            message["tool_calls"] = calls
        elif not content and "refusal" not in message:
            message["content"] = ""
        return message | _own(turn.extras)

    def _add_thoughts(self, message: Json, thoughts: Sequence[Thinking]) -> list[Json]:
        """Earlier reasoning, where the vendor wants it; returns it as chunks of the content where it belongs there."""
        back = self._quirks.reasoning_back
        if back is ReasoningBack.DROPPED:
            # Nobody misses it: such a model was never shown what it had thought.
            return []
        if back is ReasoningBack.CHUNKS:
            return [self._chunk(thought) for thought in thoughts if thought.text]
        told = BETWEEN_TEXTS.join(
            text for thought in thoughts if (text := thought.text or BETWEEN_TEXTS.join(thought.summary))
        )
        if back is ReasoningBack.DETAILS:
            details = [each for thought in thoughts if thought.sealed for each in vendor_details(thought.sealed)]
            if details:
                message["reasoning_details"] = details
                return []
            if told:
                message["reasoning"] = told
        elif told:
            message[back.value] = told
        if any(thought.sealed for thought in thoughts):
            self._drop("thinking")
        return []

    def _chunk(self, thought: Thinking) -> Json:
        chunk: Json = {"type": "thinking", "thinking": [{"type": "text", "text": thought.text}], "closed": True}
        if thought.sealed is not None and thought.sealed.origin == self._quirks.family:
            chunk["signature"] = thought.sealed.value
        return chunk

    def _tool_call(self, call: ToolCall) -> Json:
        told: Json = {"id": self._call_id(call.id), "type": "function"}
        if call.custom and self._quirks.custom_tools:
            told |= {"type": "custom", "custom": {"name": call.name, "input": call.arguments}}
        else:
            arguments = arguments_of(call.arguments) if call.custom else call.arguments or "{}"
            told["function"] = {"name": call.name, "arguments": arguments}
        return told | _own(call.extras)

    def _call_id(self, id_: str) -> str:
        length = self._quirks.tool_id_length
        if not length:
            return _short(id_, CALL_ID_LENGTH_MAX)
        if len(id_) == length and id_.isalnum() and id_.isascii():
            return id_
        number = int.from_bytes(hashlib.sha256(id_.encode()).digest())
        return "".join(_DIGITS[number // 62**place % 62] for place in range(length))

    # Content

    def _content(self, blocks: Iterable[Block]) -> str | list[Json]:
        """A string where it is text alone, unless parts tell more."""
        kept = [block for block in blocks if not (isinstance(block, Text) and not block.text)]
        if all(isinstance(block, Text) for block in kept):
            texts = [block for block in kept if isinstance(block, Text)]
            marked = self._quirks.cache_field and any(block.cache for block in texts)
            plain = not any(_own(block.extras) for block in texts)
            if not marked and ((len(texts) <= 1 and plain) or not self._quirks.text_parts):
                for block in texts:
                    self._note_text(block)
                return BETWEEN_TEXTS.join(block.text for block in texts)
        return [part for block in kept if (part := self._part(block)) is not None]

    def _note_text(self, block: Text) -> None:
        if block.citations:
            self._drop("citations")
        if block.cache is not None and not self._quirks.cache_field:
            self._drop("cache_control")

    def _part(self, block: Block) -> Json | None:
        match block:
            case Text():
                self._note_text(block)
                part: Json = {"type": "text", "text": block.text}
            case Image():
                part = {"type": "image_url", "image_url": {"url": self._url(block.source, "image")}}
                if block.detail is not None:
                    part["image_url"]["detail"] = block.detail
            case Document():
                part = self._document(block)
            case Audio():
                part = self._audio(block)
            case Foreign():
                if block.dialect is not Dialect.OPENAI_CHAT:
                    self._drop(placeholder(block))
                    return None
                return dict(block.raw)
            case _:
                return None
        self._mark(part, block.cache)
        return part | _own(block.extras)

    def _url(self, source: Source, kind: str) -> str:
        if isinstance(source, StoredFile):
            raise UnsupportedParameter(
                f"The stored file {source.id!r} is not known to the vendor of this model; send the {kind} itself.",
                param=kind,
            )
        return f"data:{source.media_type};base64,{source.data}" if isinstance(source, Inline) else source.url

    def _document(self, block: Document) -> Json:
        if block.context is not None:
            self._drop("context")
        source = block.source
        if isinstance(source, Inline) and source.media_type.startswith("text/") and not self._quirks.files_in:
            return {"type": "text", "text": _decoded(source, block.name)}
        if isinstance(source, StoredFile) and self._quirks.stored_files and self._dialect in _OPENAI:
            return {"type": "file", "file": {"file_id": source.id}}
        if not self._quirks.files_in:
            raise UnsupportedParameter(
                "The vendor of this model reads no documents; send the document's text, or use another model.",
                param="document",
            )
        file = {"file_data": self._url(source, "document")}
        if block.name is not None or isinstance(source, Inline):
            file["filename"] = block.name or _file_name(source)
        return {"type": "file", "file": file}

    def _audio(self, block: Audio) -> Json:
        if not self._quirks.audio_in:
            raise UnsupportedParameter(
                "The vendor of this model does not listen to audio; send a transcript, or use another model.",
                param="input_audio",
            )
        return {"type": "input_audio", "input_audio": {"data": block.data, "format": block.format}}

    def _mark(self, part: Json, cache: CacheMark | None) -> None:
        """The vendor's mark of a cache's end; the last ones count most, because they cover the earlier."""
        if cache is None:
            return
        field = self._quirks.cache_field
        if not field or self._marks_to_skip > 0:
            self._marks_to_skip -= 1
            self._drop("cache_control")
        elif field == "cache_control":
            part[field] = {"type": "ephemeral"} | ({"ttl": "1h"} if cache.ttl in ("1h", "12h") else {})
        else:
            part[field] = {"mode": "explicit"} | ({"ttl": cache.ttl} if cache.ttl in ("30m", "12h") else {})

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
                        self._drop(placeholder(tool))
        if tools:
            body["tools"] = tools
            if said.parallel_tools is not None:
                body["parallel_tool_calls"] = said.parallel_tools
        if choice is not None and tools:
            self._add_choice(body, choice)

    def _may_be_called(self, name: str, choice: ToolChoice | None) -> bool:
        everything = choice is None or not choice.allowed or self._quirks.tool_choices is ToolChoices.ALL
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
        told: Json = {"type": "function", "function": function | _own(tool.extras)}
        if tool.cache is not None:
            if self._quirks.cache_field == "cache_control":
                self._mark(told, tool.cache)
            else:
                self._drop("cache_control")
        return told

    def _custom(self, tool: CustomTool, at: int) -> Json:
        if not self._quirks.custom_tools:
            if tool.format is not None and tool.format.get("type") != "text":
                self._drop(f"tools[{at}].format")
            return self._function(as_function(tool))
        custom: Json = {"name": tool.name}
        if tool.description is not None:
            custom["description"] = tool.description
        if tool.format is not None:
            custom["format"] = tool.format
        return {"type": "custom", "custom": custom | _own(tool.extras)}

    def _add_search(self, body: Json, tool: WebSearch) -> None:
        if not self._quirks.web_search:
            self._drop("web_search")
            return
        options: Json = {"search_context_size": tool.context_size} if tool.context_size else {}
        body["web_search_options"] = options | _own(tool.extras)

    def _add_choice(self, body: Json, choice: ToolChoice) -> None:
        form = self._quirks.tool_choices
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
        return "custom" if custom and self._quirks.custom_tools else "function"

    # What tunes the answer

    def _add_reasoning(self, body: Json) -> None:
        wish = self._conversation.reasoning
        if wish is None:
            return
        effort = wish.effort or _effort_of(wish.budget_tokens)
        told = False
        for words in self._quirks.reasoning_wishes:
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
            self._drop("reasoning")

    def _effort(self, effort: Effort | None) -> str:
        if effort is None:
            return ""
        return self._quirks.efforts.get(effort.value, effort.value)

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
            if self._quirks.top_k:
                body["top_k"] = said.top_k
            else:
                self._drop("top_k")
        if said.logprobs is not None:
            self._drop("logprobs")

    def _add_format(self, body: Json) -> None:
        said = self._conversation
        if said.verbosity is not None:
            if self._quirks.verbosity:
                body["verbosity"] = said.verbosity
            else:
                self._drop("verbosity")
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


def _own(extras: Extras | None) -> Json:
    return dict(extras.members) if extras is not None and extras.dialect is Dialect.OPENAI_CHAT else {}


def _marks(conversation: Conversation) -> int:
    """How many cache marks it has; those of results' parts too, which become parts of their own."""
    blocks = [block for turn in conversation.turns for block in turn.blocks]
    inner = [part for block in blocks if isinstance(block, ToolResult) for part in block.content]
    marked = [*blocks, *inner, *conversation.tools]
    return sum(getattr(each, "cache", None) is not None for each in marked)


def _effort_of(budget_tokens: int | None) -> Effort | None:
    if budget_tokens is None:
        return None
    for most, effort in _BUDGETS:
        if budget_tokens <= most:
            return effort
    return Effort.XHIGH


def _short(text: str, length_max: int) -> str:
    """Itself, or where it is too long a name of it that stays the same."""
    return text if len(text) <= length_max else hashlib.sha256(text.encode()).hexdigest()[:length_max]


def _decoded(source: Inline, name: str | None) -> str:
    try:
        text = base64.b64decode(source.data, validate=False).decode(errors="replace")
    except binascii.Error:
        text = source.data
    return f"{name}:\n{text}" if name else text


def _file_name(source: Source) -> str:
    kind = source.media_type.partition("/")[2] if isinstance(source, Inline) else ""
    return f"document.{kind}" if kind.isalnum() else "document"
