"""The official OpenAI client, unpatched, finds in the gateway the API that it knows."""

from __future__ import annotations

import json
import time
from itertools import count
from typing import Any

import openai
import pytest
from anyio import to_thread
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from tests.e2e.conftest import HELLO, SOLO, Place, cost
from tests.fakes.upstream import (
    TEXT_PIECES,
    Reply,
    Request,
    Script,
    ToolCall,
    bad_request,
    error_in_stream,
    rate_limited,
    silent,
    stalls,
    token_usage,
    unauthorized,
)

pytestmark = pytest.mark.anyio

MODEL = SOLO[0]
TEXT = "".join(TEXT_PIECES)
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string"}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


class City(BaseModel):
    name: str
    inhabitants: int


async def streamed(client: openai.AsyncOpenAI, **options: Any) -> list[ChatCompletionChunk]:
    return [chunk async for chunk in await stream_of(client, **options)]


async def stream_of(client: openai.AsyncOpenAI, **options: Any) -> openai.AsyncStream[ChatCompletionChunk]:
    known: dict[str, Any] = {"model": MODEL, "messages": HELLO, "stream": True}
    stream: openai.AsyncStream[ChatCompletionChunk] = await client.chat.completions.create(**known | options)
    return stream


async def asked(client: openai.AsyncOpenAI, **options: Any) -> ChatCompletion:
    known: dict[str, Any] = {"model": MODEL, "messages": HELLO}
    answer: ChatCompletion = await client.chat.completions.create(**known | options)
    return answer


async def test_a_whole_answer(place: Place) -> None:
    async with place.client() as client:
        answer = await asked(client)

    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (11, 6)
    assert answer.usage.model_extra == {"cost": cost(11, 6) / 10**9}
    assert answer._request_id


async def test_the_blocking_client_from_several_threads(place: Place) -> None:
    def ask() -> str | None:
        with openai.OpenAI(base_url=f"{place.gateway.base_url}/v1", api_key=place.key, max_retries=0) as client:
            answer = client.chat.completions.create(model=MODEL, messages=HELLO)
            return answer.choices[0].message.content

    assert await to_thread.run_sync(ask) == TEXT


async def test_a_stream(place: Place) -> None:
    async with place.client() as client:
        seen = await streamed(client)

    assert "".join(chunk.choices[0].delta.content or "" for chunk in seen) == TEXT
    assert seen[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in seen)


async def test_a_stream_that_asks_for_usage_gets_it_with_its_cost(place: Place) -> None:
    async with place.client() as client:
        *_, last = await streamed(client, stream_options={"include_usage": True})

    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 17
    assert last.usage.model_extra == {"cost": cost(11, 6) / 10**9}


async def test_tools_in_a_whole_answer(place: Place) -> None:
    place.alpha.script(Script(reply=Reply(tool_calls=[ToolCall(), ToolCall(id="call_2")])))
    async with place.client() as client:
        answer = await asked(client, tools=[WEATHER])

    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert [call.id for call in calls] == ["call_0001", "call_2"]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert place.alpha.requests[0].json["tools"] == [WEATHER]


async def test_tools_in_a_stream(place: Place) -> None:
    place.alpha.script(Script(reply=Reply(tool_calls=[ToolCall()])))
    async with (
        place.client() as client,
        client.chat.completions.stream(
            model=MODEL,
            messages=HELLO,
            tools=[WEATHER],
        ) as stream,
    ):
        done = [event async for event in stream if event.type == "tool_calls.function.arguments.done"]

    assert [event.name for event in done] == ["get_weather"]
    assert json.loads(done[0].arguments) == {"city": "Zürich", "unit": "celsius"}


async def test_structured_output_is_parsed(place: Place) -> None:
    place.alpha.script(Script(reply=Reply(pieces=('{"name":"Zürich",', '"inhabitants":447082}'))))
    async with place.client() as client:
        answer = await client.chat.completions.parse(model=MODEL, messages=HELLO, response_format=City)

    assert answer.choices[0].message.parsed == City(name="Zürich", inhabitants=447082)
    assert place.alpha.requests[0].json["response_format"]["json_schema"]["strict"] is True


async def test_structured_output_is_parsed_from_a_stream(place: Place) -> None:
    place.alpha.script(Script(reply=Reply(pieces=('{"name":"Zürich",', '"inhabitants":447082}'))))
    async with (
        place.client() as client,
        client.chat.completions.stream(
            model=MODEL,
            messages=HELLO,
            response_format=City,
        ) as stream,
    ):
        answer = await stream.get_final_completion()

    assert answer.choices[0].message.parsed == City(name="Zürich", inhabitants=447082)


async def test_a_refusal_and_logprobs(place: Place) -> None:
    place.alpha.script(Script(reply=Reply(refusal="I cannot.")), Script(reply=Reply(logprobs=True)))
    async with place.client() as client:
        refused = await asked(client)
        known = await asked(client, logprobs=True)

    assert refused.choices[0].message.refusal == "I cannot."
    assert known.choices[0].logprobs is not None
    assert [each.token for each in known.choices[0].logprobs.content or ()] == list(TEXT_PIECES)


