"""Vendors are tried in order until one begins to answer; what begins is never changed, and only one is paid."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from adapters.memory.health import MemoryHealthBoard
from adapters.system.clock import SystemClock
from application.inference.failover import RETRIES_LEAST, TRIES_MAX, RetryBudget
from domain.credits import Kind
from domain.errors import (
    DomainError,
    InvalidRequest,
    TimedOut,
    TooLarge,
    Unavailable,
    UnsupportedParameter,
    VendorFailed,
)
from domain.ids import VendorSlug
from domain.inference.chat import ChatCall
from domain.inference.faults import (
    ContentPolicyViolation,
    ContextLengthExceeded,
    FaultKind,
    NoVendorAvailable,
    VendorFault,
    VendorRateLimited,
)
from domain.money import ZERO
from domain.usage import Outcome
from tests.fakes.chat import MODEL, ActingVendor, Line, Stage, cost, read, request, streamed
from tests.fakes.time import FakeClock
from tests.fakes.upstream import DONE, chunks, completion, token_usage

pytestmark = pytest.mark.anyio

GOOD = completion("Hello", usage=token_usage(10, 5))
WHOLE_STREAM = [*chunks(usage=token_usage(10, 5)), DONE]
ELSEWHERE = [kind for kind in FaultKind if VendorFault(kind, "").worth_another_vendor]
HERE_ONLY = [kind for kind in FaultKind if kind not in ELSEWHERE]


def fault(kind: FaultKind, **more: Any) -> VendorFault:
    return VendorFault(kind, "as the vendor says", **more)


def tried(stage_record_attempts: tuple[object, ...]) -> list[tuple[str, str | None]]:
    return [(attempt.vendor, attempt.fault) for attempt in stage_record_attempts]  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ELSEWHERE)
async def test_another_vendor_answers_for_one_that_fails(kind: FaultKind) -> None:
    first, second = ActingVendor("alpha", fault(kind)), ActingVendor("beta", GOOD)
    stage = Stage(first, second)
    await stage.fund("1")

    done = await stage.whole(request())

    assert done.answer.body == GOOD
    assert len(first.calls) == len(second.calls) == 1
    assert second.calls[0].vendor_model == "beta-one"
    assert await stage.charged() == done.cost == cost(10, 5)
    assert len(await stage.booked(Kind.CHARGE)) == 1
    record = await stage.generation()
    assert record.vendor == "beta"
    assert tried(record.attempts) == [("alpha", kind), ("beta", None)]


@pytest.mark.parametrize("kind", ELSEWHERE)
async def test_another_vendor_streams_for_one_that_fails_before_its_first_word(kind: FaultKind) -> None:
    role_only = Line(*chunks()[:1], b": thinking\n\n", fault(kind))
    stage = Stage(ActingVendor("alpha", role_only), ActingVendor("beta", Line(*WHOLE_STREAM)))
    await stage.fund("1")

    seen = await read(await stage.stream(streamed(stream_options={"include_usage": True})))

    assert seen == b"".join(WHOLE_STREAM)
    assert role_only.hung_up.is_set()
    assert await stage.charged() == cost(10, 5)
    assert (await stage.generation()).vendor == "beta"


@pytest.mark.parametrize("kind", HERE_ONLY)
async def test_a_request_that_is_itself_wrong_is_tried_once(kind: FaultKind) -> None:
    first, second = ActingVendor("alpha", fault(kind)), ActingVendor("beta", GOOD)
    stage = Stage(first, second)
    await stage.fund("1")

    with pytest.raises(InvalidRequest) as told:
        await stage.whole(request())

    assert told.value.message == "as the vendor says"
    assert (len(first.calls), len(second.calls)) == (1, 0)
    assert stage.board.failures == []
    assert await stage.charged() == ZERO


async def test_what_one_vendor_cannot_be_told_another_may_do() -> None:
    first, second = ActingVendor("alpha", UnsupportedParameter("no 'n' here", param="n")), ActingVendor("beta", GOOD)
    stage = Stage(first, second)
    await stage.fund("1")

    done = await stage.whole(request())

    assert done.answer.body == GOOD
    assert stage.board.failures == []
    assert await stage.charged() == cost(10, 5)


async def test_what_no_vendor_can_be_told_is_refused_and_free() -> None:
    stage = Stage(ActingVendor("alpha", UnsupportedParameter("no 'n' here", param="n")))
    await stage.fund("1")

    with pytest.raises(UnsupportedParameter):
        await stage.whole(request())

    assert await stage.charged() == ZERO
    assert (await stage.generation()).outcome is Outcome.FAILED


async def test_after_the_first_word_nobody_else_is_tried() -> None:
    """A second answer glued to half of a first one would be worse than an error."""
    half = Line(*chunks(obfuscation=False)[:3], fault(FaultKind.BROKEN_OFF))
    second = ActingVendor("beta", Line(*WHOLE_STREAM))
    stage = Stage(ActingVendor("alpha", half), second)
    await stage.fund("1")
    running = await stage.stream(streamed())

    with pytest.raises(VendorFailed):
        await read(running)

    assert second.calls == []
    assert await stage.charged() == ZERO
    record = await stage.generation()
    assert record.outcome is Outcome.BROKEN_OFF
    assert record.loss == cost(record.usage.input, 2)
    assert [transfer.amount for transfer in await stage.booked(Kind.LOSS)] == [record.loss]


@pytest.mark.parametrize(
    ("kind", "tries"),
    [
        (FaultKind.SERVER_ERROR, TRIES_MAX),
        (FaultKind.OVERLOADED, TRIES_MAX),
        (FaultKind.UNREACHABLE, TRIES_MAX),
        (FaultKind.MALFORMED, TRIES_MAX),
        (FaultKind.RATE_LIMITED, 1),
        (FaultKind.CREDENTIAL_REJECTED, 1),
        (FaultKind.ACCOUNT_EMPTY, 1),
        (FaultKind.MODEL_MISSING, 1),
        (FaultKind.FIRST_BYTE_TIMEOUT, 1),
    ],
)
async def test_the_last_vendor_is_tried_again_only_where_that_may_help(kind: FaultKind, tries: int) -> None:
    vendor = ActingVendor("alpha", fault(kind))
    stage = Stage(vendor)
    await stage.fund("1")

    with pytest.raises(DomainError):
        await stage.whole(request())

    assert len(vendor.calls) == tries
    assert await stage.charged() == ZERO
    record = await stage.generation()
    assert record.outcome is Outcome.FAILED
    assert len(record.attempts) == tries


async def test_a_vendor_that_recovers_is_paid_once() -> None:
    vendor = ActingVendor("alpha", fault(FaultKind.SERVER_ERROR), fault(FaultKind.OVERLOADED), GOOD)
    stage = Stage(vendor)
    await stage.fund("1")

    await stage.whole(request())

    assert len(vendor.calls) == 3
    assert await stage.charged() == cost(10, 5)


def test_retries_stay_a_fifth_of_all_requests() -> None:
    clock = FakeClock()
    budget = RetryBudget(clock)
    for _ in range(100):
        budget.request()

    assert sum(budget.retry() for _ in range(100)) == 20
    clock.advance(61)
    budget.request()
    assert sum(budget.retry() for _ in range(100)) == RETRIES_LEAST


async def test_retries_do_not_become_the_outage() -> None:
    vendor = ActingVendor("alpha", fault(FaultKind.OVERLOADED))
    stage = Stage(vendor)
    await stage.fund("10")
    for _ in range(50):
        with pytest.raises(NoVendorAvailable):
            await stage.whole(request())

    assert len(vendor.calls) <= 50 * 1.2 + RETRIES_LEAST


async def test_one_deadline_holds_for_all_tries() -> None:
    silent = ActingVendor("alpha", asyncio.Event())
    stage = Stage(silent, first_byte_s=0.05)
    await stage.fund("1")

    with pytest.raises(TimedOut):
        await stage.whole(request())

    assert await stage.charged() == ZERO
    assert (await stage.generation()).attempts[0].fault == FaultKind.FIRST_BYTE_TIMEOUT


@pytest.mark.parametrize("streams", [False, True])
async def test_a_vendor_that_stays_silent_leaves_time_for_another(streams: bool) -> None:
    """Where, as by default, an offer may take as long for its first byte as the whole request may."""
    silent = ActingVendor("alpha", Line(asyncio.Event()) if streams else asyncio.Event())
    good = ActingVendor("beta", Line(*WHOLE_STREAM) if streams else GOOD)
    stage = Stage(silent, good, first_byte_s=0.2, clock=SystemClock())
    await stage.fund("1")

    if streams:
        await read(await stage.stream(streamed(stream_options={"include_usage": True})))
    else:
        await stage.whole(request())

    assert len(good.calls) == 1
    assert await stage.charged() == cost(10, 5)


class Slow(ActingVendor):
    """Takes its time on the test's clock."""

    def __init__(self, slug: str, clock: FakeClock, seconds: float, act: bytes | Line | VendorFault) -> None:
        super().__init__(slug, act)
        self._clock, self._seconds = clock, seconds

    async def _act(self, call: ChatCall) -> bytes | Line:
        self._clock.advance(self._seconds)
        return await super()._act(call)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_vendor_is_not_slow_for_those_that_failed_before_it(stream: bool) -> None:
    clock = FakeClock()
    first = Slow("alpha", clock, 9.0, fault(FaultKind.SERVER_ERROR))
    second = Slow("beta", clock, 0.25, Line(*WHOLE_STREAM) if stream else GOOD)
    stage, board = Stage(first, second, clock=clock), MemoryHealthBoard(clock)
    stage.chat = replace(stage.chat, health=board)
    await stage.fund("1")

    if stream:
        await read(await stage.stream(streamed()))
    else:
        await stage.whole(request())

    [served] = [each for each in stage.chat.admission.catalog.current().find(MODEL).offers if each.vendor == "beta"]
    assert board.pulse(served).latency_ms == 250


