"""What vendors of OpenAI's dialect send is passed on as it came, counted as it is, and refused where it is none."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.dialects.openai_chat.client import OpenAIChatStream, read_answer, write_request
from adapters.dialects.openai_chat.errors import read_fault
from adapters.dialects.openai_chat.server import read_request
from adapters.dialects.openai_chat.wire import read_usage, written_usage
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.usage import Usage
from tests.examples import examples
from tests.fakes.upstream import (
    DONE,
    LIE,
    ErrorForm,
    ToolCall,
    UsageAt,
    chunks,
    completion,
    encode,
    event,
    failure_in,
    token_usage,
)

pytestmark = pytest.mark.anyio

CALL = ToolCall()
REPLIES: list[dict[str, Any]] = [
    {},
    {"text_pieces": ["naïve ", "“Zürich” ", "\U0001f600", "\n\n", "data: x\r\n"]},
    {"tool_calls": [CALL, ToolCall(id="call_2", arguments="{}")]},
    {"reasoning": ["Let", " me", " think"]},
    {"refusal": "I cannot help with that."},
    {"logprobs": True},
    {"strange": True},
    {"finish": "length"},
    {"text_pieces": ['{"usage":{"prompt_tokens":1}}', '"finish_reason":"stop"', '"error":"no"', "[DONE]"]},
]
ERROR_FORMS: list[ErrorForm] = [
    "dict",
    "string",
    "json_string",
    "error_in_error",
    "with_detail",
    "with_status_code",
    "on_a_chunk",
    "x_groq",
]


class Line:
    """A vendor's connection: what it delivers, and whether it was hung up."""

    def __init__(self, pieces: Iterable[bytes], fault: VendorFault | None = None) -> None:
        self._pieces = pieces
        self._fault = fault
        self.hung_up = 0

    def hang_up(self) -> None:
        self.hung_up += 1

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        if self._fault is not None:
            raise self._fault


def stream_of(
    *pieces: bytes, shows_usage: bool = True, fault: VendorFault | None = None
) -> tuple[OpenAIChatStream, Line]:
    line = Line(pieces, fault)
    return OpenAIChatStream(line.chunks(), line.hang_up, {}, shows_usage=shows_usage), line


async def passed(stream: OpenAIChatStream) -> bytes:
    return b"".join([piece async for piece in stream])


async def fault_of(stream: OpenAIChatStream) -> tuple[VendorFault, bytes]:
    """How it failed, and what was passed on before."""
    seen: list[bytes] = []

    async def read() -> None:
        async for piece in stream:
            seen.append(piece)

    with pytest.raises(VendorFault) as raised:
        await read()
    return raised.value, b"".join(seen)


def cut(whole: bytes, places: Sequence[int]) -> list[bytes]:
    return [whole[start:end] for start, end in pairwise([0, *sorted(places), len(whole)])]


@st.composite
def deliveries(draw: st.DrawFn) -> list[bytes]:
    """A correct stream in any of the ways it may be written down, cut anywhere."""
    options = draw(st.sampled_from(REPLIES))
    usage_at: UsageAt = draw(st.sampled_from(["end", "finish", "both", "every", "nowhere"]))
    line_end = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    said = [*chunks(usage_at=usage_at, **options), DONE]
    if draw(st.booleans()):
        said = [b": keep-alive\n\n" + frame for frame in said]
    if draw(st.booleans()):
        said = [frame.replace(b"data: ", b"data:", 1) for frame in said]
    whole = b"".join(said).replace(b"\n", line_end)
    if draw(st.booleans()):
        whole = b"\xef\xbb\xbf" + whole
    return cut(whole, draw(st.lists(st.integers(0, len(whole)), max_size=12)))


@settings(deadline=None, max_examples=examples(60))
@given(deliveries())
async def test_any_split_of_any_stream_is_passed_on_verbatim(pieces: list[bytes]) -> None:
    stream, line = stream_of(*pieces)

    assert await passed(stream) == b"".join(pieces)
    assert stream.started
    assert stream.finish_reason in {"stop", "length", "tool_calls"}
    assert not line.hung_up


