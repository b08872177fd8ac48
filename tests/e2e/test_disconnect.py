"""A caller who leaves takes the vendor's work with them, and pays for what was produced until then."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from tests.e2e.conftest import HELLO, PATH, SHARED, SOLO, Place, cost, tell
from tests.e2e.processes import ADMIN_KEY
from tests.fakes.upstream import TEXT_PIECES, Script, silent, stalls

pytestmark = pytest.mark.anyio

MODEL, OTHER, *_ = SOLO
TIMES = 50
WITHIN_S = 0.25
"""For the slowest of a hundred on a busy machine; a free one takes a few milliseconds."""


async def connected(place: Place, **members: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A request on a connection of its own, which its test can close at any moment."""
    body = json.dumps({"model": MODEL, "messages": HELLO} | members).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", place.gateway.port)
    writer.write(
        b"POST %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (PATH.encode(), ADMIN_KEY.encode(), len(body), body)
    )
    await writer.drain()
    return reader, writer


async def left(place: Place, number: int, writer: asyncio.StreamWriter) -> float:
    """Close, and tell after how many seconds the vendor saw it."""
    began = time.monotonic()
    writer.close()
    request = await place.alpha.wait_closed(number)
    assert request.closed_at is not None
    return request.closed_at - began


def report(what: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    tell(f"{what}: p50 {ordered[len(ordered) // 2] * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms")
    assert p99 < WITHIN_S


async def until_text(reader: asyncio.StreamReader, text: bytes) -> bytes:
    seen = b""
    async with asyncio.timeout(10):
        while text not in seen:
            part = await reader.read(65_536)
            assert part, seen
            seen += part
    return seen


@pytest.mark.parametrize("flowing", [True, False], ids=["flowing", "idle"])
async def test_a_stream_that_is_left_is_closed_at_the_vendor_at_once(place: Place, flowing: bool) -> None:
    endless = [b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'] * 2_000
    place.alpha.by_model[MODEL] = Script(frames=endless, frame_delay_s=0.01) if flowing else stalls(4)

    seconds = []
    for number in range(TIMES):
        reader, writer = await connected(place, stream=True)
        await until_text(reader, b'"content":"')
        seconds.append(await left(place, number, writer))

    report("flowing" if flowing else "idle", seconds)
    await place.nothing_held()
    await place.alpha.wait_open_connections(0)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_that_is_left_before_its_answer_is_closed_at_the_vendor(place: Place, stream: bool) -> None:
    place.alpha.by_model[MODEL] = silent()
    before = await place.charged()

    seconds = []
    for number in range(10):
        _, writer = await connected(place, stream=stream)
        await place.alpha.wait_for_requests(number + 1)
        await asyncio.sleep(0.05)
        seconds.append(await left(place, number, writer))

    report("unanswered", seconds)
    await place.nothing_held()
    assert await place.charged() == before


async def test_many_at_once_are_all_closed_and_settled(place: Place) -> None:
    place.alpha.by_model[MODEL] = stalls(4)
    pairs = await asyncio.gather(*(connected(place, stream=True) for _ in range(200)))
    for reader, _ in pairs:
        await until_text(reader, b" from")
    assert place.alpha.open_connections >= 200

    began = time.monotonic()
    for _, writer in pairs:
        writer.transport.abort()

    await place.alpha.wait_open_connections(0, timeout_s=3)
    tell(f"200 closed in {(time.monotonic() - began) * 1000:.0f} ms")
    await place.nothing_held()
    await place.verify()


@pytest.mark.parametrize("words", range(1, len(TEXT_PIECES) + 1))
async def test_what_was_produced_is_what_is_paid(place: Place, words: int) -> None:
    """The vendor gave no usage yet, so that the prompt is charged by estimate and the words by count."""
    place.alpha.by_model[OTHER] = stalls(1 + words)
    before = await place.charged()
    reader, writer = await connected(place, model=OTHER, stream=True)
    seen = await until_text(reader, json.dumps(TEXT_PIECES[words - 1]).encode())
    request_id = seen.partition(b"x-request-id: ")[2].partition(b"\r\n")[0].decode()

    await left(place, 0, writer)
    await place.nothing_held()

    record = await place.generation(request_id)
    assert record["outcome"] == "aborted"
    assert record["usage"]["output"] == words
    assert record["usage_estimated"] is True
    assert record["abort_policy"]
    assert await place.charged() - before == cost(record["usage"]["input"], words)
    assert 1 <= record["usage"]["input"] <= 100


async def test_usage_that_has_come_is_charged_exactly(place: Place) -> None:
    frames = len(TEXT_PIECES) + 3
    place.alpha.by_model[OTHER] = stalls(frames)
    before = await place.charged()
    reader, writer = await connected(place, model=OTHER, stream=True, stream_options={"include_usage": True})
    await until_text(reader, b'"cost"')

    await left(place, 0, writer)
    await place.nothing_held()

    assert await place.charged() - before == cost(11, 6)


async def test_a_caller_who_leaves_during_the_request_body_costs_nothing(place: Place) -> None:
    before = await place.charged()
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", place.gateway.port)
        writer.write(
            b"POST %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nContent-Length: 500\r\n\r\n{"
            % (PATH.encode(), ADMIN_KEY.encode())
        )
        await writer.drain()
        writer.transport.abort()

    await place.nothing_held()
    assert await place.charged() == before
    assert place.alpha.requests == []


async def test_leaving_between_two_vendors_asks_no_further_one(place: Place) -> None:
    place.alpha.by_model[SHARED[0]] = silent()
    _, writer = await connected(place, model=SHARED[0], stream=True)
    await place.alpha.wait_for_requests(1)

    await left(place, 0, writer)
    await asyncio.sleep(0.2)

    assert place.beta.requests == []
    await place.nothing_held()


async def test_a_pipelined_or_reused_connection_serves_the_next_request(place: Place) -> None:
    for _ in range(5):
        assert (await place.chat(MODEL, stream=True)).events[-1] == b"[DONE]"
        assert (await place.chat(MODEL)).status == 200


async def test_a_slow_reader_gets_everything(place: Place) -> None:
    pieces = 3_000
    frames = [b'data: {"choices":[{"delta":{"content":"x"}}],"padding":"%b"}\n\n' % (b"x" * 1_000)] * pieces
    finish = (
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":9}}'
    )
    place.alpha.by_model[MODEL] = Script(frames=[*frames, finish + b"\n\n"])
    reader, writer = await connected(place, stream=True)
    await asyncio.sleep(0.3)

    size = 0
    async with asyncio.timeout(20):
        while True:
            part = await reader.read(16_384)
            size += len(part)
            if not part or part.endswith(b"0\r\n\r\n"):
                break
            if size % 7 == 0:
                await asyncio.sleep(0.001)
    writer.close()

    assert size > pieces * 1_000
    await place.nothing_held()


async def test_the_ledger_agrees_with_all_of_this(place: Place) -> None:
    await place.verify()
