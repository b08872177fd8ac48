"""`gatewayz serve`, `worker` and `migrate`: what runs a gateway."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from adapters.sql.database import Database
from adapters.sql.migrate import Ahead, Behind, Current, revision_state, upgrade
from adapters.sql.partitions import MonthlyPartitions
from adapters.sql.privileges import grant_to
from adapters.system.clock import SystemClock
from entrypoints.cli.output import print_json, refuse
from entrypoints.cli.session import configured
from entrypoints.settings import WORKERS_MAX


def serve(*, workers: int | None = None) -> int:
    """Serve requests until stopped.

    Parameters
    ----------
    workers
        Processes that serve; GATEWAYZ_WORKERS where it is not given.
    """
    from entrypoints.cli.serve import serve as run

    settings = configured()
    if workers is not None:
        if not 1 <= workers <= WORKERS_MAX:
            refuse("invalid_request", f"--workers must be from 1 to {WORKERS_MAX}.", as_json=False)
            return 2
        settings = replace(settings, server=replace(settings.server, workers=workers))
    return run(settings)


def worker() -> int:
    """Do the background work alone, beside processes that serve."""
    from entrypoints.cli.worker import worker as run

    return run(configured())


def migrate(*, app_role: str | None = None, json: bool = False) -> int:
    """Bring the database's schema up to date; doing it twice, or from two places at once, is safe.

    Parameters
    ----------
    app_role
        PostgreSQL's role that the gateway serves with: it gets the least privileges that this needs.
    json
        Print JSON.
    """
    settings = configured()

    async def migrated() -> Current | Behind | Ahead:
        database = Database(settings.storage.database_url)
        try:
            if not isinstance(await revision_state(database), Ahead):
                await upgrade(database)
                # Before the first row, which would keep its month in the default partition.
                await MonthlyPartitions(database, SystemClock())()
                if app_role is not None:
                    await grant_to(database, app_role)
            return await revision_state(database)
        finally:
            await database.close()

    state = asyncio.run(migrated())
    if not isinstance(state, Current):
        refuse("schema_differs", "The schema is newer than this release. Use the newer release.", as_json=json)
        return 1
    if json:
        print_json({"revision": state.revision, "app_role": app_role})
    else:
        print(f"The schema is up to date ({state.revision}).")
        if app_role is not None:
            print(f"The role {app_role} may serve, and neither change nor remove a transfer of credit.")
    return 0
