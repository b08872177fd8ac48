"""A gateway may die or be told to stop at any moment: no credit stays held, and what was produced is paid."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from anyio import to_thread

from tests.e2e.conftest import HELLO, SOLO, Answer, Place, cost, nanos, tell
from tests.e2e.processes import eventually
from tests.fakes.upstream import DONE, Script, chunks, stalls

pytestmark = [pytest.mark.anyio, pytest.mark.fault]

LEASE_S, HEARTBEAT_S = 2, 1
SWEEP_S = 10
"""The period in which holds of dead processes are looked for."""
DRAIN_S = 2
SETTINGS = {
    "GATEWAYZ_HOLD_LEASE_SECONDS": str(LEASE_S),
    "GATEWAYZ_HEARTBEAT_SECONDS": str(HEARTBEAT_S),
    "GATEWAYZ_DRAIN_SECONDS": str(DRAIN_S),
}
ENDLESS, ENDING, SILENT, QUICK = SOLO
STREAMS = 20
WORDS = 3
"""What an endless stream has said before it stands still."""

Ended = list[Answer | BaseException]


async def begun(place: Place, model: str, count: int, **headers: str) -> list[asyncio.Task[Answer]]:
    """So many streams, each of which has said its first words."""
    body = json.dumps({"model": model, "messages": HELLO, "stream": True}).encode()
    tasks = [asyncio.create_task(place.send(body, headers=headers)) for _ in range(count)]

    def all_begun() -> None:
        running = [request for request in place.alpha.requests if request.model == model]
        assert len(running) == count
        assert all(request.frames_sent > WORDS for request in running)

    await eventually(all_begun)
    return tasks


async def waiting(place: Place, count: int) -> list[asyncio.Task[Answer]]:
    """So many requests, streamed and whole, whose vendor says nothing."""
    asked = [asyncio.create_task(place.chat(SILENT, stream=number % 2 == 0)) for number in range(count)]

    def all_asked() -> None:
        assert sum(request.model == SILENT for request in place.alpha.requests) == count

    await eventually(all_asked)
    return asked


async def ends(tasks: list[asyncio.Task[Answer]]) -> Ended:
    return await asyncio.gather(*tasks, return_exceptions=True)


def answers(ended: Ended) -> list[Answer]:
    for end in ended:
        assert isinstance(end, Answer), end
    return ended  # type: ignore[return-value]


@dataclass
class Killed:
    """What became of a gateway that was killed and started again."""

    before: int
    held_before: int
    endless: Ended
    silent: Ended
    balance: Any
    charges: list[Any]


@pytest.fixture(scope="module")
async def killed(module_place: Place) -> Killed:
    place = module_place
    place.alpha.by_model |= {ENDLESS: stalls(1 + WORDS), SILENT: stalls(0)}
    before = await place.charged()
    endless = await begun(place, ENDLESS, STREAMS)
    silent = await waiting(place, 6)
    await asyncio.sleep(HEARTBEAT_S + 1.5)
    held = nanos((await place.balance())["held_usd"])

    await to_thread.run_sync(place.gateway.kill)
    ended, never_begun = await ends(endless), await ends(silent)
    await place.alpha.wait_open_connections(0)
    began = time.monotonic()
    await to_thread.run_sync(place.gateway.start)
    tell(f"ready {time.monotonic() - began:.1f} s after the kill")
    await place.nothing_held(LEASE_S + SWEEP_S + 5)
    tell(f"nothing held {time.monotonic() - began:.1f} s after the kill")

    transactions = (await place.get("/user/credit-transactions?limit=100"))["transactions"]
    charges = [each for each in transactions if each["transaction_type"] == "charge"]
    return Killed(before, held, ended, never_begun, await place.balance(), charges)


async def test_a_kill_cuts_every_stream(killed: Killed) -> None:
    assert all(isinstance(end, BaseException) for end in killed.endless + killed.silent)
    assert killed.held_before > 0


async def test_after_a_kill_every_hold_ends_within_the_lease(killed: Killed) -> None:
    assert killed.balance["held_usd"] == "0"


async def test_after_a_kill_exactly_what_was_produced_is_paid(place: Place, killed: Killed) -> None:
    """The words are counted, the prompt is estimated, and who got no word pays nothing."""
    recovered = killed.charges[:STREAMS]
    records = [await place.generation(charge["reference"]) for charge in recovered]

    assert {record["outcome"] for record in records} == {"recovered"}
    assert {record["usage"]["output"] for record in records} == {WORDS}
    prompt = records[0]["usage"]["input"]
    assert 0 < prompt < 100
    assert nanos(killed.balance["charged_usd"]) - killed.before == STREAMS * cost(prompt, WORDS)


async def test_kill_after_kill_under_load_the_ledger_agrees(place: Place, killed: Killed) -> None:
    place.alpha.by_model[ENDING] = Script(frame_delay_s=0.02)
    for pause_s in (0.15, 0.4):
        asked = [asyncio.create_task(place.chat(ENDING, stream=number % 2 == 0)) for number in range(30)]
        await asyncio.sleep(pause_s)
        await to_thread.run_sync(place.gateway.kill)
        await ends(asked)
        await to_thread.run_sync(place.gateway.start)

    await place.nothing_held(LEASE_S + SWEEP_S + 5)
    await to_thread.run_sync(place.gateway.verify)
    assert (await place.chat(QUICK)).status == 200


async def test_a_lease_is_renewed_as_long_as_its_stream_lives(place: Place) -> None:
    """Nobody sweeps away what still runs, however short the lease."""
    words = [f"w{number} " for number in range(16)]
    place.alpha.by_model[ENDING] = Script(frames=[*chunks(words), DONE], done=False, frame_delay_s=0.25)

    answer = await place.chat(ENDING, stream=True)

    assert answer.events[-1] == b"[DONE]"
    assert (await place.generation(answer.request_id))["outcome"] == "completed"


@dataclass
class Drained:
    """What became of a gateway that was told to stop in the middle of its work."""

    status: int
    took_s: float
    ready_while_draining: int | None
    """None: it took no more connections."""
    ending: Ended
    whole: Ended
    endless: Ended
    silent: Ended
    repeated: Ended
    charged: int
    held: str


@pytest.fixture(scope="module")
async def drained(module_place: Place) -> Drained:
    place = module_place
    place.alpha.requests.clear()
    place.alpha.by_model = {
        ENDLESS: stalls(1 + WORDS),
        ENDING: Script(frame_delay_s=0.12),
        SILENT: stalls(0),
        QUICK: Script(delay_s=1.0),
    }
    before = await place.charged()
    endless = await begun(place, ENDLESS, STREAMS)
    silent = await waiting(place, 4)
    key = {"Idempotency-Key": "the-same-for-all"}
    repeated = [asyncio.create_task(place.chat(SILENT, headers=key)) for _ in range(3)]
    ending = await begun(place, ENDING, 10)
    whole = [asyncio.create_task(place.chat(QUICK)) for _ in range(5)]
    await asyncio.sleep(0.3)

    began = time.monotonic()
    stopping = asyncio.create_task(to_thread.run_sync(place.gateway.stop))
    await asyncio.sleep(0.5)
    ready = await readiness(place)
    status = await stopping
    took_s = time.monotonic() - began
    tell(f"stopped in {took_s:.1f} s")
    ended = [await ends(tasks) for tasks in (ending, whole, endless, silent, repeated)]
    await to_thread.run_sync(place.gateway.start)
    balance = await place.balance()
    return Drained(
        status=status,
        took_s=took_s,
        ready_while_draining=ready,
        ending=ended[0],
        whole=ended[1],
        endless=ended[2],
        silent=ended[3],
        repeated=ended[4],
        charged=nanos(balance["charged_usd"]) - before,
        held=balance["held_usd"],
    )


async def readiness(place: Place) -> int | None:
    async with httpx.AsyncClient(base_url=place.gateway.base_url) as fresh:
        try:
            return (await fresh.get("/health/ready")).status_code
        except httpx.TransportError:
            return None


async def test_a_stop_is_clean_and_in_time(drained: Drained) -> None:
    assert drained.status == 0
    assert DRAIN_S - 0.5 < drained.took_s < DRAIN_S + 4


async def test_a_draining_gateway_wants_no_more_requests(drained: Drained) -> None:
    assert drained.ready_while_draining in {None, 503}


async def test_a_stop_lets_what_runs_finish(drained: Drained) -> None:
    for answer in answers(drained.ending):
        assert answer.events[-1] == b"[DONE]"
    for answer in answers(drained.whole):
        assert answer.status == 200
        assert answer.json["usage"]["cost"] > 0


async def test_a_stop_ends_what_does_not_finish_with_an_error_event(drained: Drained) -> None:
    for answer in answers(drained.endless):
        *said, last = answer.events
        assert len(said) == 1 + WORDS
        assert last["error"]["code"] == "gateway_stopping"
        assert last["error"]["request_id"] == answer.request_id


async def test_a_stop_ends_what_has_not_begun_with_an_error_status(drained: Drained) -> None:
    for answer in answers(drained.silent):
        assert answer.status == 503
        assert answer.error["code"] == "gateway_stopping"


async def test_a_stop_does_not_wait_for_those_who_wait_for_another(drained: Drained) -> None:
    """A repeated Idempotency-Key waits for the first request's outcome, which never comes."""
    for answer in answers(drained.repeated):
        assert answer.status in {409, 503}


async def test_a_stop_charges_what_was_produced_and_leaves_nothing_held(place: Place, drained: Drained) -> None:
    assert drained.held == "0"
    finished = 15 * cost(11, 6)
    assert STREAMS * cost(1, WORDS) < drained.charged - finished < STREAMS * cost(100, WORDS)
    await to_thread.run_sync(place.gateway.verify)


async def test_nothing_unforeseen_happened(place: Place, killed: Killed, drained: Drained) -> None:
    assert "Traceback" not in place.log()
