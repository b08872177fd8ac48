"""Amazon Bedrock, by Converse, signed with an account's key or opened by a Bedrock API key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import quote

import msgspec
from msgspec import Struct
from yarl import URL

from adapters.dialects.bedrock_converse.client import STREAM_TYPE, ConverseStream, read_answer, write_request
from adapters.dialects.bedrock_converse.codec import ConverseCodec
from adapters.dialects.bedrock_converse.errors import read_fault
from adapters.dialects.translation import Wire
from adapters.transport.aws_signing import AwsCredentials, signed
from adapters.transport.http import ERROR_BYTES_MAX, Answer, VendorHttp
from domain.catalog import CANCEL_AND_BILL_PRODUCED, AbortPolicy, Dialect
from domain.ids import VendorSlug
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.ports.clock import Clock
from domain.ports.vendors import LISTED, ChatAnswer, ChatStream, ListedModel, Listing

SLUG: Final = VendorSlug("bedrock")
SERVICE: Final = "bedrock"
LIST_TIMEOUT_S: Final = 30.0
PAGES_MAX: Final = 50
SHOWN_HEADER: Final = "x-amzn-requestid"
_JSON: Final = {"content-type": "application/json"}


def runtime_url(region: str) -> str:
    return f"https://bedrock-runtime.{region}.amazonaws.com"


def control_url(region: str) -> str:
    return f"https://bedrock.{region}.amazonaws.com"


class Proof(Protocol):
    """Who asks: headers for one request."""

    def __call__(self, method: str, url: str, body: bytes) -> Mapping[str, str]: ...


class Signer:
    """The proof of an account's key: a signature of the request, by the clock."""

    def __init__(self, credentials: AwsCredentials, region: str, clock: Clock) -> None:
        self._credentials = credentials
        self._region = region
        self._clock = clock

    def __call__(self, method: str, url: str, body: bytes) -> Mapping[str, str]:
        return signed(method, url, _JSON, body, self._credentials, self._region, SERVICE, self._clock.now())


class BearerKey:
    """The proof of a Bedrock API key."""

    def __init__(self, key: str) -> None:
        self._headers = {**_JSON, "Authorization": f"Bearer {key}"}

    def __call__(self, method: str, url: str, body: bytes) -> Mapping[str, str]:
        return self._headers


class BedrockVendor:
    """Chat and models of one account in one region."""

    slug = SLUG

    def __init__(
        self,
        runtime: str,
        control: str,
        proof: Proof,
        http: VendorHttp,
        models: Sequence[str] = (),
        abort_policy: AbortPolicy = CANCEL_AND_BILL_PRODUCED,
        listing: Listing = LISTED,
    ) -> None:
        """`runtime` and `control` are addresses.  Where the operator names `models`, nothing is asked of the list."""
        self.abort_policy = abort_policy
        self.listing = listing
        self._runtime = runtime.rstrip("/")
        self._control = control.rstrip("/")
        self._proof = proof
        self._http = http
        self._declared = tuple(models)

    @property
    def wire(self) -> Wire:
        """Itself with what it takes to speak to it in another dialect."""
        return Wire(self, Dialect.BEDROCK_CONVERSE, ConverseCodec())

    async def complete(self, call: ChatCall) -> ChatAnswer:
        answer = await self._posted(call, "converse")
        try:
            return read_answer(await answer.read(), _shown(answer))
        except VendorFault as fault:
            raise self._redacted(fault) from None
        finally:
            answer.close()

    async def stream(self, call: ChatCall) -> ChatStream:
        answer = await self._posted(call, "converse-stream")
        if not answer.headers.get("Content-Type", "").startswith(STREAM_TYPE):
            try:
                body = await answer.read(ERROR_BYTES_MAX)
            finally:
                answer.close()
            fault = read_fault(None, answer.headers, body)
            raise self._redacted(
                fault if fault.message else VendorFault(FaultKind.MALFORMED, "it did not answer with a stream")
            )
        return ConverseStream(answer.chunks(), answer.close, _shown(answer))

    async def list_models(self) -> list[ListedModel]:
        """What can be called by its own id, and the profiles through which all other models are called."""
        if self._declared:
            return [_declared(model) for model in self._declared]
        listed = _read(await self._got("/foundation-models"), _Models).model_summaries
        by_id = {row.model_id: row for row in listed}
        found = [_listed(row.model_id, row) for row in listed if _is_served(row)]
        after = ""
        for _ in range(PAGES_MAX):
            token = f"&nextToken={quote(after, safe='')}" if after else ""
            page = _read(await self._got(f"/inference-profiles?maxResults=1000{token}"), _Profiles)
            for profile in page.inference_profile_summaries:
                model = profile.models[0].model_arn.rpartition("/")[2] if profile.models else ""
                if profile.status == "ACTIVE" and model in by_id and _writes(by_id[model]):
                    found.append(_listed(profile.inference_profile_id, by_id[model], canonical_of(model)))
            if not page.next_token or page.next_token == after:
                break
            after = page.next_token
        return found

    async def aclose(self) -> None:
        await self._http.close()

    async def _posted(self, call: ChatCall, verb: str) -> Answer:
        # Every reserved character of an id is encoded, colons too: the signature is of the path as it is sent.
        url = f"{self._runtime}/model/{quote(call.vendor_model, safe='')}/{verb}"
        body = write_request(call)
        headers = self._proof("POST", url, body)
        answer = await self._http.post(URL(url, encoded=True), headers, body, call.first_byte_s)
        if answer.status == 200:
            return answer
        raise await self._refusal(answer)

    async def _got(self, path: str) -> bytes:
        url = self._control + path
        answer = await self._http.get(URL(url, encoded=True), self._proof("GET", url, b""), LIST_TIMEOUT_S)
        if answer.status != 200:
            raise await self._refusal(answer)
        try:
            return await answer.read()
        finally:
            answer.close()

    async def _refusal(self, answer: Answer) -> VendorFault:
        try:
            body = await answer.read(ERROR_BYTES_MAX)
        except VendorFault:
            body = b""
        finally:
            answer.close()
        return self._redacted(read_fault(answer.status, answer.headers, body))

    def _redacted(self, fault: VendorFault) -> VendorFault:
        fault.message = self._http.redacted(fault.message)
        return fault


