"""A model's answer in the words of no dialect, whole and as the events of a stream.

Events of one answer come strictly in sequence: a block is opened, grows, and is closed before the next is opened.
Readers of dialects whose tool calls arrive interleaved put them in order; writers need not care.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from domain.inference.conversation import Citation, Extras, Foreign, Image, Opaque, Refusal, Text, Thinking, ToolCall


class Finish(StrEnum):
    """Why the model stopped.  A failure is none of these: it is a VendorFault."""

    END = "end"
    LENGTH = "length"
    """The output limit."""
    CONTEXT = "context"
    """The context window is full."""
    TOOL = "tool"
    """It waits for the results of tools."""
    STOP_SEQUENCE = "stop_sequence"
    FILTER = "filter"
    """Refused, or withheld by a filter."""
    PAUSE = "pause"
    """A long turn of the vendor's own tools; send the answer back to go on."""


AnswerBlock = Text | Thinking | ToolCall | Refusal | Image | Foreign


class Reply(Struct, frozen=True, kw_only=True):
    """A whole answer.  Its usage is counted beside it, as `domain.usage.Usage`."""

    id: str
    model: str
    blocks: tuple[AnswerBlock, ...]
    finish: Finish
    stop_sequence: str | None = None
    created_s: int | None = None
    extras: Extras | None = None


class Started(Struct, frozen=True, kw_only=True, tag="started"):
    id: str
    model: str
    created_s: int | None = None
    extras: Extras | None = None


class Opened(Struct, frozen=True, tag="opened"):
    """A block begins with what is known of it; what grows is empty or holds its beginning."""

    block: AnswerBlock


class Grew(Struct, frozen=True, tag="grew"):
    """More of the open block: its text, a thought, a refusal, a call's arguments."""

    text: str


class SummaryGrew(Struct, frozen=True, tag="summary_grew"):
    """More of summary `part` (from 0) of the open Thinking."""

    text: str
    part: int = 0


class Sealed(Struct, frozen=True, tag="sealed"):
    """The open Thinking's or ToolCall's seal, whole."""

    sealed: Opaque


class Cited(Struct, frozen=True, tag="cited"):
    """A source of the open Text."""

    citation: Citation


class Closed(Struct, frozen=True, tag="closed"):
    """The open block is complete."""


class Finished(Struct, frozen=True, kw_only=True, tag="finished"):
    finish: Finish
    stop_sequence: str | None = None
    extras: Extras | None = None


ReplyEvent = Started | Opened | Grew | SummaryGrew | Sealed | Cited | Closed | Finished


def gathered(events: list[ReplyEvent], default_id: str = "", default_model: str = "") -> Reply:
    """The whole answer that a stream's events amount to."""
    id_, model, created_s = default_id, default_model, None
    blocks: list[AnswerBlock] = []
    finish, stop_sequence = Finish.END, None
    extras: Extras | None = None
    growing: _Growing | None = None
    for event in events:
        match event:
            case Started():
                id_, model, created_s = event.id or id_, event.model or model, event.created_s
                extras = event.extras
            case Opened():
                growing = _Growing(event.block)
            case Closed():
                if growing is not None:
                    blocks.append(growing.block())
                growing = None
            case Finished():
                finish, stop_sequence = event.finish, event.stop_sequence
            case _:
                if growing is not None:
                    growing.take(event)
    if growing is not None:
        blocks.append(growing.block())
    return Reply(
        id=id_,
        model=model,
        blocks=tuple(blocks),
        finish=finish,
        stop_sequence=stop_sequence,
        created_s=created_s,
        extras=extras,
    )


class _Growing:
    """A block while it is open; pieces are joined once."""

    def __init__(self, opened: AnswerBlock) -> None:
        self._opened = opened
        self._pieces: list[str] = []
        self._summary: dict[int, list[str]] = {}
        self._sealed: Opaque | None = None
        self._citations: list[Citation] = []

    def take(self, event: ReplyEvent) -> None:
        match event:
            case Grew():
                self._pieces.append(event.text)
            case SummaryGrew():
                self._summary.setdefault(event.part, []).append(event.text)
            case Sealed():
                self._sealed = event.sealed
            case Cited():
                self._citations.append(event.citation)
            case _:
                raise AssertionError(f"{event} is not part of a block")

    def block(self) -> AnswerBlock:
        opened, more = self._opened, "".join(self._pieces)
        match opened:
            case Text():
                return replace(opened, text=opened.text + more, citations=opened.citations + tuple(self._citations))
            case Thinking():
                parts = dict(enumerate(opened.summary))
                for number, pieces in sorted(self._summary.items()):
                    parts[number] = parts.get(number, "") + "".join(pieces)
                summary = tuple(parts[number] for number in sorted(parts))
                return replace(opened, text=opened.text + more, summary=summary, sealed=self._sealed or opened.sealed)
            case ToolCall():
                return replace(opened, arguments=opened.arguments + more, sealed=self._sealed or opened.sealed)
            case Refusal():
                return replace(opened, text=opened.text + more)
            case _:
                return opened
