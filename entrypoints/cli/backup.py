"""`gatewayz backup`: a copy of the embedded database."""

from __future__ import annotations

import asyncio
from pathlib import Path

from adapters.sql.backup import back_up
from adapters.sql.database import Database
from entrypoints.cli.output import print_json
from entrypoints.cli.session import configured


def backup(to: Path, *, json: bool = False) -> int:
    """Copy the embedded database to a new file, also while the gateway runs.

    Parameters
    ----------
    to
        The file to write; it must not exist.
    json
        Print JSON.
    """
    storage = configured().storage

    async def copied() -> int:
        database = Database(storage.database_url)
        try:
            return await back_up(database, to)
        finally:
            await database.close()

    size = asyncio.run(copied())
    if json:
        print_json({"file": str(to), "bytes": size})
    else:
        print(f"{to} has the whole database ({size} bytes). Keep GATEWAYZ_SECRETS too, in another place.")
    return 0
