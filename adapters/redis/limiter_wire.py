"""How the limiter's operations and verdicts are written for its script, and read back."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct as Layout
from struct import pack
from typing import Final

from adapters.redis.client import PREFIX, Part
from adapters.redis.limiter_script import ADMITTED, FULL, NOWHERE
from domain.limits import NO_WINDOW, Headroom, RateLimitExceeded, Subject, Window, pace

VERDICT: Final = Layout("<BBBdBBddBBdd")
DOUBLE: Final = Layout("<d")
_LENGTH: Final = Layout("<H")
_WINDOW: Final = Layout("<dddBB")
_NOTHING: Final = b"\0\0"


def _heads(count: int) -> Layout:
    return Layout(f"<BBd{count}HB")


SUBJECTS_MAX: Final = 16
_HEADS: Final = tuple(_heads(count) for count in range(SUBJECTS_MAX + 1))


class Slot:
    """A subject as the script knows it: its keys, and its limits in bytes."""

    __slots__ = ("booked_size", "keys", "limits", "subject", "tag")

    def __init__(self, subject: Subject, tag: str) -> None:
        self.subject = subject
        self.tag = tag
        name = f"{PREFIX}limit:{{{tag}}}:{subject.id}"
        self.keys = (name.encode(), f"{name}:places".encode())
        self.limits = DOUBLE.pack(subject.concurrent) + _text(subject.windows)
        self.booked_size = DOUBLE.size * sum(window.counts_tokens for window in subject.windows)


def _text(windows: Sequence[Window]) -> bytes:
    parts = [bytes((len(windows),))]
    for window in windows:
        interval_s, burst, burst_s, counts_tokens = pace(window)
        name = window.name.encode()
        parts += [_WINDOW.pack(interval_s, burst, burst_s, counts_tokens, len(name)), name]
    return b"".join(parts)


class Operation:
    """One thing to do for one request; what it says is in the script."""

    __slots__ = ("blob", "kind", "lease", "number", "slots")

    def __init__(
        self, kind: int, slots: Sequence[Slot], number: float = 0.0, lease: bytes = b"", blob: bytes = b""
    ) -> None:
        self.kind = kind
        self.slots = slots
        self.number = number
        self.lease = lease
        self.blob = blob


def written(operations: Sequence[Operation], lease_s: float) -> tuple[list[Part], list[Part]]:
    """The keys and the arguments of one call; a subject of many operations is sent once, and so are equal limits."""
    numbers: dict[Slot, int] = {}
    parts: list[bytes] = []
    for operation in operations:
        chosen = []
        for slot in operation.slots:
            number = numbers.get(slot)
            if number is None:
                number = numbers[slot] = len(numbers) + 1
            chosen.append(number)
        lease, blob, count = operation.lease, operation.blob, len(chosen)
        parts.append(_HEADS[count].pack(operation.kind, count, operation.number, *chosen, len(lease)))
        parts.append(lease)
        if blob:
            parts.append(_LENGTH.pack(len(blob)))
            parts.append(blob)
        else:
            parts.append(_NOTHING)
    keys: list[Part] = [key for slot in numbers for key in slot.keys]
    limits: dict[bytes, int] = {}
    chosen = [limits.setdefault(slot.limits, len(limits) + 1) for slot in numbers]
    return keys, [b"".join(parts), lease_s, pack(f"<{len(chosen)}H", *chosen), *limits]


class Verdict:
    """What the script said of one request."""

    __slots__ = ("booked", "refusal", "requests", "tokens")

    refusal: RateLimitExceeded | None

    def __init__(self, slots: Sequence[Slot], reply: bytes, at: int) -> None:
        (
            status, who, where, wait_s,
            requests_who, requests_where, requests_left, requests_reset_s,
            tokens_who, tokens_where, tokens_left, tokens_reset_s,
        ) = VERDICT.unpack_from(reply, at)  # fmt: skip
        self.requests = _headroom(slots, requests_who, requests_where, requests_left, requests_reset_s)
        self.tokens = _headroom(slots, tokens_who, tokens_where, tokens_left, tokens_reset_s)
        if status == ADMITTED:
            self.refusal = None
            return
        subject = slots[who].subject
        if status == FULL:
            name, limit = "concurrent", subject.concurrent
        else:
            window = subject.windows[where]
            name, limit = window.name, window.limit
        self.refusal = RateLimitExceeded(name, limit, subject.kind, wait_s, requests=self.requests, tokens=self.tokens)


def _headroom(slots: Sequence[Slot], who: int, where: int, left: float, reset_s: float) -> Headroom:
    if who == NOWHERE:
        return NO_WINDOW
    return Headroom(
        slots[who].subject.windows[where].limit, min(slots[who].subject.windows[where].burst, int(left)), reset_s
    )
