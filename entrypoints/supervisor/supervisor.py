"""Keeps a number of workers running: restarts those that crash, replaces all without a failed request, stops gently.

Workers take connections from one socket, which stays open while they come and go.  A signal to terminate is passed on;
SIGHUP replaces the workers one by one, each only when its successor is ready, so that new settings and a new release
come into effect between two requests.  Settings that are refused keep a worker from starting; those that serve go on.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from entrypoints.supervisor.metrics import Family, Numbers, counted, merged, to_bytes
from entrypoints.supervisor.workers import EXIT_MISCONFIGURED, Worker

READY_S: Final = 60.0
"""A worker that takes longer to be ready is given up."""
CRASHES_MAX: Final = 5
CRASHES_WITHIN_S: Final = 60.0
RESTART_AFTER_S: Final = (0.1, 0.5, 1.0, 2.0)
"""After the first crash, the second, ..."""
SETTINGS_READ_AGAIN_S: Final = 5.0
"""When settings kept a worker from starting while another one serves, somebody may be mending them."""
COUNT_EVERY_S: Final = 5.0
"""So much of what a killed worker counted is lost at most."""
EXIT_CRASHED: Final = 70

log = structlog.get_logger(__name__)


@dataclass(eq=False)
class _Place:
    """Where one worker belongs; which one that is changes."""

    worker: Worker
    crashed_at: deque[float] = field(default_factory=lambda: deque(maxlen=CRASHES_MAX))


class _Stopped(Exception):
    """Ends everything that runs beside the workers."""


class Supervisor:
    """`environ` is added to the workers' environment; `announce` is called when the first of them is ready."""

    def __init__(
        self,
        listener: socket.socket,
        workers: int,
        environ: Mapping[str, str],
        announce: Callable[[], None],
    ) -> None:
        self._listener = listener
        self._wanted = workers
        self._environ = environ
        self._announce = announce
        self._workers: set[Worker] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: Numbers = {}
        """What workers counted that are no more."""
        self._crashes = 0
        self._counting = asyncio.Lock()
        self._roll = asyncio.Event()
        self._stopping = asyncio.Event()
        self._status = 0
        self._announced = False

    async def run(self) -> int:
        """Until told to stop, or until a worker keeps crashing; returns the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, 0)
        loop.add_signal_handler(signal.SIGHUP, self._roll.set)
        try:
            async with asyncio.TaskGroup() as group:
                places = [_Place(await self._start()) for _ in range(self._wanted)]
                for place in places:
                    group.create_task(self._keep(place))
                group.create_task(self._roll_when_told(places))
                group.create_task(self._count_regularly())
                group.create_task(self._until_stopped())
        except* _Stopped:
            pass
        finally:
            self._listener.close()
            while self._workers:
                for worker in self._workers:
                    worker.stop()
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        return self._status

    async def _until_stopped(self) -> None:
        await self._stopping.wait()
        raise _Stopped

    def _stop(self, status: int) -> None:
        if not self._stopping.is_set():
            log.info("stopping", workers=len(self._workers))
            self._status = status
            self._stopping.set()
            for worker in self._workers:
                worker.stop()

    async def _start(self) -> Worker:
        worker = await Worker.start(self._listener, self._environ)
        self._workers.add(worker)
        self._beside(self._attend(worker))
        self._beside(self._announce_ready(worker))
        log.info("worker started", worker=worker.pid)
        return worker

    async def _attend(self, worker: Worker) -> None:
        await worker.attend(self._asked, READY_S)
        self._workers.discard(worker)
        self._ended = merged((self._ended, counted(worker.numbers)))
        if self._stopping.is_set() and worker.status not in {0, -signal.SIGTERM}:
            self._status = self._status or 1
        log.info("worker ended", worker=worker.pid, status=worker.status)

    async def _keep(self, place: _Place) -> None:
        """Start another worker when the one in this place ends by itself."""
        while True:
            worker = place.worker
            await worker.ended.wait()
            if place.worker is not worker:
                continue
            wait_s = self._misconfigured(worker) if worker.status == EXIT_MISCONFIGURED else self._crashed(place)
            if wait_s is None:
                return
            await asyncio.sleep(wait_s)
            # It may have been replaced meanwhile, and again while its successor was started.
            if place.worker is not worker:
                continue
            successor = await self._start()
            if place.worker is worker:
                place.worker = successor
            else:
                successor.retire()

    def _crashed(self, place: _Place) -> float | None:
        """How long to wait before another start; None where it has crashed too often, which stops all."""
        now = asyncio.get_running_loop().time()
        self._crashes += 1
        place.crashed_at.append(now)
        recent = [at for at in place.crashed_at if now - at < CRASHES_WITHIN_S]
        log.error("worker crashed", worker=place.worker.pid, status=place.worker.status, crashes=len(recent))
        if len(recent) == CRASHES_MAX:
            self._stop(EXIT_CRASHED)
            return None
        return RESTART_AFTER_S[len(recent) - 1]

    def _misconfigured(self, worker: Worker) -> float | None:
        """As `_crashed`: settings that somebody has just broken must not end the workers that still serve."""
        if any(other.staying for other in self._workers):
            log.error("worker not started: settings are refused; the others go on", worker=worker.pid)
            return SETTINGS_READ_AGAIN_S
        log.error("no worker is left, and settings are refused", worker=worker.pid)
        self._stop(EXIT_MISCONFIGURED)
        return None

    async def _roll_when_told(self, places: list[_Place]) -> None:
        while True:
            await self._roll.wait()
            self._roll.clear()
            log.info("replacing all workers", workers=len(places))
            for place in places:
                successor = await self._start()
                if not await successor.until_ready():
                    log.error("replacing stopped: the new worker did not start", worker=successor.pid)
                    break
                before, place.worker = place.worker, successor
                before.retire()

    async def _announce_ready(self, worker: Worker) -> None:
        if await worker.until_ready() and not self._announced:
            self._announced = True
            self._announce()

    async def _count_regularly(self) -> None:
        while True:
            await asyncio.sleep(COUNT_EVERY_S)
            await self._sums()

    def _asked(self, worker: Worker) -> None:
        self._beside(self._tell(worker))

    async def _tell(self, worker: Worker) -> None:
        worker.tell(to_bytes(await self._sums()))

    async def _sums(self) -> Numbers:
        """The numbers of all workers, also of those that are no more: nobody has ever seen more than this remembers."""
        async with self._counting:
            await asyncio.gather(*(worker.count() for worker in self._workers))
            return merged((self._ended, self._own(), *(worker.numbers for worker in self._workers)))

    def _own(self) -> Numbers:
        serving = "gatewayz_workers"
        crashes = "gatewayz_worker_crashes"
        count = sum(worker.serving for worker in self._workers)
        return {
            serving: Family(serving, "Worker processes that take requests.", "gauge", {(serving, ()): count}),
            crashes: Family(crashes, "Workers that crashed.", "counter", {(f"{crashes}_total", ()): self._crashes}),
        }

    def _beside(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
