"""The models of one snapshot made ready to be shown: written once, found by what people filter by.

Large catalogues are read often and change seldom, so that the list of all models is bytes that lie ready, and a part
of it is cut from them.  Whatever looks at every model lets others go on in between.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from hashlib import blake2b
from typing import Final

import msgspec
from anyio.lowlevel import checkpoint
from msgspec import Struct

from application.catalog import ModelRecord, record
from domain.catalog import Capability, Catalog, Model
from domain.errors import InvalidRequest
from domain.ids import ModelId
from domain.money import NANOS_PER_USD
from domain.ports.catalog import CatalogSource
from domain.pricing import MARKUP_ONE_PPM

MODELS_PER_TURN: Final = 500
"""After looking at so many, about half a millisecond, others get their turn."""
TEXT_MAX: Final = 200
HEAD: Final = b'{"object":"list","data":['
TAIL: Final = b'],"next_cursor":null}'

_encode = msgspec.json.Encoder().encode


class Entry(Struct, frozen=True, gc=False):
    """One model: what it is found by, and where in the written list it stands."""

    model: Model
    id: ModelId
    text: str
    """Its id and its name in small letters."""
    vendors: frozenset[str]
    inputs: frozenset[str]
    outputs: frozenset[str]
    parameters: frozenset[str]
    capabilities: frozenset[str]
    free: bool
    prompt: int
    """Of its cheapest offer, the markup included: nano-dollars per million tokens."""
    completion: int
    context: int
    start: int
    end: int


class ModelFilter(Struct, frozen=True, kw_only=True):
    """Which models are wanted; what is not set leaves all of them in."""

    text: str = ""
    author: str | None = None
    vendor: str | None = None
    inputs: frozenset[str] = frozenset()
    outputs: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()
    capabilities: frozenset[str] = frozenset()
    free: bool | None = None
    prompt_max: int | None = None
    completion_max: int | None = None
    context_min: int | None = None
    context_max: int | None = None

    def fits(self, entry: Entry) -> bool:
        return (
            (not self.text or self.text in entry.text)
            and (self.author is None or entry.id.startswith(f"{self.author}/"))
            and (self.vendor is None or self.vendor in entry.vendors)
            and self.inputs <= entry.inputs
            and self.outputs <= entry.outputs
            and self.parameters <= entry.parameters
            and self.capabilities <= entry.capabilities
            and (self.free is None or self.free == entry.free)
            and (self.prompt_max is None or entry.prompt <= self.prompt_max)
            and (self.completion_max is None or entry.completion <= self.completion_max)
            and (self.context_min is None or entry.context >= self.context_min)
            and (self.context_max is None or 0 < entry.context <= self.context_max)
        )


NO_FILTER: Final = ModelFilter()


class Shelf:
    """The models of one snapshot, in order of id."""

    def __init__(self, catalog: Catalog, entries: Sequence[Entry], whole: bytes) -> None:
        self.catalog = catalog
        self.entries = entries
        self.whole = whole
        """The list of all of them as JSON, in OpenAI's shape."""
        self.etag = etag_of(whole)
        self._ids = [entry.id for entry in entries]

    def after(self, name: str | None) -> int:
        """Where the entries begin that come after this id."""
        return 0 if name is None else bisect_right(self._ids, name)

    def before(self, name: str) -> int:
        """How many entries come before this id."""
        return bisect_left(self._ids, name)

    def entry(self, model: ModelId) -> Entry | None:
        place = bisect_left(self._ids, model)
        return self.entries[place] if place < len(self._ids) and self._ids[place] == model else None

    def written(self, entry: Entry) -> bytes:
        """One record as JSON."""
        return self.whole[entry.start : entry.end]

    async def fitting(self, wanted: ModelFilter, start: int = 0) -> Sequence[Entry]:
        """The entries from `start` on that fit."""
        if wanted == NO_FILTER:
            return self.entries[start:] if start else self.entries
        found: list[Entry] = []
        for first in range(start, len(self.entries), MODELS_PER_TURN):
            found += filter(wanted.fits, self.entries[first : min(first + MODELS_PER_TURN, len(self.entries))])
            await checkpoint()
        return found


