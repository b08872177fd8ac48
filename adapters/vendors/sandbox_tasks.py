"""The sandbox beside chat: models that embed, draw, speak, listen, rank and judge without knowing anything.

Their answers are real (vectors, pictures, sound) and the same for the same request, so that an application can be built
and charged against them without a vendor's key.
"""

from __future__ import annotations

import base64
import math
import re
import struct
import zlib
from array import array
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec

from adapters.dialects.openai_tasks.images import IMAGES
from adapters.dialects.openai_tasks.task import Fields, Task, decoded
from adapters.vendors.sandbox import OPENED, SANDBOX
from domain.catalog import CANCEL_AND_BILL_PRODUCED, Capability, Dialect, Model, Offer
from domain.ids import ModelId, PriceId
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.money import Usd
from domain.ports.vendors import ChatAnswer, ChatStream
from domain.pricing import UNITS_PER_RATE, Price, PriceSource, Rates
from domain.usage import Usage

DIMENSIONS: Final = 256
DIMENSIONS_MAX: Final = 4_096
SIDE: Final = 64
"""Of a picture, in pixels."""
SAMPLES_PER_S: Final = 8_000
CHARACTERS_PER_S: Final = 15
SOUND_S_MAX: Final = 10
FLAGGED: Final = "sandbox-flag"
"""A text with this word is judged harmful."""

Answered = tuple[bytes, str, Usage | None]
"""An answer's body and content type, and what it used where that is more than its body says."""

_WORD = re.compile(r"\w+")


def _model(slug: str, name: str, description: str, capability: Capability, rates: Rates) -> Model:
    model_id = ModelId(f"{SANDBOX}/{slug}")
    price = Price(
        id=PriceId(f"sandbox:{slug}:1"),
        vendor=SANDBOX,
        model=model_id,
        rates=rates,
        valid_from=OPENED,
        source=PriceSource.SANDBOX,
        free=rates.is_zero,
    )
    offer = Offer(
        vendor=SANDBOX,
        model=model_id,
        vendor_model=slug,
        price=price,
        capabilities=frozenset({capability}),
        abort_policy=CANCEL_AND_BILL_PRODUCED,
    )
    return Model(id=model_id, name=f"Sandbox: {name}", offers=(offer,), created=OPENED, description=description)


def _usd(text: str) -> int:
    return Usd.parse(text).nanos


TASK_MODELS: Final = (
    _model(
        "embed",
        "Embed",
        "Makes vectors of texts; texts that share words are near each other.",
        Capability.EMBEDDINGS,
        Rates(input=_usd("0.02"), output=0),
    ),
    _model(
        "draw",
        "Draw",
        "Draws a square of one colour, which its prompt decides.",
        Capability.IMAGES_OUT,
        Rates(input=0, output=0, image_in=0, image_out=0, images=_usd("0.01") * UNITS_PER_RATE),
    ),
    _model(
        "speak",
        "Speak",
        "Hums for as long as its text would take to read.",
        Capability.SPEECH,
        Rates(input=0, output=0, audio_out=0, characters=_usd("15")),
    ),
    _model(
        "listen",
        "Listen",
        "Says how long a recording is.",
        Capability.TRANSCRIPTION,
        Rates(input=0, output=0, audio_in=0, seconds=_usd("0.0001") * UNITS_PER_RATE),
    ),
    _model(
        "rank",
        "Rank",
        "Orders documents by the words that they share with the query.",
        Capability.RERANK,
        Rates(input=0, output=0, searches=_usd("0.001") * UNITS_PER_RATE),
    ),
    _model(
        "judge",
        "Judge",
        f"Flags texts that contain {FLAGGED!r}; free.",
        Capability.MODERATION,
        Rates(input=0, output=0),
    ),
)


class SandboxTask:
    """The port `ChatVendor` for one task."""

    slug = SANDBOX

    def __init__(self, task: Task) -> None:
        self._task = task
        self._answer = _ANSWERS[task.dialect]

    async def complete(self, call: ChatCall) -> ChatAnswer:
        fields = call.request.parsed
        assert isinstance(fields, Fields), "a task's request keeps what was read of it"
        body, content_type, usage = self._answer(fields, call)
        return ChatAnswer(
            dialect=self._task.dialect,
            body=body,
            usage=usage or self._task.used(body, call.request),
            produced_tokens=1,
            finish_reason="stop",
            content_type=content_type,
        )

    async def stream(self, call: ChatCall) -> ChatStream:
        raise VendorFault(FaultKind.REFUSED, "The sandbox does not stream this.", status=400, param="stream")


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)


