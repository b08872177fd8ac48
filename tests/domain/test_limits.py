"""Rate limits admit what they promise and not one request more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.limits import (
    LimitSet,
    RateLimitExceeded,
    Subject,
    Window,
    arrivals,
    corrected,
    headroom,
    pace,
    windows,
)

NOW = 1_000_000.0
PER_MINUTE = Window("requests_per_minute", 60, 60, 10, False)
TOKENS = Window("tokens_per_minute", 6_000, 60, 6_000, True)


def take(tats: list[float], limited: tuple[Window, ...], now: float, tokens: int = 0) -> tuple[list[float], float]:
    """The arrival times after the request, unchanged where it has to wait, and for how long."""
    later, wait_s, _ = arrivals(tats, [pace(window) for window in limited], now, tokens)
    return (tats if wait_s else later), wait_s


def test_a_burst_is_admitted_at_once_and_not_one_more():
    tats, waits = [0.0], []
    for _ in range(11):
        tats, wait_s = take(tats, (PER_MINUTE,), NOW)
        waits.append(wait_s)
    assert waits[:10] == [0.0] * 10
    assert waits[10] == pytest.approx(1.0)


@pytest.mark.parametrize("limit", [7, 250, 5_000, 999_983])
def test_rounding_never_refuses_the_last_request_of_a_burst(limit):
    window = Window("w", limit, 60, min(limit, 5_000), False)
    tats, waits = [0.0], []
    for _ in range(window.burst):
        tats, wait_s = take(tats, (window,), NOW + 0.1)
        waits.append(wait_s)
    assert not any(waits)


def test_waiting_as_long_as_told_is_enough():
    tats, now = [0.0], NOW
    for _ in range(10):
        tats, _ = take(tats, (PER_MINUTE,), now)
    _, wait_s = take(tats, (PER_MINUTE,), now)
    _, wait_s = take(tats, (PER_MINUTE,), now + wait_s)
    assert wait_s == 0


def test_the_window_that_frees_last_is_named():
    slow = Window("requests_per_hour", 10, 3_600, 10, False)
    tats = [NOW + 20.0, NOW + 3_600.0]
    _, wait_s, where = arrivals(tats, [pace(PER_MINUTE), pace(slow)], NOW, 0)
    assert where == 1
    assert wait_s == pytest.approx(360.0)


def test_a_cost_beyond_the_burst_is_late_and_not_impossible():
    tats, wait_s = take([0.0], (TOKENS,), NOW, tokens=60_000)
    assert wait_s == 0
    _, wait_s = take(tats, (TOKENS,), NOW, tokens=1)
    assert wait_s == pytest.approx(540.0, rel=1e-3)


@pytest.mark.parametrize("window", [Window("none", 0, 60, 0, False), Window("none", 0, 60, 100, True)])
def test_a_limit_of_zero_admits_nothing(window):
    _, wait_s = take([0.0], (window,), NOW, tokens=1)
    assert wait_s > 0
    assert headroom(0.0, NOW, window).remaining == 0


def test_the_headroom_of_an_untouched_window_is_its_burst():
    assert headroom(0.0, NOW, PER_MINUTE).remaining == 10
    assert headroom(0.0, NOW, PER_MINUTE).reset_s == 0
    assert headroom(NOW + 9.5, NOW, PER_MINUTE).remaining == 0
    assert headroom(NOW + 9.5, NOW, PER_MINUTE).limit == 60


def test_every_window_of_the_defaults_is_made_from_its_own_number():
    limits = LimitSet(
        requests_per_minute=7,
        requests_per_hour=2,
        requests_per_day=3,
        tokens_per_minute=4,
        tokens_per_day=5,
        burst=6,
    )
    assert [(each.name, each.limit, each.period_s, each.burst, each.counts_tokens) for each in windows(limits)] == [
        ("requests_per_minute", 7, 60, 6, False),
        ("requests_per_hour", 2, 3_600, 2, False),
        ("requests_per_day", 3, 86_400, 3, False),
        ("tokens_per_minute", 4, 60, 4, True),
        ("tokens_per_day", 5, 86_400, 5, True),
    ]


def test_the_refusal_says_which_limit_of_whom_and_when_to_return():
    subject = Subject("key:abc", (PER_MINUTE,), 5)
    left = headroom(0.0, NOW, PER_MINUTE)
    refusal = RateLimitExceeded(
        "requests_per_minute", 60, subject.kind, 0.2, requests=left, tokens=headroom(0.0, NOW, TOKENS)
    )
    assert refusal.retry_after_s == 1
    assert "requests_per_minute = 60 of this key" in refusal.message


@given(
    limit=st.integers(1, 1_000),
    burst=st.integers(1, 200),
    steps=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 30)), max_size=60),
)
def test_no_interval_admits_more_than_its_share_and_one_burst(limit, burst, steps):
    """Of tokens; a cost beyond the burst counts as what it exceeds the burst by, once."""
    window = Window("tokens", limit, 60, burst, True)
    tats, now = [0.0], NOW
    admitted: list[tuple[float, int]] = []
    for pause_s, cost in steps:
        now += pause_s
        tats, wait_s = take(tats, (window,), now, cost)
        if not wait_s:
            admitted.append((now, cost))
    for first, (start, _) in enumerate(admitted):
        for last in range(first, len(admitted)):
            end, cost = admitted[last]
            taken = sum(each for _, each in admitted[first : last + 1])
            late = max(0, cost - burst)
            assert taken <= limit / 60 * (end - start + 1e-5) + burst + late + 1e-6


@given(
    st.lists(
        st.tuples(st.floats(0, 20), st.integers(1, 5_000), st.integers(0, 5_000), st.integers(0, 3)),
        max_size=40,
    )
)
def test_correcting_estimates_never_lends_more_than_one_more_burst(steps):
    """Each request books an estimate and, some requests later, learns what it really was."""
    tats, now = [0.0], NOW
    interval_s, *_ = pace(TOKENS)
    running: list[tuple[int, int, float]] = []
    used: list[tuple[float, int]] = []
    for pause_s, estimate, real, patience in steps:
        now += pause_s
        later, wait_s = take(tats, (TOKENS,), now, estimate)
        if not wait_s:
            tats = later
            running.append((estimate, min(real, estimate), later[0]))
        while len(running) > patience:
            estimated, was, booked_until = running.pop(0)
            used.append((now, was))
            tats = [corrected(tats[0], booked_until, now, interval_s, was - estimated)]
    for first, (start, _) in enumerate(used):
        for last in range(first, len(used)):
            taken = sum(each for _, each in used[first : last + 1])
            assert taken <= 100 * (used[last][0] - start + 80) + 2 * TOKENS.burst


def test_an_estimate_too_high_is_given_back():
    booked, _ = take([0.0], (TOKENS,), NOW, tokens=5_000)
    assert corrected(booked[0], booked[0], NOW, 0.01, -4_000) == pytest.approx(NOW + 10.0)


def test_what_time_has_drained_is_not_given_back_again():
    booked, _ = take([0.0], (TOKENS,), NOW, tokens=6_000)
    others, _ = take(booked, (TOKENS,), NOW + 60, tokens=6_000)
    assert corrected(others[0], booked[0], NOW + 60, 0.01, -6_000) == others[0]


def test_an_estimate_too_low_is_booked_from_now():
    assert corrected(NOW - 500, NOW - 500, NOW, 0.01, 100) == pytest.approx(NOW + 1.0)
