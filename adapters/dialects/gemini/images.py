"""OpenAI's requests for pictures, answered by models that draw through `generateContent`.

Google's models of today draw in a conversation, one picture at a time, in the ratio that they are told; they are priced
by the tokens of the picture.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from adapters.dialects.gemini.models import generation_of
from adapters.dialects.gemini.wire import FINISHES, UNREADABLE, Answer, read_answer_body
from adapters.dialects.openai_tasks.task import Fields
from domain.errors import UnsupportedParameter
from domain.inference.chat import ChatCall
from domain.inference.conversation import Written
from domain.inference.faults import FaultKind, VendorFault
from domain.inference.reply import Finish
from domain.usage import Usage

Json = dict[str, Any]

LOSSES: Final = {
    "quality": "How carefully to draw cannot be said; the size alone sets the effort.",
    "output_format": "The model chooses the file format; the answer names it.",
    "output_compression": "There is no such parameter.",
    "moderation": "The vendor's own filters cannot be changed by a request.",
    "style": "There is no such parameter.",
    "user": "There is no such parameter.",
}
"""What cannot be said in this dialect, and what becomes of it."""

RATIOS: Final = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
RATIO_SLACK: Final = 4
"""Per cent that a size may be off a ratio: 1792x1024 is told as 16:9."""
SIDE_1K, SIDE_2K = 1_824, 3_200
"""The longest side, in pixels, that the smaller sizes of the newer models still stand for."""

_SIZE: Final = re.compile(r"(\d{2,5})x(\d{2,5})")
_RATIO: Final = re.compile(r"(\d{1,2}):(\d{1,2})")


def write_request(call: ChatCall) -> Written:
    """Raises UnsupportedParameter for what would make another picture."""
    fields = call.request.parsed
    assert isinstance(fields, Fields), "a task's request keeps what was read of it"
    _refuse(call, fields)
    parts: list[Json] = [{"text": fields.text("prompt") or ""}]
    if fields.form is not None:
        parts += [
            {"inlineData": {"mimeType": file.content_type or "image/png", "data": b64encode(file.value).decode()}}
            for file in fields.form.files("image", "image[]")
        ]
    config: Json = {"responseModalities": ["TEXT", "IMAGE"]}
    if image := _image_config(fields.text("size"), call.vendor_model):
        config["imageConfig"] = image
    request = {"contents": [{"role": "user", "parts": parts}], "generationConfig": config}
    dropped = tuple(name for name in LOSSES if _given(fields, name) not in ("", "auto"))
    return Written(msgspec.json.encode(request), dropped)


def read_answer(data: bytes, call: ChatCall) -> tuple[bytes, Usage | None, str]:
    """The answer in OpenAI's shape, its usage, and why it ended.  Raises VendorFault where nothing was drawn."""
    try:
        answer = read_answer_body(data)
    except UNREADABLE:
        raise VendorFault(FaultKind.MALFORMED, "its answer is not JSON of this dialect") from None
    candidate = answer.first
    parts = candidate.parts if candidate is not None else []
    drawn = [part.inline_data for part in parts if part.inline_data is not None and not part.thought]
    if not drawn:
        raise _nothing(answer)
    usage = answer.usage()
    if usage is not None:
        usage = replace(usage, images=len(drawn))
    body: Json = {
        "created": call.at_s,
        "data": [{"b64_json": blob.data} for blob in drawn],
        "output_format": drawn[0].mime_type.partition("/")[2] or "png",
    }
    if usage is not None:
        body["usage"] = _told(usage)
    finish = (candidate.finish_reason if candidate is not None else None) or "STOP"
    return msgspec.json.encode(body), usage, finish


def _nothing(answer: Answer) -> VendorFault:
    candidate = answer.first
    reason = answer.block_reason if candidate is None else candidate.finish_reason
    said = " ".join(part.text for part in candidate.parts if part.text) if candidate is not None else ""
    if (candidate is None and reason) or FINISHES.get(reason or "") is Finish.FILTER:
        return VendorFault(FaultKind.CONTENT_POLICY, f"The model drew nothing ({reason}). {said}".strip()[:1_000])
    return VendorFault(FaultKind.MALFORMED, f"it drew nothing ({reason or 'no reason given'})")


def _told(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "text_tokens": usage.input_tokens - usage.image_in,
            "image_tokens": usage.image_in,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {
            "text_tokens": usage.output_tokens - usage.image_out,
            "image_tokens": usage.image_out,
        },
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _refuse(call: ChatCall, fields: Fields) -> None:
    if call.request.answers > 1:
        raise UnsupportedParameter("This model draws one picture at a time; send 'n' as 1.", param="n")
    if call.request.streamed:
        raise UnsupportedParameter("This model sends a picture whole; leave 'stream' out.", param="stream")
    if fields.form is not None and fields.form.files("mask"):
        raise UnsupportedParameter(
            "This model takes no mask; say in the prompt what to change, or use another model.", param="mask"
        )
    if _given(fields, "background") == "transparent":
        raise UnsupportedParameter("This model draws no transparent background.", param="background")


def _given(fields: Fields, name: str) -> str:
    """A field's value as text; "" where it is absent."""
    if fields.members is None:
        return fields.text(name) or ""
    raw = fields.members.values.get(name)
    text = "" if raw is None else bytes(raw).decode("utf-8", "replace").strip('"')
    return "" if text == "null" else text


def _image_config(size: str | None, vendor_model: str) -> Json:
    """The ratio, and for models that know sizes the size.  Raises UnsupportedParameter."""
    if size is None or size == "auto":
        return {}
    if _RATIO.fullmatch(size) and size in RATIOS:
        return {"aspectRatio": size}
    found = _SIZE.fullmatch(size.lower())
    if found is None:
        raise UnsupportedParameter("'size' is neither 'auto' nor such as 1024x1024.", param="size")
    width, height = int(found[1]), int(found[2])
    off, ratio = min((_percent_off(width, height, ratio), ratio) for ratio in RATIOS)
    if off > RATIO_SLACK:
        raise UnsupportedParameter(
            f"This model draws in the ratios {', '.join(RATIOS)}; {size} is none of them.", param="size"
        )
    config = {"aspectRatio": ratio}
    if generation_of(vendor_model.lower()) >= (3, 0):
        side = max(width, height)
        config["imageSize"] = "1K" if side <= SIDE_1K else "2K" if side <= SIDE_2K else "4K"
    return config


def _percent_off(width: int, height: int, ratio: str) -> int:
    across, _, down = ratio.partition(":")
    wide, high = width * int(down), height * int(across)
    return -(-abs(wide - high) * 100 // max(wide, high, 1))
