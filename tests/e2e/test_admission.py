"""No route reaches a vendor past admission, hold and settlement: the route table is walked at a real gateway."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
from aiohttp import web
from anyio import to_thread

from domain.ids import ModelId, PriceId, VendorSlug
from domain.keys import KeyPolicy
from domain.limits import LimitSet
from domain.money import Usd
from domain.pricing import Price, PriceSource, Rates
from tests.adapters.test_multipart import BOUNDARY, form
from tests.adapters.test_openai_tasks import wav
from tests.e2e.conftest import WIDE_LIMITS, Place, beside, nanos
from tests.e2e.processes import ADMIN_KEY, GatewayProcess
from tests.fakes.task_upstream import Received, TaskUpstream
from tests.fakes.upstream import Upstream, completion

pytestmark = pytest.mark.anyio

MODEL: Final = "all/any"
PER_MILLION: Final = Usd.parse("1").nanos
RATES: Final = Rates(
    input=PER_MILLION,
    output=2 * PER_MILLION,
    characters=PER_MILLION,
    seconds=1_000 * PER_MILLION,
    searches=1_000 * PER_MILLION,
)
HELLO: Final = [{"role": "user", "content": "Hello"}]
RECORDING: Final = ("file", wav(2), "a.wav")
ASKS: Final[dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO, "max_tokens": 50},
    "/v1/completions": {"prompt": "Hello"},
    "/v1/messages": {"messages": HELLO, "max_tokens": 50},
    "/v1/responses": {"input": "Hello", "max_output_tokens": 50},
    "/v1/embeddings": {"input": "Hello"},
    "/v1/images/generations": {"prompt": "A fox"},
    "/v1/images/edits": form(("model", MODEL.encode()), ("prompt", b"A fox"), ("image", b"\x89PNG", "a.png")),
    "/v1/audio/speech": {"input": "Hello", "voice": "alloy"},
    "/v1/audio/transcriptions": form(("model", MODEL.encode()), RECORDING),
    "/v1/audio/translations": form(("model", MODEL.encode()), RECORDING),
    "/v1/rerank": {"query": "a", "documents": ["b", "c"]},
    "/v1/moderations": {"input": "Hello"},
}
"""What each route that reaches a vendor is asked: JSON beside its model, or a form."""
FREE: Final = frozenset(
    {
        # Vendors count without charge, and what is no vendor's count is our estimate.
        "/v1/messages/count_tokens",
        "/v1/responses/input_tokens",
        # Explains what would happen, and only that.
        "/v1/explain",
        "/v1/responses/{response_id}/cancel",
    }
)
PARAMETERS: Final = {
    "{response_id}": "resp_1",
    "{request_id}": "r1",
    "{account}": "a1",
    "{vendor}": "all",
    "{key_id}": "k1",
    "{author}": "all",
    "{slug}": "any",
    "{name}": "any",
    "{model_id}": "any",
    "{path}": "openapi.json",
}


class Vendor(TaskUpstream):
    """Answers chats and tasks, once the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("/completions"):
            answer = await super()._answer(request)
            self.asked.set()
            await self.gate.wait()
            return answer
        self.requests.append(Received(request.path, dict(request.headers), await request.read(), {}))
        self.asked.set()
        await self.gate.wait()
        return web.Response(body=completion("Hello to you."), content_type="application/json")


@dataclass
class Here:
    place: Place
    vendor: Vendor

    async def send(self, path: str, key: str, method: str = "POST") -> httpx.Response:
        asked = ASKS.get(path, {"input": "Hello", "messages": HELLO})
        headers = {"Authorization": f"Bearer {key}"}
        for name, value in PARAMETERS.items():
            path = path.replace(name, value)
        if isinstance(asked, bytes):
            headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY.decode()}"
            return await self.place.http.request(method, path, content=asked, headers=headers)
        return await self.place.http.request(method, path, json={"model": MODEL} | asked, headers=headers)

    async def routes(self) -> list[tuple[str, str, list[str]]]:
        """Method, path and tags of every route; another test sees to it that all of them are documented."""
        paths = (await self.place.http.get("/docs/openapi.json")).json()["paths"]
        return [
            (method.upper(), path, told.get("tags", []))
            for path, each in paths.items()
            for method, told in each.items()
        ]

    async def limited_key(self) -> str:
        """Of an account with credit that may send one request a minute."""
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        email = f"limited-{uuid4().hex}@example.org"
        made = await self.place.http.post("/admin/users", json={"email": email}, headers=headers)
        grant = {"account": email, "amount_usd": "1", "reason": "a test"}
        assert (await self.place.http.post("/admin/credits/grant", json=grant, headers=headers)).status_code == 200
        policy = KeyPolicy(limits=LimitSet(requests_per_minute=1, burst=1))
        async with beside(self.place.gateway) as container:
            issued = await container.use_cases.issue_key()(made.json()["id"], "limited", policy=policy)
        text: str = issued.secret.text
        return text