@settings(deadline=None, max_examples=examples(60))
@given(st.sampled_from(REPLIES), st.lists(st.integers(0, 6_000), max_size=10))
async def test_usage_that_only_the_gateway_asked_for_never_reaches_the_caller(
    options: dict[str, Any], places: list[int]
) -> None:
    """What is passed on is, byte for byte, what the vendor would have sent had nobody asked."""
    asked = b"".join([*chunks(include_usage=True, obfuscation=False, **options), DONE])
    unasked = b"".join([*chunks(include_usage=False, obfuscation=False, **options), DONE])
    stream, _ = stream_of(*cut(asked, [min(place, len(asked)) for place in places]), shows_usage=False)

    assert await passed(stream) == unasked
    assert stream.usage is not None


@pytest.mark.parametrize(
    "chunk",
    [
        b'{"id":"1","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}],"usage":null}',
        b'{"id":"1","usage": null ,"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}',
        b'{"usage":null,"id":"1","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}',
    ],
    ids=["last", "between, with spaces", "first"],
)
async def test_a_null_usage_is_taken_out_wherever_it_stands(chunk: bytes) -> None:
    finish = b'data: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    stream, _ = stream_of(b"data: " + chunk + b"\n\n" + chunk_event(b'"b"', b""), finish, DONE, shows_usage=False)

    first = (await passed(stream)).split(b"\n\n")[0].removeprefix(b"data: ")

    assert json.loads(first) == {name: value for name, value in json.loads(chunk).items() if name != "usage"}


@pytest.mark.parametrize("nested", [b'"x":{"a":1,"usage":null}', b'"x":[{"a":1,"usage" : null}]'])
async def test_a_null_usage_of_a_vendors_own_object_stays(nested: bytes) -> None:
    frames = [chunk_event(b'"a"', b"," + nested), chunk_event(b'"b"', b"," + nested), chunk_event(None, b""), DONE]
    stream, _ = stream_of(*frames, shows_usage=False)

    assert await passed(stream) == b"".join(frames)


def chunk_event(content: bytes | None, more: bytes) -> bytes:
    """A chunk with this content, or the one that finishes."""
    delta = b"{}" if content is None else b'{"content":%b}' % content
    finish = b'"stop"' if content is None else b"null"
    choice = b'{"index":0,"delta":%b,"finish_reason":%b}' % (delta, finish)
    return b'data: {"id":"1","choices":[%b]%b}\n\n' % (choice, more)


async def test_a_stream_starts_with_its_first_content_not_with_its_role() -> None:
    role, first, *_ = chunks(["Hello", "!"])
    stream, _ = stream_of(role, first)
    pieces = aiter(stream)

    await anext(pieces)
    assert not stream.started
    await anext(pieces)
    assert stream.started


@pytest.mark.parametrize("usage_at", ["end", "finish", "both", "every"])
async def test_the_last_usage_counts_wherever_a_vendor_reports_it(usage_at: UsageAt) -> None:
    stream, _ = stream_of(*chunks(usage_at=usage_at), DONE)

    await passed(stream)

    assert stream.usage == Usage(input=11, output=6, requests=1)


async def test_a_usage_that_cannot_be_true_is_as_good_as_none() -> None:
    stream, _ = stream_of(*chunks(usage=token_usage(LIE, LIE)), DONE)

    await passed(stream)

    assert stream.usage is None
    assert stream.produced_tokens() == 6


async def test_an_unbelievable_usage_does_not_replace_one_that_was_true() -> None:
    told = [*chunks(usage_at="end"), event({"choices": [], "usage": token_usage(LIE, LIE)})]
    stream, _ = stream_of(*told, DONE)

    await passed(stream)

    assert stream.usage == Usage(input=11, output=6, requests=1)


async def test_a_finished_stream_without_done_gets_one() -> None:
    told = chunks()
    stream, _ = stream_of(*told)

    assert await passed(stream) == b"".join(told) + DONE


async def test_a_finished_stream_may_lack_its_last_blank_line() -> None:
    told = b"".join(chunks())
    stream, _ = stream_of(told.rstrip(b"\n"))

    assert await passed(stream) == told + DONE


async def test_nothing_after_done_is_passed_on() -> None:
    told = b"".join(chunks()) + DONE
    stream, _ = stream_of(told, b"data: more\n\n", b"junk")

    assert await passed(stream) == told


@pytest.mark.parametrize("frames", range(1, 7))
async def test_a_stream_that_ends_without_a_finish_is_broken_off(frames: int) -> None:
    told = chunks(obfuscation=False)[:frames]
    stream, _ = stream_of(*told)

    fault, seen = await fault_of(stream)

    assert fault.kind is FaultKind.BROKEN_OFF
    assert seen == b"".join(told)


