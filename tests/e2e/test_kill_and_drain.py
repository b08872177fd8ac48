"""A gateway may die or be told to stop at any moment: no credit stays held, and what was produced is paid."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from anyio import to_thread

from tests.e2e.conftest import HELLO, SOLO, Answer, Place, cost, nanos, running_place
from tests.fakes.upstream import DONE, Script, chunks, stalls

pytestmark = [pytest.mark.anyio, pytest.mark.fault]

LEASE_S, HEARTBEAT_S = 2, 1
SWEEP_S = 10
"""The period in which the sweeper looks for holds of dead processes."""
DRAIN_S = 2
MODEL, OTHER, *_ = SOLO
STREAMS = 20


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """A gateway for this test alone, since it will not live long."""
    settings = {
        "GATEWAYZ_HOLD_LEASE_SECONDS": str(LEASE_S),
        "GATEWAYZ_HEARTBEAT_SECONDS": str(HEARTBEAT_S),
        "GATEWAYZ_DRAIN_SECONDS": str(DRAIN_S),
    }
    async with running_place(tmp_path, **settings) as place:
        yield place
        assert "Traceback" not in place.log()


async def opened(place: Place, model: str, count: int) -> list[asyncio.Task[Answer]]:
    """So many streams, all of which have begun."""
    body = json.dumps({"model": model, "messages": HELLO, "stream": True}).encode()
    already = len(place.alpha.requests)
    tasks = [asyncio.create_task(place.send(body)) for _ in range(count)]
    await place.alpha.wait_for_requests(already + count)
    async with asyncio.timeout(10):
        while not all(request.frames_sent >= 4 for request in place.alpha.requests[already:]):
            await asyncio.sleep(0.02)
    return tasks


async def ended(tasks: list[asyncio.Task[Answer]]) -> list[Answer | BaseException]:
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_after_a_kill_every_hold_ends_and_what_was_produced_is_paid(place: Place) -> None:
    place.alpha.by_model[MODEL] = stalls(4)
    before = await place.charged()
    tasks = await opened(place, MODEL, STREAMS)
    await asyncio.sleep(HEARTBEAT_S + 1.5)
    held = (await place.balance())["held_usd"]
    assert nanos(held) > 0

    await to_thread.run_sync(place.gateway.kill)
    assert all(isinstance(end, BaseException) for end in await ended(tasks))
    await place.alpha.wait_open_connections(0)
    killed = time.monotonic()
    await to_thread.run_sync(place.gateway.start)
    ready = time.monotonic()

    await place.nothing_held(LEASE_S + SWEEP_S + 5)
    print(f"ready {ready - killed:.1f} s, nothing held {time.monotonic() - killed:.1f} s after the kill")

    balance = await place.balance()
    assert balance["held_usd"] == "0"
    charged = nanos(balance["charged_usd"]) - before
    # Each had produced three words, and the prompt is estimated.
    assert STREAMS * cost(1, 3) < charged < STREAMS * cost(100, 3)
    transactions = (await place.get("/user/credit-transactions?limit=100"))["transactions"]
    charges = [each for each in transactions if each["transaction_type"] == "charge"]
    record = await place.generation(charges[0]["reference"])
    assert record["outcome"] == "recovered"
    assert record["usage"]["output"] == 3
    await place.verify()
    assert (await place.chat(OTHER)).status == 200


async def test_a_kill_before_the_first_word_costs_nothing(place: Place) -> None:
    place.alpha.by_model[MODEL] = stalls(0)
    before = await place.charged()
    tasks = [asyncio.create_task(place.chat(MODEL, stream=stream)) for stream in (True, False) * 5]
    await place.alpha.wait_for_requests(10)
    await asyncio.sleep(0.3)

    await to_thread.run_sync(place.gateway.kill)
    await ended(tasks)
    await to_thread.run_sync(place.gateway.start)

    await place.nothing_held(LEASE_S + SWEEP_S + 5)
    assert await place.charged() == before
    await place.verify()


async def test_kill_after_kill_under_load_the_ledger_agrees(place: Place) -> None:
    place.alpha.by_model[MODEL] = Script(frame_delay_s=0.02)
    for pause_s in (0.15, 0.4, 0.05):
        tasks = [asyncio.create_task(place.chat(MODEL, stream=number % 2 == 0)) for number in range(30)]
        await asyncio.sleep(pause_s)
        await to_thread.run_sync(place.gateway.kill)
        await ended(tasks)
        await to_thread.run_sync(place.gateway.start)

    await place.nothing_held(LEASE_S + SWEEP_S + 5)
    await place.verify()


async def test_a_lease_is_renewed_as_long_as_its_stream_lives(place: Place) -> None:
    """Nobody sweeps away what still runs, however short the lease."""
    words = [f"w{number} " for number in range(16)]
    place.alpha.by_model[MODEL] = Script(frames=[*chunks(words), DONE], done=False, frame_delay_s=0.25)

    answer = await place.chat(MODEL, stream=True)

    assert answer.events[-1] == b"[DONE]"
    record = await place.generation(answer.request_id)
    assert record["outcome"] == "completed"
    await place.verify()


async def test_a_stop_lets_what_runs_finish(place: Place) -> None:
    place.alpha.by_model[MODEL] = Script(frame_delay_s=0.1)
    streams = await opened(place, MODEL, 10)
    whole = asyncio.create_task(place.chat(OTHER))
    place.alpha.by_model[OTHER] = Script(delay_s=0.5)
    before = time.monotonic()

    status = await to_thread.run_sync(place.gateway.stop)

    assert status == 0, place.log()[-2_000:]
    assert time.monotonic() - before < DRAIN_S + 2
    for answer in await ended([*streams, whole]):
        assert isinstance(answer, Answer), answer
        assert answer.status == 200
        assert answer.body.endswith((b"data: [DONE]\n\n", b"}"))
    await to_thread.run_sync(place.gateway.verify)


async def test_a_stop_ends_what_does_not_finish_with_an_error_event(place: Place) -> None:
    place.alpha.by_model[MODEL] = stalls(4)
    before = await place.charged()
    streams = await opened(place, MODEL, STREAMS)
    began = time.monotonic()

    status = await to_thread.run_sync(place.gateway.stop)

    took = time.monotonic() - began
    print(f"stopped in {took:.1f} s")
    assert status == 0, place.log()[-2_000:]
    assert DRAIN_S - 0.5 <= took < DRAIN_S + 4
    for answer in await ended(streams):
        assert isinstance(answer, Answer), answer
        *said, last = answer.events
        assert len(said) == 4
        assert last["error"]["code"] == "gateway_stopping"
        assert last["error"]["request_id"] == answer.request_id
    await to_thread.run_sync(place.gateway.verify)

    await to_thread.run_sync(place.gateway.start)
    balance = await place.balance()
    assert balance["held_usd"] == "0"
    assert STREAMS * cost(1, 3) < nanos(balance["charged_usd"]) - before < STREAMS * cost(100, 3)


async def test_a_stop_ends_what_has_not_begun_with_an_error_status(place: Place) -> None:
    place.alpha.by_model[MODEL] = stalls(0)
    waiting = [asyncio.create_task(place.chat(MODEL, stream=stream)) for stream in (True, False)]
    await place.alpha.wait_for_requests(2)

    status = await to_thread.run_sync(place.gateway.stop)

    assert status == 0, place.log()[-2_000:]
    for answer in await ended(waiting):
        assert isinstance(answer, Answer), answer
        assert answer.status == 503
        assert answer.error["code"] == "gateway_stopping"
    await to_thread.run_sync(place.gateway.verify)


async def test_a_stop_does_not_wait_for_those_who_wait_for_another(place: Place) -> None:
    """A repeated Idempotency-Key waits for the first request's outcome, which may never come."""
    place.alpha.by_model[MODEL] = stalls(4)
    key = {"Idempotency-Key": "one"}
    asked = [asyncio.create_task(place.chat(MODEL, headers=key, stream=True)) for _ in range(3)]
    await place.alpha.wait_for_requests(1)
    await asyncio.sleep(0.3)
    began = time.monotonic()

    status = await to_thread.run_sync(place.gateway.stop)

    assert status == 0, place.log()[-2_000:]
    assert time.monotonic() - began < DRAIN_S + 4
    await ended(asked)
    await to_thread.run_sync(place.gateway.verify)


async def test_a_draining_gateway_says_that_it_is_not_ready(place: Place) -> None:
    place.alpha.by_model[MODEL] = stalls(4)
    streams = await opened(place, MODEL, 1)
    assert (await place.http.get("/health/ready")).status_code == 200

    stopping = asyncio.create_task(to_thread.run_sync(place.gateway.stop))  # type: ignore[arg-type]
    await asyncio.sleep(0.3)
    refused_or_unready = True
    try:
        refused_or_unready = (await place.http.get("/health/ready")).status_code == 503
    except OSError:
        pass
    except Exception as error:
        assert "onnect" in repr(error), error  # noqa: PT017 - a closed listener says so too

    assert refused_or_unready
    assert await stopping == 0
    await ended(streams)
