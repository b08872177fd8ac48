"""Periodic jobs: each has a period, a deadline, and a lease by which one process at a time does it.

One that fails is logged and tried again, never fatal.  The process that got a lease keeps and renews it until it stops;
the others ask for it every few seconds, so that a job goes on elsewhere soon after its process has died.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import timedelta

import structlog
from msgspec import Struct

from domain.errors import StorageUnavailable
from domain.ports.leases import Leases
from entrypoints.container import Container

log = structlog.get_logger(__name__)


FOREVER_S = 10 * 365 * 86_400.0
"""For what goes on until its lease is lost."""


class Job(Struct, frozen=True):
    """Something to do every `period_s` seconds, within `deadline_s`."""

    name: str
    period_s: float
    deadline_s: float
    run: Callable[[], Awaitable[object]]
    first_after_s: float = 0.0
    """For what should not be the first to happen when this process starts, or when storage is back."""


class LeaseTimes(Struct, frozen=True, kw_only=True):
    """How long the leases are taken for, and when they are asked for again."""

    ttl_s: float = 10.0
    ask_s: float = 3.0
    """Between two attempts to renew them, or to get them from whoever has them."""
    end_s: float = 3.0
    """So much before leases end unrenewed their jobs are cancelled, so that these have ended by then."""


def background_jobs(container: Container) -> list[Job]:
    """What is done now and then, wherever it runs."""
    use_cases, retention = container.use_cases, container.adapters.retention()
    return [
        # Leases of jobs end in an outage long before those of holds: so long those who are alive come first after it,
        # with their settlements and heartbeats.
        Job("sweep holds", 10.0, 60.0, use_cases.sweep_holds(), first_after_s=5.0),
        Job("expire credit", 60.0, 60.0, use_cases.expire_credit()),
        Job("forget outcomes", 600.0, 60.0, use_cases.forget_outcomes()),
        Job("forget responses", 600.0, 60.0, use_cases.forget_responses()),
        Job("refresh catalogue", 60.0, FOREVER_S, container.adapters.catalog().run),
        Job("count usage", 300.0, 120.0, use_cases.count_usage()),
        Job("make partitions", 6 * 3600.0, 300.0, container.adapters.partitions()),
        Job("forget holds", 3600.0, 600.0, retention.forget_holds),
        Job("forget generations", 6 * 3600.0, 1800.0, retention.forget_generations),
    ]


async def run_jobs(jobs: Sequence[Job], leases: Leases, holder: str, times: LeaseTimes | None = None) -> None:
    """Until cancelled; `holder` is this process's name among all of them."""
    leased = _LeasedJobs(jobs, leases, holder, times or LeaseTimes())
    try:
        await leased.run()
    finally:
        await leased.stop()


class _LeasedJobs:
    def __init__(self, jobs: Sequence[Job], leases: Leases, holder: str, times: LeaseTimes) -> None:
        self._jobs = {job.name: job for job in jobs}
        self._leases = leases
        self._holder = holder
        self._times = times
        self._running: dict[str, asyncio.Task[None]] = {}
        self._asking: asyncio.Task[AbstractSet[str] | None] | None = None
        self._end = 0.0
        """When our leases end, by the loop's clock: it counts from before we asked, and storage's from after."""

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            held = await self._ask()
            await self._cancel(self._running.keys() - held)
            for name in held - self._running.keys():
                self._running[name] = asyncio.create_task(_repeat(self._jobs[name]), name=f"job:{name}")
            left_s = self._end - loop.time() if self._running else self._times.ask_s
            await asyncio.sleep(min(left_s, self._times.ask_s))

    async def stop(self) -> None:
        await self._cancel(set(self._running))
        # What is not given back ends by itself.
        with suppress(StorageUnavailable, TimeoutError):
            async with asyncio.timeout(self._times.ttl_s):
                if self._asking is not None:
                    # Else it might take leases after we have given them back.
                    await asyncio.wait([self._asking])
                await self._leases.release(self._holder)

    async def _ask(self) -> AbstractSet[str]:
        """The jobs whose leases are ours now; where storage does not say, those that must still be."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        self._asking = asyncio.create_task(self._acquired())
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._end if self._running else None):
                held = await asyncio.shield(self._asking)
            if held is not None:
                self._end = asked + self._times.ttl_s - self._times.end_s
                return held
        return set(self._running) if loop.time() < self._end else frozenset()

    async def _acquired(self) -> AbstractSet[str] | None:
        try:
            return await self._leases.acquire(self._jobs.keys(), self._holder, timedelta(seconds=self._times.ttl_s))
        except StorageUnavailable:
            return None

    async def _cancel(self, names: AbstractSet[str]) -> None:
        tasks = [self._running.pop(name) for name in names]
        for task in tasks:
            task.cancel()
        if tasks:
            log.info("jobs given up", jobs=sorted(names))
            await asyncio.wait(tasks)


async def _repeat(job: Job) -> None:
    await asyncio.sleep(job.first_after_s)
    while True:
        try:
            async with asyncio.timeout(job.deadline_s):
                await job.run()
        except Exception as error:
            log.warning("job failed", job=job.name, error=repr(error))
        await asyncio.sleep(job.period_s)
