"""/modelz: the tokens of the Modelz directory, which sells no inference; empty, and saying so, where it is off."""

from __future__ import annotations

from typing import Final

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromPath
from msgspec import Struct

from application.catalog import ListModels
from domain.catalog import Model
from domain.ids import VendorSlug
from entrypoints.http.guards import ANYONE

DIRECTORY: Final = VendorSlug("modelz")
OFF: Final = "modelz is off"


class TokenView(Struct, frozen=True, kw_only=True):
    model_id: str
    name: str
    description: str


class TokensView(Struct, frozen=True, kw_only=True):
    data: tuple[TokenView, ...]
    count: int
    enabled: bool
    note: str | None
    """Why there is nothing."""


class TokenIdsView(Struct, frozen=True, kw_only=True):
    data: tuple[str, ...]
    count: int
    enabled: bool
    note: str | None


class TokenCheckView(Struct, frozen=True, kw_only=True):
    model_id: str
    exists: bool
    enabled: bool
    note: str | None


class ModelzController(Controller):
    path = "/modelz"
    tags = ("Catalogue",)
    guards = (ANYONE,)

    @get("/models")
    async def models(self, list_models: NamedDependency[ListModels]) -> TokensView:
        """The directory's tokens."""
        tokens, enabled = _tokens(list_models)
        rows = tuple(
            TokenView(model_id=token, name=model.name, description=model.description) for token, model in tokens.items()
        )
        return TokensView(data=rows, count=len(rows), enabled=enabled, note=None if enabled else OFF)

    @get("/ids")
    async def ids(self, list_models: NamedDependency[ListModels]) -> TokenIdsView:
        """Their ids alone."""
        tokens, enabled = _tokens(list_models)
        return TokenIdsView(data=tuple(tokens), count=len(tokens), enabled=enabled, note=None if enabled else OFF)

    @get("/check/{model_id:path}")
    async def check(self, model_id: FromPath[str], list_models: NamedDependency[ListModels]) -> TokenCheckView:
        """Whether the directory has a token."""
        asked = model_id.lstrip("/")
        tokens, enabled = _tokens(list_models)
        return TokenCheckView(model_id=asked, exists=asked in tokens, enabled=enabled, note=None if enabled else OFF)


def _tokens(list_models: ListModels) -> tuple[dict[str, Model], bool]:
    """What the directory lists, by its own ids, and whether it is on."""
    catalog = list_models.catalog.current()
    if DIRECTORY not in catalog.vendors or DIRECTORY in catalog.off:
        return {}, False
    tokens = {
        offer.vendor_model: model
        for model in catalog.models.values()
        for offer in model.offers
        if offer.vendor == DIRECTORY
    }
    return tokens, True
