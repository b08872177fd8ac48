"""Rate limits of one process, kept in memory.

Nothing here waits, so that all windows of all subjects are judged and taken in one step of the event loop.  A
bucket that is idle again is indistinguishable from a new one and is dropped, a few at every newcomer, so that
memory follows the subjects that are limited now and not those that were seen once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from domain.limits import (
    NO_WINDOW,
    Admitted,
    Headroom,
    RateLimitExceeded,
    Subject,
    Window,
    arrivals,
    corrected,
    headroom,
    pace,
)
from domain.ports.clock import Clock

LEASE_S: Final = 3_600.0
"""A place that nobody gave back for so long was lost, not used."""
CONCURRENCY_RETRY_S: Final = 1.0
LOOKED_AT_PER_NEWCOMER: Final = 4
ADMISSIONS_PER_SWEEP: Final = 1_024


class _Bucket:
    """What one subject has used: the theoretical arrival time of each window, and how many requests run."""

    __slots__ = ("paces", "running", "shares", "tats", "windows")

    tats: list[float]
    """Replaced, never changed in place: leases remember what was booked."""

    def __init__(self, windows: tuple[Window, ...]) -> None:
        self._pace_by(windows)
        self.tats = [0.0] * len(windows)
        self.running = 0

    def follow(self, windows: tuple[Window, ...], now: float) -> None:
        """Take over other limits; the units used of a window of the same name stay used."""
        used = {
            window.name: max(0.0, tat - now) / interval_s
            for window, tat, (interval_s, *_) in zip(self.windows, self.tats, self.paces, strict=True)
        }
        self._pace_by(windows)
        self.tats = [
            now + used.get(window.name, 0.0) * interval_s
            for window, (interval_s, *_) in zip(windows, self.paces, strict=True)
        ]

    def _pace_by(self, windows: tuple[Window, ...]) -> None:
        self.windows = windows
        self.paces = [pace(window) for window in windows]
        self.shares = [(counts_tokens, 1 / max(burst_s, 1e-9)) for _, _, burst_s, counts_tokens in self.paces]


class _Lease(Struct, frozen=True, gc=False):
    ends_at: float
    subjects: tuple[Subject, ...]
    booked: list[list[float]]
    """By subject, the arrival times right after the request was admitted."""


class _Limit(NamedTuple):
    subject: Subject
    name: str
    limit: int


class MemoryLimiter:
    """The port `Limiter` for one process."""

    def __init__(self, clock: Clock) -> None:
        self._now = clock.monotonic
        self._buckets: dict[str, _Bucket] = {}
        self._to_look_at: deque[str] = deque()
        """The ids of all buckets, the one that was not looked at for longest in front."""
        self._newcomers = 0
        """Buckets made since idle ones were last looked for."""
        self._leases: dict[str, _Lease] = {}
        self._admissions = 0

    async def acquire(self, subjects: Sequence[Subject], tokens: int) -> Admitted:
        now = self._now()
        buckets, booked = self._admissible(subjects, tokens, now)
        for bucket, later in zip(buckets, booked, strict=True):
            bucket.tats = later
            bucket.running += 1
        self._admissions += 1
        if self._admissions % ADMISSIONS_PER_SWEEP == 0:
            self._end_lost_leases(now)
        lease = str(self._admissions)
        self._leases[lease] = _Lease(now + LEASE_S, tuple(subjects), booked)
        requests, tokens_left = _tightest(buckets, now)
        return Admitted(lease=lease, requests=requests, tokens=tokens_left)

    async def peek(self, subjects: Sequence[Subject], tokens: int) -> Admitted:
        now = self._now()
        buckets, _ = self._admissible(subjects, tokens, now)
        requests, tokens_left = _tightest(buckets, now)
        return Admitted(lease="", requests=requests, tokens=tokens_left)

    def release(self, subjects: Sequence[Subject], admitted: Admitted, tokens_over: int) -> None:
        lease = self._leases.pop(admitted.lease, None)
        if lease is None:
            return
        now = self._now()
        for subject, booked in zip(lease.subjects, lease.booked, strict=True):
            bucket = self._buckets[subject.id]
            bucket.running -= 1
            if tokens_over:
                _correct(bucket, subject.windows, booked, now, tokens_over)

    async def hit(self, subject: Subject) -> None:
        now = self._now()
        if self._newcomers:
            self._drop_idle(now)
        bucket = self._bucket(subject, now)
        [bucket.tats] = self._judged((subject,), (bucket,), 0, now)

    def _admissible(
        self, subjects: Sequence[Subject], tokens: int, now: float
    ) -> tuple[list[_Bucket], list[list[float]]]:
        """The buckets, and their arrival times once this request is admitted.  Raises RateLimitExceeded."""
        if self._newcomers:
            self._drop_idle(now)
        buckets = [self._bucket(subject, now) for subject in subjects]
        booked = self._judged(subjects, buckets, tokens, now)
        for subject, bucket in zip(subjects, buckets, strict=True):
            if bucket.running >= subject.concurrent:
                self._end_lost_leases(now)
                if bucket.running >= subject.concurrent:
                    full = _Limit(subject, "concurrent", subject.concurrent)
                    raise _refusal(full, CONCURRENCY_RETRY_S, buckets, now)
        return buckets, booked

    def _bucket(self, subject: Subject, now: float) -> _Bucket:
        bucket = self._buckets.get(subject.id)
        if bucket is None:
            bucket = self._buckets[subject.id] = _Bucket(subject.windows)
            self._to_look_at.append(subject.id)
            self._newcomers += 1
        elif bucket.windows is not subject.windows and bucket.windows != subject.windows:
            bucket.follow(subject.windows, now)
        return bucket

    def _judged(
        self, subjects: Sequence[Subject], buckets: Sequence[_Bucket], tokens: int, now: float
    ) -> list[list[float]]:
        """The arrival times of every subject's windows if it is admitted.  Raises RateLimitExceeded."""
        booked: list[list[float]] = []
        longest_s, last = 0.0, (0, 0)
        for place, bucket in enumerate(buckets):
            later, wait_s, where = arrivals(bucket.tats, bucket.paces, now, tokens)
            if wait_s > longest_s:
                longest_s, last = wait_s, (place, where)
            booked.append(later)
        if longest_s:
            window = buckets[last[0]].windows[last[1]]
            raise _refusal(_Limit(subjects[last[0]], window.name, window.limit), longest_s, buckets, now)
        return booked

    def _drop_idle(self, now: float) -> None:
        """Look at more buckets than were added, in turn, so that idle ones cannot pile up."""
        count = min(LOOKED_AT_PER_NEWCOMER * self._newcomers, len(self._to_look_at))
        self._newcomers = 0
        for _ in range(count):
            subject_id = self._to_look_at.popleft()
            bucket = self._buckets[subject_id]
            if bucket.running or max(bucket.tats, default=0.0) > now:
                self._to_look_at.append(subject_id)
            else:
                del self._buckets[subject_id]

    def _end_lost_leases(self, now: float) -> None:
        """Leases end in the order in which they began."""
        lost = []
        for lease_id, lease in self._leases.items():
            if lease.ends_at > now:
                break
            lost.append(lease_id)
        for lease_id in lost:
            for subject in self._leases.pop(lease_id).subjects:
                self._buckets[subject.id].running -= 1


