"""Where answers are kept that callers may ask for again, or continue, by their id."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from domain.ids import AccountId


class ResponseStatus(StrEnum):
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_running(self) -> bool:
        return self in (ResponseStatus.QUEUED, ResponseStatus.IN_PROGRESS)


class KeptResponse(Struct, frozen=True, kw_only=True):
    """One answer with everything that was said before it.  Its content is unreadable in storage."""

    account_id: AccountId
    id: str
    status: ResponseStatus
    created_at: datetime
    expires_at: datetime
    items: bytes
    """All input, earlier answers of the conversation included: a JSON array."""
    answer: bytes
    """A JSON object."""


class Responses(Protocol):
    async def put(self, response: KeptResponse) -> None:
        """Keep it, in place of what was kept under its id; but a cancelled one stays cancelled.

        Raises StorageUnavailable.
        """
        ...

    async def get(self, account_id: AccountId, response_id: str, at: datetime) -> KeptResponse | None:
        """None where this account has none of this id, or not any more."""
        ...

    async def status(self, account_id: AccountId, response_id: str) -> ResponseStatus | None:
        """Without its content."""
        ...

    async def delete(self, account_id: AccountId, response_id: str) -> bool:
        """False where there was none."""
        ...

    async def forget_before(self, at: datetime, limit: int) -> int:
        """Delete at most `limit` that expired before `at`; returns how many."""
        ...
