"""Real gateway processes between real clients and fake vendors: one gateway for each module of tests.

A module may say `SETTINGS = {...}`, environment variables for its gateway.  The fake vendors run in the tests' own
event loop, so nothing here may block it: commands and blocking clients run in threads.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from anyio import to_thread

from domain.ids import ModelId, PriceId, VendorSlug
from domain.money import Usd
from domain.pricing import Price, PriceSource, Rates
from entrypoints.container import Container
from entrypoints.settings import load_settings
from entrypoints.vendors import VENDOR_NAMES
from tests.e2e.processes import ADMIN_KEY, GatewayProcess
from tests.fakes.upstream import Upstream

PATH = "/v1/chat/completions"
SOLO = tuple(f"acme/solo-{number}" for number in range(1, 5))
"""Models that only alpha serves."""
SHARED = tuple(f"acme/shared-{number}" for number in range(1, 9))
"""Models that alpha and beta serve at one price, so that alpha comes first while it is healthy."""
GONE = "acme/gone"
"""Served only by a vendor that nobody can reach, which offers one shared model too."""
SERVED = {"alpha": (*SOLO, *SHARED), "beta": SHARED, "gone": (GONE, SHARED[6])}
INPUT_NANOS, OUTPUT_NANOS = 1_000, 2_000
"""What one token costs of every model here: $1 and $2 per million."""
HELLO: Any = [{"role": "user", "content": "Hello"}]
WIDE_LIMITS = {
    "GATEWAYZ_LIMIT_REQUESTS_PER_MINUTE": "1000000",
    "GATEWAYZ_LIMIT_REQUESTS_PER_HOUR": "10000000",
    "GATEWAYZ_LIMIT_REQUESTS_PER_DAY": "10000000",
    "GATEWAYZ_LIMIT_TOKENS_PER_MINUTE": "10000000000",
    "GATEWAYZ_LIMIT_TOKENS_PER_DAY": "10000000000",
    "GATEWAYZ_LIMIT_BURST": "100000",
    "GATEWAYZ_LIMIT_CONCURRENT": "10000",
    "GATEWAYZ_LIMIT_ADDRESS_PER_MINUTE": "100000",
    "GATEWAYZ_LIMIT_KEY_FAILURES": "100000",
    # Tests say what the first vendor does.
    "GATEWAYZ_FIRST_TRY": "cheapest",
}
"""Limits that no test meets, unless it sets its own."""


@dataclass(frozen=True)
class Answer:
    """A whole answer, or a stream read to its end, with its body's bytes as they came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def request_id(self) -> str:
        return self.headers["x-request-id"]

    @property
    def events(self) -> list[Any]:
        """The data of a stream's events; `[DONE]` as it is."""
        blocks = self.body.removesuffix(b"\n\n").split(b"\n\n")
        data = [block.removeprefix(b"data: ") for block in blocks if block.startswith(b"data: ")]
        return [each if each == b"[DONE]" else json.loads(each) for each in data]


@dataclass
class Place:
    """A gateway, the two vendors behind it, and clients before it."""

    gateway: GatewayProcess
    alpha: Upstream
    beta: Upstream
    http: httpx.AsyncClient
    key: str = ADMIN_KEY
    _customers: int = field(default=0)

    async def chat(self, model: str, *, headers: Mapping[str, str] | None = None, **members: Any) -> Answer:
        body = {"model": model, "messages": HELLO} | members
        return await self.send(json.dumps(body).encode(), headers=headers)

    async def send(self, body: bytes, *, key: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        sent = {"Authorization": f"Bearer {key or self.key}", "Content-Type": "application/json"} | dict(headers or {})
        async with self.http.stream("POST", PATH, content=body, headers=sent) as response:
            read = b"".join([part async for part in response.aiter_raw()])
        return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, read)

    async def get(self, path: str, key: str | None = None) -> Any:
        response = await self.http.get(path, headers={"Authorization": f"Bearer {key or self.key}"})
        assert response.status_code == 200, response.text
        return response.json()

    async def generation(self, request_id: str) -> Any:
        """The record of a request, once everything before is settled."""
        await self.balance()
        return await self.get(f"/v1/generations/{request_id}")

    async def balance(self, key: str | None = None) -> Any:
        return await self.get("/user/balance", key)

    async def charged(self, key: str | None = None) -> int:
        """Nano-dollars."""
        return nanos((await self.balance(key))["charged_usd"])

    async def cli(self, *arguments: str) -> str:
        done = await to_thread.run_sync(lambda: self.gateway.cli(*arguments))
        return done.stdout

    async def customer(self, usd: str | None) -> str:
        """The key of a new account with so much credit."""
        self._customers += 1
        email = f"customer-{self._customers}@example.org"
        headers = {"Authorization": f"Bearer {self.key}"}
        made = await self.http.post("/admin/users", json={"email": email}, headers=headers)
        assert made.status_code == 201, made.text
        if usd is not None:
            grant = {"account": email, "amount_usd": usd, "reason": "a test"}
            given = await self.http.post("/admin/credits/grant", json=grant, headers=headers)
            assert given.status_code == 200, given.text
        async with beside(self.gateway) as container:
            issued = await container.use_cases.issue_key()(made.json()["id"], "test")
        text: str = issued.secret.text
        return text

    def client(self, **options: Any) -> openai.AsyncOpenAI:
        """The official client; it does not retry unless told to."""
        known: dict[str, Any] = {
            "base_url": f"{self.gateway.base_url}/v1",
            "api_key": self.key,
            "max_retries": 0,
            "timeout": 20.0,
        }
        return openai.AsyncOpenAI(**known | options)

    async def verify(self) -> None:
        """No hold is open, and every balance follows from its transfers."""
        await self.nothing_held()
        async with beside(self.gateway) as container:
            assert await container.adapters.ledger().verify() == []

    async def nothing_held(self, timeout_s: float = 5.0) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            settlements = await self.get("/admin/settlements", ADMIN_KEY)
            if not settlements["open"] and not settlements["overdue"]:
                return
            assert time.monotonic() < deadline, f"still held: {settlements}"
            await asyncio.sleep(0.05)

    def log(self) -> str:
        return self.gateway.log.read_text()


