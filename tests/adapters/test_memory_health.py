"""The health board of one process."""

from __future__ import annotations

import pytest

from adapters.memory.health import MemoryHealthBoard
from domain.catalog import Offer
from domain.health import FAILURES_MAX, OPEN_S, OPERATORS_REST_S, PROBE_S
from domain.ids import ModelId, VendorSlug
from domain.inference.faults import FaultKind, VendorFault
from domain.routing import Pulse
from tests.fakes.time import FakeClock


def offer(vendor: str = "v", name: str = "m") -> Offer:
    return Offer(vendor=VendorSlug(vendor), model=ModelId(f"a/{name}"), vendor_model=name, price=None)


FAILURE = VendorFault(FaultKind.SERVER_ERROR, "broken")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def board(clock: FakeClock) -> MemoryHealthBoard:
    return MemoryHealthBoard(clock)


def fail(board: MemoryHealthBoard, times: int = FAILURES_MAX, fault: VendorFault = FAILURE) -> None:
    for _ in range(times):
        board.failed(offer(), fault)


def test_an_offer_that_was_never_called_is_taken_for_healthy(board):
    assert board.pulse(offer()) == Pulse()


def test_one_offers_failures_are_not_its_vendors(board):
    fail(board)
    assert board.pulse(offer()).resting
    assert not board.pulse(offer(name="other")).resting


def test_one_call_at_a_time_may_probe(board, clock):
    fail(board)
    clock.advance(OPEN_S)
    assert [board.begins(offer()) for _ in range(3)] == [True, False, False]
    assert board.pulse(offer()).resting
    clock.advance(PROBE_S)
    assert [board.begins(offer()) for _ in range(2)] == [True, False]
    board.succeeded(offer(), 100, 50, 1_100)
    assert board.pulse(offer()) == Pulse(resting=False, latency_ms=100, tokens_per_s=50)


def test_whoever_only_asks_for_the_pulse_leaves_the_probe_to_a_call(board, clock):
    fail(board)
    clock.advance(OPEN_S)
    assert not any(board.pulse(offer()).resting for _ in range(3))
    assert board.begins(offer())


def test_a_call_of_an_offer_at_rest_is_no_probe(board, clock):
    fail(board)
    assert [board.begins(offer()) for _ in range(2)] == [True, True]
    clock.advance(OPEN_S)
    assert not board.pulse(offer()).resting


def test_a_failed_probe_makes_place_for_the_next_one_after_a_longer_rest(board, clock):
    fail(board)
    clock.advance(OPEN_S)
    assert board.begins(offer())
    fail(board, 1)
    clock.advance(2 * OPEN_S)
    assert [board.begins(offer()) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("kind", [FaultKind.CREDENTIAL_REJECTED, FaultKind.ACCOUNT_EMPTY])
def test_our_own_account_failing_rests_all_offers_of_the_vendor(board, clock, kind):
    board.succeeded(offer(name="known"), 100, 0, 100)
    fail(board, 1, VendorFault(kind, "no"))
    for name in ("m", "other", "known"):
        assert board.pulse(offer(name=name)).resting
    assert not board.pulse(offer(vendor="w")).resting
    clock.advance(OPERATORS_REST_S)
    assert not board.pulse(offer(name="other")).resting


def test_an_answer_shows_that_our_account_is_in_order_again(board):
    fail(board, 1, VendorFault(FaultKind.ACCOUNT_EMPTY, "no"))
    board.succeeded(offer(), 100, 0, 100)
    assert not board.pulse(offer(name="other")).resting


@pytest.mark.parametrize(
    "kind", [FaultKind.REFUSED, FaultKind.CONTEXT_LENGTH, FaultKind.CONTENT_POLICY, FaultKind.MODEL_MISSING]
)
def test_what_the_vendor_is_not_to_blame_for_does_not_hurt_it(board, kind):
    fail(board, 50, VendorFault(kind, "no"))
    assert board.pulse(offer()) == Pulse()


def test_a_rate_limit_rests_the_offer_until_it_said(board, clock):
    fail(board, 1, VendorFault(FaultKind.RATE_LIMITED, "slowly", retry_after_s=9))
    clock.advance(8.9)
    assert board.pulse(offer()).resting
    clock.advance(0.1)
    assert not board.pulse(offer()).resting
