"""The connection to storage: PostgreSQL, or SQLite where the gateway is embedded.

SQLite gets one writer at a time by BEGIN IMMEDIATE, write-ahead logging, and a durable commit.  Whatever makes storage
unreachable becomes `StorageUnavailable`, so that no driver's exception leaves this ring.
"""

from __future__ import annotations

import asyncio
from asyncio import Task
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import event, make_url
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from domain.errors import InvalidRequest, StorageUnavailable

BUSY_TIMEOUT_MS = 5_000
POOL_TIMEOUT_S = 1.0
CONNECT_TIMEOUT_S = 2.0
STATEMENT_TIMEOUT_MS = 5_000
LOCK_TIMEOUT_MS = 2_000
ANSWERS_WITHIN_S = 1.5
"""What a request waits for storage at most, also for one that took the connection and then says nothing."""
DONE_WITHIN_S = 4.0
"""The same for what manages the gateway: long enough for a page of a list on a busy server."""
DOWN = "Storage does not answer. Nothing was charged; try again shortly."
UNSTORABLE = (DataError, UnicodeEncodeError, OverflowError)
SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
)

_T = TypeVar("_T")


class Database:
    """Connects with the first use.  `schema` is PostgreSQL's search path, for tests that share a server."""

    def __init__(self, url: str, *, pool_size: int = 10, schema: str | None = None) -> None:
        self.url = make_url(url)
        self.schema = schema
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = self._sqlite_engine() if self.is_sqlite else self._postgresql_engine(pool_size)
        self._ending: set[Task[Any]] = set()
        """Nobody waits for these any more, but their connections are still to be closed or given back."""

    @property
    def sqlite_path(self) -> str:
        return self.url.database or ":memory:"

    @asynccontextmanager
    async def transaction(self, within_s: float | None = DONE_WITHIN_S) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed on leaving, rolled back by an exception.

        PostgreSQL has `within_s` for all of it, None for as long as it takes.  Raises StorageUnavailable after that;
        where COMMIT had been sent by then, nobody knows whether it was done.
        """
        with storage_errors():
            async with self._limit(within_s), self.engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def reading(self, within_s: float | None = DONE_WITHIN_S) -> AsyncIterator[AsyncConnection]:
        """A connection for reads alone; `within_s` as for a transaction."""
        with storage_errors():
            async with self._limit(within_s), self.engine.connect() as connection:
                if self.is_sqlite:
                    connection = await connection.execution_options(read_only=True)
                yield connection

    def _limit(self, within_s: float | None) -> asyncio.Timeout:
        """SQLite has a limit of its own, for the wait for its lock."""
        return asyncio.timeout(None if self.is_sqlite else within_s)

    async def promptly(self, work: Coroutine[Any, Any, _T], within_s: float = ANSWERS_WITHIN_S) -> _T:
        """What a request waits for: cut off, and StorageUnavailable, when its time is over.

        The work has a task of its own, because taking leave of a server that says nothing takes seconds once more.
        """
        if self.is_sqlite:
            return await work
        task = asyncio.create_task(work)
        try:
            done, _ = await asyncio.wait([task], timeout=within_s)
        except asyncio.CancelledError:
            self._end(task)
            raise
        if not done:
            self._end(task)
            raise StorageUnavailable(DOWN)
        return task.result()

    def _end(self, task: Task[Any]) -> None:
        task.cancel()
        self._see_off(task)

    def _see_off(self, task: Task[Any]) -> None:
        self._ending.add(task)
        task.add_done_callback(self._ended)

    def _leave(self, dbapi_connection: Any) -> None:
        """End a connection in whose middle somebody gave up: politely, so that the server stops working for it.

        Nobody waits for that.  SQLAlchemy's own way takes two seconds of whoever gave up where the server says nothing,
        and logs an error, with a traceback, where that one is stopped meanwhile.
        """
        driver = dbapi_connection.driver_connection
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            # The event loop is over, and with it all politeness.
            driver.terminate()
        else:
            self._see_off(loop.create_task(driver.close(timeout=CONNECT_TIMEOUT_S)))

    def _ended(self, task: Task[Any]) -> None:
        self._ending.discard(task)
        if not task.cancelled():
            # Looked at, so that nobody is told of an error that had no one to go to.
            task.exception()

    async def close(self) -> None:
        if self._ending:
            await asyncio.wait(self._ending)
        await self.engine.dispose()
        if self._ending:
            await asyncio.wait(self._ending)

    def _sqlite_engine(self) -> AsyncEngine:
        if self.url.database and self.url.database != ":memory:":
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_async_engine(self.url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})

        @event.listens_for(engine.sync_engine, "connect")
        def on_connect(connection: Any, _: Any) -> None:
            # The driver must not begin transactions by itself: `on_begin` does, with the right kind.
            connection.isolation_level = None
            cursor = connection.cursor()
            for pragma in SQLITE_PRAGMAS:
                cursor.execute(pragma)
            cursor.close()

        @event.listens_for(engine.sync_engine, "begin")
        def on_begin(connection: Any) -> None:
            reads = connection.get_execution_options().get("read_only")
            connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

        @event.listens_for(engine.sync_engine, "invalidate")
        def on_invalidate(connection: Any, _record: Any, _error: Any) -> None:
            # A statement that a cancellation cut short keeps its cursor, and so its closed connection the write lock.
            connection.rollback()

        return engine

    def _postgresql_engine(self, pool_size: int) -> AsyncEngine:
        engine = create_async_engine(
            self.url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_S,
            pool_use_lifo=True,
            connect_args={"timeout": CONNECT_TIMEOUT_S, "server_settings": self.server_settings()},
        )
        engine.dialect.do_terminate = self._leave  # type: ignore[method-assign]
        return engine

    def server_settings(self) -> dict[str, str]:
        settings = {
            "application_name": "gatewayz",
            "statement_timeout": str(STATEMENT_TIMEOUT_MS),
            "lock_timeout": str(LOCK_TIMEOUT_MS),
        }
        return settings | ({"search_path": self.schema} if self.schema else {})


class storage_errors:  # noqa: N801 - a context manager, used like contextlib's
    """Turn drivers' exceptions into our own; broken constraints pass, as they concern the repositories.

    What the driver cannot even write (NUL, half a surrogate pair, a number too large) is the caller's mistake.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if isinstance(error, IntegrityError):
            return
        if isinstance(error, UNSTORABLE):
            raise InvalidRequest("A text has characters, or a number a size, that cannot be stored.") from error
        if isinstance(error, PoolTimeout | OSError | DBAPIError) and not isinstance(error, StorageUnavailable):
            raise StorageUnavailable(DOWN) from error
