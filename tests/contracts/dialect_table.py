"""`python -m tests.contracts.dialect_table`: what callers of each dialect keep before each wire, as Markdown."""

from __future__ import annotations

import asyncio
import sys

from domain.catalog import Dialect
from tests.contracts.dialect_matrix import WIRES, Cell, check
from tests.contracts.dialect_requests import CALLERS, FEATURES

NAMES = {Dialect.OPENAI_CHAT: "Chat", Dialect.ANTHROPIC: "Messages", Dialect.OPENAI_RESPONSES: "Responses"}
MARKS = {"kept": "kept", "lost": "lost", "none": "-"}


async def _mark(cell: Cell) -> str:
    try:
        return MARKS[await check(cell)]
    except Exception as error:
        return f"**{type(error).__name__}**"


async def table() -> str:
    """Each cell is whole / streamed, or one word where both are the same; `-` where the caller cannot ask for it."""
    columns = [(caller, wire) for caller in CALLERS for wire in WIRES]
    lines = [
        "| feature | " + " | ".join(f"{NAMES[caller]} to {wire}" for caller, wire in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for feature in FEATURES:
        cells = []
        for caller, wire in columns:
            marks = [await _mark(Cell(caller, wire, feature, streams)) for streams in (False, True)]
            cells.append(" / ".join(dict.fromkeys(marks)))
        lines.append(f"| {feature} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(asyncio.run(table()))
