"""From the ids that vendors use to the ids that callers use, and never by guessing.

The operator's word wins, then the table of what is known to be the same, then what a vendor's own list says.  Without
any of them an id that is `author/slug` stays as it is, and another one gets the name of its author, or of its vendor,
before it.  No letter of an id is changed, so that what a vendor is sent is always what it wrote itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from adapters.catalog.equivalents import AUTHORS, EQUIVALENTS, NAMESPACES
from adapters.catalog.genai import Pair
from domain.ids import ModelId, VendorSlug
from domain.ports.vendors import ListedModel


def known_names(table: Mapping[str, Mapping[str, tuple[str, ...]]] = EQUIVALENTS) -> dict[Pair, ModelId]:
    """The table turned round: a vendor's id -> the canonical one."""
    return {
        (VendorSlug(vendor), vendor_model): ModelId(model)
        for model, at in table.items()
        for vendor, vendor_models in at.items()
        for vendor_model in vendor_models
    }


KNOWN_NAMES: Final = known_names()


def canonical_id(vendor: VendorSlug, vendor_model: str) -> ModelId:
    """`author/slug` as the vendor spells it, else an author's name before the id.

    The author is the vendor itself, or whom it belongs to; a vendor's folder of its own before an id is no author.
    """
    author = AUTHORS.get(vendor, vendor)
    folder = NAMESPACES.get(vendor, "")
    if folder and vendor_model.startswith(folder) and len(vendor_model) > len(folder):
        return ModelId(f"{author}/{vendor_model.removeprefix(folder)}")
    first, slash, slug = vendor_model.partition("/")
    if slash and first and slug and "/" not in slug:
        return ModelId(vendor_model)
    return ModelId(f"{author}/{vendor_model}")


def canonical_name(vendor: VendorSlug, row: ListedModel, operators: Mapping[Pair, ModelId]) -> ModelId:
    """The canonical id of a row of a vendor's list; `operators` is what the operator has said."""
    pair = (vendor, row.vendor_model)
    named = operators.get(pair) or KNOWN_NAMES.get(pair) or row.canonical
    return ModelId(named) if named else canonical_id(vendor, row.vendor_model)


def vendor_id(vendor: VendorSlug, model: ModelId, operators: Mapping[Pair, ModelId]) -> str:
    """What a vendor whose list nobody has seen most likely calls a model: the way back from `canonical_name`."""
    for table in (operators, KNOWN_NAMES):
        for (at, vendor_model), canonical in table.items():
            if at == vendor and canonical == model:
                return vendor_model
    for author in (vendor, AUTHORS.get(vendor, vendor)):
        if model.startswith(f"{author}/"):
            return model.removeprefix(f"{author}/")
    return model


def further_names(vendor: VendorSlug, row: ListedModel, model: ModelId) -> Iterable[str]:
    """What else callers may call a model: the vendor's spelling and its aliases, each with and without an author."""
    for name in (row.vendor_model, *row.aliases):
        if name != model:
            yield name
        if (whole := canonical_id(vendor, name)) not in (name, model):
            yield whole
