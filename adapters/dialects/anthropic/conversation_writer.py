"""The canonical conversation, written as a Messages request for a vendor."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from adapters.dialects.anthropic.conversation_reader import WHOLE
from adapters.dialects.anthropic.dropping import CacheMarks, Dropped
from adapters.dialects.anthropic.models import ModelRules, rules_of
from adapters.dialects.anthropic.reasoning_writer import ReasoningWriter
from adapters.dialects.anthropic.seals import FAMILY, signature_of
from adapters.dialects.anthropic.tools_writer import ToolsWriter
from adapters.dialects.custom_tools import arguments_of
from domain.catalog import Dialect
from domain.errors import UnsupportedParameter
from domain.inference.chat import ChatCall
from domain.inference.conversation import (
    Audio,
    Block,
    Citation,
    Conversation,
    Document,
    Foreign,
    Image,
    Inline,
    JsonObject,
    JsonSchema,
    Link,
    Refusal,
    Role,
    Source,
    StoredFile,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
    Written,
    placeholder,
)

Json = dict[str, Any]

LOSSES: Final[Mapping[str, str]] = {
    "cache_control": "Four marks at most are sent, the last ones; a time to live that is neither 5m nor 1h becomes "
    "the nearest of these.",
    "citations": "Sources that another family of models named are not sent back.",
    "detail": "How closely to look at a picture cannot be said.",
    "format": "A custom tool's grammar is told to the model in words.",
    "frequency_penalty": "There is no such parameter.",
    "images": "A picture that the assistant made cannot be sent back.",
    "logit_bias": "There is no such parameter.",
    "logprobs": "There is no such parameter.",
    "messages.name": "Who of several people speaks cannot be said.",
    "metadata": "Only an id of the end user is taken.",
    "presence_penalty": "There is no such parameter.",
    "prompt_cache_key": "A cache is found by its content alone.",
    "reasoning_effort": "Thinking is left out where a tool is forced, where the answer may be too short for it, and "
    "where an earlier thought of the same turn is missing.",
    "response_format": "Any JSON object cannot be demanded; the model is asked for one in words. A schema's name and "
    "its `strict` are left out.",
    "seed": "There is no such parameter.",
    "service_tier": "Only `auto` and `standard_only` are known.",
    "stop": "A stop sequence of white space alone is not sent.",
    "strict": "Older models do not hold a tool's arguments to its schema.",
    "system": "System messages in the middle of a conversation move to its beginning.",
    "temperature": "Newer models sample as they see fit; the older ones take 0 to 1, and no value beside thinking.",
    "thinking": "Thoughts of another family of models are not sent back, because nobody but it can read them.",
    "top_k": "As `temperature`.",
    "top_p": "As `temperature`.",
    "verbosity": "There is no such parameter.",
    "web_search.context_size": "How much of the pages found is read cannot be said.",
}
"""What cannot be said in this dialect, and what becomes of it."""

OUTPUT_MAX_UNKNOWN: Final = 8_192
"""The limit of an answer where neither the caller nor the catalogue names one; the dialect demands one."""
ASK_FOR_JSON: Final = "Answer with one JSON object and nothing else."
OPENING: Final = "."
"""Stands for the missing message of a conversation that the assistant begins."""
ID_LENGTH_MAX: Final = 64

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOT_ID = re.compile(r"[^A-Za-z0-9_-]")
_TEXT_DOCUMENTS: Final = ("text/", "application/json", "application/xml")
_OBJECT = msgspec.json.Decoder(dict[str, Raw])


def write_conversation(conversation: Conversation, call: ChatCall) -> Written:
    """Raises UnsupportedParameter for what must not be dropped silently."""
    return _Writer(conversation, call).written()


def valid_id(id_: str) -> str:
    """A tool call's id as the dialect allows it, the same for the same id."""
    if _ID.fullmatch(id_):
        return id_
    mark = hashlib.sha256(id_.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{_NOT_ID.sub('_', id_)[: ID_LENGTH_MAX - 13]}_{mark}" if id_ else f"toolu_{mark}"


class _Writer:
    def __init__(self, conversation: Conversation, call: ChatCall) -> None:
        self._said = conversation
        self._call = call
        self._rules: ModelRules = rules_of(call.vendor_model)
        self._dropped = Dropped()
        self._marks = CacheMarks(self._dropped)

    def written(self) -> Written:
        said, call = self._said, self._call
        self._refuse_what_changes_the_answer()
        request: Json = {"model": call.vendor_model, "max_tokens": self._output_max()}
        writer = ToolsWriter(said, self._rules, self._dropped, self._marks)
        tools = writer.tools()
        choice = writer.choice(tools)
        system, messages = self._turns()
        if tools:
            request["tools"] = tools
        if choice is not None:
            request["tool_choice"] = choice
        if system:
            request["system"] = system
        request["messages"] = messages
        ReasoningWriter(said, call.request.dialect, self._rules, self._dropped).write(request)
        if said.stop:
            request["stop_sequences"] = [stop for stop in said.stop if stop.strip()]
            if len(request["stop_sequences"]) < len(said.stop):
                self._dropped.add("stop")
        if said.user is not None:
            request["metadata"] = {"user_id": said.user}
        if said.service_tier in ("auto", "standard_only"):
            request["service_tier"] = said.service_tier
        if isinstance(said.output_format, JsonSchema):
            format_ = {"type": "json_schema", "schema": said.output_format.schema}
            request["output_config"] = {**request.get("output_config", {}), "format": format_}
        self._name_what_is_lost()
        if call.request.streamed:
            request["stream"] = True
        for name, value in self._dropped.own(said.extras).items():
            request.setdefault(name, value)
        self._marks.limit()
        return Written(msgspec.json.encode(request), self._dropped.names)

    def _refuse_what_changes_the_answer(self) -> None:
        said = self._said
        if said.answers > 1:
            raise UnsupportedParameter("This model gives one answer at a time; send 'n' as 1.", param="n")
        last = said.turns[-1] if said.turns else None
        if last is not None and last.role is Role.ASSISTANT and not self._rules.prefills:
            raise UnsupportedParameter(
                "This model does not go on with a message of the assistant's; let the last message be the user's.",
                param="messages",
            )

    def _output_max(self) -> int:
        asked, most = self._said.output_max, self._call.output_max
        if asked is None:
            return most or OUTPUT_MAX_UNKNOWN
        return asked if most is None else min(asked, most)

    def _name_what_is_lost(self) -> None:
        said = self._said
        lost = {
            "seed": said.seed,
            "frequency_penalty": said.frequency_penalty,
            "presence_penalty": said.presence_penalty,
            "logit_bias": said.logit_bias,
            "logprobs": said.logprobs,
            "metadata": said.metadata,
            "prompt_cache_key": said.cache_key,
            "verbosity": said.verbosity,
        }
        for name, value in lost.items():
            if value:
                self._dropped.add(name)
        if said.service_tier not in (None, "auto", "standard_only"):
            self._dropped.add("service_tier")

    def _turns(self) -> tuple[str | list[Json], list[Json]]:
        """The system prompt, and turns of user and assistant by turns."""
        system: list[Json] = []
        merged: list[tuple[str, list[Json]]] = []
        for number, turn in enumerate(self._said.turns):
            where = f"messages[{number}]"
            if turn.role in (Role.SYSTEM, Role.DEVELOPER):
                system += self._blocks(turn, where)
                continue
            self._dropped.own(turn.extras)
            if turn.name is not None:
                self._dropped.add("messages.name")
            role = "assistant" if turn.role is Role.ASSISTANT else "user"
            blocks = self._blocks(turn, where)
            if merged and merged[-1][0] == role:
                merged[-1][1].extend(blocks)
            elif blocks:
                merged.append((role, blocks))
        if isinstance(self._said.output_format, JsonObject):
            system.append({"type": "text", "text": ASK_FOR_JSON})
            self._dropped.add("response_format")
        if not merged:
            # A system prompt alone is a question to other models.
            return "", [{"role": "user", "content": system or [{"type": "text", "text": OPENING}]}]
        if merged[0][0] == "assistant":
            merged.insert(0, ("user", [{"type": "text", "text": OPENING}]))
        if merged[-1][0] == "assistant":
            _strip_end(merged[-1][1])
        return _as_short(system), [
            {"role": role, "content": _as_short(_results_first(blocks) if role == "user" else blocks)}
            for role, blocks in merged
        ]

    def _blocks(self, turn: Turn, where: str) -> list[Json]:
        found: list[Json] = []
        for number, block in enumerate(turn.blocks):
            written = self._block(block, turn.role, f"{where}.content[{number}]")
            if written is not None:
                found.append(written)
        return found

    def _block(self, block: Block, role: Role, where: str) -> Json | None:  # noqa: PLR0911 - one return per kind
        match block:
            case Text():
                return self._text(block)
            case ToolCall():
                return self._marks.put(block.cache, self._tool_use(block))
            case ToolResult():
                return self._marks.put(block.cache, self._tool_result(block, where))
            case Thinking():
                return self._thought(block)
            case Image() if role is Role.ASSISTANT:
                self._dropped.add("images")
                return None
            case Image() | Document():
                return self._media(block, where)
            case Audio():
                raise UnsupportedParameter(
                    f"'{where}' is sound, which this model cannot hear; send its text, or use another model.",
                    param=where,
                )
            case Refusal():
                return {"type": "text", "text": block.text} if block.text.strip() else None
            case Foreign():
                if block.dialect is Dialect.ANTHROPIC:
                    return dict(block.raw)
                self._dropped.add(placeholder(block))
                return None

    def _text(self, block: Text) -> Json | None:
        extras = self._dropped.own(block.extras)
        if WHOLE in extras:
            raw = {name: value for name, value in extras[WHOLE].items() if name != "cache_control"}
            return self._marks.put(block.cache, raw)
        if not block.text.strip():
            return None
        written: Json = {"type": "text", "text": block.text, **extras}
        if block.citations and (own := self._citations(block.citations)):
            written["citations"] = own
        return self._marks.put(block.cache, written)

    def _citations(self, citations: Iterable[Citation]) -> list[Mapping[str, Any]]:
        own = []
        for citation in citations:
            if citation.extras is not None and citation.extras.dialect is Dialect.ANTHROPIC:
                own.append(citation.extras.members)
            else:
                self._dropped.add("citations")
        return own

    def _tool_use(self, call: ToolCall) -> Json:
        text = arguments_of(call.arguments) if call.custom else call.arguments
        return {
            "type": "tool_use",
            "id": valid_id(call.id),
            "name": call.name,
            "input": _object_of(text),
            **self._dropped.own(call.extras),
        }

    def _tool_result(self, result: ToolResult, where: str) -> Json:
        written: Json = {"type": "tool_result", "tool_use_id": valid_id(result.call_id)}
        blocks = [
            block
            for number, each in enumerate(result.content)
            if (block := self._block(each, Role.USER, f"{where}.content[{number}]")) is not None
        ]
        if blocks:
            written["content"] = _as_short(blocks)
        if result.failed:
            written["is_error"] = True
        return written | dict(self._dropped.own(result.extras))

    def _thought(self, thinking: Thinking) -> Json | None:
        sealed = thinking.sealed
        if sealed is None or sealed.origin != FAMILY:
            return None
        extras = self._dropped.own(thinking.extras)
        if thinking.redacted:
            return {"type": "redacted_thinking", "data": sealed.value, **extras}
        return {"type": "thinking", "thinking": thinking.text, "signature": signature_of(sealed), **extras}

    def _media(self, block: Image | Document, where: str) -> Json:
        extras = dict(self._dropped.own(block.extras))
        written: Json
        if isinstance(block, Image):
            if block.detail is not None and block.detail != "auto":
                self._dropped.add("detail")
            written = {"type": "image", "source": self._source(block.source, where)}
        else:
            source = extras.pop("source", None) or self._document_source(block.source, where)
            written = {"type": "document", "source": source}
            if block.name is not None:
                written["title"] = block.name
            if block.context is not None:
                written["context"] = block.context
        return self._marks.put(block.cache, written | extras)

    def _source(self, source: Source, where: str) -> Json:
        match source:
            case Inline():
                return {"type": "base64", "media_type": source.media_type, "data": source.data}
            case Link():
                if not source.url.startswith(("http://", "https://")):
                    raise UnsupportedParameter(
                        f"'{where}' is at an address that this model's vendor cannot open; send the file itself.",
                        param=where,
                    )
                return {"type": "url", "url": source.url}
            case StoredFile():
                if self._call.request.dialect is not Dialect.ANTHROPIC:
                    raise UnsupportedParameter(
                        f"'{where}' is a file kept at another vendor, out of this model's reach; send the file itself.",
                        param=where,
                    )
                return {"type": "file", "file_id": source.id}

    def _document_source(self, source: Source, where: str) -> Json:
        if not isinstance(source, Inline) or source.media_type == "application/pdf":
            return self._source(source, where)
        if source.media_type.startswith(_TEXT_DOCUMENTS):
            try:
                text = base64.b64decode(source.data, validate=True).decode("utf-8", "surrogatepass")
            except (binascii.Error, UnicodeDecodeError):
                raise UnsupportedParameter(f"'{where}' is not text in UTF-8.", param=where) from None
            return {"type": "text", "media_type": "text/plain", "data": text}
        raise UnsupportedParameter(
            f"'{where}' is a file of the type {source.media_type[:80]}; this model reads PDF and plain text.",
            param=where,
        )


def _as_short(blocks: list[Json]) -> str | list[Json]:
    """A single plain text as a string, as people write it."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        text: str = blocks[0]["text"]
        return text
    return blocks


def _results_first(blocks: list[Json]) -> list[Json]:
    results = [block for block in blocks if block["type"] == "tool_result"]
    return blocks if not results else [*results, *(block for block in blocks if block["type"] != "tool_result")]


def _strip_end(blocks: list[Json]) -> None:
    """The vendor refuses a beginning of its answer that ends in white space."""
    if blocks and blocks[-1]["type"] == "text" and isinstance(blocks[-1].get("text"), str):
        blocks[-1]["text"] = blocks[-1]["text"].rstrip()


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
