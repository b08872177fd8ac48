"""Reading the models lists of vendors that speak OpenAI's dialect.

Their rows agree in little but the id.  What they call the same thing is looked for under all its names, because no
name means two things; where the rows are, how pages follow one another, and in which unit prices are written is data
of each vendor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote, urljoin, urlsplit

import msgspec
from msgspec import Struct

from adapters.catalog.price_units import NO_PRICE, Amount, ListedPrice, Unit, price_of, read_price, read_pricing
from domain.catalog import Capability
from domain.inference.faults import FaultKind, VendorFault
from domain.ports.vendors import ListedModel

Json = dict[str, Any]
PriceReader = Callable[[Json], ListedPrice]
"""What one row says that its model costs."""

COUNT_MAX: Final = 1 << 40
TEXT_LENGTH_MAX: Final = 4_000
_ROWS: Final = msgspec.json.Decoder(float_hook=Decimal)


class Paging(StrEnum):
    NONE = ""
    LINK = "link"
    """`links.next` is the next page's address."""
    NUMBER = "number"
    """`page` counts from 1 until a page is not full."""
    TOKEN = "token"
    """`nextPageToken` is sent back as `pageToken`."""


def no_price(_: Json) -> ListedPrice:
    return NO_PRICE


def per_unit(row: Json) -> ListedPrice:
    """`pricing` in OpenRouter's shape; a model whose id ends in :free is free by its name."""
    return read_pricing(_object(row.get("pricing")), free=str(row.get("id")).endswith(":free"))


def per_million(*, within: str = "pricing", **names: str) -> PriceReader:
    """Of an object in USD per million, in which the classes of `Rates` have these names."""

    def read(row: Json) -> ListedPrice:
        pricing = _object(_at(row, within))
        return read_price(Unit.USD_PER_MILLION, free=False, **_amounts(pricing, names)) if pricing else NO_PRICE

    return read


def per_million_e4(**names: str) -> PriceReader:
    """Of members in ten-thousandths of a dollar per million; other currencies than the dollar are no price."""

    def read(row: Json) -> ListedPrice:
        if str(row.get("currency") or "USD").upper() not in ("USD", ""):
            return ListedPrice(doubt=f"its list says it in {row['currency']}")
        return read_price(Unit.E4_USD_PER_MILLION, free=False, **_amounts(row, names))

    return read


def _amounts(row: Json, names: Mapping[str, str]) -> dict[str, Amount]:
    """Zero is a gap for what a model reads from its cache: then it costs what other input does."""
    found = {ours: row.get(theirs) for ours, theirs in names.items()}
    return {name: amount for name, amount in found.items() if amount not in (0, "0") or name != "cache_read"}


class ModelsList(Struct, frozen=True, kw_only=True):
    """Where a vendor's list is, and how to read it."""

    path: str = "models"
    """Relative to the base URL."""
    paging: Paging = Paging.NONE
    page_size: int = 0
    price: PriceReader = no_price
    id_of: Callable[[Json], str] | None = None
    """Makes the id to ask for, where a row does not have it as one member."""


class Page(Struct, frozen=True):
    models: list[ListedModel]
    rows: int
    next: str | None
    """The following page's address."""


def first_page(base_url: str, listed: ModelsList) -> str:
    url = urljoin(f"{base_url.rstrip('/')}/", listed.path)
    return f"{url}{_joint(url)}per_page={listed.page_size}&page=1" if listed.paging is Paging.NUMBER else url


def _unhurried() -> None:
    """Nobody else waits for this thread."""


