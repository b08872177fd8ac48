"""The parts of Gemini's answers that the gateway reads; everything else passes unseen.

Shapes follow Google's API reference and the official SDK's types (google-genai 3.4), read leniently: what cannot be
read counts as absent.  A whole answer and each event of a stream have one shape.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from adapters.dialects.gemini.models import generation_of
from adapters.transport.sse import events
from domain.inference.reply import Finish
from domain.usage import Usage

FAMILY: Final = "gemini"
"""Whose seals thought signatures are."""
COUNT_MAX: Final = 100_000_000
"""No request has more tokens; a vendor that says so is not believed."""

FINISHES: Final = {
    "STOP": Finish.END,
    "MAX_TOKENS": Finish.LENGTH,
    "CONTINUATION": Finish.PAUSE,
    "SAFETY": Finish.FILTER,
    "RECITATION": Finish.FILTER,
    "LANGUAGE": Finish.FILTER,
    "BLOCKLIST": Finish.FILTER,
    "PROHIBITED_CONTENT": Finish.FILTER,
    "SPII": Finish.FILTER,
    "IMAGE_SAFETY": Finish.FILTER,
    "IMAGE_PROHIBITED_CONTENT": Finish.FILTER,
    "IMAGE_RECITATION": Finish.FILTER,
    "MODEL_ARMOR": Finish.FILTER,
    "ESCALATION": Finish.FILTER,
}
FAILURES: Final = frozenset(
    {
        "OTHER",
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
        "IMAGE_OTHER",
        "NO_IMAGE",
    }
)
"""Reasons that end nothing well: the model or the vendor failed."""


class Blob(Struct, gc=False, rename="camel"):
    mime_type: str = ""
    data: str = ""


class FunctionCall(Struct, gc=False, rename="camel"):
    id: str | None = None
    name: str = ""
    args: Any = None


class Part(Struct, gc=False, rename="camel"):
    text: str | None = None
    thought: bool = False
    thought_signature: str | None = None
    inline_data: Blob | None = None
    function_call: FunctionCall | None = None
    executable_code: Any = None
    code_execution_result: Any = None
    file_data: Any = None


class _Content(Struct, gc=False, rename="camel"):
    parts: list[Part] | None = None


class Candidate(Struct, gc=False, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: Any = None
    grounding_metadata: Any = None
    index: int = 0

    @property
    def parts(self) -> list[Part]:
        return (self.content.parts if self.content is not None else None) or []


class _Feedback(Struct, gc=False, rename="camel"):
    block_reason: str | None = None
    block_reason_message: Any = None


class Answer(Struct, gc=False, rename="camel"):
    """A whole answer, or one event of a stream."""

    candidates: list[Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: Raw = Raw()
    model_version: Any = None
    response_id: Any = None
    error: Any = None

    @property
    def first(self) -> Candidate | None:
        return self.candidates[0] if self.candidates else None

    @property
    def block_reason(self) -> str | None:
        return self.prompt_feedback.block_reason if self.prompt_feedback is not None else None

    def usage(self) -> Usage | None:
        counts = read_counts(self.usage_metadata)
        grounding = self.first.grounding_metadata if self.first is not None else None
        model = self.model_version if isinstance(self.model_version, str) else ""
        return counts.usage(searches=searches_of(grounding, model))


class _Modality(Struct, gc=False, rename="camel"):
    modality: str = ""
    token_count: int | None = None


class Counts(Struct, gc=False, rename="camel"):
    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    total_token_count: int | None = None
    prompt_tokens_details: list[_Modality] | None = None
    cache_tokens_details: list[_Modality] | None = None
    candidates_tokens_details: list[_Modality] | None = None
    tool_use_prompt_tokens_details: list[_Modality] | None = None

    def usage(self, searches: int = 0) -> Usage | None:
        """Disjoint classes; None where the counts are missing or cannot be true.

        Cached tokens are counted inside the prompt; what the vendor's own tools read is counted beside it, and so are
        thoughts beside the answer.  Some models count thoughts inside the answer all the same: the total tells.
        """
        prompt, cached = self.prompt_token_count, self.cached_content_token_count or 0
        if prompt is None:
            return None
        said, thought = self.candidates_token_count or 0, self.thoughts_token_count or 0
        tools = self.tool_use_prompt_token_count or 0
        if not all(0 <= count <= COUNT_MAX for count in (prompt, cached, said, thought, tools)):
            return None
        if thought and thought <= said and self.total_token_count == prompt + tools + said:
            said -= thought
        cached = min(cached, prompt)
        heard = _of("AUDIO", self.prompt_tokens_details) + _of("AUDIO", self.tool_use_prompt_tokens_details)
        seen = _of("IMAGE", self.prompt_tokens_details) + _of("IMAGE", self.tool_use_prompt_tokens_details)
        fresh = prompt - cached + tools
        # The split by kind counts cached tokens too; what of a kind was cached is no longer fresh.
        heard = min(max(heard - _of("AUDIO", self.cache_tokens_details), 0), fresh)
        seen = min(max(seen - _of("IMAGE", self.cache_tokens_details), 0), fresh - heard)
        drawn = min(_of("IMAGE", self.candidates_tokens_details), said)
        spoken = min(_of("AUDIO", self.candidates_tokens_details), said - drawn)
        return Usage(
            input=fresh - heard - seen,
            cache_read=cached,
            audio_in=heard,
            image_in=seen,
            output=said - drawn - spoken,
            reasoning=thought,
            image_out=drawn,
            audio_out=spoken,
            searches=searches,
            requests=1,
        )


NO_COUNTS: Final = Counts()


def _of(modality: str, details: list[_Modality] | None) -> int:
    counts = (each.token_count or 0 for each in details or () if each.modality == modality)
    return min(max(sum(counts), 0), COUNT_MAX)


def searches_of(grounding: Any, model: str) -> int:
    """How many searches are billed: each query from the third generation on, one for a grounded answer before it."""
    queries = grounding.get("webSearchQueries") if isinstance(grounding, dict) else None
    if not isinstance(queries, list):
        return 0
    asked = sum(isinstance(query, str) and bool(query) for query in queries)
    return asked if generation_of(model) >= (3, 0) else min(asked, 1)


UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
"""What the readers here raise for bytes that are not of this dialect."""

_ANSWER = msgspec.json.Decoder(Answer)
_COUNTS = msgspec.json.Decoder(Counts, strict=False)


def read_answer_body(data: bytes) -> Answer:
    return _ANSWER.decode(data)


def read_counts(raw: bytes | Raw) -> Counts:
    try:
        return _COUNTS.decode(raw)
    except UNREADABLE:
        return NO_COUNTS


def event_payloads(whole: bytes) -> list[bytes]:
    """The data of whole events."""
    if whole.startswith(b"data: ") and whole.endswith(b"\r\n\r\n") and whole.count(b"\n") == 2:
        return [whole[6:-4]]
    return [event.data for event in events(whole)]
