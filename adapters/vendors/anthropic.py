"""Vendors that speak Anthropic's Messages: Anthropic itself, and any further server that imitates it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import msgspec
from msgspec import Struct

from adapters.dialects.anthropic.client import (
    VERSION,
    AnthropicStream,
    read_answer,
    write_count_request,
    write_request,
)
from adapters.dialects.anthropic.codec import AnthropicCodec
from adapters.dialects.anthropic.errors import read_fault
from adapters.dialects.translation import Wire
from adapters.transport.http import ERROR_BYTES_MAX, Answer, VendorHttp
from domain.catalog import CANCEL_AND_BILL_PRODUCED, AbortPolicy, Capability, Dialect, Traits
from domain.ids import VendorSlug
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.ports.vendors import LISTED, ChatAnswer, ChatStream, ListedModel, Listing

LIST_TIMEOUT_S: Final = 30.0
COUNT_TIMEOUT_S: Final = 10.0
PAGE: Final = 1_000
PAGES_MAX: Final = 50
SHOWN_HEADERS: Final = ("request-id",)
"""Vendor headers that help callers and tell nothing of our account there."""
UNSUPPORTED: Final = frozenset(
    {"seed", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs", "verbosity"}
)
"""Parameters of other dialects that this one has no word for."""
PASSED_HEADERS: Final = ("anthropic-version", "anthropic-beta")


class AnthropicSpeaking(Struct, frozen=True, kw_only=True):
    """All that sets one such vendor apart."""

    slug: str
    base_url: str
    """With or without /v1 at its end."""
    docs: str = ""
    headers: Mapping[str, str] = {}
    bearer: bool = False
    """It reads the key from `Authorization` too; servers that imitate the dialect differ in this."""
    abort_policy: AbortPolicy = CANCEL_AND_BILL_PRODUCED
    listing: Listing = LISTED

    @property
    def traits(self) -> Traits:
        return Traits(unsupported=UNSUPPORTED)


ANTHROPIC: Final = AnthropicSpeaking(
    slug="anthropic",
    base_url="https://api.anthropic.com",
    docs="https://platform.claude.com/docs/en/api/messages",
)


class AnthropicVendor:
    """Chat, token counts and models of one vendor that speaks Anthropic's dialect."""

    def __init__(self, vendor: AnthropicSpeaking, base_url: str, api_key: str, http: VendorHttp) -> None:
        self.slug = VendorSlug(vendor.slug)
        self.abort_policy = vendor.abort_policy
        self.listing = vendor.listing
        base = base_url.rstrip("/")
        base = base if base.endswith("/v1") else f"{base}/v1"
        self._messages_url = f"{base}/messages"
        self._count_url = f"{base}/messages/count_tokens"
        self._models_url = f"{base}/models"
        self._headers = {"Content-Type": "application/json", "anthropic-version": VERSION, **vendor.headers}
        if api_key:
            self._headers["x-api-key"] = api_key
            if vendor.bearer:
                self._headers["Authorization"] = f"Bearer {api_key}"
        self._http = http

    @property
    def wire(self) -> Wire:
        """Itself with what it takes to speak to it in another dialect."""
        return Wire(self, Dialect.ANTHROPIC, AnthropicCodec())

    async def complete(self, call: ChatCall) -> ChatAnswer:
        answer = await self._posted(self._messages_url, call, write_request(call), call.first_byte_s)
        try:
            return read_answer(await answer.read(), _shown(answer))
        except VendorFault as fault:
            raise self._redacted(fault) from None
        finally:
            answer.close()

    async def stream(self, call: ChatCall) -> ChatStream:
        answer = await self._posted(self._messages_url, call, write_request(call), call.first_byte_s)
        if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            await self._refuse_plain(answer)
        return AnthropicStream(answer.chunks(), answer.close, _shown(answer))

    async def count_input(self, call: ChatCall) -> int:
        timeout_s = min(call.first_byte_s, COUNT_TIMEOUT_S)
        answer = await self._posted(self._count_url, call, write_count_request(call), timeout_s)
        try:
            body = await answer.read(ERROR_BYTES_MAX)
            return msgspec.json.decode(body, type=_Counted).input_tokens
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise VendorFault(FaultKind.MALFORMED, "its token count cannot be read") from None
        finally:
            answer.close()

    async def list_models(self) -> list[ListedModel]:
        found: list[ListedModel] = []
        after = ""
        for _ in range(PAGES_MAX):
            page = await self._page(after)
            found += [_listed(row) for row in page.data if row.id and row.lifecycle != "retired"]
            last = page.last_id or (page.data[-1].id if page.data else "")
            if not page.has_more or not last or last == after:
                break
            after = last
        return found

    async def aclose(self) -> None:
        await self._http.close()

    async def _page(self, after: str) -> _Page:
        url = f"{self._models_url}?limit={PAGE}" + (f"&after_id={quote(after, safe='')}" if after else "")
        answer = await self._http.get(url, self._headers, LIST_TIMEOUT_S)
        try:
            body = await answer.read()
            if answer.status != 200:
                raise self._redacted(read_fault(answer.status, answer.headers, body[:ERROR_BYTES_MAX]))
            return msgspec.json.decode(body, type=_Page)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            raise VendorFault(FaultKind.MALFORMED, "its models list cannot be read") from None
        finally:
            answer.close()

    async def _posted(self, url: str, call: ChatCall, body: bytes, first_byte_s: float) -> Answer:
        headers = self._headers
        if theirs := {name: call.request.headers[name] for name in PASSED_HEADERS if name in call.request.headers}:
            headers = {**headers, **theirs}
        answer = await self._http.post(url, headers, body, first_byte_s)
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

    def _redacted(self, fault: VendorFault) -> VendorFault:
        fault.message = self._http.redacted(fault.message)
        return fault


