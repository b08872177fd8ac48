"""The ledger: the only truth about credit."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol, overload

from msgspec import Struct

from domain.credits import CreditAccount, Hold, Transfer
from domain.ids import AccountId, KeyId
from domain.ledger import (
    ExtendHold,
    HoldExtended,
    HoldOpened,
    HoldSettled,
    KeyMeter,
    OpenHold,
    Operation,
    SettleHold,
)
from domain.usage import Generation


class Difference(Struct, frozen=True, kw_only=True):
    """A balance that its transfers do not explain."""

    account_id: AccountId
    what: str
    stored_nanos: int
    recomputed_nanos: int


class Ledger(Protocol):
    """Operations take effect in the order in which they were submitted, each wholly or not at all."""

    @overload
    def submit(self, operation: OpenHold) -> Future[HoldOpened]: ...
    @overload
    def submit(self, operation: ExtendHold) -> Future[HoldExtended]: ...
    @overload
    def submit(self, operation: SettleHold) -> Future[HoldSettled]: ...
    @overload
    def submit(self, operation: Operation) -> Future[Any]: ...
    def submit(self, operation: Operation) -> Future[Any]:
        """Enqueue now, without waiting: a cancelled caller takes nothing back.

        The future answers once the operation is durable, or raises its own domain error; StorageUnavailable says that
        it did not happen.  Whoever waits shields the future, because cancelling it does not undo the operation.
        """
        ...

    async def account(self, account_id: AccountId) -> CreditAccount:
        """The account after everything submitted here so far; empty where it never had credit."""
        ...

    async def key_meter(self, key_id: KeyId) -> KeyMeter | None:
        """What a key with limits of its own has used, after everything submitted here so far; None before its first
        request.
        """
        ...

    async def overdue_holds(self, at: datetime, limit: int) -> Sequence[Hold]:
        """Open holds whose lease ran out before `at`, oldest first."""
        ...

    async def accounts_to_expire(self, at: datetime, limit: int) -> Sequence[AccountId]:
        """Accounts with free credit past its date."""
        ...

    async def transfers(self, account_id: AccountId, limit: int, before: str | None) -> Sequence[Transfer]:
        """Newest first, with everything submitted here so far; holds and voids are not among them.

        `before` is the id of the last one seen.
        """
        ...

    async def generation(self, account_id: AccountId, request_id: str) -> Generation | None:
        """The record of a request that has ended, also where its settlement was submitted a moment ago."""
        ...

    async def verify(self) -> Sequence[Difference]:
        """Recompute every balance from the transfers; empty where all agree."""
        ...
