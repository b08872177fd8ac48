"""Holds that are open, and those whose lease ran out: what an operator looks at when credit seems stuck."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct

from application.pages import checked_limit
from domain.credits import NEVER, Hold
from domain.ports.clock import Clock
from domain.ports.ledger import Ledger


class Settlements(Struct, frozen=True):
    open: tuple[Hold, ...]
    """Whose lease ends first comes first."""
    overdue: tuple[Hold, ...]
    """Nobody renewed them; the sweeper charges what was produced and ends them."""


@dataclass(frozen=True, slots=True)
class ShowSettlements:
    ledger: Ledger
    clock: Clock

    async def __call__(self, limit: int = 50) -> Settlements:
        now = self.clock.now()
        holds = await self.ledger.overdue_holds(NEVER, checked_limit(limit))
        return Settlements(
            open=tuple(hold for hold in holds if hold.lease_until > now),
            overdue=tuple(hold for hold in holds if hold.lease_until <= now),
        )
