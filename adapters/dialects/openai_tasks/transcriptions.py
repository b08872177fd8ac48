"""POST /v1/audio/transcriptions and /v1/audio/translations, as OpenAI has them: a recording in, text out.

Priced by the second, or by tokens of sound and text.  An answer as plain text, or as subtitles, tells no usage; the
recording's own length is charged then.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from adapters.dialects.openai_tasks.durations import SECONDS_MAX, seconds
from adapters.dialects.openai_tasks.task import Asked, Fields, Task, count, nested
from adapters.dialects.request_members import UNREADABLE
from domain.catalog import Capability, Dialect
from domain.errors import InvalidRequest
from domain.inference.chat import ChatRequest
from domain.inference.tokens import estimated_tokens
from domain.usage import Usage

AUDIO_TOKENS_PER_S: Final = 10
"""As OpenAI counts what its models hear."""
TEXT_TOKENS_PER_S: Final = 5
"""Very fast speech."""

LEAST_BYTES_PER_S: Final = 500
"""4 kbit/s: a vendor that heard a longer recording than this makes of its bytes is not believed."""

_EXACT: Final = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
"""Seconds are charged, so that they are read from their digits."""


def _asked(fields: Fields) -> Asked:
    files = fields.form.files("file") if fields.form is not None else []
    if len(files) != 1 or not files[0].value:
        raise InvalidRequest(
            "'file' must be the recording, as a file of a form (multipart/form-data).",
            param="file",
        )
    long = seconds(files[0].value, files[0].content_type)
    return Asked(
        ceiling=Usage(
            input=estimated_tokens((fields.text("prompt") or "").encode()),
            audio_in=long * AUDIO_TOKENS_PER_S,
            output=long * TEXT_TOKENS_PER_S,
            seconds=long,
            requests=1,
        ),
        streamed=fields.flag("stream"),
    )


def _used(answer: bytes, request: ChatRequest) -> Usage | None:
    """Of a whole JSON answer, or of a stream's last frame."""
    body = _exact(answer)
    usage = nested(body, "usage")
    asked = request.ceiling
    long = _seconds(usage.get("seconds")) or _seconds(body.get("duration"))
    if asked is not None and long > max(asked.seconds, len(request.body) // LEAST_BYTES_PER_S):
        long = 0
    tokens, written = count(usage.get("input_tokens")), count(usage.get("output_tokens"))
    if not (tokens or written):
        # Whatever it is priced by, it is not free: the tokens are ours where the vendor counts seconds alone.
        ours = _by_text(str(body.get("text", "")), request) if long or usage or "text" in body else None
        return ours if ours is None or not long else replace(ours, audio_in=long * AUDIO_TOKENS_PER_S, seconds=long)
    read = min(count(nested(usage, "input_token_details").get("text_tokens")), tokens)
    return Usage(
        input=read,
        audio_in=tokens - read,
        output=written,
        seconds=long or (asked.seconds if asked is not None else 0),
        requests=1,
    )


def _exact(answer: bytes) -> dict[str, Any]:
    try:
        return _EXACT.decode(answer)
    except UNREADABLE:
        return {}


def _seconds(value: object) -> int:
    """Whole seconds, rounded up, of a number or its text; 0 where it is none that a recording can have."""
    try:
        told = Decimal(value) if isinstance(value, str | int | Decimal) else Decimal(0)
    except ArithmeticError:
        return 0
    if not told.is_finite() or not 0 < told <= SECONDS_MAX:
        return 0
    return int(told.to_integral_value(ROUND_CEILING))


def _used_by_bytes(text: bytes, _content_type: str, request: ChatRequest) -> Usage | None:
    return _by_text(text.decode("utf-8", "replace"), request)


def _by_text(text: str, request: ChatRequest) -> Usage | None:
    asked = request.ceiling
    if asked is None:
        return None
    return Usage(
        input=asked.input,
        audio_in=asked.audio_in,
        output=estimated_tokens(text.encode()),
        seconds=asked.seconds,
        requests=1,
    )


def _task(dialect: Dialect, path: str, read: Any) -> Task:
    return Task(
        dialect=dialect,
        path=path,
        needs=Capability.TRANSCRIPTION,
        read=read,
        used=_used,
        used_by_bytes=_used_by_bytes,
        answer_members=("text", "segments", "words"),
    )


TRANSCRIPTIONS: Final = _task(Dialect.OPENAI_TRANSCRIPTIONS, "/audio/transcriptions", _asked)
TRANSLATIONS: Final = _task(Dialect.OPENAI_TRANSLATIONS, "/audio/translations", _asked)
