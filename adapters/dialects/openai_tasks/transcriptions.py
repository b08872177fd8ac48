"""POST /v1/audio/transcriptions and /v1/audio/translations, as OpenAI has them: a recording in, text out.

Priced by the second, or by tokens of sound and text.  An answer as plain text, or as subtitles, tells no usage; the
recording's own length is charged then.
"""

from __future__ import annotations

import re
from typing import Any, Final

from adapters.dialects.openai_tasks.durations import SECONDS_MAX, seconds
from adapters.dialects.openai_tasks.task import Asked, Fields, Task, count, decoded, nested
from domain.catalog import Capability, Dialect
from domain.errors import InvalidRequest
from domain.inference.chat import ChatRequest
from domain.inference.tokens import estimated_tokens
from domain.usage import Usage

AUDIO_TOKENS_PER_S: Final = 10
"""As OpenAI counts what its models hear."""
TEXT_TOKENS_PER_S: Final = 5
"""Very fast speech."""

_DURATION = re.compile(rb'"duration"\s*:\s*"?(\d{1,7})(\.\d*)?')


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
    body = decoded(answer)
    usage = nested(body, "usage")
    long = count(usage.get("seconds")) or _duration(answer)
    if not long and not usage:
        return _by_text(str(body.get("text", "")), request) if "text" in body else None
    heard = nested(usage, "input_token_details")
    tokens = count(usage.get("input_tokens"))
    read = min(count(heard.get("text_tokens")), tokens)
    asked = request.ceiling
    return Usage(
        input=read,
        audio_in=tokens - read,
        output=count(usage.get("output_tokens")),
        seconds=long or (asked.seconds if asked is not None else 0),
        requests=1,
    )


def _duration(answer: bytes) -> int:
    """`duration` in seconds, rounded up, from its digits; 0 where there is none."""
    found = _DURATION.search(answer)
    if found is None:
        return 0
    return min(int(found[1]) + bool((found[2] or b"").strip(b".0")), SECONDS_MAX)


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
    )


TRANSCRIPTIONS: Final = _task(Dialect.OPENAI_TRANSCRIPTIONS, "/audio/transcriptions", _asked)
TRANSLATIONS: Final = _task(Dialect.OPENAI_TRANSLATIONS, "/audio/translations", _asked)
