"""The sandbox keeps the promises of a real vendor, and breaks them exactly as asked."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from adapters.dialects.openai_chat.server import read_request
from adapters.transport.sse import events
from adapters.vendors.sandbox import MODELS, SandboxVendor
from adapters.vendors.sandbox_json import CannotSatisfy, minimal_json
from adapters.vendors.sandbox_script import OUTPUT_MAX, tokens
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.ports.vendors import ChatStream
from domain.usage import Usage

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "minLength": 2},
                "days": {"type": "integer", "minimum": 3},
            },
            "required": ["city", "days"],
        },
    },
}


class StoppedClock:
    def now(self) -> datetime:
        return NOON

    def monotonic(self) -> float:
        return 0.0


class Sleeper:
    """Sleeps in no time and remembers for how long."""

    def __init__(self) -> None:
        self.naps: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.naps.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def sleeper() -> Sleeper:
    return Sleeper()


@pytest.fixture
def sandbox(sleeper: Sleeper) -> SandboxVendor:
    return SandboxVendor(StoppedClock(), sleeper)


def call(model: str, text: str = "one two three four five", *, limit: int | None = None, **members) -> ChatCall:
    body = {"model": f"sandbox/{model}", "messages": [{"role": "user", "content": text}], **members}
    request = read_request(msgspec.json.encode(body))
    return ChatCall(request=request, vendor_model=model, output_limit=limit)


async def whole(sandbox: SandboxVendor, chat_call: ChatCall) -> Any:
    answer = await sandbox.complete(chat_call)
    return ChatCompletion.model_validate_json(answer.body, strict=True)


async def streamed(sandbox: SandboxVendor, chat_call: ChatCall):
    """The stream after its end, its chunks as the official SDK types them, and its raw bytes."""
    stream = await sandbox.stream(chat_call)
    seen: list[bytes] = []
    await read(stream, seen)
    raw = b"".join(seen)
    data = [event.data for event in events(raw)]
    assert data.pop() == b"[DONE]"
    return stream, [ChatCompletionChunk.model_validate_json(chunk, strict=True) for chunk in data], raw


async def read(stream: ChatStream, seen: list[bytes]) -> None:
    async for part in stream:
        seen.append(part)


def said(chunks: list[ChatCompletionChunk], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


async def fault_of(sandbox: SandboxVendor, chat_call: ChatCall) -> VendorFault:
    with pytest.raises(VendorFault) as caught:
        await (streamed if chat_call.request.streamed else whole)(sandbox, chat_call)
    return caught.value


async def test_echo_repeats_the_last_user_message(sandbox):
    messages = [
        {"role": "user", "content": "earlier"},
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": [{"type": "text", "text": "Guten "}, {"type": "text", "text": "Tag!"}]},
    ]
    answer = await whole(sandbox, call("echo", messages=messages))
    assert answer.choices[0].message.content == "Guten Tag!"
    assert (answer.created, answer.model) == (int(NOON.timestamp()), "echo")


async def test_a_stream_says_what_the_whole_answer_says_and_ends_with_its_usage(sandbox):
    stream, chunks, raw = await streamed(
        sandbox, call("echo", "Grüße, Welt  !\n", stream=True, stream_options={"include_usage": True})
    )
    assert said(chunks) == "Grüße, Welt  !\n"
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == stream.finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 5
    assert stream.usage == Usage(input=5, output=5, requests=1)
    assert raw.count(b'"usage":null') == len(chunks) - 1


async def test_usage_that_only_the_gateway_asked_for_is_not_shown_but_known(sandbox):
    stream, chunks, raw = await streamed(sandbox, call("echo", stream=True))
    assert b"usage" not in raw
    assert all(chunk.choices for chunk in chunks)
    assert stream.usage == Usage(input=5, output=5, requests=1)
    assert stream.started


@pytest.mark.parametrize(
    ("members", "limit", "kept"),
    [
        ({"max_tokens": 2}, None, "one two"),
        ({"max_completion_tokens": 3}, None, "one two three"),
        ({"max_tokens": 4}, 1, "one"),
        ({}, 2, "one two"),
    ],
)
async def test_the_lowest_output_limit_cuts_the_answer(sandbox, members, limit, kept):
    answer = await whole(sandbox, call("echo", limit=limit, **members))
    assert answer.choices[0].message.content == kept
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == len(kept.split())


async def test_no_answer_is_longer_than_the_models_maximum(sandbox):
    answer = await whole(sandbox, call("echo", "w " * 20_000))
    assert answer.usage.completion_tokens == OUTPUT_MAX
    assert answer.choices[0].finish_reason == "length"


async def test_a_stop_sequence_ends_the_answer(sandbox):
    answer = await whole(sandbox, call("echo", stop=["four", "three"]))
    assert answer.choices[0].message.content == "one two "
    assert answer.choices[0].finish_reason == "stop"


async def test_every_one_of_n_answers_is_given_and_counted(sandbox):
    answer = await whole(sandbox, call("echo", n=3))
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage.completion_tokens == 15
    stream, chunks, _ = await streamed(sandbox, call("echo", n=2, stream=True))
    assert said(chunks, 0) == said(chunks, 1) == "one two three four five"
    assert stream.usage.output == 10


async def test_slow_takes_200_ms_a_word(sandbox, sleeper):
    await streamed(sandbox, call("slow", "a b c", stream=True))
    assert sleeper.naps.count(0.2) >= 3


@pytest.mark.parametrize(("text", "seconds"), [("stall 3s", 3.0), ("stall", 20.0), ("stall 250 ms", 0.25)])
async def test_stall_waits_as_long_as_the_message_says(sandbox, sleeper, text, seconds):
    await streamed(sandbox, call("stall", text, stream=True))
    assert sleeper.naps[0] == seconds


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stall_beyond_the_time_for_the_first_byte_is_a_fault(sandbox, sleeper, stream):
    chat_call = msgspec.structs.replace(call("stall", "stall 3s", stream=stream), first_byte_s=2.0)
    assert (await fault_of(sandbox, chat_call)).kind is FaultKind.FIRST_BYTE_TIMEOUT
    assert sleeper.naps == [2.0]


async def test_hanging_up_ends_a_stall_at_once():
    stream = await SandboxVendor(StoppedClock()).stream(call("stall", stream=True))
    reading = asyncio.ensure_future(anext(aiter(stream)))
    await asyncio.sleep(0.01)
    stream.close()
    stream.close()
    await asyncio.wait({reading}, timeout=1)
    assert reading.done()
    with pytest.raises(VendorFault, match="hung up"):
        await reading


async def test_cancelling_a_reader_cancels_its_pause():
    stream = await SandboxVendor(StoppedClock()).stream(call("stall", stream=True))
    reading = asyncio.ensure_future(anext(aiter(stream)))
    await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


FAULTS = {
    "400": FaultKind.REFUSED,
    "refused": FaultKind.REFUSED,
    "401": FaultKind.CREDENTIAL_REJECTED,
    "402": FaultKind.ACCOUNT_EMPTY,
    "403": FaultKind.CREDENTIAL_REJECTED,
    "404": FaultKind.MODEL_MISSING,
    "413": FaultKind.REFUSED,
    "429": FaultKind.RATE_LIMITED,
    "quota": FaultKind.ACCOUNT_EMPTY,
    "500": FaultKind.SERVER_ERROR,
    "503": FaultKind.OVERLOADED,
    "anything": FaultKind.SERVER_ERROR,
    "context": FaultKind.CONTEXT_LENGTH,
    "policy": FaultKind.CONTENT_POLICY,
    "malformed": FaultKind.MALFORMED,
    "broken-off": FaultKind.BROKEN_OFF,
    "unreachable": FaultKind.UNREACHABLE,
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("word", "kind"), [*FAULTS.items(), ("timeout", FaultKind.FIRST_BYTE_TIMEOUT)])
async def test_fail_fails_as_the_message_says(sandbox, word, kind, stream):
    assert (await fault_of(sandbox, call("fail", f"please fail with {word}", stream=stream))).kind is kind


@pytest.mark.parametrize(("word", "kind"), [*FAULTS.items(), ("timeout", FaultKind.IDLE_TIMEOUT)])
async def test_fail_after_fails_when_three_words_are_out(sandbox, word, kind):
    stream = await sandbox.stream(call("fail-after", f"now {word} then and there", stream=True))
    seen: list[bytes] = []
    with pytest.raises(VendorFault) as caught:
        await read(stream, seen)
    chunks = [ChatCompletionChunk.model_validate_json(event.data) for event in events(b"".join(seen))]
    assert said(chunks) == "".join(tokens(f"now {word} then and there", 3))
    assert caught.value.kind is kind
    assert (stream.started, stream.usage, stream.finish_reason) == (True, None, None)
    assert stream.produced_tokens() == 3


async def test_a_rate_limit_says_when_to_come_back(sandbox):
    assert (await fault_of(sandbox, call("fail", "429"))).retry_after_s == 1


async def test_tool_calls_the_first_tool_with_arguments_that_fit_its_schema(sandbox):
    answer = await whole(sandbox, call("tool", tools=[WEATHER]))
    (tool_call,) = answer.choices[0].message.tool_calls
    assert tool_call.function.name == "weather"
    assert msgspec.json.decode(tool_call.function.arguments) == {"city": "xx", "days": 3}
    assert answer.choices[0].finish_reason == "tool_calls"


async def test_tool_call_fragments_join_to_its_arguments(sandbox):
    stream, chunks, _ = await streamed(sandbox, call("tool", tools=[WEATHER], stream=True))
    calls = [choice.delta.tool_calls[0] for chunk in chunks for choice in chunk.choices if choice.delta.tool_calls]
    assert (calls[0].function.name, calls[0].type) == ("weather", "function")
    assert calls[0].id
    arguments = "".join(part.function.arguments for part in calls)
    assert msgspec.json.decode(arguments) == {"city": "xx", "days": 3}
    assert stream.started


async def test_tool_obeys_the_choice_of_tool(sandbox):
    other = {"type": "function", "function": {"name": "other"}}
    named = {"type": "function", "function": {"name": "other"}}
    answer = await whole(sandbox, call("tool", tools=[WEATHER, other], tool_choice=named))
    assert answer.choices[0].message.tool_calls[0].function.name == "other"
    answer = await whole(sandbox, call("tool", tools=[WEATHER], tool_choice="none"))
    assert answer.choices[0].message.content == "one two three four five"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
async def test_every_model_calls_a_tool_that_is_demanded(sandbox, choice):
    answer = await whole(sandbox, call("echo", tools=[WEATHER], tool_choice=choice))
    assert answer.choices[0].message.tool_calls[0].function.name == "weather"
    answer = await whole(sandbox, call("echo", tools=[WEATHER], tool_choice="auto"))
    assert answer.choices[0].message.content == "one two three four five"


async def test_tool_answers_with_the_result_of_its_tool(sandbox):
    messages = [
        {"role": "user", "content": "weather?"},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    answer = await whole(sandbox, call("tool", messages=messages, tools=[WEATHER]))
    assert answer.choices[0].message.content == "sunny"


async def test_reason_thinks_aloud_and_counts_it_apart(sandbox):
    stream, chunks, raw = await streamed(sandbox, call("reason", "hi there", stream=True))
    assert said(chunks) == "hi there"
    assert b'"reasoning_content":' in raw
    assert stream.usage.output == 2
    assert stream.usage.reasoning > 0
    answer = await whole(sandbox, call("reason", "hi there"))
    details = answer.usage.completion_tokens_details
    assert details.reasoning_tokens == stream.usage.reasoning
    assert answer.usage.completion_tokens == 2 + details.reasoning_tokens


async def test_no_usage_reports_none_so_that_our_own_count_stands(sandbox):
    stream, _, raw = await streamed(sandbox, call("no-usage", stream=True, stream_options={"include_usage": True}))
    assert stream.usage is None
    assert b'"usage"' not in raw
    assert stream.produced_tokens() == 5
    answer = await sandbox.complete(call("no-usage"))
    assert answer.usage is None
    assert answer.produced_tokens > 0


async def test_a_missing_done_is_no_fault(sandbox):
    stream, chunks, _ = await streamed(sandbox, call("no-done", stream=True))
    assert (stream.finish_reason, said(chunks)) == ("stop", "one two three four five")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_missing_finish_is_one(sandbox, stream):
    assert (await fault_of(sandbox, call("cut", stream=stream))).kind is FaultKind.BROKEN_OFF


async def test_structured_output_satisfies_its_schema(sandbox):
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    wish = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    answer = await whole(sandbox, call("echo", response_format=wish))
    assert msgspec.json.decode(answer.choices[0].message.content) == {"ok": False}
    answer = await whole(sandbox, call("echo", response_format={"type": "json_object"}))
    assert answer.choices[0].message.content == "{}"


async def test_a_prompt_beyond_the_context_is_refused(sandbox):
    assert (await fault_of(sandbox, call("echo", "w " * 128_001))).kind is FaultKind.CONTEXT_LENGTH


async def test_an_impossible_member_is_refused_by_name(sandbox):
    fault = await fault_of(sandbox, call("echo", stop=["1", "2", "3", "4", "5"]))
    assert (fault.kind, fault.param) == (FaultKind.REFUSED, "stop")


async def test_an_unknown_model_is_missing(sandbox):
    assert (await fault_of(sandbox, call("nothing"))).kind is FaultKind.MODEL_MISSING


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)
async def test_every_model_is_priced_and_known_to_its_vendor(sandbox, model):
    (offer,) = model.priced
    assert offer.price.free == offer.price.rates.is_zero == (model.id == "sandbox/free")
    await sandbox.stream(call(offer.vendor_model, "timeout" if offer.vendor_model == "fail-after" else "malformed"))


@given(st.text(), st.integers(0, 50))
def test_tokens_are_the_beginning_of_their_text(text, most):
    assert text.startswith("".join(tokens(text, most)))
    assert "".join(tokens(text, len(text) + 1)) == text


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "object", "properties": {"a": {"type": "string"}}}, {}),
        ({"enum": ["x", "y"]}, "x"),
        ({"const": {"k": 1}}, {"k": 1}),
        ({"type": ["string", "null"]}, None),
        ({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, None),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [0, 0]),
        ({"type": "array", "prefixItems": [{"const": 1}], "items": {"const": 2}, "minItems": 2}, [1, 2]),
        ({"type": "integer", "minimum": 4, "multipleOf": 5}, 5),
        ({"type": "integer", "exclusiveMaximum": -3}, -4),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
        ({"type": "string", "format": "date"}, "2026-01-01"),
        ({"type": "string", "pattern": "^A+$", "examples": ["AA"]}, "AA"),
        (
            {
                "$defs": {"p": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
                "allOf": [{"$ref": "#/$defs/p"}, {"properties": {"m": {"const": 1}}, "required": ["m"]}],
            },
            {"n": 0, "m": 1},
        ),
        (
            {
                "$defs": {
                    "node": {
                        "type": "object",
                        "properties": {"next": {"$ref": "#/$defs/maybe"}},
                        "required": ["next"],
                    },
                    "maybe": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
                "$ref": "#/$defs/node",
            },
            {"next": None},
        ),
    ],
)
def test_the_smallest_value_of_a_schema(schema, value):
    assert minimal_json(schema) == value


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"$ref": "#/$defs/nowhere"},
        {"$ref": "#"},
        {"type": "object", "properties": {"me": {"$ref": "#"}}, "required": ["me"]},
        {"type": "string", "minLength": 50_000},
        {"type": "array", "minItems": 10**18},
        {"type": "array", "minItems": 9_000, "items": {"type": "array", "minItems": 9_000}},
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"allOf": [{"$ref": "#"}]},
    ],
)
def test_a_schema_that_cannot_be_met_cheaply_is_refused(schema):
    with pytest.raises(CannotSatisfy):
        minimal_json(schema)
