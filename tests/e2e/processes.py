"""Real gateway processes for tests: started as an operator would, on a free port, and stopped by their own pid."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.commands import Commands

ROOT = Path(__file__).parents[2]
ADMIN_KEY = "gw_dev_" + "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
READY_S = 180.0
COMMAND_S = 120.0
COMMANDS = Commands()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class GatewayProcess:
    """`gatewayz serve` in a directory of its own."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.log = directory / f"gateway-{self.port}.log"
        self.environ = clean_environ() | {
            "ADMIN_API_KEY": ADMIN_KEY,
            "PORT": str(self.port),
            "PYTHONPATH": str(ROOT),
        }
        self.environ |= settings
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self, *, wait: bool = True) -> GatewayProcess:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "entrypoints.cli.main", "serve"],
                cwd=self.directory,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(f"the gateway ended with {self.process.returncode}:\n{self.log.read_text()}")
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.base_url}/health/ready", timeout=1).close()
                return
            time.sleep(0.05)
        raise RuntimeError(f"the gateway was not ready in {READY_S} s:\n{self.log.read_text()}")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, timeout_s: float = 40) -> int:
        """SIGTERM and the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        return self.process.returncode

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A `gatewayz` command on the same settings."""
        done = COMMANDS.run(arguments, self.directory, self.environ, timeout_s=COMMAND_S)
        if check and done.returncode:
            raise RuntimeError(
                f"gatewayz {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done

    def get(self, path: str, key: str = ADMIN_KEY) -> Any:
        return self.call("GET", path, None, key)[2]

    def post(self, path: str, body: Any, key: str = ADMIN_KEY) -> Any:
        return self.call("POST", path, body, key)[2]

    def call(
        self,
        method: str,
        path: str,
        body: Any,
        key: str | None = ADMIN_KEY,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str], Any]:
        """Status, headers and the decoded body, whatever the status is."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} | dict(headers or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.base_url + path, data=data, headers=sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, _lower(answer.headers), _decoded(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, _lower(error.headers), _decoded(error.read())

    def spendable(self, key: str = ADMIN_KEY) -> str:
        text: str = self.get("/user/balance", key)["spendable_usd"]
        return text

    def verify(self) -> None:
        """`gatewayz ledger verify` finds nothing."""
        done = self.cli("ledger", "verify", check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def clean_environ() -> dict[str, str]:
    """This process's environment without anything that would configure a gateway."""
    ours = ("GATEWAYZ_", "STRIPE_", "SMTP_", "PRIVY_", "OIDC_", "OTEL_")
    names = {"DATABASE_URL", "REDIS_URL", "ADMIN_API_KEY", "ADMIN_EMAIL", "HOST", "PORT", "PUBLIC_URL"}
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(ours) and name not in names and not name.endswith(("_API_KEY", "_BASE_URL"))
    }


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data


async def eventually(check: Any, timeout_s: float = 10.0) -> None:
    """Wait until `check()` no longer raises AssertionError."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            outcome = check()
            if asyncio.iscoroutine(outcome):
                await outcome
            return
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
