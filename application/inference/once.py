"""Idempotency-Key: the same key and body get the same outcome, charged once.

The first request claims the key in storage before anything is held; a repeated one waits for its outcome and gets a
copy.  Only what was charged is kept: a refusal or a free failure gives the key back, so that a retry really runs.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from domain.errors import Conflict, InvalidRequest
from domain.ids import AccountId
from domain.ports.clock import Clock
from domain.ports.repositories import Idempotency, StoredOutcome

KEY_LENGTH_MAX: Final = 255
OUTCOME_BYTES_MAX: Final = 16 * 1024 * 1024
NOT_KEPT: Final = 0
"""The status of an outcome that must not happen again, but whose answer was too large to keep."""
WAIT_S: Final = 60.0
POLL_S: Final = 0.2


class IdempotencyKeyInvalid(InvalidRequest):
    code = "idempotency_key_invalid"
    param = "Idempotency-Key"


class IdempotencyKeyReused(Conflict):
    code = "idempotency_key_reused"
    param = "Idempotency-Key"


class OutcomeNotKept(Conflict):
    code = "idempotency_outcome_not_kept"
    param = "Idempotency-Key"


class StillRunning(Conflict):
    code = "idempotency_key_in_use"
    param = "Idempotency-Key"
    retry_after_s = 5


@dataclass(frozen=True, slots=True)
class Ticket:
    """A claim that this request won; it must be kept or given back."""

    account_id: AccountId
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class OncePerKey:
    store: Idempotency
    clock: Clock
    lease: timedelta
    keep: timedelta

    async def claim(self, account_id: AccountId, key: str, route: str, body: bytes) -> Ticket | StoredOutcome:
        """Raises IdempotencyKeyInvalid, IdempotencyKeyReused, OutcomeNotKept, StillRunning."""
        if not 0 < len(key) <= KEY_LENGTH_MAX or not (key.isascii() and key.isprintable()):
            raise IdempotencyKeyInvalid(f"An Idempotency-Key has 1 to {KEY_LENGTH_MAX} printable ASCII characters.")
        fingerprint = hashlib.sha256(route.encode() + b"\0" + body).hexdigest()
        deadline = self.clock.monotonic() + WAIT_S
        while True:
            now = self.clock.now()
            claim = await self.store.claim(account_id, key, fingerprint, now, now + self.lease)
            if claim.won:
                return Ticket(account_id, key, fingerprint)
            if not claim.same_request:
                raise IdempotencyKeyReused(
                    "This Idempotency-Key was used for a different request. Use a new key for a new request."
                )
            if claim.outcome is not None:
                if claim.outcome.status == NOT_KEPT:
                    raise OutcomeNotKept(
                        "The request with this Idempotency-Key was answered and charged, but its answer was too large "
                        "to be kept. Use a new key to send it again."
                    )
                return claim.outcome
            if self.clock.monotonic() >= deadline:
                raise StillRunning("The first request with this Idempotency-Key is still running. Try again shortly.")
            await asyncio.sleep(POLL_S)

    async def keep_outcome(self, ticket: Ticket, outcome: StoredOutcome) -> None:
        if len(outcome.body) > OUTCOME_BYTES_MAX:
            outcome = StoredOutcome(status=NOT_KEPT, headers=(), body=b"")
        await self.store.finish(
            ticket.account_id, ticket.key, ticket.fingerprint, outcome, self.clock.now() + self.keep
        )

    async def give_back(self, ticket: Ticket) -> None:
        await self.store.abandon(ticket.account_id, ticket.key, ticket.fingerprint)
