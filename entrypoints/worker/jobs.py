"""Periodic jobs: each has a period and a deadline, and one that fails is logged and tried again, never fatal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from msgspec import Struct

log = structlog.get_logger(__name__)


class Job(Struct, frozen=True):
    """Something to do every `period_s` seconds, within `deadline_s`."""

    name: str
    period_s: float
    deadline_s: float
    run: Callable[[], Awaitable[object]]


async def run_jobs(jobs: Sequence[Job]) -> None:
    """Until cancelled."""
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(_repeat(job), name=f"job:{job.name}")


async def _repeat(job: Job) -> None:
    while True:
        try:
            async with asyncio.timeout(job.deadline_s):
                await job.run()
        except Exception as error:
            log.warning("job failed", job=job.name, error=repr(error))
        await asyncio.sleep(job.period_s)
