"""Modelz: a directory of tokens, which sells no inference; off until the operator switches it on.

Nothing of it is ever listed as a model that can be asked for, because nothing of it has a price; the routes under
/modelz show it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from adapters.transport.http import VendorHttp
from domain.catalog import CANCEL_AND_BILL_PRODUCED, AbortPolicy
from domain.ids import VendorSlug
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.ports.vendors import ChatAnswer, ChatStream, ListedModel, Listing

SLUG: Final = "modelz"
BASE_URL: Final = "https://backend.alpacanetwork.ai/api"
LIST_TIMEOUT_S: Final = 30.0
TOKENS_MAX: Final = 50_000


class ModelzDirectory:
    """The port `ModelLister`, and `ChatVendor` for whoever prices a token all the same: it answers nothing."""

    slug = VendorSlug(SLUG)
    abort_policy: AbortPolicy = CANCEL_AND_BILL_PRODUCED
    listing = Listing(on=False)

    def __init__(self, base_url: str, http: VendorHttp) -> None:
        self._url = f"{(base_url or BASE_URL).rstrip('/')}/tokens"
        self._http = http

    async def complete(self, _call: ChatCall) -> ChatAnswer:
        raise VendorFault(FaultKind.MODEL_MISSING, "it is a directory and serves no models")

    async def stream(self, _call: ChatCall) -> ChatStream:
        raise VendorFault(FaultKind.MODEL_MISSING, "it is a directory and serves no models")

    async def list_models(self) -> list[ListedModel]:
        """Its tokens, by their ids.  Raises VendorFault."""
        answer = await self._http.get(self._url, {"Accept": "application/json"}, LIST_TIMEOUT_S)
        try:
            body = await answer.read()
        finally:
            answer.close()
        if answer.status != 200:
            raise VendorFault(FaultKind.SERVER_ERROR, f"it answered with status {answer.status}", status=answer.status)
        return [
            ListedModel(vendor_model=token, name=token, description=_described(row))
            for row in _rows(body)[:TOKENS_MAX]
            if isinstance(row, dict) and isinstance(token := row.get("Token"), str) and token
        ]


def _rows(body: bytes) -> list[Any]:
    """A bare array, or one under `data` or `tokens`."""
    try:
        told: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise VendorFault(FaultKind.MALFORMED, "its list cannot be read") from None
    if isinstance(told, dict):
        told = told.get("data") or told.get("tokens") or []
    if not isinstance(told, list):
        raise VendorFault(FaultKind.MALFORMED, "its list cannot be read")
    return told


def _described(row: dict[str, Any]) -> str:
    site = row.get("website")
    graduated = "Graduated" if row.get("isGraduated") is True else "Not graduated"
    return f"{graduated}; {site}" if isinstance(site, str) and site else graduated
