"""POST /v1/images/generations and /v1/images/edits, as OpenAI has them.

An image is priced by the piece or by its tokens.  Both are counted; the model's price says which of them costs.  Before
the answer, the tokens of an image are what OpenAI documents for the size at the best quality asked for, by area for
sizes that it does not list.
"""

from __future__ import annotations

import re
from typing import Any, Final

from adapters.dialects.openai_tasks.task import Asked, Fields, Task, count, decoded, nested
from domain.catalog import Capability, Dialect
from domain.errors import InvalidRequest
from domain.inference.chat import ChatRequest
from domain.inference.tokens import estimated_tokens
from domain.usage import Usage

IMAGES_MAX: Final = 10
INPUT_IMAGES_MAX: Final = 16
PROMPT_CHARACTERS_MAX: Final = 32_000
SIDE_MAX: Final = 8_192
AREA_USUAL: Final = 1536 * 1024
"""Where the size is left to the model: the largest that models choose by themselves."""
INPUT_IMAGE_TOKENS: Final = 6_500
"""An image to be edited, at high fidelity."""
PARTIAL_IMAGE_TOKENS: Final = 100
TOKENS_PER_MEGAPIXEL: Final = {"low": 272, "medium": 1_056, "high": 4_160, "xhigh": 8_320, "max": 16_640, "hd": 4_160}
"""Of 1024 x 1024 pixels.  The two dearest are doubled from step to step, since nobody has published them."""

_SIZE = re.compile(r"(\d{2,5})x(\d{2,5})")


def _asked(fields: Fields) -> Asked:
    prompt = fields.text("prompt")
    if not prompt:
        raise InvalidRequest("'prompt' must be a text that says what to draw.", param="prompt")
    if len(prompt) > PROMPT_CHARACTERS_MAX:
        raise InvalidRequest(f"'prompt' may have at most {PROMPT_CHARACTERS_MAX} characters.", param="prompt")
    images = fields.count("n", 1, IMAGES_MAX) or 1
    partial = fields.count("partial_images", 0, 3) or 0
    each = _output_tokens(fields) + partial * PARTIAL_IMAGE_TOKENS
    inputs = len(fields.form.files("image", "image[]", "mask")) if fields.form is not None else 0
    if inputs > INPUT_IMAGES_MAX + 1:
        raise InvalidRequest(f"At most {INPUT_IMAGES_MAX} images can be edited at once.", param="image")
    return Asked(
        ceiling=Usage(
            input=estimated_tokens(prompt.encode("utf-8", "surrogatepass")),
            image_in=inputs * INPUT_IMAGE_TOKENS,
            image_out=images * each,
            images=images,
            image_variant=_variant(fields.text("size"), fields.text("quality")),
            requests=1,
        ),
        streamed=fields.flag("stream"),
        answers=images,
    )


def _edit_asked(fields: Fields) -> Asked:
    if fields.form is None:
        raise InvalidRequest("An image to edit is sent as a file of a form (multipart/form-data).", param="image")
    if not fields.form.files("image", "image[]"):
        raise InvalidRequest("'image' must be a file: the image to edit.", param="image")
    return _asked(fields)


def _output_tokens(fields: Fields) -> int:
    quality = (fields.text("quality") or "auto").lower()
    size = _SIZE.fullmatch((fields.text("size") or "auto").lower())
    area = AREA_USUAL
    if size is not None:
        width, height = int(size[1]), int(size[2])
        if max(width, height) > SIDE_MAX:
            raise InvalidRequest(f"'size' may have at most {SIDE_MAX} pixels a side.", param="size")
        area = width * height
    tokens = TOKENS_PER_MEGAPIXEL.get(quality, TOKENS_PER_MEGAPIXEL["high"])
    return -(-tokens * area // (1024 * 1024))


def _used(answer: bytes, request: ChatRequest) -> Usage | None:
    """Of a whole answer, or of a stream's `...completed` frame, which holds one image."""
    body = decoded(answer)
    data = body.get("data")
    images = len(data) if isinstance(data, list) else int("b64_json" in body)
    usage = nested(body, "usage")
    if not images and not usage:
        return None
    of_input, of_output = nested(usage, "input_tokens_details"), nested(usage, "output_tokens_details")
    seen = count(of_input.get("image_tokens"))
    written = count(of_output.get("text_tokens"))
    entered = count(usage.get("input_tokens")) or count(usage.get("prompt_tokens"))
    drawn = count(usage.get("output_tokens")) or count(usage.get("completion_tokens"))
    if not (entered or drawn) and request.ceiling is not None:
        # No usage, or one in words that nobody knows: no picture is without tokens.
        entered, seen = request.ceiling.input + request.ceiling.image_in, request.ceiling.image_in
        drawn = request.ceiling.image_out * images // max(request.ceiling.images, 1)
    return Usage(
        input=max(entered - seen, 0),
        image_in=seen,
        output=written,
        image_out=max(drawn - written, 0),
        images=images,
        image_variant=_variant(body.get("size"), body.get("quality"))
        or (request.ceiling.image_variant if request.ceiling is not None else ""),
        requests=1,
    )


def _variant(size: object, quality: object) -> str:
    """As prices name it, "1024x1536:high"; empty where either was left to the model."""
    known = isinstance(size, str) and isinstance(quality, str) and "auto" not in (size, quality)
    return f"{size}:{quality}".lower() if known else ""


def _task(dialect: Dialect, path: str, needs: Capability, read: Any) -> Task:
    return Task(
        dialect=dialect, path=path, needs=needs, read=read, used=_used, frames_add_up=True, answer_members=("data",)
    )


IMAGES: Final = _task(Dialect.OPENAI_IMAGES, "/images/generations", Capability.IMAGES_OUT, _asked)
IMAGE_EDITS: Final = _task(Dialect.OPENAI_IMAGE_EDITS, "/images/edits", Capability.IMAGE_EDITS, _edit_asked)
