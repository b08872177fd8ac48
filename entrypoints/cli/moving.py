"""`gatewayz migrate-to-postgres`: from the embedded database to PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import time

from adapters.sql.moving import Move, Progress
from adapters.system.clock import SystemClock
from entrypoints.cli.output import print_json, refuse
from entrypoints.logging import configure_logging
from entrypoints.settings import load_settings
from entrypoints.vendors import VENDOR_NAMES

TELL_EVERY_S = 1.0


def migrate_to_postgres(url: str, *, batch: int = 1_000, json: bool = False) -> int:
    """Copy the embedded database to an empty PostgreSQL database, and prove the copy.

    Stop the gateway first.  An interrupted move goes on where it stopped.

    Parameters
    ----------
    url
        The empty database: postgresql+asyncpg://user:password@host/name
    batch
        Rows that are copied in one transaction.
    json
        Print JSON.
    """
    settings = load_settings(VENDOR_NAMES)
    aimed = load_settings(VENDOR_NAMES, {**os.environ, "DATABASE_URL": url})
    configure_logging("error", (*settings.secret_texts(), *aimed.secret_texts()))
    source, target = settings.storage, aimed.storage
    if batch < 1:
        refuse("invalid_request", "--batch must be 1 or more.", as_json=json)
        return 2
    if not source.embedded or target.embedded:
        wrong = "DATABASE_URL names no SQLite database" if not source.embedded else "The given URL is not PostgreSQL's"
        refuse("move_refused", f"{wrong}: this moves from SQLite to PostgreSQL.", as_json=json)
        return 1
    tell = _quiet if json else _Lines()
    move = Move(source.database_url, target.database_url, SystemClock(), batch=batch, tell=tell)
    rows = asyncio.run(move())
    if json:
        print_json({"rows": rows, "database_url": target.database_url})
    else:
        print(f"{sum(rows.values())} rows are in PostgreSQL, every balance is the same, and the ledger adds up. Set:")
        print(f"DATABASE_URL={target.database_url}")
    return 0


class _Lines:
    """One for each table's first and last batch, and one a second between them."""

    def __init__(self) -> None:
        self._table = ""
        self._told_at = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        is_new, is_last = progress.table != self._table, progress.copied >= progress.total
        if is_new or is_last or now - self._told_at >= TELL_EVERY_S:
            self._table, self._told_at = progress.table, now
            # Whoever reads this through a pipe wants to see it now.
            print(f"{progress.table}: {progress.copied} of {progress.total}", flush=True)


def _quiet(_: Progress) -> None:
    """Programs read the result alone."""