async def test_what_came_before_a_broken_connection_is_passed_on_first() -> None:
    told = chunks(obfuscation=False)[:3]
    stream, _ = stream_of(b"".join(told) + b'data: {"id', fault=VendorFault(FaultKind.BROKEN_OFF, "gone"))

    fault, seen = await fault_of(stream)

    assert fault.kind is FaultKind.BROKEN_OFF
    assert seen == b"".join(told)
    assert stream.produced_tokens() == 2


@pytest.mark.parametrize(
    "frame",
    [
        b'data: {"id":"chatcmpl-fake0001","choices":[{"index":0,\n\n',
        b"data: <html>Bad gateway</html>\n\n",
        b"data: \xff\xfe\n\n",
        b"data: [1,2]\n\n",
        b"data: " + b"[" * 5_000 + b"\n\n",
    ],
    ids=["cut off", "HTML", "not UTF-8", "an array", "too deep"],
)
async def test_a_first_frame_that_is_not_this_dialect_is_malformed(frame: bytes) -> None:
    stream, _ = stream_of(frame, *chunks(), DONE)

    fault, seen = await fault_of(stream)

    assert fault.kind is FaultKind.MALFORMED
    assert seen == b""


@pytest.mark.parametrize("place", [2, 4])
async def test_a_malformed_frame_in_the_middle_ends_the_stream(place: int) -> None:
    told = chunks(obfuscation=False)
    broken = b'data: {"id":"chatcmpl-fake0001","choices":[{"index":0,\n\n'
    stream, _ = stream_of(*told[:place], broken, *told[place + 1 :], DONE)

    fault, seen = await fault_of(stream)

    assert fault.kind is FaultKind.MALFORMED
    assert seen == b"".join(told[:place])


@pytest.mark.parametrize("form", ERROR_FORMS)
@pytest.mark.parametrize("after", [0, 3])
async def test_an_error_in_a_stream_ends_it_in_whatever_form_it_comes(form: ErrorForm, after: int) -> None:
    told = chunks(obfuscation=False)[:after]
    stream, _ = stream_of(*told, event(failure_in(form)))

    fault, seen = await fault_of(stream)

    assert fault.worth_another_vendor
    assert b"upstream exploded" not in seen or form == "x_groq"
    assert seen.startswith(b"".join(told))


async def test_a_finish_with_an_error_is_no_finish() -> None:
    stream, _ = stream_of(*chunks(finish="error"), DONE)

    fault, _ = await fault_of(stream)

    assert fault.kind is FaultKind.BROKEN_OFF


@pytest.mark.parametrize("told", [b"", DONE, b": nothing\n\n", b"\n\n\n\n"])
async def test_a_stream_with_nothing_in_it_is_no_answer(told: bytes) -> None:
    stream, _ = stream_of(told)

    fault, _ = await fault_of(stream)

    assert fault.kind in {FaultKind.MALFORMED, FaultKind.BROKEN_OFF}


async def test_an_event_beyond_all_measure_is_malformed() -> None:
    block = b"x" * (1024 * 1024)
    stream, _ = stream_of(b"data: ", *[block] * 33)

    fault, _ = await fault_of(stream)

    assert fault.kind is FaultKind.MALFORMED


async def test_closing_hangs_up() -> None:
    stream, line = stream_of(*chunks())

    stream.close()

    assert line.hung_up == 1


@pytest.mark.parametrize(
    ("options", "produced"),
    [
        ({"text_pieces": ["Hello", " there", "!"]}, 3),
        ({"tool_calls": [CALL]}, 1 + len(CALL.fragments)),
        ({"reasoning": ["Let", " me"], "text_pieces": ["ok"]}, 3),
        ({"text_pieces": ["x" * 380]}, 100),
        ({"text_pieces": ["ü" * 100]}, 80),
        ({"text_pieces": []}, 0),
    ],
    ids=["deltas", "a tool call", "reasoning", "long deltas by bytes", "other scripts by bytes", "nothing"],
)
async def test_output_is_counted_without_the_vendors_help(options: dict[str, Any], produced: int) -> None:
    stream, _ = stream_of(*chunks(usage_at="nowhere", **options), DONE)

    await passed(stream)

    assert stream.usage is None
    assert stream.produced_tokens() == produced


def call(body: bytes, vendor_model: str = "their-model", output_limit: int | None = None) -> ChatCall:
    return ChatCall(request=read_request(body), vendor_model=vendor_model, output_limit=output_limit)


