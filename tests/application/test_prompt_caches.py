"""A conversation stays at the vendor that has its prompt in a cache, and nowhere is kept what it says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from adapters.memory.affinity import MemoryAffinity
from adapters.memory.health import MemoryHealthBoard
from application.inference.caching import KEPT_S, PromptCaches
from domain.catalog import Offer
from domain.health import FAILURES_MAX
from domain.ids import AccountId, VendorSlug
from domain.inference.caching import cache_pays, cache_saving, conversation_mark
from domain.inference.faults import FaultKind, VendorFault
from domain.money import ZERO, Usd
from domain.pricing import Rates
from domain.usage import Usage
from tests.fakes.chat import ANN, MODEL, ActingVendor, Line, Stage, price, read, request, streamed
from tests.fakes.time import FakeClock
from tests.fakes.upstream import DONE, chunks, completion, token_usage

pytestmark = pytest.mark.anyio

KEY = b"k" * 32
GOOD = completion("Hello", usage=token_usage(10, 5))
CACHING = Rates(input=1_000_000_000, output=2_000_000_000, cache_read=100_000_000)
PLAIN = Rates(input=1_000_000_000, output=2_000_000_000)
NAMES = ("alpha", "beta", "gamma")


def offer(rates: Rates, **more: Any) -> Offer:
    slug = VendorSlug("alpha")
    return Offer(vendor=slug, model=MODEL, vendor_model="one", price=price(slug, rates), **more)


def talk(*further: str, first: str = "Hello", **more: Any):
    turns = [{"role": "user", "content": first}]
    for text in further:
        turns += [{"role": "assistant", "content": "Yes"}, {"role": "user", "content": text}]
    return request(messages=turns, **more)


def staged(rates: Rates = CACHING, clock: FakeClock | None = None) -> Stage:
    places = iter(range(10**6))
    # The first try goes round, so that whatever stays somewhere stays there for its cache.
    return Stage(
        *(ActingVendor(name, GOOD) for name in NAMES),
        rates=dict.fromkeys(NAMES, rates),
        draw=lambda count: next(places) % 3 * (count // 3),
        clock=clock or FakeClock(),
    )


async def serving(stage: Stage, asked: Any) -> str:
    done = await stage.whole(asked)
    assert done.meter.offer is not None
    return done.meter.offer.vendor


async def test_conversations_stay_where_their_cache_is() -> None:
    stage = staged()
    await stage.fund("1")
    first = {name: await serving(stage, talk(first=name)) for name in ("a", "b", "c")}
    assert len(set(first.values())) == 3
    for turns in range(1, 5):
        for name, vendor in first.items():
            assert await serving(stage, talk(*["More"] * turns, first=name)) == vendor


async def test_a_stream_begun_somewhere_keeps_its_conversation_there() -> None:
    stage = Stage(
        *(ActingVendor(name, Line(*chunks(usage=token_usage(10, 5)), DONE), GOOD) for name in NAMES),
        rates=dict.fromkeys(NAMES, CACHING),
        draw=lambda count: count - 1,
    )
    await stage.fund("1")
    await read(await stage.stream(streamed()))
    vendor = (await stage.generation()).vendor
    stage.chat = replace(stage.chat, admission=replace(stage.chat.admission, draw=lambda _: 0))
    assert await serving(stage, request()) == vendor == "gamma"


@pytest.mark.parametrize("named", [{"session_id": "s"}, {"prompt_cache_key": "s"}, {"metadata": {"user_id": "s"}}])
async def test_a_named_session_is_one_conversation_whatever_it_says(named: dict[str, Any]) -> None:
    stage = staged()
    await stage.fund("1")
    assert len({await serving(stage, talk(first=str(turn), **named)) for turn in range(5)}) == 1


async def test_where_no_cache_pays_nothing_stays() -> None:
    stage = staged(PLAIN)
    await stage.fund("1")
    assert len({await serving(stage, talk()) for _ in range(3)}) == 3


async def test_a_conversation_leaves_a_vendor_that_rests_and_stays_where_it_went() -> None:
    clock = FakeClock()
    stage, board = staged(clock=clock), MemoryHealthBoard(clock)
    stage.chat = replace(stage.chat, admission=replace(stage.chat.admission, health=board))
    await stage.fund("1")
    vendor = await serving(stage, talk())
    [left] = [each for each in stage.chat.admission.catalog.current().find(MODEL).offers if each.vendor == vendor]
    for _ in range(FAILURES_MAX):
        board.failed(left, VendorFault(FaultKind.SERVER_ERROR, "broken"))
    moved = {await serving(stage, talk()) for _ in range(4)}
    assert len(moved) == 1
    assert vendor not in moved


async def test_a_conversation_is_forgotten_in_time() -> None:
    clock = FakeClock()
    stage = staged(clock=clock)
    await stage.fund("1")
    seen = Counter[str]()
    for _ in range(9):
        seen[await serving(stage, talk())] += 1
        clock.advance(KEPT_S + 1)
    assert set(seen.values()) == {3}


async def test_the_vendor_is_told_the_mark_and_the_store_nothing_else() -> None:
    stage = staged()
    await stage.fund("1")
    done = await stage.whole(request(session_id="my secret session"))
    vendor = stage.chat.failover.vendors[done.meter.offer.vendor]  # type: ignore[union-attr]
    mark = vendor.calls[0].conversation  # type: ignore[attr-defined]
    assert len(mark) == 32
    assert "secret" not in repr(stage.caches.affinity.__dict__)
    assert mark in repr(stage.caches.affinity.__dict__)


def test_a_mark_depends_on_the_key_the_account_the_model_and_the_beginning() -> None:
    asked = talk()
    marks = {
        conversation_mark(KEY, ANN, MODEL, asked),
        conversation_mark(b"other", ANN, MODEL, asked),
        conversation_mark(KEY, AccountId("bob"), MODEL, asked),
        conversation_mark(KEY, ANN, type(MODEL)("acme/two"), asked),
        conversation_mark(KEY, ANN, MODEL, talk(first="Bye")),
        conversation_mark(KEY, ANN, MODEL, talk(session_id="Hello")),
    }
    assert len(marks) == 6
    assert conversation_mark(KEY, ANN, MODEL, talk("More", "and more")) == conversation_mark(KEY, ANN, MODEL, asked)


def test_a_long_beginning_counts_by_both_of_its_ends() -> None:
    def mark(system: str, first: str) -> str | None:
        turns = [{"role": "system", "content": system}, {"role": "user", "content": first}]
        return conversation_mark(KEY, ANN, MODEL, request(messages=turns))

    long = "x" * 50_000
    assert mark(long, "a") == mark(long, "a")
    assert len({mark(long, "a"), mark(long, "b"), mark("y" + long, "a"), mark(long + "x", "a")}) == 4


def test_what_a_cache_saved_is_the_difference_of_the_rates_with_the_markup() -> None:
    used = Usage(input=100, cache_read=1_000, output=5)
    assert cache_saving(offer(CACHING), used) == Usd(900_000)
    assert cache_saving(offer(CACHING, markup_ppm=1_100_000), used) == Usd(990_000)
    assert cache_saving(offer(PLAIN), used) == ZERO
    assert cache_saving(offer(CACHING), Usage(input=100)) == ZERO
    assert cache_pays([offer(PLAIN), offer(CACHING)])
    assert not cache_pays([offer(PLAIN)])


async def test_a_request_without_a_beginning_belongs_to_no_conversation() -> None:
    stage = staged()
    caches = PromptCaches(MemoryAffinity(FakeClock()), KEY)
    asked = structs.replace(request(), beginning=None)
    assert caches.conversation(stage.caller, asked, stage.chat.admission.sought(stage.caller, asked)) is None