def _embedded(fields: Fields, call: ChatCall) -> Answered:
    given = _member(fields, "input")
    texts = given if isinstance(given, list) and not all(isinstance(each, int) for each in given) else [given]
    size = fields.count("dimensions", 1, DIMENSIONS_MAX) or DIMENSIONS
    packed = fields.text("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": at, "embedding": _vector(str(text), size, packed=packed)}
        for at, text in enumerate(texts)
    ]
    tokens = call.request.prompt_tokens
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return _json({"object": "list", "data": data, "model": call.vendor_model, "usage": usage}), "application/json", None


def _vector(text: str, size: int, *, packed: bool) -> list[float] | str:
    """Each word points in a direction of its own; the sum is made one long."""
    values = [0.0] * size
    for word in _WORD.findall(text.lower()) or [text]:
        mark = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest())
        values[mark % size] += 1.0 if mark >> 63 else -1.0
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    numbers = [value / length for value in values]
    return base64.b64encode(struct.pack(f"<{size}f", *numbers)).decode() if packed else numbers


def _drawn(fields: Fields, call: ChatCall) -> Answered:
    prompt = fields.text("prompt") or ""
    ceiling = call.request.ceiling
    images = ceiling.images if ceiling is not None else 1
    pictures = [
        base64.b64encode(_png(blake2b(f"{at}:{prompt}".encode(), digest_size=3).digest())).decode()
        for at in range(images)
    ]
    body = _json({"created": call.at_s, "data": [{"b64_json": each} for each in pictures], "output_format": "png"})
    return body, "application/json", IMAGES.used(body, call.request)


def _png(colour: bytes) -> bytes:
    """A square of one colour (PNG, 8 bits a channel)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\x00" + colour * SIDE) * SIDE
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _spoken(fields: Fields, call: ChatCall) -> Answered:
    text = fields.text("input") or ""
    long_s = min(-(-len(text) // CHARACTERS_PER_S), SOUND_S_MAX)
    samples = array("h", (int(6_000 * math.sin(math.tau * 220 * at / SAMPLES_PER_S)) for at in range(SAMPLES_PER_S)))
    data = samples.tobytes() * max(long_s, 1)
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, SAMPLES_PER_S, SAMPLES_PER_S * 2, 2, 16),
        *(b"data", len(data)),
    )
    return head + data, "audio/wav", call.request.ceiling


def _heard(fields: Fields, call: ChatCall) -> Answered:
    long_s = call.request.ceiling.seconds if call.request.ceiling is not None else 0
    text = f"A recording of {long_s} seconds."
    match fields.text("response_format") or "json":
        case "text":
            return f"{text}\n".encode(), "text/plain; charset=utf-8", call.request.ceiling
        case "verbose_json":
            told: Any = {"task": "transcribe", "language": "english", "duration": long_s, "text": text, "segments": []}
        case _:
            told = {"text": text, "usage": {"type": "duration", "seconds": long_s}}
    return _json(told), "application/json", None


def _ranked(fields: Fields, call: ChatCall) -> Answered:
    query = set(_WORD.findall((fields.text("query") or "").lower()))
    documents = _member(fields, "documents")
    scored: list[tuple[int, int]] = []
    for at, document in enumerate(documents):
        words = set(_WORD.findall(str(document).lower()))
        scored.append((len(query & words) * 1_000 // max(len(query), 1), at))
    scored.sort(key=lambda each: (-each[0], each[1]))
    most = fields.count("top_n", 1, len(documents)) or len(documents)
    results = [{"index": at, "relevance_score": score / 1_000} for score, at in scored[:most]]
    return _json({"id": call.id, "model": call.vendor_model, "results": results}), "application/json", None


def _judged(fields: Fields, call: ChatCall) -> Answered:
    given = _member(fields, "input")
    texts = given if isinstance(given, list) and all(isinstance(each, str) for each in given) else [given]
    results = []
    for text in texts:
        flagged = FLAGGED in str(text)
        results.append(
            {
                "flagged": flagged,
                "categories": {"violence": flagged},
                "category_scores": {"violence": 1.0 if flagged else 0.0},
                "category_applied_input_types": {"violence": ["text"] if flagged else []},
            }
        )
    return _json({"id": f"modr-{call.id}", "model": call.vendor_model, "results": results}), "application/json", None


def _member(fields: Fields, name: str) -> Any:
    assert fields.members is not None, "this task's request is JSON"
    return decoded(b'{"value":%b}' % bytes(fields.members.values[name]))["value"]


_ANSWERS: Final[Mapping[Dialect, Callable[[Fields, ChatCall], Answered]]] = {
    Dialect.OPENAI_EMBEDDINGS: _embedded,
    Dialect.OPENAI_IMAGES: _drawn,
    Dialect.OPENAI_SPEECH: _spoken,
    Dialect.OPENAI_TRANSCRIPTIONS: _heard,
    Dialect.OPENAI_TRANSLATIONS: _heard,
    Dialect.RERANK: _ranked,
    Dialect.OPENAI_MODERATIONS: _judged,
}
SANDBOX_TASKS: Final = frozenset(_ANSWERS)