def _shown(answer: Answer) -> dict[str, str]:
    return {f"x-gatewayz-vendor-{name}": answer.headers[name] for name in SHOWN_HEADERS if name in answer.headers}


class _Counted(Struct):
    input_tokens: int


class _Row(Struct):
    """A models list's row; what imitations leave out or write otherwise counts as unknown."""

    id: str = ""
    display_name: Any = None
    created_at: Any = None
    max_input_tokens: Any = None
    max_tokens: Any = None
    lifecycle: Any = None
    retires_at: Any = None
    capabilities: Any = None


class _Page(Struct):
    data: list[_Row] = []
    has_more: bool = False
    last_id: str | None = None


_CAPABILITIES: Final[Mapping[str, Capability]] = {
    "image_input": Capability.IMAGES_IN,
    "pdf_input": Capability.FILES_IN,
    "structured_outputs": Capability.JSON_SCHEMA,
    "thinking": Capability.REASONING,
}


def _listed(row: _Row) -> ListedModel:
    return ListedModel(
        vendor_model=row.id,
        name=row.display_name if isinstance(row.display_name, str) else "",
        context_length=_count(row.max_input_tokens),
        output_max=_count(row.max_tokens),
        created_s=_moment(row.created_at),
        capabilities=_capabilities(row.capabilities),
        retires_s=_moment(row.retires_at),
    )


def _capabilities(told: Any) -> frozenset[Capability] | None:
    """What the list says; every model of this dialect streams and calls tools."""
    if not isinstance(told, dict):
        return None
    can = {
        capability
        for name, capability in _CAPABILITIES.items()
        if isinstance(told.get(name), dict) and told[name].get("supported") is True
    }
    return frozenset({Capability.STREAM, Capability.TOOLS, *can})


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _moment(value: object) -> int | None:
    """An RFC 3339 time in Unix seconds."""
    try:
        seconds = int(datetime.fromisoformat(value).timestamp()) if isinstance(value, str) else 0
    except (ValueError, OverflowError):
        return None
    return seconds or None