ODD = (
    b' {\n\t"model" :  "acme/one" ,"seed":123456789012345678901234567890, "temperature": 1.0E-3,\r\n'
    b' "messages":[{"role":"user","content":"\\u00e9\\ud83d\\ude00 \xc3\xa9 \\/ \\b"}], "x_unheard_of" : '
    b'{"deep" : [ 1 , 2.50 , -0 ]} %b } '
)


@pytest.mark.parametrize(
    ("more", "sent"),
    [
        (b"", b""),
        (b', "provider":{"order":["acme"]}', b""),
        (b', "models":["b"],"session_id":"s" , "max_cost_usd":1', b""),
        (b', "user":"u" , "session_id":"s"', b', "user":"u"'),
        (b', "stream":false', b', "stream":false'),
        (b', "max_tokens": 7', b', "max_tokens": 7'),
        (b', "stream":true', b', "stream":true,"stream_options":{"include_usage":true}'),
        (
            b', "stream":true, "stream_options": { "include_obfuscation" : false }',
            b', "stream":true, "stream_options": { "include_obfuscation" : false,"include_usage":true }',
        ),
        (
            b', "stream":true, "stream_options":{"include_usage" : false}',
            b', "stream":true, "stream_options":{"include_usage" : true}',
        ),
        (
            b', "stream":true, "stream_options": {"include_usage" :true }',
            b', "stream":true, "stream_options": {"include_usage" :true }',
        ),
        (b', "stream":true, "stream_options":null', b', "stream":true, "stream_options":{"include_usage":true}'),
    ],
)
def test_only_what_must_change_of_a_request_changes(more: bytes, sent: bytes) -> None:
    theirs = (ODD % sent).replace(b'"acme/one"', b'"their-model"')

    assert write_request(call(ODD % more)).replace(b" ", b"") == theirs.replace(b" ", b"")
    # White space around members that stay is the caller's too.
    assert write_request(call(ODD % more)).startswith(theirs[:200])


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_an_output_limit_that_credit_cannot_pay_is_lowered_where_the_caller_put_it(name: str) -> None:
    sent = json.loads(write_request(call(ODD % f', "{name}": 9000'.encode(), output_limit=500)))

    assert sent[name] == 500
    assert len({"max_tokens", "max_completion_tokens"} & sent.keys()) == 1


def test_an_output_limit_is_added_under_the_vendors_name() -> None:
    limited = call(ODD % b"", output_limit=500)

    assert json.loads(write_request(limited))["max_completion_tokens"] == 500
    assert json.loads(write_request(limited, output_limit_field="max_tokens"))["max_tokens"] == 500


def test_fields_are_renamed_and_dropped_as_the_vendor_demands() -> None:
    body = ODD % b', "max_completion_tokens":5, "service_tier":"auto"'

    sent = json.loads(
        write_request(call(body), renamed={"max_completion_tokens": "max_tokens"}, dropped=frozenset({"service_tier"}))
    )

    assert sent["max_tokens"] == 5
    assert not {"max_completion_tokens", "service_tier"} & sent.keys()


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5}, Usage(input=10, output=5, requests=1)),
        (token_usage(100, 50, cached=30, reasoning=20), Usage(input=70, cache_read=30, output=30, reasoning=20)),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 60,
                "total_tokens": 160,
                "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 30, "audio_tokens": 10},
                "completion_tokens_details": {"audio_tokens": 25, "reasoning_tokens": 15},
            },
            Usage(input=40, cache_read=20, cache_write_other=30, audio_in=10, output=20, reasoning=15, audio_out=25),
        ),
        (
            # xAI counts reasoning beside the completion; only the total tells.
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            Usage(input=32, output=9, reasoning=94),
        ),
        (
            {
                "prompt_tokens": 32,
                "completion_tokens": 103,
                "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            Usage(input=32, output=9, reasoning=94),
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 99}},
            Usage(cache_read=5, output=1),
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": None},
            Usage(input=5, output=1),
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": None}},
            Usage(input=5, output=1),
        ),
        ({"prompt_tokens": 5.0, "completion_tokens": "1"}, Usage(input=5, output=1)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage()),
        ({"prompt_tokens": LIE, "completion_tokens": 1}, None),
        ({"prompt_tokens": 1, "completion_tokens": -1}, None),
        ({"prompt_tokens": None, "completion_tokens": 1}, None),
        ({"total_tokens": 7}, None),
        ({}, None),
        ("text", None),
    ],
)
def test_nested_usage_is_read_as_disjoint_classes(told: object, meant: Usage | None) -> None:
    read = read_usage(encode(told))

    assert read == (meant and Usage(**{n: getattr(meant, n) for n in Usage.__struct_fields__} | {"requests": 1}))


