"""Rate limits that all processes share through Redis.

Requests that arrive in one turn of the event loop, or while a call is under way, share one script call.  One call is
under way at a time, so that operations take effect in the order in which they were asked for.

Nobody waits for Redis longer than PATIENCE_S: then this process decides by its own share of the limits, and so does
every newcomer until Redis is heard again.  What Redis admits too late is given back.

The keys of one request share a hash tag, so that a cluster keeps them in one place: the id of the *last* subject, which
is the widest, an account behind its keys.  A subject's counts live under that tag, so it must always come with the same
last subject, or alone if that is how it always comes.

A place is leased for LEASE_S and renewed while its request runs: those of a process that was killed are free again
within that time.
"""

from __future__ import annotations

import asyncio
import logging
import os
from asyncio import CancelledError, Future, Task, TimerHandle
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from msgspec import Struct

from adapters.redis.client import PREFIX, RedisAway, RedisClient, RedisRefused, Script
from adapters.redis.limiter_script import ACQUIRE, BOOK, HIT, LIMITER, PEEK, RELEASE, RENEW
from adapters.redis.limiter_wire import DOUBLE, SUBJECTS_MAX, VERDICT, Operation, Slot, Verdict, written
from adapters.redis.local_share import LocalShare
from domain.limits import Admitted, RateLimitExceeded, Subject
from domain.ports.clock import Clock

log = logging.getLogger(__name__)

BATCH_MAX: Final = 128
PATIENCE_S: Final = 0.025
LINGER_S: Final = 0.005
"""How long what nobody waits for may wait for the next request, to share its call."""
LEASE_S: Final = 60.0
LEASE_S_MAX: Final = 3_600.0
"""A place that nobody gave back for so long was lost, not used."""
BEAT_S: Final = 2.0
BEATS_MISSED: Final = 4
"""After so many a process no longer counts as alive."""
SLOTS_MAX: Final = 50_000
KEPT_MAX: Final = 20_000
"""Operations kept while Redis is away.  Leases end by themselves, so that older ones may be forgotten."""

BEAT: Final = Script("""
local time = redis.call('TIME')
local now = tonumber(time[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
redis.call('EXPIRE', KEYS[1], 60)
return redis.call('ZCARD', KEYS[1])
""")
PROCESSES: Final = f"{PREFIX}limit:processes"

Answer = Admitted | RateLimitExceeded | None
"""None: Redis did not say in time."""


class _Asked(Operation):
    """An operation that somebody waits for."""

    __slots__ = ("answer",)

    def __init__(self, kind: int, slots: Sequence[Slot], number: float, lease: bytes, answer: Future[Answer]) -> None:
        super().__init__(kind, slots, number, lease)
        self.answer = answer


class _Held:
    """A place of a running request."""

    __slots__ = ("booked", "lost_at", "renew_at", "slots")

    def __init__(self, slots: Sequence[Slot], booked: bytes, now: float, lease_s: float) -> None:
        self.slots = slots
        self.booked = booked
        """The arrival times of the token windows right after it was admitted."""
        self.renew_at = now + lease_s / 3
        self.lost_at = now + LEASE_S_MAX


class LimiterCounters(Struct):
    """For the metrics."""

    calls: int = 0
    operations: int = 0
    late: int = 0
    """Calls that took longer than anybody waits."""
    forgotten: int = 0
    """Operations that Redis never heard of: it was away for too long, or refused them."""


