"""One of three vendors fails at random: callers do not notice, and each pays once, for what it got, where it got it."""

from __future__ import annotations

import random
import sys
from collections import Counter
from dataclasses import replace

import pytest

from adapters.dialects.openai_chat.client import OpenAIChatStream
from adapters.memory.health import MemoryHealthBoard
from domain.credits import Kind
from domain.errors import DomainError
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.money import Usd
from domain.ports.vendors import ChatAnswer
from domain.pricing import Rates
from tests.fakes.chat import ActingVendor, Line, Stage, read, request, streamed
from tests.fakes.time import FakeClock
from tests.fakes.upstream import DONE, chunks, completion, token_usage

pytestmark = pytest.mark.anyio

REQUESTS = 2_000
INPUT, OUTPUT = 10, 5
RATES = {
    "alpha": Rates(input=1_000_000_000, output=2_000_000_000),
    "beta": Rates(input=1_100_000_000, output=1_900_000_000),
    "gamma": Rates(input=1_300_000_000, output=2_300_000_000),
}
FAULTS = [kind for kind in FaultKind if VendorFault(kind, "").worth_another_vendor]


class FlakyVendor(ActingVendor):
    """Fails at every second call or so, before its first word, in every way that another vendor may answer for."""

    def __init__(self, slug: str, rng: random.Random) -> None:
        super().__init__(slug, b"")
        self._rng = rng

    async def complete(self, call: ChatCall) -> ChatAnswer:
        self._acts[0] = completion("Hello", usage=token_usage(INPUT, OUTPUT))
        self._fail_perhaps()
        return await super().complete(call)

    async def stream(self, call: ChatCall) -> OpenAIChatStream:
        whole = [*chunks(usage=token_usage(INPUT, OUTPUT)), DONE]
        late = self._rng.random() < 0.5
        if not late:
            self._fail_perhaps()
        broken = [*chunks()[:1], VendorFault(self._rng.choice(FAULTS), "broken")]
        self._acts[0] = Line(*(broken if late and self._rng.random() < 0.5 else whole))
        return await super().stream(call)

    def _fail_perhaps(self) -> None:
        if self._rng.random() < 0.5:
            raise VendorFault(self._rng.choice(FAULTS), "broken")


def steady(slug: str) -> ActingVendor:
    class Steady(ActingVendor):
        async def stream(self, call: ChatCall) -> OpenAIChatStream:
            self._acts[0] = Line(*chunks(usage=token_usage(INPUT, OUTPUT)), DONE)
            return await super().stream(call)

        async def complete(self, call: ChatCall) -> ChatAnswer:
            self._acts[0] = completion("Hello", usage=token_usage(INPUT, OUTPUT))
            return await super().complete(call)

    return Steady(slug, b"")


@pytest.mark.parametrize("flaky", ["alpha", "gamma"])
async def test_one_vendor_of_three_fails_at_random(flaky: str) -> None:
    rng, clock = random.Random(11), FakeClock()
    vendors = [FlakyVendor(slug, rng) if slug == flaky else steady(slug) for slug in RATES]
    stage = Stage(*vendors, rates=RATES, draw=rng.randrange, clock=clock)
    board = MemoryHealthBoard(clock)
    chat = stage.chat
    stage.chat = replace(
        chat,
        admission=replace(chat.admission, health=board),
        failover=replace(chat.failover, health=board),
        health=board,
    )
    await stage.fund("100")

    failed, served, owed = 0, Counter[str](), 0
    for number in range(REQUESTS):
        clock.advance(0.5)
        try:
            if number % 2:
                await stage.whole(request())
            else:
                await read(await stage.stream(streamed()))
        except DomainError:
            failed += 1
        assert await stage.settler.drain(2)
        record = await stage.generation()
        rates = RATES[record.vendor]
        assert record.cost == Usd((rates.input * INPUT + rates.output * OUTPUT) // 1_000_000)
        served[record.vendor] += 1
        owed += record.cost.nanos

    assert failed * 1_000 < REQUESTS
    assert all(served[vendor] > REQUESTS // 20 for vendor in RATES if vendor != flaky)
    calls = {str(vendor.slug): len(vendor.calls) for vendor in vendors}
    sys.stdout.write(f"{flaky} fails: {REQUESTS - failed} of {REQUESTS} answered, {dict(served)}, calls {calls}\n")
    assert calls[flaky] < REQUESTS, "its breaker keeps most requests away"
    account = await stage.settled()
    assert account.charged == Usd(owed)
    charges = [
        transfer
        for transfer in await stage.ledger.transfers(account.id, REQUESTS * 3, None)
        if transfer.kind is Kind.CHARGE
    ]
    assert len(charges) == REQUESTS - failed
