"""The lines of the benchmarks' one table, and which of them were asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

HEADING = f"{'row':<18} {'what':<48} {'seen':<52} {'bar':<12}"


class Row(Struct, frozen=True):
    """A figure, its bar, and whether it was kept; `kept` is None where there is no bar."""

    name: str
    what: str
    seen: str
    bar: str = ""
    kept: bool | None = None

    def __str__(self) -> str:
        verdict = {True: "ok", False: "MISSED", None: ""}[self.kept]
        return f"{self.name:<18} {self.what:<48} {self.seen:<52} {self.bar:<12} {verdict}".rstrip()


class Wanted:
    """Which rows are measured: patterns such as `whole-*`; none means all."""

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._patterns = tuple(patterns)

    def __contains__(self, name: str) -> bool:
        return not self._patterns or any(fnmatchcase(name, pattern) for pattern in self._patterns)

    def any_of(self, names: Iterable[str]) -> bool:
        return any(name in self for name in names)


def at_most(name: str, what: str, figure: float, bar: float, unit: str) -> Row:
    return Row(name, what, f"{figure:.2f} {unit}", f"<= {bar:g} {unit}", figure <= bar)
