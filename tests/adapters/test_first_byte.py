"""How long a vendor may be silent before its answer begins, beside other reasons to stop waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from adapters.transport.http import VendorHttp
from domain.inference.faults import FaultKind, VendorFault

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def silent() -> AsyncIterator[tuple[VendorHttp, str]]:
    """A vendor that takes requests and says nothing."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    http = VendorHttp("silent")
    try:
        yield http, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        await http.close()
        server.close()
        await server.wait_closed()


async def test_silence_ends_as_a_fault_and_the_task_goes_on() -> None:
    async with silent() as (http, url):
        with pytest.raises(VendorFault) as raised:
            await http.post(url, {}, b"{}", 0.02)

        assert raised.value.kind is FaultKind.FIRST_BYTE_TIMEOUT
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0.03)


async def test_a_cancellation_is_not_taken_for_silence() -> None:
    async with silent() as (http, url):
        asking = asyncio.create_task(http.post(url, {}, b"{}", 5))
        await asyncio.sleep(0.02)
        asking.cancel()

        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_a_cancellation_in_the_moment_of_the_deadline_is_one() -> None:
    async with silent() as (http, url):
        asking = asyncio.create_task(http.post(url, {}, b"{}", 0.02))
        while not asking.cancelling():  # noqa: ASYNC110 - no event tells of this moment
            # Looked at in each turn of the event loop, so that this comes before the task runs again.
            await asyncio.sleep(0)
        asking.cancel()

        with pytest.raises(asyncio.CancelledError):
            await asking
