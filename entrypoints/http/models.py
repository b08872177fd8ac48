"""/v1/models: what can be asked for, as OpenAI's list, or as Anthropic's for clients that name its version."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, FromQuery
from msgspec import Struct

from application.catalog import ListModels, ModelRecord
from domain.errors import InvalidRequest
from entrypoints.http.guards import ANYONE

ANTHROPIC_HEADER: Final = "anthropic-version"
ANTHROPIC_PAGE: Final = 20
ANTHROPIC_PAGE_MAX: Final = 1000
PAGE_MAX: Final = 1000

AnyRequest = Request[Any, Any, Any]


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
    lifecycle: str = "active"


class AnthropicModels(Struct, frozen=True, kw_only=True):
    """Anthropic's list."""

    data: Sequence[AnthropicModel]
    has_more: bool
    first_id: str | None
    last_id: str | None


class _WholeList:
    """The whole list as bytes, made anew only when the catalogue is another one."""

    def __init__(self) -> None:
        self._made: tuple[Sequence[ModelRecord], bytes] | None = None

    def encoded(self, records: Sequence[ModelRecord]) -> bytes:
        if self._made is None or self._made[0] is not records:
            self._made = (records, msgspec.json.encode(ModelsView(data=records)))
        return self._made[1]


class ModelController(Controller):
    path = "/v1/models"
    tags = ("Catalogue",)
    guards = (ANYONE,)
    whole_list = _WholeList()

    @get(responses={200: ResponseSpec(ModelsView, description="The models, in order of id.")})
    async def list_models(
        self,
        request: AnyRequest,
        list_models: NamedDependency[ListModels],
        provider: FromQuery[str | None] = None,
        q: FromQuery[str | None] = None,
        limit: FromQuery[int | None] = None,
        cursor: FromQuery[str | None] = None,
        after_id: FromQuery[str | None] = None,
        before_id: FromQuery[str | None] = None,
    ) -> Response[bytes]:
        """Every model that can be asked for; `provider` and `q` filter, `limit` and `cursor` page."""
        records = await list_models()
        filtered = provider is not None or q is not None
        fitting = _fitting(records, list_models, provider, q) if filtered else records
        if ANTHROPIC_HEADER in request.headers:
            return _answer(request, msgspec.json.encode(_anthropic_page(fitting, limit, after_id, before_id)))
        if limit is None and cursor is None and fitting is records:
            return _answer(request, self.whole_list.encoded(records))
        return _answer(request, msgspec.json.encode(_page(fitting, limit, cursor)))

    @get("/{name:path}", responses={200: ResponseSpec(ModelRecord, description="The model.")})
    async def show(
        self, request: AnyRequest, name: FromPath[str], list_models: NamedDependency[ListModels]
    ) -> Response[bytes]:
        """One model, by its id `author/slug`."""
        record = list_models.one(name.lstrip("/"))
        shown = _as_anthropic(record) if ANTHROPIC_HEADER in request.headers else record
        return _answer(request, msgspec.json.encode(shown))


def _fitting(
    records: Sequence[ModelRecord], list_models: ListModels, provider: str | None, text: str | None
) -> list[ModelRecord]:
    models, word = list_models.catalog.current().models, (text or "").lower()
    return [
        record
        for record in records
        if (word in record.id.lower() or word in record.name.lower())
        and (
            provider is None
            or (record.id in models and any(offer.vendor == provider for offer in models[record.id].priced))
        )
    ]


def _page(records: Sequence[ModelRecord], limit: int | None, cursor: str | None) -> ModelsView:
    if limit is not None and not 1 <= limit <= PAGE_MAX:
        raise InvalidRequest(f"limit must be from 1 to {PAGE_MAX}.", param="limit")
    later = [record for record in records if cursor is None or record.id > cursor]
    page = later if limit is None else later[:limit]
    return ModelsView(data=page, next_cursor=page[-1].id if len(page) < len(later) else None)


def _anthropic_page(
    records: Sequence[ModelRecord], limit: int | None, after_id: str | None, before_id: str | None
) -> AnthropicModels:
    size = ANTHROPIC_PAGE if limit is None else limit
    if not 1 <= size <= ANTHROPIC_PAGE_MAX:
        raise InvalidRequest(f"limit must be from 1 to {ANTHROPIC_PAGE_MAX}.", param="limit")
    if before_id is not None:
        fitting = [record for record in records if record.id < before_id]
        page = fitting[-size:]
    else:
        fitting = [record for record in records if after_id is None or record.id > after_id]
        page = fitting[:size]
    return AnthropicModels(
        data=[_as_anthropic(record) for record in page],
        has_more=len(page) < len(fitting),
        first_id=page[0].id if page else None,
        last_id=page[-1].id if page else None,
    )


def _as_anthropic(record: ModelRecord) -> AnthropicModel:
    return AnthropicModel(
        id=record.id,
        display_name=record.name,
        created_at=datetime.fromtimestamp(record.created, UTC),
        max_input_tokens=record.context_length,
        max_tokens=record.top_provider.max_completion_tokens,
    )


def _answer(request: AnyRequest, body: bytes) -> Response[bytes]:
    """The body, or 304 for a client that has it already."""
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"etag": etag, "cache-control": "public, max-age=60", "vary": ANTHROPIC_HEADER}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if etag in known or "*" in known:
        return Response(b"", status_code=304, headers=headers, media_type="application/json")
    return Response(body, headers=headers, media_type="application/json")
