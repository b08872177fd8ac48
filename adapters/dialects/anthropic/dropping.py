"""What a request lost on its way into this dialect, and the cache marks that may stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from domain.catalog import Dialect
from domain.inference.conversation import CacheMark, Extras

Json = dict[str, Any]

CACHE_MARKS_MAX: Final = 4
_HOUR: Final = frozenset({"1h", "12h", "24h"})


class Dropped:
    """The names of what was left out, each once and in order."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def add(self, name: str) -> None:
        self._names[name] = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._names)

    def own(self, extras: Extras | None) -> Mapping[str, Any]:
        """Members that only this dialect knows; those of others are named, not sent."""
        if extras is None:
            return {}
        if extras.dialect is Dialect.ANTHROPIC:
            return extras.members
        for name in extras.members:
            self.add(name)
        return {}


class CacheMarks:
    """Everything with a cache mark, in the order in which the vendor reads it: tools, system prompt, turns."""

    def __init__(self, dropped: Dropped) -> None:
        self._dropped = dropped
        self._marked: list[Json] = []

    def put(self, mark: CacheMark | None, written: Json) -> Json:
        if mark is not None:
            control = {"type": "ephemeral"}
            if mark.ttl is not None:
                if mark.ttl not in ("5m", "1h"):
                    self._dropped.add("cache_control")
                control["ttl"] = "1h" if mark.ttl in _HOUR else "5m"
            written["cache_control"] = control
            self._marked.append(written)
        return written

    def limit(self) -> None:
        """Four at most, and no longer time to live behind a shorter one: the vendor refuses both."""
        for written in self._marked[:-CACHE_MARKS_MAX]:
            del written["cache_control"]
            self._dropped.add("cache_control")
        short = False
        for written in self._marked[-CACHE_MARKS_MAX:]:
            control = written["cache_control"]
            if control.get("ttl") != "1h":
                short = True
            elif short:
                control["ttl"] = "5m"
                self._dropped.add("cache_control")
