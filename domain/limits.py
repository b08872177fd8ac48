"""Rate limits: how often, how many tokens, how many at once.

The generic cell rate algorithm (GCRA) keeps one number per window, the theoretical arrival time, and admits a
cost when that time is not further ahead than the burst allows.  All windows of a key and its account are
taken, or none; tokens are taken by estimate and corrected once the answer is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

from domain.errors import TooManyRequests

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400
TOLERANCE_S = 1e-6
"""What repeated addition may lose: without it a rounding error would refuse the last request of a burst."""


class LimitSet(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The defaults are those of an account without a plan; a key may only lower its account's."""

    requests_per_minute: int = 250
    requests_per_hour: int = 5_000
    requests_per_day: int = 50_000
    tokens_per_minute: int = 250_000
    tokens_per_day: int = 20_000_000
    burst: int = 100
    """Requests that may arrive at one instant."""
    concurrent: int = 50


class Window(Struct, frozen=True):
    """One GCRA bucket: `limit` units per `period_s`, of which `burst` may come at once."""

    name: str
    limit: int
    period_s: int
    burst: int
    counts_tokens: bool


def windows(limits: LimitSet) -> tuple[Window, ...]:
    return (
        Window("requests_per_minute", limits.requests_per_minute, MINUTE_S, _burst(limits), False),
        Window("requests_per_hour", limits.requests_per_hour, HOUR_S, limits.requests_per_hour, False),
        Window("requests_per_day", limits.requests_per_day, DAY_S, limits.requests_per_day, False),
        Window("tokens_per_minute", limits.tokens_per_minute, MINUTE_S, limits.tokens_per_minute, True),
        Window("tokens_per_day", limits.tokens_per_day, DAY_S, limits.tokens_per_day, True),
    )


def _burst(limits: LimitSet) -> int:
    """More than a minute's worth at one instant would make the minute's limit a lie."""
    return min(limits.burst, limits.requests_per_minute)


def lowest(one: LimitSet, other: LimitSet) -> LimitSet:
    """The stricter of the two, number by number."""
    return LimitSet(**{name: min(getattr(one, name), getattr(other, name)) for name in LimitSet.__struct_fields__})


def halved(limits: LimitSet) -> LimitSet:
    """What a key gets that is not for live use."""
    return LimitSet(**{name: max(1, getattr(limits, name) // 2) for name in LimitSet.__struct_fields__})


class Subject(Struct, frozen=True):
    """Whoever is limited: a key, an account, an address."""

    id: str
    """Begins with its kind and a colon: "key:...", "account:...", "address:..."."""
    windows: tuple[Window, ...]
    concurrent: int

    @property
    def kind(self) -> str:
        return self.id.partition(":")[0]


class Headroom(Struct, frozen=True, gc=False):
    """The state of the tightest window of one sort, for the headers."""

    limit: int
    remaining: int
    reset_s: float
    """Until the window is empty again."""


NO_WINDOW = Headroom(0, 0, 0.0)
"""There is no window of this sort."""


class Admitted(Struct, frozen=True, kw_only=True, gc=False):
    lease: str
    """Given back when the request ends."""
    requests: Headroom
    tokens: Headroom


class RateLimitExceeded(TooManyRequests):
    code = "rate_limit_exceeded"

    def __init__(
        self,
        window: str,
        limit: int,
        subject: str,
        retry_after_s: float,
        *,
        requests: Headroom,
        tokens: Headroom,
    ) -> None:
        whole = max(1, -int(-retry_after_s // 1))
        super().__init__(
            f"The limit {window} = {limit} of this {subject} is reached. Try again in {whole} s, or ask the "
            "operator to raise the limit.",
            retry_after_s=whole,
        )
        self.window = window
        self.requests = requests
        self.tokens = tokens


Pace: TypeAlias = tuple[float, int, float, bool]
"""A window's numbers, ready to be compared with arrival times: how far one unit moves the arrival time (in
seconds), the burst in units and in seconds, and whether the units are tokens.  A bare tuple, because it is
unpacked for every window of every request, and nothing else unpacks as fast."""


def pace(window: Window) -> Pace:
    """A window that allows nothing gets a burst that no arrival fits into."""
    if window.limit < 1 or window.burst < 1:
        return float(window.period_s), 1, -float(window.period_s), window.counts_tokens
    interval_s = window.period_s / window.limit
    return interval_s, window.burst, window.burst * interval_s, window.counts_tokens


def arrivals(tats: Sequence[float], paces: Sequence[Pace], now: float, tokens: int) -> tuple[list[float], float, int]:
    """The theoretical arrival times after one request of `tokens`, how long to wait before it fits into every
    window (0: it fits now), and the place of the window that makes it wait.

    A cost larger than the whole burst is judged as one burst, so that it is late, not impossible.
    """
    later: list[float] = []
    longest_s, where = 0.0, 0
    for tat, (interval_s, burst, burst_s, counts_tokens) in zip(tats, paces, strict=True):
        start = tat if tat > now else now
        cost = tokens if counts_tokens else 1
        wait_s = start - now + (cost if cost < burst else burst) * interval_s - burst_s
        if wait_s > longest_s and wait_s > TOLERANCE_S:
            longest_s, where = wait_s, len(later)
        later.append(start + cost * interval_s)
    return later, longest_s, where


def corrected(tat: float, booked_until: float, now: float, interval_s: float, tokens_over: int) -> float:
    """The arrival time once an estimate, booked until `booked_until`, proves to be wrong by `tokens_over`.

    Giving back reaches no further than what time has not already drained: else slow requests with large
    estimates would hoard a burst far beyond the window's.
    """
    if tokens_over >= 0:
        return max(tat, now) + tokens_over * interval_s
    return tat - min(-tokens_over * interval_s, max(0.0, booked_until - now))


def headroom(tat: float, now: float, window: Window) -> Headroom:
    """What is left of a window after everything booked in `tat`."""
    interval_s, _, burst_s, _ = pace(window)
    used_s = max(0.0, tat - now)
    left = int((burst_s - used_s + TOLERANCE_S) / interval_s)
    # The tolerance is more than one unit where units are many.
    return Headroom(window.limit, max(0, min(window.burst, left)), used_s)
