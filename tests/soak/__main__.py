"""`make soak`: a million mixed requests against one gateway process on PostgreSQL and Redis, and then the reckoning.

Of a hundred callers five leave early, and one meets a vendor's fault.  At the end every nano-dollar that was charged
must be explained by what the vendor served, no hold may be left, and neither memory nor open files may have grown.  It
stops by itself; `make soak ARGS="--requests 20000"`, or SOAK_REQUESTS, makes it shorter.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
import uvloop
from msgspec import Struct

from tests import services
from tests.benchmarks.load import open_files, rss_mib
from tests.benchmarks.rig import WIDE, upstream, vendors
from tests.e2e.processes import ADMIN_KEY, GatewayProcess, eventually
from tests.soak.load import Load
from tests.soak.orders import PROMPT_TOKENS, Act

REQUESTS = 1_000_000
CALLERS = 32
INPUT_NANOS, OUTPUT_NANOS = 500, 1_500
"""For one token, at $0.50 and $1.50 for a million."""
SAMPLE_S = 1.0
WARM_UP_S = 600.0
WARM_UP_PART = 0.3
"""Of a run too short for the whole warm-up."""
JUDGED_S = 600.0
"""A slope of memory says nothing of a shorter time."""
SLOPE_MIB = 1.0
GROWTH_MIB = 16.0
"""What a run too short for a slope may grow by: buffers and caches fill up, a leak of every request does more."""
FILES_MORE = 16
SLOWEST_PER_S = 50
"""A run that is slower is given up."""
CHARGED = """
SELECT (SELECT coalesce(sum(charged), 0)::int8 FROM credit_accounts) AS charged,
    (SELECT coalesce(sum(cost_nanos), 0)::int8 FROM generations) AS recorded,
    (SELECT coalesce(sum(held), 0)::int8 FROM credit_accounts) AS held,
    (SELECT count(*) FROM holds WHERE state = 'open') AS open_holds,
    (SELECT count(*) FROM generations) AS generations
"""


class Sample(Struct, frozen=True):
    at_s: float
    rss_mib: float
    files: int


class Check(Struct, frozen=True):
    what: str
    seen: str
    kept: bool

    def __str__(self) -> str:
        return f"{self.what:<44} {self.seen:<60} {'ok' if self.kept else 'MISSED'}"


async def soak(requests: int, callers: int) -> list[Check]:
    with ExitStack() as stack:
        server = stack.enter_context(services.postgres())
        database = stack.enter_context(services.postgres_database(server, f"gatewayz_soak_{os.getpid()}"))
        redis = stack.enter_context(services.redis())
        vendor, _ = stack.enter_context(upstream(module="tests.soak.vendor"))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gateway = GatewayProcess(
            directory, GATEWAYZ_VENDORS=vendors({"peer": vendor}), DATABASE_URL=database, REDIS_URL=redis, **WIDE
        )
        gateway.cli("migrate")
        gateway.start()
        stack.callback(gateway.stop)
        gateway.cli("prices", "set", "peer/model", "--vendor", "peer", "--input", "0.50", "--output", "1.50")
        gateway.cli("credits", "grant", "admin", "1000000", "--reason", "soak")
        await asyncio.sleep(1.5)
        load = Load(gateway.port, ADMIN_KEY, requests)
        samples, began = await _watched(load, gateway, requests, callers)
        seconds = time.monotonic() - began
        charged = await _settled(database)
        tally = await asyncio.to_thread(_tally, vendor)
        print(f"{load.done:,} requests in {seconds:,.0f} s, {load.done / seconds:,.0f}/s; {dict(load.sent)}")
        verified = gateway.cli("ledger", "verify", check=False)
        return [
            Check("answers not as ordered", f"{load.surprised} {load.surprises or ''}", not load.surprised),
            _served(load, tally),
            *_money(load, tally, charged),
            Check("ledger verify", (verified.stdout + verified.stderr).strip()[-60:], not verified.returncode),
            *_growth(samples),
        ]


async def _watched(load: Load, gateway: GatewayProcess, requests: int, callers: int) -> tuple[Sequence[Sample], float]:
    """Run the load; what the gateway used each second, and when it began."""
    samples: list[Sample] = []
    began = time.monotonic()
    running = asyncio.create_task(load.run(callers))
    told = 0
    async with asyncio.timeout(60 + requests / SLOWEST_PER_S):
        while not running.done():
            await asyncio.wait([running], timeout=SAMPLE_S)
            samples.append(Sample(time.monotonic() - began, rss_mib(gateway.pid), open_files(gateway.pid)))
            if load.done * 10 // requests > told:
                told = load.done * 10 // requests
                print(f"{told * 10:3} %  {samples[-1].rss_mib:.1f} MiB, {samples[-1].files} files", flush=True)
    await running
    return samples, began


async def _settled(database: str) -> dict[str, Any]:
    """What was charged, once no hold is left or their leases must have ended."""
    connection = await asyncpg.connect(services.asyncpg_dsn(database))
    row: dict[str, Any] = {}

    async def check() -> None:
        nonlocal row
        (found,) = await connection.fetch(CHARGED)
        row = dict(found)
        assert not row["open_holds"]

    try:
        await eventually(check, 120)
    except AssertionError:
        # Told below.
        pass
    finally:
        await connection.close()
    return row


def _tally(port: int) -> dict[str, int]:
    """The vendor's own count of what it has served: requests and tokens by act."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/tally", timeout=10) as answer:
        counts: dict[str, int] = json.loads(answer.read())
    return counts


