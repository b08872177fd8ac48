"""Periodic jobs: each has a period, a deadline, and a lease by which one process at a time does it.

One that fails is logged and tried again, never fatal.  The process that got a lease keeps and renews it until it stops;
the others ask for it now and then, so that a job goes on elsewhere soon after its process has died.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta

import structlog
from msgspec import Struct

from domain.errors import StorageUnavailable
from domain.ports.leases import Leases
from entrypoints.container import Container

log = structlog.get_logger(__name__)


class Job(Struct, frozen=True):
    """Something to do every `period_s` seconds, within `deadline_s`."""

    name: str
    period_s: float
    deadline_s: float
    run: Callable[[], Awaitable[object]]


class LeaseTimes(Struct, frozen=True, kw_only=True):
    """How long a lease is taken for, and when it is asked for again."""

    ttl_s: float = 30.0
    ask_s: float = 8.0
    """Between two attempts to renew it, or to get it from whoever has it."""
    end_s: float = 6.0
    """Before a lease ends unrenewed its job is cancelled so early: longer than storage lets a statement run."""


def background_jobs(container: Container) -> list[Job]:
    """What is done now and then, wherever it runs."""
    use_cases = container.use_cases
    return [
        Job("sweep holds", 10.0, 60.0, use_cases.sweep_holds()),
        Job("expire credit", 60.0, 60.0, use_cases.expire_credit()),
        Job("forget outcomes", 600.0, 60.0, use_cases.forget_outcomes()),
    ]


async def run_jobs(jobs: Sequence[Job], leases: Leases, holder: str, times: LeaseTimes | None = None) -> None:
    """Until cancelled; `holder` is this process's name among all of them."""
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            leased = _LeasedJob(job, leases, holder, times or LeaseTimes())
            group.create_task(leased.run(), name=f"job:{job.name}")


class _LeasedJob:
    def __init__(self, job: Job, leases: Leases, holder: str, times: LeaseTimes) -> None:
        self._job = job
        self._leases = leases
        self._holder = holder
        self._times = times
        self._end = 0.0
        """When the lease ends for us, by the loop's clock: it counts from before we asked, and storage's from after."""

    async def run(self) -> None:
        while True:
            if await self._ask():
                await self._work_while_held()
            await asyncio.sleep(self._times.ask_s)

    async def _work_while_held(self) -> None:
        work = asyncio.create_task(_repeat(self._job), name=f"work:{self._job.name}")
        try:
            await self._renew_until_lost()
            log.warning("job's lease lost", job=self._job.name)
        finally:
            work.cancel()
            await asyncio.wait([work])
            await self._release()

    async def _renew_until_lost(self) -> None:
        """Returns where another has the lease, or storage did not renew it in time."""
        loop = asyncio.get_running_loop()
        while loop.time() < self._end:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._end):
                    await asyncio.sleep(self._times.ask_s)
                    if await self._ask() is False:
                        return

    async def _ask(self) -> bool | None:
        """Whether the lease is ours; None where storage did not say."""
        asked = asyncio.get_running_loop().time()
        try:
            held = await self._leases.acquire(self._job.name, self._holder, timedelta(seconds=self._times.ttl_s))
        except StorageUnavailable:
            return None
        if held:
            self._end = asked + self._times.ttl_s - self._times.end_s
        return held

    async def _release(self) -> None:
        """What is not given back ends by itself."""
        with suppress(StorageUnavailable, TimeoutError):
            async with asyncio.timeout(self._times.end_s):
                await self._leases.release(self._job.name, self._holder)


async def _repeat(job: Job) -> None:
    while True:
        try:
            async with asyncio.timeout(job.deadline_s):
                await job.run()
        except Exception as error:
            log.warning("job failed", job=job.name, error=repr(error))
        await asyncio.sleep(job.period_s)
