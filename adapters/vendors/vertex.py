"""Google's Vertex AI: Gemini, Anthropic's models and open models behind one account, and pictures of models that the
operator has deployed there.

The words depend on the model: Gemini's own, Anthropic's with the version in the body, OpenAI's for all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from adapters.dialects.anthropic.client import AnthropicStream
from adapters.dialects.anthropic.client import read_answer as read_anthropic_answer
from adapters.dialects.anthropic.client import write_request as write_anthropic_request
from adapters.dialects.anthropic.codec import AnthropicCodec
from adapters.dialects.json_members import edit, members
from adapters.dialects.openai_chat.client import OpenAIChatStream
from adapters.dialects.openai_chat.client import read_answer as read_openai_answer
from adapters.dialects.openai_chat.client import write_request as write_openai_request
from adapters.dialects.openai_chat.codec import OpenAIChatCodec
from adapters.dialects.openai_chat.quirks import Quirks
from adapters.dialects.openai_tasks.task import Fields, decoded
from adapters.dialects.translation import CallerCodec, TranslatedVendor, Wire
from adapters.transport.google_auth import Credentials
from adapters.transport.http import VendorHttp
from adapters.vendors.gemini import (
    PAGE,
    PAGES_MAX,
    PICTURES,
    GeminiEndpoint,
    GeminiPictures,
    GoogleDoor,
    capabilities_of,
)
from domain.catalog import CANCEL_AND_BILL_PRODUCED, AbortPolicy, Capability, Dialect
from domain.errors import UnsupportedParameter
from domain.ids import VendorSlug
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.ports.vendors import LISTED, ChatAnswer, ChatStream, ChatVendor, ListedModel, Listing

SLUG: Final = VendorSlug("vertex")
ANTHROPIC_VERSION: Final = "vertex-2023-10-16"
"""In the body, where Anthropic's own address wants a header."""
MULTI_REGIONS: Final = ("us", "eu")
_PUBLISHERS: Final = "publishers/"
_ENDPOINT: Final = "endpoints/"


def host_of(location: str) -> str:
    """The address of a location; there are three forms of it."""
    if location == "global":
        return "https://aiplatform.googleapis.com"
    if location in MULTI_REGIONS:
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"


class VertexPlace(Struct, frozen=True, kw_only=True):
    """Where in Google's cloud the operator's account is."""

    project: str
    location: str
    base_url: str
    """Without the version of the API."""

    @property
    def _folder(self) -> str:
        return f"{self.base_url}/v1/projects/{quote(self.project, safe=':')}/locations/{quote(self.location, safe='')}"

    def method(self, vendor_model: str, method: str) -> str:
        publisher, model = publisher_of(vendor_model)
        name = quote(model, safe="@")
        return f"{self._folder}/publishers/{quote(publisher, safe='')}/models/{name}:{method}"

    @property
    def open_models(self) -> str:
        return f"{self._folder}/endpoints/openapi/chat/completions"

    def prediction(self, vendor_model: str) -> str:
        return f"{self._folder}/endpoints/{quote(vendor_model.removeprefix(_ENDPOINT), safe='')}:predict"

    def models(self, after: str) -> str:
        token = f"&pageToken={quote(after, safe='')}" if after else ""
        return f"{self.base_url}/v1beta1/publishers/google/models?pageSize={PAGE}{token}"


def publisher_of(vendor_model: str) -> tuple[str, str]:
    """The publisher of a model and its name there: of `publishers/p/models/m`, `p/m` or a name that tells by itself."""
    if vendor_model.startswith(_PUBLISHERS):
        publisher, _, model = vendor_model.removeprefix(_PUBLISHERS).partition("/models/")
        return publisher, model
    publisher, slash, model = vendor_model.partition("/")
    if slash:
        return publisher, model
    return ("anthropic" if vendor_model.startswith("claude") else "google"), vendor_model


