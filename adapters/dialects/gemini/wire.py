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


class Blob(Struct, gc=False):
    mimeType: str = ""  # noqa: N815 - the wire's own names, here and below
    data: str = ""


class FunctionCall(Struct, gc=False):
    id: str | None = None
    name: str = ""
    args: Raw = Raw()


class Part(Struct, gc=False):
    text: str | None = None
    thought: bool = False
    thoughtSignature: str | None = None  # noqa: N815
    inlineData: Blob | None = None  # noqa: N815
    functionCall: FunctionCall | None = None  # noqa: N815
    executableCode: Any = None  # noqa: N815
    codeExecutionResult: Any = None  # noqa: N815
    fileData: Any = None  # noqa: N815


class _Content(Struct, gc=False):
    parts: list[Part] | None = None


class Candidate(Struct, gc=False):
    content: _Content | None = None
    finishReason: str | None = None  # noqa: N815
    finishMessage: Any = None  # noqa: N815
    groundingMetadata: Any = None  # noqa: N815
    index: int = 0

    @property
    def parts(self) -> list[Part]:
        return (self.content.parts if self.content is not None else None) or []


class _Feedback(Struct, gc=False):
    blockReason: str | None = None  # noqa: N815
    blockReasonMessage: Any = None  # noqa: N815


class Answer(Struct, gc=False):
    """A whole answer, or one event of a stream."""

    candidates: list[Candidate] | None = None
    promptFeedback: _Feedback | None = None  # noqa: N815
    usageMetadata: Raw = Raw()  # noqa: N815
    modelVersion: Any = None  # noqa: N815
    responseId: Any = None  # noqa: N815
    error: Any = None

    @property
    def first(self) -> Candidate | None:
        return self.candidates[0] if self.candidates else None

    @property
    def block_reason(self) -> str | None:
        return self.promptFeedback.blockReason if self.promptFeedback is not None else None

    def usage(self) -> Usage | None:
        counts = read_counts(self.usageMetadata)
        grounding = self.first.groundingMetadata if self.first is not None else None
        model = self.modelVersion if isinstance(self.modelVersion, str) else ""
        return counts.usage(searches=searches_of(grounding, model))


class _Modality(Struct, gc=False):
    modality: str = ""
    tokenCount: int | None = None  # noqa: N815


class Counts(Struct, gc=False):
    promptTokenCount: int | None = None  # noqa: N815
    cachedContentTokenCount: int | None = None  # noqa: N815
    candidatesTokenCount: int | None = None  # noqa: N815
    thoughtsTokenCount: int | None = None  # noqa: N815
    toolUsePromptTokenCount: int | None = None  # noqa: N815
    totalTokenCount: int | None = None  # noqa: N815
    promptTokensDetails: list[_Modality] | None = None  # noqa: N815
    cacheTokensDetails: list[_Modality] | None = None  # noqa: N815
    candidatesTokensDetails: list[_Modality] | None = None  # noqa: N815
    toolUsePromptTokensDetails: list[_Modality] | None = None  # noqa: N815

    def usage(self, searches: int = 0) -> Usage | None:
        """Disjoint classes; None where the counts are missing or cannot be true.

        Cached tokens are counted inside the prompt; what the vendor's own tools read is counted beside it, and so are
        thoughts beside the answer.  Some models count thoughts inside the answer all the same: the total tells.
        """
        prompt, cached = self.promptTokenCount, self.cachedContentTokenCount or 0
        if prompt is None:
            return None
        said, thought = self.candidatesTokenCount or 0, self.thoughtsTokenCount or 0
        tools = self.toolUsePromptTokenCount or 0
        if not all(0 <= count <= COUNT_MAX for count in (prompt, cached, said, thought, tools)):
            return None
        if thought and thought <= said and self.totalTokenCount == prompt + tools + said:
            said -= thought
        cached = min(cached, prompt)
        heard = _of("AUDIO", self.promptTokensDetails) + _of("AUDIO", self.toolUsePromptTokensDetails)
        seen = _of("IMAGE", self.promptTokensDetails) + _of("IMAGE", self.toolUsePromptTokensDetails)
        fresh = prompt - cached + tools
        # The split by kind counts cached tokens too; what of a kind was cached is no longer fresh.
        heard = min(max(heard - _of("AUDIO", self.cacheTokensDetails), 0), fresh)
        seen = min(max(seen - _of("IMAGE", self.cacheTokensDetails), 0), fresh - heard)
        drawn = min(_of("IMAGE", self.candidatesTokensDetails), said)
        spoken = min(_of("AUDIO", self.candidatesTokensDetails), said - drawn)
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
    counts = (each.tokenCount or 0 for each in details or () if each.modality == modality)
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
    if whole.startswith(b"data: ") and whole.endswith(b"\r\n\r\n") and whole.count(b"\n") == 2:  # noqa: PLR2004 - one event
        return [whole[6:-4]]
    return [event.data for event in events(whole)]
