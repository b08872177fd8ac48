"""Answers and streams of a vendor, read into the canonical form.

A whole answer is read as a stream of one event, because both have one shape: parts, of which texts and thoughts go on
from event to event, and function calls and pictures come whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from adapters.dialects.gemini.errors import error_of
from adapters.dialects.gemini.wire import (
    FAILURES,
    FAMILY,
    FINISHES,
    UNREADABLE,
    Answer,
    Part,
    event_payloads,
    read_answer_body,
)
from domain.catalog import Dialect
from domain.inference.conversation import Citation, Extras, Foreign, Image, Inline, Opaque, Text, Thinking, ToolCall
from domain.inference.faults import FaultKind, VendorFault
from domain.inference.reply import (
    AnswerBlock,
    Cited,
    Closed,
    Finish,
    Finished,
    Grew,
    Opened,
    Reply,
    ReplyEvent,
    Sealed,
    Started,
    gathered,
)

SYNTHETIC_ID: Final = "call_gwz"
"""How the ids begin that are made for calls to which the vendor gave none."""

_CLOSED: Final = Closed()


def read_reply(body: bytes) -> Reply:
    """Raises VendorFault for what is no answer."""
    reader = ReplyReader()
    try:
        answer = read_answer_body(body)
    except UNREADABLE:
        raise VendorFault(FaultKind.MALFORMED, "its answer is not JSON of this dialect") from None
    return gathered([*reader.read(answer), *reader.end()])


class ReplyReader:
    """The port of the same name.

    There is no mark of the end, and some models name a reason to stop in every event, so that the answer is finished
    only when the stream is.
    """

    def __init__(self) -> None:
        self._started = False
        self._open: type[Text] | type[Thinking] | None = None
        self._pieces: list[str] = []
        """Of the open text, whose citations count its bytes."""
        self._seal: Opaque | None = None
        """Of the open text, which has no place for it; a thought without words carries it behind the text."""
        self._id = ""
        self._calls = 0
        self._finish: Finish | None = None

    def feed(self, whole: bytes) -> Sequence[ReplyEvent]:
        """Raises VendorFault where unreadable."""
        found: list[ReplyEvent] = []
        try:
            for payload in event_payloads(whole):
                found += self.read(read_answer_body(payload))
        except UNREADABLE:
            raise VendorFault(FaultKind.MALFORMED, "an event of its stream is not JSON of this dialect") from None
        return found

    def read(self, answer: Answer) -> Sequence[ReplyEvent]:
        """What one event, or a whole answer, tells.  Raises VendorFault where it tells of a failure."""
        if answer.error:
            raise error_of(answer.error)
        found: list[ReplyEvent] = []
        if not self._started:
            self._start(answer, found)
        candidate = answer.first
        if candidate is None:
            if answer.block_reason:
                self._finish = Finish.FILTER
            return found
        for part in candidate.parts:
            self._part(part, found)
        if candidate.grounding_metadata:
            self._cite(candidate.grounding_metadata, found)
        if candidate.finish_reason:
            if candidate.finish_reason in FAILURES:
                raise VendorFault(FaultKind.MALFORMED, f"its model failed ({candidate.finish_reason})")
            # A reason that nobody has heard of ended the answer all the same.
            self._finish = FINISHES.get(candidate.finish_reason, Finish.END)
        return found

    def end(self) -> Sequence[ReplyEvent]:
        found: list[ReplyEvent] = []
        if not self._started:
            self._start(Answer(), found)
        self._close(found)
        finish = self._finish or Finish.END
        if finish is Finish.END and self._calls:
            finish = Finish.TOOL
        found.append(Finished(finish=finish))
        return found

    def _start(self, answer: Answer, found: list[ReplyEvent]) -> None:
        self._started = True
        self._id = answer.response_id if isinstance(answer.response_id, str) else ""
        model = answer.model_version if isinstance(answer.model_version, str) else ""
        found.append(Started(id=self._id, model=model))

    def _part(self, part: Part, found: list[ReplyEvent]) -> None:
        signature = part.thought_signature
        if part.function_call is not None:
            self._close(found)
            self._whole(self._call(part), found)
        elif part.inline_data is not None:
            self._close(found)
            # A model that thinks in pictures shows drafts; they are no part of the answer.
            if not part.thought:
                self._whole(_picture(part), found)
        elif part.text is not None:
            self._text(part.text, found, thought=part.thought, signature=signature)
        elif (kind := _foreign_kind(part)) is not None:
            self._close(found)
            self._whole(Foreign(Dialect.GEMINI, kind, {kind: _told(part, kind)}), found)
        elif signature:
            self._text("", found, thought=False, signature=signature)

    def _text(self, text: str, found: list[ReplyEvent], *, thought: bool, signature: str | None) -> None:
        kind = Thinking if thought else Text
        if text:
            if self._open is not kind or self._seal is not None:
                self._close(found)
                found.append(Opened(Thinking() if thought else Text(text="")))
                self._open = kind
            found.append(Grew(text))
            if not thought:
                self._pieces.append(text)
        if not signature:
            return
        sealed = Opaque(FAMILY, signature)
        if thought and self._open is Thinking:
            found.append(Sealed(sealed))
            self._close(found)
        elif self._open is Text:
            self._seal = sealed
        else:
            self._close(found)
            self._whole(Thinking(sealed=sealed, redacted=True), found)

    def _call(self, part: Part) -> ToolCall:
        call = part.function_call
        assert call is not None, "only parts with a call come here"
        self._calls += 1
        # Encoded anew, because whole answers are laid out for people to read.
        arguments = msgspec.json.encode(call.args if isinstance(call.args, dict) else {}).decode()
        return ToolCall(
            id=call.id or f"{SYNTHETIC_ID}_{self._id[:24] or 'answer'}_{self._calls}",
            name=call.name,
            arguments=arguments,
            sealed=Opaque(FAMILY, part.thought_signature) if part.thought_signature else None,
        )

    def _whole(self, block: AnswerBlock, found: list[ReplyEvent]) -> None:
        found.append(Opened(block))
        found.append(_CLOSED)

    def _close(self, found: list[ReplyEvent]) -> None:
        if self._open is not None:
            self._open = None
            self._pieces.clear()
            found.append(_CLOSED)
        if self._seal is not None:
            sealed, self._seal = self._seal, None
            self._whole(Thinking(sealed=sealed, redacted=True), found)

    def _cite(self, grounding: Any, found: list[ReplyEvent]) -> None:
        """Sources of the open text; what was searched comes with the last of it."""
        if self._open is Text and isinstance(grounding, dict):
            text = "".join(self._pieces).encode("utf-8", "surrogatepass")
            found += [Cited(citation) for citation in _citations(grounding, text)]


def _picture(part: Part) -> Image:
    blob = part.inline_data
    assert blob is not None, "only parts with a picture come here"
    signed = {"thoughtSignature": part.thought_signature} if part.thought_signature else None
    return Image(
        source=Inline(blob.mime_type or "image/png", blob.data),
        extras=Extras(Dialect.GEMINI, signed) if signed else None,
    )


def _foreign_kind(part: Part) -> str | None:
    return next(
        (
            kind
            for kind, value in (
                ("executableCode", part.executable_code),
                ("codeExecutionResult", part.code_execution_result),
                ("fileData", part.file_data),
            )
            if value is not None
        ),
        None,
    )


def _told(part: Part, kind: str) -> Any:
    return {
        "executableCode": part.executable_code,
        "codeExecutionResult": part.code_execution_result,
        "fileData": part.file_data,
    }[kind]


def _citations(grounding: dict[str, Any], text: bytes) -> list[Citation]:
    """The sources of a text; the vendor counts its bytes, and we its characters."""
    sources = [_source(each) for each in grounding.get("groundingChunks") or () if isinstance(each, dict)]
    found: list[Citation] = []
    for support in grounding.get("groundingSupports") or ():
        segment = support.get("segment") if isinstance(support, dict) else None
        if not isinstance(segment, dict):
            continue
        start, end = _characters(text, segment.get("startIndex") or 0), _characters(text, segment.get("endIndex"))
        quoted = segment.get("text")
        for index in support.get("groundingChunkIndices") or ():
            if isinstance(index, int) and 0 <= index < len(sources):
                url, title = sources[index]
                words = quoted if isinstance(quoted, str) else ""
                found.append(Citation(url=url, title=title, quoted=words, start=start, end=end))
    return found


def _source(chunk: dict[str, Any]) -> tuple[str, str]:
    web = chunk.get("web") or chunk.get("retrievedContext")
    if not isinstance(web, dict):
        return "", ""
    return tuple(web[name] if isinstance(web.get(name), str) else "" for name in ("uri", "title"))  # type: ignore[return-value]


def _characters(text: bytes, at: object) -> int | None:
    if not isinstance(at, int) or isinstance(at, bool) or not 0 <= at <= len(text):
        return None
    return len(text[:at].decode("utf-8", "ignore"))
