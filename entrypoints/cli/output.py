"""What commands print: plain tables for people, one JSON value for programs, refusals on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import msgspec

COLUMN_GAP = "  "


def print_json(value: object) -> None:
    print(json.dumps(msgspec.to_builtins(value), ensure_ascii=False, indent=2))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as their widest cell; the last one is not filled up."""
    table = [tuple(headings), *(tuple(map(shown, row)) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(headings))]
    for row in table:
        print(COLUMN_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """One field per line, its values below each other."""
    named = [(name, shown(value)) for name, value in fields]
    width = max(len(name) for name, _ in named)
    for name, value in named:
        print(f"{name.ljust(width)}{COLUMN_GAP}{value}")


def refuse(code: str, message: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": {"code": code, "message": message}}, ensure_ascii=False), file=sys.stderr)
    else:
        print(message, file=sys.stderr)


def dollars(usd: str) -> str:
    return f"-${usd[1:]}" if usd.startswith("-") else f"${usd}"


def shown(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
        case list() | tuple() | set() | frozenset():
            return ", ".join(sorted(map(str, value))) or "-"
        case _:
            return str(value)
