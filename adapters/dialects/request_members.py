"""Reading the members of a request's JSON object, for every dialect: what has the wrong type is refused by its name."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from adapters.dialects.json_members import Members
from domain.errors import InvalidRequest

UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
"""What msgspec raises for bytes that are not the JSON that they should be."""

_T = TypeVar("_T")


def raw_member(parts: Members, name: str) -> bytes | None:
    """A member's bytes; None where it is absent or null."""
    value = parts.values.get(name)
    raw = None if value is None else bytes(value)
    return None if raw == b"null" else raw


def member(parts: Members, name: str, kind: type[_T]) -> _T | None:
    """A member of the type it must have; None where it is absent or null.  Raises InvalidRequest."""
    raw = raw_member(parts, name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except UNREADABLE as error:
        raise InvalidRequest(f"'{name}' cannot be read: {error}.", param=name) from None


def count_between(parts: Members, name: str, least: int, most: int) -> int | None:
    """A whole number from `least` to `most`; None where it is absent or null.  Raises InvalidRequest."""
    value = member(parts, name, int)
    if value is not None and not least <= value <= most:
        raise InvalidRequest(f"'{name}' must be a whole number from {least} to {most}.", param=name)
    return value
