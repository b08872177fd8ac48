"""What a routing decision costs: this process's CPU for one model with fifteen offers, their health read each time."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from adapters.memory.health import MemoryHealthBoard
from adapters.system.clock import SystemClock
from domain import routing
from domain.catalog import Capability, Model, Offer
from domain.ids import ModelId, PriceId, VendorSlug
from domain.pricing import Price, PriceSource, Rates
from domain.routing import NO_PREFERENCES, Demand, Preferences, Sort, plan_route
from tests.benchmarks.rows import Row, Wanted, at_most

OFFERS: Final = 15
DECISIONS: Final = 3_000
ROUNDS: Final = 5
"""The best one counts: whoever else uses the machine only ever makes it slower."""
BAR_US: Final = 50.0
NAMES: Final = ("routing-drawn", "routing-sorted")
MODEL: Final = ModelId("acme/one")
NEEDS: Final = frozenset({Capability.STREAM, Capability.TOOLS})


def offers() -> tuple[Offer, ...]:
    now = SystemClock().now()
    made = []
    for number in range(OFFERS):
        vendor = VendorSlug(f"vendor-{number}")
        rates = Rates(input=(number + 1) * 10**8, output=(number + 1) * 3 * 10**8, cache_read=10**7)
        price = Price(
            id=PriceId(vendor), vendor=vendor, model=MODEL, rates=rates, valid_from=now, source=PriceSource.VENDOR
        )
        made.append(
            Offer(
                vendor=vendor,
                model=MODEL,
                vendor_model=f"{vendor}/one",
                price=price,
                context_length=200_000,
                capabilities=frozenset(Capability),
            )
        )
    return tuple(made)


def decisions() -> dict[str, Callable[[], object]]:
    """The ways to ask, the commonest one first."""
    model = Model(id=MODEL, name="One", offers=offers())
    board = MemoryHealthBoard(SystemClock())
    for offer in model.offers:
        for _ in range(25):
            board.succeeded(offer, 300, 200, 4_000)
    sought = (routing.Wanted(model),)
    wishes = Preferences(ignore=("vendor-3",), sort=Sort.LATENCY, require_parameters=True)

    def plain() -> object:
        demand = Demand(prompt_tokens=5_000, needs=NEEDS, preferences=NO_PREFERENCES)
        return plan_route(sought, demand, board.pulse, draw=random.randrange)

    def wishing() -> object:
        parameters = frozenset({"model", "messages", "temperature"})
        demand = Demand(prompt_tokens=5_000, needs=NEEDS, preferences=wishes, parameters=parameters)
        return plan_route(sought, demand, board.pulse)

    return {"drawn": plain, "sorted": wishing}


def cpu_us(decide: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(DECISIONS):
            decide()
        best = min(best, (time.process_time() - began) / DECISIONS * 1e6)
    return best


async def rows(wanted: Wanted) -> AsyncIterator[Row]:
    for name, (what, decide) in zip(NAMES, decisions().items(), strict=True):
        if name in wanted:
            yield at_most(name, f"routing among {OFFERS} offers, {what}, CPU", cpu_us(decide), BAR_US, "us")