class RedisLimiter:
    """The port `Limiter` for many processes.  Belongs to the event loop that opened it."""

    def __init__(
        self,
        client: RedisClient,
        clock: Clock,
        *,
        processes_least: int = 1,
        lease_s: float = LEASE_S,
        patience_s: float = PATIENCE_S,
        script: Script = LIMITER,
    ) -> None:
        """`processes_least`: how many processes there are for sure, for as long as Redis has not told."""
        self._client = client
        self._now = clock.monotonic
        self._share = LocalShare(clock)
        self._share.processes = self._processes_least = processes_least
        self._lease_s = lease_s
        self._patience_s = patience_s
        self._script = script
        self._id = os.urandom(6).hex()
        self._leases = 0
        self._held: dict[str, _Held] = {}
        self._slots: dict[str, Slot] = {}
        self._queue: deque[Operation] = deque()
        self._under_way: list[Operation] = []
        self._late = False
        """The call under way has used up everybody's patience."""
        self._wake = asyncio.Event()
        self._turn = asyncio.Event()
        """Set, and replaced, whenever a call has come back or everything is done."""
        self._linger: TimerHandle | None = None
        self._tasks: list[Task[None]] = []
        self.counters = LimiterCounters()
        client.when_back(self._back)

    @property
    def processes(self) -> int:
        """Among how many the limits are divided while Redis is away."""
        return self._share.processes

    @property
    def decided_locally(self) -> int:
        return self._share.decisions

    async def open(self) -> None:
        """After the client's."""
        self._loop = asyncio.get_running_loop()
        with suppress(RedisAway):
            await self._beat()
        self._tasks = [
            asyncio.create_task(self._work(), name="limiter"),
            asyncio.create_task(self._keep_alive(), name="limiter heartbeat"),
        ]

    async def close(self) -> None:
        """Before the client's.  Gives back what was released; requests still running keep their leases' rest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self.flush()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._decide_locally()
        with suppress(RedisAway):
            await self._client.call("ZREM", PROCESSES, self._id)

    async def flush(self) -> None:
        """Wait until Redis knows everything, or is away."""
        self._wake.set()
        while (self._queue or self._under_way) and self._client.answering and self._tasks:
            await self._turn.wait()

    async def acquire(self, subjects: Sequence[Subject], tokens: int) -> Admitted:
        if self._redis_decides():
            self._leases += 1
            lease = f"{self._id}:{self._leases}"
            asked = self._ask(ACQUIRE, subjects, tokens, lease.encode())
            try:
                answer = await asked.answer
            except CancelledError:
                # The answer may have come in the same turn of the event loop as the cancellation.
                if not asked.answer.cancelled() and isinstance(late := asked.answer.result(), Admitted):
                    self.release(subjects, late, -tokens)
                raise
            if isinstance(answer, Admitted):
                return answer
            if answer is not None:
                raise answer
        return await self._share.acquire(subjects, tokens, subjects[-1].id)

    async def peek(self, subjects: Sequence[Subject], tokens: int) -> Admitted:
        if self._redis_decides():
            answer = await self._ask(PEEK, subjects, tokens, b"").answer
            if isinstance(answer, RateLimitExceeded):
                raise answer
            if answer is not None:
                return answer
        return await self._share.peek(subjects, tokens)

    def release(self, subjects: Sequence[Subject], admitted: Admitted, tokens_over: int) -> None:
        held = self._held.pop(admitted.lease, None)
        if held is None:
            # Admitted by our own share, or given back before.
            self._share.release(admitted, subjects, tokens_over)
            return
        self._tell(Operation(RELEASE, held.slots, tokens_over, admitted.lease.encode(), held.booked))

    async def hit(self, subject: Subject) -> None:
        if self._redis_decides():
            answer = await self._ask(HIT, (subject,), 0, b"").answer
            if isinstance(answer, RateLimitExceeded):
                raise answer
            if answer is not None:
                return
        await self._share.hit(subject, subject.id)

    def _redis_decides(self) -> bool:
        return self._client.answering and not self._late and bool(self._tasks)

    def _ask(self, kind: int, subjects: Sequence[Subject], tokens: int, lease: bytes) -> _Asked:
        asked = _Asked(kind, self._slots_of(subjects), tokens, lease, self._loop.create_future())
        self._queue.append(asked)
        self._wake.set()
        return asked

    def _tell(self, operation: Operation) -> None:
        """Have it done some time soon; it may be done twice."""
        if len(self._queue) >= KEPT_MAX and not self._client.answering:
            self._queue.popleft()
            self.counters.forgotten += 1
        self._queue.append(operation)
        if self._linger is None and not self._under_way and self._client.answering and self._tasks:
            self._linger = self._loop.call_later(LINGER_S, self._lingered)

    def _lingered(self) -> None:
        self._linger = None
        self._wake.set()

    def _slots_of(self, subjects: Sequence[Subject]) -> Sequence[Slot]:
        assert 0 < len(subjects) <= SUBJECTS_MAX, "a request is counted against a few subjects"
        tag = subjects[-1].id
        slots = []
        for subject in subjects:
            slot = self._slots.get(subject.id)
            if slot is None or slot.tag != tag or (slot.subject is not subject and slot.subject != subject):
                if slot is None and len(self._slots) >= SLOTS_MAX:
                    del self._slots[next(iter(self._slots))]
                slot = self._slots[subject.id] = Slot(subject, tag)
            slots.append(slot)
        return slots

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue and self._client.answering:
                await self._call(self._next_batch())
            if self._queue:
                self._decide_locally()
            self._turn_over()

    def _next_batch(self) -> list[Operation]:
        """As many as fit, leaving out those that nobody waits for any more; in a cluster those of one tag."""
        batch: list[Operation] = []
        others: list[Operation] = []
        tag = self._queue[0].slots[0].tag if self._client.is_cluster else None
        while self._queue and len(batch) < BATCH_MAX:
            operation = self._queue.popleft()
            if isinstance(operation, _Asked) and operation.answer.done():
                continue
            if tag is None or operation.slots[0].tag == tag:
                batch.append(operation)
            else:
                others.append(operation)
        self._queue.extendleft(reversed(others))
        return batch

    async def _call(self, batch: list[Operation]) -> None:
        if not batch:
            return
        self._under_way = batch
        patience = self._loop.call_later(self._patience_s, self._lose_patience)
        try:
            keys, arguments = written(batch, self._lease_s)
            reply: bytes = await self._client.run(self._script, keys, arguments)
            self.counters.calls += 1
            self.counters.operations += len(batch)
            self._deliver(batch, reply)
        except RedisRefused:
            # It would be refused again.  Leases end by themselves.
            self._give_up(batch)
        except RedisAway:
            self._recover(batch)
        except Exception:  # A background loop: callers would wait for ever if it ended.
            log.exception("rate limits could not be decided by Redis")
            self._give_up(batch)
        finally:
            patience.cancel()
            self._under_way = []
            self._turn_over()
        if self._late:
            self._late = False
            if self._client.answering:
                self._settle_debts()

    def _deliver(self, batch: list[Operation], reply: bytes) -> None:
        at, now = 0, self._now()
        for operation in batch:
            if not isinstance(operation, _Asked):
                continue
            verdict = Verdict(operation.slots, reply, at)
            at += VERDICT.size
            if verdict.refusal is not None:
                if not operation.answer.done():
                    operation.answer.set_result(verdict.refusal)
                continue
            lease, booked = operation.lease.decode(), b""
            if lease:
                end = at + sum([slot.booked_size for slot in operation.slots])
                booked, at = reply[at:end], end
            if operation.answer.done():
                # Whoever asked has left, or was admitted by our own share.
                if lease:
                    self._tell(Operation(RELEASE, operation.slots, -operation.number, operation.lease, booked))
                continue
            if lease:
                self._held[lease] = _Held(operation.slots, booked, now, self._lease_s)
            operation.answer.set_result(Admitted(lease=lease, requests=verdict.requests, tokens=verdict.tokens))

    def _recover(self, batch: list[Operation]) -> None:
        """Nobody knows whether the call happened: what was asked is decided here and undone there."""
        undone: list[Operation] = []
        for operation in batch:
            if not isinstance(operation, _Asked):
                undone.append(operation)
                continue
            _let_decide_locally(operation)
            if operation.kind == ACQUIRE:
                undone.append(Operation(RELEASE, operation.slots, 0, operation.lease))
        self._queue.extendleft(reversed(undone))

    def _give_up(self, batch: list[Operation]) -> None:
        for operation in batch:
            if isinstance(operation, _Asked):
                _let_decide_locally(operation)
            else:
                self.counters.forgotten += 1

    def _lose_patience(self) -> None:
        # Once more around: after a pause of this process the answer may be here, and only waits to be read.
        self._loop.call_soon(self._loop.call_soon, self._stop_waiting, self._under_way)

    def _stop_waiting(self, batch: list[Operation]) -> None:
        if self._under_way is batch and batch:
            self._late = True
            self.counters.late += 1
            self._decide_locally()

    def _decide_locally(self) -> None:
        for operation in (*self._under_way, *self._queue):
            if isinstance(operation, _Asked):
                _let_decide_locally(operation)
        self._queue = deque(operation for operation in self._queue if not isinstance(operation, _Asked))

    def _back(self) -> None:
        """Redis answers again, perhaps with an empty memory."""
        self._late = False
        if not self._tasks:
            return
        self._renew(self._now(), all_of_them=True)
        self._settle_debts()
        self._wake.set()

    def _settle_debts(self) -> None:
        for owed in self._share.settle():
            blob = b"".join(map(DOUBLE.pack, owed.units))
            self._queue.appendleft(Operation(BOOK, (Slot(owed.subject, owed.tag),), blob=blob))
        self._wake.set()

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                self._renew(self._now(), all_of_them=False)
                await self._beat()
            except RedisAway:
                continue

    async def _beat(self) -> None:
        alive = await self._client.run(BEAT, (PROCESSES,), (self._id, BEAT_S * BEATS_MISSED))
        self._share.processes = max(self._processes_least, int(alive))

    def _renew(self, now: float, *, all_of_them: bool) -> None:
        if not self._client.answering:
            return
        lost = []
        for lease, held in self._held.items():
            if now >= held.lost_at:
                lost.append(lease)
            elif all_of_them or now >= held.renew_at:
                held.renew_at = now + self._lease_s / 3
                self._tell(Operation(RENEW, held.slots, lease=lease.encode()))
        for lease in lost:
            del self._held[lease]

    def _turn_over(self) -> None:
        turn, self._turn = self._turn, asyncio.Event()
        turn.set()


def _let_decide_locally(asked: _Asked) -> None:
    if not asked.answer.done():
        asked.answer.set_result(None)
