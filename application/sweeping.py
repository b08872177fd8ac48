"""Use cases that clean up after time: holds whose process died, lots past their date, outcomes kept long enough.

All are safe to run anywhere, any number of times at once: the ledger ends a hold and expires a lot only once.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from domain.credits import Hold, HoldEnded
from domain.ledger import ExpireLots, SettleHold
from domain.ports.clock import Clock
from domain.ports.ledger import Ledger
from domain.ports.repositories import Idempotency
from domain.usage import Outcome

BATCH = 500

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SweepHolds:
    """Charge what a dead process had written down of its requests, and give the rest of their holds back."""

    ledger: Ledger
    clock: Clock

    async def __call__(self) -> int:
        """Returns how many holds ended."""
        now = self.clock.now()
        ended = 0
        while overdue := await self.ledger.overdue_holds(now, BATCH):
            results = await asyncio.gather(*map(self._settle, overdue), return_exceptions=True)
            done = sum(not isinstance(result, BaseException) for result in results)
            ended += done
            failures = [r for r in results if isinstance(r, BaseException) and not isinstance(r, HoldEnded)]
            if failures:
                raise failures[0]
            if not done or len(overdue) < BATCH:
                break
        if ended:
            log.warning("%d holds of dead processes were settled from their watermarks", ended)
        return ended

    def _settle(self, hold: Hold) -> asyncio.Future[Any]:
        record = replace(hold.record, cost=hold.watermark, outcome=Outcome.RECOVERED, estimated=True)
        return self.ledger.submit(
            SettleHold(account_id=hold.account_id, hold_id=hold.id, record=record, at=self.clock.now())
        )


@dataclass(frozen=True, slots=True)
class ExpireCredit:
    ledger: Ledger
    clock: Clock

    async def __call__(self) -> int:
        """Take away free credit past its date; returns how many accounts had some."""
        now = self.clock.now()
        touched = 0
        while accounts := await self.ledger.accounts_to_expire(now, BATCH):
            for account_id in accounts:
                await self.ledger.submit(ExpireLots(account_id=account_id, at=now))
            touched += len(accounts)
            if len(accounts) < BATCH:
                break
        return touched


@dataclass(frozen=True, slots=True)
class ForgetOutcomes:
    store: Idempotency
    clock: Clock

    async def __call__(self) -> int:
        """Remove the answers kept for repeated Idempotency-Keys whose time is over."""
        forgotten = 0
        while count := await self.store.forget_before(self.clock.now(), BATCH):
            forgotten += count
            if count < BATCH:
                break
        return forgotten
