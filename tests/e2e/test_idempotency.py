"""One Idempotency-Key, one outcome, one charge: whatever is repeated, at whatever moment, by however many."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from itertools import count
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import HELLO, PATH, SHARED, SOLO, Answer, Place, cost
from tests.fakes.upstream import TEXT_PIECES, Request, Script, closes, server_error

pytestmark = pytest.mark.anyio

MODEL = SOLO[0]
numbers = count()


def fresh_key() -> dict[str, str]:
    return {"Idempotency-Key": f"key-{time.time_ns()}-{next(numbers)}"}


async def leaves(place: Place, headers: Mapping[str, str], *, after_s: float, **members: Any) -> None:
    """Send a request and hang up before its answer."""
    body = json.dumps({"model": MODEL, "messages": HELLO} | members)
    sent = {"Authorization": f"Bearer {place.key}", "Content-Type": "application/json"} | dict(headers)

    async def stay() -> None:
        async with httpx.AsyncClient(base_url=place.gateway.base_url) as client:
            await client.post(PATH, content=body, headers=sent)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stay(), after_s)


def assert_same(first: Answer, second: Answer) -> None:
    assert second.status == first.status == 200
    assert second.body == first.body
    assert second.headers["x-request-id"] == first.headers["x-request-id"]
    assert second.headers["content-type"] == first.headers["content-type"]


@pytest.mark.parametrize("members", [{}, {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}])
async def test_a_repeated_request_gets_the_same_bytes_and_is_charged_once(
    place: Place, members: dict[str, Any]
) -> None:
    key, before = fresh_key(), await place.charged()

    first = await place.chat(MODEL, headers=key, **members)
    second = await place.chat(MODEL, headers=key, **members)
    third = await place.chat(MODEL, headers=key, **members)

    assert_same(first, second)
    assert_same(first, third)
    assert second.headers["x-gatewayz-replayed"] == "true"
    assert "x-gatewayz-replayed" not in first.headers
    assert len(place.alpha.requests) == 1
    assert await place.charged() - before == cost(11, 6)


@pytest.mark.parametrize("stream", [False, True])
async def test_ten_at_once_are_one(place: Place, stream: bool) -> None:
    place.alpha.by_model[MODEL] = Script(delay_s=0.3)
    key, before = fresh_key(), await place.charged()

    answers = await asyncio.gather(*(place.chat(MODEL, headers=key, stream=stream) for _ in range(10)))

    for answer in answers[1:]:
        assert_same(answers[0], answer)
    assert len(place.alpha.requests) == 1
    assert await place.charged() - before == cost(11, 6)


@pytest.mark.parametrize("changes", [{"temperature": 0.5}, {"stream": True}, {"model": SHARED[0]}])
async def test_another_body_under_the_same_key_is_refused(place: Place, changes: dict[str, Any]) -> None:
    key = fresh_key()
    await place.chat(MODEL, headers=key)
    before = await place.charged()

    other = await place.chat(**{"model": MODEL, "headers": key} | changes)

    assert other.status == 409
    assert other.error["code"] == "idempotency_key_reused"
    assert await place.charged() == before


async def test_another_body_is_refused_also_while_the_first_still_runs(place: Place) -> None:
    place.alpha.by_model[MODEL] = Script(delay_s=0.5)
    key = fresh_key()
    running = asyncio.create_task(place.chat(MODEL, headers=key))
    await place.alpha.wait_for_requests(1)

    assert (await place.chat(MODEL, headers=key, seed=1)).status == 409

    assert (await running).status == 200


async def test_two_customers_may_choose_the_same_key(place: Place) -> None:
    key = fresh_key()
    body = json.dumps({"model": MODEL, "messages": HELLO}).encode()

    mine = await place.send(body, headers=key)
    theirs = await place.send(body, headers=key, key=await place.customer("1"))

    assert mine.request_id != theirs.request_id
    assert "x-gatewayz-replayed" not in theirs.headers


@pytest.mark.parametrize("bad", ["x" * 256, ""])
async def test_a_key_that_is_none_is_refused(place: Place, bad: str) -> None:
    answer = await place.chat(MODEL, headers={"Idempotency-Key": bad})

    assert answer.status == 400
    assert answer.error["code"] == "idempotency_key_invalid"
    assert place.alpha.requests == []


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_is_not_kept(place: Place, stream: bool) -> None:
    key, before = fresh_key(), await place.charged()
    place.alpha.by_model[MODEL] = server_error()
    assert (await place.chat(MODEL, headers=key, stream=stream)).status == 502
    place.alpha.by_model.clear()

    assert (await place.chat(MODEL, headers=key, stream=stream)).status == 200

    assert await place.charged() - before == cost(11, 6)


async def test_a_stream_that_broke_off_is_not_kept(place: Place) -> None:
    key, before = fresh_key(), await place.charged()
    place.alpha.by_model[MODEL] = closes(3)
    broken = await place.chat(MODEL, headers=key, stream=True)
    assert "error" in broken.events[-1]
    place.alpha.by_model.clear()

    answer = await place.chat(MODEL, headers=key, stream=True)

    assert answer.events[-1] == b"[DONE]"
    assert await place.charged() - before == cost(11, 6)


async def test_a_refusal_for_lack_of_credit_is_not_kept(place: Place) -> None:
    body = json.dumps({"model": MODEL, "messages": HELLO}).encode()
    key, poor = fresh_key(), await place.customer(None)
    assert (await place.send(body, headers=key, key=poor)).status == 402
    user = (await place.balance(poor))["user_id"]
    headers = {"Authorization": f"Bearer {place.key}"}
    grant = {"account": user, "amount_usd": "1", "reason": "a test"}
    await place.http.post("/admin/credits/grant", json=grant, headers=headers)

    assert (await place.send(body, headers=key, key=poor)).status == 200


async def test_a_whole_answer_that_nobody_waited_for_is_there_when_it_is_asked_for_again(place: Place) -> None:
    place.alpha.by_model[MODEL] = Script(delay_s=0.5)
    key, before = fresh_key(), await place.charged()

    await leaves(place, key, after_s=0.2)
    answer = await place.chat(MODEL, headers=key)

    assert answer.status == 200
    assert answer.json["choices"][0]["message"]["content"] == "".join(TEXT_PIECES)
    assert answer.headers["x-gatewayz-replayed"] == "true"
    assert len(place.alpha.requests) == 1
    assert await place.charged() - before == cost(11, 6)


SLOW = Script(frame_delay_s=0.1)
SLOW_TO_BEGIN = Script(delay_s=0.6)


@pytest.mark.parametrize("script", [SLOW_TO_BEGIN, SLOW], ids=["before its first word", "in its middle"])
@pytest.mark.parametrize("asks", [False, True], ids=["usage unasked", "usage asked"])
async def test_a_stream_that_its_caller_left_is_whole_when_it_is_asked_for_again(
    place: Place, script: Script, asks: bool
) -> None:
    """The repeated request must get what the first would have got, not what was left of it."""
    members: dict[str, Any] = {"stream": True}
    if asks:
        members["stream_options"] = {"include_usage": True}
    undisturbed = await place.chat(MODEL, **members)
    place.alpha.by_model[MODEL] = script
    place.alpha.requests.clear()
    key, before = fresh_key(), await place.charged()

    await leaves(place, key, after_s=0.35, **members)
    async with asyncio.timeout(5):
        answer = await place.chat(MODEL, headers=key, **members)

    assert answer.status == 200
    assert answer.body == undisturbed.body
    assert await place.charged() - before == cost(11, 6) * len(place.alpha.requests)
    assert len(place.alpha.requests) == 1
    await place.nothing_held()


async def test_keys_survive_a_restart_of_the_vendor_in_between(place: Place) -> None:
    """A connection that the vendor closed while idle is no reason to run twice."""
    seen: list[Request] = []

    def script(request: Request) -> Script:
        seen.append(request)
        return Script()

    place.alpha.by_model[MODEL] = script
    await place.chat(MODEL)
    place.alpha.hang_up()
    key, before = fresh_key(), await place.charged()

    first = await place.chat(MODEL, headers=key)
    second = await place.chat(MODEL, headers=key)

    assert_same(first, second)
    assert len(seen) == 2
    assert await place.charged() - before == cost(11, 6)


async def test_nothing_is_left_held_and_the_ledger_agrees(place: Place) -> None:
    await place.verify()
