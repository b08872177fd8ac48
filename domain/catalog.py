"""What can be asked for, and who can serve it.

A *model* is what callers name; an *offer* is one vendor's way of serving it.  A `Catalog` is an immutable
snapshot, so that a request sees one consistent state and never fetches.  Ids are kept as vendors spell them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from difflib import get_close_matches
from enum import StrEnum

from msgspec import Struct

from domain.errors import NotFound
from domain.ids import ModelId, VendorSlug
from domain.pricing import MARKUP_ONE_PPM, ModelUnpriced, Price

NEAR_NAMES_MAX = 3
NAME_LENGTH_MAX = 100
COMPARED_MAX = 40
POSTINGS_MAX = 1_000

_WORD = re.compile(r"[a-z]+|[0-9]+")


class Capability(StrEnum):
    STREAM = "stream"
    TOOLS = "tools"
    IMAGES_IN = "images_in"
    AUDIO_IN = "audio_in"
    FILES_IN = "files_in"
    JSON_SCHEMA = "json_schema"
    REASONING = "reasoning"


class Dialect(StrEnum):
    """A language spoken over HTTP."""

    OPENAI_CHAT = "openai_chat"
    OPENAI_RESPONSES = "openai_responses"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"
    BEDROCK_CONVERSE = "bedrock_converse"


class AbortPolicy(Struct, frozen=True, kw_only=True):
    """What a vendor does, and bills, when we hang up on it."""

    id: str
    cancellable: bool = True
    """False: it works on, so that we read on to its usage before we settle."""
    drain_s: int = 60


CANCEL_AND_BILL_PRODUCED = AbortPolicy(id="cancel-bill-produced")


class Offer(Struct, frozen=True, kw_only=True, gc=False):
    """One vendor's way of serving one model."""

    vendor: VendorSlug
    model: ModelId
    vendor_model: str
    """The id that the vendor knows."""
    price: Price | None
    markup_ppm: int = MARKUP_ONE_PPM
    context_length: int | None = None
    output_max: int | None = None
    capabilities: frozenset[Capability] | None = None
    """None where nobody has said what it can do; then nothing is excluded."""
    abort_policy: AbortPolicy = CANCEL_AND_BILL_PRODUCED
    first_byte_s: int = 300


class Model(Struct, frozen=True, kw_only=True, gc=False):
    """What callers name, with the offers that serve it."""

    id: ModelId
    name: str
    offers: tuple[Offer, ...]
    created: datetime | None = None
    description: str = ""
    deprecated_at: datetime | None = None

    @property
    def priced(self) -> tuple[Offer, ...]:
        return tuple(offer for offer in self.offers if offer.price is not None)


class ModelNotFound(NotFound):
    code = "model_not_found"
    param = "model"


class UnknownVendor(NotFound):
    code = "vendor_not_found"
    param = "vendor"

    def __init__(self, vendor: str, known: Iterable[str]) -> None:
        super().__init__(f"No vendor {vendor!r} is set up here; there are {', '.join(sorted(known))}.")


class Catalog:
    """All models at one moment."""

    def __init__(self, models: Iterable[Model], vendors: Iterable[VendorSlug] = (), version: int = 0) -> None:
        self.models: Mapping[str, Model] = {model.id: model for model in models}
        self.vendors = frozenset(vendors)
        self.version = version
        self._by_slug = _unambiguous_slugs(self.models)
        self._near = _NearNames(self.listed())

    def find(self, name: str) -> Model:
        """The model of this id, or of this slug where only one author has it.

        Raises ModelNotFound with near names, ModelUnpriced where no offer has a price.
        """
        model = self.models.get(name) or self._by_slug.get(name)
        if model is None:
            raise ModelNotFound(self._not_found(name))
        if not any(offer.price is not None for offer in model.offers):
            raise ModelUnpriced(
                f"The model {name} has no price yet, so that it cannot be used. The operator sets one with "
                f"'gatewayz prices set {name} --input USD --output USD'.",
                param="model",
            )
        return model

    def listed(self) -> list[Model]:
        """The models that can be asked for."""
        return [model for model in self.models.values() if model.priced]

    def _not_found(self, name: str) -> str:
        names = self._near.to(name)
        hint = f"Did you mean {' or '.join(names)}?" if names else "GET /v1/models lists what can be used."
        return f"The model {name[:200]!r} does not exist. {hint}"


class _NearNames:
    """Finds names like a misspelt one in time that hardly grows with the catalogue.

    Only names that share the beginning of a word with it are compared letter by letter, and of those the few
    that share most: comparing all of 20,000 names would hold up every other request for seconds.
    """

    def __init__(self, models: Iterable[Model]) -> None:
        self._by_lower: dict[str, str] = {}
        for model in models:
            for name in (model.id, model.id.rpartition("/")[2]):
                self._by_lower.setdefault(name.lower(), model.id)
        self._by_beginning: dict[str, list[str]] = {}
        for name in self._by_lower:
            for beginning in _beginnings(name):
                found = self._by_beginning.setdefault(beginning, [])
                if len(found) < POSTINGS_MAX:
                    found.append(name)

    def to(self, name: str) -> list[str]:
        asked = name.lower()[:NAME_LENGTH_MAX]
        shared = Counter(known for beginning in _beginnings(asked) for known in self._by_beginning.get(beginning, ()))
        likely = [known for known, _ in shared.most_common(COMPARED_MAX)]
        near = get_close_matches(asked, likely, n=NEAR_NAMES_MAX, cutoff=0.5)
        return list(dict.fromkeys(self._by_lower[match] for match in near))


def _beginnings(name: str) -> set[str]:
    return {word[:2] for word in _WORD.findall(name)}


def _unambiguous_slugs(models: Mapping[str, Model]) -> dict[str, Model]:
    found: dict[str, Model | None] = {}
    for model in models.values():
        slug = model.id.partition("/")[2]
        if slug and slug not in models:
            found[slug] = None if slug in found else model
    return {slug: model for slug, model in found.items() if model is not None}