def fill_shelf(catalog: Catalog, before: Shelf | None = None, breathe: Callable[[], None] = lambda: None) -> Shelf:
    """Write every model that can be asked for; what has not changed since `before` is not written anew."""
    entries: list[Entry] = []
    pieces: list[bytes] = []
    place = len(HEAD)
    for model in catalog.listed(breathe):
        breathe()
        known = None if before is None else before.entry(model.id)
        if known is not None and before is not None and known.model is model:
            piece = before.written(known)
            entry = msgspec.structs.replace(known, start=place, end=place + len(piece))
        else:
            shown = record(model)
            piece = _encode(shown)
            entry = _entry(model, shown, place, place + len(piece))
        entries.append(entry)
        pieces.append(piece)
        place += len(piece) + 1
    return Shelf(catalog, entries, b"".join((HEAD, b",".join(pieces), TAIL)))


def part_of(shelf: Shelf, entries: Sequence[Entry], cursor: str | None) -> bytes:
    """A part of the list as JSON; `cursor` leads on to the next one."""
    rows = b",".join(map(shelf.written, entries))
    return b"".join((HEAD, rows, b'],"next_cursor":', _encode(cursor), b"}"))


def etag_of(body: bytes) -> str:
    return f'"{blake2b(body, digest_size=16).hexdigest()}"'


@dataclass(slots=True)
class ShowModels:
    """Keeps the shelf of the newest snapshot, so that one instance should serve all callers."""

    catalog: CatalogSource
    _shelf: Shelf | None = field(default=None, init=False, repr=False)
    _prepared: bool = field(default=False, init=False)

    def prepare(self, catalog: Catalog, breathe: Callable[[], None]) -> None:
        """Fill the shelf of a snapshot before requests see it; for the thread that builds it."""
        self._shelf = fill_shelf(catalog, self._shelf, breathe)
        self._prepared = True

    def shelf(self) -> Shelf:
        """The newest one; where somebody prepares them, a new snapshot's may be a moment late."""
        shelf, catalog = self._shelf, self.catalog.current()
        if shelf is None or (shelf.catalog is not catalog and not self._prepared):
            shelf = self._shelf = fill_shelf(catalog, shelf)
        return shelf


def _entry(model: Model, shown: ModelRecord, start: int, end: int) -> Entry:
    prices = [
        (offer.price.rates.input * offer.markup_ppm, offer.price.rates.output * offer.markup_ppm)
        for offer in model.priced
        if offer.price is not None
    ]
    prompt, completion = min(prices, key=sum)
    return Entry(
        model=model,
        id=model.id,
        text=f"{model.id} {model.name}".lower(),
        vendors=frozenset(shown.providers),
        inputs=frozenset(shown.architecture.input_modalities),
        outputs=frozenset(shown.architecture.output_modalities),
        parameters=frozenset(shown.supported_parameters),
        capabilities=frozenset(shown.capabilities),
        free=shown.is_free,
        prompt=prompt // MARKUP_ONE_PPM,
        completion=completion // MARKUP_ONE_PPM,
        context=shown.context_length or 0,
        start=start,
        end=end,
    )


def ranked_by_text(entries: Iterable[Entry], text: str, weight: Mapping[str, int]) -> list[Entry]:
    """The nearest first: the name itself, then names that begin so, then those that are used most."""

    def place(entry: Entry) -> tuple[int, int, int, str]:
        slug = entry.id.partition("/")[2].lower()
        exact = text in {slug, entry.id.lower()}
        begins = slug.startswith(text) or entry.id.lower().startswith(text)
        return 0 if exact else 1 if begins else 2, -weight.get(entry.id, 0), len(slug), entry.id

    return sorted(entries, key=place)


def read_words(text: str | None, field: str, known: Iterable[str] | None = None) -> frozenset[str]:
    """Words with commas between them.  Raises InvalidRequest for one that is not `known`."""
    words = frozenset(word.strip() for word in (text or "").split(",") if word.strip())
    if known is not None and (strange := sorted(words - set(known))):
        raise InvalidRequest(f"{field} has no {strange[0][:50]!r}; there are {', '.join(sorted(known))}.", param=field)
    return words


def read_price(text: str | None, field: str) -> int | None:
    """USD per million tokens -> nano-dollars per million tokens.  Raises InvalidRequest."""
    if text is None:
        return None
    try:
        nanos = Decimal(text.strip()) * NANOS_PER_USD
    except InvalidOperation:
        nanos = Decimal("NaN")
    if not nanos.is_finite() or not 0 <= nanos < 10**18:
        raise InvalidRequest(f"{field} must be USD per million tokens, such as 2.50.", param=field)
    return int(nanos)


CAPABILITIES: Final = frozenset(each.value for each in Capability)
