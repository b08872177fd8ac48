"""The many vendors that speak OpenAI's dialect: each is a value, all share one adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec
from msgspec import Struct

from adapters.dialects.openai_chat.client import OpenAIChatStream, dropped_members, read_answer, write_request
from adapters.dialects.openai_chat.codec import OpenAIChatCodec
from adapters.dialects.openai_chat.errors import read_fault
from adapters.dialects.openai_chat.quirks import STANDARD, Quirks
from adapters.dialects.openai_completions.endpoint import CompletionsEndpoint
from adapters.dialects.openai_responses.endpoint import ResponsesEndpoint
from adapters.dialects.openai_tasks.endpoint import Credentials, TaskEndpoint
from adapters.dialects.openai_tasks.image_words import ImageWords
from adapters.dialects.openai_tasks.register import TASKS
from adapters.dialects.translation import Wire
from adapters.system.pace import Pace
from adapters.transport.http import ERROR_BYTES_MAX, Answer, VendorHttp
from adapters.vendors.listings import ModelsList, first_page, read_page
from domain.catalog import CANCEL_AND_BILL_PRODUCED, AbortPolicy, Dialect, Traits
from domain.errors import UnsupportedParameter
from domain.ids import VendorSlug
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.ports.vendors import LISTED, ChatAnswer, ChatStream, ChatVendor, ListedModel, Listing

LIST_TIMEOUT_S: Final = 30.0
LISTED_MAX: Final = 50_000
PAGES_MAX: Final = 200
SHOWN_HEADERS: Final = ("openai-processing-ms", "openai-version", "x-request-id")
"""Vendor headers that help callers and tell nothing of our account there."""
OLDER_LIMIT: Final[Mapping[str, str]] = MappingProxyType({"max_completion_tokens": "max_tokens"})
"""For vendors that would not see the limit under OpenAI's newer name, and write on."""

TAG_OPENED: Final = ("deepseek-r1", "qwq-32b", "-thinking")
"""Parts of the names of open models whose chat template opens the reasoning, so that only its end is written."""


def as_list(value: bytes) -> bytes:
    """A JSON string as a list of one; anything else as it is."""
    return b"[%b]" % value if value.startswith(b'"') else value


def required_as_any(value: bytes) -> bytes:
    """OpenAI's word for a tool that must be called in the word of vendors that call it `any`."""
    return b'"any"' if value == b'"required"' else value


class OpenAICompatible(Struct, frozen=True, kw_only=True):
    """All that sets one such vendor apart.  A vendor needing code gets its own adapter."""

    slug: str
    base_url: str
    docs: str = ""
    needs_key: bool = True
    """False for servers that people run themselves: their address alone switches them on."""
    key_names: tuple[str, ...] = ()
    """Variables that hold its key beside <VENDOR>_API_KEY, because people have them set already."""
    key_header: str = "Authorization"
    key_prefix: str = "Bearer "
    headers: Mapping[str, str] = {}
    """Sent with every request."""
    accepted_statuses: frozenset[int] = frozenset({200})
    output_limit_field: str = "max_completion_tokens"
    renamed_fields: Mapping[str, str] = {}
    """OpenAI's name for a request field -> the vendor's."""
    dropped_fields: frozenset[str] = frozenset()
    """Request fields that make the vendor answer 400; callers are told that they were dropped."""
    refused_fields: Mapping[str, str] = {}
    """Request fields without which the answer would be another one -> what to do instead."""
    rewritten_fields: Mapping[str, Callable[[bytes], bytes]] = {}
    """Request fields whose value, as JSON, the vendor wants in another form."""
    answers_max: int = 128
    """The most answers that it gives at once."""
    asks_for_usage: bool = True
    """It takes `stream_options.include_usage`; others send usage unasked, or refuse the field."""
    abort_policy: AbortPolicy = CANCEL_AND_BILL_PRODUCED
    endpoints: frozenset[Dialect] = frozenset()
    """What it serves beside chat, each at its usual path under the base URL."""
    paths: Mapping[Dialect, str] = {}
    """Where one of them is at another path."""
    images: Callable[[VendorSlug, str, Credentials, VendorHttp], ChatVendor] | None = None
    """What draws instead, where its images are an API of their own."""
    image_words: ImageWords | None = None
    """How it wants to be asked for images, where that is not as OpenAI's documentation says."""
    trains_on_data: bool | None = None
    """Whether it may keep what it is sent for training; None where its terms were not looked up."""
    listing: Listing = LISTED
    models: ModelsList = ModelsList()
    quirks: Quirks = STANDARD
    """How requests of another dialect are written for it, and its answers and refusals read."""

    @property
    def traits(self) -> Traits:
        return Traits(unsupported=self.dropped_fields | self.refused_fields.keys(), trains_on_data=self.trains_on_data)


