"""/v1/models: what can be asked for, as OpenAI's list, or as Anthropic's for clients that name its version."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from application.catalog import ListModels, ModelRecord, record
from application.offers import ComparedModels, Comparison, ModelOffers, ShowOffers
from application.rankings import Rankings, Span
from application.shelf import (
    CAPABILITIES,
    NO_FILTER,
    TEXT_MAX,
    Entry,
    ModelFilter,
    Shelf,
    ShowModels,
    etag_of,
    part_of,
    ranked_by_text,
    read_price,
    read_words,
)
from domain.catalog import Model
from domain.errors import InvalidRequest
from entrypoints.http.guards import ANYONE
from entrypoints.http.rankings import TrendingView, shown_trending

ANTHROPIC_HEADER: Final = "anthropic-version"
ANTHROPIC_PAGE: Final = 20
ANTHROPIC_PAGE_MAX: Final = 1000
PAGE_MAX: Final = 1000
FOUND_MAX: Final = 100
TRENDING_MAX: Final = 100

AnyRequest = Request[Any, Any, Any]
ModelWord = Annotated[str, Meta(min_length=1, max_length=300)]


class ModelsView(Struct, frozen=True, kw_only=True):
    """OpenAI's list."""

    object: str = "list"
    data: Sequence[ModelRecord]
    next_cursor: str | None = None


class AnthropicModel(Struct, frozen=True, kw_only=True):
    type: str = "model"
    id: str
    display_name: str
    created_at: datetime
    max_input_tokens: int | None
    max_tokens: int | None
    lifecycle: str


class AnthropicModels(Struct, frozen=True, kw_only=True):
    """Anthropic's list."""

    data: Sequence[AnthropicModel]
    has_more: bool
    first_id: str | None
    last_id: str | None


