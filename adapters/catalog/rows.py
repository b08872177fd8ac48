"""What of a vendor's models list is taken up, whatever the list holds.

An id travels far: into addresses, headers, logs, prices and their index in storage.  A row whose id could harm one of
them is left out, and its texts and further names are cut to what anybody reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from domain.ports.vendors import ListedModel

ID_LENGTH_MAX: Final = 256
NAME_LENGTH_MAX: Final = 200
DESCRIPTION_LENGTH_MAX: Final = 4_000
ALIASES_MAX: Final = 32
MODALITIES_MAX: Final = 16
ROWS_MAX: Final = 50_000


def taken_up(models: Sequence[ListedModel]) -> list[ListedModel]:
    """The rows that can be asked for; one that needs no change stays the same object."""
    return [_cut(row) for row in models[:ROWS_MAX] if is_id(row.vendor_model)]


def is_id(text: str) -> bool:
    """One printable line, of a length that storage can look up."""
    return 0 < len(text) <= ID_LENGTH_MAX and text.isprintable() and text == text.strip()


def _cut(row: ListedModel) -> ListedModel:
    cut = {
        "name": _plain(row.name, NAME_LENGTH_MAX),
        "description": _plain(row.description, DESCRIPTION_LENGTH_MAX),
        "quantization": _plain(row.quantization, NAME_LENGTH_MAX),
        "canonical": row.canonical if is_id(row.canonical) else "",
        "aliases": tuple(alias for alias in row.aliases if is_id(alias))[:ALIASES_MAX],
        "input_modalities": _few(row.input_modalities),
        "output_modalities": _few(row.output_modalities),
    }
    changed = {name: value for name, value in cut.items() if value != getattr(row, name)}
    return replace(row, **changed) if changed else row


def _plain(text: str, most: int) -> str:
    """Lines stay, other control characters go."""
    if len(text) > most:
        text = text[:most]
    return text if text.isprintable() else "".join(char for char in text if char.isprintable() or char in "\n\t")


def _few(modalities: tuple[str, ...]) -> tuple[str, ...]:
    if len(modalities) <= MODALITIES_MAX and all(len(each) <= NAME_LENGTH_MAX for each in modalities):
        return modalities
    return tuple(each for each in modalities if len(each) <= NAME_LENGTH_MAX)[:MODALITIES_MAX]
