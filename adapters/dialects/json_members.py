"""Edits the top-level members of a JSON object in its raw bytes and leaves every other byte alone.

Decoding and encoding again would lose what we do not model: the digits of big numbers, the order
of members, the spelling of escapes.  msgspec finds each value in C; Python only walks over names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from itertools import accumulate
from operator import add as plus
from types import MappingProxyType
from typing import TypeAlias

import msgspec
from msgspec import Raw, Struct

MEMBERS_MAX = 1_024
DEPTH_MAX = 128

_DECODER = msgspec.json.Decoder(dict[str, Raw])
_OPENING = re.compile(rb"[ \t\n\r]*\{[ \t\n\r]*")
# Possessive, because a backtracking repeat would keep a record of every escape of a hostile name.
_LABEL = re.compile(rb'("(?:[^"\\]++|\\.)*+")[ \t\n\r]*:[ \t\n\r]*')
_SEPARATOR = re.compile(rb"[ \t\n\r]*(?:,[ \t\n\r]*|(\}))")

_NOTHING: Mapping[str, bytes] = MappingProxyType({})

_Patch: TypeAlias = tuple[int, int, bytes]
"""From where to where the body changes, and into what; patches come in order."""


class JsonRefused(ValueError):
    """Why bytes cannot be taken for the one JSON object they should be."""


class BrokenJson(JsonRefused):
    pass


class NotAnObject(JsonRefused):
    pass


class TooDeep(JsonRefused):
    pass


class TooManyMembers(JsonRefused):
    pass


class RepeatedMember(JsonRefused):
    """Two readers of such an object may take different values for the same name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the member {name!r} is there more than once")
        self.name = name


class NoSuchMember(JsonRefused):
    def __init__(self, name: str) -> None:
        super().__init__(f"there is no member {name!r} to replace")
        self.name = name


class Span(Struct, frozen=True, gc=False):
    """Where a member lies in its object's bytes; it ends where its value ends."""

    member_start: int
    value_start: int
    value_end: int


class Members(Struct, frozen=True):
    """The members of one object in their order, by decoded name."""

    values: dict[str, Raw]
    """Exactly the value's bytes, without the whitespace around them."""
    spans: dict[str, Span]
    closing: int
    """Where the closing brace is."""


def members(body: bytes) -> Members:
    """Find the members of `body`, or raise JsonRefused."""
    values = _values(body)
    if len(values) > MEMBERS_MAX:
        raise TooManyMembers(f"{len(values)} members, at most {MEMBERS_MAX} are allowed")
    spans: dict[str, Span] = {}
    at = closing = _match(_OPENING, body, 0).end()
    # A repeated name keeps its first place in `values` but has its last value there.  So wherever
    # the body does not continue with the next name and its value, a name is repeated.
    for name, value in values.items():
        label = _match(_LABEL, body, at)
        if label[1] != b'"%b"' % name.encode() and (met := _name(label[1])) != name:
            raise RepeatedMember(met)
        start = label.end()
        end = start + len(value)
        separator = _SEPARATOR.match(body, end)
        if separator is None or not body.startswith(value, start):
            raise RepeatedMember(name)
        spans[name] = Span(at, start, end)
        at, closing = separator.end(), separator.start(1)
    if closing < 0:
        raise RepeatedMember(_name(_match(_LABEL, body, at)[1]))
    return Members(values, spans, closing)


def _values(body: bytes) -> dict[str, Raw]:
    try:
        return _DECODER.decode(body)
    except msgspec.ValidationError as error:
        raise NotAnObject(str(error)) from error
    except msgspec.DecodeError as error:
        raise BrokenJson(str(error)) from error
    except UnicodeDecodeError as error:
        raise BrokenJson("a member's name is not UTF-8") from error
    except RecursionError as error:
        raise TooDeep("arrays and objects nest deeper than can be read") from error


def _match(pattern: re.Pattern[bytes], body: bytes, at: int) -> re.Match[bytes]:
    found = pattern.match(body, at)
    assert found is not None, "msgspec read an object here"
    return found


def _name(label: bytes) -> str:
    return msgspec.json.decode(label, type=str)