class VertexVendor:
    """The ports `ChatVendor` and `ModelLister`; each model is spoken to in its own words."""

    def __init__(
        self,
        place: VertexPlace,
        credentials: Credentials,
        http: VendorHttp,
        callers: Mapping[Dialect, CallerCodec],
        models: Sequence[str] = (),
        abort_policy: AbortPolicy = CANCEL_AND_BILL_PRODUCED,
        listing: Listing = LISTED,
    ) -> None:
        """`models` are served beside those that Google lists: Anthropic's, open ones, `endpoints/{id}`."""
        self.slug = SLUG
        self.abort_policy = abort_policy
        self.listing = listing
        self._place = place
        self._http = http
        self._declared = tuple(models)
        self._door = door = GoogleDoor(http, credentials)
        gemini = GeminiEndpoint(SLUG, place.method, door)
        pictures: dict[Dialect, ChatVendor] = {
            dialect: GeminiPictures(SLUG, dialect, place.method, door) for dialect in PICTURES
        }
        self._gemini = TranslatedVendor((gemini.wire,), callers, pictures)
        claude = Wire(VertexClaude(place, door), Dialect.ANTHROPIC, AnthropicCodec())
        self._claude = TranslatedVendor((claude,), callers)
        opened = Wire(VertexOpenModels(place, door), Dialect.OPENAI_CHAT, OpenAIChatCodec(OPEN_MODELS))
        self._open = TranslatedVendor((opened,), callers)
        self._deployed = DeployedPictures(place, door)

    async def complete(self, call: ChatCall) -> ChatAnswer:
        return await self._serving(call).complete(call)

    async def stream(self, call: ChatCall) -> ChatStream:
        return await self._serving(call).stream(call)

    async def list_models(self) -> list[ListedModel]:
        found = {model.vendor_model: model for model in map(_declared, self._declared)}
        after = ""
        for _ in range(PAGES_MAX):
            page = await self._page(after)
            for row in page.publisher_models:
                name = row.name.rpartition("/")[2]
                if name.startswith("gemini"):
                    # Canonical ids are made of what follows the folder that this vendor writes before them.
                    found.setdefault(row.name, ListedModel(vendor_model=row.name, capabilities=capabilities_of(name)))
            if not page.next_page_token or page.next_page_token == after:
                break
            after = page.next_page_token
        return list(found.values())

    async def aclose(self) -> None:
        await self._http.close()

    def _serving(self, call: ChatCall) -> ChatVendor:
        model = call.vendor_model
        if model.startswith(_ENDPOINT):
            if call.request.dialect is not Dialect.OPENAI_IMAGES:
                raise VendorFault(FaultKind.MODEL_MISSING, "this endpoint draws pictures and does nothing else")
            return self._deployed
        publisher, _ = publisher_of(model)
        if publisher == "anthropic":
            return self._claude
        return self._gemini if publisher == "google" else self._open

    async def _page(self, after: str) -> _Page:
        body = await self._door.got(self._place.models(after))
        try:
            return msgspec.json.decode(body, type=_Page)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            raise VendorFault(FaultKind.MALFORMED, "its models list cannot be read") from None


class VertexClaude:
    """The port `ChatVendor` for Anthropic's Messages: the address names the model, the body the version."""

    slug = SLUG

    def __init__(self, place: VertexPlace, door: GoogleDoor) -> None:
        self._place = place
        self._door = door

    async def complete(self, call: ChatCall) -> ChatAnswer:
        url = self._place.method(call.vendor_model, "rawPredict")
        answer = await self._door.posted(url, _as_here(call), call.first_byte_s, _beta(call))
        try:
            return read_anthropic_answer(await answer.read(), {})
        except VendorFault as fault:
            raise self._door.redacted(fault) from None
        finally:
            answer.close()

    async def stream(self, call: ChatCall) -> ChatStream:
        url = self._place.method(call.vendor_model, "streamRawPredict")
        answer = await self._door.posted(url, _as_here(call), call.first_byte_s, _beta(call))
        if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            raise await self._door.refused_plain(answer)
        return AnthropicStream(answer.chunks(), answer.close, {})


def _as_here(call: ChatCall) -> bytes:
    body = write_anthropic_request(call)
    parts = members(body)
    version = {"anthropic_version": msgspec.json.encode(ANTHROPIC_VERSION)}
    if "anthropic_version" in parts.values:
        return edit(body, parts, remove={"model"}, replace=version)
    return edit(body, parts, remove={"model"}, add=version)


def _beta(call: ChatCall) -> Mapping[str, str]:
    return {name: value for name, value in call.request.headers.items() if name == "anthropic-beta"}


OPEN_MODELS: Final = Quirks(output_limit_field="max_tokens")


