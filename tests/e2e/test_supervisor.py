"""Several workers behind one socket: they come and go, and no client notices."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from anyio import to_thread

from tests.e2e.conftest import WIDE_LIMITS, tell
from tests.e2e.processes import ADMIN_KEY, GatewayProcess, eventually

pytestmark = [pytest.mark.anyio, pytest.mark.fault]

WORKERS = 2
DRAIN_S = 3
PATH = "/v1/chat/completions"


class SupervisedGateway(GatewayProcess):
    def workers(self) -> set[int]:
        children = map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split())
        return {pid for pid in children if b"entrypoints.supervisor.process" in command_of(pid)}

    def numbers(self) -> dict[str, float]:
        """Every number of /metrics, by its name with labels."""
        with httpx.Client(verify=False) as http:
            text = http.get(f"{self.base_url}/metrics").raise_for_status().text
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    async def has_workers(self, check: Callable[[set[int]], bool], timeout_s: float = 30.0) -> float:
        """Waits for it; returns the least number of workers that served meanwhile."""
        served: list[float] = []

        async def checked() -> None:
            served.append((await to_thread.run_sync(self.numbers))["gatewayz_workers"])
            assert served[-1] == WORKERS
            assert check(self.workers()), self.workers()

        await eventually(checked, timeout_s)
        return min(served)

    async def has_replaced(self, before: set[int]) -> float:
        """As `has_workers`, once none of those is left."""
        return await self.has_workers(lambda workers: not workers & before and len(workers) == WORKERS, 90.0)

    async def second_worker(self) -> int:
        """As soon as there is one, and before it has read its settings."""

        def started() -> None:
            assert len(self.workers()) == WORKERS

        await eventually(started, 20.0)
        return max(self.workers())

    async def ends(self) -> int:
        """The exit status."""
        assert self.process is not None
        return await to_thread.run_sync(self.process.wait, 40)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SupervisedGateway]:
    with running(tmp_path_factory.mktemp("supervised")) as gateway:
        yield gateway
        assert "Traceback" not in gateway.log.read_text()


@pytest.fixture
def own_gateway(tmp_path: Path) -> Iterator[SupervisedGateway]:
    """For a test that ends it."""
    with running(tmp_path) as gateway:
        yield gateway


@contextmanager
def running(directory: Path, workers: int = WORKERS, *, wait: bool = True) -> Iterator[SupervisedGateway]:
    settings = {"GATEWAYZ_WORKERS": str(workers), "GATEWAYZ_DRAIN_SECONDS": str(DRAIN_S)}
    gateway = SupervisedGateway(directory, **WIDE_LIMITS | settings)
    gateway.start(wait=wait)
    try:
        yield gateway
    finally:
        gateway.stop()


async def test_workers_serve_on_one_socket_and_count_together(gateway: SupervisedGateway) -> None:
    assert len(gateway.workers()) == WORKERS
    before = answered(gateway.numbers())
    await asyncio.gather(*(chat(gateway, "sandbox/echo", "one two") for _ in range(40)))
    # Whichever worker is asked, the answer is that of all.
    for _ in range(6):
        assert answered(gateway.numbers()) - before == 40


async def test_a_killed_worker_is_replaced_while_the_other_serves(gateway: SupervisedGateway) -> None:
    await chat(gateway, "sandbox/echo", "one two")
    before, numbers = gateway.workers(), gateway.numbers()
    victim = min(before)

    os.kill(victim, signal.SIGKILL)

    for _ in range(20):
        await chat(gateway, "sandbox/echo", "one two")
        seen = gateway.numbers()
        steps_back = [name for name in counters(numbers) if seen.get(name, 0.0) < numbers[name]]
        assert steps_back == []
        numbers = seen
    await gateway.has_workers(lambda workers: victim not in workers and len(workers) == WORKERS)
    assert gateway.workers() & before
    assert gateway.numbers()["gatewayz_worker_crashes_total"] == numbers["gatewayz_worker_crashes_total"] == 1


@pytest.mark.parametrize(("times", "each"), [(1, 3), pytest.param(5, 6, marks=pytest.mark.fault_campaign)])
async def test_replacing_all_workers_fails_no_request_and_breaks_no_stream(
    gateway: SupervisedGateway, times: int, each: int
) -> None:
    # The gateway was taken for ready when the first of them was.
    await gateway.has_workers(lambda workers: len(workers) == WORKERS, 90.0)
    load = Load(gateway)
    counted = answered(gateway.numbers())
    clients = [client for client in (load.fresh_connections, load.one_connection, load.streams) for _ in range(each)]
    tasks = [asyncio.create_task(load.repeat(client)) for client in clients]
    await asyncio.sleep(0.5)

    for _ in range(times):
        before = gateway.workers()
        os.kill(gateway.pid, signal.SIGHUP)
        served = await gateway.has_replaced(before)
        assert served == WORKERS, "a worker stopped before its successor was ready"
        await asyncio.sleep(0.3)
    load.over = True
    await asyncio.gather(*tasks)

    tell(f"{load.whole} requests and {load.streamed} streams, {len(load.failures)} failed")
    assert load.failures == []
    assert load.whole > 50
    assert load.streamed > 5
    # What the old workers counted is not lost with them.
    assert answered(gateway.numbers()) - counted == load.whole + load.streamed


async def test_keep_alive_requests_are_as_fast_as_with_one_process(gateway: SupervisedGateway, tmp_path: Path) -> None:
    with running(tmp_path, workers=1) as plain, ExitStack() as stack:
        connections = [stack.enter_context(connected(one)) for one in (plain, gateway)]
        seconds: list[list[float]] = [[], []]
        for _ in range(10):
            for connection, took in zip(connections, seconds, strict=True):
                took += [timed(connection) for _ in range(20)]
    alone, supervised = (statistics.median(took) for took in seconds)
    assert supervised <= 2 * alone


async def test_a_stop_lets_requests_finish_and_ends_long_streams_in_their_dialect(
    own_gateway: SupervisedGateway,
) -> None:
    words = " ".join(["word"] * 60)
    async with client_of(own_gateway) as idle:
        assert (await idle.get("/health/ready")).status_code == 200
        short = [asyncio.create_task(stream(own_gateway, "one two three four five")) for _ in range(6)]
        long = [asyncio.create_task(stream(own_gateway, words)) for _ in range(6)]
        whole = [asyncio.create_task(chat(own_gateway, "sandbox/stall", "1s")) for _ in range(4)]
        await asyncio.sleep(0.6)

        stopping = time.monotonic()
        os.kill(own_gateway.pid, signal.SIGTERM)

        await asyncio.sleep(0.2)
        unready = await idle.get("/health/ready")
        assert (unready.status_code, unready.json()["status"]) == (503, "draining")
        assert unready.headers["connection"] == "close"
        with pytest.raises(httpx.ConnectError):
            await idle.get("/health")
        await asyncio.gather(*whole)
        assert all(body.endswith(b"data: [DONE]\n\n") for body in await asyncio.gather(*short))
        for body in await asyncio.gather(*long):
            last = json.loads(body.rstrip().rpartition(b"data: ")[2])
            assert last["error"]["code"] == "gateway_stopping"
        status = await to_thread.run_sync(own_gateway.stop)
    took = time.monotonic() - stopping
    assert status == 0
    assert DRAIN_S - 0.5 < took < DRAIN_S + 2
    assert "Traceback" not in own_gateway.log.read_text()


async def test_workers_do_not_outlive_their_supervisor(own_gateway: SupervisedGateway) -> None:
    workers = own_gateway.workers()
    own_gateway.kill()

    def ended() -> None:
        assert not any(map(command_of, workers))

    await eventually(ended)
    with pytest.raises(ConnectionRefusedError), connected(own_gateway):
        pass


async def test_broken_settings_change_nothing_for_those_that_serve(own_gateway: SupervisedGateway) -> None:
    await own_gateway.has_workers(lambda workers: len(workers) == WORKERS)
    before = own_gateway.workers()
    settings = own_gateway.directory / ".env"
    settings.write_text("GATEWAYZ_LIMIT_BURTS=7\n")

    os.kill(own_gateway.pid, signal.SIGHUP)

    def refused() -> None:
        assert "replacing stopped" in own_gateway.log.read_text()
        assert own_gateway.workers() == before

    await eventually(refused, 20.0)
    assert "Did you mean GATEWAYZ_LIMIT_BURST?" in own_gateway.log.read_text()
    assert own_gateway.numbers()["gatewayz_workers"] == WORKERS

    for worker in before:
        os.kill(worker, signal.SIGKILL)
    # Nobody is left who could serve, so that whoever started the gateway should know.
    assert await own_gateway.ends() == 78


async def test_a_worker_that_was_still_starting_when_settings_broke_does_not_end_the_other(tmp_path: Path) -> None:
    with running(tmp_path, wait=False) as gateway:
        slow = await gateway.second_worker()
        os.kill(slow, signal.SIGSTOP)
        await to_thread.run_sync(gateway.wait_ready)
        settings = gateway.directory / ".env"
        settings.write_text("GATEWAYZ_LIMIT_BURTS=7\n")
        os.kill(slow, signal.SIGCONT)

        def told() -> None:
            assert "the others go on" in gateway.log.read_text()

        await eventually(told, 30.0)
        assert gateway.call("GET", "/health/ready", None)[0] == 200
        assert gateway.numbers()["gatewayz_workers"] == 1

        settings.unlink()
        await gateway.has_workers(lambda workers: len(workers) == WORKERS)


async def test_a_worker_that_keeps_crashing_ends_the_gateway(own_gateway: SupervisedGateway) -> None:
    await own_gateway.has_workers(lambda workers: len(workers) == WORKERS)
    healthy = min(own_gateway.workers())
    deadline = time.monotonic() + 30
    while own_gateway.log.read_text().count("worker crashed") < 5 and time.monotonic() < deadline:
        for worker in own_gateway.workers() - {healthy}:
            os.kill(worker, signal.SIGKILL)
        await asyncio.sleep(0.05)
    assert await own_gateway.ends() == 70
    assert own_gateway.log.read_text().count("worker crashed") == 5


@dataclass
class Load:
    """Clients that ask again and again, each in its own way."""

    gateway: SupervisedGateway
    over: bool = False
    whole: int = 0
    streamed: int = 0
    failures: list[str] = field(default_factory=list)

    async def repeat(self, client: Callable[[], Awaitable[None]]) -> None:
        while not self.over:
            try:
                await client()
            except Exception as error:
                self.failures.append(repr(error))

    async def fresh_connections(self) -> None:
        await chat(self.gateway, "sandbox/echo", "one two")
        self.whole += 1

    async def one_connection(self) -> None:
        async with client_of(self.gateway) as http:
            while not self.over:
                answer = await http.post(PATH, json=body_of("sandbox/echo", "one two"))
                assert answer.status_code == 200, answer.text
                self.whole += 1
                await asyncio.sleep(0.01)

    async def streams(self) -> None:
        body = await stream(self.gateway, "one two three four five six")
        assert body.endswith(b"data: [DONE]\n\n"), body[-300:]
        assert body.count(b"six") == 1
        self.streamed += 1


def client_of(gateway: SupervisedGateway) -> httpx.AsyncClient:
    # Reading certificates would take longer than a request.
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    return httpx.AsyncClient(base_url=gateway.base_url, headers=headers, timeout=60, verify=False)


async def chat(gateway: SupervisedGateway, model: str, text: str) -> None:
    async with client_of(gateway) as http:
        answer = await http.post(PATH, json=body_of(model, text))
    assert answer.status_code == 200, answer.text


async def stream(gateway: SupervisedGateway, text: str) -> bytes:
    body = body_of("sandbox/slow", text) | {"stream": True}
    async with client_of(gateway) as http:
        answer = await http.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    return answer.content


def body_of(model: str, text: str) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


def answered(numbers: dict[str, float]) -> float:
    return sum(value for name, value in numbers.items() if name.startswith("gatewayz_requests_total{"))


def counters(numbers: dict[str, float]) -> list[str]:
    return [name for name in numbers if name.partition("{")[0].endswith(("_total", "_count", "_sum", "_bucket"))]


@contextmanager
def connected(gateway: GatewayProcess) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(10):
            timed(connection)
        yield connection


def timed(connection: socket.socket) -> float:
    """Seconds for one request on a connection that stays open."""
    began = time.perf_counter()
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: gateway\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200")
    return time.perf_counter() - began


def command_of(pid: int) -> bytes:
    """Empty where there is no such process any more."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
