"""The parts of OpenAI's Responses that the gateway reads; everything else passes unseen."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from domain.usage import Usage

COUNT_MAX: Final = 100_000_000
"""No request has more tokens; a vendor that says so is not believed."""

UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


class _InputDetails(Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(Struct, gc=False):
    reasoning_tokens: int | None = None


class UsageCounts(Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class Details(Struct, gc=False):
    reason: str | None = None


class Failure(Struct, gc=False):
    code: Any = None
    message: Any = None


class Response(Struct, gc=False):
    """A whole answer, or the `response` of an event."""

    id: str = ""
    status: str | None = None
    error: Any = None
    incomplete_details: Details | None = None
    usage: Any = None
    output: Any = None


class EventHead(Struct, gc=False):
    """What of any event tells how the stream goes on."""

    type: str = ""
    response: Response | None = None
    delta: Any = None
    item: Any = None
    error: Any = None
    code: Any = None
    message: Any = None


RESPONSE: Final = msgspec.json.Decoder(Response, strict=False)
EVENT: Final = msgspec.json.Decoder(EventHead, strict=False)


def usage_of(value: object) -> Usage | None:
    """The counts of a decoded usage object as disjoint classes; None where they are missing or cannot be true.

    `cached_tokens` and `cache_write_tokens` lie inside `input_tokens`, `reasoning_tokens` inside `output_tokens`.
    """
    try:
        counts = msgspec.convert(value, UsageCounts, strict=False)
    except UNREADABLE:
        return None
    entered, left = counts.input_tokens, counts.output_tokens
    if entered is None or left is None or not (0 <= entered <= COUNT_MAX and 0 <= left <= COUNT_MAX):
        return None
    of_input = counts.input_tokens_details or _InputDetails()
    of_output = counts.output_tokens_details or _OutputDetails()
    cached = min(max(of_input.cached_tokens or 0, 0), entered)
    written = min(max(of_input.cache_write_tokens or 0, 0), entered - cached)
    reasoning = min(max(of_output.reasoning_tokens or 0, 0), left)
    return Usage(
        input=entered - cached - written,
        cache_read=cached,
        cache_write_other=written,
        output=left - reasoning,
        reasoning=reasoning,
        requests=1,
    )


def usage_object(usage: Usage) -> dict[str, Any]:
    """A usage in this dialect's words."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write_5m + usage.cache_write_1h + usage.cache_write_other,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