class VertexOpenModels:
    """The port `ChatVendor` for open models, which speak OpenAI's dialect at one address."""

    slug = SLUG

    def __init__(self, place: VertexPlace, door: GoogleDoor) -> None:
        self._place = place
        self._door = door

    async def complete(self, call: ChatCall) -> ChatAnswer:
        answer = await self._posted(call)
        try:
            return read_openai_answer(await answer.read(), {}, OPEN_MODELS)
        except VendorFault as fault:
            raise self._door.redacted(fault) from None
        finally:
            answer.close()

    async def stream(self, call: ChatCall) -> ChatStream:
        answer = await self._posted(call)
        if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            raise await self._door.refused_plain(answer)
        return OpenAIChatStream(
            answer.chunks(), answer.close, {}, shows_usage=call.request.wants_usage, quirks=OPEN_MODELS
        )

    async def _posted(self, call: ChatCall) -> Any:
        named = replace(call, vendor_model="/".join(publisher_of(call.vendor_model)))
        body = write_openai_request(
            named, output_limit_field="max_tokens", renamed={"max_completion_tokens": "max_tokens"}
        )
        return await self._door.posted(self._place.open_models, body, call.first_byte_s)


class DeployedPictures:
    """The port `ChatVendor` for pictures of a model that the operator has deployed, such as Stable Diffusion.

    What the containers answer differs; every form that is known is read.
    """

    slug = SLUG

    def __init__(self, place: VertexPlace, door: GoogleDoor) -> None:
        self._place = place
        self._door = door

    async def complete(self, call: ChatCall) -> ChatAnswer:
        if call.request.streamed:
            raise UnsupportedParameter("This model sends a picture whole; leave 'stream' out.", param="stream")
        fields = call.request.parsed
        assert isinstance(fields, Fields), "a task's request keeps what was read of it"
        prompt = fields.text("prompt") or ""
        instance: dict[str, Any] = {"prompt": prompt, "text": prompt}
        parameters: dict[str, Any] = {}
        width, cross, height = (fields.text("size") or "").partition("x")
        if cross and width.isdigit() and height.isdigit():
            parameters |= {"width": int(width), "height": int(height)}
        body = {"instances": [instance] * call.request.answers, "parameters": parameters}
        url = self._place.prediction(call.vendor_model)
        answer = await self._door.posted(url, msgspec.json.encode(body), call.first_byte_s)
        try:
            told = decoded(await answer.read())
        finally:
            answer.close()
        pictures = [picture for each in told.get("predictions") or () if (picture := _picture(each))]
        if not pictures:
            raise VendorFault(FaultKind.MALFORMED, "it drew nothing")
        usage = call.request.ceiling
        if usage is not None:
            usage = replace(usage, images=len(pictures))
        shape = {"created": call.at_s, "data": [{"b64_json": picture} for picture in pictures]}
        return ChatAnswer(
            dialect=Dialect.OPENAI_IMAGES,
            body=msgspec.json.encode(shape),
            usage=usage,
            produced_tokens=1,
            finish_reason="stop",
        )

    async def stream(self, call: ChatCall) -> ChatStream:
        raise UnsupportedParameter("This model sends a picture whole; leave 'stream' out.", param="stream")


def _picture(prediction: object) -> str:
    """Base64 of one prediction: the text itself, or under one of the names in use."""
    if isinstance(prediction, list) and prediction:
        prediction = prediction[0]
    if isinstance(prediction, dict):
        prediction = next((prediction[n] for n in ("bytesBase64Encoded", "output", "image") if prediction.get(n)), "")
    text = prediction if isinstance(prediction, str) else ""
    return text.partition("base64,")[2] if text.startswith("data:") else text


class _Row(Struct):
    name: str = ""


class _Page(Struct, rename="camel"):
    publisher_models: list[_Row] = []
    next_page_token: str | None = None


def _declared(vendor_model: str) -> ListedModel:
    if vendor_model.startswith(_ENDPOINT):
        return ListedModel(
            vendor_model=vendor_model,
            canonical=f"vertex/{vendor_model.removeprefix(_ENDPOINT)}",
            capabilities=frozenset({Capability.IMAGES_OUT}),
            output_modalities=("image",),
        )
    publisher, model = publisher_of(vendor_model)
    # A date after an @ tells the vendor's release of the same model.
    canonical = f"{publisher}/{model.partition('@')[0]}"
    can = capabilities_of(model) if publisher == "google" else None
    return ListedModel(vendor_model=vendor_model, canonical=canonical, capabilities=can)