class OpenAICompatibleVendor:
    """Chat and models of one vendor that speaks OpenAI's dialect."""

    def __init__(self, vendor: OpenAICompatible, base_url: str, api_key: str, http: VendorHttp) -> None:
        self.slug = VendorSlug(vendor.slug)
        self.abort_policy = vendor.abort_policy
        self.listing = vendor.listing
        self._vendor = vendor
        self._base = base = base_url.rstrip("/")
        self._chat_url = f"{base}/chat/completions"
        self._models_url = first_page(base, vendor.models)
        self._headers = {"Content-Type": "application/json", **vendor.headers}
        if api_key:
            self._headers[vendor.key_header] = f"{vendor.key_prefix}{api_key}"
        self._http = http

    @property
    def wire(self) -> Wire:
        """Itself with what it takes to speak to it in another dialect."""
        vendor = self._vendor
        quirks = msgspec.structs.replace(
            vendor.quirks, output_limit_field=vendor.output_limit_field, asks_for_usage=vendor.asks_for_usage
        )
        return Wire(self, Dialect.OPENAI_CHAT, OpenAIChatCodec(quirks))

    @property
    def endpoints(self) -> Mapping[Dialect, ChatVendor]:
        """What it serves beside chat, by the dialect of its callers."""
        return {dialect: self._endpoint(dialect) for dialect in self._vendor.endpoints}

    def _endpoint(self, dialect: Dialect) -> ChatVendor:
        vendor = self._vendor
        if dialect is Dialect.OPENAI_RESPONSES:
            return ResponsesEndpoint(self.slug, self._base, lambda: self._headers, self._http)
        path = vendor.paths.get(dialect)
        if dialect is Dialect.OPENAI_COMPLETIONS:
            return CompletionsEndpoint(
                self.slug,
                self._base,
                lambda: self._headers,
                self._http,
                path=path,
                asks_for_usage=vendor.asks_for_usage,
                quirks=vendor.quirks,
            )
        if dialect is Dialect.OPENAI_IMAGES and vendor.images is not None:
            return vendor.images(self.slug, self._base, lambda: self._headers, self._http)
        words = vendor.image_words if dialect is Dialect.OPENAI_IMAGES else None
        task = TASKS[dialect]
        return TaskEndpoint(self.slug, task, self._base, lambda: self._headers, self._http, path=path, words=words)

    async def complete(self, call: ChatCall) -> ChatAnswer:
        answer = await self._posted(call)
        try:
            return read_answer(await answer.read(), self._shown(answer, call), self._vendor.quirks)
        except VendorFault as fault:
            raise self._redacted(fault) from None
        finally:
            answer.close()

    async def stream(self, call: ChatCall) -> ChatStream:
        answer = await self._posted(call)
        if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            await self._refuse_plain(answer)
        return OpenAIChatStream(
            answer.chunks(),
            answer.close,
            self._shown(answer, call),
            shows_usage=call.request.wants_usage,
            quirks=self._vendor.quirks,
            redacted=self._http.redacted,
        )

    async def list_models(self) -> list[ListedModel]:
        found: dict[str, ListedModel] = {}
        url: str | None = self._models_url
        for _ in range(PAGES_MAX):
            if url is None or len(found) >= LISTED_MAX:
                break
            # A thousand rows take a tenth of a second, in which no request may stand still.
            page = await asyncio.to_thread(read_page, await self._listed(url), url, self._vendor.models, Pace())
            for model in page.models:
                # Rows of one model differ in how it is served; the first that has a price is the usual way.
                if model.vendor_model not in found or found[model.vendor_model].rates is None:
                    found[model.vendor_model] = model
            url = page.next
        return list(found.values())[:LISTED_MAX]

    async def _listed(self, url: str) -> bytes:
        answer = await self._http.get(url, self._headers, LIST_TIMEOUT_S)
        try:
            body = await answer.read()
            if answer.status != 200:
                raise self._fault(answer.status, answer.headers, body[:ERROR_BYTES_MAX])
            return body
        finally:
            answer.close()

    async def aclose(self) -> None:
        await self._http.close()

    async def _posted(self, call: ChatCall) -> Answer:
        vendor = self._vendor
        self._refuse(call)
        body = write_request(
            call,
            output_limit_field=vendor.output_limit_field,
            renamed=vendor.renamed_fields,
            dropped=vendor.dropped_fields,
            rewritten=vendor.rewritten_fields,
            asks_for_usage=vendor.asks_for_usage,
        )
        answer = await self._http.post(self._chat_url, self._headers, body, call.first_byte_s)
        if answer.status in vendor.accepted_statuses:
            return answer
        try:
            refusal = await answer.read(ERROR_BYTES_MAX)
        except VendorFault:
            refusal = b""
        finally:
            answer.close()
        raise self._fault(answer.status, answer.headers, refusal)

    def _refuse(self, call: ChatCall) -> None:
        """What would make another answer if it were dropped.  Raises UnsupportedParameter."""
        vendor, request = self._vendor, call.request
        if request.answers > vendor.answers_max:
            raise UnsupportedParameter(
                f"The vendor {self.slug} gives at most {vendor.answers_max} answers at a time; lower 'n'.", param="n"
            )
        if not vendor.refused_fields:
            return
        for name in dropped_members(call, frozenset(vendor.refused_fields)):
            raise UnsupportedParameter(
                f"The vendor {self.slug} does not take '{name}'; {vendor.refused_fields[name]}", param=name
            )

    async def _refuse_plain(self, answer: Answer) -> None:
        """A stream was asked for and something else came: an error with status 200, a page, a whole answer."""
        try:
            body = await answer.read(ERROR_BYTES_MAX)
        finally:
            answer.close()
        fault = self._fault(None, answer.headers, body)
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

    def _fault(self, status: int | None, headers: Mapping[str, str], body: bytes) -> VendorFault:
        quirks = self._vendor.quirks
        return self._redacted(read_fault(status, headers, body, quirks.fault_words, quirks.extension))

    def _redacted(self, fault: VendorFault) -> VendorFault:
        fault.message = self._http.redacted(fault.message)
        return fault
