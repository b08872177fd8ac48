"""Kept answers in memory, for tests and as the reference of the port."""

from __future__ import annotations

from datetime import datetime

from domain.ids import AccountId
from domain.ports.responses import KeptResponse, ResponseStatus


class MemoryResponses:
    def __init__(self) -> None:
        self._kept: dict[tuple[AccountId, str], KeptResponse] = {}

    async def put(self, response: KeptResponse) -> None:
        known = self._kept.get((response.account_id, response.id))
        if known is None or known.status is not ResponseStatus.CANCELLED:
            self._kept[response.account_id, response.id] = response

    async def get(self, account_id: AccountId, response_id: str, at: datetime) -> KeptResponse | None:
        kept = self._kept.get((account_id, response_id))
        return kept if kept is not None and kept.expires_at > at else None

    async def status(self, account_id: AccountId, response_id: str) -> ResponseStatus | None:
        kept = self._kept.get((account_id, response_id))
        return None if kept is None else kept.status

    async def delete(self, account_id: AccountId, response_id: str) -> bool:
        return self._kept.pop((account_id, response_id), None) is not None

    async def forget_before(self, at: datetime, limit: int) -> int:
        expired = [key for key, kept in self._kept.items() if kept.expires_at < at][:limit]
        for key in expired:
            del self._kept[key]
        return len(expired)
