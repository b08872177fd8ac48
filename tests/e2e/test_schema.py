"""Nothing serves or works on a schema that is not its release's; what is said names the command that helps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from adapters.sql import migrate
from adapters.sql.database import Database
from tests import services
from tests.e2e.processes import GatewayProcess

pytestmark = pytest.mark.slow


@pytest.fixture
def gateway(postgres_url: str, tmp_path: Path) -> Iterator[GatewayProcess]:
    with services.postgres_database(postgres_url, f"gwschema_{uuid4().hex[:12]}") as url:
        yield GatewayProcess(tmp_path, DATABASE_URL=url)


async def upgraded(url: str, revision: str) -> None:
    database = Database(url)
    await migrate.upgrade(database, revision)
    await database.close()


@pytest.mark.parametrize("revision", [None, "0003"])
def test_a_schema_that_is_behind_is_refused_with_the_command_that_mends_it(
    gateway: GatewayProcess, revision: str | None
) -> None:
    if revision:
        services.finished(upgraded(gateway.environ["DATABASE_URL"], revision))
    for command in (["serve"], ["worker"]):
        done = gateway.cli(*command, check=False)
        assert done.returncode == 1, command
        assert "gatewayz migrate" in done.stderr
        assert "Traceback" not in done.stderr

    gateway.cli("migrate")

    gateway.start()
    assert gateway.stop() == 0


def test_a_schema_of_a_newer_release_is_refused(gateway: GatewayProcess) -> None:
    gateway.cli("migrate")
    services.run_sql(gateway.environ["DATABASE_URL"], "UPDATE alembic_version SET version_num = '9999'")
    for command in (["serve"], ["worker"], ["migrate"]):
        done = gateway.cli(*command, check=False)
        assert done.returncode == 1, command
        assert "newe" in done.stderr
        assert "Traceback" not in done.stderr
