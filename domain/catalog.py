"""What can be asked for, and who can serve it.

A *model* is what callers name; an *offer* is one vendor's way of serving it.  A `Catalog` is an immutable
snapshot, so that a request sees one consistent state and never fetches.  Ids are kept as vendors spell them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from datetime import datetime
from difflib import get_close_matches
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from domain.errors import NotFound
from domain.ids import ModelId, PlanId, VendorSlug
from domain.pricing import MARKUP_ONE_PPM, Doubt, ModelUnpriced, Price

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
    EMBEDDINGS = "embeddings"
    IMAGES_OUT = "images_out"
    IMAGE_EDITS = "image_edits"
    SPEECH = "speech"
    TRANSCRIPTION = "transcription"
    RERANK = "rerank"
    MODERATION = "moderation"


class Dialect(StrEnum):
    """A language spoken over HTTP."""

    OPENAI_CHAT = "openai_chat"
    OPENAI_RESPONSES = "openai_responses"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"
    BEDROCK_CONVERSE = "bedrock_converse"
    OPENAI_COMPLETIONS = "openai_completions"
    OPENAI_EMBEDDINGS = "openai_embeddings"
    OPENAI_IMAGES = "openai_images"
    OPENAI_IMAGE_EDITS = "openai_image_edits"
    OPENAI_SPEECH = "openai_speech"
    OPENAI_TRANSCRIPTIONS = "openai_transcriptions"
    OPENAI_TRANSLATIONS = "openai_translations"
    OPENAI_MODERATIONS = "openai_moderations"
    RERANK = "rerank"
    """Cohere's words, which all vendors of rerankers took over."""


class AbortPolicy(Struct, frozen=True, kw_only=True):
    """What a vendor does, and bills, when we hang up on it."""

    id: str
    cancellable: bool = True
    """False: it works on, so that we read on to its usage before we settle."""
    drain_s: int = 60


CANCEL_AND_BILL_PRODUCED = AbortPolicy(id="cancel-bill-produced")


class Traits(Struct, frozen=True, kw_only=True):
    """What holds for all offers of a vendor; the fields are those of `Offer`."""

    unsupported: frozenset[str] = frozenset()
    trains_on_data: bool | None = None


NO_TRAITS = Traits()


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
    plan_markups: tuple[tuple[PlanId, int], ...] = ()
    """The plans whose callers pay another markup than `markup_ppm`, in parts per million."""
    doubt: Doubt | None = None
    """Why its price is not what its vendor lists."""

    def for_plan(self, plan: PlanId) -> Offer:
        """The offer as callers on this plan pay for it."""
        own = dict(self.plan_markups).get(plan, self.markup_ppm)
        return self if own == self.markup_ppm else replace(self, markup_ppm=own)

    unsupported: frozenset[str] = frozenset()
    """Request parameters that its vendor drops or refuses, by OpenAI's names."""
    trains_on_data: bool | None = None
    """Whether the vendor may keep what it is sent for training; None where nobody has said."""
    input_modalities: tuple[str, ...] = ()
    """Empty where nobody has said."""
    output_modalities: tuple[str, ...] = ()
    quantization: str = ""
    retires_at: datetime | None = None
    """When the vendor stops serving it."""


class Model(Struct, frozen=True, kw_only=True, gc=False):
    """What callers name, with the offers that serve it."""

    id: ModelId
    name: str
    offers: tuple[Offer, ...]
    created: datetime | None = None
    description: str = ""
    aliases: tuple[str, ...] = ()
    """Further names of it: what vendors call it, and what the operator does."""

    @property
    def author(self) -> str:
        return self.id.partition("/")[0]

    def for_plan(self, plan: PlanId | None) -> Model:
        """The model as callers on this plan pay for it."""
        if plan is None or not any(offer.plan_markups for offer in self.offers):
            return self
        return replace(self, offers=tuple(offer.for_plan(plan) for offer in self.offers))

    @property
    def priced(self) -> tuple[Offer, ...]:
        return tuple(offer for offer in self.offers if offer.price is not None)

    @property
    def deprecated_at(self) -> datetime | None:
        """When the last of its vendors stops serving it; None while one has set no date."""
        dates = [offer.retires_at for offer in self.offers]
        return max((date for date in dates if date is not None), default=None) if None not in dates else None


class ModelNotFound(NotFound):
    code = "model_not_found"
    param = "model"


class UnknownVendor(NotFound):
    code = "vendor_not_found"
    param = "vendor"

    def __init__(self, vendor: str, known: Iterable[str]) -> None:
        super().__init__(f"No vendor {vendor!r} is set up here; there are {', '.join(sorted(known))}.")


def _unhurried() -> None:
    """Nobody else waits for this thread."""


