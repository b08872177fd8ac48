"""What callers of OpenAI's dialect send is understood or refused by name, and answers get the gateway's own parts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from adapters.dialects.openai_chat.server import (
    DONE,
    KEEP_ALIVE,
    read_request,
    telling,
    with_cost,
)
from adapters.transport.sse import events
from domain.catalog import Capability
from domain.errors import InvalidRequest
from domain.money import Usd
from domain.routing import Sort
from domain.usage import Usage
from tests.examples import examples
from tests.fakes.upstream import chunks, completion, encode, token_usage

HELLO = [{"role": "user", "content": "Hello"}]
TELLING = telling(
    read_request(b'{"model":"acme/one","messages":[{"role":"user","content":"Hello"}]}'), "r1", 1_760_000_000
)


def body(**members: Any) -> bytes:
    return encode({"model": "acme/one", "messages": HELLO} | members)


def test_a_request_is_read_without_touching_its_bytes() -> None:
    raw = body(stream=True, stream_options={"include_usage": True}, max_tokens=9, n=2, session_id="s")

    request = read_request(raw)

    assert request.body == raw
    assert request.model == "acme/one"
    assert request.streamed
    assert request.wants_usage
    assert request.output_max == 9
    assert request.answers == 2
    assert request.session == "s"
    assert request.prompt_tokens > 0
    assert request.needs == {Capability.STREAM}


@pytest.mark.parametrize(
    ("members", "need"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, Capability.TOOLS),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, Capability.JSON_SCHEMA),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]},
            Capability.IMAGES_IN,
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": ""}}]}]},
            Capability.AUDIO_IN,
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
            Capability.FILES_IN,
        ),
    ],
)
def test_what_a_model_must_be_able_to_do_is_seen(members: dict[str, Any], need: Capability) -> None:
    assert need in read_request(body(**members)).needs


def test_empty_tools_need_nothing() -> None:
    assert read_request(body(tools=[])).needs == frozenset()


def test_preferences_are_read() -> None:
    request = read_request(
        body(
            models=["b", "c"], provider={"order": ["x"], "only": ["x", "y"], "allow_fallbacks": False, "sort": "price"}
        )
    )

    assert request.preferences.models == ("b", "c")
    assert request.preferences.order == ("x",)
    assert request.preferences.only == ("x", "y")
    assert not request.preferences.allow_fallbacks
    assert request.preferences.sort is Sort.PRICE


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"", None),
        (b"null", None),
        (b"[]", None),
        (b'"text"', None),
        (b'{"model":"a","messages":[{}]', None),
        (b'{"model":"a","messages":[{}]} x', None),
        (b"\xff\xfe{}", None),
        (b'\xef\xbb\xbf{"model":"a","messages":[{}]}', None),
        (b'{"model":"a","messages":[{}],"model":"b"}', None),
        (b'{"model":"a","messages":[NaN]}', None),
        (b'{"model":"a","messages":' + b"[" * 128 + b"]" * 128 + b"}", None),
        (b'{"model":"a","messages":' + b"[" * 100_000, None),
        (b'{"messages":[{}]}', "model"),
        (b'{"model":null,"messages":[{}]}', "model"),
        (b'{"model":"","messages":[{}]}', "model"),
        (b'{"model":7,"messages":[{}]}', "model"),
        (b'{"model":"a"}', "messages"),
        (b'{"model":"a","messages":[ ]}', "messages"),
        (b'{"model":"a","messages":"hi"}', "messages"),
        (b'{"model":"a","messages":null}', "messages"),
        (body(stream="yes"), "stream"),
        (body(stream_options=[]), "stream_options"),
        (body(stream_options={"include_usage": 1}), "stream_options"),
        (body(max_tokens=0), "max_tokens"),
        (body(max_tokens=-1), "max_tokens"),
        (body(max_tokens="9"), "max_tokens"),
        (body(max_tokens=1.5), "max_tokens"),
        (body(max_completion_tokens=1 << 40), "max_completion_tokens"),
        (body(n=0), "n"),
        (body(n=129), "n"),
        (body(models="b"), "models"),
        (body(models=[1]), "models"),
        (body(provider="x"), "provider"),
        (body(provider={"ordr": ["x"]}), "provider"),
        (body(provider={"sort": "cheap"}), "provider"),
        (body(session_id=5), "session_id"),
        (body(max_cost_usd="a lot"), "max_cost_usd"),
        (body(max_cost_usd=-1), "max_cost_usd"),
        (body(max_cost_usd="0.0000000001"), "max_cost_usd"),
        (body(max_cost_usd="1e999"), "max_cost_usd"),
        (body(max_cost_usd=[1]), "max_cost_usd"),
        (body(max_cost_usd=True), "max_cost_usd"),
    ],
)
def test_what_cannot_be_read_is_refused_and_named(raw: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_request(raw)

    assert refused.value.param == param
    assert len(refused.value.message) < 500


def test_a_body_as_deep_as_allowed_is_read() -> None:
    deepest = b'{"model":"a","messages":' + b"[" * 127 + b"1" + b"]" * 127 + b"}"

    assert read_request(deepest).model == "a"


@settings(max_examples=examples(150))
@given(st.binary(max_size=200))
def test_no_bytes_at_all_do_anything_but_refuse(raw: bytes) -> None:
    for attempt in (raw, b'{"model":"a","messages":[{}],' + raw + b"}", b'{"model":' + raw + b',"messages":[{}]}'):
        try:
            read_request(attempt)
        except InvalidRequest:
            continue


@pytest.mark.parametrize(
    ("value", "cost"),
    [
        ("0.25", "0.25"),
        ('"0.25"', "0.25"),
        ("1e-9", "0.000000001"),
        ('"12"', "12"),
        ("0", "0"),
        ("0.1000000000000000000000", "0.1"),
    ],
)
def test_a_cost_ceiling_is_read_from_its_digits(value: str, cost: str) -> None:
    raw = body()[:-1] + b',"max_cost_usd":' + value.encode() + b"}"

    assert str(read_request(raw).cost_max) == cost


@pytest.mark.parametrize(
    ("answer", "costed"),
    [
        (b'{"usage":{"prompt_tokens":1}}', b'{"usage":{"prompt_tokens":1,"cost":0.000000042}}'),
        (b'{"usage": { } }', b'{"usage": {"cost":0.000000042 } }'),
        (b'{"usage":{"cost":7,"x":1}}', b'{"usage":{"cost":0.000000042,"x":1}}'),
        (b'{"usage":null}', b'{"usage":null}'),
        (b'{"a":{"usage":{"x":1}}}', b'{"a":{"usage":{"x":1}}}'),
        (b"not JSON", b"not JSON"),
        (b"", b""),
    ],
)
def test_an_answers_cost_is_added_to_its_usage_alone(answer: bytes, costed: bytes) -> None:
    assert with_cost(answer, Usd(42)).replace(b" ", b"") == costed.replace(b" ", b"")


@settings(max_examples=examples(60))
@given(st.text(max_size=50), st.integers(0, 10**18))
def test_a_costed_answer_differs_in_nothing_else(text: str, nanos: int) -> None:
    answer = completion(text, strange=True)

    costed = with_cost(answer, Usd(nanos))

    added = b',"cost":' + str(Usd(nanos)).encode()
    assert costed.replace(added, b"", 1) == answer
    assert "e" not in str(Usd(nanos))


def test_a_streams_cost_goes_into_its_usage_frame_alone() -> None:
    told = b"".join([*chunks(['"usage":{"a":1}', " b"], usage=token_usage(5, 2), obfuscation=False), DONE])

    costed = TELLING.with_cost(told, Usd(42))

    assert costed.replace(b',"cost":0.000000042', b"", 1) == told
    *_, last, done = [event.data for event in events(costed)]
    assert done == b"[DONE]"
    assert json.loads(last)["usage"] | token_usage(5, 2) == json.loads(last)["usage"]
    assert json.loads(last)["usage"]["cost"] == 42e-9


def test_events_without_a_usage_object_stay_as_they_are() -> None:
    told = b"".join(chunks(include_usage=False))

    assert TELLING.with_cost(told, Usd(42)) == told


def test_our_own_count_comes_before_the_end_of_a_stream_without_usage() -> None:
    *_, finish = chunks(include_usage=False)

    ended = TELLING.with_usage_before_end(finish + DONE, Usage(input=7, output=3), Usd(42))

    assert ended is not None
    assert ended.startswith(finish)
    assert ended.endswith(DONE)
    chunk = ChatCompletionChunk.model_validate_json(events(ended)[-2].data)
    assert chunk.choices == []
    assert chunk.usage is not None
    assert chunk.usage.total_tokens == 10
    assert chunk.usage.model_extra == {"cost": 42e-9, "estimated": True}


def test_there_is_no_place_for_our_own_count_before_the_end() -> None:
    assert TELLING.with_usage_before_end(chunks()[0], Usage(), Usd(0)) is None


def test_a_stream_that_credit_cannot_carry_further_ends_with_length() -> None:
    finish, done = events(TELLING.length_stop(Usage()))

    assert done.data == b"[DONE]"
    assert ChatCompletionChunk.model_validate_json(finish.data, strict=True).choices[0].finish_reason == "length"


def test_an_error_event_is_one_event() -> None:
    [event] = events(TELLING.error_event(b'{"error":{"message":"a"}}'))

    assert json.loads(event.data) == {"error": {"message": "a"}}


def test_a_keep_alive_is_no_event() -> None:
    assert events(KEEP_ALIVE) == []
    assert KEEP_ALIVE.startswith(b":")
    assert KEEP_ALIVE.endswith(b"\n\n")
