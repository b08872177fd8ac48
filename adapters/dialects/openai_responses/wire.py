"""The parts of OpenAI's Responses that the gateway reads; everything else passes unseen."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

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
    tool_usage: Any = None


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


def used_by(answer: Response) -> Usage | None:
    """The counts of a whole answer, with the searches of the web that its usage leaves out."""
    usage = usage_of(answer.usage)
    searches = _searches(answer)
    return usage if usage is None or not searches else replace(usage, searches=searches)


def _searches(answer: Response) -> int:
    """As the vendor counts them; where it does not, one for each call that searched."""
    tools = answer.tool_usage
    counted = tools.get("web_search") if isinstance(tools, dict) else None
    told = counted.get("num_requests") if isinstance(counted, dict) else None
    if isinstance(told, int) and not isinstance(told, bool) and 0 <= told <= COUNT_MAX:
        return told
    items = answer.output if isinstance(answer.output, list) else []
    return sum(isinstance(item, dict) and item.get("type") == "web_search_call" and _searched(item) for item in items)


def _searched(call: dict[str, Any]) -> bool:
    """Opening a page that was found, or looking for words in it, is no search."""
    action = call.get("action")
    return not isinstance(action, dict) or action.get("type", "search") == "search"


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
