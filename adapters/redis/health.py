"""The health of vendors as all processes have seen it.

Every decision is this process's own, by the rules of `domain.health`.  What the others learn is told to them: at once
when a breaker opens or closes or a vendor wants a rest, and every few seconds how fast it answers.  Nothing here is
waited for by a request, and without Redis each process knows what it has seen itself.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import Task
from contextlib import suppress
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from adapters.memory.health import OFFERS_MAX, MemoryHealthBoard
from adapters.redis.channels import Channels
from adapters.redis.client import PREFIX, RedisAway, RedisClient
from domain import health
from domain.catalog import Offer
from domain.health import Vitals
from domain.ids import VendorSlug
from domain.inference.faults import VendorFault
from domain.ports.clock import Clock

CHANNEL: Final = "health"
KEY: Final = f"{PREFIX}health"
SYNC_S: Final = 5.0
KEPT_S: Final = 600.0
"""Nobody learns from older measurements."""
SYNC_MAX: Final = 2_000
"""Offers told of at once."""

Key = tuple[VendorSlug, str]


class _News(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An offer's state changed, or with no model its vendor's.  Times are from now on, because clocks differ."""

    process: str
    vendor: str
    model: str | None = None
    openings: int = 0
    open_s: float = 0.0
    rests_s: float = 0.0


