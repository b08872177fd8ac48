"""Reading decoded JSON objects member by member, for every dialect: what has the wrong type is refused by its path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar, cast

from domain.catalog import Dialect
from domain.errors import InvalidRequest
from domain.inference.conversation import Extras

Json = dict[str, Any]

_T = TypeVar("_T")

_KINDS: Final[Mapping[type, str]] = {
    str: "a string",
    int: "a whole number",
    bool: "true or false",
    list: "an array",
    dict: "an object",
}


class ObjectMembers:
    """The members of one object, taken out one by one; null counts as absent, what is left over are extras."""

    __slots__ = ("_dialect", "_left", "_where")

    def __init__(self, values: Json, where: str, dialect: Dialect) -> None:
        self._left = dict(values)
        self._where = where
        self._dialect = dialect

    @classmethod
    def of(cls, value: object, where: str, dialect: Dialect) -> ObjectMembers:
        return cls(object_at(value, where), where, dialect)

    def path(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name

    def taken(self, name: str, kind: type[_T]) -> _T | None:
        """A member of the type it must have; None where it is absent or null.  Raises InvalidRequest."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise unreadable(self.path(name), _KINDS.get(kind, kind.__name__))
        return value

    def required(self, name: str, kind: type[_T]) -> _T:
        value = self.taken(name, kind)
        if value is None:
            raise unreadable(self.path(name), _KINDS.get(kind, kind.__name__))
        return value

    def number(self, name: str) -> float | None:
        value = self._left.pop(name, None)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise unreadable(self.path(name), "a number")
        return value

    def member(self, name: str) -> ObjectMembers | None:
        """A member that is an object itself."""
        value = self.taken(name, dict)
        return None if value is None else ObjectMembers(value, self.path(name), self._dialect)

    def items(self, name: str) -> list[tuple[object, str]]:
        """The entries of a member that is an array, each with its path; none where it is absent."""
        return [(each, f"{self.path(name)}[{at}]") for at, each in enumerate(self.taken(name, list) or [])]

    def rest(self) -> Extras | None:
        left = {name: value for name, value in self._left.items() if value is not None}
        return Extras(self._dialect, left) if left else None


def object_at(value: object, where: str) -> Json:
    if not isinstance(value, dict):
        raise unreadable(where, "an object")
    return cast("Json", value)


def unreadable(where: str, wanted: str) -> InvalidRequest:
    return InvalidRequest(f"'{where}' must be {wanted}.", param=where)
