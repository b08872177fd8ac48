"""The commands of the back-up page do what the page says: they are read from it, and run."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests import services
from tests.e2e.processes import ROOT, GatewayProcess

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
ECHO = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "one two three four"}], "max_tokens": 4}
needs_pg_dump = pytest.mark.skipif(
    not all(map(shutil.which, ("pg_dump", "pg_restore", "createdb"))),
    reason="pg_dump not found (set TEST_DATABASE_URL, or install its client)",
)


def commands(title: str) -> list[str]:
    """The shell blocks of one section, each as it would be pasted."""
    section = re.split(r"^##+ ", PAGE.partition(f"### {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


def paste(block: str, directory: Path, environ: Mapping[str, str]) -> str:
    """Run a block as an operator's shell would, with `gatewayz` in its path; any failing line fails it."""
    programs = directory / "programs"
    programs.mkdir(exist_ok=True)
    gatewayz = programs / "gatewayz"
    gatewayz.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m entrypoints.cli.main "$@"\n')
    gatewayz.chmod(0o755)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=directory,
        env={**environ, "PATH": f"{programs}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    return done.stdout


def served(gateway: GatewayProcess, key: str) -> str:
    """What is left after one more request."""
    status, _, answer = gateway.call("POST", "/v1/chat/completions", ECHO, key)
    assert status == 200, answer
    return gateway.spendable(key)


def customer(gateway: GatewayProcess) -> str:
    gateway.cli("accounts", "create", "ann@example.com")
    gateway.cli("credits", "grant", "ann@example.com", "5", "--reason", "first invoice")
    made = json.loads(gateway.cli("keys", "create", "ann@example.com", "--name", "laptop", "--json").stdout)
    return str(made["key"])


@pytest.fixture
def urls(postgres_url: str) -> Iterator[tuple[str, str]]:
    """A gateway's database as PostgreSQL's programs name it, and one of a name that is free."""
    name = f"gwbackup_{uuid4().hex[:12]}"
    with services.postgres_database(postgres_url, name) as url:
        plain = services.asyncpg_dsn(url)
        restored = f"{name}_restored"
        try:
            yield plain, urlsplit(plain)._replace(path=f"/{restored}").geturl()
        finally:
            services.run_sql(postgres_url, f'DROP DATABASE IF EXISTS "{restored}" WITH (FORCE)')


@needs_pg_dump
def test_a_postgresql_dump_is_restored_with_every_balance(urls: tuple[str, str], tmp_path: Path) -> None:
    back_up, restore = commands("PostgreSQL")
    url, restored_url = urls
    gateway = GatewayProcess(tmp_path, DATABASE_URL=url)
    environ = gateway.environ | {"RESTORED_URL": restored_url}
    gateway.cli("migrate")
    gateway.start()
    try:
        key = customer(gateway)
        left = served(gateway, key)
        # While it serves, and goes on serving.
        paste(back_up, tmp_path, environ)
        assert served(gateway, key) != left
    finally:
        assert gateway.stop() == 0

    restore = restore.replace("gatewayz_restored", urlsplit(restored_url).path.lstrip("/"))
    assert "Every balance is the sum of its transfers." in paste(restore, tmp_path, environ)

    again = GatewayProcess(tmp_path, DATABASE_URL=restored_url)
    again.start()
    try:
        assert again.spendable(key) == left
        assert served(again, key) != left
    finally:
        assert again.stop() == 0
    again.verify()
    # The locks on the transfers have come along.
    refused = "DO $$ BEGIN TRUNCATE transfers_default; EXCEPTION WHEN raise_exception THEN RETURN; END $$"
    services.run_sql(restored_url, refused)
    guard = "SELECT count(*) = 0 FROM pg_partition_tree('transfers') WHERE NOT EXISTS (SELECT FROM pg_trigger"
    services.run_sql(
        restored_url,
        f"DO $$ BEGIN ASSERT ({guard} WHERE tgrelid = relid AND tgname = 'transfers_not_truncated')); END $$",
    )


def test_an_sqlite_copy_is_restored_with_every_balance(tmp_path: Path) -> None:
    back_up, restore = commands("SQLite")
    gateway = GatewayProcess(tmp_path).start()
    try:
        key = customer(gateway)
        left = served(gateway, key)
        paste(back_up, tmp_path, gateway.environ)
        assert served(gateway, key) != left
    finally:
        assert gateway.stop() == 0

    assert "Every balance is the sum of its transfers." in paste(restore, tmp_path, gateway.environ)

    gateway.start()
    try:
        assert gateway.spendable(key) == left
        assert served(gateway, key) != left
    finally:
        assert gateway.stop() == 0
    gateway.verify()


def test_a_copy_is_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path)
    gateway.cli("migrate")

    told = json.loads(gateway.cli("backup", "copy.db", "--json").stdout)

    copy = tmp_path / "copy.db"
    assert told == {"file": "copy.db", "bytes": copy.stat().st_size}
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert sorted(path.name for path in tmp_path.iterdir() if "copy" in path.name) == ["copy.db"]


@pytest.mark.parametrize(
    ("to", "settings", "reason"),
    [
        ("taken.db", {}, "exists already"),
        ("nowhere/copy.db", {}, "could not be written"),
        ("copy.db", {"DATABASE_URL": "sqlite+aiosqlite:///./other.db"}, "no database"),
        ("copy.db", {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}, "pg_dump"),
    ],
)
def test_a_backup_that_cannot_be_made_says_why(tmp_path: Path, to: str, settings: dict[str, str], reason: str) -> None:
    GatewayProcess(tmp_path).cli("migrate")
    (tmp_path / "taken.db").write_text("mine")

    done = GatewayProcess(tmp_path, **settings).cli("backup", to, check=False)

    assert done.returncode == 1
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "taken.db").read_text() == "mine"
    assert not list(tmp_path.glob("*unfinished"))
