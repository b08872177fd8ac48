"""Gemini, at Google's own address and at servers that imitate it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec
from msgspec import Struct

from adapters.dialects.gemini.client import GeminiStream, read_answer, write_request
from adapters.dialects.gemini.codec import GeminiCodec
from adapters.dialects.gemini.errors import read_fault
from adapters.dialects.gemini.images import read_answer as read_pictures
from adapters.dialects.gemini.images import write_request as write_picture_request
from adapters.dialects.gemini.models import ThinkingStyle, rules_of
from adapters.dialects.openai_tasks.endpoint import TaskEndpoint
from adapters.dialects.openai_tasks.register import TASKS
from adapters.dialects.translation import DROPPED_HEADER, Wire
from adapters.transport.google_auth import ApiKey, Credentials
from adapters.transport.http import ERROR_BYTES_MAX, Answer, VendorHttp
from domain.catalog import CANCEL_AND_BILL_PRODUCED, AbortPolicy, Capability, Dialect
from domain.errors import UnsupportedParameter
from domain.ids import VendorSlug
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.ports.vendors import LISTED, ChatAnswer, ChatStream, ChatVendor, ListedModel, Listing

LIST_TIMEOUT_S: Final = 30.0
PAGE: Final = 1_000
PAGES_MAX: Final = 50
_JSON: Final = {"Content-Type": "application/json"}
_UNAUTHENTICATED: Final = 401

Address = Callable[[str, str], str]
"""The address of a model's method: the vendor's id of the model, and the method with its query."""


class GeminiSpeaking(Struct, frozen=True, kw_only=True):
    """All that sets one such vendor apart."""

    slug: str
    base_url: str
    """With the version of the API at its end."""
    docs: str = ""
    key_names: tuple[str, ...] = ()
    """Variables that hold its key beside <VENDOR>_API_KEY, because people have them set already."""
    embeds: bool = False
    """It serves embeddings in OpenAI's words, under /openai."""
    abort_policy: AbortPolicy = CANCEL_AND_BILL_PRODUCED
    listing: Listing = LISTED


GEMINI: Final = GeminiSpeaking(
    slug="gemini",
    base_url="https://generativelanguage.googleapis.com/v1beta",
    docs="https://ai.google.dev/api/generate-content",
    key_names=("GOOGLE_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY"),
    embeds=True,
)