def _shown(answer: Answer) -> dict[str, str]:
    if SHOWN_HEADER not in answer.headers:
        return {}
    return {"x-gatewayz-vendor-request-id": answer.headers[SHOWN_HEADER]}


def canonical_of(model_id: str) -> str:
    """`author/slug` of an id such as us.anthropic.claude-opus-4-8-20260115-v1:0: its first two words less the region,
    and without what tells Bedrock's release of the same model."""
    words = model_id.split(".")
    if len(words) > 2 and len(words[0]) <= _REGION_LENGTH_MAX:
        words = words[1:]
    author, slug = (words[0], ".".join(words[1:])) if len(words) > 1 else ("bedrock", model_id)
    slug = slug.partition(":")[0]
    for ending in ("-v1", "-v2"):
        slug = slug.removesuffix(ending)
    return f"{author}/{slug}"


_REGION_LENGTH_MAX: Final = 6


class _Row(Struct, rename="camel"):
    """A models list's row; what is left out counts as unknown."""

    model_id: str = ""
    model_name: Any = None
    input_modalities: list[str] = []
    output_modalities: list[str] = []
    inference_types_supported: list[str] = []


class _Models(Struct, rename="camel"):
    model_summaries: list[_Row] = []


class _ProfileModel(Struct, rename="camel"):
    model_arn: str = ""


class _Profile(Struct, rename="camel"):
    inference_profile_id: str = ""
    status: str = "ACTIVE"
    models: list[_ProfileModel] = []


class _Profiles(Struct, rename="camel"):
    inference_profile_summaries: list[_Profile] = []
    next_token: str | None = None


def _read(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise VendorFault(FaultKind.MALFORMED, "its models list cannot be read") from None


def _writes(row: _Row) -> bool:
    return "TEXT" in row.output_modalities


def _is_served(row: _Row) -> bool:
    return bool(row.model_id) and _writes(row) and "ON_DEMAND" in row.inference_types_supported


def _listed(vendor_model: str, row: _Row, canonical: str = "") -> ListedModel:
    # Whether it calls tools, thinks or reads files the list does not say; what is unknown excludes nothing.
    return ListedModel(
        vendor_model=vendor_model,
        name=row.model_name if isinstance(row.model_name, str) else "",
        canonical=canonical or canonical_of(row.model_id),
        input_modalities=tuple(each.lower() for each in row.input_modalities),
        output_modalities=tuple(each.lower() for each in row.output_modalities),
    )


def _declared(vendor_model: str) -> ListedModel:
    return ListedModel(vendor_model=vendor_model, canonical=canonical_of(vendor_model.rpartition("/")[2]))
