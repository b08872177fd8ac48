"""The models that come with the product do their whole job over HTTP with no vendor key, and cost what they say."""

from __future__ import annotations

import asyncio
import json
import time
from itertools import pairwise
from typing import Any

import pytest

from tests.e2e.conftest import Answer, Place, nanos

pytestmark = pytest.mark.anyio

SETTINGS = {"GATEWAYZ_KEEPALIVE_SECONDS": "1"}
TEXT = "one two three four five"
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


async def say(place: Place, model: str, text: str = TEXT, **members: Any) -> Answer:
    return await place.chat(f"sandbox/{model}", messages=[{"role": "user", "content": text}], **members)


async def stream(place: Place, model: str, text: str = TEXT, **members: Any) -> Answer:
    return await say(place, model, text, stream=True, stream_options={"include_usage": True}, **members)


def text_of(answer: Answer) -> str:
    choices = [chunk["choices"][0] for chunk in answer.events if chunk != b"[DONE]" and chunk.get("choices")]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def test_echo_repeats(place: Place) -> None:
    whole, streamed = await say(place, "echo"), await stream(place, "echo")

    assert whole.json["choices"][0]["message"]["content"] == TEXT
    assert whole.json["usage"] | {"prompt_tokens": 5, "completion_tokens": 5} == whole.json["usage"]
    assert text_of(streamed) == TEXT
    assert streamed.events[-1] == b"[DONE]"
    assert nanos(whole.headers["x-gatewayz-cost-usd"]) == 5 * 500 + 5 * 1_500
    assert streamed.events[-2]["usage"]["cost"] == whole.json["usage"]["cost"]
    assert whole.headers["x-gatewayz-vendor"] == "sandbox"


async def test_free_is_free(place: Place) -> None:
    before = await place.charged()

    answer, streamed = await say(place, "free"), await stream(place, "free")

    assert answer.headers["x-gatewayz-cost-usd"] == "0"
    assert answer.json["usage"]["cost"] == 0
    assert text_of(streamed) == TEXT
    assert await place.charged() == before
    assert (await place.generation(answer.request_id))["outcome"] == "completed"


async def test_free_needs_no_credit(place: Place) -> None:
    key = await place.customer(None)
    body = {"model": "sandbox/free", "messages": [{"role": "user", "content": TEXT}]}

    assert (await place.send(json.dumps(body).encode(), key=key)).status == 200
    assert (await place.send(json.dumps(body | {"model": "sandbox/echo"}).encode(), key=key)).status == 402


async def test_slow_sends_each_word_when_it_is_there(place: Place) -> None:
    body = {"model": "sandbox/slow", "messages": [{"role": "user", "content": TEXT}], "stream": True}
    came: list[float] = []
    async with place.http.stream(
        "POST", "/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {place.key}"}
    ) as response:
        async for part in response.aiter_raw():
            came += [time.monotonic()] * part.count(b'"content":"')

    gaps = [later - earlier for earlier, later in pairwise(came)]
    assert len(gaps) >= 4
    assert all(0.1 < gap < 0.5 for gap in gaps[-4:])


async def test_stall_is_bridged_by_comments(place: Place) -> None:
    began = time.monotonic()

    answer = await stream(place, "stall", "wait 2500 ms")

    assert time.monotonic() - began >= 2.4
    assert answer.body.startswith(b": keep-alive\n\n")
    assert answer.body.count(b": keep-alive\n\n") <= 2
    assert text_of(answer) == "wait 2500 ms"
    assert answer.headers["x-request-id"]


async def test_stall_keeps_a_whole_answer_waiting(place: Place) -> None:
    assert (await say(place, "stall", "300 ms")).json["choices"][0]["message"]["content"] == "300 ms"