class GoogleDoor:
    """Requests to one of Google's servers, with the credentials that open it."""

    def __init__(self, http: VendorHttp, credentials: Credentials) -> None:
        self._http = http
        self._credentials = credentials

    async def posted(
        self, url: str, body: bytes, first_byte_s: float, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """An answer of status 200.  Raises VendorFault for any other."""
        return await self._opened(
            lambda own: self._http.post(url, {**_JSON, **(headers or {}), **own}, body, first_byte_s)
        )

    async def got(self, url: str) -> bytes:
        answer = await self._opened(lambda own: self._http.get(url, own, LIST_TIMEOUT_S))
        try:
            return await answer.read()
        finally:
            answer.close()

    async def _opened(self, ask: Callable[[Mapping[str, str]], Any]) -> Answer:
        own = await self._credentials.headers()
        answer: Answer = await ask(own)
        if answer.status == _UNAUTHENTICATED:
            # A token may have been withdrawn before its end; a fresh one is tried once.
            fresh = await self._renewed(own, answer)
            if fresh is not None:
                answer = await ask(fresh)
        if answer.status == 200:
            return answer
        try:
            refusal = await answer.read(ERROR_BYTES_MAX)
        except VendorFault:
            refusal = b""
        finally:
            answer.close()
        raise self.redacted(read_fault(answer.status, answer.headers, refusal))

    async def _renewed(self, own: Mapping[str, str], answer: Answer) -> Mapping[str, str] | None:
        try:
            fresh = await self._credentials.renewed(own)
        except BaseException:
            answer.close()
            raise
        if fresh is not None:
            answer.close()
        return fresh

    async def refused_plain(self, answer: Answer) -> VendorFault:
        """A stream was asked for and something else came: an error with status 200, a page, a whole answer."""
        try:
            body = await answer.read(ERROR_BYTES_MAX)
        finally:
            answer.close()
        fault = read_fault(None, answer.headers, body)
        return (
            self.redacted(fault)
            if fault.message
            else VendorFault(FaultKind.MALFORMED, "it did not answer with a stream")
        )

    def redacted(self, fault: VendorFault) -> VendorFault:
        fault.message = self._http.redacted(fault.message)
        return fault


class GeminiEndpoint:
    """The port `ChatVendor` for requests in Gemini's own words."""

    def __init__(self, slug: VendorSlug, address: Address, door: GoogleDoor) -> None:
        self.slug = slug
        self._address = address
        self._door = door

    @property
    def wire(self) -> Wire:
        """Itself with what it takes to speak to it in another dialect."""
        return Wire(self, Dialect.GEMINI, GeminiCodec())

    async def complete(self, call: ChatCall) -> ChatAnswer:
        url = self._address(call.vendor_model, "generateContent")
        answer = await self._door.posted(url, write_request(call), call.first_byte_s)
        try:
            return read_answer(await answer.read(), {})
        except VendorFault as fault:
            raise self._door.redacted(fault) from None
        finally:
            answer.close()

    async def stream(self, call: ChatCall) -> ChatStream:
        url = self._address(call.vendor_model, "streamGenerateContent?alt=sse")
        answer = await self._door.posted(url, write_request(call), call.first_byte_s)
        if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            raise await self._door.refused_plain(answer)
        return GeminiStream(answer.chunks(), answer.close, {})


class GeminiPictures:
    """The port `ChatVendor` for OpenAI's requests for pictures, answered by models that draw in a conversation."""

    def __init__(self, slug: VendorSlug, dialect: Dialect, address: Address, door: GoogleDoor) -> None:
        self.slug = slug
        self._dialect = dialect
        self._address = address
        self._door = door

    async def complete(self, call: ChatCall) -> ChatAnswer:
        if not rules_of(call.vendor_model).draws:
            raise VendorFault(FaultKind.MODEL_MISSING, "this model draws no pictures")
        written = write_picture_request(call)
        url = self._address(call.vendor_model, "generateContent")
        answer = await self._door.posted(url, written.body, call.first_byte_s)
        try:
            body, usage, finish = read_pictures(await answer.read(), call)
        except VendorFault as fault:
            raise self._door.redacted(fault) from None
        finally:
            answer.close()
        return ChatAnswer(
            dialect=self._dialect,
            body=body,
            usage=usage,
            # Where nothing tells what was used, the most that it could use is charged: 1 stands for "something".
            produced_tokens=1,
            finish_reason=finish,
            headers={DROPPED_HEADER: ", ".join(written.dropped)} if written.dropped else {},
        )

    async def stream(self, call: ChatCall) -> ChatStream:
        raise UnsupportedParameter("This model sends a picture whole; leave 'stream' out.", param="stream")


PICTURES: Final = (Dialect.OPENAI_IMAGES, Dialect.OPENAI_IMAGE_EDITS)


class GeminiVendor(GeminiEndpoint):
    """Chat, pictures, embeddings and models of one vendor that speaks Gemini's dialect, opened by a key."""

    def __init__(self, vendor: GeminiSpeaking, base_url: str, api_key: str, http: VendorHttp) -> None:
        self._base = base_url.rstrip("/")
        super().__init__(VendorSlug(vendor.slug), self._method, GoogleDoor(http, ApiKey(api_key)))
        self.abort_policy = vendor.abort_policy
        self.listing = vendor.listing
        self._vendor = vendor
        self._api_key = api_key
        self._http = http

    @property
    def endpoints(self) -> Mapping[Dialect, ChatVendor]:
        """What it serves beside chat, by the dialect of its callers."""
        found: dict[Dialect, ChatVendor] = {
            dialect: GeminiPictures(self.slug, dialect, self._method, self._door) for dialect in PICTURES
        }
        if self._vendor.embeds:
            bearer = {"Authorization": f"Bearer {self._api_key}"}
            task = TASKS[Dialect.OPENAI_EMBEDDINGS]
            found[task.dialect] = TaskEndpoint(self.slug, task, f"{self._base}/openai", lambda: bearer, self._http)
        return found

    async def list_models(self) -> list[ListedModel]:
        found: list[ListedModel] = []
        after = ""
        for _ in range(PAGES_MAX):
            page = await self._page(after)
            found += [_listed(row) for row in page.models if _is_served(row)]
            if not page.next_page_token or page.next_page_token == after:
                break
            after = page.next_page_token
        return found

    async def aclose(self) -> None:
        await self._http.close()

    def _method(self, vendor_model: str, method: str) -> str:
        name = quote(vendor_model.removeprefix("models/"), safe="")
        return f"{self._base}/models/{name}:{method}"

    async def _page(self, after: str) -> _Page:
        token = f"&pageToken={quote(after, safe='')}" if after else ""
        body = await self._door.got(f"{self._base}/models?pageSize={PAGE}{token}")
        try:
            return msgspec.json.decode(body, type=_Page)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            raise VendorFault(FaultKind.MALFORMED, "its models list cannot be read") from None


class _Row(Struct, rename="camel"):
    """A models list's row; what imitations leave out or write otherwise counts as unknown."""

    name: str = ""
    display_name: Any = None
    description: Any = None
    input_token_limit: Any = None
    output_token_limit: Any = None
    supported_generation_methods: Any = None
    thinking: Any = None


class _Page(Struct, rename="camel"):
    models: list[_Row] = []
    next_page_token: str | None = None


_EMBEDS: Final = ("embedContent", "batchEmbedContents")
_OTHER_TASKS: Final = ("-tts", "native-audio", "-live", "robotics", "computer-use", "aqa")
"""Parts of the names of models whose work no route of ours asks for."""


def _is_served(row: _Row) -> bool:
    methods = row.supported_generation_methods
    methods = methods if isinstance(methods, list) else ["generateContent"]
    known = "generateContent" in methods or any(method in methods for method in _EMBEDS)
    return bool(row.name) and known and not any(part in row.name for part in _OTHER_TASKS)


def _listed(row: _Row) -> ListedModel:
    methods = row.supported_generation_methods
    draws = rules_of(row.name).draws
    return ListedModel(
        vendor_model=row.name,
        name=row.display_name if isinstance(row.display_name, str) else "",
        description=row.description if isinstance(row.description, str) else "",
        context_length=_count(row.input_token_limit),
        output_max=_count(row.output_token_limit),
        capabilities=capabilities_of(
            row.name,
            embeds=isinstance(methods, list) and "generateContent" not in methods,
            thinks=row.thinking is True,
        ),
        output_modalities=("text", "image") if draws else (),
    )


def capabilities_of(name: str, *, embeds: bool = False, thinks: bool = False) -> frozenset[Capability] | None:
    """By the family: the list says no more of a model than whether it thinks."""
    rules = rules_of(name)
    if embeds:
        return frozenset({Capability.EMBEDDINGS})
    if "gemini" not in name:
        return None
    if rules.draws:
        return frozenset({Capability.STREAM, Capability.IMAGES_IN, Capability.IMAGES_OUT, Capability.IMAGE_EDITS})
    can = {
        Capability.STREAM,
        Capability.TOOLS,
        Capability.IMAGES_IN,
        Capability.AUDIO_IN,
        Capability.FILES_IN,
        Capability.JSON_SCHEMA,
    }
    return frozenset(can | ({Capability.REASONING} if thinks or rules.thinking is not ThinkingStyle.NONE else set()))


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
