"""Writes down what a release says to PostgreSQL, so that a later schema can be asked the same.

    python -m tests.migrations.record SOURCE_OF_THE_RELEASE > tests/migrations/releases/REVISION.sql

A gateway of that release serves on a private server that logs every statement with its arguments.  What was written
down is not made by hand, and `test_previous_releases.py` replays it on the newest schema.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg

from tests import services
from tests.e2e.processes import ADMIN_KEY, GatewayProcess

ECHO = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "one two three four"}], "max_tokens": 4}
SEPARATOR = ";\n\n"
CONTROL = re.compile(r"(BEGIN|COMMIT|ROLLBACK|SET|SHOW|RESET|DISCARD|ALTER SYSTEM)\b|SELECT 1$|;$", re.IGNORECASE)
CATALOGUE = re.compile(r"\bpg_|\bto_regclass|current_schema|information_schema|alembic_version")
ENTRY = re.compile(r"LOG:  (?:execute [^:]+|statement): (?P<statement>.*)", re.DOTALL)
ARGUMENT = re.compile(r"\$(\d+) = (NULL|'(?:[^']|'')*')")


def record(release: Path) -> list[str]:
    with services.private_postgres() as server, tempfile.TemporaryDirectory() as directory:
        gateway = GatewayProcess(Path(directory), DATABASE_URL=server.url, PYTHONPATH=str(release))
        gateway.cli("migrate")
        services.run_sql(server.url, "ALTER SYSTEM SET log_statement = 'all'")
        services.run_sql(server.url, "ALTER SYSTEM SET timezone = 'UTC'")
        services.run_sql(server.url, "SELECT pg_reload_conf()")
        use(gateway)
        return list(statements(asyncio.run(server_log(server.url))))


def use(gateway: GatewayProcess) -> None:
    """Everything essential, once."""
    gateway.start()
    try:
        gateway.cli("accounts", "create", "ann@example.com")
        gateway.cli("credits", "grant", "admin", "5", "--reason", "first invoice")
        gateway.cli("keys", "create", "ann@example.com", "--name", "laptop")
        gateway.cli("keys", "list", "ann@example.com")
        gateway.cli("prices", "set", "sandbox/echo", "--vendor", "sandbox", "--input", "0.10", "--output", "0.40")
        for number in range(2):
            again = {"Idempotency-Key": f"key-{number // 2}"}
            assert gateway.call("POST", "/v1/chat/completions", ECHO, ADMIN_KEY, again)[0] == 200
        assert gateway.call("POST", "/v1/chat/completions", ECHO | {"stream": True})[0] == 200
        request_id = gateway.call("POST", "/v1/chat/completions", ECHO)[1]["x-request-id"]
        gateway.get(f"/v1/generations/{request_id}")
        gateway.get("/user/balance")
        gateway.get("/user/credit-transactions")
        gateway.cli("credits", "balance", "admin")
        gateway.cli("accounts", "list")
        gateway.verify()
    finally:
        assert gateway.stop() == 0


async def server_log(url: str) -> str:
    connection = await asyncpg.connect(services.asyncpg_dsn(url))
    try:
        text: str = await connection.fetchval("SELECT pg_read_file('../log')")
        return text
    finally:
        await connection.close()


def statements(log: str) -> Iterator[str]:
    """Each statement with its arguments in place, in order; a read only once."""
    seen: set[str] = set()
    entries = re.split(r"\n(?!\t)", log)
    for entry, following in zip(entries, [*entries[1:], ""], strict=True):
        if not (match := ENTRY.search(entry)):
            continue
        statement = re.sub(r"\s*\n\t?", "\n", match["statement"]).strip()
        if CONTROL.match(statement) or CATALOGUE.search(statement):
            continue
        is_read = not re.search(r"\b(INSERT|UPDATE|DELETE|CREATE|ALTER)\b", statement)
        if is_read and statement in seen:
            continue
        seen.add(statement)
        arguments = dict(ARGUMENT.findall(following)) if "DETAIL:  parameters:" in following else {}
        yield re.sub(r"\$(\d+)", lambda place, given=arguments: given[place[1]], statement)  # type: ignore[misc]


if __name__ == "__main__":
    sys.stdout.write("".join(statement + SEPARATOR for statement in record(Path(sys.argv[1]).resolve())))
