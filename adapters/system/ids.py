"""Ids that sort by the time they were made: UUIDv7 (RFC 9562) as 32 hexadecimal digits.

Each is later than the one before it, also when the clock steps back.  The 62 random bits come from the operating
system, a block at a time because each request makes an id and asking costs more than making it; a forked process asks
anew, so that two processes never make the same one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

TICKS_PER_MS = 4096
NANOS_PER_MS = 1_000_000
VERSION = 7
VARIANT = 0b10
BLOCK_BYTES = 4096


class BufferedEntropy:
    """The operating system's random bytes, asked for in blocks."""

    def __init__(self) -> None:
        self._block = b""
        self._at = 0
        os.register_at_fork(after_in_child=self._forget)

    def __call__(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._block):
            self._block, self._at, end = os.urandom(max(count, BLOCK_BYTES)), 0, count
        found = self._block[self._at : end]
        self._at = end
        return found

    def _forget(self) -> None:
        self._block, self._at = b"", 0


class TimeOrderedIds:
    """Counts time in ticks of 1/4096 ms: the id's 48 bits of milliseconds and the 12 bits after them.

    For one thread, as an event loop is.
    """

    def __init__(
        self, nanos_since_1970: Callable[[], int] = time.time_ns, entropy: Callable[[int], bytes] | None = None
    ) -> None:
        self._nanos_since_1970 = nanos_since_1970
        self._entropy = entropy or BufferedEntropy()
        self._tick = -1

    def fresh(self) -> str:
        self._tick = max(self._nanos_since_1970() * TICKS_PER_MS // NANOS_PER_MS, self._tick + 1)
        ms, part = divmod(self._tick, TICKS_PER_MS)
        random = int.from_bytes(self._entropy(8)) >> 2
        return f"{ms << 80 | VERSION << 76 | part << 64 | VARIANT << 62 | random:032x}"
