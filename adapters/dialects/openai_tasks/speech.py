"""POST /v1/audio/speech, as OpenAI has it: text in, sound out, whole or as events.

Vendors price it by the character, or by tokens of text and sound.  Sound that comes as bytes tells no usage: its tokens
are then counted from how long it lasts.
"""

from __future__ import annotations

from typing import Final

from adapters.dialects.openai_tasks.durations import seconds
from adapters.dialects.openai_tasks.task import Asked, Fields, Task, count, decoded, nested
from domain.catalog import Capability, Dialect
from domain.errors import InvalidRequest
from domain.inference.chat import ChatRequest
from domain.inference.tokens import estimated_tokens
from domain.usage import Usage

CHARACTERS_MAX: Final = 100_000
TOKENS_PER_MINUTE: Final = 1_250
"""Of sound, as OpenAI counts what its models speak."""
CHARACTERS_PER_MINUTE_LEAST: Final = 600
"""Very slow speech; for the most that a text can last."""


def _asked(fields: Fields) -> Asked:
    text = fields.text("input")
    if not text:
        raise InvalidRequest("'input' must be the text to speak.", param="input")
    if len(text) > CHARACTERS_MAX:
        raise InvalidRequest(f"'input' may have at most {CHARACTERS_MAX} characters.", param="input")
    told = estimated_tokens((text + (fields.text("instructions") or "")).encode("utf-8", "surrogatepass"))
    spoken = -(-len(text) * TOKENS_PER_MINUTE // CHARACTERS_PER_MINUTE_LEAST)
    return Asked(
        ceiling=Usage(input=told, audio_out=spoken, characters=len(text), requests=1),
        streamed=fields.text("stream_format") == "sse",
    )


def _used(frame: bytes, request: ChatRequest) -> Usage | None:
    usage = nested(decoded(frame), "usage")
    read, spoken = count(usage.get("input_tokens")), count(usage.get("output_tokens"))
    if not (read or spoken) or request.ceiling is None:
        return None
    return Usage(
        input=read,
        audio_out=spoken,
        characters=request.ceiling.characters,
        requests=1,
    )


def _used_by_bytes(sound: bytes, content_type: str, request: ChatRequest) -> Usage | None:
    asked = request.ceiling
    if asked is None or not sound:
        return None
    spoken = -(-seconds(sound, content_type) * TOKENS_PER_MINUTE // 60)
    return Usage(input=asked.input, audio_out=min(spoken, asked.audio_out), characters=asked.characters, requests=1)


SPEECH: Final = Task(
    dialect=Dialect.OPENAI_SPEECH,
    path="/audio/speech",
    needs=Capability.SPEECH,
    read=_asked,
    used=_used,
    used_by_bytes=_used_by_bytes,
)
