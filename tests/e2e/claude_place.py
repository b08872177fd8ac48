"""A gateway before a vendor of Anthropic's dialect and two of OpenAI's, and Anthropic's official client before it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anthropic
import httpx
from anyio import to_thread

from domain.ids import ModelId, PriceId, VendorSlug
from domain.money import Usd
from domain.pricing import Price, PriceSource, Rates
from tests.e2e.conftest import (
    SOLO,
    WIDE_LIMITS,
    Answer,
    Place,
    beside,
    priced,
    set_prices,
    vendor_settings,
)
from tests.e2e.processes import GatewayProcess
from tests.fakes.anthropic_upstream import AnthropicUpstream
from tests.fakes.upstream import Upstream

MESSAGES = "/v1/messages"
CLAUDE = "acme/claude-opus-4-8"
"""Served by the vendor of Anthropic's dialect alone."""
OLDER = "acme/claude-opus-4-5"
OPENAI = SOLO[0]
"""Served by a vendor of OpenAI's dialect alone."""
RATES = Rates(
    input=Usd.parse("1").nanos,
    output=Usd.parse("2").nanos,
    cache_read=Usd.parse("0.1").nanos,
    cache_write_5m=Usd.parse("1.25").nanos,
    cache_write_1h=Usd.parse("2").nanos,
)
ANTHROPIC_KEY = "sk-ant-secret-0001"


@dataclass
class ClaudePlace(Place):
    claude: AnthropicUpstream = None  # type: ignore[assignment]

    def anthropic(self, **options: Any) -> anthropic.AsyncAnthropic:
        """The official client; it does not retry unless told to."""
        known: dict[str, Any] = {
            "base_url": self.gateway.base_url,
            "api_key": self.key,
            "max_retries": 0,
            "timeout": 20.0,
        }
        return anthropic.AsyncAnthropic(**known | options)

    def mend(self, model: str) -> None:
        """Let the vendors behind `model` answer correctly again."""
        self.claude.by_model.pop(model, None)
        self.alpha.by_model.pop(model, None)

    async def messages(
        self, model: str = CLAUDE, *, path: str = MESSAGES, headers: Mapping[str, str] | None = None, **members: Any
    ) -> Answer:
        body = {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]} | members
        return await self.post(json.dumps(body).encode(), path=path, headers=headers)

    async def post(self, body: bytes, *, path: str = MESSAGES, headers: Mapping[str, str] | None = None) -> Answer:
        sent = {"x-api-key": self.key, "Content-Type": "application/json"} | dict(headers or {})
        async with self.http.stream("POST", path, content=body, headers=sent) as response:
            read = b"".join([part async for part in response.aiter_raw()])
        return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, read)


@asynccontextmanager
async def running_claude_place(directory: Path) -> AsyncIterator[ClaudePlace]:
    async with AnthropicUpstream() as claude, Upstream() as alpha, Upstream() as beta:
        settings = vendor_settings(alpha, beta)
        rows = json.loads(settings["GATEWAYZ_VENDORS"])
        served = [CLAUDE, OLDER]
        rows.append(
            {
                "slug": "claude",
                "base_url": claude.base_url,
                "wire": "anthropic",
                "api_key": ANTHROPIC_KEY,
                "models": served,
            }
        )
        settings["GATEWAYZ_VENDORS"] = json.dumps(rows)
        gateway = GatewayProcess(directory, **WIDE_LIMITS | settings | {"GATEWAYZ_KEEPALIVE_SECONDS": "1"})
        async with httpx.AsyncClient(base_url=gateway.base_url, timeout=30.0) as http:
            await to_thread.run_sync(gateway.start)
            place = ClaudePlace(gateway, alpha, beta, http, claude=claude)
            try:
                async with beside(gateway) as container:
                    for model in served:
                        await container.adapters.prices().add(
                            Price(
                                id=PriceId(f"test:claude:{model}"),
                                vendor=VendorSlug("claude"),
                                model=ModelId(model),
                                rates=RATES,
                                valid_from=datetime(2026, 1, 1, tzinfo=UTC),
                                source=PriceSource.OPERATOR,
                            )
                        )
                await set_prices(gateway)
                await priced(place)
                yield place
            finally:
                await to_thread.run_sync(gateway.stop)


def fresh(place: ClaudePlace) -> Iterator[ClaudePlace]:
    """The place for one test, with vendors that know nothing of the tests before."""
    for vendor in (place.alpha, place.beta, place.claude):
        vendor.requests.clear()
        vendor.by_model.clear()
        vendor.by_path.clear()
    logged = len(place.log())
    yield place
    assert "Traceback" not in place.log()[logged:], "an unforeseen error is in the gateway's log"
