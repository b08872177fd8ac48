"""A vendor of the register, on by its key alone: its list, its price, its usage, and its words for other dialects."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from anyio import to_thread

from tests.e2e.processes import GatewayProcess
from tests.fakes.upstream import Script, Upstream
from tests.fakes.vendor_shapes import SAID, SHAPES, THOUGHT

pytestmark = pytest.mark.anyio

SHAPE = SHAPES["xai"]
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[tuple[GatewayProcess, Upstream]]:
    async with Upstream() as upstream:
        for path, page in SHAPE.models.items():
            upstream.by_path[path] = Script(json_body=page)
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(upstream.base_url))
        process = GatewayProcess(tmp_path, XAI_API_KEY="xai-canary-key", XAI_BASE_URL=f"{origin}/v1")
        await to_thread.run_sync(process.start)
        try:
            yield process, upstream
        finally:
            await to_thread.run_sync(process.stop)


async def test_a_key_is_enough_to_list_ask_and_charge_a_vendor(gateway: tuple[GatewayProcess, Upstream]) -> None:
    process, upstream = gateway

    def model() -> str:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            for row in process.get("/v1/models")["data"]:
                if "grok" in row["id"]:
                    return str(row["id"])
            time.sleep(0.1)
        raise AssertionError(process.get("/v1/models"))

    name = await to_thread.run_sync(model)
    before = await to_thread.run_sync(process.spendable)
    upstream.script(Script(json_body=SHAPE.answer(SHAPE.thinking_message())))
    answer = await to_thread.run_sync(lambda: process.post("/v1/chat/completions", {"model": name, "messages": HELLO}))
    assert answer["choices"][0]["message"]["reasoning_content"] == THOUGHT
    assert upstream.requests[-1].json["model"] == "grok-4.2"
    assert upstream.requests[-1].headers["authorization"] == "Bearer xai-canary-key"

    upstream.script(Script(json_body=SHAPE.answer(SHAPE.thinking_message())))
    told = await to_thread.run_sync(
        lambda: process.post("/v1/messages", {"model": name, "messages": HELLO, "max_tokens": 100})
    )
    assert [block.get("text") or block.get("thinking") for block in told["content"]] == [THOUGHT, SAID]
    assert upstream.requests[-1].json["max_completion_tokens"] == 100
    after = await to_thread.run_sync(process.spendable)
    assert Decimal(before) - Decimal(after) == Decimal(2 * SHAPE.cost_nanos).scaleb(-9)
    assert told["usage"]["output_tokens"] == SHAPE.counted.output_tokens
    await to_thread.run_sync(process.verify)
