"""A copy of the embedded database, whole and consistent, also while a gateway writes to it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from adapters.sql.database import BUSY_TIMEOUT_MS, Database
from domain.errors import Conflict, InvalidRequest


class BackupRefused(Conflict):
    """There is nothing to copy, or something is in the way."""

    code = "backup_refused"


async def back_up(database: Database, to: Path) -> int:
    """Copy the embedded database to `to`, a file that does not exist yet, for its owner alone; returns its bytes.

    Raises InvalidRequest on PostgreSQL, BackupRefused.
    """
    if not database.is_sqlite:
        raise InvalidRequest("This copies the embedded database alone. Back PostgreSQL up with pg_dump.")
    return await asyncio.to_thread(_copied, Path(database.sqlite_path), to)


def _copied(source: Path, to: Path) -> int:
    if not source.is_file():
        raise BackupRefused(f"There is no database {source} here. Run this where the gateway runs.")
    unfinished = to.with_name(f"{to.name}.{os.getpid()}.unfinished")
    try:
        # Made here, so that no moment passes in which others may read it: the copy knows every account.
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            with closing(sqlite3.connect(source, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None)) as connection:
                # Through SQLite, because the latest commits lie beside the file; as of one moment, and defragmented.
                connection.execute("VACUUM INTO ?", (os.fspath(unfinished),))
            _reach_the_disk(unfinished)
            # A link fails where a file is in the way, and appears whole or not at all.
            os.link(unfinished, to)
            _reach_the_disk(to.parent)
        finally:
            unfinished.unlink()
    except FileExistsError as error:
        raise BackupRefused(f"{to} exists already. Name another file.") from error
    except (OSError, sqlite3.Error) as error:
        raise BackupRefused(f"The backup could not be written to {to}: {error}") from error
    return to.stat().st_size


def _reach_the_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
