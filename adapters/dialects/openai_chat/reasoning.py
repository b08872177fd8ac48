"""Reasoning in the forms of OpenAI's dialect: plain, as details with seals, and between tags in the text.

`reasoning_details` are objects such as {type: "reasoning.text", text, signature}, {type: "reasoning.summary",
summary} and {type: "reasoning.encrypted", data}.  Their makers want them back unchanged, so that a seal keeps them
whole: its family is `SEALED_DETAILS`, its value the JSON of the details.  Seals of other families travel packed in
the places of signature and data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from adapters.dialects.request_members import UNREADABLE
from domain.inference.conversation import Opaque, Thinking

SEALED_DETAILS: Final = "reasoning_details"
"""The family of seals in details that a vendor of this dialect made."""
OPENING: Final = "<think>"
CLOSING: Final = "</think>"

_PACKED: Final = Opaque("", "").packed()[:-1]

Json = dict[str, Any]


def thinking_of(details: Sequence[Any], plain: str) -> list[Thinking]:
    """The blocks that details, and the plain reasoning beside them, amount to."""
    told = [detail for detail in details if isinstance(detail, dict) and not _of_call(detail)]
    found: list[Thinking] = []
    unsealed: list[Json] = []
    for detail in merged_details(told):
        seal = _packed_seal(detail)
        if seal is None:
            unsealed.append(detail)
            continue
        summaries = [each for each in unsealed if each.get("type") == "reasoning.summary"]
        others = [each for each in unsealed if each.get("type") != "reasoning.summary"]
        found += [_block_of(others)] if others else []
        found.append(_sealed_block(detail, seal, summaries))
        unsealed = []
    found += [_block_of(unsealed)] if unsealed else []
    if plain and not any(block.text or block.summary for block in found):
        if found and not found[0].redacted:
            found[0] = msgspec.structs.replace(found[0], text=plain)
        else:
            found.insert(0, Thinking(text=plain))
    return [block for block in found if block.text or block.summary or block.sealed]


def seals_by_call(details: Sequence[Any]) -> dict[str, Opaque]:
    """The seals of tool calls, which travel as encrypted details that name the call."""
    return {
        detail["id"]: Opaque.unpacked(detail["data"], SEALED_DETAILS)
        for detail in details
        if isinstance(detail, dict) and _of_call(detail)
    }


def call_seal(call_id: str, sealed: Opaque) -> Json:
    return {"type": "reasoning.encrypted", "id": call_id, "data": sealed.packed(), "format": _CALL}


_CALL: Final = "gateway.tool_call"
"""Tells the seals of calls from a vendor's own encrypted details, which may bear the same id."""


def _of_call(detail: Json) -> bool:
    return detail.get("format") == _CALL and isinstance(detail.get("id"), str) and isinstance(detail.get("data"), str)


def details_of(block: Thinking, index: int) -> list[Json]:
    """A block with a seal, as details for a caller to send back."""
    if block.sealed is None:
        return []
    packed = block.sealed.packed()
    if block.redacted:
        return [{"type": "reasoning.encrypted", "data": packed, "index": index}]
    summaries = [summary_detail(text, part) for part, text in enumerate(block.summary)]
    if summaries and not block.text:
        return [*summaries, {"type": "reasoning.encrypted", "data": packed, "index": len(summaries)}]
    return [*summaries, {"type": "reasoning.text", "text": block.text, "signature": packed, "index": index}]


def summary_detail(text: str, part: int) -> Json:
    return {"type": "reasoning.summary", "summary": text, "index": part}


def vendor_details(sealed: Opaque) -> list[Json]:
    """The details that a vendor of this dialect wrote, unchanged; empty for another family's seal."""
    if sealed.origin != SEALED_DETAILS:
        return []
    try:
        return msgspec.json.decode(sealed.value, type=list[dict[str, Any]])
    except UNREADABLE:
        return []


def merged_details(details: Sequence[Json]) -> list[Json]:
    """Details as a stream tells them, with the pieces of each put together."""
    merged: list[Json] = []
    for detail in details:
        last = merged[-1] if merged else None
        if last is not None and _continues(last, detail):
            for name, value in detail.items():
                if name in ("text", "summary") and isinstance(value, str):
                    last[name] = (last.get(name) or "") + value
                elif value is not None:
                    last[name] = value
        else:
            merged.append(dict(detail))
    return merged