def _refusal(exceeded: _Limit, wait_s: float, buckets: Sequence[_Bucket], now: float) -> RateLimitExceeded:
    requests, tokens = _tightest(buckets, now)
    subject, name, limit = exceeded
    return RateLimitExceeded(name, limit, subject.kind, wait_s, requests=requests, tokens=tokens)


def _tightest(buckets: Sequence[_Bucket], now: float) -> tuple[Headroom, Headroom]:
    """The request window and the token window of which the least share is left."""
    of_requests = of_tokens = -1.0
    requests: tuple[float, Window] | None = None
    tokens: tuple[float, Window] | None = None
    for bucket in buckets:
        for tat, (counts_tokens, per_s), window in zip(bucket.tats, bucket.shares, bucket.windows, strict=True):
            used = (tat - now) * per_s if tat > now else 0.0
            if counts_tokens:
                if used > of_tokens:
                    of_tokens, tokens = used, (tat, window)
            elif used > of_requests:
                of_requests, requests = used, (tat, window)
    return (
        NO_WINDOW if requests is None else headroom(requests[0], now, requests[1]),
        NO_WINDOW if tokens is None else headroom(tokens[0], now, tokens[1]),
    )


def _correct(bucket: _Bucket, windows: tuple[Window, ...], booked: list[float], now: float, tokens_over: int) -> None:
    """The limits may have changed since the request was admitted, so windows are found by name."""
    same = bucket.windows is windows
    until = None if same else {window.name: tat for window, tat in zip(windows, booked, strict=True)}
    tats = bucket.tats.copy()
    for place, (interval_s, _, _, counts_tokens) in enumerate(bucket.paces):
        if counts_tokens:
            booked_until = booked[place] if until is None else until.get(bucket.windows[place].name, 0.0)
            tats[place] = corrected(tats[place], booked_until, now, interval_s, tokens_over)
    bucket.tats = tats