class FoundModels(Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: Sequence[ModelRecord]
    total: int
    """How many fit; `data` has the best of them."""


class EndpointsView(Struct, frozen=True):
    data: ModelOffers


class ComparisonView(Struct, frozen=True):
    data: Comparison


class BatchBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model_ids: Annotated[tuple[ModelWord, ...], Meta(min_length=1, max_length=50)]


def model_filter(
    provider: FromQuery[str | None] = None,
    vendor: FromQuery[str | None] = None,
    author: FromQuery[str | None] = None,
    q: FromQuery[str | None] = None,
    input_modalities: FromQuery[str | None] = None,
    output_modalities: FromQuery[str | None] = None,
    supported_parameters: FromQuery[str | None] = None,
    capability: FromQuery[str | None] = None,
    free: FromQuery[bool | None] = None,
    max_price: FromQuery[str | None] = None,
    max_completion_price: FromQuery[str | None] = None,
    min_context: FromQuery[int | None] = None,
    max_context: FromQuery[int | None] = None,
) -> ModelFilter:
    """Words may be several with commas between them; prices are USD per million tokens, the markup included."""
    if q is not None and len(q) > TEXT_MAX:
        raise InvalidRequest(f"q must have at most {TEXT_MAX} characters.", param="q")
    return ModelFilter(
        text=(q or "").strip().lower(),
        author=author,
        vendor=provider or vendor,
        inputs=read_words(input_modalities, "input_modalities"),
        outputs=read_words(output_modalities, "output_modalities"),
        parameters=read_words(supported_parameters, "supported_parameters"),
        capabilities=read_words(capability, "capability", CAPABILITIES),
        free=free,
        prompt_max=read_price(max_price, "max_price"),
        completion_max=read_price(max_completion_price, "max_completion_price"),
        context_min=min_context,
        context_max=max_context,
    )


class ModelController(Controller):
    path = "/v1/models"
    tags = ("Catalogue",)
    guards = (ANYONE,)
    dependencies = {"wanted": Provide(model_filter, sync_to_thread=False)}  # noqa: RUF012 - the framework's own way

    @get(responses={200: ResponseSpec(ModelsView, description="The models, in order of id.")})
    async def list_models(
        self,
        request: AnyRequest,
        show_models: NamedDependency[ShowModels],
        wanted: NamedDependency[ModelFilter],
        limit: FromQuery[int | None] = None,
        cursor: FromQuery[str | None] = None,
        after_id: FromQuery[str | None] = None,
        before_id: FromQuery[str | None] = None,
    ) -> Response[bytes]:
        """Every model that can be asked for.

        All other parameters filter; `limit` and `cursor` page.  Without any of them the whole list comes, and with the
        header `anthropic-version` it comes in Anthropic's shape, whose pages are named by `after_id` and `before_id`.
        """
        shelf = show_models.shelf()
        if ANTHROPIC_HEADER in request.headers:
            return _answer(request, msgspec.json.encode(await _anthropic(shelf, wanted, limit, after_id, before_id)))
        if limit is None and cursor is None and wanted == NO_FILTER:
            return _answer(request, shelf.whole, shelf.etag)
        if limit is not None and not 1 <= limit <= PAGE_MAX:
            raise InvalidRequest(f"limit must be from 1 to {PAGE_MAX}.", param="limit")
        later = await shelf.fitting(wanted, shelf.after(cursor))
        page = later if limit is None else later[:limit]
        return _answer(request, part_of(shelf, page, page[-1].id if len(page) < len(later) else None))

    @get("/search", responses={200: ResponseSpec(FoundModels, description="The best fits first.")})
    async def search(
        self,
        request: AnyRequest,
        show_models: NamedDependency[ShowModels],
        rankings: NamedDependency[Rankings],
        wanted: NamedDependency[ModelFilter],
        limit: FromQuery[int] = 20,
    ) -> Response[bytes]:
        """Find models by a part of their id or name, `q`, and by everything that the list filters by.

        A name that is just `q` comes first, then names that begin so, and among those what is used most here.
        """
        if not 1 <= limit <= FOUND_MAX:
            raise InvalidRequest(f"limit must be from 1 to {FOUND_MAX}.", param="limit")
        shelf = show_models.shelf()
        found = await shelf.fitting(wanted)
        used = {ranked.name: ranked.sums.tokens for ranked in await rankings.models(Span.WEEK)}
        best = ranked_by_text(found, wanted.text, used)[:limit]
        rows = b",".join(map(shelf.written, best))
        return _answer(request, b'{"object":"list","data":[' + rows + b'],"total":%d}' % len(found))

    @get("/trending")
    async def trending(
        self,
        rankings: NamedDependency[Rankings],
        time_range: FromQuery[Span] = Span.DAY,
        sort_by: FromQuery[str] = "tokens",
        provider: FromQuery[str | None] = None,
        limit: FromQuery[int] = 10,
    ) -> TrendingView:
        """What is used most on this gateway, by `tokens` or by `requests`; counted every five minutes."""
        if not 1 <= limit <= TRENDING_MAX:
            raise InvalidRequest(f"limit must be from 1 to {TRENDING_MAX}.", param="limit")
        if sort_by not in {"tokens", "requests"}:
            raise InvalidRequest("sort_by must be tokens or requests.", param="sort_by")
        return shown_trending(await rankings.models(time_range), time_range, sort_by, provider, limit)

    @post("/batch-compare", status_code=200)
    async def batch_compare(
        self, data: JSONBody[BatchBody], show_offers: NamedDependency[ShowOffers]
    ) -> ComparedModels:
        """Several models side by side: price, context, and whether they can be had."""
        return show_offers.compared_models(data.model_ids)

    @get("/{name:path}", responses={200: ResponseSpec(ModelRecord, description="The model.")})
    async def show(
        self,
        request: AnyRequest,
        name: FromPath[str],
        list_models: NamedDependency[ListModels],
        show_offers: NamedDependency[ShowOffers],
        vendors: FromQuery[str | None] = None,
    ) -> Response[bytes]:
        """One model, by its id `author/slug`, by its slug alone where only one author has it, or by an alias.

        With `/endpoints` or `/compare` behind the id: its offers.
        """
        asked = name.lstrip("/")
        if asked not in list_models.catalog.current().models:
            # Ids may have any number of slashes, so that what stands behind one cannot be told by the framework.
            model, _, view = asked.rpartition("/")
            if model and view == "endpoints":
                return _endpoints(request, show_offers, model)
            if model and view == "compare":
                return _comparison(request, show_offers, model, vendors)
        found = list_models.catalog.current().find(asked)
        anthropic = ANTHROPIC_HEADER in request.headers
        return _answer(request, msgspec.json.encode(_as_anthropic(found) if anthropic else record(found)))

    @get(
        "/{author:str}/{slug:str}/endpoints",
        responses={200: ResponseSpec(EndpointsView, description="The model and its offers, the cheapest first.")},
    )
    async def endpoints(
        self, request: AnyRequest, author: FromPath[str], slug: FromPath[str], show_offers: NamedDependency[ShowOffers]
    ) -> Response[bytes]:
        """Who serves a model: price, limits, and how each does at the moment."""
        return _endpoints(request, show_offers, f"{author}/{slug}")

    @get(
        "/{author:str}/{slug:str}/compare",
        responses={200: ResponseSpec(ComparisonView, description="The offers and which of them is best in what.")},
    )
    async def compare(
        self,
        request: AnyRequest,
        author: FromPath[str],
        slug: FromPath[str],
        show_offers: NamedDependency[ShowOffers],
        vendors: FromQuery[str | None] = None,
    ) -> Response[bytes]:
        """A model's offers compared, all of them or those of some `vendors` with commas between them."""
        return _comparison(request, show_offers, f"{author}/{slug}", vendors)


def _endpoints(request: AnyRequest, show_offers: ShowOffers, name: str) -> Response[bytes]:
    return _answer(request, msgspec.json.encode(EndpointsView(show_offers(name))))


def _comparison(request: AnyRequest, show_offers: ShowOffers, name: str, vendors: str | None) -> Response[bytes]:
    compared = show_offers.compared(name, tuple(read_words(vendors, "vendors")))
    return _answer(request, msgspec.json.encode(ComparisonView(compared)))


async def _anthropic(
    shelf: Shelf, wanted: ModelFilter, limit: int | None, after_id: str | None, before_id: str | None
) -> AnthropicModels:
    size = ANTHROPIC_PAGE if limit is None else limit
    if not 1 <= size <= ANTHROPIC_PAGE_MAX:
        raise InvalidRequest(f"limit must be from 1 to {ANTHROPIC_PAGE_MAX}.", param="limit")
    fitting: Sequence[Entry] = await shelf.fitting(wanted)
    if before_id is not None:
        fitting = (
            [entry for entry in fitting if entry.id < before_id]
            if wanted != NO_FILTER
            else (fitting[: shelf.before(before_id)])
        )
        page = fitting[-size:]
    else:
        if after_id is not None:
            fitting = (
                [entry for entry in fitting if entry.id > after_id]
                if wanted != NO_FILTER
                else (fitting[shelf.after(after_id) :])
            )
        page = fitting[:size]
    return AnthropicModels(
        data=[_as_anthropic(entry.model) for entry in page],
        has_more=len(page) < len(fitting),
        first_id=page[0].id if page else None,
        last_id=page[-1].id if page else None,
    )


def _as_anthropic(model: Model) -> AnthropicModel:
    shown = record(model)
    return AnthropicModel(
        id=shown.id,
        display_name=shown.name,
        created_at=datetime.fromtimestamp(shown.created, UTC),
        max_input_tokens=shown.context_length,
        max_tokens=shown.top_provider.max_completion_tokens,
        lifecycle="deprecated" if shown.deprecated else "active",
    )


def _answer(request: AnyRequest, body: bytes, etag: str | None = None) -> Response[bytes]:
    """The body, or 304 for a client that has it already."""
    etag = etag or etag_of(body)
    headers = {"etag": etag, "cache-control": "public, max-age=60", "vary": ANTHROPIC_HEADER}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if etag in known or "*" in known:
        return Response(b"", status_code=304, headers=headers, media_type="application/json")
    return Response(body, headers=headers, media_type="application/json")