class _Report(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a process knew of an offer `at` a time of the world's clock."""

    process: str
    at: float
    openings: int = 0
    open_until: float = 0.0
    rests_until: float = 0.0
    latency_ms: float | None = None
    tokens_per_s: float | None = None


_NEWS = msgspec.msgpack.Decoder(_News)
_REPORT = msgspec.msgpack.Decoder(_Report)
_OFFER = msgspec.msgpack.Decoder(tuple[str, str])
_encode = msgspec.msgpack.encode


class RedisHealthBoard(MemoryHealthBoard):
    """The port `HealthBoard` for many processes."""

    def __init__(self, client: RedisClient, channels: Channels, clock: Clock) -> None:
        super().__init__(clock)
        self._client = client
        self._channels = channels
        self._world = clock.now
        self._id = os.urandom(6).hex()
        self._measured: set[Key] = set()
        """Since the others were last told."""
        self._heard_of: dict[Key, float] = {}
        """When the report of each offer that was read last was made."""
        self._syncing: Task[None] | None = None
        self._missed = asyncio.Event()
        channels.listen(CHANNEL, self._heard, self._missed.set)

    async def open(self) -> None:
        """After the client's."""
        self._syncing = asyncio.create_task(self._keep_in_step(), name="health")

    async def close(self) -> None:
        """Before the client's."""
        if self._syncing is not None:
            self._syncing.cancel()
            await asyncio.wait([self._syncing])
            self._syncing = None

    def succeeded(self, offer: Offer, first_token_ms: int, output_tokens: int, duration_ms: int) -> None:
        key = (offer.vendor, offer.vendor_model)
        was_open = (vitals := self._vitals.get(key)) is not None and vitals.openings > 0
        vendor_rested = offer.vendor in self._vendors_rest_until
        super().succeeded(offer, first_token_ms, output_tokens, duration_ms)
        self._measured.add(key)
        if was_open:
            self._tell(_News(process=self._id, vendor=offer.vendor, model=offer.vendor_model))
        if vendor_rested:
            self._tell(_News(process=self._id, vendor=offer.vendor))

    def failed(self, offer: Offer, fault: VendorFault) -> None:
        key = (offer.vendor, offer.vendor_model)
        before = self._vitals.get(key, Vitals())
        vendor_before = self._vendors_rest_until.get(offer.vendor, 0.0)
        super().failed(offer, fault)
        now, vitals = self._now(), self._vitals.get(key, before)
        self._measured.add(key)
        if (vitals.open_until, vitals.rests_until) != (before.open_until, before.rests_until):
            self._tell(
                _News(
                    process=self._id,
                    vendor=offer.vendor,
                    model=offer.vendor_model,
                    openings=vitals.openings,
                    open_s=max(0.0, vitals.open_until - now),
                    rests_s=max(0.0, vitals.rests_until - now),
                )
            )
        vendor_rests_until = self._vendors_rest_until.get(offer.vendor, 0.0)
        if vendor_rests_until != vendor_before:
            self._tell(_News(process=self._id, vendor=offer.vendor, rests_s=vendor_rests_until - now))

    async def sync(self) -> None:
        """Read what the others measured, and tell them what was measured here.  Raises RedisAway."""
        now, world = self._now(), self._world().timestamp()
        stored: dict[bytes, bytes] = await self._client.call("HGETALL", KEY)
        too_old = []
        for field, value in stored.items():
            try:
                vendor, model = _OFFER.decode(field)
                report = _REPORT.decode(value)
            except msgspec.MsgspecError:
                too_old.append(field)
                continue
            if report.at < world - KEPT_S:
                too_old.append(field)
            elif report.process != self._id:
                self._learn((VendorSlug(vendor), model), report, now, world)
        told: list[bytes] = []
        while self._measured and len(told) < 2 * SYNC_MAX:
            key = self._measured.pop()
            if vitals := self._vitals.get(key):
                told += [_encode(key), _encode(self._report(vitals, now, world))]
        if told:
            await self._client.call("HSET", KEY, *told)
            await self._client.call("EXPIRE", KEY, str(round(KEPT_S)))
        if too_old:
            await self._client.call("HDEL", KEY, *too_old)

    async def _keep_in_step(self) -> None:
        while True:
            self._missed.clear()
            with suppress(RedisAway):
                await self.sync()
            with suppress(TimeoutError):
                async with asyncio.timeout(SYNC_S):
                    await self._missed.wait()

    def _tell(self, news: _News) -> None:
        self._channels.tell(CHANNEL, _encode(news))

    def _heard(self, message: bytes) -> None:
        news = _NEWS.decode(message)
        if news.process == self._id:
            return
        now, vendor = self._now(), VendorSlug(news.vendor)
        if news.model is None:
            if news.rests_s > 0:
                self._vendors_rest_until[vendor] = now + min(news.rests_s, health.OPERATORS_REST_S)
            else:
                self._vendors_rest_until.pop(vendor, None)
            return
        vitals = self._vitals.get((vendor, news.model), Vitals())
        if news.openings or news.rests_s > 0:
            vitals = _resting(vitals, now, news.openings, news.open_s, news.rests_s)
        else:
            vitals = replace(vitals, failures=0, outcomes=(), openings=0, open_until=0.0, probed_until=0.0)
        self._keep((vendor, news.model), vitals)

    def _learn(self, key: Key, report: _Report, now: float, world: float) -> None:
        if report.at <= self._heard_of.get(key, 0.0):
            return
        if len(self._heard_of) >= OFFERS_MAX:
            self._heard_of.clear()
        self._heard_of[key] = report.at
        vitals = self._vitals.get(key)
        if vitals is None:
            # Where this process has seen nothing itself, a rest that it was not told of is taken over as well.
            vitals = _resting(Vitals(), now, report.openings, report.open_until - world, report.rests_until - world)
        measured = key in self._measured
        heard = replace(
            vitals,
            latency_ms=_between(vitals.latency_ms, report.latency_ms, measured=measured),
            tokens_per_s=_between(vitals.tokens_per_s, report.tokens_per_s, measured=measured),
        )
        self._keep(key, heard)

    def _keep(self, key: Key, vitals: Vitals) -> None:
        if key not in self._vitals and len(self._vitals) >= OFFERS_MAX:
            del self._vitals[next(iter(self._vitals))]
        self._vitals[key] = vitals

    def _report(self, vitals: Vitals, now: float, world: float) -> _Report:
        return _Report(
            process=self._id,
            at=world,
            openings=vitals.openings,
            open_until=world + vitals.open_until - now if vitals.open_until > now else 0.0,
            rests_until=world + vitals.rests_until - now if vitals.rests_until > now else 0.0,
            latency_ms=vitals.latency_ms,
            tokens_per_s=vitals.tokens_per_s,
        )


def _resting(vitals: Vitals, now: float, openings: int, open_s: float, rests_s: float) -> Vitals:
    """Resting as another process has it; neither ends a rest that this process decided on."""
    if openings > 0 and open_s > 0:
        until = now + min(open_s, health.OPEN_S_MAX)
        vitals = replace(
            vitals, openings=max(vitals.openings, openings), open_until=max(vitals.open_until, until), probed_until=0.0
        )
    if rests_s > 0:
        until = now + min(rests_s, health.REST_S_MAX)
        vitals = replace(vitals, rests_until=max(vitals.rests_until, until))
    return vitals


def _between(own: float | None, theirs: float | None, *, measured: bool) -> float | None:
    """Halfway, so that all come to one figure; theirs where nothing was measured here since."""
    if own is None or theirs is None:
        return own if theirs is None else theirs
    return (own + theirs) / 2 if measured else theirs
