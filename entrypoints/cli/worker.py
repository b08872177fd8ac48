"""`gatewayz worker`: the background work alone, beside processes that serve."""

from __future__ import annotations

import asyncio
import signal
import sys

import structlog

from adapters.sql.migrate import Current, revision_state
from domain.errors import StorageUnavailable
from entrypoints.container import Container
from entrypoints.settings import Settings
from entrypoints.worker.jobs import background_jobs, run_jobs

log = structlog.get_logger(__name__)


def worker(settings: Settings) -> int:
    """Runs until a signal stops it; returns the exit status."""
    try:
        return asyncio.run(_work(Container(settings=settings)))
    except StorageUnavailable as error:
        print(
            f"The database cannot be reached: {error}\nCheck DATABASE_URL, or run 'gatewayz doctor'.",
            file=sys.stderr,
        )
        return 1


async def _work(container: Container) -> int:
    adapters = container.adapters
    database, ledger = adapters.database(), adapters.ledger()
    try:
        if not isinstance(await revision_state(database), Current):
            cure = "Run 'gatewayz migrate' of the newest release, and start that release."
            print(f"The database's schema does not fit this release. {cure}", file=sys.stderr)
            return 1
        await ledger.open()
        await _until_told_to_stop(container)
        return 0
    finally:
        await ledger.close()
        await adapters.vendors().close()
        await database.close()


async def _until_told_to_stop(container: Container) -> None:
    adapters = container.adapters
    jobs = asyncio.create_task(run_jobs(background_jobs(container), adapters.leases(), adapters.ids().fresh()))
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stopped.set)
    log.info("working")
    stop = asyncio.create_task(stopped.wait())
    await asyncio.wait([jobs, stop], return_when=asyncio.FIRST_COMPLETED)
    if jobs.done():
        jobs.result()
    # Each job runs in a transaction of its own: what is cut is rolled back, and done by whoever is next.
    jobs.cancel()
    stop.cancel()
    await asyncio.gather(jobs, stop, return_exceptions=True)
    log.info("stopped")
