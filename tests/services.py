"""PostgreSQL and Redis for the tests: found where they already run, else started here and stopped at the end.

The order is the same for both: what `TEST_DATABASE_URL` or `TEST_REDIS_URL` names (and then it must answer),
else this machine's default port, else a private server from installed programs, one for each pytest worker.
Nothing that was there before is touched: a run has a schema, a database, an empty Redis database of its own.
"""

from __future__ import annotations

import asyncio
import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import asyncpg
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

POSTGRES_DEFAULTS = (
    "postgresql+asyncpg://postgres@127.0.0.1:5432/test",
    "postgresql+asyncpg://postgres@127.0.0.1:5432/postgres",
)
REDIS_DEFAULT = "redis://127.0.0.1:6379"
REDIS_DATABASES = range(1, 15)
TAKE_OVER = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""

PROBE_S = 1
START_S = 20
STOP_S = 10


class ServiceMissing(Exception):
    """No such server was found, and none could be started."""


@dataclass(frozen=True)
class PostgresPlace:
    """A schema of our own in a server.

    `url` is for SQLAlchemy, also as the `DATABASE_URL` of a process under test, and `dsn` for asyncpg itself.
    With both, every connection finds the schema by its `search_path`.  SQLAlchemy hands the query of its URL
    to `asyncpg.connect` as arguments, and there only `dsn` can carry a server setting as text.
    """

    server_url: str
    schema: str

    @property
    def url(self) -> str:
        return f"{self.server_url}?dsn=postgresql:///?search_path={self.schema}"

    @property
    def dsn(self) -> str:
        return f"{asyncpg_dsn(self.server_url)}?search_path={self.schema}"


@contextmanager
def postgres() -> Iterator[str]:
    """The SQLAlchemy URL of a PostgreSQL server."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        url = f"postgresql+asyncpg://{url.partition('://')[2]}"
        if not postgres_answers(url):
            raise RuntimeError("TEST_DATABASE_URL is set, but no PostgreSQL answers there")
        yield url
        return
    for url in POSTGRES_DEFAULTS:
        if postgres_answers(url):
            yield url
            return
    with private_postgres() as server:
        yield server.url


@contextmanager
def postgres_schema(url: str, name: str) -> Iterator[PostgresPlace]:
    """A fresh schema, dropped with all that is in it."""
    run_sql(url, f'CREATE SCHEMA "{name}"')
    try:
        yield PostgresPlace(url, name)
    finally:
        run_sql(url, f'DROP SCHEMA "{name}" CASCADE')


@contextmanager
def postgres_database(url: str, name: str) -> Iterator[str]:
    """The URL of a fresh database, dropped at the end even while someone is connected."""
    run_sql(url, f'CREATE DATABASE "{name}"')
    try:
        yield urlsplit(url)._replace(path=f"/{name}").geturl()
    finally:
        run_sql(url, f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def private_postgres() -> Iterator[PrivateServer]:
    """A PostgreSQL server of our own, in a directory of its own, on a port that was free."""
    initdb, postgres_program = postgres_programs()
    with private_directory(owner=unprivileged_user()) as directory:
        data = directory / "data"
        run_quietly(
            [
                initdb,
                "-D",
                str(data),
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
            ],
            directory,
        )
        port = free_port()
        # Without fsync a killed server still recovers; only a crash of the whole machine could hurt it.
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
        }
        server = PrivateServer(
            url=f"postgresql+asyncpg://postgres@127.0.0.1:{port}/postgres",
            command=[
                postgres_program,
                "-D",
                str(data),
                *(f"--{name}={value}" for name, value in settings.items()),
            ],
            directory=directory,
            answers=postgres_answers,
            stop_signal=signal.SIGINT,
        )
        with server.running():
            yield server


def asyncpg_dsn(url: str) -> str:
    """The same address without SQLAlchemy's driver name."""
    return url.replace("postgresql+asyncpg://", "postgresql://", 1)


def postgres_answers(url: str) -> bool:
    try:
        run_sql(url, "SELECT 1")
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    return True


