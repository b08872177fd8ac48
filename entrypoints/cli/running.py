"""`gatewayz serve`, `worker` and `migrate`: what runs a gateway."""

from __future__ import annotations

import asyncio

from adapters.sql.database import Database
from adapters.sql.migrate import Ahead, Behind, Current, revision_state, upgrade
from entrypoints.cli.output import print_json, refuse
from entrypoints.cli.session import configured


def serve() -> int:
    """Serve requests until stopped."""
    from entrypoints.cli.serve import serve as run

    return run(configured())


def worker() -> int:
    """Do the background work alone, beside processes that serve."""
    from entrypoints.cli.worker import worker as run

    return run(configured())


def migrate(*, json: bool = False) -> int:
    """Bring the database's schema up to date; doing it twice, or from two places at once, is safe."""
    settings = configured()

    async def migrated() -> Current | Behind | Ahead:
        database = Database(settings.storage.database_url)
        try:
            if not isinstance(await revision_state(database), Ahead):
                await upgrade(database)
            return await revision_state(database)
        finally:
            await database.close()

    state = asyncio.run(migrated())
    if not isinstance(state, Current):
        refuse("schema_differs", "The schema is newer than this release. Use the newer release.", as_json=json)
        return 1
    if json:
        print_json({"revision": state.revision})
    else:
        print(f"The schema is up to date ({state.revision}).")
    return 0