async def test_of_several_busy_vendors_the_longest_wait_is_told() -> None:
    stage = Stage(
        ActingVendor("alpha", fault(FaultKind.RATE_LIMITED, retry_after_s=30)),
        ActingVendor("beta", fault(FaultKind.RATE_LIMITED, retry_after_s=5)),
    )
    await stage.fund("1")

    with pytest.raises(VendorRateLimited) as told:
        await stage.whole(request())

    assert told.value.retry_after_s == 30


async def test_our_own_account_at_a_vendor_is_the_operators_business() -> None:
    for kind in (FaultKind.CREDENTIAL_REJECTED, FaultKind.ACCOUNT_EMPTY):
        stage = Stage(ActingVendor("alpha", fault(kind, status=401)))
        await stage.fund("1")

        with pytest.raises(Unavailable) as told:
            await stage.whole(request())

        assert "as the vendor says" not in told.value.message
        assert kind.replace("_", " ") not in told.value.message
        assert stage.alerts == [(VendorSlug("alpha"), kind)]


@pytest.mark.parametrize(
    ("last_word", "told_as", "retry_after_s"),
    [
        (fault(FaultKind.UNREACHABLE), NoVendorAvailable, 5),
        (fault(FaultKind.OVERLOADED, retry_after_s=9), NoVendorAvailable, 9),
        (fault(FaultKind.RATE_LIMITED, retry_after_s=7), VendorRateLimited, 7),
        (fault(FaultKind.RATE_LIMITED), VendorRateLimited, 5),
        (fault(FaultKind.FIRST_BYTE_TIMEOUT), TimedOut, None),
        (fault(FaultKind.SERVER_ERROR), VendorFailed, None),
        (fault(FaultKind.MALFORMED), VendorFailed, None),
        (fault(FaultKind.BROKEN_OFF), VendorFailed, None),
        (fault(FaultKind.MODEL_MISSING), NoVendorAvailable, 5),
        (fault(FaultKind.REFUSED, status=400), InvalidRequest, None),
        (fault(FaultKind.REFUSED, status=413), TooLarge, None),
        (fault(FaultKind.CONTEXT_LENGTH), ContextLengthExceeded, None),
        (fault(FaultKind.CONTENT_POLICY), ContentPolicyViolation, None),
    ],
)
async def test_the_last_fault_is_told_as_what_it_means_to_the_caller(
    last_word: VendorFault, told_as: type[DomainError], retry_after_s: int | None
) -> None:
    stage = Stage(ActingVendor("alpha", fault(FaultKind.RATE_LIMITED)), ActingVendor("beta", last_word))
    await stage.fund("1")

    with pytest.raises(told_as) as told:
        await stage.whole(request())

    assert told.value.retry_after_s == retry_after_s