@pytest.fixture(scope="module")
async def module_here(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Here]:
    directory: Path = tmp_path_factory.mktemp("gateway")
    async with Vendor() as vendor, Upstream() as idle:
        row = {"slug": "all", "base_url": vendor.base_url, "wire": "openai", "api_key": "sk-all", "models": ["any"]}
        gateway = GatewayProcess(directory, **WIDE_LIMITS, GATEWAYZ_VENDORS=json.dumps([row]))
        async with httpx.AsyncClient(base_url=gateway.base_url, timeout=30.0) as http:
            await to_thread.run_sync(gateway.start)
            try:
                place = Place(gateway, idle, idle, http)
                await _price(place)
                yield Here(place, vendor)
            finally:
                vendor.gate.set()
                await to_thread.run_sync(gateway.stop)


async def _price(place: Place) -> None:
    async with beside(place.gateway) as container:
        await container.adapters.prices().add(
            Price(
                id=PriceId("test:all"),
                vendor=VendorSlug("all"),
                model=ModelId(MODEL),
                rates=RATES,
                valid_from=datetime(2026, 1, 1, tzinfo=UTC),
                source=PriceSource.OPERATOR,
            )
        )
    deadline = time.monotonic() + 15
    while MODEL not in {model["id"] for model in (await place.get("/v1/models?limit=100"))["data"]}:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


@pytest.fixture
async def here(module_here: Here) -> AsyncIterator[Here]:
    module_here.vendor.requests.clear()
    yield module_here
    await module_here.place.verify()


async def test_every_route_of_inference_is_known_here(here: Here) -> None:
    """A new one must be put among those that are asked below, or among the free ones with a reason."""
    posts = {path for method, path, tags in await here.routes() if method == "POST" and "Inference" in tags}

    assert posts == ASKS.keys() | FREE


async def test_whoever_has_no_credit_reaches_a_vendor_by_no_route(here: Here) -> None:
    key = await here.place.customer(None)
    statuses = {}
    for method, path, _ in await here.routes():
        answer = await here.send(path, key, method)
        assert not here.vendor.requests, (method, path)
        assert answer.status_code < 500, (method, path, answer.text)
        statuses[method, path] = answer.status_code

    assert {path: statuses["POST", path] for path in ASKS} == dict.fromkeys(ASKS, 402)


@pytest.mark.parametrize("path", ASKS)
async def test_whoever_has_used_up_a_limit_reaches_no_vendor(here: Here, path: str) -> None:
    key = await here.limited_key()
    first = await here.send(path, key)
    here.vendor.requests.clear()
    second = await here.send(path, key)

    assert (first.status_code, second.status_code) == (200, 429), first.text
    assert not here.vendor.requests


@pytest.mark.parametrize("path", ASKS)
async def test_what_reaches_a_vendor_holds_credit_before_and_is_settled_after(here: Here, path: str) -> None:
    key = await here.place.customer("1")
    here.vendor.gate.clear()
    here.vendor.asked.clear()
    try:
        asking = asyncio.create_task(here.send(path, key))
        reached = asyncio.create_task(here.vendor.asked.wait())
        await asyncio.wait({asking, reached}, return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()
        during = await here.place.balance(key)
    finally:
        here.vendor.gate.set()
    answer = await asking
    await here.place.nothing_held()
    after = await here.place.balance(key)
    record = await here.place.get(f"/v1/generations/{answer.headers['x-request-id']}", key)

    assert answer.status_code == 200, answer.text
    assert len(here.vendor.requests) == 1
    assert nanos(during["held_usd"]) > 0
    assert nanos(after["held_usd"]) == 0
    assert nanos(after["charged_usd"]) == nanos(record["cost_usd"]) > 0
