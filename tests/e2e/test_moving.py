"""From SQLite to PostgreSQL: the same credit, keys and books, after interruptions too, or a refusal that says why."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from tests import services
from tests.e2e.processes import GatewayProcess

pytestmark = pytest.mark.slow

ECHO = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "one two three four"}], "max_tokens": 4}
REQUESTS = 12
MOVE = "migrate-to-postgres"
UNFINISHED = "DO 'BEGIN ASSERT (SELECT copied > 0 AND NOT done FROM moving_marks WHERE name = ''transfers''); END'"


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The directory of a stopped gateway with charged requests, its key, and what is left to spend."""
    gateway = GatewayProcess(tmp_path_factory.mktemp("embedded"))
    gateway.start()
    try:
        key = json.loads(gateway.cli("keys", "create", "admin", "--name", "moved", "--json").stdout)["key"]
        statuses = [gateway.call("POST", "/v1/chat/completions", ECHO, key)[0] for _ in range(REQUESTS)]
        assert statuses == [200] * REQUESTS
        left = gateway.spendable(key)
    finally:
        assert gateway.stop() == 0
    return gateway.directory, key, left


@pytest.fixture
def stopped(used: tuple[Path, str, str], tmp_path: Path) -> GatewayProcess:
    """A copy of its own of that gateway, not started."""
    return GatewayProcess(Path(shutil.copytree(used[0], tmp_path / "gateway")))


@pytest.fixture
def empty_url(postgres_url: str) -> Iterator[str]:
    with services.postgres_database(postgres_url, f"gwmove_{uuid4().hex[:12]}") as url:
        yield url


def assert_serves_the_same(embedded: GatewayProcess, url: str, key: str, left: str) -> None:
    gateway = GatewayProcess(embedded.directory, DATABASE_URL=url)
    gateway.verify()
    gateway.start()
    try:
        assert gateway.spendable(key) == left
        status, _, _ = gateway.call("POST", "/v1/chat/completions", ECHO, key)
        assert status == 200
        assert gateway.spendable(key) != left
    finally:
        assert gateway.stop() == 0
    gateway.verify()


def interrupt(gateway: GatewayProcess, url: str) -> None:
    """Kill a move just after its first batch of transfers."""
    with subprocess.Popen(
        [sys.executable, "-m", "entrypoints.cli.main", MOVE, url, "--batch", "1"],
        cwd=gateway.directory,
        env=gateway.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert any(line.startswith("transfers: 1 of ") for line in process.stdout)
        process.kill()
    services.run_sql(url, UNFINISHED)


def test_a_moved_gateway_goes_on_where_it_was(
    stopped: GatewayProcess, empty_url: str, used: tuple[Path, str, str]
) -> None:
    done = stopped.cli(MOVE, empty_url, "--json")

    moved = json.loads(done.stdout)
    assert moved["database_url"] == empty_url
    assert moved["rows"]["generations"] == REQUESTS
    assert_serves_the_same(stopped, empty_url, *used[1:])

    again = stopped.cli(MOVE, empty_url, check=False)
    assert again.returncode == 1
    assert "not empty" in again.stderr


def test_an_interrupted_move_goes_on(stopped: GatewayProcess, empty_url: str, used: tuple[Path, str, str]) -> None:
    interrupt(stopped, empty_url)

    lines = stopped.cli(MOVE, empty_url, "--batch", "7").stdout.splitlines()

    first, *_ = (line for line in lines if line.startswith("transfers: "))
    assert int(first.split()[1]) > 7, "it began anew"
    assert not any(line.startswith("accounts: ") for line in lines), "it began anew"
    assert lines[-1] == f"DATABASE_URL={empty_url}"
    assert_serves_the_same(stopped, empty_url, *used[1:])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE accounts SET name = 'somebody else'", "accounts has other rows"),
        (
            "INSERT INTO credit_accounts VALUES ('stranger', 5, 5, 0, 0, 0, '[]', NULL)",
            "account stranger has another balance",
        ),
    ],
)
def test_a_tampered_copy_is_refused(stopped: GatewayProcess, empty_url: str, change: str, reason: str) -> None:
    interrupt(stopped, empty_url)
    services.run_sql(empty_url, change)

    done = stopped.cli(MOVE, empty_url, "--json", check=False)

    assert done.returncode == 1
    assert "DATABASE_URL" not in done.stdout
    error = json.loads(done.stderr)["error"]
    assert error["code"] == "move_refused"
    assert reason in error["message"]


def test_books_that_do_not_add_up_are_refused(stopped: GatewayProcess, empty_url: str) -> None:
    with closing(sqlite3.connect(stopped.directory / "var/gatewayz.db")) as connection:
        connection.execute("DROP TRIGGER transfers_no_update")
        connection.execute("UPDATE transfers SET amount = amount + 1 WHERE kind = 'charge'")
        connection.commit()

    done = stopped.cli(MOVE, empty_url, check=False)

    assert done.returncode == 1
    assert "DATABASE_URL" not in done.stdout
    assert "does not add up: charged" in done.stderr


def test_nothing_is_moved_while_a_gateway_runs(stopped: GatewayProcess, empty_url: str) -> None:
    stopped.start()
    try:
        done = stopped.cli(MOVE, empty_url, check=False)
        assert done.returncode == 1
        assert "Stop the gateway" in done.stderr
        assert stopped.spendable()
    finally:
        assert stopped.stop() == 0
