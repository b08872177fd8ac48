"""Every fault of the toxic proxy, felt through plain sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Self

import pytest

from tests.faults.toxic_proxy import ToxicProxy

pytestmark = pytest.mark.anyio

HOST = "127.0.0.1"
SILENCE_S = 0.15
"""Long enough to believe that nothing will come."""
TIMERS_EARLY_S = 0.005
"""How much too soon a timer may fire."""


class Echo:
    """Returns what it gets, and notes how each client left."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.ends: list[str] = []
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(2**16):
                self.received += data
                writer.write(data)
                await writer.drain()
            self.ends.append("fin")
            writer.write(b"bye")
        except ConnectionResetError:
            self.ends.append("rst")
        finally:
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with Echo() as server:
        yield server


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[ToxicProxy]:
    async with ToxicProxy(HOST, echo.port) as proxy:
        yield proxy


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hears(self, size: int, timeout_s: float = 5.0) -> bytes:
        async with asyncio.timeout(timeout_s):
            return await self.reader.readexactly(size)

    async def hears_nothing(self) -> bool:
        try:
            await self.hears(1, SILENCE_S)
        except TimeoutError:
            return True
        return False


Connect = Callable[[ToxicProxy], Awaitable[Client]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    clients: list[Client] = []

    async def connect(proxy: ToxicProxy) -> Client:
        clients.append(Client(*await asyncio.open_connection(HOST, proxy.port)))
        return clients[-1]

    yield connect
    for client in clients:
        client.writer.transport.abort()
    await asyncio.sleep(0)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what happens to a socket elsewhere sets no event here
            await asyncio.sleep(0.005)


async def test_a_healthy_proxy_is_not_noticed(proxy: ToxicProxy, echo: Echo, connect: Connect) -> None:
    client = await connect(proxy)
    payload = bytes(range(256)) * 4096
    asyncio.get_running_loop().call_soon(client.writer.write, payload)
    assert await client.hears(len(payload)) == payload
    assert proxy.bytes_passed == {"up": len(payload), "down": len(payload)}
    assert (proxy.accepted, proxy.open_connections) == (1, 1)
    client.writer.write_eof()
    assert await client.reader.read() == b"bye"
    await until(lambda: proxy.open_connections == 0)
    assert echo.ends == ["fin"]


async def test_a_healthy_proxy_holds_no_small_piece_back(proxy: ToxicProxy, connect: Connect) -> None:
    client = await connect(proxy)
    await proxy.slicing(1)
    took = []
    for _ in range(10):
        began = time.monotonic()
        await client.say(b"xyz")
        await client.hears(3)
        took.append(time.monotonic() - began)
    assert sorted(took)[1] < 0.03  # Only the very first exchange is spared the delay.


async def test_a_clients_reset_reaches_the_target_as_a_reset(proxy: ToxicProxy, echo: Echo, connect: Connect) -> None:
    client = await connect(proxy)
    await client.say(b"x")
    await client.hears(1)
    ours = client.writer.get_extra_info("socket")
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()
    await until(lambda: echo.ends == ["rst"])
    assert proxy.open_connections == 0


async def test_latency_delays_both_ways(proxy: ToxicProxy, connect: Connect) -> None:
    client = await connect(proxy)
    await proxy.latency(0.1)
    began = time.monotonic()
    await client.say(b"x")
    await client.hears(1)
    assert 0.2 - TIMERS_EARLY_S <= time.monotonic() - began < 0.6


async def test_latency_does_not_thin_a_stream(proxy: ToxicProxy, connect: Connect) -> None:
    client = await connect(proxy)
    await proxy.latency(0.1, directions=["up"])
    began = time.monotonic()
    for _ in range(50):
        await client.say(b"x" * 1000)
        await asyncio.sleep(0.002)
    await client.hears(50_000)
    assert 0.1 - TIMERS_EARLY_S <= time.monotonic() - began < 2.5


async def test_jitter_is_the_same_every_time(echo: Echo, connect: Connect) -> None:
    async def measured() -> list[float]:
        async with ToxicProxy(HOST, echo.port) as proxy:
            client = await connect(proxy)
            await proxy.latency(0.0, jitter_s=0.08, directions=["up"])
            delays = []
            for _ in range(5):
                began = time.monotonic()
                await client.say(b"x")
                await client.hears(1)
                delays.append(time.monotonic() - began)
            return delays

    expected = [0.0, 0.08, 0.04, 0.06, 0.02]
    for delays in (await measured(), await measured()):
        late = [delay - due for delay, due in zip(delays, expected, strict=True)]
        assert all(-TIMERS_EARLY_S <= lateness < 0.3 for lateness in late)


async def test_bandwidth_is_what_was_set(proxy: ToxicProxy, connect: Connect) -> None:
    client = await connect(proxy)
    await proxy.bandwidth(20_000, directions=["down"])
    began = time.monotonic()
    await client.say(b"x" * 6_000)
    await client.hears(6_000)
    assert 0.3 - TIMERS_EARLY_S <= time.monotonic() - began < 1


async def test_slices_arrive_one_by_one(proxy: ToxicProxy, connect: Connect) -> None:
    client = await connect(proxy)
    await proxy.slicing(3, delay_s=0.02, directions=["down"])
    await client.say(b"abcdefgh")
    arrived = [await asyncio.wait_for(client.reader.read(100), 5) for _ in range(3)]
    assert arrived == [b"abc", b"def", b"gh"]


async def test_a_black_hole_accepts_and_passes_nothing_until_healed(
    proxy: ToxicProxy, echo: Echo, connect: Connect
) -> None:
    before = await connect(proxy)
    await before.say(b"1")
    await before.hears(1)
    await proxy.black_hole()
    during = await connect(proxy)
    await before.say(b"2")
    await during.say(b"3")
    assert await before.hears_nothing()
    assert await during.hears_nothing()
    assert echo.received == b"1"
    await proxy.heal()
    assert await before.hears(1) == b"2"
    assert await during.hears(1) == b"3"


async def test_a_black_hole_downwards_lets_the_target_act(proxy: ToxicProxy, echo: Echo, connect: Connect) -> None:
    client = await connect(proxy)
    await proxy.black_hole(directions=["down"])
    await client.say(b"COMMIT")
    assert await client.hears_nothing()
    assert echo.received == b"COMMIT"
    await proxy.heal()
    assert await client.hears(6) == b"COMMIT"


async def test_nobody_hears_of_a_client_that_dies_behind_a_black_hole(
    proxy: ToxicProxy, echo: Echo, connect: Connect
) -> None:
    client = await connect(proxy)
    await client.say(b"x")
    await client.hears(1)
    await proxy.black_hole()
    client.writer.close()
    await asyncio.sleep(SILENCE_S)
    assert echo.ends == []
    await proxy.heal()
    await until(lambda: echo.ends)


async def test_a_stalled_reader_is_felt_by_the_writer(proxy: ToxicProxy, connect: Connect) -> None:
    client = await connect(proxy)
    await proxy.black_hole()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await client.say(b"x" * 2**26)


async def test_reset_breaks_both_sides_at_once(proxy: ToxicProxy, echo: Echo, connect: Connect) -> None:
    clients = [await connect(proxy) for _ in range(3)]
    for client in clients:
        await client.say(b"x")
        await client.hears(1)
    await proxy.reset()
    for client in clients:
        with pytest.raises(ConnectionResetError):
            await client.hears(1)
    await until(lambda: echo.ends == ["rst"] * 3)
    assert (proxy.resets, proxy.open_connections) == (3, 0)
    again = await connect(proxy)
    await again.say(b"y")
    assert await again.hears(1) == b"y"


async def test_reset_works_in_a_black_hole_too(proxy: ToxicProxy, connect: Connect) -> None:
    await proxy.black_hole()
    client = await connect(proxy)
    await until(lambda: proxy.open_connections == 1)
    await proxy.reset()
    with pytest.raises(ConnectionResetError):
        await client.hears(1)


async def test_half_close_ends_one_direction_only(proxy: ToxicProxy, echo: Echo, connect: Connect) -> None:
    client = await connect(proxy)
    await client.say(b"x")
    await client.hears(1)
    await proxy.half_close()
    assert await asyncio.wait_for(client.reader.read(), 5) == b""
    await client.say(b"y")
    await until(lambda: echo.received == b"xy")
    assert echo.ends == []


async def test_half_close_upwards_tells_the_target_that_the_client_is_done(
    proxy: ToxicProxy, echo: Echo, connect: Connect
) -> None:
    client = await connect(proxy)
    await client.say(b"x")
    await client.hears(1)
    await proxy.half_close(direction="up")
    assert await client.hears(3) == b"bye"
    assert echo.ends == ["fin"]


async def test_refuse_refuses_new_connections_and_keeps_the_port(proxy: ToxicProxy, connect: Connect) -> None:
    port = proxy.port
    old = await connect(proxy)
    await old.say(b"x")
    await old.hears(1)
    await proxy.refuse()
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            await connect(proxy)
    await old.say(b"y")
    assert await old.hears(1) == b"y"
    with pytest.raises(OSError, match="in use"):
        await asyncio.start_server(lambda *_: None, HOST, port)
    await proxy.heal()
    assert proxy.port == port
    new = await connect(proxy)
    await new.say(b"z")
    assert await new.hears(1) == b"z"


async def test_a_data_limit_closes_the_connection_after_so_many_bytes(proxy: ToxicProxy, connect: Connect) -> None:
    client = await connect(proxy)
    await client.say(b"12345")
    await client.hears(5)
    await proxy.limit_data(4)
    await client.say(b"abcdefgh")
    assert await asyncio.wait_for(client.reader.read(), 5) == b"abcd"
    assert proxy.limited == 1
    await proxy.heal()
    assert not (await connect(proxy)).writer.is_closing()


async def test_a_data_limit_can_end_in_a_reset(proxy: ToxicProxy, connect: Connect) -> None:
    await proxy.limit_data(4, by_reset=True)
    client = await connect(proxy)
    await client.say(b"abcdefgh")
    with pytest.raises(ConnectionResetError):
        await client.hears(5)
    assert proxy.bytes_passed["down"] == 4


async def test_heal_ends_every_delay_at_once(proxy: ToxicProxy, connect: Connect) -> None:
    client = await connect(proxy)
    await proxy.latency(60)
    await client.say(b"slow")
    await asyncio.sleep(0.02)
    await proxy.heal()
    assert await client.hears(4) == b"slow"
    await proxy.bandwidth(1)
    await client.say(b"x" * 10_000)
    await asyncio.sleep(0.02)
    await proxy.heal()
    assert await client.hears(10_000, 1) == b"x" * 10_000


async def test_a_target_that_is_gone_resets_the_client(connect: Connect) -> None:
    async with Echo() as echo:
        gone = echo.port
    async with ToxicProxy(HOST, gone) as proxy:
        client = await connect(proxy)
        with pytest.raises(ConnectionResetError):
            await client.hears(1)
        assert proxy.unreachable == 1


async def test_leaving_the_block_ends_what_is_still_open(echo: Echo, connect: Connect) -> None:
    async with ToxicProxy(HOST, echo.port) as proxy:
        await proxy.black_hole()
        client = await connect(proxy)
        await client.say(b"x")
    with pytest.raises(ConnectionError):
        await client.hears(1)
    with pytest.raises(ConnectionRefusedError):
        await connect(proxy)
