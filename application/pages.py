"""Long lists, one page at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from domain.errors import InvalidRequest

PAGE_MAX = 100

Item = TypeVar("Item")


class Page(Struct, Generic[Item], frozen=True):
    items: tuple[Item, ...]
    next_cursor: str | None
    """What to ask for the next page with; None on the last one."""


def checked_limit(limit: int) -> int:
    """Raises InvalidRequest."""
    if not 1 <= limit <= PAGE_MAX:
        raise InvalidRequest(f"limit must be from 1 to {PAGE_MAX}.", param="limit")
    return limit


def page(rows: Sequence[Item], limit: int, cursor: Callable[[Item], str]) -> Page[Item]:
    """A page of `limit` from rows of which one more was asked for."""
    items = tuple(rows[:limit])
    return Page(items, cursor(items[-1]) if len(rows) > limit else None)
