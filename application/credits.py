"""Use cases about credit that an operator gives or takes, and about what an account sees of its own.

A grant or a withdrawal is named after its reference, so that repeating it collides in the ledger instead of
paying twice.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import datetime

from msgspec import Struct

from application.pages import Page, checked_limit, page
from domain import ledger as books
from domain.credits import NEVER, Lot, Source, Transfer, burn_rank
from domain.errors import InvalidRequest
from domain.ids import AccountId, LotId, TransferId
from domain.money import ZERO, Usd
from domain.ports.clock import Clock, IdSource
from domain.ports.ledger import Ledger
from domain.ports.repositories import Accounts

REASON_LENGTH_MAX = 500
_REFERENCE = re.compile(r"[!-~]{1,100}")


class Adjusted(Struct, frozen=True, kw_only=True):
    """What an operator's act changed: `amount` is negative where credit was taken."""

    account_id: AccountId
    transfer_id: TransferId
    amount: Usd
    spendable: Usd


@dataclass(frozen=True, slots=True)
class GrantCredit:
    accounts: Accounts
    ledger: Ledger
    clock: Clock
    ids: IdSource

    async def __call__(
        self,
        account_id: AccountId,
        amount: Usd,
        reason: str,
        *,
        reference: str | None = None,
        expires_at: datetime | None = None,
    ) -> Adjusted:
        """Give credit once per reference.  Raises UnknownAccount, InvalidRequest, AlreadyBooked."""
        why, name = checked_reason(reason), checked_reference(reference) or self.ids.fresh()
        now = self.clock.now()
        if expires_at is not None and expires_at <= now:
            raise InvalidRequest("Credit must expire in the future.", param="expires_at")
        if amount <= ZERO:
            raise InvalidRequest("A grant of credit must be more than zero.", param="amount_usd")
        await self.accounts.get(account_id)
        lot = Lot(
            id=LotId(f"admin:{account_id}:{name}"),
            source=Source.ADMIN,
            granted=amount,
            free=amount,
            granted_at=now,
            expires_at=expires_at or NEVER,
        )
        operation = books.GrantCredit(account_id=account_id, lot=lot, reason=why)
        booked: books.Booked = await asyncio.shield(self.ledger.submit(operation))
        return Adjusted(
            account_id=account_id,
            transfer_id=books.derived_id(operation) or TransferId(""),
            amount=booked.amount,
            spendable=booked.spendable,
        )


@dataclass(frozen=True, slots=True)
class AdjustCredit:
    grant_credit: GrantCredit

    async def __call__(
        self, account_id: AccountId, amount: Usd, reason: str, *, reference: str | None = None
    ) -> Adjusted:
        """Give `amount`, or take it where it is negative, all of it or nothing, once per reference.

        Raises UnknownAccount, InvalidRequest, InsufficientCredits, AlreadyBooked.
        """
        if amount > ZERO:
            return await self.grant_credit(account_id, amount, reason, reference=reference)
        why, name = checked_reason(reason), checked_reference(reference) or self.grant_credit.ids.fresh()
        if amount == ZERO:
            raise InvalidRequest("An adjustment must not be zero.", param="amount_usd")
        await self.grant_credit.accounts.get(account_id)
        operation = books.WithdrawCredit(
            account_id=account_id,
            withdrawal_id=TransferId(f"withdrawal:{account_id}:{name}"),
            amount=-amount,
            at=self.grant_credit.clock.now(),
            reason=why,
        )
        booked: books.Booked = await asyncio.shield(self.grant_credit.ledger.submit(operation))
        return Adjusted(
            account_id=account_id,
            transfer_id=operation.withdrawal_id,
            amount=-booked.amount,
            spendable=booked.spendable,
        )


class Balance(Struct, frozen=True, kw_only=True):
    account_id: AccountId
    spendable: Usd
    held: Usd
    """By requests that are still running."""
    charged: Usd
    """In all, since the account exists."""
    lots: tuple[Lot, ...]
    """What is left, in the order in which it burns."""


@dataclass(frozen=True, slots=True)
class ShowBalance:
    ledger: Ledger
    clock: Clock

    async def __call__(self, account_id: AccountId) -> Balance:
        account, now = await self.ledger.account(account_id), self.clock.now()
        return Balance(
            account_id=account_id,
            spendable=account.spendable(now),
            held=account.held,
            charged=account.charged,
            lots=tuple(sorted(account.lots, key=burn_rank)),
        )


@dataclass(frozen=True, slots=True)
class ListTransactions:
    ledger: Ledger

    async def __call__(self, account_id: AccountId, limit: int = 50, cursor: str | None = None) -> Page[Transfer]:
        """Every posted movement of the account's own credit, newest first."""
        wanted = checked_limit(limit) + 1
        own: list[Transfer] = []
        while len(own) < wanted:
            rows = await self.ledger.transfers(account_id, wanted, cursor)
            # What the house bears of a request is booked under its customer, but is not theirs to see.
            own += (row for row in rows if account_id in {row.debit, row.credit})
            if len(rows) < wanted:
                break
            cursor = rows[-1].id
        return page(own, limit, lambda transfer: transfer.id)


def checked_reason(text: str) -> str:
    reason = text.strip()
    if not 0 < len(reason) <= REASON_LENGTH_MAX:
        raise InvalidRequest(f"Give a reason of at most {REASON_LENGTH_MAX} characters.", param="reason")
    return reason


def checked_reference(text: str | None) -> str | None:
    if text is not None and not _REFERENCE.fullmatch(text):
        raise InvalidRequest("A reference has 1 to 100 visible ASCII characters.", param="reference")
    return text
