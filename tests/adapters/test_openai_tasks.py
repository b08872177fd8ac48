"""What the tasks beside chat reserve before they run, and what their answers have used."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.dialects.openai_tasks.durations import SECONDS_MAX, seconds
from adapters.dialects.openai_tasks.image_words import ImageWords
from adapters.dialects.openai_tasks.register import TASKS
from adapters.dialects.openai_tasks.task import Task, dropped_fields, write_body
from domain.catalog import Capability, Dialect
from domain.errors import InvalidRequest
from domain.money import Usd
from domain.usage import Usage
from tests.adapters.test_multipart import form

EMBEDDINGS = TASKS[Dialect.OPENAI_EMBEDDINGS]
IMAGES = TASKS[Dialect.OPENAI_IMAGES]
EDITS = TASKS[Dialect.OPENAI_IMAGE_EDITS]
SPEECH = TASKS[Dialect.OPENAI_SPEECH]
TRANSCRIPTIONS = TASKS[Dialect.OPENAI_TRANSCRIPTIONS]
RERANK = TASKS[Dialect.RERANK]
MODERATIONS = TASKS[Dialect.OPENAI_MODERATIONS]


def encode(**members: Any) -> bytes:
    return json.dumps(members).encode()


def wav(long_s: int) -> bytes:
    rate = 16_000
    data = b"\x00" * (long_s * rate)
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36, b"WAVE", b"fmt ", 16, 1, 1, 8_000, rate, 2, 16, b"data", 0)
    return head + data


@pytest.mark.parametrize(
    ("given_input", "tokens"),
    [("Hello there, world.", 5), (["a", "b"], 2), ([1, 2, 3], 3), ([[1, 2], [3]], 3)],
)
def test_an_embedding_reserves_its_input(given_input: Any, tokens: int) -> None:
    request = EMBEDDINGS.read_request(encode(model="acme/embed", input=given_input, encoding_format="base64"))

    assert request.ceiling == Usage(input=tokens, requests=1)
    assert request.needs == {Capability.EMBEDDINGS}
    assert not request.streamed


def test_the_body_goes_on_as_it_came_less_what_is_the_gateways() -> None:
    body = b'{ "input": "a\\u00e9", "model":"acme/embed", "max_cost_usd": "1.50",\n "x": 1e400, "user":"u" }'
    request = EMBEDDINGS.read_request(body)

    assert request.cost_max == Usd.parse("1.50")
    sent, kind = write_body(request, "embed-3", frozenset({"user"}))
    assert sent == b'{ "input": "a\\u00e9", "model":"embed-3",\n "x": 1e400 }'
    assert kind == "application/json"
    assert dropped_fields(request, frozenset({"user", "absent"})) == ["user"]


@pytest.mark.parametrize(
    ("task", "answer", "used"),
    [
        (EMBEDDINGS, {"data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}}, Usage(input=8, requests=1)),
        (EMBEDDINGS, {"data": []}, None),
        (
            IMAGES,
            {
                "data": [{"b64_json": "QQ=="}, {"b64_json": "QQ=="}],
                "usage": {
                    "input_tokens": 60,
                    "input_tokens_details": {"text_tokens": 20, "image_tokens": 40},
                    "output_tokens": 8_320,
                },
            },
            Usage(input=20, image_in=40, image_out=8_320, images=2, image_variant="1024x1024:high", requests=1),
        ),
        (RERANK, {"results": [], "usage": {"total_tokens": 77}}, Usage(input=77, searches=1, requests=1)),
        (
            RERANK,
            {"results": [], "meta": {"billed_units": {"search_units": 3}, "tokens": {"input_tokens": 9}}},
            Usage(input=9, searches=3, requests=1),
        ),
        (
            TRANSCRIPTIONS,
            {"text": "a", "usage": {"type": "duration", "seconds": 9}},
            Usage(audio_in=90, output=1, seconds=9, requests=1),
        ),
        (
            TRANSCRIPTIONS,
            {
                "text": "a",
                "usage": {
                    "type": "tokens",
                    "input_tokens": 14,
                    "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
                    "output_tokens": 45,
                },
            },
            Usage(input=4, audio_in=10, output=45, seconds=3, requests=1),
        ),
        (
            TRANSCRIPTIONS,
            {"text": "a", "usage": {"type": "duration", "seconds": 8.2}},
            Usage(audio_in=90, output=1, seconds=9, requests=1),
        ),
        (TRANSCRIPTIONS, {"text": "a", "duration": 3.2}, Usage(audio_in=40, output=1, seconds=4, requests=1)),
        (TRANSCRIPTIONS, {"text": "a", "duration": "3.0"}, Usage(audio_in=30, output=1, seconds=3, requests=1)),
        # More seconds than bytes can hold, and what is no number of them: as long as the recording says itself.
        (TRANSCRIPTIONS, {"text": "a", "duration": 80_000}, Usage(audio_in=30, output=1, seconds=3, requests=1)),
        (TRANSCRIPTIONS, {"text": "a", "duration": "NaN"}, Usage(audio_in=30, output=1, seconds=3, requests=1)),
        (TRANSCRIPTIONS, {"text": "a", "duration": "1e99999"}, Usage(audio_in=30, output=1, seconds=3, requests=1)),
        # A usage in words that nobody knows is none: what was asked for is not free.
        (
            IMAGES,
            {"data": [{"b64_json": "QQ=="}], "usage": {"total": 4_160}},
            Usage(input=2, image_out=4_160, images=1, image_variant="1024x1024:high", requests=1),
        ),
        (SPEECH, {"type": "speech.audio.done", "usage": {"total": 9}}, None),
        (TRANSCRIPTIONS, {"text": "a", "usage": {"total": 9}}, Usage(audio_in=30, output=1, seconds=3, requests=1)),
        (MODERATIONS, {"results": [{}], "usage": {"total": 9}}, Usage(input=2, requests=1)),
        (TRANSCRIPTIONS, {"text": "abcd"}, Usage(audio_in=30, output=1, seconds=3, requests=1)),
    ],
)
def test_an_answers_own_word_is_what_is_charged(task: Task, answer: Any, used: Usage | None) -> None:
    request = task.read_request(REQUESTS[task.dialect])

    assert task.used(json.dumps(answer).encode(), request) == used


REQUESTS = {
    Dialect.OPENAI_EMBEDDINGS: encode(model="m", input="a"),
    Dialect.OPENAI_SPEECH: encode(model="m", input="Hello", voice="v"),
    Dialect.OPENAI_MODERATIONS: encode(model="m", input="Fine?"),
    Dialect.OPENAI_IMAGES: encode(model="m", prompt="A fox", n=2, quality="high", size="1024x1024"),
    Dialect.RERANK: encode(model="m", query="q", documents=["a", "b"]),
    Dialect.OPENAI_TRANSCRIPTIONS: form(("model", b"m"), ("file", wav(3), "a.wav")),
}


def test_images_reserve_the_dearest_of_what_was_asked_for() -> None:
    request = IMAGES.read_request(REQUESTS[Dialect.OPENAI_IMAGES])

    assert request.ceiling is not None
    assert request.ceiling.images == 2
    assert request.ceiling.image_out == 2 * 4_160
    auto = IMAGES.read_request(encode(model="m", prompt="A fox")).ceiling
    assert auto is not None
    assert auto.image_out == 6_240


def test_an_image_without_a_usage_costs_what_its_size_does() -> None:
    request = IMAGES.read_request(REQUESTS[Dialect.OPENAI_IMAGES])

    used = IMAGES.used(encode(created=1, data=[{"url": "https://x.test/1"}]), request)

    assert used == Usage(input=2, image_out=4_160, images=1, image_variant="1024x1024:high", requests=1)


def test_an_edit_is_a_form_with_an_image() -> None:
    body = form(
        ("model", b"m"), ("prompt", b"More fox"), ("image[]", b"PNG", "a.png"), ("n", b"3"), ("stream", b"true")
    )
    request = EDITS.read_request(body)

    assert request.ceiling is not None
    assert request.ceiling.images == 3
    assert request.ceiling.image_in == 6_500
    assert request.streamed
    sent, kind = write_body(request, "theirs", frozenset())
    assert sent == body.replace(b"\r\n\r\nm\r\n", b"\r\n\r\ntheirs\r\n")
    assert kind.startswith("multipart/form-data; boundary=")


def test_a_form_may_hold_the_gateways_fields() -> None:
    own = (("max_cost_usd", b"0.25"), ("models", b'["b/c"]'), ("provider", b'{"only":["acme"]}'))
    request = TRANSCRIPTIONS.read_request(form(("model", b"m"), ("file", wav(1), "a.wav"), *own))

    assert request.cost_max == Usd.parse("0.25")
    assert request.preferences.models == ("b/c",)
    assert request.preferences.only == ("acme",)
    assert write_body(request, "m", frozenset())[0] == form(("model", b"m"), ("file", wav(1), "a.wav"))


def test_speech_is_counted_by_characters_and_by_the_length_of_its_sound() -> None:
    request = SPEECH.read_request(encode(model="m", voice="v", input="Grüezi mitenand"))
    sound = b"\x00" * 48_000

    assert request.ceiling is not None
    assert SPEECH.used_by_bytes is not None
    assert request.ceiling.characters == 15
    assert SPEECH.used_by_bytes(sound, "audio/pcm", request) == Usage(
        input=request.ceiling.input, audio_out=21, characters=15, requests=1
    )
    assert SPEECH.used_by_bytes(b"", "audio/pcm", request) is None


@pytest.mark.parametrize(
    ("task", "body", "param"),
    [
        (EMBEDDINGS, encode(input="a"), "model"),
        (EMBEDDINGS, encode(model="m"), "input"),
        (EMBEDDINGS, encode(model="m", input=[]), "input"),
        (EMBEDDINGS, encode(model="m", input={"a": 1}), "input"),
        (EMBEDDINGS, encode(model="m", input=["a"] * 2_049), "input"),
        (EMBEDDINGS, form(("model", b"m"), ("input", b"a")), "input"),
        (IMAGES, encode(model="m"), "prompt"),
        (IMAGES, encode(model="m", prompt="a", n=11), "n"),
        (IMAGES, encode(model="m", prompt="a", n="two"), "n"),
        (IMAGES, encode(model="m", prompt="a", size="99999x10"), "size"),
        (EDITS, encode(model="m", prompt="a"), "image"),
        (EDITS, form(("model", b"m"), ("prompt", b"a")), "image"),
        (SPEECH, encode(model="m"), "input"),
        (TRANSCRIPTIONS, encode(model="m"), "file"),
        (TRANSCRIPTIONS, form(("model", b"m")), "file"),
        (RERANK, encode(model="m", documents=["a"]), "query"),
        (RERANK, encode(model="m", query="q", documents=[]), "documents"),
        (RERANK, encode(model="m", query="q", documents=[3]), "documents"),
        (MODERATIONS, encode(model="m", input=7), "input"),
        (TRANSCRIPTIONS, form(("model", b"m"), ("file", b"x", "a"), ("provider", b"{")), None),
        (EMBEDDINGS, b"--x", None),
        (EMBEDDINGS, b"[" * 10_000, None),
    ],
)
def test_bad_input_is_refused_by_name(task: Task, body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        task.read_request(body)
    assert refused.value.param == param


def test_a_moderation_needs_no_model() -> None:
    request = MODERATIONS.read_request(encode(input="Is this fine?"))

    assert request.model == "omni-moderation-latest"
    assert write_body(request, "theirs", frozenset())[0] == b'{"input": "Is this fine?","model":"theirs"}'


def test_the_cost_is_put_into_a_usage_and_nowhere_else() -> None:
    assert EMBEDDINGS.with_cost(b'{"data":[],"usage":{"prompt_tokens":1}}', Usd(5)) == (
        b'{"data":[],"usage":{"prompt_tokens":1,"cost":0.000000005}}'
    )
    assert SPEECH.with_cost(b'RIFF"usage"', Usd(5)) == b'RIFF"usage"'


def flac(samples: int, rate: int) -> bytes:
    return b"fLaC\x00\x00\x00\x22" + b"\x00" * 10 + (rate << 44 | samples).to_bytes(8) + b"\x00" * 16


def mp4(long: int, scale: int) -> bytes:
    return (
        b"\x00\x00\x00\x08ftyp" + b"\x00\x00\x00\x6cmvhd" + struct.pack(">IIIII", 0, 0, 0, scale, long) + b"\x00" * 80
    )


def ogg(samples: int) -> bytes:
    return b"OggS\x00\x02" + b"\x00" * 20 + b"OpusHead" + b"OggS\x00\x04" + struct.pack("<q", samples) + b"\x00" * 12


@pytest.mark.parametrize(
    ("recording", "long"),
    [
        (wav(3), 3),
        (flac(44_100 * 7, 44_100), 7),
        (mp4(90_001, 1_000), 91),
        (ogg(48_000 * 5), 5),
        (b"\xff\xfb\x90\x00" + b"\x00" * 31_996, 2),
        (b"ID3\x04\x00\x00\x00\x00\x00\x0512345\xff\xfb\x90\x00" + b"\x00" * 15_981, 1),
        (b"?" * 4_001, 3),
        (b"?", 1),
        (mp4(10**9, 1), SECONDS_MAX),
    ],
)
def test_a_recordings_length(recording: bytes, long: int) -> None:
    assert seconds(recording) == long


@given(st.sampled_from([b"", b"RIFF....WAVEfmt ", b"fLaC", b"....ftypmvhd", b"OggS", b"ID3", b"\xff\xfb"]), st.binary())
def test_no_bytes_break_the_reading_of_a_length(start: bytes, rest: bytes) -> None:
    assert 1 <= seconds(start + rest) <= SECONDS_MAX


@pytest.mark.parametrize(
    ("words", "asked", "told", "dropped"),
    [
        (ImageWords(sides=True, base64="base64"), {"size": "1536x1024"}, {"width": 1536, "height": 1024}, []),
        (ImageWords(sides=True), {"size": "auto"}, {}, []),
        (ImageWords(sides=True), {"size": "large"}, {}, ["size"]),
        (ImageWords(sides=True), {"size": "64x64", "width": 32}, {"width": 32, "height": 64}, []),
        (ImageWords(ratio=True), {"size": "1536x1024"}, {"aspect_ratio": "3:2"}, []),
        (ImageWords(ratio=True), {"size": "1792x1024"}, {"aspect_ratio": "16:9"}, []),
        (
            ImageWords(sides=True, base64="base64"),
            {"response_format": "b64_json"},
            {"response_format": "base64"},
            [],
        ),
        (ImageWords(base64=None), {"response_format": "b64_json"}, {}, []),
        (ImageWords(base64=None), {"response_format": "url"}, {}, ["response_format"]),
        (ImageWords(), {"size": "1x1", "response_format": "url"}, {"size": "1x1", "response_format": "url"}, []),
    ],
)
def test_vendors_are_asked_for_images_in_their_words(
    words: ImageWords, asked: dict[str, Any], told: dict[str, Any], dropped: list[str]
) -> None:
    body, named = words.written(encode(model="m", prompt="A fox", **asked))

    assert json.loads(body) == {"model": "m", "prompt": "A fox", **told}
    assert named == dropped
