"""What was charged, read back page by page, so that it can be worked out again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from domain.ids import AccountId, RequestId
from domain.money import Usd
from domain.usage import Generation


class Charge(Struct, frozen=True, kw_only=True):
    """A request that could cost money, and what the ledger booked for it."""

    account_id: AccountId
    request_id: RequestId
    record: Generation
    cost: Usd
    """As it is stored beside the record, where lists add it up."""
    booked: Usd
    """All transfers for it together: from its hold, from free credit, and what the house bore."""


class Charges(Protocol):
    async def page(
        self, start: datetime, end: datetime, after: tuple[AccountId, RequestId] | None, limit: int
    ) -> Sequence[Charge]:
        """Those of requests that began from `start` until before `end`, in order of account and request."""
        ...