def read_page(body: bytes, url: str, listed: ModelsList, breathe: Callable[[], None] = _unhurried) -> Page:
    """One page of the list that begins at `url`; `breathe` is called often, so that a thread can let others run.

    Raises VendorFault where it cannot be read.
    """
    try:
        decoded = _ROWS.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise VendorFault(FaultKind.MALFORMED, "its models list cannot be read") from None
    whole = _object(decoded)
    rows = decoded if isinstance(decoded, list) else whole.get("data", whole.get("models"))
    if not isinstance(rows, list):
        raise VendorFault(FaultKind.MALFORMED, "its models list has no rows")
    models: list[ListedModel] = []
    for row in rows:
        breathe()
        if isinstance(row, dict) and (model := _model(row, listed)) is not None:
            models.append(model)
    return Page(models, len(rows), _next_page(whole, url, len(rows), listed))


def _next_page(whole: Json, url: str, rows: int, listed: ModelsList) -> str | None:
    match listed.paging:
        case Paging.LINK:
            link = _at(whole, "links.next")
            following = urljoin(url, link) if isinstance(link, str) and link else None
            # The key goes to the vendor's own origin only.
            same = following is not None and urlsplit(following)[:2] == urlsplit(url)[:2]
            return following if same and following != url else None
        case Paging.NUMBER:
            head, _, number = url.rpartition("page=")
            return f"{head}page={int(number) + 1}" if rows >= listed.page_size else None
        case Paging.TOKEN:
            token = whole.get("nextPageToken")
            head = url.partition("pageToken=")[0].rstrip("?&")
            return (
                f"{head}{_joint(head)}pageToken={quote(token, safe='')}" if isinstance(token, str) and token else None
            )
        case Paging.NONE:
            return None


def _joint(url: str) -> str:
    return "&" if "?" in url else "?"


def _model(row: Json, listed: ModelsList) -> ListedModel | None:
    id_ = listed.id_of(row) if listed.id_of is not None else _text(row, "id")
    if not id_:
        return None
    cost = listed.price(row)
    return ListedModel(
        vendor_model=id_,
        name=_text(row, "name", "display_name", "displayName", "title"),
        description=_text(row, "description", "metadata.description"),
        context_length=_count(row, *_CONTEXT),
        output_max=_count(row, *_OUTPUT),
        created_s=_count(row, "created"),
        capabilities=_capabilities(row),
        input_modalities=_modalities(row, "input"),
        output_modalities=_modalities(row, "output"),
        quantization=_text(row, "quantization"),
        retires_s=_moment(row, "shutdown_date", "deprecation_date", "expiration_date", "deprecation"),
        canonical=_text(row, "hugging_face_id"),
        aliases=tuple(each for each in _list(row, "aliases") if each != id_),
        rates=cost.rates,
        tiers=cost.tiers,
        free=cost.free,
        price_doubt=cost.doubt,
    )


_CONTEXT: Final = (
    "context_length",
    "context_window",
    "max_model_len",
    "context_size",
    "max_context_length",
    "max_prompt_length",
    "contextLength",
    "top_provider.context_length",
    "metadata.context_length",
    "limits.max_context_length",
)
_OUTPUT: Final = (
    "max_output_length",
    "max_output_tokens",
    "max_completion_tokens",
    "top_provider.max_completion_tokens",
    "limits.max_completion_tokens",
    "metadata.max_tokens",
)
_FEATURES: Final = ("supported_parameters", "supported_features", "features", "metadata.tags")
_NAMED: Final[Mapping[str, Capability]] = {
    "tools": Capability.TOOLS,
    "tool_choice": Capability.TOOLS,
    "function-calling": Capability.TOOLS,
    "function_calling": Capability.TOOLS,
    "tool-calling": Capability.TOOLS,
    "structured_outputs": Capability.JSON_SCHEMA,
    "structured-outputs": Capability.JSON_SCHEMA,
    "reasoning": Capability.REASONING,
    "include_reasoning": Capability.REASONING,
    "vision": Capability.IMAGES_IN,
}
_FLAGS: Final[Mapping[str, Capability]] = {
    "capabilities.function_calling": Capability.TOOLS,
    "capabilities.vision": Capability.IMAGES_IN,
    "capabilities.reasoning": Capability.REASONING,
    "supports_tools": Capability.TOOLS,
    "supports_image_input": Capability.IMAGES_IN,
}
_HEARD: Final[Mapping[str, Capability]] = {
    "image": Capability.IMAGES_IN,
    "audio": Capability.AUDIO_IN,
    "file": Capability.FILES_IN,
    "pdf": Capability.FILES_IN,
}
_TOLD: Final[Mapping[str, Capability]] = {
    "embeddings": Capability.EMBEDDINGS,
    "embedding": Capability.EMBEDDINGS,
    "image": Capability.IMAGES_OUT,
    "rerank": Capability.RERANK,
    "moderation": Capability.MODERATION,
    "speech": Capability.SPEECH,
    "transcribe": Capability.TRANSCRIPTION,
    "transcription": Capability.TRANSCRIPTION,
}
"""Of output modalities and of types of models."""