@settings(max_examples=examples(100))
@given(
    prompt=st.integers(0, 10**6),
    completion=st.integers(0, 10**6),
    parts=st.lists(st.integers(-5, 10**6), min_size=5, max_size=5),
)
def test_no_token_is_counted_in_two_classes(prompt: int, completion: int, parts: list[int]) -> None:
    cached, written, heard, reasoning, spoken = parts
    usage = read_usage(
        encode(
            {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "prompt_tokens_details": {
                    "cached_tokens": cached,
                    "cache_write_tokens": written,
                    "audio_tokens": heard,
                },
                "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": spoken},
            }
        )
    )

    assert usage is not None
    assert usage.input_tokens == prompt
    assert usage.output_tokens == completion
    assert min(usage.input, usage.cache_read, usage.output, usage.reasoning, usage.audio_out) >= 0


def test_a_whole_answer_is_kept_as_it_came() -> None:
    body = completion("Grüße \U0001f600", usage=token_usage(7, 3), strange=True)

    answer = read_answer(body, {})

    assert answer.body == body
    assert answer.usage == Usage(input=7, output=3, requests=1)
    assert answer.finish_reason == "stop"


def test_a_whole_answer_without_usage_is_counted() -> None:
    body = json.loads(completion("x" * 380))
    del body["usage"]

    answer = read_answer(encode(body), {})

    assert answer.usage is None
    assert answer.produced_tokens == 100


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!doctype html><h1>Bad gateway</h1>",
        b"null",
        b"[]",
        b'{"choices":[]}',
        b'{"id":"x"}',
        b'{"choices":[{"message"',
        b"[" * 100_000,
        completion("x", finish="error"),
        *(encode(failure_in(form)) for form in ERROR_FORMS),
    ],
)
def test_what_is_no_answer_is_the_vendors_fault(body: bytes) -> None:
    with pytest.raises(VendorFault) as raised:
        read_answer(body, {})

    assert raised.value.worth_another_vendor
    assert raised.value.hurts_health


