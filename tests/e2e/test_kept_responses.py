"""Responses that the gateway keeps: continued, shown, listed, run in the background, deleted, unreadable at rest."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from typing import Any

import openai
import pytest
from anyio import to_thread

from tests.e2e.conftest import SOLO, Place, cost
from tests.fakes.upstream import TEXT_PIECES, Reply, Script, ToolCall, server_error, slow_body

pytestmark = pytest.mark.anyio

MODEL = SOLO[0]
TEXT = "".join(TEXT_PIECES)


async def create(client: openai.AsyncOpenAI, **options: Any) -> Any:
    known: dict[str, Any] = {"model": MODEL, "input": "What is a hold?"}
    return await client.responses.create(**known | options)


def sent(place: Place, at: int = -1) -> Any:
    return json.loads(place.alpha.requests[at].body)


async def test_a_conversation_goes_on_by_its_last_id(place: Place) -> None:
    async with place.client() as client:
        first = await create(client, instructions="Be brief.")
        second = await create(client, input="And a lot?", previous_response_id=first.id)
        third = await create(client, input="And?", previous_response_id=second.id, store=False)

    assert first.store is True
    assert second.previous_response_id == first.id
    said = [(message["role"], message["content"]) for message in sent(place)["messages"]]
    # Instructions are of one request alone.
    assert said == [
        ("user", "What is a hold?"),
        ("assistant", TEXT),
        ("user", "And a lot?"),
        ("assistant", TEXT),
        ("user", "And?"),
    ]
    assert third.store is not True
    async with place.client() as client:
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(third.id)


async def test_a_stream_is_kept_too(place: Place) -> None:
    async with place.client() as client:
        stream = await create(client, stream=True)
        events = [event async for event in stream]
        again = await client.responses.retrieve(events[-1].response.id)

    assert events[-1].response.store is True
    assert again.output_text == TEXT
    assert again.usage is not None
    assert again.usage.model_extra == {"cost": cost(11, 6) / 10**9}


async def test_calls_and_results_are_part_of_it(place: Place) -> None:
    call = ToolCall()
    place.alpha.by_model[MODEL] = Script(reply=Reply(tool_calls=[call]))
    async with place.client() as client:
        first = await create(client)
        place.alpha.by_model.clear()
        result: Any = [{"type": "function_call_output", "call_id": call.id, "output": "18"}]
        await create(client, input=result, previous_response_id=first.id)

    asked, called, told = sent(place)["messages"]
    assert asked["role"] == "user"
    assert called["tool_calls"][0]["id"] == call.id
    assert told == {"role": "tool", "tool_call_id": call.id, "content": "18"}


async def test_it_is_shown_listed_and_deleted(place: Place) -> None:
    async with place.client() as client:
        first = await create(client)
        second = await create(client, input="And a lot?", previous_response_id=first.id)
        shown = await client.responses.retrieve(second.id)
        items = await client.responses.input_items.list(second.id, order="asc")
        newest = await client.responses.input_items.list(second.id, limit=1)
        replayed = [event async for event in await client.responses.retrieve(second.id, stream=True, starting_after=1)]
        await client.responses.delete(second.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(second.id)
        with pytest.raises(openai.BadRequestError, match="to continue"):
            await create(client, previous_response_id=second.id)

    assert shown.output_text == TEXT
    assert [item.type for item in items.data] == ["message", "message", "message"]
    assert [item.role for item in items.data if item.type == "message"] == ["user", "assistant", "user"]
    assert newest.has_more
    assert newest.data[0].id == items.data[-1].id
    assert replayed[0].sequence_number == 2
    assert replayed[-1].type == "response.completed"


async def test_nobody_else_sees_it(place: Place) -> None:
    other = await place.customer("1")
    async with place.client() as ours, place.client(api_key=other) as theirs:
        kept = await create(ours)
        with pytest.raises(openai.NotFoundError):
            await theirs.responses.retrieve(kept.id)
        with pytest.raises(openai.NotFoundError):
            await theirs.responses.delete(kept.id)
        with pytest.raises(openai.BadRequestError):
            await create(theirs, previous_response_id=kept.id)
        await ours.responses.retrieve(kept.id)


async def test_the_database_alone_tells_nobody(place: Place) -> None:
    async with place.client() as client:
        await create(client, input="a very particular secret")

    def stored() -> bytes:
        with sqlite3.connect(place.gateway.directory / "var" / "gatewayz.db") as database:
            return b"".join(row[0] for row in database.execute("SELECT content FROM responses"))

    content = await to_thread.run_sync(stored)
    assert content
    assert b"particular" not in content
    assert b"particular" not in (place.gateway.directory / "var" / "gatewayz.db").read_bytes()
    assert "particular" not in place.log()


async def finished(client: openai.AsyncOpenAI, response_id: str) -> Any:
    for _ in range(100):
        shown = await client.responses.retrieve(response_id)
        if shown.status not in ("queued", "in_progress"):
            return shown
        await asyncio.sleep(0.1)
    raise AssertionError("it did not end")


async def test_one_that_runs_in_the_background(place: Place) -> None:
    before = await place.charged()
    async with place.client() as client:
        taken = await create(client, background=True)
        assert taken.status == "queued"
        shown = await finished(client, taken.id)
        again = await create(client, input="And?", previous_response_id=taken.id)

    assert shown.status == "completed"
    assert shown.id == taken.id
    assert shown.output_text == TEXT
    assert again.output_text == TEXT
    await place.nothing_held()
    assert await place.charged() - before == 2 * cost(11, 6)


async def test_one_that_fails_in_the_background_is_free(place: Place) -> None:
    before = await place.charged()
    place.alpha.by_model[MODEL] = server_error()
    async with place.client() as client:
        taken = await create(client, background=True)
        shown = await finished(client, taken.id)

    assert shown.status == "failed"
    assert shown.error is not None
    await place.nothing_held()
    assert await place.charged() == before


async def test_one_that_is_cancelled_hangs_up_on_its_vendor(place: Place) -> None:
    place.alpha.by_model[MODEL] = slow_body(bytes_per_s=20)
    async with place.client() as client:
        taken = await create(client, background=True)
        cancelled = await client.responses.cancel(taken.id)
        assert cancelled.status == "cancelled"
        await place.nothing_held(timeout_s=8)
        assert (await client.responses.retrieve(taken.id)).status == "cancelled"
        with pytest.raises(openai.BadRequestError):
            await create(client, background=True, stream=True)
        done = await create(client, model=SOLO[1])
        with pytest.raises(openai.ConflictError):
            await client.responses.cancel(done.id)


async def test_what_contradicts_itself_is_refused(place: Place) -> None:
    async with place.client() as client:
        with pytest.raises(openai.BadRequestError, match="store"):
            await create(client, background=True, store=False)
        with pytest.raises(openai.BadRequestError, match="previous_response_id"):
            await create(client, conversation="conv_1")
    assert not place.alpha.requests


async def test_counting_is_free(place: Place) -> None:
    answer = await place.http.post(
        "/v1/responses/input_tokens",
        json={"model": MODEL, "input": "What is a hold?"},
        headers={"Authorization": f"Bearer {place.key}"},
    )
    assert answer.json()["input_tokens"] > 3
    assert not place.alpha.requests
