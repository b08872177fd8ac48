"""Background jobs run while their process holds their lease, in one process at a time."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Collection
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.memory.leases import MemoryLeases
from adapters.sql.leases import SqlLeases
from adapters.system.clock import SystemClock
from domain.errors import StorageUnavailable
from domain.ports.leases import Leases
from entrypoints.worker.jobs import Job, LeaseTimes, run_jobs
from tests.contracts.repositories import (  # noqa: F401 - the fixtures are asked for by their names
    fresh_database,
    on_postgres,
    tables_once,
)
from tests.e2e.processes import ROOT, clean_environ, eventually

pytestmark = pytest.mark.anyio

FAST = LeaseTimes(ttl_s=0.4, ask_s=0.05, end_s=0.15)


class Work:
    """Notes who is at it, and whether two ever are."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.at_it: list[str] = []
        self.collided = False

    def job(self, who: str, lasts_s: float = 0.02, name: str = "work", period_s: float = 0.01) -> Job:
        async def run() -> None:
            self.runs.append(who)
            self.at_it.append(who)
            self.collided |= len(self.at_it) > 1
            try:
                await asyncio.sleep(lasts_s)
            finally:
                self.at_it.remove(who)

        return Job(name, period_s, 60.0, run)


class UnreliableLeases(MemoryLeases):
    """Storage that can be made unreachable, or to hang."""

    fails = False
    hangs = False

    async def acquire(self, names: Collection[str], holder: str, ttl: timedelta) -> AbstractSet[str]:
        if self.hangs:
            await asyncio.sleep(0.6)
        if self.fails:
            raise StorageUnavailable("gone")
        return await super().acquire(names, holder, ttl)


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def memory() -> UnreliableLeases:
    return UnreliableLeases(SystemClock())


@pytest.fixture(params=["memory", "sqlite", on_postgres])
async def leases(request: pytest.FixtureRequest, tmp_path: Path, memory: UnreliableLeases) -> AsyncIterator[Leases]:
    if request.param == "memory":
        yield memory
        return
    async with fresh_database(request, tmp_path) as database:
        yield SqlLeases(database)


@asynccontextmanager
async def process(leases: Leases, who: str, *jobs: Job, times: LeaseTimes = FAST) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(run_jobs(jobs, leases, who, times))
    try:
        yield task
    finally:
        await stopped(task)


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def ran(work: Work, who: str, within_s: float = 5.0) -> None:
    def check() -> None:
        assert who in work.runs

    await eventually(check, within_s)


async def test_two_processes_never_do_one_job_at_once(leases: Leases, work: Work) -> None:
    async with process(leases, "one", work.job("one")) as one, process(leases, "other", work.job("other")):
        await asyncio.sleep(0.5)
        assert len(work.runs) > 5
        assert len(set(work.runs)) == 1
        # Whoever has it stops: the lease is given back, and the other one goes on before it would have ended.
        if work.runs[0] == "one":
            await stopped(one)
            await ran(work, "other")
    assert not work.collided


async def test_a_job_goes_on_elsewhere_when_its_process_dies(leases: Leases, work: Work) -> None:
    assert await leases.acquire(["work"], "killed", timedelta(seconds=0.4))
    began = time.monotonic()
    async with process(leases, "other", work.job("other")):
        await ran(work, "other")
    assert time.monotonic() - began > 0.3


async def test_a_job_that_outlasts_its_lease_keeps_it(leases: Leases, work: Work) -> None:
    async with process(leases, "one", work.job("one", lasts_s=1.0)):
        await ran(work, "one")
        async with process(leases, "other", work.job("other")):
            await asyncio.sleep(FAST.ttl_s * 2)
            assert set(work.runs) == {"one"}


async def test_a_stop_ends_the_job_before_its_lease_is_given_back(memory: MemoryLeases, work: Work) -> None:
    async with process(memory, "one", work.job("one", lasts_s=60)):
        await ran(work, "one")
    assert work.at_it == []
    assert await memory.acquire(["work"], "other", timedelta(seconds=1)) == {"work"}


@pytest.mark.parametrize("trouble", ["fails", "hangs"])
async def test_a_lease_that_cannot_be_renewed_ends_its_job_in_time(
    memory: UnreliableLeases, work: Work, trouble: str
) -> None:
    async with process(memory, "one", work.job("one", lasts_s=60)):
        await ran(work, "one")
        setattr(memory, trouble, True)
        await asyncio.sleep(FAST.ask_s)
        assert work.at_it == ["one"], "a moment without storage ends nothing"
        await asyncio.sleep(FAST.ttl_s - FAST.end_s)
        assert work.at_it == []
        memory.fails = memory.hangs = False
        work.runs.clear()
        if trouble == "fails":
            await ran(work, "one")


async def test_a_lease_that_another_took_ends_its_job(memory: UnreliableLeases, work: Work) -> None:
    async with process(memory, "one", work.job("one", lasts_s=60)):
        await ran(work, "one")
        await memory.release("one")
        await memory.acquire(["work"], "other", timedelta(seconds=60))
        await asyncio.sleep(FAST.ask_s * 3)
        assert work.at_it == []


async def test_a_job_that_fails_or_hangs_is_tried_again(memory: MemoryLeases) -> None:
    outcomes: list[str] = []

    async def fail() -> None:
        outcomes.append("failed")
        raise ValueError

    async def hang() -> None:
        outcomes.append("hung")
        await asyncio.sleep(60)

    async with process(memory, "one", Job("a", 0.01, 60.0, fail), Job("b", 0.01, 0.02, hang)):
        await asyncio.sleep(0.3)
    assert outcomes.count("failed") > 2
    assert outcomes.count("hung") > 2


async def test_a_job_may_let_others_go_first(memory):
    began, ran = asyncio.get_running_loop().time(), list[float]()

    async def run() -> None:
        ran.append(asyncio.get_running_loop().time() - began)

    async with process(memory, "one", Job("a", 0.1, 60.0, run, first_after_s=0.5)):
        await asyncio.sleep(0.9)
    assert 0.5 <= ran[0] < 0.8


RUN_WORKER = """
import sys
from entrypoints.cli.worker import worker
from entrypoints.vendors import VENDOR_NAMES
from entrypoints.settings import load_settings
sys.exit(worker(load_settings(VENDOR_NAMES)))
"""
MIGRATE = """
import asyncio
from adapters.sql.database import Database
from adapters.sql.migrate import upgrade
asyncio.run(upgrade(Database("sqlite+aiosqlite:///var/gatewayz.db")))
"""


def run_in(directory: Path, program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=directory,
        env=clean_environ() | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_worker_refuses_a_schema_that_is_behind(tmp_path: Path) -> None:
    worker = run_in(tmp_path, RUN_WORKER)
    said, _ = worker.communicate(timeout=30)
    assert worker.returncode == 1
    assert "gatewayz migrate" in said


def test_the_worker_works_and_stops_gently(tmp_path: Path) -> None:
    run_in(tmp_path, MIGRATE).communicate(timeout=30)
    worker = run_in(tmp_path, RUN_WORKER)
    assert worker.stdout is not None
    os.set_blocking(worker.stdout.fileno(), True)
    said = ""
    while "working" not in said:
        line = worker.stdout.readline()
        assert line, said
        said += line
    time.sleep(0.5)
    worker.send_signal(signal.SIGTERM)
    rest, _ = worker.communicate(timeout=30)
    assert worker.returncode == 0, said + rest
    assert "Traceback" not in said + rest
