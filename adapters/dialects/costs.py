"""Writing what a request cost into the usage object of its answer, in whatever dialect the answer is."""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import Raw, Struct

from adapters.dialects.json_members import JsonRefused, edit, members
from adapters.dialects.request_members import UNREADABLE, raw_member
from domain.money import Usd

EMPTY_BYTES: Final = len("null")
"""A usage no longer than this has no member to put another beside."""

_USAGE_OBJECT = re.compile(rb'"usage"\s*:\s*\{')
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}]')


class _Answer(Struct):
    usage: Raw = Raw()


_ANSWER = msgspec.json.Decoder(_Answer)


def with_cost(answer: bytes, cost: Usd) -> bytes:
    """A whole answer with `usage.cost`, a JSON number; unchanged where it has no usage object."""
    try:
        usage = bytes(_ANSWER.decode(answer).usage)
    except UNREADABLE:
        return answer
    if len(usage) > EMPTY_BYTES and usage.endswith(b"}") and b'"cost"' not in usage and answer.count(usage) == 1:
        end = answer.find(usage) + len(usage) - 1
        return b'%b,"cost":%b%b' % (answer[:end], str(cost).encode(), answer[end:])
    try:
        parts = members(answer)
        raw = raw_member(parts, "usage")
        if raw is None or not raw.startswith(b"{"):
            return answer
        return edit(answer, parts, replace={"usage": costed(raw, cost)})
    except JsonRefused:
        return answer


def with_cost_in_last_usage(piece: bytes, cost: Usd) -> bytes:
    """Whole events of which the last usage object gets `cost`; nothing else changes."""
    found = list(_USAGE_OBJECT.finditer(piece))
    if not found:
        return piece
    start = found[-1].end() - 1
    try:
        end = object_end(piece, start)
        return piece[:start] + costed(piece[start:end], cost) + piece[end:]
    except JsonRefused:
        return piece


def costed(usage: bytes, cost: Usd) -> bytes:
    """A usage object with `cost`.  Raises JsonRefused."""
    parts = members(usage)
    number = str(cost).encode()
    if "cost" in parts.values:
        return edit(usage, parts, replace={"cost": number})
    return edit(usage, parts, add={"cost": number})


def object_end(data: bytes, start: int) -> int:
    """Where the JSON object ends that begins at `start`."""
    depth, at = 0, start
    for token in _TOKEN.finditer(data, start):
        depth += {b"{": 1, b"}": -1}.get(token[0], 0)
        at = token.end()
        if depth == 0:
            break
    return at
