"""The many vendors that speak OpenAI's dialect: each is a value, all share one adapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from adapters.dialects.openai_chat.client import OpenAIChatStream, dropped_members, read_answer, write_request
from adapters.dialects.openai_chat.errors import read_fault
from adapters.transport.http import ERROR_BYTES_MAX, Answer, VendorHttp
from domain.catalog import CANCEL_AND_BILL_PRODUCED, AbortPolicy
from domain.ids import VendorSlug
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.ports.vendors import ChatAnswer, ChatStream, ListedModel

LIST_TIMEOUT_S: Final = 30.0
LISTED_MAX: Final = 50_000
SHOWN_HEADERS: Final = ("openai-processing-ms", "openai-version", "x-request-id")
"""Vendor headers that help callers and tell nothing of our account there."""


class OpenAICompatible(Struct, frozen=True, kw_only=True):
    """All that sets one such vendor apart.  A vendor needing code gets its own adapter."""

    slug: str
    base_url: str
    docs: str = ""
    output_limit_field: str = "max_completion_tokens"
    renamed_fields: Mapping[str, str] = {}
    """OpenAI's name for a request field -> the vendor's."""
    dropped_fields: frozenset[str] = frozenset()
    """Request fields that make the vendor answer 400; callers are told that they were dropped."""
    asks_for_usage: bool = True
    """It takes `stream_options.include_usage`; others send usage unasked, or refuse the field."""
    abort_policy: AbortPolicy = CANCEL_AND_BILL_PRODUCED


class OpenAICompatibleVendor:
    """Chat and models of one vendor that speaks OpenAI's dialect."""

    def __init__(self, vendor: OpenAICompatible, base_url: str, api_key: str, http: VendorHttp) -> None:
        self.slug = VendorSlug(vendor.slug)
        self.abort_policy = vendor.abort_policy
        self._vendor = vendor
        base = base_url.rstrip("/")
        self._chat_url = f"{base}/chat/completions"
        self._models_url = f"{base}/models"
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._http = http

    async def complete(self, call: ChatCall) -> ChatAnswer:
        answer = await self._posted(call)
        try:
            return read_answer(await answer.read(), self._shown(answer, call))
        except VendorFault as fault:
            raise self._redacted(fault) from None
        finally:
            answer.close()

    async def stream(self, call: ChatCall) -> ChatStream:
        answer = await self._posted(call)
        if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            await self._refuse_plain(answer)
        return OpenAIChatStream(
            answer.chunks(), answer.close, self._shown(answer, call), shows_usage=call.request.wants_usage
        )

    async def list_models(self) -> list[ListedModel]:
        answer = await self._http.get(self._models_url, self._headers, LIST_TIMEOUT_S)
        try:
            body = await answer.read()
            if answer.status != 200:
                raise self._redacted(read_fault(answer.status, answer.headers, body[:ERROR_BYTES_MAX]))
            return _listed(body)
        finally:
            answer.close()

    async def aclose(self) -> None:
        await self._http.close()

    async def _posted(self, call: ChatCall) -> Answer:
        vendor = self._vendor
        body = write_request(
            call,
            output_limit_field=vendor.output_limit_field,
            renamed=vendor.renamed_fields,
            dropped=vendor.dropped_fields,
            asks_for_usage=vendor.asks_for_usage,
        )
        answer = await self._http.post(self._chat_url, self._headers, body, call.first_byte_s)
        if answer.status == 200:
            return answer
        try:
            refusal = await answer.read(ERROR_BYTES_MAX)
        except VendorFault:
            refusal = b""
        finally:
            answer.close()
        raise self._redacted(read_fault(answer.status, answer.headers, refusal))

    async def _refuse_plain(self, answer: Answer) -> None:
        """A stream was asked for and something else came: an error with status 200, a page, a whole answer."""
        try:
            body = await answer.read(ERROR_BYTES_MAX)
        finally:
            answer.close()
        fault = read_fault(None, answer.headers, body)
        if not fault.message:
            fault = VendorFault(FaultKind.MALFORMED, "it did not answer with a stream")
        raise self._redacted(fault)

    def _shown(self, answer: Answer, call: ChatCall) -> dict[str, str]:
        """The headers that a caller gets: some of the vendor's, and what the vendor was not sent."""
        theirs = answer.headers
        shown = {
            f"x-gatewayz-vendor-{name.removeprefix('x-')}": theirs[name] for name in SHOWN_HEADERS if name in theirs
        }
        if dropped := dropped_members(call, self._vendor.dropped_fields):
            shown["x-gatewayz-dropped-params"] = ", ".join(dropped)
        return shown

    def _redacted(self, fault: VendorFault) -> VendorFault:
        fault.message = self._http.redacted(fault.message)
        return fault


class _Row(Struct):
    id: str
    name: Any = None
    created: Any = None
    context_length: Any = None
    context_window: Any = None
    max_model_len: Any = None


class _List(Struct):
    data: list[_Row] = []


def _listed(body: bytes) -> list[ListedModel]:
    """A models list, in OpenAI's shape or as a bare array."""
    try:
        rows = (
            msgspec.json.decode(body, type=list[_Row])
            if body.lstrip().startswith(b"[")
            else msgspec.json.decode(body, type=_List).data
        )
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise VendorFault(FaultKind.MALFORMED, "its models list cannot be read") from None
    return [
        ListedModel(
            vendor_model=row.id,
            name=row.name if isinstance(row.name, str) else "",
            context_length=_count(row.context_length) or _count(row.context_window) or _count(row.max_model_len),
            created_s=_count(row.created),
        )
        for row in rows[:LISTED_MAX]
        if row.id
    ]


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
