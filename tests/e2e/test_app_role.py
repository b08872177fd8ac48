"""A gateway that serves with the least privileges does all its work, and could not rewrite a transfer if it tried."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from adapters.sql.database import Database
from adapters.sql.partitions import MonthlyPartitions
from adapters.sql.retention import Retention
from adapters.system.clock import SystemClock
from tests import services
from tests.e2e.processes import GatewayProcess
from tests.fakes.time import FakeClock

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ECHO = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "one two three four"}], "max_tokens": 4}


class Place:
    """A database, its owner's URL, and the URL of a role that owns nothing."""

    def __init__(self, owner_url: str, role: str) -> None:
        self.owner_url = owner_url
        self.role = role
        address = urlsplit(owner_url)
        self.role_url = address._replace(netloc=f"{role}@{address.hostname}:{address.port}").geturl()


@pytest.fixture(scope="module")
def place(postgres_url: str) -> Iterator[Place]:
    role = f"gwapp_{uuid4().hex[:12]}"
    services.run_sql(postgres_url, f"CREATE ROLE {role} LOGIN")
    try:
        with services.postgres_database(postgres_url, f"{role}_db") as url:
            yield Place(url, role)
    finally:
        services.run_sql(postgres_url, f"DROP ROLE {role}")


@pytest.fixture(scope="module")
def gateway(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    directory = tmp_path_factory.mktemp("least")
    told = GatewayProcess(directory, DATABASE_URL=place.owner_url).cli("migrate", "--app-role", place.role).stdout
    assert f"The role {place.role} may serve" in told
    process = GatewayProcess(directory, DATABASE_URL=place.role_url)
    process.start()
    yield process
    assert process.stop() == 0


@pytest.fixture
async def as_role(place: Place, gateway: GatewayProcess) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(services.asyncpg_dsn(place.role_url))
    yield connection
    await connection.close()


def test_everything_works_with_the_least_privileges(gateway: GatewayProcess) -> None:
    gateway.cli("accounts", "create", "ann@example.com")
    gateway.cli("credits", "grant", "ann@example.com", "5", "--reason", "first invoice")
    made = json.loads(gateway.cli("keys", "create", "ann@example.com", "--name", "laptop", "--json").stdout)
    gateway.cli("prices", "set", "sandbox/echo", "--vendor", "sandbox", "--input", "0.10", "--output", "0.40")
    for body in (ECHO, ECHO | {"stream": True}):
        for _ in range(2):
            again = {"Idempotency-Key": f"k-{'stream' in body}"}
            assert gateway.call("POST", "/v1/chat/completions", body, made["key"], again)[0] == 200
    gateway.cli("keys", "revoke", "ann@example.com", made["id"])
    gateway.cli("accounts", "suspend", "ann@example.com")
    gateway.cli("accounts", "restore", "ann@example.com")
    gateway.cli("credits", "balance", "ann@example.com")
    gateway.verify()
    log = gateway.log.read_text()
    assert "permission denied" not in log
    assert "job failed" not in log


async def test_it_makes_months_and_forgets_what_it_may(place: Place, gateway: GatewayProcess) -> None:
    database = Database(place.role_url)
    now = SystemClock().now()
    later = FakeClock(now + timedelta(days=70))
    try:
        await MonthlyPartitions(database, later)()
        old = Retention(
            database, MonthlyPartitions(database, later), later, ended_hold_days=1, generation_months=1, batch=100
        )
        await old.forget_holds()
        await old.forget_generations()
    finally:
        await database.close()
    owner = await asyncpg.connect(services.asyncpg_dsn(place.owner_url))
    try:
        made = f"{later.now():transfers_%Y_%m}"
        assert (
            await owner.fetchval(f"SELECT relowner::regrole::text FROM pg_class WHERE relname = '{made}'") == "postgres"
        )
        assert await owner.fetchval("SELECT count(*) FROM generations") == 0
        assert await owner.fetchval(f"SELECT to_regclass('generations_{now:%Y_%m}') IS NULL")
        assert await owner.fetchval("SELECT count(*) FROM transfers") > 0
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await owner.execute(f"TRUNCATE {made}")
    finally:
        await owner.close()
    gateway.verify()


async def test_a_transfer_can_be_neither_changed_nor_removed(as_role: asyncpg.Connection) -> None:
    tables = await as_role.fetch("SELECT relid::regclass::text AS name FROM pg_partition_tree('transfers')")
    assert len(tables) > 3
    for (table,) in tables:
        for statement in (
            f"UPDATE {table} SET amount = 0",
            f"DELETE FROM {table}",
            f"TRUNCATE {table}",
            f"DROP TABLE {table}",
            f"ALTER TABLE {table} DISABLE TRIGGER ALL",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await as_role.execute(statement)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await as_role.execute("CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE sql AS ''")


async def test_it_has_no_privilege_that_serving_does_not_need(as_role: asyncpg.Connection, place: Place) -> None:
    rows = await as_role.fetch(
        "SELECT table_name, privilege_type FROM information_schema.role_table_grants WHERE grantee = $1", place.role
    )
    granted = {(row["table_name"], row["privilege_type"]) for row in rows}
    assert {right for _, right in granted} == {"SELECT", "INSERT", "UPDATE", "DELETE"}
    money = {pair for pair in granted if pair[0].startswith(("transfers", "booked"))}
    assert money == {
        ("transfers", "SELECT"),
        ("transfers", "INSERT"),
        ("transfers_default", "SELECT"),
        ("booked_transfers", "SELECT"),
        ("booked_transfers", "INSERT"),
    }
    assert ("alembic_version", "UPDATE") not in granted


async def test_what_was_granted_too_much_is_taken_back(place: Place, gateway: GatewayProcess) -> None:
    services.run_sql(place.owner_url, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {place.role}")
    services.run_sql(place.owner_url, "GRANT EXECUTE ON FUNCTION drop_generations(text) TO PUBLIC")

    GatewayProcess(gateway.directory, DATABASE_URL=place.owner_url).cli("migrate", "--app-role", place.role)

    owner = await asyncpg.connect(services.asyncpg_dsn(place.owner_url))
    try:
        for table in [
            row[0] for row in await owner.fetch("SELECT relid::regclass::text FROM pg_partition_tree('transfers')")
        ]:
            for right in ("UPDATE", "DELETE", "TRUNCATE"):
                assert not await owner.fetchval("SELECT has_table_privilege($1, $2, $3)", place.role, table, right)
        others = "SELECT has_function_privilege('pg_monitor', 'drop_generations(text)', 'EXECUTE')"
        assert not await owner.fetchval(others)
    finally:
        await owner.close()


@pytest.mark.parametrize(
    ("role", "reason"),
    [("nobody_of_that_name", "CREATE ROLE"), ("postgres", "no privilege binds it"), ('"; DROP TABLE keys', "no role")],
)
def test_a_role_that_cannot_be_bound_is_refused(place: Place, tmp_path: Path, role: str, reason: str) -> None:
    done = GatewayProcess(tmp_path, DATABASE_URL=place.owner_url).cli("migrate", "--app-role", role, check=False)
    assert done.returncode == 1
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_sqlite_has_no_roles(tmp_path: Path) -> None:
    done = GatewayProcess(tmp_path).cli("migrate", "--app-role", "gatewayz", check=False)
    assert done.returncode == 1
    assert "SQLite has no roles" in done.stderr