def edit(
    body: bytes,
    members: Members,
    *,
    replace: Mapping[str, bytes] = _NOTHING,
    remove: Collection[str] = (),
    add: Mapping[str, bytes] = _NOTHING,
) -> bytes:
    """`body` with other values for some members, without some, and with new ones at its end.

    The values given must be JSON; they are not looked at.  A name to remove may be absent.  One to
    replace must be there and stay, one to add must be absent or removed at the same time.
    """
    assert body[members.closing] == ord("}"), "these are the members of another body"
    for name in replace:
        if name not in members.spans or name in remove:
            raise NoSuchMember(name)
    for name in add:
        if name in members.spans and name not in remove:
            raise RepeatedMember(name)
    patches = _patches(body, members, replace, remove, add)
    return _patched(body, patches) if patches else body


def _patches(
    body: bytes,
    members: Members,
    replace: Mapping[str, bytes],
    remove: Collection[str],
    add: Mapping[str, bytes],
) -> list[_Patch]:
    patches: list[_Patch] = []
    spans = members.spans
    first = end = next(iter(spans.values())).member_start if spans else members.closing
    kept = False
    # A member leaves with the comma before it, and those before the first that stays with the one
    # after them, so exactly one comma remains between any two.
    for name, span in spans.items():
        if name in remove:
            if kept:
                patches.append((end, span.value_end, b""))
        else:
            if not kept and span.member_start > first:
                patches.append((first, span.member_start, b""))
            kept = True
            value = replace.get(name)
            if value is not None and value != body[span.value_start : span.value_end]:
                patches.append((span.value_start, span.value_end, value))
        end = span.value_end
    if spans and not kept:
        patches.append((first, end, b""))
    if add:
        added = b",".join(b"%b:%b" % (msgspec.json.encode(name), value) for name, value in add.items())
        patches.append((end, end, b"," + added if kept else added))
    return patches


def _patched(body: bytes, patches: list[_Patch]) -> bytes:
    view, parts, done = memoryview(body), list[bytes | memoryview](), 0
    for start, end, value in patches:
        parts += (view[done:start], value)
        done = end
    parts.append(view[done:])
    return b"".join(parts)


def check_depth(body: bytes, most: int = DEPTH_MAX) -> None:
    """Raise TooDeep if arrays and objects nest deeper than `most`, before any parser recurses.

    Of broken JSON only the part before the fault is measured right; no parser reads on behind it.
    """
    if body.count(b"[") + body.count(b"{") <= most:
        return
    marks = _brackets(body)
    never_closed = 2 * marks.count(b"1") - len(marks)
    if never_closed > most or _depth(marks) > most:
        raise TooDeep(f"arrays and objects nest deeper than {most}")


def _brackets(body: bytes) -> bytes:
    """The brackets of `body` outside of its strings: each opening one as 1, each closing one as 0."""
    marks = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_MARKS, _NOT_MARKS)
    # Between adjacent quotes there is nothing to skip, and without them inside stays inside.
    marks = marks.replace(b'""', b"")
    outside: list[bytes] = []
    inside = 0
    # In slices, because a list of all the parts of a hostile body would take ten times its size.
    for start in range(0, len(marks), _SLICE_BYTES):
        parts = marks[start : start + _SLICE_BYTES].split(b'"')
        outside.append(b"".join(parts[inside::2]))
        inside ^= len(parts) - 1 & 1
    return b"".join(outside)


def _depth(marks: bytes) -> int:
    """The highest excess of opening over closing brackets, eight brackets a step."""
    size = len(marks) // 8 + 1
    packed = int(marks.ljust(size * 8, b"0"), 2).to_bytes(size, "big")
    rises = memoryview(packed.translate(_RISES)).cast("b")
    depth: int = max(map(plus, accumulate(rises, initial=0), packed.translate(_PEAKS)))
    return depth


def _steps(byte: int) -> list[int]:
    return [1 if byte >> bit & 1 else -1 for bit in range(7, -1, -1)]


_MARKS = bytes.maketrans(b"[{]}", b"1100")
_NOT_MARKS = bytes(set(range(256)) - set(b'[{]}"'))
_SLICE_BYTES = 1024 * 1024
_RISES = bytes(sum(_steps(byte)) % 256 for byte in range(256))
_PEAKS = bytes(max(accumulate(_steps(byte), initial=0)) for byte in range(256))
