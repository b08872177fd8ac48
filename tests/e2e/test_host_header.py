"""Whom a request is for must be said once: else a proxy before us and we might answer for different hosts."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.conftest import Place

pytestmark = pytest.mark.anyio

PATHS = ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/models")


async def status(place: Place, path: str, version: str, hosts: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", place.gateway.port)
    method = b"GET" if path.endswith("models") else b"POST"
    head = b"%b %b HTTP/%b\r\n%bContent-Length: 0\r\nConnection: close\r\n\r\n"
    writer.write(head % (method, path.encode(), version.encode(), hosts))
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("path", PATHS)
async def test_a_request_names_one_host(place: Place, path: str) -> None:
    expected = 200 if path.endswith("models") else 401

    assert await status(place, path, "1.1", b"Host: a.example\r\n") == expected
    assert await status(place, path, "1.0", b"") == expected
    for hosts in (b"", b"Host: a.example\r\nHost: b.example\r\n", b"Host: a.example\r\nhost: a.example\r\n"):
        assert await status(place, path, "1.1", hosts) == 400