def _continues(last: Json, detail: Json) -> bool:
    kind = detail.get("type")
    if kind != last.get("type") or kind not in ("reasoning.text", "reasoning.summary"):
        return False
    return not last.get("signature") and detail.get("index") == last.get("index")


def sealing(details: Sequence[Json]) -> Opaque | None:
    """The seal of some merged details; None where they hold nothing but text."""
    for detail in details:
        if (seal := _packed_seal(detail)) is not None:
            return seal
    if any(detail.get("signature") or detail.get("data") for detail in details):
        return Opaque(SEALED_DETAILS, msgspec.json.encode(list(details)).decode())
    return None


def _packed_seal(detail: Json) -> Opaque | None:
    for name in ("signature", "data"):
        value = detail.get(name)
        if isinstance(value, str) and value.startswith(_PACKED):
            return Opaque.unpacked(value, SEALED_DETAILS)
    return None


def _sealed_block(detail: Json, seal: Opaque, summaries: Sequence[Json]) -> Thinking:
    summary = tuple(text_of(each, "summary") for each in summaries)
    if detail.get("type") == "reasoning.encrypted":
        return Thinking(summary=summary, sealed=seal, redacted=not summary)
    return Thinking(text=text_of(detail, "text"), summary=summary, sealed=seal)


def _block_of(details: list[Json]) -> Thinking:
    text = "".join(text_of(detail, "text") for detail in details)
    summary = tuple(part for detail in details if (part := text_of(detail, "summary")))
    seal = sealing(details)
    return Thinking(text=text, summary=summary, sealed=seal, redacted=not (text or summary) and seal is not None)


def text_of(detail: Json, name: str) -> str:
    value = detail.get(name)
    return value if isinstance(value, str) else ""


class TagSplitter:
    """Parts reasoning from text where a stream marks it by tags, cut anywhere."""

    __slots__ = ("_begun", "_held", "_inside", "_trims")

    def __init__(self, *, opened: bool = False) -> None:
        self._held = ""
        self._inside = opened
        self._begun = False
        """Past the only place where an opening tag means reasoning: the start of the answer."""
        self._trims = opened
        """Line ends behind a tag belong to the tag."""

    @property
    def passive(self) -> bool:
        """Nothing more can be reasoning."""
        return self._begun and not self._inside and not self._trims

    def feed(self, text: str) -> list[tuple[bool, str]]:
        """Pieces, each with whether it is reasoning."""
        text = self._held + text
        self._held = ""
        if not self._begun:
            beginning = text.lstrip()
            if OPENING.startswith(beginning[: len(OPENING)]) and len(beginning) < len(OPENING):
                self._held = text
                return []
            self._begun = True
            if beginning.startswith(OPENING):
                self._inside = self._trims = True
                text = beginning[len(OPENING) :]
        if not self._inside:
            return self._piece(text)
        before, closed, after = text.partition(CLOSING)
        keep = 0 if closed else _overlap(before)
        self._held = before[len(before) - keep :]
        pieces = self._piece(before[: len(before) - keep])
        if closed:
            self._inside, self._trims = False, True
            pieces += self._piece(after)
        return pieces

    def end(self) -> list[tuple[bool, str]]:
        held, self._held = self._held, ""
        return self._piece(held)

    def _piece(self, text: str) -> list[tuple[bool, str]]:
        if self._trims:
            text = text.lstrip("\n")
            self._trims = not text
        return [(self._inside, text)] if text else []


def _overlap(text: str) -> int:
    """How much of the end of `text` may be the beginning of the closing tag."""
    for length in range(min(len(CLOSING) - 1, len(text)), 0, -1):
        if CLOSING.startswith(text[-length:]):
            return length
    return 0


def split_whole(text: str, *, opened: bool = False) -> list[tuple[bool, str]]:
    """The same of a whole text, in which a closing tag tells that the opening one was left out."""
    head, closed, _ = text.partition(CLOSING)
    if not closed:
        beginning = text.lstrip()
        if beginning.startswith(OPENING):
            return [(True, beginning.removeprefix(OPENING))]
        return [(False, text)] if text else []
    splitter = TagSplitter(opened=OPENING not in head or opened)
    return [*splitter.feed(text), *splitter.end()]
