"""The ledger in this process's memory: one batch that never ends, and that a restart forgets."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from domain.credits import PENDING, CreditAccount, Hold, Kind, Transfer
from domain.errors import DomainError
from domain.ids import AccountId, KeyId
from domain.ledger import Books, KeyMeter, Operation
from domain.money import Usd
from domain.ports.ledger import Difference
from domain.usage import Generation

REMOVALS = frozenset({Kind.EXPIRY, Kind.WITHDRAWAL, Kind.REFUND})
CHARGES = frozenset({Kind.CHARGE, Kind.EXCESS})
ENDS = frozenset({Kind.CHARGE, Kind.VOID})


class MemoryLedger:
    def __init__(self) -> None:
        self._books = Books()
        self._generations: dict[tuple[AccountId, str], Generation] = {}

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to flush."""

    def submit(self, operation: Operation) -> Future[Any]:
        answer: Future[Any] = asyncio.get_running_loop().create_future()
        try:
            answer.set_result(self._books.apply(operation))
        except DomainError as refusal:
            answer.set_exception(refusal)
        self._books.touched_accounts.clear()
        self._books.touched_holds.clear()
        self._books.touched_meters.clear()
        self._books.opened.clear()
        for record in self._books.records:
            self._generations[record.account_id, record.id] = record
        self._books.records.clear()
        return answer

    async def account(self, account_id: AccountId) -> CreditAccount:
        return self._books.accounts.get(account_id) or CreditAccount(id=account_id)

    async def key_meter(self, key_id: KeyId) -> KeyMeter | None:
        return self._books.meters.get(key_id)

    async def overdue_holds(self, at: datetime, limit: int) -> Sequence[Hold]:
        overdue = [hold for hold in self._books.holds.values() if hold.lease_until < at]
        return sorted(overdue, key=lambda hold: (hold.lease_until, hold.id))[:limit]

    async def accounts_to_expire(self, at: datetime, limit: int) -> Sequence[AccountId]:
        past = [
            account.id
            for account in self._books.accounts.values()
            if any(lot.free and lot.expires_at <= at for lot in account.lots)
        ]
        return past[:limit]

    async def transfers(self, account_id: AccountId, limit: int, before: str | None) -> Sequence[Transfer]:
        posted = [
            transfer
            for transfer in self._books.transfers
            if transfer.account_id == account_id and transfer.kind not in PENDING
        ]
        posted.sort(key=lambda transfer: (transfer.at, transfer.id), reverse=True)
        if before is None:
            return posted[:limit]
        seen = next((n for n, transfer in enumerate(posted, 1) if transfer.id == before), len(posted))
        return posted[seen : seen + limit]

    async def generation(self, account_id: AccountId, request_id: str) -> Generation | None:
        return self._generations.get((account_id, request_id))

    async def verify(self) -> Sequence[Difference]:
        return [*self._balances_that_differ(), *self._lots_that_differ(), *self._holds_that_differ()]

    def _balances_that_differ(self) -> Iterator[Difference]:
        sums: defaultdict[tuple[AccountId, str], int] = defaultdict(int)
        for transfer in self._books.transfers:
            if (balance := _balance(transfer.kind)) is not None:
                sums[transfer.account_id, balance] += transfer.amount.nanos
        for hold in self._books.holds.values():
            sums[hold.account_id, "held"] += hold.amount.nanos
        for account in self._books.accounts.values():
            funded, held, charged, removed = (
                sums[account.id, what] for what in ("funded", "held", "charged", "removed")
            )
            yield from _difference(account.id, "funded", account.funded, funded)
            yield from _difference(account.id, "held", account.held, held)
            yield from _difference(account.id, "charged", account.charged, charged)
            yield from _difference(account.id, "removed", account.removed, removed)
            yield from _difference(account.id, "free", account.free, funded - held - charged - removed)

    def _lots_that_differ(self) -> Iterator[Difference]:
        left: defaultdict[tuple[AccountId, str], int] = defaultdict(int)
        for transfer in self._books.transfers:
            if (balance := _balance(transfer.kind)) is not None:
                sign = 1 if balance == "funded" else -1
                for draw in transfer.draws:
                    left[transfer.account_id, draw.lot_id] += sign * draw.amount.nanos
        for account in self._books.accounts.values():
            for lot in account.lots:
                yield from _difference(
                    account.id, f"lot {lot.id}", lot.free + lot.held, left.pop((account.id, lot.id), 0)
                )
        for (account_id, lot_id), nanos in left.items():
            yield from _difference(account_id, f"lot {lot_id}", Usd(0), nanos)

    def _holds_that_differ(self) -> Iterator[Difference]:
        pending: Counter[str] = Counter()
        ends: Counter[str] = Counter()
        accounts: dict[str, AccountId] = {}
        for transfer in self._books.transfers:
            if transfer.kind in (Kind.HOLD, Kind.EXTEND):
                pending[transfer.reference] += transfer.amount.nanos
                accounts[transfer.reference] = transfer.account_id
            elif transfer.kind in ENDS:
                ends[transfer.reference] += 1
        for hold in self._books.holds.values():
            yield from _difference(hold.account_id, f"hold {hold.id}", hold.amount, pending[hold.id])
        for hold_id, account_id in accounts.items():
            expected = 0 if hold_id in self._books.holds else 1
            yield from _difference(account_id, f"ends of hold {hold_id}", Usd(expected), ends[hold_id])


def _balance(kind: Kind) -> str | None:
    """The balance that a transfer of this kind adds to."""
    if kind is Kind.GRANT:
        return "funded"
    if kind in CHARGES:
        return "charged"
    return "removed" if kind in REMOVALS else None


def _difference(account_id: AccountId, what: str, stored: Usd, recomputed: int) -> Iterator[Difference]:
    if stored.nanos != recomputed:
        yield Difference(account_id=account_id, what=what, stored_nanos=stored.nanos, recomputed_nanos=recomputed)