async def test_a_stream_without_any_content_is_no_answer() -> None:
    empty = Line(DONE)
    stage = Stage(ActingVendor("alpha", empty), ActingVendor("beta", Line(*WHOLE_STREAM)))
    await stage.fund("1")

    await read(await stage.stream(streamed(stream_options={"include_usage": True})))

    assert empty.hung_up.is_set()
    assert (await stage.generation()).vendor == "beta"


async def test_an_answer_of_no_words_that_finished_is_an_answer() -> None:
    told = [*chunks([], usage=token_usage(10, 0)), DONE]
    stage = Stage(ActingVendor("alpha", Line(*told)))
    await stage.fund("1")

    seen = await read(await stage.stream(streamed(stream_options={"include_usage": True})))

    assert seen == b"".join(told)
    assert await stage.charged() == cost(10, 0)
    assert (await stage.generation()).outcome is Outcome.COMPLETED


async def test_health_learns_of_every_failure_and_of_the_success() -> None:
    stage = Stage(ActingVendor("alpha", fault(FaultKind.OVERLOADED)), ActingVendor("beta", GOOD))
    await stage.fund("1")

    await stage.whole(request())

    assert stage.board.failures == [(VendorSlug("alpha"), FaultKind.OVERLOADED)]
    assert stage.board.successes == [VendorSlug("beta")]


async def test_an_offer_that_another_call_is_probing_lets_the_others_go_first() -> None:
    first, second = ActingVendor("alpha", GOOD), ActingVendor("beta", GOOD)
    stage = Stage(first, second)
    stage.board.probed = {VendorSlug("alpha")}
    await stage.fund("1")

    await stage.whole(request())

    assert (len(first.calls), len(second.calls)) == (0, 1)


async def test_offers_that_are_all_being_probed_are_called_all_the_same() -> None:
    stage = Stage(ActingVendor("alpha", fault(FaultKind.OVERLOADED)), ActingVendor("beta", GOOD))
    stage.board.probed = {VendorSlug("alpha"), VendorSlug("beta")}
    await stage.fund("1")

    await stage.whole(request())

    assert tried((await stage.generation()).attempts) == [("alpha", FaultKind.OVERLOADED), ("beta", None)]
