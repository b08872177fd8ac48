"""Turns of the canonical conversation, written as messages of Chat Completions."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

from adapters.dialects.custom_tools import arguments_of
from adapters.dialects.openai_chat.quirks import ReasoningBack
from adapters.dialects.openai_chat.reasoning import vendor_details
from adapters.dialects.openai_chat.target import Target, own, short
from domain.catalog import Dialect
from domain.errors import UnsupportedParameter
from domain.inference.conversation import (
    Audio,
    Block,
    Document,
    Foreign,
    Image,
    Inline,
    Refusal,
    Role,
    Source,
    StoredFile,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
    placeholder,
)

Json = dict[str, Any]

CALL_ID_LENGTH_MAX: Final = 64
BETWEEN_TEXTS: Final = "\n\n"
BETWEEN_TURNS: Final = "(I have the results of the tools.)"
"""Said by the assistant where a vendor lets nobody else speak behind a tool."""
_OPENAI: Final = frozenset({Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES})
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class MessageWriter:
    """Writes one request's messages."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def messages(self, turns: Sequence[Turn]) -> list[Json]:
        messages: list[Json] = []
        for turn in turns:
            match turn.role:
                case Role.SYSTEM | Role.DEVELOPER:
                    role = turn.role if self._target.quirks.developer_role else Role.SYSTEM
                    messages += self._message(role.value, turn, self._content(turn.blocks))
                case Role.ASSISTANT:
                    messages.append(self._assistant(turn))
                case Role.USER | Role.TOOL:
                    for message in self._from_user(turn):
                        self._add_behind(messages, message)
        return messages

    def _add_behind(self, messages: list[Json], message: Json) -> None:
        last = messages[-1] if messages else message
        parted = self._target.quirks.user_after_tool or message["role"] != "user" or last["role"] != "tool"
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
        return [message | own(turn.extras)]

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
        return {"role": "tool", "tool_call_id": self._call_id(result.call_id), "content": content} | own(result.extras)

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
        return message | own(turn.extras)

    def _add_thoughts(self, message: Json, thoughts: Sequence[Thinking]) -> list[Json]:
        """Earlier reasoning, where the vendor wants it; returns it as chunks of the content where it belongs there."""
        back = self._target.quirks.reasoning_back
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
            self._target.drop("thinking")
        return []

    def _chunk(self, thought: Thinking) -> Json:
        chunk: Json = {"type": "thinking", "thinking": [{"type": "text", "text": thought.text}], "closed": True}
        if thought.sealed is not None and thought.sealed.origin == self._target.quirks.family:
            chunk["signature"] = thought.sealed.value
        return chunk

    def _tool_call(self, call: ToolCall) -> Json:
        told: Json = {"id": self._call_id(call.id), "type": "function"}
        if call.custom and self._target.quirks.custom_tools:
            told |= {"type": "custom", "custom": {"name": call.name, "input": call.arguments}}
        else:
            arguments = arguments_of(call.arguments) if call.custom else call.arguments or "{}"
            told["function"] = {"name": call.name, "arguments": arguments}
        return told | own(call.extras)

    def _call_id(self, id_: str) -> str:
        length = self._target.quirks.tool_id_length
        if not length:
            return short(id_, CALL_ID_LENGTH_MAX)
        if len(id_) == length and id_.isalnum() and id_.isascii():
            return id_
        number = int.from_bytes(hashlib.sha256(id_.encode()).digest())
        return "".join(_DIGITS[number // 62**place % 62] for place in range(length))

    def _content(self, blocks: Iterable[Block]) -> str | list[Json]:
        """A string where it is text alone, unless parts tell more."""
        kept = [block for block in blocks if not (isinstance(block, Text) and not block.text)]
        if all(isinstance(block, Text) for block in kept):
            texts = [block for block in kept if isinstance(block, Text)]
            marked = self._target.quirks.cache_field and any(block.cache for block in texts)
            plain = not any(own(block.extras) for block in texts)
            if not marked and ((len(texts) <= 1 and plain) or not self._target.quirks.text_parts):
                for block in texts:
                    self._note_text(block)
                return BETWEEN_TEXTS.join(block.text for block in texts)
        return [part for block in kept if (part := self._part(block)) is not None]

    def _note_text(self, block: Text) -> None:
        if block.citations:
            self._target.drop("citations")
        if block.cache is not None and not self._target.quirks.cache_field:
            self._target.drop("cache_control")

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
                    self._target.drop(placeholder(block))
                    return None
                return dict(block.raw)
            case _:
                return None
        self._target.mark(part, block.cache)
        return part | own(block.extras)

    def _url(self, source: Source, kind: str) -> str:
        if isinstance(source, StoredFile):
            raise UnsupportedParameter(
                f"The stored file {source.id!r} is not known to the vendor of this model; send the {kind} itself.",
                param=kind,
            )
        return f"data:{source.media_type};base64,{source.data}" if isinstance(source, Inline) else source.url

    def _document(self, block: Document) -> Json:
        if block.context is not None:
            self._target.drop("context")
        source = block.source
        if isinstance(source, Inline) and source.media_type.startswith("text/") and not self._target.quirks.files_in:
            return {"type": "text", "text": _decoded(source, block.name)}
        if isinstance(source, StoredFile) and self._target.quirks.stored_files and self._target.dialect in _OPENAI:
            return {"type": "file", "file": {"file_id": source.id}}
        if not self._target.quirks.files_in:
            raise UnsupportedParameter(
                "The vendor of this model reads no documents; send the document's text, or use another model.",
                param="document",
            )
        file = {"file_data": self._url(source, "document")}
        if block.name is not None or isinstance(source, Inline):
            file["filename"] = block.name or _file_name(source)
        return {"type": "file", "file": file}

    def _audio(self, block: Audio) -> Json:
        if not self._target.quirks.audio_in:
            raise UnsupportedParameter(
                "The vendor of this model does not listen to audio; send a transcript, or use another model.",
                param="input_audio",
            )
        return {"type": "input_audio", "input_audio": {"data": block.data, "format": block.format}}


def _decoded(source: Inline, name: str | None) -> str:
    try:
        text = base64.b64decode(source.data, validate=False).decode(errors="replace")
    except binascii.Error:
        text = source.data
    return f"{name}:\n{text}" if name else text


def _file_name(source: Source) -> str:
    kind = source.media_type.partition("/")[2] if isinstance(source, Inline) else ""
    return f"document.{kind}" if kind.isalnum() else "document"
