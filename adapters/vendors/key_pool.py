"""Several keys at one vendor: a conversation keeps to its key, and a key that fails gives way to the next.

Each key has rate limits, a balance and a validity of its own, so that what is wrong with one says nothing about the
others.  Only where the last one fails does the vendor count as failing.

    keys = split_keys("gsk_one,gsk_two")
    vendor = pooled({key: OpenAICompatibleVendor(GROQ, base_url, key, http) for key in keys}, clock)
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Final, Protocol, TypeVar

from domain.inference.chat import ChatCall
from domain.inference.faults import OPERATORS_OWN, FaultKind, VendorFault
from domain.ports.clock import Clock
from domain.ports.vendors import ChatAnswer, ChatStream, ChatVendor, ListedModel, ModelLister

PARK_S: Final = 60.0
"""A key that the vendor refuses is left alone for so long, twice as long each time."""
PARK_S_MAX: Final = 300.0
"""No longer, so that a topped-up account is found again soon."""
REST_S: Final = 2.0
"""Of a key whose rate limit is reached, where the vendor does not say for how long."""
REST_S_MAX: Final = 3_600.0
ANOTHER_KEY: Final = OPERATORS_OWN | {FaultKind.RATE_LIMITED}
"""Faults that are a key's own."""

_T = TypeVar("_T")

log = logging.getLogger(__name__)


class PooledKey:
    """One key, and when it may be used again."""

    __slots__ = ("free_at", "number", "parkings", "text")

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        """Its place in the setting, from 1: what logs may say of it."""
        self.text = text
        self.free_at = 0.0
        self.parkings = 0
        """In a row."""

    def __repr__(self) -> str:
        return f"PooledKey({self.number})"


class KeyPool:
    def __init__(self, vendor: str, keys: Sequence[str], clock: Clock) -> None:
        """`keys` in the operator's order; an empty one stands for a vendor that needs none."""
        assert keys, "a vendor without a key is called with an empty one"
        self._vendor = vendor
        self._now = clock.monotonic
        self._keys = [PooledKey(number, text) for number, text in enumerate(keys, start=1)]
        self._turn = 0

    @property
    def parked(self) -> int:
        """How many keys the vendor refuses at the moment."""
        now = self._now()
        return sum(key.parkings > 0 and key.free_at > now for key in self._keys)

    async def call(self, conversation: str, attempt: Callable[[str], Awaitable[_T]]) -> _T:
        """What `attempt` makes of the first key that the vendor takes.

        `conversation` is the mark that all its requests share, "" for none.  Raises the VendorFault of the last key,
        and at once every fault that another key would not change.
        """
        waiting = self.in_turn(conversation)
        while True:
            key = waiting.pop(0)
            try:
                answer = await attempt(key.text)
            except VendorFault as fault:
                if fault.kind not in ANOTHER_KEY:
                    raise
                self.failed(key, fault)
                if not waiting:
                    raise self._soonest(fault) from None
            else:
                key.parkings = 0
                return answer

    def in_turn(self, conversation: str = "") -> list[PooledKey]:
        """The keys to try.  Never none: where all rest, the one that is free soonest, because only a call tells."""
        keys = self._keys
        if len(keys) == 1:
            return keys[:]
        now = self._now()
        free = [key for key in keys if key.free_at <= now]
        if not free:
            return [min(keys, key=lambda key: key.free_at)]
        if conversation:
            # Each conversation has its own order of all keys, so that one key's failure moves only its conversations.
            free.sort(key=lambda key: blake2b(f"{key.number}:{conversation}".encode(), digest_size=8).digest())
            return free
        self._turn += 1
        start = self._turn % len(free)
        return free[start:] + free[:start]

    def failed(self, key: PooledKey, fault: VendorFault) -> None:
        """Leave `key` alone for a while, for as long as its fault says."""
        now = self._now()
        if fault.kind is FaultKind.RATE_LIMITED:
            key.free_at = now + min(REST_S_MAX, fault.retry_after_s or REST_S)
            return
        if key.parkings and key.free_at > now:
            # Requests that were under way with it when it was parked.
            return
        pause_s = min(PARK_S_MAX, PARK_S * 2.0 ** min(key.parkings, 10))
        key.parkings += 1
        key.free_at = now + pause_s
        log.error(
            "key %d of %d at the vendor %s is refused (%s, status %s): parked for %d s; check it and its account",
            key.number,
            len(self._keys),
            self._vendor,
            fault.kind,
            fault.status,
            pause_s,
        )

    def _soonest(self, fault: VendorFault) -> VendorFault:
        """The last key's fault, with the time at which the first of all keys may be used again."""
        if fault.kind is FaultKind.RATE_LIMITED and len(self._keys) > 1:
            soonest_s = min(key.free_at for key in self._keys) - self._now()
            fault.retry_after_s = max(1, -int(-soonest_s // 1))
        return fault


class KeyedVendor(ChatVendor, ModelLister, Protocol):
    """One vendor called with one key."""


class PooledVendor:
    """The ports `ChatVendor` and `ModelLister` for a vendor with several keys."""

    def __init__(self, by_key: Mapping[str, KeyedVendor], clock: Clock) -> None:
        """`by_key`: the vendor once for each key, in the operator's order."""
        first = next(iter(by_key.values()))
        self.slug = first.slug
        self.abort_policy = first.abort_policy
        self.listing = first.listing
        self.pool = KeyPool(first.slug, tuple(by_key), clock)
        self._by_key = by_key

    async def complete(self, call: ChatCall) -> ChatAnswer:
        return await self.pool.call(call.conversation, lambda key: self._by_key[key].complete(call))

    async def stream(self, call: ChatCall) -> ChatStream:
        """A key may give way to another one until the vendor has accepted the request."""
        return await self.pool.call(call.conversation, lambda key: self._by_key[key].stream(call))

    async def list_models(self) -> list[ListedModel]:
        return await self.pool.call("", lambda key: self._by_key[key].list_models())


class PooledEndpoint:
    """The port `ChatVendor` for a further endpoint of a vendor, whose keys rest and are parked as one."""

    def __init__(self, pool: KeyPool, by_key: Mapping[str, ChatVendor]) -> None:
        self.slug = next(iter(by_key.values())).slug
        self._pool = pool
        self._by_key = by_key

    async def complete(self, call: ChatCall) -> ChatAnswer:
        return await self._pool.call(call.conversation, lambda key: self._by_key[key].complete(call))

    async def stream(self, call: ChatCall) -> ChatStream:
        return await self._pool.call(call.conversation, lambda key: self._by_key[key].stream(call))


def pooled_endpoint(vendor: KeyedVendor, by_key: Mapping[str, ChatVendor]) -> ChatVendor:
    """A further endpoint of `vendor`, which `pooled` made of the same keys."""
    if isinstance(vendor, PooledVendor):
        return PooledEndpoint(vendor.pool, by_key)
    return next(iter(by_key.values()))


def pooled(by_key: Mapping[str, KeyedVendor], clock: Clock) -> KeyedVendor:
    """The vendor itself where it has one key, else all of its keys as one vendor."""
    return PooledVendor(by_key, clock) if len(by_key) > 1 else next(iter(by_key.values()))


def split_keys(text: str) -> tuple[str, ...]:
    """The keys of a setting that may name several, separated by commas; a JSON object is one credential."""
    if text.lstrip().startswith("{"):
        return (text,)
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip())) or ("",)