@pytest.mark.parametrize(
    ("options", "kind", "code"),
    [
        ({"max_tokens": -1}, openai.BadRequestError, "invalid_request"),
        ({"model": "acme/solo"}, openai.NotFoundError, "model_not_found"),
        ({"model": "sandbox/fail", "messages": [{"role": "user", "content": "429"}]}, openai.RateLimitError, None),
        ({"model": "sandbox/fail", "messages": [{"role": "user", "content": "500"}]}, openai.InternalServerError, None),
        ({"extra_body": {"max_cost_usd": "0.000000001"}}, openai.APIStatusError, "max_cost_exceeded"),
    ],
)
async def test_refusals_are_the_clients_own_exceptions(
    place: Place, options: dict[str, Any], kind: type[openai.APIStatusError], code: str | None
) -> None:
    async with place.client() as client:
        with pytest.raises(kind) as refused:
            await asked(client, **options)

    assert type(refused.value) is kind
    assert refused.value.request_id
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["message"]
    if code:
        assert refused.value.code == code


async def test_a_key_that_is_wrong_or_missing(place: Place) -> None:
    for key in ("gw_live_wrong", "sk-something-else"):
        async with place.client(api_key=key) as client:
            with pytest.raises(openai.AuthenticationError) as refused:
                await asked(client)
            assert refused.value.code == "invalid_api_key"


async def test_a_key_that_may_not_use_the_model(place: Place) -> None:
    body = {"key_name": f"narrow {time.monotonic_ns()}", "allowed_models": ["sandbox/echo"]}
    made = await place.http.post("/user/api-keys", json=body, headers={"Authorization": f"Bearer {place.key}"})
    async with place.client(api_key=made.json()["api_key"]) as client:
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await asked(client)

    assert refused.value.code == "key_not_allowed"
    assert MODEL in refused.value.message


async def test_an_account_without_credit(place: Place) -> None:
    async with place.client(api_key=await place.customer(None)) as client:
        with pytest.raises(openai.APIStatusError) as refused:
            await asked(client)
        with pytest.raises(openai.APIStatusError) as refused_stream:
            await streamed(client)

    assert refused.value.status_code == refused_stream.value.status_code == 402
    assert refused.value.code == "insufficient_credits"
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["spendable_usd"] == "0"
    assert refused.value.body["top_up_url"]


async def test_what_a_vendor_refuses_is_told_in_its_own_words(place: Place) -> None:
    place.alpha.by_model[MODEL] = bad_request("'temperature' must be at most 2")
    async with place.client() as client:
        with pytest.raises(openai.BadRequestError, match="'temperature' must be at most 2"):
            await asked(client)
        with pytest.raises(openai.BadRequestError, match="'temperature' must be at most 2"):
            await streamed(client)


async def test_our_key_at_a_vendor_is_not_the_callers_key(place: Place) -> None:
    place.alpha.by_model[MODEL] = unauthorized()
    async with place.client() as client:
        with pytest.raises(openai.InternalServerError) as refused:
            await asked(client)

    assert refused.value.status_code == 503
    assert "sk-" not in refused.value.message


async def test_an_error_in_the_middle_of_a_stream_is_raised(place: Place) -> None:
    place.alpha.by_model[MODEL] = error_in_stream()
    seen: list[str] = []

    async def read() -> None:
        async with place.client() as client:
            async for chunk in await stream_of(client):
                seen.append(chunk.choices[0].delta.content or "")

    with pytest.raises(openai.APIError) as broken:
        await read()

    assert not isinstance(broken.value, openai.APIStatusError)
    assert "alpha" in broken.value.message
    assert "".join(seen) == "Hello from"
    await place.nothing_held()


async def test_the_client_retries_after_as_long_as_it_is_told(place: Place) -> None:
    numbers = count()

    def first_busy(_: Request) -> Script:
        return rate_limited(1) if next(numbers) == 0 else Script()

    place.alpha.by_model[MODEL] = first_busy
    before, began = await place.charged(), time.monotonic()
    async with place.client(max_retries=2) as client:
        answer = await asked(client)

    assert answer.choices[0].message.content == TEXT
    assert 1 <= time.monotonic() - began < 5
    assert await place.charged() - before == cost(11, 6)


async def test_a_client_that_loses_patience_costs_nothing(place: Place) -> None:
    place.alpha.by_model[MODEL] = silent()
    before = await place.charged()
    async with place.client(timeout=0.3) as client:
        with pytest.raises(openai.APITimeoutError):
            await asked(client)

    await place.alpha.wait_closed(0)
    await place.nothing_held()
    assert await place.charged() == before


async def test_leaving_a_stream_closes_it_at_the_vendor(place: Place) -> None:
    place.alpha.by_model[MODEL] = stalls(4)
    async with place.client() as client, await stream_of(client) as stream:
        assert (await anext(aiter(stream))).choices

    await place.alpha.wait_closed(0)
    await place.nothing_held()


async def test_reasoning_and_cached_tokens_are_shown_as_the_vendor_tells(place: Place) -> None:
    told = token_usage(100, 50, cached=40, reasoning=20)
    place.alpha.script(Script(reply=Reply(reasoning=("Hm.",), usage=told)))
    async with place.client() as client:
        answer = await asked(client)

    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 40
    assert answer.choices[0].message.model_extra == {"reasoning_content": "Hm."}


async def test_models_can_be_listed(place: Place) -> None:
    async with place.client() as client:
        listed = [model.id async for model in client.models.list()]

    assert {"sandbox/echo", MODEL} <= set(listed)
