"""When an offer deserves a rest, and when it gets another chance: a state machine without a clock.

A breaker opens after FAILURES_MAX failures in a row, or when half of the last OUTCOMES within a minute failed.  It
stays open for OPEN_S, twice as long each time a probe fails, and then lets one request at a time find out.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from domain.inference.faults import FaultKind
from domain.routing import Pulse

FAILURES_MAX = 5
OUTCOMES = 20
OUTCOMES_S = 60.0
OPEN_S = 30.0
OPEN_S_MAX = 300.0
PROBE_S = 10.0
"""A probe may end without a verdict, as when its caller leaves, so that after so long another may probe."""
REST_S_MAX = 3_600.0
"""However long a vendor wants to be left alone."""
OPERATORS_REST_S = 60.0
"""For all offers of a vendor that refuses our account."""
SMOOTHING = 0.2
"""The weight of the newest measurement."""
TOKENS_LEAST = 8
"""A shorter answer says nothing of throughput."""


class Vitals(Struct, frozen=True, kw_only=True):
    """What is known of one offer.  Times are seconds of one monotonic clock."""

    failures: int = 0
    """In a row."""
    outcomes: tuple[tuple[float, bool], ...] = ()
    """The last ones: when, and whether it failed."""
    openings: int = 0
    """How often in a row the breaker opened; 0: it is closed."""
    open_until: float = 0.0
    probed_until: float = 0.0
    rests_until: float = 0.0
    """The vendor asked for it."""
    latency_ms: float | None = None
    tokens_per_s: float | None = None

    def resting(self, at: float) -> bool:
        open_ = self.openings > 0 and (at < self.open_until or at < self.probed_until)
        return open_ or at < self.rests_until

    def half_open(self, at: float) -> bool:
        """The next call is a probe."""
        return self.openings > 0 and not self.resting(at)

    def probed(self, at: float) -> bool:
        """A call is finding out whether it has recovered."""
        return self.openings > 0 and self.open_until <= at < self.probed_until

    def pulse(self, at: float) -> Pulse:
        return Pulse(
            resting=self.resting(at),
            latency_ms=None if self.latency_ms is None else round(self.latency_ms),
            tokens_per_s=None if self.tokens_per_s is None else round(self.tokens_per_s),
        )


def probing(vitals: Vitals, at: float) -> Vitals:
    """One call is made to find out; until it is back, or PROBE_S are over, no other is."""
    return replace(vitals, probed_until=at + PROBE_S)


def succeeded(vitals: Vitals, at: float, *, first_token_ms: int, output_tokens: int, duration_ms: int) -> Vitals:
    """An answer closes the breaker, whoever asked for it."""
    if vitals.openings:
        vitals = replace(vitals, openings=0, open_until=0.0, probed_until=0.0, outcomes=())
    writing_ms = duration_ms - first_token_ms
    tokens_per_s = vitals.tokens_per_s
    if output_tokens >= TOKENS_LEAST and writing_ms > 0:
        tokens_per_s = _smoothed(tokens_per_s, output_tokens * 1_000 / writing_ms)
    return replace(
        vitals,
        failures=0,
        outcomes=_noted(vitals, at, failed=False),
        latency_ms=_smoothed(vitals.latency_ms, first_token_ms),
        tokens_per_s=tokens_per_s,
    )


def failed(vitals: Vitals, at: float, kind: FaultKind, retry_after_s: float | None) -> Vitals:
    """A vendor that says when to come back is healthy, only busy; any other failure counts."""
    if kind is FaultKind.RATE_LIMITED and retry_after_s is not None:
        until = at + min(retry_after_s, REST_S_MAX)
        return replace(vitals, rests_until=max(vitals.rests_until, until), probed_until=0.0)
    failures, outcomes = vitals.failures + 1, _noted(vitals, at, failed=True)
    counted = replace(vitals, failures=failures, outcomes=outcomes)
    if vitals.openings:
        # Whoever calls an open breaker has no other vendor left; only a probe's failure prolongs the rest.
        return _opened(counted, at) if at >= vitals.open_until else counted
    many = len(outcomes) == OUTCOMES and 2 * sum(bad for _, bad in outcomes) >= OUTCOMES
    return _opened(counted, at) if failures >= FAILURES_MAX or many else counted


def _opened(vitals: Vitals, at: float) -> Vitals:
    pause_s = min(OPEN_S_MAX, OPEN_S * 2.0 ** min(vitals.openings, 10))
    return replace(vitals, openings=vitals.openings + 1, open_until=at + pause_s, probed_until=0.0)


def _noted(vitals: Vitals, at: float, *, failed: bool) -> tuple[tuple[float, bool], ...]:
    recent = [outcome for outcome in vitals.outcomes if outcome[0] > at - OUTCOMES_S]
    return (*recent[-(OUTCOMES - 1) :], (at, failed))


def _smoothed(before: float | None, measured: float) -> float:
    return measured if before is None else before + SMOOTHING * (measured - before)
