"""The commands of docker-compose.yml and of the Dockerfile, run as they stand there, without Docker.

Only addresses are changed: names of containers become this machine, and ports become free ones.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import yaml
from alembic.config import Config
from alembic.script import ScriptDirectory

from tests import services
from tests.architecture.compose_shape import filled_in
from tests.e2e.processes import READY_S, ROOT, clean_environ, free_port

pytestmark = pytest.mark.slow

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
FILLED_IN = {
    "POSTGRES_PASSWORD": secrets.token_hex(24),
    "REDIS_PASSWORD": secrets.token_hex(24),
    "GATEWAYZ_SECRETS": f"v1:{b64encode(secrets.token_bytes(32)).decode()}",
    "PUBLIC_URL": "https://ai.example.com",
}
"""What an operator fills in: all that the file asks for."""
SERVICES: Mapping[str, Any] = filled_in(COMPOSE["services"], FILLED_IN)
ENV_FILE = {"ADMIN_API_KEY": f"gw_live_{secrets.token_urlsafe(32)}", "ADMIN_EMAIL": "boss@example.com"}


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


def program(command: list[str]) -> list[str]:
    assert command[0] == "gatewayz"
    return [sys.executable, "-m", "entrypoints.cli.main", *command[1:]]


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The service `redis` with its own command, by whichever of the two servers is here."""
    command = SERVICES["redis"]["command"]
    assert command[0] == "valkey-server"
    server = shutil.which("valkey-server") or shutil.which("redis-server")
    if server is None:
        pytest.skip("Redis not found (set TEST_REDIS_URL, or install its server)")
    port, directory = free_port(), tmp_path_factory.mktemp("redis")
    with running([server, *command[1:], "--port", str(port), "--bind", "127.0.0.1"], directory, clean_environ()) as it:
        listening(it, port)
        yield port


@pytest.fixture(scope="module")
def environ(postgres_url: str, redis_port: int) -> Iterator[dict[str, str]]:
    """What Compose would give our three services, with addresses that exist here."""
    given = SERVICES["gateway"]["environment"]
    assert given == SERVICES["worker"]["environment"] == SERVICES["migrate"]["environment"]
    database, redis = urlsplit(given["DATABASE_URL"]), urlsplit(given["REDIS_URL"])
    storage = SERVICES["postgres"]["environment"]
    assert (database.hostname, database.port) == ("postgres", 5432)
    assert database.username == storage["POSTGRES_USER"]
    assert database.password == storage["POSTGRES_PASSWORD"]
    assert database.path == f"/{storage['POSTGRES_DB']}"
    assert (redis.hostname, redis.port) == ("redis", 6379)
    with services.postgres_database(postgres_url, f"gwcompose_{uuid4().hex[:12]}") as url:
        here = redis._replace(netloc=f":{redis.password}@127.0.0.1:{redis_port}").geturl()
        changed = {"DATABASE_URL": url, "REDIS_URL": here, "HOST": "127.0.0.1", "PYTHONPATH": str(ROOT)}
        yield clean_environ() | ENV_FILE | given | changed


