"""A token that was fetched for a while is taken out of a vendor's words like a key that was set."""

from __future__ import annotations

import pytest
from aiohttp import web

from adapters.transport.http import BEARERS_REMEMBERED, VendorHttp

pytestmark = pytest.mark.anyio


async def test_tokens_that_were_sent_are_known() -> None:
    async def echo(request: web.Request) -> web.Response:
        return web.Response(text=f"refused: {request.headers.get('Authorization')}")

    app = web.Application()
    app.router.add_get("/", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    http = VendorHttp("cloud", secrets=("configured-key",))
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        for number in range(BEARERS_REMEMBERED + 4):
            answer = await http.get(url, {"Authorization": f"Bearer ya29.token-{number:02d}"}, 5)
            told = (await answer.read()).decode()
            answer.close()
            assert http.redacted(told) == "refused: Bearer ***"
        assert http.redacted("configured-key, Bearer ") == "***, Bearer "
        assert len(http._bearers) == BEARERS_REMEMBERED
    finally:
        await http.close()
        await runner.cleanup()
