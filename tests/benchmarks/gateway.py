"""The gateway with everything on, beside a bare passthrough of the same run.

CPU is the operating system's own account of the measured process and its threads.  The two sides take turns in short
rounds and each one's best round counts, because whatever else the machine does only ever adds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from msgspec import Struct

from tests.benchmarks.load import Measured, request, rss_mib, run
from tests.benchmarks.rig import CHUNKS, IDLE_VENDORS, Rig
from tests.benchmarks.rows import Row, Wanted, at_most
from tests.e2e.processes import ADMIN_KEY, eventually
from tests.soak.orders import Act, Order

BODY = (
    b'{"model":"peer/model","messages":[{"role":"system","content":"You are a helpful assistant."},'
    b'{"role":"user","content":"What is the weather like in the mountains today?"}],"temperature":0.5%b}'
)
WHOLE = BODY % b""
STREAMED = BODY % b',"stream":true,"stream_options":{"include_usage":true}'
PATH = "/v1/chat/completions"
ACCOUNTS = 1_000
IDLE_STREAMS = 2_000
IDLE_KIB = 64
OPENED_AT_ONCE = 100


class Load(Struct, frozen=True):
    """One row that compares CPU: what is sent, by how many callers at once, how often, and its bar."""

    name: str
    body: bytes
    callers: int
    count: int
    bar: float | None = None

    @property
    def what(self) -> str:
        kind = f"stream of {CHUNKS} chunks, CPU per chunk" if self.body is STREAMED else "whole answer, CPU"
        return f"{kind}, {self.callers} caller{'s' * (self.callers > 1)}"


LATENCY = ("latency-p50", "latency-p99")
ON_SQLITE = (
    Load("sqlite-whole-16", WHOLE, 16, 1000, 4.0),
    Load("sqlite-whole-128", WHOLE, 128, 1500, 4.0),
    Load("sqlite-stream-16", STREAMED, 16, 64, 2.5),
)
IN_PRODUCTION = (
    Load("whole-1", WHOLE, 1, 200),
    Load("whole-16", WHOLE, 16, 1000, 4.0),
    Load("whole-128", WHOLE, 128, 1500, 2.5),
    Load("stream-1", STREAMED, 1, 20),
    Load("stream-16", STREAMED, 16, 64, 2.0),
    Load("stream-128", STREAMED, 128, 128, 2.0),
)
SQLITE_ROWS = ("sqlite-ready", "sqlite-memory", *(f"sqlite-{name}" for name in LATENCY), *(x.name for x in ON_SQLITE))
PRODUCTION_ROWS = (*LATENCY, *(load.name for load in IN_PRODUCTION), "accounts-1000", "idle-streams")


async def on_sqlite(rig: Rig, wanted: Wanted, rounds: int) -> AsyncIterator[Row]:
    await asyncio.sleep(1.5)
    idle_mib = rss_mib(rig.gateway.pid)
    if "sqlite-ready" in wanted:
        yield at_most("sqlite-ready", "start to ready", rig.ready_s, 2, "s")
    if "sqlite-memory" in wanted:
        yield at_most("sqlite-memory", "memory when ready", idle_mib, 180, "MiB")
    async for row in _compared(rig, wanted, ON_SQLITE, rounds, "sqlite-"):
        yield row


async def in_production(rig: Rig, wanted: Wanted, rounds: int) -> AsyncIterator[Row]:
    """On PostgreSQL and Redis."""
    async for row in _compared(rig, wanted, IN_PRODUCTION, rounds, ""):
        yield row
    if "accounts-1000" in wanted:
        yield await _one_account_and_many(rig, rounds)
    if "idle-streams" in wanted:
        yield await _idle_streams(rig)


async def _compared(rig: Rig, wanted: Wanted, loads: tuple[Load, ...], rounds: int, prefix: str) -> AsyncIterator[Row]:
    whole = [request(PATH, WHOLE, ADMIN_KEY)]
    for port, pid in ((rig.gateway.port, rig.gateway.pid), (rig.bare_port, rig.bare_pid)):
        await run(port, pid, whole, count=300, callers=16)
    if wanted.any_of(prefix + name for name in LATENCY):
        pairs = await _taking_turns(rig, Load("latency", WHOLE, 1, 200), rounds)
        for name, part, bar in zip(LATENCY, (0.5, 0.99), (5.0, 15.0), strict=True):
            added = min(ours.quantile_ms(part) - bare.quantile_ms(0.5) for bare, ours in pairs)
            if prefix + name in wanted:
                yield at_most(prefix + name, f"whole answer, 1 caller, added {name[-3:]}", added, bar, "ms")
    for load in loads:
        if load.name in wanted:
            yield _ratio(load, await _taking_turns(rig, load, rounds))


async def _taking_turns(rig: Rig, load: Load, rounds: int) -> list[tuple[Measured, Measured]]:
    sent = [request(PATH, load.body, ADMIN_KEY)]
    return [
        (
            await run(rig.bare_port, rig.bare_pid, sent, count=load.count, callers=load.callers),
            await run(rig.gateway.port, rig.gateway.pid, sent, count=load.count, callers=load.callers),
        )
        for _ in range(rounds)
    ]


def _ratio(load: Load, pairs: list[tuple[Measured, Measured]]) -> Row:
    per = CHUNKS if load.body is STREAMED else 1
    bare_us = min(bare.cpu_us for bare, _ in pairs) / per
    ours_us = min(ours.cpu_us for _, ours in pairs) / per
    fastest = max(ours.per_s for _, ours in pairs) * per
    failed = sum(ours.failed for _, ours in pairs)
    ratio = ours_us / bare_us
    seen = f"{ours_us:.1f} us / bare {bare_us:.1f} us = {ratio:.2f} x, {fastest:,.0f}/s"
    if failed:
        return Row(load.name, load.what, f"{seen}, {failed} FAILED", kept=False)
    if load.bar is None:
        return Row(load.name, load.what, seen)
    return Row(load.name, load.what, seen, f"<= {load.bar:g} x", ratio <= load.bar)


async def _one_account_and_many(rig: Rig, rounds: int) -> Row:
    """The throughput of 128 callers on one account and on a thousand, in turns."""
    one = [request(PATH, WHOLE, ADMIN_KEY)]
    many = [request(PATH, WHOLE, key) for key in _keys_of_new_accounts(rig, ACCOUNTS)]
    port, pid = rig.gateway.port, rig.gateway.pid
    # Each key is looked up once before it counts.
    await run(port, pid, many, count=ACCOUNTS, callers=32)
    turns = [
        [await run(port, pid, sent, count=2 * ACCOUNTS, callers=128) for sent in (one, many)] for _ in range(rounds)
    ]
    hot, spread = (max(turn[side].per_s for turn in turns) for side in (0, 1))
    failed = sum(measured.failed for turn in turns for measured in turn)
    seen = f"{hot:,.0f}/s / {spread:,.0f}/s = {hot / spread:.0%}" + (f", {failed} FAILED" if failed else "")
    return Row("accounts-1000", "one hot account / 1,000 accounts", seen, ">= 80 %", hot >= 0.8 * spread and not failed)


def _keys_of_new_accounts(rig: Rig, count: int) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.accounts", str(count)],
        cwd=rig.gateway.directory,
        env=rig.gateway.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
    )
    keys: list[str] = json.loads(done.stdout)
    return keys


async def _idle_streams(rig: Rig) -> Row:
    """What the gateway's memory grows by for each stream that has begun and waits for more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # Memory that was in use before, and what its allocator keeps, must not count.
    async with _open_streams(rig, OPENED_AT_ONCE):
        pass
    before = rss_mib(rig.gateway.pid)
    async with _open_streams(rig, IDLE_STREAMS):
        await asyncio.sleep(3)
        each = (rss_mib(rig.gateway.pid) - before) * 1024 / IDLE_STREAMS
    return at_most("idle-streams", f"{IDLE_STREAMS:,} idle streams, memory each", each, IDLE_KIB, "KiB")


@asynccontextmanager
async def _open_streams(rig: Rig, count: int) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for begin in range(0, count, OPENED_AT_ONCE):
            numbers = range(begin, min(begin + OPENED_AT_ONCE, count))
            await asyncio.gather(*(stack.enter_async_context(_one_stream(rig, number)) for number in numbers))
        yield
    await _nothing_runs(rig)


@asynccontextmanager
async def _one_stream(rig: Rig, number: int) -> AsyncIterator[None]:
    """Open from its first piece of content on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.gateway.port)
    try:
        silent = b"silent%d/model" % (number % IDLE_VENDORS)
        body = Order(Act.STALL, 1).body.replace(b"peer/model", silent)
        writer.write(request(PATH, body, ADMIN_KEY))
        await asyncio.wait_for(reader.readuntil(b"data: "), 30)
        yield
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _nothing_runs(rig: Rig) -> None:
    async def check() -> None:
        assert b"gatewayz_requests_running 0.0" in await asyncio.to_thread(rig.gateway.get, "/metrics")

    await eventually(check, 60)
