"""The breaker: it opens when it should, rests as long as it should, and always lets somebody find out again."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from domain.health import (
    FAILURES_MAX,
    OPEN_S,
    OPEN_S_MAX,
    OUTCOMES,
    OUTCOMES_S,
    PROBE_S,
    REST_S_MAX,
    Vitals,
    failed,
    probing,
    succeeded,
)
from domain.inference.faults import FaultKind
from tests.examples import examples

NEW = Vitals()


def fail(vitals: Vitals, at: float, times: int = 1) -> Vitals:
    for _ in range(times):
        vitals = failed(vitals, at, FaultKind.SERVER_ERROR, None)
    return vitals


def answer(vitals: Vitals, at: float, first_token_ms: int = 100, tokens: int = 0, duration_ms: int = 200) -> Vitals:
    return succeeded(vitals, at, first_token_ms=first_token_ms, output_tokens=tokens, duration_ms=duration_ms)


def test_five_failures_in_a_row_open_the_breaker():
    assert not fail(NEW, 0, FAILURES_MAX - 1).resting(0)
    assert fail(NEW, 0, FAILURES_MAX).resting(0)


def test_a_success_between_failures_starts_the_row_again():
    assert not fail(answer(fail(NEW, 0, 4), 1), 2, 4).resting(2)


def test_half_of_the_last_twenty_within_a_minute_open_it_too():
    vitals = NEW
    for number in range(OUTCOMES // 2):
        assert not vitals.resting(number)
        vitals = fail(answer(vitals, number), number)
    assert vitals.resting(OUTCOMES / 2)


def test_failures_of_long_ago_do_not_count():
    vitals = NEW
    for number in range(OUTCOMES):
        at = number * OUTCOMES_S / 8
        vitals = fail(answer(vitals, at), at)
    assert not vitals.resting(OUTCOMES * OUTCOMES_S / 8)


def test_an_open_breaker_rests_thirty_seconds_and_then_lets_one_request_find_out():
    vitals = fail(NEW, 0, FAILURES_MAX)
    assert vitals.resting(OPEN_S - 0.1)
    assert not vitals.half_open(OPEN_S - 0.1)
    assert vitals.half_open(OPEN_S)
    vitals = probing(vitals, OPEN_S)
    assert vitals.resting(OPEN_S + 1)
    assert vitals.half_open(OPEN_S + PROBE_S)


def test_every_failed_probe_doubles_the_rest_up_to_five_minutes():
    vitals, at, rests = fail(NEW, 0, FAILURES_MAX), 0.0, []
    for _ in range(6):
        rests.append(vitals.open_until - at)
        at = vitals.open_until
        vitals = fail(probing(vitals, at), at)
    assert rests == [30, 60, 120, 240, OPEN_S_MAX, OPEN_S_MAX]


def test_calls_of_those_who_have_no_other_vendor_do_not_prolong_the_rest():
    vitals = fail(NEW, 0, FAILURES_MAX)
    assert fail(vitals, 10, 50).open_until == vitals.open_until


def test_an_answer_closes_the_breaker_and_forgets_how_often_it_opened():
    vitals = fail(NEW, 0, FAILURES_MAX)
    vitals = fail(probing(vitals, OPEN_S), OPEN_S)
    vitals = answer(vitals, 40)
    assert not vitals.resting(40)
    assert not vitals.half_open(40)
    assert fail(vitals, 50, FAILURES_MAX).open_until == 50 + OPEN_S


def test_one_failure_after_the_breaker_closed_does_not_open_it_again():
    assert not fail(answer(fail(NEW, 0, OUTCOMES), 31), 32).resting(32)


def test_a_busy_vendor_rests_as_long_as_it_asked_and_is_not_blamed():
    vitals = NEW
    for _ in range(FAILURES_MAX + 1):
        vitals = failed(vitals, 0, FaultKind.RATE_LIMITED, 7)
    assert vitals.resting(6.9)
    assert not vitals.resting(7)
    assert vitals.failures == 0
    assert failed(NEW, 0, FaultKind.RATE_LIMITED, 10**9).rests_until == REST_S_MAX


def test_a_shorter_wish_does_not_end_a_longer_rest():
    vitals = failed(failed(NEW, 0, FaultKind.RATE_LIMITED, 60), 1, FaultKind.RATE_LIMITED, 1)
    assert vitals.resting(59)


def test_a_rate_limit_without_a_time_is_a_failure_like_others():
    vitals = NEW
    for _ in range(FAILURES_MAX):
        vitals = failed(vitals, 0, FaultKind.RATE_LIMITED, None)
    assert vitals.resting(0)


def test_measurements_are_smoothed():
    vitals = answer(NEW, 0, first_token_ms=100, tokens=50, duration_ms=1_100)
    assert (vitals.pulse(0).latency_ms, vitals.pulse(0).tokens_per_s) == (100, 50)
    vitals = answer(vitals, 1, first_token_ms=200, tokens=100, duration_ms=1_200)
    assert (vitals.pulse(1).latency_ms, vitals.pulse(1).tokens_per_s) == (120, 60)


def test_answers_too_short_to_measure_leave_the_throughput_unknown():
    assert answer(NEW, 0, tokens=3, duration_ms=101).pulse(0).tokens_per_s is None
    assert answer(NEW, 0, first_token_ms=200, tokens=90, duration_ms=200).pulse(0).tokens_per_s is None


class BreakerMachine(RuleBasedStateMachine):
    """Any order of answers, failures and probes."""

    def __init__(self) -> None:
        super().__init__()
        self.vitals = NEW
        self.at = 0.0
        self.row = 0
        """Failures since the last answer."""

    @rule(seconds=st.floats(0, 400))
    def wait(self, seconds: float) -> None:
        self.at += seconds

    @rule()
    def answer(self) -> None:
        self.vitals = answer(self.vitals, self.at)
        self.row = 0
        assert self.vitals.openings == 0

    @rule()
    def fail(self) -> None:
        before = self.vitals
        self.vitals = fail(self.vitals, self.at)
        self.row += 1
        if before.openings and self.at < before.open_until:
            assert self.vitals.open_until == before.open_until
        if self.row >= FAILURES_MAX:
            assert self.vitals.openings

    @rule(seconds=st.integers(0, 10_000))
    def ask_for_patience(self, seconds: int) -> None:
        self.vitals = failed(self.vitals, self.at, FaultKind.RATE_LIMITED, seconds)

    @precondition(lambda self: self.vitals.half_open(self.at))
    @rule()
    def probe(self) -> None:
        self.vitals = probing(self.vitals, self.at)
        assert self.vitals.resting(self.at)

    @invariant()
    def somebody_may_always_find_out_again(self) -> None:
        assert not self.vitals.resting(self.at + max(OPEN_S_MAX, PROBE_S, REST_S_MAX))

    @invariant()
    def a_closed_breaker_rests_only_by_the_vendors_wish(self) -> None:
        if self.vitals.openings == 0:
            assert self.vitals.resting(self.at) == (self.at < self.vitals.rests_until)

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.vitals.outcomes) <= OUTCOMES


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=examples(40), stateful_step_count=40)
