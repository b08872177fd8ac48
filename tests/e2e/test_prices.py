"""Prices and markups that are changed beside a running gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.conftest import SOLO, Place, cost, nanos
from tests.fakes.upstream import Reply, Script, token_usage

pytestmark = pytest.mark.anyio

MODEL, PRICED, LATER, *_ = SOLO
TAKEN_UP_WITHIN_S = 2.0


async def charged(place: Place, model: str) -> int:
    """What one request of a thousand tokens each way costs now."""
    place.alpha.by_model[model] = Script(reply=Reply(usage=token_usage(1_000, 1_000)))
    answer = await place.chat(model)
    assert answer.status == 200, answer.body
    return nanos(answer.headers["x-gatewayz-cost-usd"])


async def until(place: Place, model: str, expected: int, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while await charged(place, model) != expected:
        assert time.monotonic() < deadline, f"{model} does not cost {expected} in time"
        await asyncio.sleep(0.05)


@pytest.fixture
async def without_markups(place: Place) -> AsyncIterator[None]:
    yield
    await place.cli("prices", "markup", "remove", "--model", MODEL)


@pytest.mark.usefixtures("without_markups")
async def test_a_markup_set_by_command_holds_within_two_seconds(place: Place) -> None:
    plain = cost(1_000, 1_000)
    assert await charged(place, MODEL) == plain
    await place.cli("prices", "markup", "set", "1.5", "--model", MODEL)
    await until(place, MODEL, plain * 3 // 2, TAKEN_UP_WITHIN_S)


async def test_a_price_that_begins_later_holds_from_then_on(place: Place) -> None:
    begins = datetime.now(UTC) + timedelta(seconds=6)
    before = await charged(place, LATER)
    await place.cli(
        "prices", "set", LATER, "--vendor", "alpha", "--input", "5", "--output", "5", "--yes",
        "--valid-from", begins.isoformat(timespec="milliseconds"),
    )  # fmt: skip
    while datetime.now(UTC) < begins - timedelta(seconds=0.3):
        assert await charged(place, LATER) == before
        await asyncio.sleep(0.2)
    await until(place, LATER, 10_000_000, 0.3 + TAKEN_UP_WITHIN_S)


async def test_what_was_charged_comes_out_again(place: Place) -> None:
    await charged(place, MODEL)
    await asyncio.sleep(1)
    told = await place.cli("prices", "rerate", "--month", f"{datetime.now(UTC):%Y-%m}")
    assert "Each is what its price, usage and markup make." in str(told)