class Catalog:
    """All models at one moment.

    `models` are all of them; those that can be asked for, `find` and `listed`, are served by a vendor that is not
    switched `off`.  `breathe` is called often while the indexes are made, so that a thread can let others run.
    """

    def __init__(
        self,
        models: Iterable[Model],
        vendors: Iterable[VendorSlug] = (),
        version: int = 0,
        *,
        off: Iterable[VendorSlug] = (),
        aliases: Mapping[str, ModelId] = {},
        previous: Catalog | None = None,
        breathe: Callable[[], None] = _unhurried,
    ) -> None:
        self.models: Mapping[str, Model] = {model.id: model for model in models}
        self.vendors = frozenset(vendors)
        """All that are set up, whether on or off."""
        self.off = frozenset(off)
        self.version = version
        self._by_name = _names(self.models, aliases, breathe)
        same = previous is not None and previous.models.keys() == self.models.keys()
        self._near: _NearNames = (
            previous._near if same and previous is not None else _NearNames(self.models.values(), breathe)
        )
        self._seen: dict[str, Model] = {}
        self._listed: tuple[Model, ...] | None = None

    def switched(self, off: Iterable[VendorSlug], version: int) -> Catalog:
        """The same models with other vendors switched off; costs next to nothing."""
        other = copy(self)
        other.off, other.version = frozenset(off), version
        other._seen, other._listed = {}, None
        return other

    def find(self, name: str) -> Model:
        """The model of this id, of this alias, or of this slug where only one author has it, with its offers.

        Raises ModelNotFound with near names, ModelUnpriced where no offer has a price.
        """
        model = self.models.get(name) or self._by_name.get(name)
        if model is None:
            raise ModelNotFound(self._not_found(name))
        if self.off:
            model = self._without_off(model)
        if not any(offer.price is not None for offer in model.offers):
            raise ModelUnpriced(
                f"The model {name} has no price yet, so that it cannot be used. The operator sets one with "
                f"'gatewayz prices set {name} --input USD --output USD'.",
                param="model",
            )
        return model

    def listed(self, breathe: Callable[[], None] = _unhurried) -> Sequence[Model]:
        """The models that can be asked for, with the offers of vendors that are on; the first call takes long."""
        if self._listed is None:
            listed: list[Model] = []
            for model in self.models.values():
                breathe()
                seen = self._view(model)
                if any(offer.price is not None for offer in seen.offers):
                    listed.append(seen)
            self._listed = tuple(listed)
        return self._listed

    def _view(self, model: Model) -> Model:
        """The model less the offers of vendors that are off."""
        off = self.off
        if not off or not any(offer.vendor in off for offer in model.offers):
            return model
        seen = self._seen.get(model.id)
        if seen is None:
            offers = tuple(offer for offer in model.offers if offer.vendor not in off)
            seen = self._seen[model.id] = replace(model, offers=offers)
        return seen

    def _without_off(self, model: Model) -> Model:
        seen = self._view(model)
        if model.offers and not seen.offers:
            vendors = ", ".join(sorted({offer.vendor for offer in model.offers}))
            raise ModelNotFound(
                f"The model {model.id} is served by {vendors} alone, which the operator has switched off. "
                f"GET /v1/models lists what can be used."
            )
        return seen

    def knows(self, name: str) -> bool:
        """Whether a model has exactly this name, as its id, alias or slug."""
        return name in self.models or name in self._by_name

    def _not_found(self, name: str) -> str:
        names = self._near.to(name, self._can_be_asked_for)
        hint = f"Did you mean {' or '.join(names)}?" if names else "GET /v1/models lists what can be used."
        return f"The model {name[:200]!r} does not exist. {hint}"

    def _can_be_asked_for(self, name: str) -> bool:
        model = self.models.get(name)
        return model is not None and bool(self._view(model).priced)


class _NearNames:
    """Finds names like a misspelt one in time that hardly grows with the catalogue.

    Only names that share the beginning of a word with it are compared letter by letter, and of those the few
    that share most: comparing all of 20,000 names would hold up every other request for seconds.
    """

    def __init__(self, models: Iterable[Model], breathe: Callable[[], None]) -> None:
        self._by_lower: dict[str, str] = {}
        for model in models:
            breathe()
            for name in (model.id, model.id.rpartition("/")[2]):
                self._by_lower.setdefault(name.lower(), model.id)
        self._by_beginning: dict[str, list[str]] = {}
        for name in self._by_lower:
            breathe()
            for beginning in _beginnings(name):
                found = self._by_beginning.setdefault(beginning, [])
                if len(found) < POSTINGS_MAX:
                    found.append(name)

    def to(self, name: str, fits: Callable[[str], bool]) -> list[str]:
        asked = name.lower()[:NAME_LENGTH_MAX]
        shared = Counter(known for beginning in _beginnings(asked) for known in self._by_beginning.get(beginning, ()))
        likely = [known for known, _ in shared.most_common(COMPARED_MAX) if fits(self._by_lower[known])]
        near = get_close_matches(asked, likely, n=NEAR_NAMES_MAX, cutoff=0.5)
        return list(dict.fromkeys(self._by_lower[match] for match in near))


def _beginnings(name: str) -> set[str]:
    return {word[:2] for word in _WORD.findall(name)}


def _names(
    models: Mapping[str, Model], aliases: Mapping[str, ModelId], breathe: Callable[[], None]
) -> dict[str, Model]:
    """What a model can be called beside its id.

    The operator's word wins; then come the names that models bring along, and last the part of an id behind its
    author.  A name that would mean two models means none.
    """
    brought = ((model, model.aliases) for model in models.values() if model.aliases)
    slugs = ((model, (model.id.partition("/")[2],)) for model in models.values())
    names = _unambiguous(slugs, models, breathe) | _unambiguous(brought, models, breathe)
    return names | {name: models[model] for name, model in aliases.items() if model in models}


def _unambiguous(
    named: Iterable[tuple[Model, tuple[str, ...]]], models: Mapping[str, Model], breathe: Callable[[], None]
) -> dict[str, Model]:
    found: dict[str, Model | None] = {}
    for model, names in named:
        breathe()
        for name in names:
            if name and name not in models:
                found[name] = model if found.get(name, model) is model else None
    return {name: model for name, model in found.items() if model is not None}