def tell(figure: str) -> None:
    """Shown by `pytest -rP`."""
    sys.stdout.write(f"{figure}\n")


def nanos(usd: str | float) -> int:
    return int(Decimal(str(usd)) * 1_000_000_000)


def cost(input_tokens: int, output_tokens: int) -> int:
    """Nano-dollars, of every model of the fake vendors."""
    return input_tokens * INPUT_NANOS + output_tokens * OUTPUT_NANOS


def vendor_settings(alpha: Upstream, beta: Upstream) -> dict[str, str]:
    addresses = {"alpha": alpha.base_url, "beta": beta.base_url, "gone": "http://127.0.0.1:1/v1"}
    rows = [
        {
            "slug": slug,
            "base_url": address,
            "wire": "openai",
            "api_key": f"sk-{slug}-secret-0001",
            "models": SERVED[slug],
        }
        for slug, address in addresses.items()
    ]
    return {"GATEWAYZ_VENDORS": json.dumps(rows)}


@asynccontextmanager
async def beside(gateway: GatewayProcess) -> AsyncIterator[Container]:
    """The gateway's parts on its database, as its commands have them, but without a process for each command."""
    url = f"sqlite+aiosqlite:///{gateway.directory}/var/gatewayz.db"
    settings = load_settings(VENDOR_NAMES, gateway.environ | {"DATABASE_URL": url}, directory=gateway.directory)
    container = Container(settings=settings)
    try:
        yield container
    finally:
        await container.adapters.database().close()


async def set_prices(gateway: GatewayProcess) -> None:
    async with beside(gateway) as container:
        book = container.adapters.prices()
        for vendor, model in ((vendor, model) for vendor, models in SERVED.items() for model in models):
            await book.add(
                Price(
                    id=PriceId(f"test:{vendor}:{model}"),
                    vendor=VendorSlug(vendor),
                    model=ModelId(model),
                    rates=Rates(input=Usd.parse("1").nanos, output=Usd.parse("2").nanos),
                    valid_from=datetime(2026, 1, 1, tzinfo=UTC),
                    source=PriceSource.OPERATOR,
                )
            )


@asynccontextmanager
async def running_place(directory: Path, **settings: str) -> AsyncIterator[Place]:
    """A gateway with its vendors, prices and credit, stopped at the end."""
    async with Upstream() as alpha, Upstream() as beta:
        gateway = GatewayProcess(directory, **WIDE_LIMITS | vendor_settings(alpha, beta) | settings)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        async with httpx.AsyncClient(base_url=gateway.base_url, timeout=30.0, limits=limits) as http:
            await to_thread.run_sync(gateway.start)
            place = Place(gateway, alpha, beta, http)
            try:
                await set_prices(gateway)
                await priced(place)
                yield place
            finally:
                await to_thread.run_sync(gateway.stop)


async def priced(place: Place) -> None:
    """Wait until the gateway has learnt of the prices set beside it."""
    deadline = time.monotonic() + 15
    while True:
        answer = await place.chat(SHARED[-1], max_tokens=1)
        if answer.status == 200:
            break
        assert time.monotonic() < deadline, answer.body
        await asyncio.sleep(0.1)
    place.alpha.requests.clear()
    place.beta.requests.clear()


@pytest.fixture(scope="module")
async def module_place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Place]:
    settings: Mapping[str, str] = getattr(request.module, "SETTINGS", {})
    async with running_place(tmp_path_factory.mktemp("gateway"), **settings) as place:
        yield place


@pytest.fixture
def place(module_place: Place) -> Iterator[Place]:
    """The module's gateway, with vendors that know nothing of the tests before."""
    for vendor in (module_place.alpha, module_place.beta):
        vendor.requests.clear()
        vendor.by_model.clear()
        vendor.by_path.clear()
    logged = len(module_place.log())
    yield module_place
    assert "Traceback" not in module_place.log()[logged:], "an unforeseen error is in the gateway's log"
