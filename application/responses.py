"""Use cases: answers that are kept, shown again, continued, and forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from application.inference.chat import TOTAL_S
from domain.errors import Conflict, InvalidRequest, NotFound
from domain.ids import AccountId
from domain.ports.clock import Clock
from domain.ports.responses import KeptResponse, Responses, ResponseStatus

BATCH: Final = 500
LOST_AFTER: Final = timedelta(seconds=TOTAL_S + 300)
"""No answer takes longer; a process that was killed leaves no word of its own."""


class ResponseNotFound(NotFound):
    """Also told of another account's response."""

    code = "response_not_found"


class PreviousNotFound(InvalidRequest):
    code = "previous_response_not_found"
    param = "previous_response_id"


class NotCancellable(Conflict):
    code = "response_not_running"


@dataclass(frozen=True, slots=True)
class KeepResponses:
    store: Responses
    clock: Clock
    keep: timedelta
    """How long; nothing is kept where it is zero."""

    @property
    def keeps(self) -> bool:
        return bool(self.keep)

    def is_lost(self, kept: KeptResponse) -> bool:
        """Whether it still counts as running though whoever ran it cannot be alive any more."""
        return kept.status.is_running and self.clock.now() - kept.created_at > LOST_AFTER

    async def put(
        self, account_id: AccountId, response_id: str, status: ResponseStatus, items: bytes, answer: bytes
    ) -> None:
        now = self.clock.now()
        kept = KeptResponse(
            account_id=account_id,
            id=response_id,
            status=status,
            created_at=now,
            expires_at=now + self.keep,
            items=items,
            answer=answer,
        )
        await self.store.put(kept)

    async def previous(self, account_id: AccountId, response_id: str) -> KeptResponse:
        """What a request continues.  Raises PreviousNotFound."""
        if not self.keeps:
            raise PreviousNotFound(
                "This gateway keeps no responses. Send the whole conversation as 'input', and 'store': false."
            )
        kept = await self.store.get(account_id, response_id, self.clock.now())
        if kept is None:
            raise PreviousNotFound(f"There is no response {response_id[:100]!r} here to continue; it may have expired.")
        if kept.status.is_running:
            raise PreviousNotFound(f"The response {response_id[:100]!r} is still being written.")
        return kept

    async def show(self, account_id: AccountId, response_id: str) -> KeptResponse:
        """Raises ResponseNotFound."""
        kept = await self.store.get(account_id, response_id, self.clock.now()) if self.keeps else None
        if kept is None:
            raise ResponseNotFound(f"This account has no response {response_id[:100]!r}; it may have expired.")
        return kept

    async def delete(self, account_id: AccountId, response_id: str) -> None:
        """Raises ResponseNotFound."""
        if not await self.store.delete(account_id, response_id):
            raise ResponseNotFound(f"This account has no response {response_id[:100]!r}.")

    async def is_cancelled(self, account_id: AccountId, response_id: str) -> bool:
        return await self.store.status(account_id, response_id) in (None, ResponseStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class ForgetResponses:
    store: Responses
    clock: Clock

    async def __call__(self) -> int:
        """Remove the responses whose time is over."""
        forgotten = 0
        while count := await self.store.forget_before(self.clock.now(), BATCH):
            forgotten += count
            if count < BATCH:
                break
        return forgotten