K = FaultKind


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": {"message": "Invalid value", "code": "invalid_value"}}, K.REFUSED),
        (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, K.REFUSED),
        (413, {}, K.REFUSED),
        (400, {"error": {"code": "context_length_exceeded", "message": "too long"}}, K.CONTEXT_LENGTH),
        (400, {"error": {"message": "This model's maximum context length is 8192 tokens"}}, K.CONTEXT_LENGTH),
        (400, {"message": "Current length is 9000 while limit is 8192"}, K.CONTEXT_LENGTH),
        (400, {"error": {"message": "Invalid 'user': input too long", "code": "string_above_max_length"}}, K.REFUSED),
        (400, {"error": {"code": "content_filter", "message": "filtered"}}, K.CONTENT_POLICY),
        (400, {"code": "x", "error": "Incorrect API key provided"}, K.CREDENTIAL_REJECTED),
        (401, {"error": {"message": "bad key"}}, K.CREDENTIAL_REJECTED),
        (403, {"error": {"message": "no"}}, K.CREDENTIAL_REJECTED),
        (403, {"code": 403, "reason": "NOT_ENOUGH_BALANCE", "message": "no"}, K.ACCOUNT_EMPTY),
        (402, {"error": {"message": "Insufficient Balance"}}, K.ACCOUNT_EMPTY),
        (429, {"error": {"code": "insufficient_quota", "message": "quota"}}, K.ACCOUNT_EMPTY),
        (429, {"error": {"code": "rate_limit_exceeded", "message": "slow down"}}, K.RATE_LIMITED),
        (404, {"error": {"message": "no such model"}}, K.MODEL_MISSING),
        (408, {}, K.SERVER_ERROR),
        (500, {"error": {"message": "oops"}}, K.SERVER_ERROR),
        (502, b"<html>", K.SERVER_ERROR),
        (503, {"error": "queue full"}, K.OVERLOADED),
        (504, b"", K.SERVER_ERROR),
        (529, {"error": {"type": "overloaded_error"}}, K.OVERLOADED),
        (498, {}, K.OVERLOADED),
        (302, b"", K.SERVER_ERROR),
        (None, {"error": {"code": 429, "message": "x"}}, K.RATE_LIMITED),
        (None, {"error": {"code": "insufficient_quota"}}, K.ACCOUNT_EMPTY),
        (None, {"error": "Overloaded"}, K.OVERLOADED),
        (None, {"error": {"error": "boom"}}, K.SERVER_ERROR),
        (None, {"error": "infra_overload", "detail": "no capacity"}, K.OVERLOADED),
        (413, {"error": {"message": "Request too large", "code": "rate_limit_exceeded"}}, K.RATE_LIMITED),
        (429, {"error": {"message": "busy", "type": "service_overloaded"}}, K.OVERLOADED),
        (402, {"error": {"message": "no", "type": "no_limit_configured"}}, K.ACCOUNT_EMPTY),
        (400, {"error": {"message": "no", "code": "model_not_supported"}}, K.MODEL_MISSING),
        (403, {"error": {"code": 403, "message": "no", "metadata": {"reasons": ["x"]}}}, K.CONTENT_POLICY),
        (401, {"fault": {"faultstring": "no", "detail": {"errorcode": "x"}}}, K.CREDENTIAL_REJECTED),
        (422, {"message": {"detail": [{"loc": ["body", "n"], "msg": "too large"}]}}, K.REFUSED),
        (500, b"[" * 100_000, K.SERVER_ERROR),
        (500, b"\xff\xfe", K.SERVER_ERROR),
    ],
)
def test_every_refusal_is_understood(status: int | None, body: object, kind: FaultKind) -> None:
    fault = read_fault(status, {}, body if isinstance(body, bytes) else encode(body))

    assert fault.kind is kind


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.2"}, 1),
        ({"retry-after-ms": "2500"}, 3),
        ({"retry-after": "1", "retry-after-ms": "9000"}, 9),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e9"}, 3_600),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "2m59.56s"}, 180),
        ({"retry-after": "20ms"}, 1),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1793534430000"}, None),
        (
            {
                "x-ratelimit-remaining": "0",
                "x-ratelimit-reset": "1793534430000",
                "date": "Sun, 01 Nov 2026 12:00:00 GMT",
            },
            30,
        ),
        ({"retry-after": "1", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "9"}, 1),
        (
            {"retry-after": "Sun, 01 Nov 2026 12:00:30 GMT", "date": "Sun, 01 Nov 2026 12:00:00 GMT"},
            30,
        ),
    ],
)
def test_the_longest_hint_to_wait_is_taken(headers: dict[str, str], seconds: int | None) -> None:
    assert read_fault(429, headers, b"{}").retry_after_s == seconds


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"detail": [{"loc": ["body", "n"], "msg": "too large"}, {"msg": "other"}]}, "body.n: too large; other"),
        ({"fault": {"faultstring": "Invalid key", "detail": {"errorcode": "x"}}}, "Invalid key"),
        ({"error": "infra_overload", "detail": "No capacity"}, "No capacity"),
        ({"code": "x", "error": "In words"}, "In words"),
        ({}, "it answered with status 400"),
    ],
)
def test_a_refusals_words_are_found_wherever_they_are(body: object, message: str) -> None:
    assert read_fault(400, {}, encode(body)).message == message


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 5,
                "prompt_cache_hit_tokens": 60,
                "prompt_cache_miss_tokens": 40,
            },
            Usage(input=40, cache_read=60, output=5, requests=1),
        ),
        (
            {"prompt_tokens": 100, "completion_tokens": 5, "input_tokens_details": {"cached_tokens": 60}},
            Usage(input=40, cache_read=60, output=5, requests=1),
        ),
        (
            {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"image_tokens": 70}},
            Usage(input=30, image_in=70, output=5, requests=1),
        ),
        (
            {"prompt_tokens": 100, "completion_tokens": 5, "num_sources_used": 3},
            Usage(input=100, output=5, searches=3, requests=1),
        ),
    ],
)
def test_vendors_own_places_of_usage_are_read(told: object, meant: Usage) -> None:
    assert read_usage(encode(told)) == meant


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input=1, output=2, requests=1),
        Usage(input=5, cache_read=3, cache_write_other=2, output=4, reasoning=6, requests=1),
    ],
)
def test_usage_is_written_as_it_is_read(usage: Usage) -> None:
    assert read_usage(encode(written_usage(usage))) == usage
