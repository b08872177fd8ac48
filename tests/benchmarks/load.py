"""A load generator that costs little: raw sockets, keep-alive, one protocol object per connection."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
AFTERWORK_S = 0.1
"""What a request leaves to be done after its answer, such as settling, is part of its cost."""


@dataclass
class Measured:
    """What one run saw."""

    requests: int = 0
    failed: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)

    @property
    def cpu_us(self) -> float:
        """CPU of the measured process per request."""
        return self.cpu_s / max(1, self.requests) * 1e6

    @property
    def per_s(self) -> float:
        return self.requests / self.seconds if self.seconds else 0.0

    def quantile_ms(self, part: float) -> float:
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


def cpu_s(pid: int) -> float:
    """User and system time of a process's threads so far, to the nanosecond where the kernel counts it."""
    try:
        counted = [
            int(task.joinpath("schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()
        ]
    except FileNotFoundError:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return sum(counted) / 1e9


def rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def run(port: int, pid: int, requests: list[bytes], *, count: int, callers: int) -> Measured:
    """Send `count` requests, taken in turn from `requests`, over `callers` connections; measure process `pid`."""
    measured = Measured()
    left = iter(range(count))
    start_cpu, start = cpu_s(pid), time.perf_counter()

    async def caller() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for number in left:
                began = time.perf_counter()
                writer.write(requests[number % len(requests)])
                ok = await _answer(reader)
                measured.latencies_ms.append((time.perf_counter() - began) * 1000)
                measured.requests += 1
                measured.failed += not ok
        finally:
            writer.close()

    await asyncio.gather(*(caller() for _ in range(callers)))
    measured.seconds = time.perf_counter() - start
    await asyncio.sleep(AFTERWORK_S)
    measured.cpu_s = cpu_s(pid) - start_cpu
    return measured


async def _answer(reader: asyncio.StreamReader) -> bool:
    """Read one answer to its end, with a length or in chunks; True for status 200."""
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    at = lower.find(b"content-length:")
    if at >= 0:
        await reader.readexactly(int(lower[at + 15 : lower.index(b"\r\n", at)]))
    else:
        tail = b""
        while not tail.endswith(b"0\r\n\r\n"):
            data = await reader.read(1 << 16)
            if not data:
                return False
            tail = (tail + data)[-64:]
    return head.startswith(b"HTTP/1.1 200")


def request(path: str, body: bytes, key: str) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