@contextmanager
def running(command: list[str], directory: Path, environ: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=directory, env=dict(environ), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def listening(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "it ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"nothing listens on {port}")


def stop(process: subprocess.Popen[bytes], service: str) -> int:
    """What `docker compose stop` does; within the service's own time."""
    process.send_signal(getattr(signal, SERVICES[service].get("stop_signal", "SIGTERM")))
    return process.wait(seconds(SERVICES[service].get("stop_grace_period", "10s")))


def run(command: list[str], directory: Path, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=directory,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_what_must_be_filled_in_is_told() -> None:
    for name in FILLED_IN:
        given = {other: value for other, value in FILLED_IN.items() if other != name}
        with pytest.raises(KeyError, match=name):
            filled_in(COMPOSE["services"], given)


def test_the_installation_migrates_serves_works_and_stops(environ: dict[str, str], tmp_path: Path) -> None:
    early = run(program(SERVICES["gateway"]["command"]), tmp_path, environ | {"PORT": str(free_port())})
    assert early.returncode == 1
    assert "Run 'gatewayz migrate' and start again." in early.stderr

    migrated = run(program(SERVICES["migrate"]["command"]), tmp_path, environ)
    assert migrated.returncode == 0, migrated.stderr

    port = free_port()
    environ = environ | {"PORT": str(port)}
    health = json.loads(re.sub(r"\\\n", "", DOCKERFILE.partition("HEALTHCHECK")[2]).partition("CMD ")[2].split("\n")[0])
    check = [sys.executable, *health[1:]]
    assert health[0] == "python"
    assert run(check, tmp_path, environ).returncode != 0, "nobody serves yet"
    with (
        running(program(SERVICES["gateway"]["command"]), tmp_path, environ) as gateway,
        running(program(SERVICES["worker"]["command"]), tmp_path, environ) as worker,
    ):
        listening(gateway, port)
        assert run(check, tmp_path, environ).returncode == 0
        key = {"Authorization": f"Bearer {ENV_FILE['ADMIN_API_KEY']}"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/user/balance", headers=key)
        assert json.loads(urllib.request.urlopen(request, timeout=10).read())
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/user/balance", timeout=10)
        time.sleep(1)
        assert stop(worker, "worker") == 0
        assert stop(gateway, "gateway") == 0
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log
    assert not any(secret in log for secret in FILLED_IN.values() if secret.startswith("v1:"))
    # The rest of the file system is read-only there.
    assert {path.name for path in tmp_path.iterdir()} <= {"log", "var"}


def test_the_stores_say_when_they_are_ready(postgres_url: str, redis_port: int, tmp_path: Path) -> None:
    test = SERVICES["redis"]["healthcheck"]["test"]
    assert test[0] == "CMD-SHELL"
    if client := shutil.which("valkey-cli") or shutil.which("redis-cli"):
        asked = test[1].replace("valkey-cli", f"{client} -p {redis_port}")
        assert run(["sh", "-c", asked], tmp_path, clean_environ() | SERVICES["redis"]["environment"]).returncode == 0
        assert run(["sh", "-c", asked], tmp_path, clean_environ()).returncode != 0, "without its password"
    test = SERVICES["postgres"]["healthcheck"]["test"]
    assert test[0] == "CMD"
    if shutil.which(test[1]):
        address = urlsplit(postgres_url)
        asked = [*test[1:], f"--host={address.hostname}", f"--port={address.port}"]
        assert run(asked, tmp_path, clean_environ()).returncode == 0
        assert run([*asked, "--port=1"], tmp_path, clean_environ()).returncode != 0


def test_the_image_has_all_that_the_gateway_needs(tmp_path: Path) -> None:
    """The Dockerfile's own copies, wheel and installation, then a start from what they left."""
    source, installed, app = tmp_path / "src", tmp_path / "installed", tmp_path / "app"
    source.mkdir()
    app.mkdir()
    for files, to in re.findall(r"^COPY (?!--from)(.+) (\S+)$", DOCKERFILE, re.MULTILINE):
        for name in files.split():
            if (ROOT / name).is_dir():
                assert to == name
                shutil.copytree(ROOT / name, source / to, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, source / to)
    wheel = re.search(r"pip (wheel --no-deps --no-build-isolation --wheel-dir) /dist \.", DOCKERFILE)
    install = re.search(r"pip (install --no-deps --no-index) /dist/\*\.whl", DOCKERFILE)
    assert wheel is not None
    assert install is not None
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    built = run([*pip, *wheel[1].split(), str(tmp_path / "dist"), "."], source, clean_environ())
    assert built.returncode == 0, built.stderr
    [made] = (tmp_path / "dist").glob("*.whl")
    done = run([*pip, *install[1].split(), "--target", str(installed), str(made)], tmp_path, clean_environ())
    assert done.returncode == 0, done.stderr

    [command] = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert json.loads(command) == SERVICES["gateway"]["command"]
    environ = clean_environ() | {"PYTHONPATH": str(installed)}
    told = run(program(["gatewayz", "migrate", "--json"]), app, environ)
    assert told.returncode == 0, told.stderr
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    assert json.loads(told.stdout)["revision"] == ScriptDirectory.from_config(config).get_current_head()
    # In place, or the test would show the checkout instead.
    where = run([sys.executable, "-c", "import migrations; print(migrations.__file__)"], app, environ)
    assert where.stdout.startswith(str(installed))
