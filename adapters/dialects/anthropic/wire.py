"""The parts of Anthropic's Messages that the gateway reads in answers; everything else passes unseen.

Shapes follow the official SDK's types (anthropic 2.8.0), read leniently: what cannot be read counts as absent.
Anthropic's counts lie beside each other (`input_tokens` excludes the cache), save thinking, which is part of
`output_tokens`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from domain.inference.reply import Finish
from domain.usage import Usage

COUNT_MAX: Final = 100_000_000
"""No request has more tokens; a vendor that says so is not believed."""

FINISHES: Final = {
    "end_turn": Finish.END,
    "max_tokens": Finish.LENGTH,
    "model_context_window_exceeded": Finish.CONTEXT,
    "tool_use": Finish.TOOL,
    "stop_sequence": Finish.STOP_SEQUENCE,
    "refusal": Finish.FILTER,
    "pause_turn": Finish.PAUSE,
}
STOP_REASONS: Final = {finish: reason for reason, finish in FINISHES.items()}


class _CacheCreation(Struct, gc=False):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _OutputDetails(Struct, gc=False):
    thinking_tokens: int | None = None


class _ServerTools(Struct, gc=False):
    web_search_requests: int | None = None


class Counts(Struct, gc=False):
    """A usage object, whole or one of the cumulative ones of a stream."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None
    server_tool_use: _ServerTools | None = None

    def updated(self, later: Counts) -> Counts:
        """These counts with those that a later event of the stream names: they are totals, not differences."""
        return Counts(
            *(
                getattr(self, name) if getattr(later, name) is None else getattr(later, name)
                for name in self.__struct_fields__
            )
        )

    def usage(self) -> Usage | None:
        """Disjoint classes; None where the counts are missing or cannot be true."""
        fresh, produced = self.input_tokens, self.output_tokens
        read, written = self.cache_read_input_tokens or 0, self.cache_creation_input_tokens or 0
        searches = (self.server_tool_use and self.server_tool_use.web_search_requests) or 0
        thought = (self.output_tokens_details and self.output_tokens_details.thinking_tokens) or 0
        if fresh is None or produced is None:
            return None
        if not all(0 <= count <= COUNT_MAX for count in (fresh, produced, read, written, searches)):
            return None
        split = self.cache_creation or _CacheCreation()
        hour = min(max(split.ephemeral_1h_input_tokens or 0, 0), COUNT_MAX)
        # What the split does not name was kept for the default time; servers that send the split alone exist as well.
        minutes = max(written - hour, min(max(split.ephemeral_5m_input_tokens or 0, 0), COUNT_MAX))
        reasoning = min(max(thought, 0), produced)
        return Usage(
            input=fresh,
            cache_read=read,
            cache_write_5m=minutes,
            cache_write_1h=hour,
            output=produced - reasoning,
            reasoning=reasoning,
            searches=searches,
            requests=1,
        )


NO_COUNTS: Final = Counts()


class _Message(Struct, gc=False):
    id: Any = None
    model: Any = None
    usage: Raw = Raw()


class _Delta(Struct, gc=False):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    signature: str = ""
    citation: Any = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: Any = None


class Event(Struct, gc=False):
    """One event of a stream; a whole answer is a `message` of its own."""

    type: str = ""
    index: int = 0
    message: _Message | None = None
    content_block: dict[str, Any] | None = None
    delta: _Delta | None = None
    usage: Raw = Raw()
    error: Any = None


class Body(Struct, gc=False):
    """A whole answer."""

    type: str = ""
    id: Any = None
    model: Any = None
    content: list[dict[str, Any]] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: Any = None
    usage: Raw = Raw()
    error: Any = None


UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
"""What the readers here raise for bytes that are not of this dialect."""

_EVENT = msgspec.json.Decoder(Event)
_BODY = msgspec.json.Decoder(Body)
_COUNTS = msgspec.json.Decoder(Counts, strict=False)


def read_event(data: bytes) -> Event:
    return _EVENT.decode(data)


def read_body(data: bytes) -> Body:
    return _BODY.decode(data)


def read_counts(raw: bytes | Raw) -> Counts:
    try:
        return _COUNTS.decode(raw)
    except UNREADABLE:
        return NO_COUNTS


def event_payloads(whole: bytes) -> list[bytes]:
    """The data of whole events, one line each, as every server of this dialect writes them; [] for any other form."""
    found = []
    for block in whole.split(b"\n\n"):
        if not block:
            continue
        at = 0 if block.startswith(b"data:") else block.find(b"\ndata:") + 1
        if not at and not block.startswith(b"data:"):
            if block.startswith(b":"):
                continue
            return []
        payload = block[at + 5 :]
        if b"\n" in payload or b"\r" in block:
            return []
        found.append(payload)
    return found


def written_usage(usage: Usage) -> dict[str, Any]:
    """Anthropic's usage object: the three input counts add up to what was read."""
    written = usage.cache_write_5m + usage.cache_write_1h + usage.cache_write_other
    counts: dict[str, Any] = {
        "input_tokens": usage.input_tokens - written - usage.cache_read,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.output_tokens,
    }
    if not usage.cache_write_other:
        # A cache that lives neither five minutes nor an hour is in the sum alone.
        counts["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        }
    if usage.reasoning:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    if usage.searches:
        counts["server_tool_use"] = {"web_search_requests": usage.searches, "web_fetch_requests": 0}
    return counts