def _capabilities(row: Json) -> frozenset[Capability] | None:
    """None where the row says too little to exclude anything."""
    kind = _text(row, "type", "model_type", "modelType").lower()
    told = {_TOLD[each] for each in (*_modalities(row, "output"), kind) if each in _TOLD}
    features = [each.lower() for name in _FEATURES for each in _list(row, name)]
    flags = {flag: value for flag in _FLAGS if isinstance(value := _at(row, flag), bool)}
    providers = [each for each in _rows(row, "providers") if isinstance(each.get("supports_tools"), bool)]
    if not features and not flags and not providers:
        # A model that writes no text is none to chat with; of the others nothing is known.
        return frozenset(told) if told and "text" not in _modalities(row, "output") else None
    found = {Capability.STREAM} | told | {_NAMED[each] for each in features if each in _NAMED}
    found |= {_FLAGS[flag] for flag, on in flags.items() if on}
    found |= {_HEARD[each] for each in _modalities(row, "input") if each in _HEARD}
    if any(each["supports_tools"] for each in providers):
        found.add(Capability.TOOLS)
    if any(each.get("supports_structured_output") for each in providers):
        found.add(Capability.JSON_SCHEMA)
    if not features:
        # Flags speak of what they name, and a reasoning model or one with schemas may well be among the silent.
        found |= {Capability.JSON_SCHEMA, Capability.REASONING}
    return frozenset(found)


def _modalities(row: Json, side: str) -> tuple[str, ...]:
    for name in (f"{side}_modalities", f"architecture.{side}_modalities", f"{side}Modalities"):
        if found := _list(row, name):
            return tuple(each.lower() for each in found)
    before, arrow, after = _text(row, "architecture.modality").partition("->")
    return tuple((before if side == "input" else after).split("+")) if arrow else ()


def _at(row: Json, path: str) -> Any:
    if "." not in path:
        return row.get(path)
    value: Any = row
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _rows(row: Json, path: str) -> list[Json]:
    value = _at(row, path)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _list(row: Json, path: str) -> list[str]:
    value = _at(row, path)
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _text(row: Json, *paths: str) -> str:
    found = (value for path in paths if isinstance(value := _at(row, path), str) and value)
    return next(found, "")[:TEXT_LENGTH_MAX]


def _count(row: Json, *paths: str) -> int | None:
    """A whole number above zero; some lists write it as text or with a fraction."""
    for path in paths:
        value = _at(row, path)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value[:20])
        if isinstance(value, Decimal) and value.is_finite() and abs(value) < COUNT_MAX:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < COUNT_MAX:
            return value
    return None


def _moment(row: Json, *paths: str) -> int | None:
    """A date or a moment of ISO 8601, or seconds since 1970."""
    if (seconds := _count(row, *paths)) is not None:
        return seconds
    for text in (_text(row, path) for path in paths):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            continue
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    return None


def dearest(prices: Iterable[ListedPrice]) -> ListedPrice:
    """Of several that may be charged, what covers them all: nobody knows beforehand who will serve."""
    known = [price.rates for price in prices if price.rates is not None]
    if not known:
        return NO_PRICE
    return price_of({"input": max(each.input for each in known), "output": max(each.output for each in known)})
