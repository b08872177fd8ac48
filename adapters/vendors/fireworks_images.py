"""Fireworks' images: a path for every model, and an answer of bare base64 that OpenAI's clients could not read."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from adapters.dialects.json_members import edit, members
from adapters.dialects.openai_chat.errors import read_fault
from adapters.dialects.openai_tasks.endpoint import Credentials
from adapters.dialects.openai_tasks.image_words import ImageWords
from adapters.dialects.openai_tasks.images import IMAGES
from adapters.dialects.openai_tasks.task import dropped_fields, write_body
from adapters.dialects.translation import DROPPED_HEADER
from adapters.transport.http import ERROR_BYTES_MAX, VendorHttp
from domain.catalog import Dialect
from domain.errors import UnsupportedParameter
from domain.ids import VendorSlug
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.ports.vendors import ChatAnswer, ChatStream

WORDS: Final = ImageWords(ratio=True, base64=None)
DROPPED: Final = frozenset(
    {"n", "quality", "style", "user", "background", "moderation", "output_compression", "stream"}
)


class FireworksImages:
    """The port `ChatVendor` for requests of images.

    Source: https://docs.fireworks.ai/api-reference/generate-a-new-image-from-a-text-prompt
    """

    def __init__(self, slug: VendorSlug, base_url: str, credentials: Credentials, http: VendorHttp) -> None:
        self.slug = slug
        self._base = base_url.rstrip("/")
        self._credentials = credentials
        self._http = http

    async def complete(self, call: ChatCall) -> ChatAnswer:
        request = call.request
        if request.ceiling is not None and request.ceiling.images > 1:
            raise UnsupportedParameter("This model draws one image per request; send 'n' requests.", param="n")
        body, content_type = write_body(request, call.vendor_model, DROPPED)
        # The model is named by the path.
        body = edit(body, members(body), remove={"model"})
        body, more = WORDS.written(body)
        headers = {**self._credentials(), "Content-Type": content_type, "Accept": "application/json"}
        url = f"{self._base}/workflows/{call.vendor_model}/text_to_image"
        answer = await self._http.post(url, headers, body, call.first_byte_s)
        try:
            told = await answer.read() if answer.status == 200 else await answer.read(ERROR_BYTES_MAX)
        finally:
            answer.close()
        if answer.status != 200:
            fault = read_fault(answer.status, answer.headers, told)
            fault.message = self._http.redacted(fault.message)
            raise fault
        shown = msgspec.json.encode({"created": call.at_s, "data": [{"b64_json": each} for each in _pictures(told)]})
        named = [name for name in (*dropped_fields(request, DROPPED), *more) if name != "n"]
        return ChatAnswer(
            dialect=Dialect.OPENAI_IMAGES,
            body=shown,
            usage=IMAGES.used(shown, request),
            produced_tokens=1,
            finish_reason="stop",
            headers={DROPPED_HEADER: ", ".join(named)} if named else {},
        )

    async def stream(self, call: ChatCall) -> ChatStream:
        raise VendorFault(FaultKind.MODEL_MISSING, "it does not stream images")


def _pictures(told: bytes) -> list[str]:
    try:
        answer: Any = msgspec.json.decode(told)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise VendorFault(FaultKind.MALFORMED, "its answer is not JSON that can be read") from None
    found = answer.get("base64") if isinstance(answer, dict) else None
    pictures = [each for each in (found if isinstance(found, list) else [found]) if isinstance(each, str) and each]
    if not pictures:
        raise VendorFault(FaultKind.MALFORMED, "its answer has no image")
    return pictures
