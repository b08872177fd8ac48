"""The official OpenAI client finds in the gateway the Responses API that it knows, before a vendor that speaks chat."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel

from tests.e2e.conftest import SOLO, Place, cost
from tests.fakes.upstream import (
    TEXT_PIECES,
    Reply,
    Script,
    ToolCall,
    bad_request,
    error_in_stream,
    unauthorized,
)

pytestmark = pytest.mark.anyio

MODEL = SOLO[0]
TEXT = "".join(TEXT_PIECES)
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"type": "string"}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
    "strict": True,
}


class City(BaseModel):
    name: str
    inhabitants: int


async def streamed(client: openai.AsyncOpenAI, **options: Any) -> list[ResponseStreamEvent]:
    known: dict[str, Any] = {"model": MODEL, "input": "Hello", "stream": True}
    stream = await client.responses.create(**known | options)
    return [event async for event in stream]


async def asked(client: openai.AsyncOpenAI, **options: Any) -> Response:
    known: dict[str, Any] = {"model": MODEL, "input": "Hello"}
    answer: Response = await client.responses.create(**known | options)
    return answer


async def test_a_whole_answer(place: Place) -> None:
    async with place.client() as client:
        answer = await asked(client, instructions="Be brief.", max_output_tokens=50)

    assert answer.output_text == TEXT
    assert answer.status == "completed"
    assert answer.instructions == "Be brief."
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (11, 6)
    assert answer.usage.model_extra == {"cost": cost(11, 6) / 10**9}
    sent = json.loads(place.alpha.requests[0].body)
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
    ]
    assert sent["max_tokens"] == 50


async def test_a_stream_in_order_that_adds_up(place: Place) -> None:
    async with place.client() as client:
        events = await streamed(client)

    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:4]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == TEXT
    assert last.response.usage is not None
    assert last.response.usage.model_extra == {"cost": cost(11, 6) / 10**9}
    assert [event.item for event in events if event.type == "response.output_item.done"] == last.response.output


async def test_the_streaming_helper_gathers_the_same_answer(place: Place) -> None:
    async with (
        place.client() as client,
        client.responses.stream(model=MODEL, input="Hello", tools=[WEATHER]) as stream,
    ):
        gathered = await stream.get_final_response()

    assert gathered.output_text == TEXT


async def test_tools_go_around(place: Place) -> None:
    call = ToolCall()
    place.alpha.by_model[MODEL] = Script(reply=Reply(tool_calls=[call]))
    async with place.client() as client:
        events = await streamed(client, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False)
        done = events[-1]
        assert done.type == "response.completed"
        [item] = done.response.output
        assert item.type == "function_call"
        assert (item.call_id, item.name, item.arguments) == (call.id, call.name, call.arguments)
        place.alpha.by_model.clear()
        result = {"type": "function_call_output", "call_id": item.call_id, "output": "18 degrees"}
        turns: Any = [{"role": "user", "content": "Hello"}, item.model_dump(exclude_none=True), result]
        answer = await asked(client, input=turns, tools=[WEATHER])

    assert answer.output_text == TEXT
    sent = [json.loads(request.body) for request in place.alpha.requests]
    assert sent[0]["tool_choice"] == "required"
    assert sent[0]["parallel_tool_calls"] is False
    assert sent[0]["tools"][0]["function"]["name"] == "get_weather"
    [asking, calling, told] = sent[1]["messages"]
    assert calling["tool_calls"][0]["id"] == told["tool_call_id"] == call.id
    assert told["content"] == "18 degrees"
    assert asking["role"] == "user"


async def test_structured_output(place: Place) -> None:
    place.alpha.by_model[MODEL] = Script(reply=Reply(pieces=['{"name":"Bern",', '"inhabitants":146000}']))
    async with place.client() as client:
        answer = await client.responses.parse(model=MODEL, input="Hello", text_format=City)

    assert answer.output_parsed == City(name="Bern", inhabitants=146_000)
    wanted = json.loads(place.alpha.requests[0].body)["response_format"]
    assert wanted["type"] == "json_schema"
    assert wanted["json_schema"]["strict"] is True


async def test_a_limit_ends_it_incomplete(place: Place) -> None:
    place.alpha.by_model[MODEL] = Script(reply=Reply(finish="length"))
    async with place.client() as client:
        answer = await asked(client)
        events = await streamed(client)

    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert events[-1].type == "response.incomplete"


async def test_reasoning_is_an_item(place: Place) -> None:
    place.alpha.by_model[MODEL] = Script(reply=Reply(reasoning=["Let me", " think."]))
    async with place.client() as client:
        answer = await asked(client, reasoning={"effort": "low"})

    assert [item.type for item in answer.output] == ["reasoning", "message"]
    thought = answer.output[0]
    assert thought.type == "reasoning"
    assert thought.content is not None
    assert thought.content[0].text == "Let me think."
    assert json.loads(place.alpha.requests[0].body)["reasoning_effort"] == "low"


async def test_what_chat_cannot_say_is_named(place: Place) -> None:
    async with place.client() as client:
        raw = await client.responses.with_raw_response.create(
            model=MODEL, input="Hello", tools=[{"type": "file_search", "vector_store_ids": ["vs_1"]}], truncation="auto"
        )

    assert "file_search" in raw.headers["x-gatewayz-dropped-params"]


async def test_refusals_come_in_the_dialects_words(place: Place) -> None:
    async with place.client() as client:
        with pytest.raises(openai.BadRequestError, match="input"):
            await client.responses.create(model=MODEL)
        with pytest.raises(openai.NotFoundError):
            await asked(client, model="acme/nothing")
        place.alpha.by_model[MODEL] = bad_request()
        with pytest.raises(openai.BadRequestError):
            await asked(client)
        place.alpha.by_model[MODEL] = unauthorized()
        with pytest.raises(openai.InternalServerError):
            await asked(client)


async def test_a_failure_in_the_middle_is_a_failed_response(place: Place) -> None:
    place.alpha.by_model[MODEL] = error_in_stream()
    before = await place.charged()
    async with place.client() as client:
        events = await streamed(client)

    assert events[-1].type == "response.failed"
    assert events[-1].response.error is not None
    assert [event.sequence_number for event in events] == list(range(len(events)))
    await place.nothing_held()
    assert await place.charged() == before


async def test_gateway_fields_are_ours(place: Place) -> None:
    async with place.client() as client:
        await asked(client, extra_body={"max_cost_usd": "1", "session_id": "s", "provider": {"only": ["alpha"]}})
        with pytest.raises(openai.APIStatusError) as refused:
            await asked(client, extra_body={"max_cost_usd": "0.000001"})

    assert refused.value.status_code == 402
    assert not {"max_cost_usd", "session_id", "provider"} & json.loads(place.alpha.requests[0].body).keys()