def _served(load: Load, tally: dict[str, int]) -> Check:
    """The vendor served each order once, and all that was ordered."""
    acts = (Act.ANSWER, Act.STREAM, Act.STALL)
    ordered = {act.value: load.sent[act] for act in acts}
    served = {act.value: tally.get(f"{act}_requests", 0) for act in acts}
    return Check("served by the vendor", f"{served}", served == ordered)


def _money(load: Load, tally: dict[str, int], charged: dict[str, Any]) -> list[Check]:
    """Charges beside what the vendor's own count of its tokens must cost.

    Whole answers and streams cost what their usage says, a stream whose caller left what it had produced by then and
    the estimate of its prompt, everything else nothing.
    """
    told = [Act.ANSWER, Act.STREAM]
    prompt = sum(tally.get(f"{act}_requests", 0) for act in told) * PROMPT_TOKENS + load.stalled_prompt_tokens
    output = sum(tally.get(f"{act}_tokens", 0) for act in (*told, Act.STALL))
    expected = prompt * INPUT_NANOS + output * OUTPUT_NANOS
    unexplained = charged["charged"] - expected
    return [
        Check(
            "unexplained nano-dollars",
            f"{unexplained} of {charged['charged']:,} charged",
            unexplained == 0 and charged["recorded"] == charged["charged"],
        ),
        _recorded(load, charged["generations"]),
        Check(
            "holds left, nano-dollars held",
            f"{charged['open_holds']}, {charged['held']}",
            not charged["open_holds"] and not charged["held"],
        ),
    ]


def _recorded(load: Load, records: int) -> Check:
    """Each request has its record, but for callers who left before their hold was there."""
    least = load.done - load.sent[Act.HANG]
    return Check("records of requests", f"{records:,} of {load.done:,}", least <= records <= load.done)


def _growth(samples: Sequence[Sample]) -> list[Check]:
    warm_s = min(WARM_UP_S, samples[-1].at_s * WARM_UP_PART)
    warm = [sample for sample in samples if sample.at_s >= warm_s]
    third = max(1, len(warm) // 3)
    first, last = warm[:third], warm[-third:]
    grown = median(sample.rss_mib for sample in last) - median(sample.rss_mib for sample in first)
    slope = _slope(warm) * 600
    seen = f"{slope:+.2f} MiB per 10 min, {grown:+.1f} MiB, {samples[-1].rss_mib:.0f} MiB at the end"
    if warm[-1].at_s - warm[0].at_s >= JUDGED_S:
        memory = Check("memory after warm-up, <= 1 MiB per 10 min", seen, slope <= SLOPE_MIB)
    else:
        memory = Check(f"memory; too short for a slope, <= {GROWTH_MIB:.0f} MiB", seen, grown <= GROWTH_MIB)
    files = [round(median(sample.files for sample in part)) for part in (first, last)]
    return [memory, Check("open files, first and last", f"{files[0]}, {files[1]}", files[1] <= files[0] + FILES_MORE)]


def _slope(samples: Sequence[Sample]) -> float:
    """MiB per second, by least squares."""
    count = len(samples)
    mean_s = sum(sample.at_s for sample in samples) / count
    mean_mib = sum(sample.rss_mib for sample in samples) / count
    spread = sum((sample.at_s - mean_s) ** 2 for sample in samples)
    together = sum((sample.at_s - mean_s) * (sample.rss_mib - mean_mib) for sample in samples)
    return together / spread if spread else 0.0


def main() -> int:
    arguments = argparse.ArgumentParser(prog="make soak ARGS=...", description=__doc__)
    arguments.add_argument("--requests", type=int, default=int(os.environ.get("SOAK_REQUESTS", REQUESTS)))
    arguments.add_argument("--callers", type=int, default=CALLERS, help="connections at once")
    chosen = arguments.parse_args()
    try:
        checks = uvloop.run(soak(chosen.requests, chosen.callers))
    except services.ServiceMissing as missing:
        print(missing, file=sys.stderr)
        return 1
    for check in checks:
        print(check)
    return int(not all(check.kept for check in checks))


if __name__ == "__main__":
    sys.exit(main())
