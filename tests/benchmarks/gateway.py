"""The gateway with everything on, beside a bare passthrough of the same run.

The measured process runs on one core, the load and the fake vendor on the other.  CPU is the operating system's own
account of the measured process and its threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.load import Measured, request, rss_mib, run
from tests.e2e.processes import ADMIN_KEY, ROOT, GatewayProcess, free_port

BODY = (
    b'{"model":"peer/model","messages":[{"role":"system","content":"You are a helpful assistant."},'
    b'{"role":"user","content":"What is the weather like in the mountains today?"}],"temperature":0.5%b}'
)
WHOLE = BODY % b""
STREAMED = BODY % b',"stream":true,"stream_options":{"include_usage":true}'
PATH = "/v1/chat/completions"
CHUNKS = 200
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


class Row:
    """One line of the table: a figure, its bar, and whether it was kept."""

    def __init__(self, what: str, seen: str, bar: str, kept: bool | None) -> None:
        self.what, self.seen, self.bar, self.kept = what, seen, bar, kept

    def __str__(self) -> str:
        verdict = {True: "ok", False: "MISSED", None: ""}[self.kept]
        return f"{self.what:<58} {self.seen:<44} {self.bar:<12} {verdict}"


async def measure(rounds: int = 3, **settings: str) -> list[Row]:
    """The table; `settings` choose the gateway's storage."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        upstream = stack.enter_context(_upstream())
        bare_port = free_port()
        bare = stack.enter_context(
            _process(
                "tests.benchmarks.bare",
                "--port",
                str(bare_port),
                "--upstream",
                f"http://127.0.0.1:{upstream}",
            )
        )
        vendors = f'[{{"slug":"peer","base_url":"http://127.0.0.1:{upstream}/v1","wire":"openai","models":["model"]}}]'
        gateway = GatewayProcess(Path(directory), GATEWAYZ_VENDORS=vendors, **WIDE, **settings)
        if "DATABASE_URL" in settings:
            gateway.cli("migrate")
        began = time.perf_counter()
        gateway.start()
        stack.callback(gateway.stop)
        ready_s = time.perf_counter() - began
        gateway.cli("prices", "set", "peer/model", "--vendor", "peer", "--input", "0.50", "--output", "1.50")
        gateway.cli("credits", "grant", "admin", "1000000", "--reason", "benchmark")
        await asyncio.sleep(1.5)
        idle_mib = rss_mib(gateway.pid)
        with _pinned({bare.pid: 0, gateway.pid: 0}):
            rows = [
                Row("start to ready", f"{ready_s:.2f} s", "<= 2 s", ready_s <= 2),
                Row("memory when ready", f"{idle_mib:.0f} MiB", "<= 180 MiB", idle_mib <= 180),
            ]
            rows += await _compare(bare_port, bare.pid, gateway, rounds)
        gateway.verify()
        return rows


async def _compare(bare_port: int, bare_pid: int, gateway: GatewayProcess, rounds: int) -> list[Row]:
    rows: list[Row] = []
    whole = [request(PATH, WHOLE, ADMIN_KEY)]
    streamed = [request(PATH, STREAMED, ADMIN_KEY)]
    await run(gateway.port, gateway.pid, whole, count=300, callers=8)
    await run(bare_port, bare_pid, whole, count=300, callers=8)
    for callers, count, bar in ((1, 400, None), (16, 3000, 4.0), (128, 4000, 4.0)):
        pairs = [
            (
                await run(bare_port, bare_pid, whole, count=count, callers=callers),
                await run(gateway.port, gateway.pid, whole, count=count, callers=callers),
            )
            for _ in range(rounds)
        ]
        rows.append(_ratio(f"whole answers, {callers} callers: CPU per request", pairs, bar))
        if callers == 1:
            added = sorted(g.quantile_ms(0.5) - b.quantile_ms(0.5) for b, g in pairs)[rounds // 2]
            late = sorted(g.quantile_ms(0.99) - b.quantile_ms(0.5) for b, g in pairs)[rounds // 2]
            rows.append(Row("whole answers, 1 caller: added latency p50", f"{added:.2f} ms", "<= 5 ms", added <= 5))
            rows.append(Row("whole answers, 1 caller: added latency p99", f"{late:.2f} ms", "<= 15 ms", late <= 15))
    pairs = [
        (
            await run(bare_port, bare_pid, streamed, count=150, callers=8),
            await run(gateway.port, gateway.pid, streamed, count=150, callers=8),
        )
        for _ in range(rounds)
    ]
    rows.append(_ratio(f"streams of {CHUNKS} chunks, 8 callers: CPU per stream", pairs, 2.5))
    return rows


def _ratio(what: str, pairs: list[tuple[Measured, Measured]], bar: float | None) -> Row:
    """The median of the ratios of each round, because the machine's speed drifts between rounds."""
    bare, gateway = sorted(pairs, key=lambda pair: pair[1].cpu_us / pair[0].cpu_us)[len(pairs) // 2]
    ratio = gateway.cpu_us / bare.cpu_us
    failed = sum(measured.failed for _, measured in pairs)
    seen = f"{gateway.cpu_us:.0f} us / bare {bare.cpu_us:.0f} us = {ratio:.2f} x, {gateway.per_s:.0f}/s"
    kept = (ratio <= bar and not failed) if bar is not None else None
    return Row(what, seen + (f", {failed} FAILED" if failed else ""), f"<= {bar:g} x" if bar else "", kept)


@contextlib.contextmanager
def _process(module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def _upstream() -> Iterator[int]:
    with _process("tests.fakes.upstream", "--port", "0", "--chunks", str(CHUNKS)) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


@contextlib.contextmanager
def _pinned(cores: dict[int, int]) -> Iterator[None]:
    """Each measured process on its core, with all its threads, and this one on the other."""
    before = os.sched_getaffinity(0)
    if len(before) > 1:
        for pid, core in cores.items():
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {core})
        os.sched_setaffinity(0, before - set(cores.values()))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
