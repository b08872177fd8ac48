"""A gateway, a bare passthrough and their fake vendor, each a process of its own and on its core."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from tests.e2e.processes import ROOT, GatewayProcess, free_port

CHUNKS = 200
IDLE_VENDORS = 3
"""Streams that idle are spread over so many vendors, because one vendor is never given all of them."""
MEASURED_CORE = 0
WIDE = {
    "GATEWAYZ_LIMIT_REQUESTS_PER_MINUTE": "100000000",
    "GATEWAYZ_LIMIT_REQUESTS_PER_HOUR": "1000000000",
    "GATEWAYZ_LIMIT_REQUESTS_PER_DAY": "1000000000",
    "GATEWAYZ_LIMIT_TOKENS_PER_MINUTE": "100000000000",
    "GATEWAYZ_LIMIT_TOKENS_PER_DAY": "1000000000000",
    "GATEWAYZ_LIMIT_BURST": "10000000",
    "GATEWAYZ_LIMIT_CONCURRENT": "100000",
}
"""Limits that never bite, but are counted all the same."""


class Rig(Struct, frozen=True):
    gateway: GatewayProcess
    ready_s: float
    bare_port: int
    bare_pid: int


@contextlib.contextmanager
def rig(**settings: str) -> Iterator[Rig]:
    """Everything started, priced and funded; `settings` choose the gateway's storage.

    The measured processes have one core to themselves as far as this benchmark decides it, the load and the fake
    vendors the others.  Database and Redis run where the system puts them.
    """
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        busy, busy_pid = stack.enter_context(upstream("--chunks", str(CHUNKS)))
        silent, silent_pid = stack.enter_context(upstream(module="tests.soak.vendor"))
        bare_port = free_port()
        bare = stack.enter_context(
            process("tests.benchmarks.bare", "--port", str(bare_port), "--upstream", f"http://127.0.0.1:{busy}")
        )
        slugs = {"peer": busy} | {f"silent{number}": silent for number in range(IDLE_VENDORS)}
        gateway = GatewayProcess(Path(directory), GATEWAYZ_VENDORS=vendors(slugs), **WIDE, **settings)
        if "DATABASE_URL" in settings:
            gateway.cli("migrate")
        began = time.perf_counter()
        gateway.start()
        stack.callback(gateway.stop)
        ready_s = time.perf_counter() - began
        for slug in slugs:
            gateway.cli("prices", "set", f"{slug}/model", "--vendor", slug, "--input", "0.50", "--output", "1.50")
        gateway.cli("credits", "grant", "admin", "1000000", "--reason", "benchmark")
        with _apart([bare.pid, gateway.pid], [busy_pid, silent_pid]):
            yield Rig(gateway, ready_s, bare_port, bare.pid)
        gateway.verify()


def vendors(ports: dict[str, int]) -> str:
    """GATEWAYZ_VENDORS for fake vendors on these ports, each with one model called `<slug>/model`."""
    rows = [
        f'{{"slug":"{slug}","base_url":"http://127.0.0.1:{port}/v1","wire":"openai","models":["model"]}}'
        for slug, port in ports.items()
    ]
    return f"[{','.join(rows)}]"


@contextlib.contextmanager
def process(module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m module`, ended with this context; its output is read by whoever started it."""
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as running:
        try:
            yield running
        finally:
            running.terminate()


@contextlib.contextmanager
def upstream(*arguments: str, module: str = "tests.fakes.upstream") -> Iterator[tuple[int, int]]:
    """The port and the process id of a fake vendor that prints its port."""
    with process(module, *arguments) as running:
        assert running.stdout is not None
        yield int(running.stdout.readline()), running.pid


@contextlib.contextmanager
def _apart(measured: list[int], others: list[int]) -> Iterator[None]:
    """The measured processes, with all their threads, on one core; the other ones and this one on the rest."""
    before = os.sched_getaffinity(0)
    rest = before - {MEASURED_CORE}
    if MEASURED_CORE in before and rest:
        for pids, cores in ((measured, {MEASURED_CORE}), (others, rest)):
            for thread in (thread for pid in pids for thread in Path(f"/proc/{pid}/task").iterdir()):
                os.sched_setaffinity(int(thread.name), cores)
        os.sched_setaffinity(0, rest)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
