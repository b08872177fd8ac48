"""The parts of Converse's answers that the gateway reads; everything else passes unseen.

Shapes follow AWS's API reference, read leniently.  The counts lie beside each other: `inputTokens` excludes the cache.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from domain.inference.reply import Finish
from domain.usage import Usage

FAMILY: Final = "anthropic"
"""Whose seals are here: Anthropic's models alone sign their thoughts, and take them back wherever they are served."""
COUNT_MAX: Final = 100_000_000
"""No request has more tokens; a vendor that says so is not believed."""

FINISHES: Final = {
    "end_turn": Finish.END,
    "tool_use": Finish.TOOL,
    "max_tokens": Finish.LENGTH,
    "stop_sequence": Finish.STOP_SEQUENCE,
    "guardrail_intervened": Finish.FILTER,
    "content_filtered": Finish.FILTER,
    "refusal": Finish.FILTER,
    "model_context_window_exceeded": Finish.CONTEXT,
    "pause_turn": Finish.PAUSE,
}
FAILURES: Final = frozenset({"malformed_model_output", "malformed_tool_use"})
"""Reasons that end nothing well."""


class _CacheDetail(Struct, gc=False, rename="camel"):
    ttl: str = ""
    input_tokens: int | None = None


class Counts(Struct, gc=False, rename="camel"):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    cache_details: list[_CacheDetail] | None = None

    def usage(self) -> Usage | None:
        """Disjoint classes; None where the counts are missing or cannot be true."""
        fresh, produced = self.input_tokens, self.output_tokens
        read, written = self.cache_read_input_tokens or 0, self.cache_write_input_tokens or 0
        if fresh is None or produced is None:
            return None
        if not all(0 <= count <= COUNT_MAX for count in (fresh, produced, read, written)):
            return None
        hour = sum(max(each.input_tokens or 0, 0) for each in self.cache_details or () if each.ttl == "1h")
        hour = min(hour, written)
        return Usage(
            input=fresh,
            cache_read=read,
            cache_write_5m=written - hour,
            cache_write_1h=hour,
            output=produced,
            requests=1,
        )


class _Message(Struct, gc=False):
    content: list[dict[str, Any]] | None = None


class _Output(Struct, gc=False):
    message: _Message | None = None


class Answer(Struct, gc=False, rename="camel"):
    """A whole answer."""

    output: _Output | None = None
    stop_reason: str | None = None
    usage: Raw = Raw()
    additional_model_response_fields: Any = None

    @property
    def content(self) -> list[dict[str, Any]] | None:
        message = self.output.message if self.output is not None else None
        return message.content if message is not None else None


class _ToolStart(Struct, gc=False, rename="camel"):
    tool_use_id: str = ""
    name: str = ""


class _Start(Struct, gc=False, rename="camel"):
    tool_use: _ToolStart | None = None
    image: Any = None


class _ToolDelta(Struct, gc=False):
    input: str = ""


class _ReasoningDelta(Struct, gc=False, rename="camel"):
    text: str = ""
    signature: str = ""
    redacted_content: str = ""


class Delta(Struct, gc=False, rename="camel"):
    text: str = ""
    tool_use: _ToolDelta | None = None
    reasoning_content: _ReasoningDelta | None = None
    image: Any = None

    @property
    def written(self) -> str:
        """What of it the model wrote."""
        if self.tool_use is not None:
            return self.tool_use.input
        return self.reasoning_content.text if self.reasoning_content is not None else self.text


class Event(Struct, gc=False, rename="camel"):
    """The payload of any event of a stream; its kind is in the frame."""

    content_block_index: int = 0
    start: _Start | None = None
    delta: Delta | None = None
    stop_reason: str | None = None
    usage: Raw = Raw()
    message: Any = None


UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
"""What the readers here raise for bytes that are not of this dialect."""

_EVENT = msgspec.json.Decoder(Event)
_ANSWER = msgspec.json.Decoder(Answer)
_COUNTS = msgspec.json.Decoder(Counts, strict=False)


def read_event(payload: bytes) -> Event:
    return _EVENT.decode(payload or b"{}")


def read_body(data: bytes) -> Answer:
    return _ANSWER.decode(data)


def read_counts(raw: bytes | Raw) -> Counts:
    try:
        return _COUNTS.decode(raw)
    except UNREADABLE:
        return Counts()
