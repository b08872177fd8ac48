"""The canonical conversation, written as a `generateContent` request for a vendor."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw

from adapters.dialects.custom_tools import arguments_of, as_function
from adapters.dialects.gemini.models import (
    BUDGETS,
    ModelRules,
    ThinkingStyle,
    effort_for,
    level_for,
    rules_of,
)
from adapters.dialects.gemini.reply_reader import SYNTHETIC_ID
from adapters.dialects.gemini.wire import FAMILY
from domain.catalog import Dialect
from domain.errors import InvalidRequest, UnsupportedParameter
from domain.inference.chat import ChatCall
from domain.inference.conversation import (
    Audio,
    Block,
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
    Refusal,
    Role,
    ServerTool,
    Source,
    StoredFile,
    Text,
    Thinking,
    ToolCall,
    ToolMode,
    ToolResult,
    Turn,
    WebSearch,
    Written,
    placeholder,
)

Json = dict[str, Any]

LOSSES: Final[Mapping[str, str]] = {
    "cache_control": "The vendor caches prompts by itself; where a cache should end cannot be said.",
    "citations": "Sources of earlier answers are not sent back.",
    "context": "What a document is about cannot be said beside it.",
    "detail": "How closely to look at a picture cannot be said.",
    "format": "A custom tool's grammar is told to the model in words.",
    "frequency_penalty": "Newer models do not take it.",
    "logit_bias": "There is no such parameter.",
    "logprobs": "They are not read from the answers.",
    "messages.name": "Who of several people speaks cannot be said.",
    "metadata": "There is no such parameter.",
    "parallel_tool_calls": "Whether several tools may be called at once cannot be said.",
    "presence_penalty": "Newer models do not take it.",
    "prompt_cache_key": "A cache is found by its content alone.",
    "reasoning_effort": "It becomes a budget or the nearest level that the model knows; models that always think do so "
    "as little as they can; others do not think at all.",
    "response_format": "Beside tools, models before the third generation are asked for JSON in words. A schema's name "
    "and its `strict` are left out.",
    "service_tier": "There is no such parameter.",
    "strict": "A tool's arguments are not held to its schema.",
    "system": "System messages in the middle of a conversation move to its beginning.",
    "thinking": "Thoughts of another family of models are not sent back, because nobody but it can read them.",
    "tool_results": "Pictures and files in a tool's result follow it in the same turn.",
    "user": "There is no such parameter.",
    "verbosity": "There is no such parameter.",
    "web_search": "Beside functions, models before the third generation do not search.",
    "web_search.options": "How often, where and how thoroughly to search cannot be said.",
}
"""What cannot be said in this dialect, and what becomes of it."""

ASK_FOR_JSON: Final = "Answer with JSON and nothing else."
OPENING: Final = "."
"""Stands for the missing message of a conversation that the assistant begins."""
UNSIGNED: Final = "skip_thought_signature_validator"
"""What Google documents for calls that another model made: the newer models refuse a call without any signature."""
BUDGET_AS_IT_LIKES: Final = -1
STOPS_MAX: Final = 5

_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_FILES_HOST: Final = "generativelanguage.googleapis.com"
_AUDIO: Final = {"mp3": "audio/mp3", "wav": "audio/wav"}


def write_conversation(conversation: Conversation, call: ChatCall) -> Written:
    """Raises UnsupportedParameter for what must not be dropped silently."""
    return _Writer(conversation, call).written()


class _Writer:
    def __init__(self, conversation: Conversation, call: ChatCall) -> None:
        self._said = conversation
        self._call = call
        self._rules: ModelRules = rules_of(call.vendor_model)
        self._dropped: dict[str, None] = {}
        self._names: dict[str, str] = {}
        """Of the tools called so far, by the id of the call."""
        self._asks: list[str] = []
        """What is demanded in words."""

    def written(self) -> Written:
        self._refuse_what_changes_the_answer()
        own = dict(self._own(self._said.extras))
        tools, functions = self._tools()
        config = self._config(functions=functions)
        system, contents = self._contents()
        system += [{"text": ask} for ask in self._asks]
        request: Json = {}
        if system:
            request["systemInstruction"] = {"parts": system}
        request["contents"] = contents
        if tools:
            request["tools"] = tools
        if functions and (choice := self._tool_choice()) is not None:
            request["toolConfig"] = {"functionCallingConfig": choice}
        if config:
            request["generationConfig"] = config
        self._name_what_is_lost()
        for name, value in own.items():
            request.setdefault(name, value)
        return Written(msgspec.json.encode(request), tuple(self._dropped))

    def _drop(self, name: str) -> None:
        self._dropped[name] = None

    def _own(self, extras: Extras | None) -> Mapping[str, Any]:
        """Members that only this dialect knows; those of others are named, not sent."""
        if extras is None:
            return {}
        if extras.dialect is Dialect.GEMINI:
            return extras.members
        for name in extras.members:
            if name != "modalities":
                self._drop(name)
        return {}

    def _refuse_what_changes_the_answer(self) -> None:
        if self._said.answers > 1:
            raise UnsupportedParameter("This model gives one answer at a time; send 'n' as 1.", param="n")

    def _name_what_is_lost(self) -> None:
        said = self._said
        lost = {
            "logit_bias": said.logit_bias,
            "logprobs": said.logprobs is not None,
            "metadata": said.metadata,
            "parallel_tool_calls": said.parallel_tools is False and said.tools,
            "prompt_cache_key": said.cache_key,
            "service_tier": said.service_tier not in (None, "auto"),
            "user": said.user,
            "verbosity": said.verbosity,
        }
        for name, value in lost.items():
            if value:
                self._drop(name)

    # What was said.

    def _contents(self) -> tuple[list[Json], list[Json]]:
        """The system prompt's parts, and turns of user and model by turns."""
        system: list[Json] = []
        merged: list[tuple[str, list[Json]]] = []
        asked = self._last_question()
        for number, turn in enumerate(self._said.turns):
            where = f"messages[{number}]"
            if turn.role in (Role.SYSTEM, Role.DEVELOPER):
                system += self._parts(turn, where)
                continue
            self._own(turn.extras)
            if turn.name is not None:
                self._drop("messages.name")
            role = "model" if turn.role is Role.ASSISTANT else "user"
            parts = self._parts(turn, where)
            if role == "model" and self._rules.signs_calls and number > asked:
                _sign_first_call(parts)
            if merged and merged[-1][0] == role:
                merged[-1][1].extend(parts)
            elif parts:
                merged.append((role, parts))
        if not merged:
            # A system prompt alone is a question to other models.
            return [], [{"role": "user", "parts": system or [{"text": OPENING}]}]
        if merged[0][0] == "model":
            merged.insert(0, ("user", [{"text": OPENING}]))
        return system, [
            {"role": role, "parts": _results_first(parts) if role == "user" else parts} for role, parts in merged
        ]

    def _last_question(self) -> int:
        """The number of the last turn in which somebody, not a tool, spoke: calls before it need no signature."""
        for number in range(len(self._said.turns) - 1, -1, -1):
            turn = self._said.turns[number]
            if turn.role is Role.USER and any(not isinstance(block, ToolResult) for block in turn.blocks):
                return number
        return -1

    def _parts(self, turn: Turn, where: str) -> list[Json]:
        found: list[Json] = []
        for number, block in enumerate(turn.blocks):
            self._add_block(found, block, turn.role, f"{where}.content[{number}]")
        return found

    def _add_block(self, found: list[Json], block: Block, role: Role, where: str) -> None:  # noqa: PLR0912 - one branch per kind
        cache = getattr(block, "cache", None)
        if cache is not None:
            self._drop("cache_control")
        match block:
            case Text():
                self._own(block.extras)
                if block.citations:
                    self._drop("citations")
                if block.text:
                    found.append({"text": block.text})
            case ToolCall():
                found.append(self._function_call(block))
            case ToolResult():
                self._add_result(found, block, where)
            case Thinking():
                _add_thought(found, block)
            case Image():
                if block.detail not in (None, "auto"):
                    self._drop("detail")
                part = self._media(block.source, where)
                signature = self._own(block.extras).get("thoughtSignature")
                if role is Role.ASSISTANT and isinstance(signature, str):
                    part["thoughtSignature"] = signature
                found.append(part)
            case Document():
                if block.context is not None:
                    self._drop("context")
                self._own(block.extras)
                found.append(self._media(block.source, where))
            case Audio():
                kind = _AUDIO.get(block.format, f"audio/{block.format}")
                found.append({"inlineData": {"mimeType": kind, "data": block.data}})
            case Refusal():
                if block.text:
                    found.append({"text": block.text})
            case Foreign():
                if block.dialect is Dialect.GEMINI:
                    found.append(dict(block.raw))
                else:
                    self._drop(placeholder(block))

    def _function_call(self, call: ToolCall) -> Json:
        self._names[call.id] = call.name
        self._own(call.extras)
        text = arguments_of(call.arguments) if call.custom else call.arguments
        written: Json = {"name": call.name, "args": _object_of(text)}
        if self._sends_id(call.id):
            written["id"] = call.id
        part: Json = {"functionCall": written}
        if call.sealed is not None and call.sealed.origin == FAMILY:
            part["thoughtSignature"] = call.sealed.value
        return part

    def _add_result(self, found: list[Json], result: ToolResult, where: str) -> None:
        name = self._names.get(result.call_id) or result.name
        if not name:
            raise InvalidRequest(
                f"'{where}' is the result of the tool call {result.call_id!r}, which no message before it makes; send "
                "the assistant's message with the call too.",
                param=where,
            )
        self._own(result.extras)
        texts: list[str] = []
        media: list[Json] = []
        for number, block in enumerate(result.content):
            if isinstance(block, Text):
                texts.append(block.text)
            else:
                self._add_block(media, block, Role.USER, f"{where}.content[{number}]")
        written: Json = {"name": name, "response": _response_of("\n".join(texts), failed=result.failed)}
        if self._sends_id(result.call_id):
            written["id"] = result.call_id
        found.append({"functionResponse": written})
        if media:
            self._drop("tool_results")
            found += media

    def _sends_id(self, id_: str) -> bool:
        """Newer models match calls and results by id; an id that the gateway made up means nothing to anyone else."""
        return bool(id_) and self._rules.signs_calls and not id_.startswith(SYNTHETIC_ID)

    def _media(self, source: Source, where: str) -> Json:
        match source:
            case Inline():
                return {"inlineData": {"mimeType": source.media_type, "data": source.data}}
            case Link():
                return {"fileData": _file_at(source.url, where)}
            case StoredFile():
                if self._call.request.dialect is Dialect.GEMINI:
                    return {"fileData": {"fileUri": source.id}}
                raise UnsupportedParameter(
                    f"'{where}' is a file kept at another vendor, out of this model's reach; send the file itself.",
                    param=where,
                )

    # Tools.

    def _tools(self) -> tuple[list[Json], bool]:
        """The tools, and whether functions are among them."""
        choice = self._said.tool_choice
        allowed = choice.allowed if choice is not None else ()
        functions: list[Json] = []
        others: list[Json] = []
        search = False
        for number, tool in enumerate(self._said.tools):
            match tool:
                case FunctionTool():
                    if not allowed or tool.name in allowed:
                        functions.append(self._function(tool))
                case CustomTool():
                    if tool.format and tool.format.get("type") not in (None, "text"):
                        self._drop(f"tools[{number}].format")
                    if not allowed or tool.name in allowed:
                        functions.append(self._function(as_function(tool)))
                case WebSearch():
                    search = True
                    self._own(tool.extras)
                    if tool.uses_max or tool.allowed_domains or tool.blocked_domains or tool.context_size:
                        self._drop("web_search.options")
                case ServerTool():
                    if tool.dialect is Dialect.GEMINI:
                        others.append(dict(tool.raw))
                    else:
                        self._drop(placeholder(tool))
        if search and functions and not self._rules.mixes:
            self._drop("web_search")
            search = False
        written = [{"functionDeclarations": functions}] if functions else []
        return [*written, *([{"googleSearch": {}}] if search else []), *others], bool(functions)

    def _function(self, tool: FunctionTool) -> Json:
        if tool.strict:
            self._drop("strict")
        if tool.cache is not None:
            self._drop("cache_control")
        written: Json = {"name": tool.name, **self._own(tool.extras)}
        if tool.description:
            written["description"] = tool.description
        if tool.parameters:
            written["parametersJsonSchema"] = tool.parameters
        return written

    def _tool_choice(self) -> Json | None:
        choice = self._said.tool_choice
        if choice is None:
            return None
        if choice.named is not None:
            return {"mode": "ANY", "allowedFunctionNames": [choice.named]}
        return {"mode": {ToolMode.AUTO: "AUTO", ToolMode.NONE: "NONE", ToolMode.REQUIRED: "ANY"}[choice.mode]}

    # How to think, to sample and to answer.

    def _config(self, *, functions: bool) -> Json:
        said, rules = self._said, self._rules
        config: Json = {}
        wanted = {
            "maxOutputTokens": said.output_max,
            "temperature": said.temperature,
            "topP": said.top_p,
            "topK": said.top_k,
            "seed": said.seed,
        }
        config |= {name: value for name, value in wanted.items() if value is not None}
        for name, here, value in (
            ("presence_penalty", "presencePenalty", said.presence_penalty),
            ("frequency_penalty", "frequencyPenalty", said.frequency_penalty),
        ):
            if value and rules.penalties:
                config[here] = value
            elif value:
                self._drop(name)
        if said.stop:
            config["stopSequences"] = list(said.stop[:STOPS_MAX])
            if len(said.stop) > STOPS_MAX:
                raise UnsupportedParameter(f"This model takes at most {STOPS_MAX} stop sequences.", param="stop")
        self._add_format(config, functions=functions)
        self._add_thinking(config)
        modalities = said.extras.members.get("modalities") if said.extras is not None else None
        if rules.draws or (isinstance(modalities, list) and "image" in modalities):
            config["responseModalities"] = ["TEXT", "IMAGE"]
        return config

    def _add_format(self, config: Json, *, functions: bool) -> None:
        format_ = self._said.output_format
        if format_ is None:
            return
        if functions and not self._rules.mixes:
            self._drop("response_format")
            schema = f" It matches this JSON Schema: {_json(format_.schema)}" if isinstance(format_, JsonSchema) else ""
            self._asks.append(ASK_FOR_JSON + schema)
            return
        config["responseMimeType"] = "application/json"
        match format_:
            case JsonSchema():
                config["responseJsonSchema"] = format_.schema
            case JsonObject():
                pass

    def _add_thinking(self, config: Json) -> None:
        reasoning, rules = self._said.reasoning, self._rules
        if reasoning is None:
            return
        own = self._own(reasoning.extras)
        effort = reasoning.effort
        if rules.thinking is ThinkingStyle.NONE:
            if effort not in (None, Effort.NONE) or reasoning.budget_tokens or reasoning.adaptive:
                self._drop("reasoning_effort")
            return
        off = effort is Effort.NONE or reasoning.budget_tokens == 0
        if off and rules.thinks_always:
            self._drop("reasoning_effort")
        thinking: Json = {"includeThoughts": not off and not reasoning.hidden}
        if rules.thinking is ThinkingStyle.LEVEL:
            wanted = Effort.NONE if off else effort
            if wanted is None and reasoning.budget_tokens is not None:
                wanted = effort_for(reasoning.budget_tokens)
            if wanted is not None:
                thinking["thinkingLevel"] = level_for(rules, wanted)
        else:
            thinking["thinkingBudget"] = self._budget(effort, reasoning.budget_tokens, off=off)
        config["thinkingConfig"] = thinking | dict(own)

    def _budget(self, effort: Effort | None, asked: int | None, *, off: bool) -> int:
        rules = self._rules
        if off:
            return rules.budget_least if rules.thinks_always else 0
        if asked is None and effort is None:
            return BUDGET_AS_IT_LIKES
        tokens = asked if asked is not None else BUDGETS[effort or Effort.MEDIUM]
        tokens = min(max(tokens, rules.budget_least), rules.budget_most)
        most = self._said.output_max
        if most is not None and tokens >= most:
            # Thoughts count towards the answer's limit; a quarter of it is left for what is not thought.
            tokens = max(most * 3 // 4, rules.budget_least)
        return tokens


def _sign_first_call(parts: list[Json]) -> None:
    """Of several calls at once, the vendor signs the first alone, and looks for that one."""
    for part in parts:
        if "functionCall" in part:
            part.setdefault("thoughtSignature", UNSIGNED)
            return


def _add_thought(found: list[Json], thinking: Thinking) -> None:
    """A signature belongs to a thought, or, where there is none to show, to the text before it."""
    sealed = thinking.sealed
    if sealed is None or sealed.origin != FAMILY:
        return
    if thinking.text and not thinking.redacted:
        found.append({"text": thinking.text, "thought": True, "thoughtSignature": sealed.value})
    elif found and "text" in found[-1] and "thoughtSignature" not in found[-1]:
        found[-1]["thoughtSignature"] = sealed.value
    else:
        found.append({"text": "", "thoughtSignature": sealed.value})


def _results_first(parts: list[Json]) -> list[Json]:
    results = [part for part in parts if "functionResponse" in part]
    return parts if not results else [*results, *(part for part in parts if "functionResponse" not in part)]


def _object_of(arguments: str) -> Any:
    """The arguments' own bytes where they are an object; what is none is wrapped, so that the model sees its fault."""
    if not arguments.strip():
        return {}
    encoded = arguments.encode("utf-8", "surrogatepass")
    return Raw(encoded) if _is_object(encoded) else {"_raw": encoded.decode("utf-8", "replace")}


def _response_of(text: str, *, failed: bool) -> Any:
    """A tool's result as the object that the vendor wants."""
    if failed:
        return {"error": text}
    encoded = text.encode("utf-8", "surrogatepass")
    return Raw(encoded) if _is_object(encoded) else {"output": text}


def _is_object(encoded: bytes) -> bool:
    try:
        _OBJECT.decode(encoded)
        # Decoded as a whole too, because what the vendor cannot read would spoil the whole request.
        msgspec.json.decode(encoded)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return False
    return True


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _file_at(url: str, where: str) -> Json:
    """What the vendor itself can reach.  Raises UnsupportedParameter for anything else: the gateway opens no address
    that a caller names."""
    if url.startswith("gs://") or urlsplit(url).hostname == _FILES_HOST:
        kind = mimetypes.guess_type(urlsplit(url).path)[0]
        return {"fileUri": url} | ({"mimeType": kind} if kind else {})
    raise UnsupportedParameter(
        f"'{where}' is at an address that this model's vendor cannot open; send the file itself, as a data URL or as "
        "base64.",
        param=where,
    )
