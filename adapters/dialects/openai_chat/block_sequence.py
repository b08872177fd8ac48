"""The blocks of an answer, told strictly one after the other however interleaved a vendor sends them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from adapters.dialects.openai_chat.reasoning import merged_details, sealing
from adapters.dialects.request_members import UNREADABLE
from domain.inference.conversation import Opaque, Refusal, Text, Thinking, ToolCall
from domain.inference.reply import AnswerBlock, Closed, Grew, Opened, ReplyEvent, Sealed


class Slot:
    """One block on its way: the first of them is being told, the others wait for their turn."""

    __slots__ = ("block", "closed", "details", "index", "name_known", "opened", "pieces", "sealed", "told")

    def __init__(self, block: AnswerBlock, index: int | None = None) -> None:
        self.block = block
        self.index = index
        self.name_known = not isinstance(block, ToolCall) or bool(block.name)
        self.opened = False
        self.pieces: list[ReplyEvent] = []
        """What has not been told yet."""
        self.told: list[str] = []
        """The arguments so far."""
        self.details: list[dict[str, Any]] = []
        self.sealed = False
        self.closed = False


class BlockSequence:
    """Collects events; the first block that is not done grows, and those behind it wait."""

    def __init__(self) -> None:
        self._events: list[ReplyEvent] = []
        self._slots: list[Slot] = []

    @property
    def last(self) -> Slot | None:
        return self._slots[-1] if self._slots else None

    def put(self, event: ReplyEvent) -> None:
        """An event of the answer itself."""
        self._events.append(event)

    def taken(self) -> Sequence[ReplyEvent]:
        """What has been told since the last time."""
        told, self._events = self._events, []
        return told

    def end(self) -> None:
        """Nothing grows any more."""
        for slot in self._slots:
            self._finish_slot(slot)
        self._slots.clear()

    def grow(self, kind: type[Text] | type[Thinking] | type[Refusal], text: str) -> None:
        last = self.last
        if last is None or type(last.block) is not kind or last.sealed:
            last = Slot(kind(text=""))
            self.append(last)
        self.tell(last, Grew(text))

    def seal(self, seal: Opaque) -> None:
        slot = self.thinking(redacted=True)
        slot.sealed = True
        self.tell(slot, Sealed(seal))

    def thinking(self, *, redacted: bool) -> Slot:
        last = self.last
        if last is None or not isinstance(last.block, Thinking) or last.sealed:
            last = Slot(Thinking(redacted=redacted))
            self.append(last)
        return last

    def add(self, block: AnswerBlock) -> None:
        """A block that is whole already."""
        slot = Slot(block)
        slot.sealed = True
        self.append(slot)

    def append(self, slot: Slot) -> None:
        self._slots.append(slot)
        self.advance()

    def tell(self, slot: Slot, event: ReplyEvent) -> None:
        if slot.opened:
            self._events.append(event)
        else:
            slot.pieces.append(event)

    def advance(self) -> None:
        """Tell what can be told: the first block grows until it is done, then it is the next one's turn."""
        slots = self._slots
        while slots:
            first = slots[0]
            if not first.opened and first.name_known:
                self._open(first)
            if len(slots) == 1 or not self._is_done(first):
                return
            self._finish_slot(first)
            del slots[0]

    def _is_done(self, slot: Slot) -> bool:
        """A call whose arguments are not whole yet may still grow behind what came after it."""
        if not isinstance(slot.block, ToolCall) or slot.block.custom:
            return True
        return slot.name_known and is_json(slot.told)

    def _open(self, slot: Slot) -> None:
        slot.opened = True
        self._events.append(Opened(slot.block))
        self._events += slot.pieces
        slot.pieces.clear()

    def _finish_slot(self, slot: Slot) -> None:
        slot.closed = True
        if not slot.opened:
            if not slot.name_known:
                # A call of nothing cannot be made.
                return
            self._open(slot)
        if slot.details and not slot.sealed and (seal := sealing(merged_details(slot.details))) is not None:
            self._events.append(Sealed(seal))
        self._events.append(Closed())


def is_json(pieces: list[str]) -> bool:
    text = "".join(pieces)
    if not text.rstrip().endswith("}"):
        return False
    try:
        msgspec.json.decode(text.encode())
    except UNREADABLE:
        return False
    return True