def run_sql(url: str, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(asyncpg_dsn(url), timeout=PROBE_S, server_settings={"lock_timeout": "10s"})
        try:
            await connection.execute(statement)
        finally:
            await connection.close(timeout=PROBE_S)

    finished(run())


def finished(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end in a thread: a fixture may be asked for by one that already runs in an event loop."""
    with ThreadPoolExecutor(max_workers=1) as threads:
        threads.submit(asyncio.run, work).result()


def postgres_programs() -> tuple[str, str]:
    """`initdb` and `postgres`, which Debian and Red Hat keep out of the path."""
    folders = [Path(found).parent for found in [shutil.which("initdb")] if found]
    for pattern in ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin"):
        folders += sorted(map(Path, glob.glob(pattern)), key=newest_first)
    for folder in folders:
        initdb, server = folder / "initdb", folder / "postgres"
        if initdb.exists() and server.exists():
            return str(initdb), str(server)
    raise ServiceMissing("PostgreSQL not found (set TEST_DATABASE_URL, or install its server)")


def newest_first(folder: Path) -> int:
    return -int("".join(filter(str.isdigit, str(folder))) or 0)


@contextmanager
def redis() -> Iterator[str]:
    """The URL of an empty Redis database that no other worker and no other run uses."""
    named = os.environ.get("TEST_REDIS_URL")
    if named and not redis_answers(named):
        raise RuntimeError("TEST_REDIS_URL is set, but no Redis answers there")
    server = named or REDIS_DEFAULT
    if named or redis_answers(server):
        with claimed_redis_database(server) as url:
            if url:
                yield url
                return
    with private_redis() as private:
        yield f"{private.url}/1"


@contextmanager
def claimed_redis_database(server: str) -> Iterator[str | None]:
    """One of the numbered databases, or None when all are taken.

    A key in database 0 says whose each of ours is.  One that holds keys and is not ours is somebody's data;
    one whose owner has died is cleared and taken over.
    """
    mine = f"{socket.gethostname()}:{os.getpid()}"
    with redis_client(f"{server_root(server)}/0") as claims:
        for number in REDIS_DATABASES:
            claim = f"gatewayz-tests:database:{number}"
            with redis_client(f"{server_root(server)}/{number}") as database:
                if not claimed(claims, claim, mine, empty=database.dbsize() == 0):
                    continue
                database.flushdb()
                try:
                    yield f"{server_root(server)}/{number}"
                finally:
                    database.flushdb()
                    claims.delete(claim)
                return
    yield None


def claimed(claims: Redis, claim: str, mine: str, *, empty: bool) -> bool:
    """Whether the claim is now ours, with no moment between looking and taking."""
    if empty:
        return bool(claims.set(claim, mine, nx=True)) or taken_over(claims, claim, mine)
    return taken_over(claims, claim, mine)


def taken_over(claims: Redis, claim: str, mine: str) -> bool:
    holder = claims.get(claim)
    if not isinstance(holder, bytes) or is_alive(holder.decode()):
        return False
    return bool(claims.eval(TAKE_OVER, 1, claim, holder, mine))


def is_alive(holder: str) -> bool:
    """Whether the claim's process runs; on another machine it is taken to."""
    host, _, pid = holder.rpartition(":")
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def private_redis() -> Iterator[PrivateServer]:
    """A Redis or Valkey server of our own that keeps nothing on disk."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if not program:
        raise ServiceMissing("Redis not found (set TEST_REDIS_URL, or install its server)")
    with private_directory(owner=None) as directory:
        port = free_port()
        options = {
            "port": str(port),
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "dir": str(directory),
        }
        server = PrivateServer(
            url=f"redis://127.0.0.1:{port}",
            command=[program, *(part for name, value in options.items() for part in (f"--{name}", value))],
            directory=directory,
            answers=redis_answers,
            stop_signal=signal.SIGTERM,
        )
        with server.running():
            yield server


def redis_answers(url: str) -> bool:
    try:
        with redis_client(url) as client:
            client.ping()
    except (OSError, RedisError):
        return False
    return True


def redis_client(url: str) -> Redis:
    return Redis.from_url(url, socket_connect_timeout=PROBE_S, socket_timeout=PROBE_S, retry=Retry(NoBackoff(), 0))


def server_root(url: str) -> str:
    """The URL without a database number."""
    return urlsplit(url)._replace(path="", query="").geturl()


class PrivateServer:
    """A server process of ours.  Fault tests may stop it, by any signal, and start it again on its data."""

    def __init__(
        self,
        *,
        url: str,
        command: list[str],
        directory: Path,
        answers: Callable[[str], bool],
        stop_signal: signal.Signals,
    ) -> None:
        self.url = url
        self._command = command
        self._directory = directory
        self._answers = answers
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @contextmanager
    def running(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self.stop()

    def start(self) -> None:
        """Start and wait until it answers."""
        log = self._directory / "log"
        with log.open("ab") as output:
            self._process = started(self._command, self._directory, output)
        give_up_at = time.monotonic() + START_S
        while not self._answers(self.url):
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                self.stop()
                raise RuntimeError(f"{self._command[0]} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self, by: signal.Signals | None = None) -> None:
        """Send the signal, by default the server's own for a clean stop, and wait for the end."""
        if self._process is None:
            return
        self._process.send_signal(by or self._stop_signal)
        # A stopped process hears nothing but SIGCONT and SIGKILL.
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def started(command: list[str], directory: Path, output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start as whoever owns the directory, and out of reach of the terminal's Ctrl-C."""
    owner = directory.stat()
    ours = owner.st_uid == os.geteuid()
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=directory,
        start_new_session=True,
        user=None if ours else owner.st_uid,
        group=None if ours else owner.st_gid,
        extra_groups=None if ours else [],
    )


def run_quietly(command: list[str], directory: Path) -> None:
    with (directory / "log").open("w+b") as output:
        if started(command, directory, output).wait() != 0:
            output.seek(0)
            raise RuntimeError(f"{command[0]} failed:\n{output.read().decode(errors='replace')[-2000:]}")


@contextmanager
def private_directory(*, owner: str | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gatewayz-tests-", ignore_cleanup_errors=True) as name:
        if owner:
            shutil.chown(name, user=owner, group=owner)
        yield Path(name)


def unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root; where we are not root, we can only be ourselves."""
    return "postgres" if os.geteuid() == 0 else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
