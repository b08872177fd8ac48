"""The directory's three shapes are read; what is none is its own failure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from adapters.transport.http import VendorHttp
from adapters.vendors.modelz import ModelzDirectory
from domain.inference.faults import VendorFault

pytestmark = pytest.mark.anyio

ROW = {"_id": "1", "Token": "alpha-1", "isGraduated": True, "website": "https://a.test"}


class Directory:
    def __init__(self) -> None:
        self.answer: Any = [ROW]
        self.status = 200


@pytest.fixture
async def served() -> AsyncIterator[tuple[Directory, ModelzDirectory]]:
    directory = Directory()

    async def tokens(_: web.Request) -> web.Response:
        return web.json_response(directory.answer, status=directory.status)

    app = web.Application()
    app.router.add_get("/api/tokens", tokens)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    http = VendorHttp("modelz")
    yield directory, ModelzDirectory(f"http://127.0.0.1:{runner.addresses[0][1]}/api", http)
    await http.close()
    await runner.cleanup()


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"data": rows}, lambda rows: {"tokens": rows}])
async def test_every_shape_is_read(served: tuple[Directory, ModelzDirectory], wrap: Any) -> None:
    directory, modelz = served
    directory.answer = wrap([ROW, {"Token": ""}, {"Token": 3}, "x", {"Token": "b"}])

    listed = await modelz.list_models()

    assert [(row.vendor_model, row.description) for row in listed] == [
        ("alpha-1", "Graduated; https://a.test"),
        ("b", "Not graduated"),
    ]
    assert all(row.rates is None for row in listed)


async def test_its_failures(served: tuple[Directory, ModelzDirectory]) -> None:
    directory, modelz = served
    directory.answer = "no list"
    with pytest.raises(VendorFault):
        await modelz.list_models()
    directory.status = 503
    with pytest.raises(VendorFault):
        await modelz.list_models()
    assert not modelz.listing.on
