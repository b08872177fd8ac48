"""What became of one request."""

from __future__ import annotations

from dataclasses import dataclass

from domain.errors import NotFound
from domain.ids import AccountId, RequestId
from domain.ports.ledger import Ledger
from domain.usage import Generation


class GenerationNotFound(NotFound):
    """Also told of another account's request."""


@dataclass(frozen=True, slots=True)
class ShowGeneration:
    ledger: Ledger

    async def __call__(self, account_id: AccountId, request_id: RequestId) -> Generation:
        """The record of a request that could cost money, once it has ended.  Raises GenerationNotFound."""
        record = await self.ledger.generation(account_id, request_id)
        if record is None:
            raise GenerationNotFound(f"This account has no finished request {request_id[:100]!r}.")
        return record