@pytest.mark.parametrize(
    ("word", "status", "code"),
    [
        ("400", 400, "invalid_request"),
        ("401", 503, "no_vendor_available"),
        ("402", 503, "no_vendor_available"),
        ("403", 503, "no_vendor_available"),
        ("404", 503, "no_vendor_available"),
        ("413", 413, "request_too_large"),
        ("429", 429, "rate_limit_exceeded"),
        ("quota", 503, "no_vendor_available"),
        ("500", 502, "vendor_error"),
        ("503", 503, "no_vendor_available"),
        ("529", 503, "no_vendor_available"),
        ("context", 400, "context_length_exceeded"),
        ("policy", 400, "content_policy_violation"),
        ("timeout", 504, "vendor_timeout"),
        ("unreachable", 503, "no_vendor_available"),
        ("malformed", 502, "vendor_error"),
        ("broken-off", 502, "vendor_error"),
    ],
)
@pytest.mark.parametrize("streams", [False, True])
async def test_fail_fails_as_it_is_told_and_costs_nothing(
    place: Place, word: str, status: int, code: str, streams: bool
) -> None:
    before = await place.charged()

    answer = await say(place, "fail", word, stream=streams)

    assert answer.status == status, answer.body
    assert answer.error["code"] == code
    assert await place.charged() == before


@pytest.mark.parametrize("word", ["500", "429", "timeout", "malformed", "broken-off"])
async def test_fail_after_fails_in_the_middle_of_a_stream(place: Place, word: str) -> None:
    before = await place.charged()

    answer = await stream(place, "fail-after", f"one two three {word}")

    assert answer.status == 200
    assert text_of(Answer(200, {}, answer.body.rpartition(b"data: ")[0])) == "one two three"
    assert answer.events[-1]["error"]["message"]
    assert await place.charged() == before
    assert (await place.generation(answer.request_id))["outcome"] == "broken_off"


async def test_tool_calls_the_tool_and_takes_its_result(place: Place) -> None:
    called = await say(place, "tool", tools=[TOOL])
    streamed = await stream(place, "tool", tools=[TOOL])

    message = called.json["choices"][0]["message"]
    assert called.json["choices"][0]["finish_reason"] == "tool_calls"
    assert "city" in json.loads(message["tool_calls"][0]["function"]["arguments"])
    fragments = [chunk["choices"][0]["delta"].get("tool_calls") for chunk in streamed.events[:-2]]
    arguments = "".join(each[0]["function"]["arguments"] for each in fragments if each)
    assert json.loads(arguments).keys() == {"city"}
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "sunny"}
    final = await place.chat(
        "sandbox/tool", messages=[{"role": "user", "content": TEXT}, message, result], tools=[TOOL]
    )
    assert final.json["choices"][0]["message"]["content"] == "sunny"


async def test_reason_thinks_and_is_charged_for_it(place: Place) -> None:
    whole, streamed = await say(place, "reason"), await stream(place, "reason")

    usage = whole.json["usage"]
    assert whole.json["choices"][0]["message"]["reasoning_content"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] > 0
    assert nanos(whole.headers["x-gatewayz-cost-usd"]) == 5 * 1_000 + usage["completion_tokens"] * 4_000
    assert streamed.events[-2]["usage"]["cost"] == usage["cost"]


async def test_no_usage_is_charged_by_our_own_count(place: Place) -> None:
    before = await place.charged()

    whole, streamed = await say(place, "no-usage"), await stream(place, "no-usage")

    assert "usage" not in whole.json
    assert streamed.events[-2]["usage"]["completion_tokens"] == 5
    assert streamed.events[-2]["usage"]["estimated"] is True
    charged = nanos(whole.headers["x-gatewayz-cost-usd"]) + nanos(streamed.events[-2]["usage"]["cost"])
    assert await place.charged() - before == charged > 0


async def test_no_done_gets_one(place: Place) -> None:
    answer = await stream(place, "no-done")

    assert text_of(answer) == TEXT
    assert answer.events[-1] == b"[DONE]"
    assert answer.events[-2]["usage"]["cost"] > 0


async def test_cut_is_broken_off_and_free(place: Place) -> None:
    before = await place.charged()

    whole, streamed = await say(place, "cut"), await stream(place, "cut")

    assert whole.status == 502
    assert "error" in streamed.events[-1]
    assert await place.charged() == before


async def test_many_at_once_all_get_their_own(place: Place) -> None:
    texts = [f"number {number}" for number in range(100)]

    answers = await asyncio.gather(*(stream(place, "echo", text) for text in texts))

    assert [text_of(answer) for answer in answers] == texts
    assert len({answer.request_id for answer in answers}) == 100


async def test_the_ledger_agrees_with_all_of_this(place: Place) -> None:
    await place.verify()
