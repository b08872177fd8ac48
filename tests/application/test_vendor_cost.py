"""What a vendor says that it bills is kept with the charge and changes nothing of it."""

from __future__ import annotations

import pytest

from domain.money import Usd
from tests.fakes.chat import ActingVendor, Line, Stage, cost, read, request, streamed
from tests.fakes.upstream import encode

pytestmark = pytest.mark.anyio

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def whole(**usage: int) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    body: dict[str, object] = {"choices": [choice], "usage": {**USAGE, **usage}}
    return encode(body)


def events(*chunks: object) -> bytes:
    return b"".join(b"data: " + encode(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


async def test_a_whole_answers_vendor_cost_stands_beside_the_charge():
    stage = Stage(ActingVendor("alpha", whole(cost_in_usd_ticks=37_756_000)))
    await stage.fund("1")
    await stage.whole(request())
    assert await stage.charged() == cost(10, 5)
    assert (await stage.generation()).vendor_cost == Usd(3_775_600)


async def test_a_streams_vendor_cost_stands_beside_the_charge():
    piece = {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}
    finish = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    told = {"choices": [], "usage": USAGE | {"cost": 0}}
    stage = Stage(ActingVendor("alpha", Line(events(piece, finish, told))))
    await stage.fund("1")
    stream = await stage.stream(streamed())
    await read(stream)
    assert await stage.charged() == cost(10, 5)
    assert (await stage.generation()).vendor_cost == Usd(0)


async def test_a_vendor_that_tells_no_cost_leaves_it_open():
    stage = Stage(ActingVendor("alpha", whole()))
    await stage.fund("1")
    await stage.whole(request())
    await stage.settled()
    assert (await stage.generation()).vendor_cost is None
