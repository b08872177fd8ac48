"""The parts of OpenAI's Chat Completions that the gateway reads; everything else passes unseen.

Shapes follow the official SDK's types; vendors' own liberties (numbers as floats, null where an object should be) are
met by reading leniently and treating what cannot be read as absent.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from domain.usage import Usage

COUNT_MAX = 100_000_000
"""No request has more tokens; a vendor that says so is not believed."""


BROKEN_FINISHES = frozenset({"error", "insufficient_system_resource", "network_error", "abort"})
"""What vendors call a failure in the place of a finish; no answer was ended by it."""
_NULL_BYTES = len("null")


class _PromptDetails(Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class _CompletionDetails(Struct, gc=False):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class _Usage(Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    input_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    output_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None
    num_sources_used: int | None = None


class Delta(Struct, gc=False):
    """A message, or a piece of one; the values are only measured, never interpreted."""

    content: Any = None
    refusal: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None


class Choice(Struct, gc=False):
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    text: str | None = None
    """Of the older Completions, which have nothing else."""

    def __post_init__(self) -> None:
        if self.text is not None and self.delta is None and self.message is None:
            self.delta = Delta(content=self.text)


class Body(Struct, gc=False):
    """A whole answer or one chunk of a stream."""

    choices: list[Choice] | None = None
    usage: Raw = Raw()
    error: Any = None

    @property
    def has_usage(self) -> bool:
        """A usage object is there, not absent and not null."""
        return len(self.usage) > _NULL_BYTES


_NO_PROMPT_DETAILS = _PromptDetails()
_NO_COMPLETION_DETAILS = _CompletionDetails()
_BODY = msgspec.json.Decoder(Body, strict=False)
_USAGE = msgspec.json.Decoder(_Usage, strict=False)


def read_body(data: bytes | Raw) -> Body:
    """Raises msgspec.MsgspecError, RecursionError or UnicodeDecodeError for what is no such object."""
    return _BODY.decode(data)


def read_extension(data: bytes, name: str) -> Body | None:
    """A member of a chunk that holds usage or an error too; None where it is absent or no object."""
    try:
        outer = msgspec.json.decode(data, type=dict[str, Raw])
        return read_body(outer[name]) if name in outer and bytes(outer[name]).lstrip().startswith(b"{") else None
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def read_usage(raw: bytes | Raw) -> Usage | None:
    """OpenAI's nested counts as disjoint classes; None where they are missing or cannot be true.

    `cached_tokens`, `cache_write_tokens`, `audio_tokens` and `image_tokens` lie inside `prompt_tokens`,
    `reasoning_tokens` inside `completion_tokens`; where the total shows that reasoning was counted beside it (xAI), it
    is taken as beside.  Where there are no details, what a cache held may stand beside them (DeepSeek).
    """
    try:
        counts = _USAGE.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    prompt, completion = counts.prompt_tokens, counts.completion_tokens
    if prompt is None or completion is None or not (0 <= prompt <= COUNT_MAX and 0 <= completion <= COUNT_MAX):
        return None
    inside = counts.prompt_tokens_details or counts.input_tokens_details
    of_output = counts.completion_tokens_details or counts.output_tokens_details
    hit = counts.prompt_cache_hit_tokens or counts.cached_tokens
    searches = min(max(counts.num_sources_used or 0, 0), COUNT_MAX)
    if inside is None and of_output is None and not hit:
        return Usage(input=prompt, output=completion, searches=searches, requests=1)
    inside, of_output = inside or _NO_PROMPT_DETAILS, of_output or _NO_COMPLETION_DETAILS
    cached, rest = _part(inside.cached_tokens or hit, prompt)
    written, rest = _part(inside.cache_write_tokens, rest)
    heard, rest = _part(inside.audio_tokens, rest)
    seen, rest = _part(inside.image_tokens, rest)
    reasoning = of_output.reasoning_tokens or 0
    if reasoning > 0 and counts.total_tokens == prompt + completion + reasoning:
        visible = completion
    else:
        reasoning, visible = _part(reasoning, completion)
    spoken, visible = _part(of_output.audio_tokens, visible)
    return Usage(
        input=rest,
        cache_read=cached,
        cache_write_other=written,
        audio_in=heard,
        image_in=seen,
        output=visible,
        reasoning=reasoning,
        audio_out=spoken,
        searches=searches,
        requests=1,
    )


def written_usage(usage: Usage) -> dict[str, Any]:
    """The same the other way round, for answers that another dialect's vendor gave."""
    total_in, total_out = usage.input_tokens, usage.output_tokens
    return {
        "prompt_tokens": total_in,
        "completion_tokens": total_out,
        "total_tokens": total_in + total_out,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write_5m + usage.cache_write_1h + usage.cache_write_other,
            "audio_tokens": usage.audio_in,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": usage.audio_out},
    }


def _part(count: int | None, whole: int) -> tuple[int, int]:
    """A class and what is left of the class around it; a part is never larger than its whole."""
    part = min(max(count or 0, 0), whole)
    return part, whole - part


def text_bytes(delta: Delta) -> tuple[int, int]:
    """The ASCII and the other UTF-8 bytes of everything in a message that a model had to write."""
    ascii_, other = 0, 0
    for part in _texts(delta):
        encoded = part.encode("utf-8", "surrogatepass")
        outside = 0 if encoded.isascii() else len(encoded.translate(None, _ASCII))
        ascii_ += len(encoded) - outside
        other += outside
    return ascii_, other


def has_content(delta: Delta | None) -> bool:
    """Whether anything in it is worth showing: text, reasoning, a refusal, a tool call, sound."""
    return delta is not None and bool(
        delta.content
        or delta.tool_calls
        or delta.reasoning_content
        or delta.reasoning
        or delta.refusal
        or delta.function_call
        or delta.audio
    )


_ASCII = bytes(range(128))


def _texts(delta: Delta) -> list[str]:
    found: list[str] = []
    # Some vendors send the same reasoning under both names; it was written once.
    for value in (delta.content, delta.refusal, delta.reasoning_content or delta.reasoning):
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, list):
            found += [text for part in value if isinstance(part, dict) and isinstance(text := part.get("text"), str)]
    calls = delta.tool_calls if isinstance(delta.tool_calls, list) else []
    for call in [*calls, {"function": delta.function_call}]:
        function = call.get("function") or call.get("custom") if isinstance(call, dict) else None
        if isinstance(function, dict):
            found += [v for k in ("name", "arguments", "input") if isinstance(v := function.get(k), str)]
    return found
