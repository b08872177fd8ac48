"""What a batch of operations names in storage, what becomes of each, and the rows that are left to write."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from adapters.sql.ledger.rows import Row, Rows
from domain.credits import Kind
from domain.errors import DomainError
from domain.ids import AccountId, HoldId, KeyId, TransferId
from domain.ledger import (
    Books,
    ExtendHold,
    HoldExtended,
    HoldOpened,
    OpenHold,
    Operation,
    ReleaseHold,
    RenewHold,
    Result,
    SettleHold,
    derived_id,
)
from domain.usage import Generation

Outcome = Result | DomainError
"""What an operation's caller gets: its result, or its own refusal."""

STATES = {Kind.CHARGE: "charged", Kind.VOID: "voided"}
"""The kinds of transfer that end a hold, and the state that each leaves it in."""


class Store(Protocol):
    """One database's way of running a batch."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def transact(self, operations: Sequence[Operation]) -> Sequence[Outcome]:
        """Run all operations, in order, in one transaction that is durable when this returns.

        Raises StorageUnavailable where storage fails.  Any other exception means that something in this batch
        cannot be stored; then nothing of it was.
        """
        ...


class Named(Struct, frozen=True):
    """What must be locked and loaded before the operations can be applied."""

    accounts: list[AccountId]
    """In order of id, the order in which every process locks them."""
    holds: list[HoldId]
    keys: list[KeyId]
    """Keys of holds about to be opened; those of open holds are found through the hold."""
    derived: list[TransferId]
    records: dict[HoldId, Generation]
    """Records about to replace the stored one, which therefore need not be loaded."""


class Changes(Struct, frozen=True):
    """Rows to write."""

    accounts: list[Row]
    opened: list[Row]
    changed: list[Row]
    ended: list[Row]
    meters: list[Row]
    booked: list[Row]
    transfers: list[Row]
    generations: list[Row]


def named_by(operations: Sequence[Operation]) -> Named:
    accounts: set[AccountId] = set()
    keys: set[KeyId] = set()
    holds: dict[HoldId, bool] = {}
    """Hold -> whether some operation needs its stored record."""
    records: dict[HoldId, Generation] = {}
    derived: set[TransferId] = set()
    for operation in operations:
        accounts.add(operation.account_id)
        match operation:
            case OpenHold():
                holds.setdefault(operation.hold_id, False)
                if operation.cap:
                    keys.add(operation.cap.key_id)
            case SettleHold() | RenewHold():
                holds.setdefault(operation.hold_id, False)
                records[operation.hold_id] = operation.record
            case ExtendHold() | ReleaseHold():
                holds[operation.hold_id] = True
            case _:
                if (transfer_id := derived_id(operation)) is not None:
                    derived.add(transfer_id)
    for hold_id, needed in holds.items():
        if needed:
            records.pop(hold_id, None)
    return Named(sorted(accounts), list(holds), list(keys), list(derived), records)


def apply_all(books: Books, operations: Sequence[Operation]) -> list[Outcome]:
    """Each operation's result or its own refusal."""
    outcomes: list[Outcome] = []
    for operation in operations:
        try:
            outcomes.append(books.apply(operation))
        except DomainError as refusal:
            # Without its traceback, which would keep the whole batch alive for as long as the refusal.
            outcomes.append(refusal.with_traceback(None))
    return outcomes


def changes_of(books: Books, operations: Sequence[Operation], outcomes: Sequence[Outcome], rows: Rows) -> Changes:
    opened, changed, ended = _hold_rows(books, outcomes, rows)
    return Changes(
        accounts=[rows.account_row(books.accounts[account_id]) for account_id in sorted(books.touched_accounts)],
        opened=opened,
        changed=changed,
        ended=ended,
        meters=[rows.meter_row(books.meters[key_id]) for key_id in books.touched_meters],
        booked=[
            (transfer_id, operation.account_id)
            for operation, outcome in zip(operations, outcomes, strict=True)
            if (transfer_id := derived_id(operation)) is not None and not isinstance(outcome, DomainError)
        ],
        transfers=[rows.transfer_row(transfer) for transfer in books.transfers],
        generations=[rows.generation_row(record) for record in books.records],
    )


def _hold_rows(books: Books, outcomes: Sequence[Outcome], rows: Rows) -> tuple[list[Row], list[Row], list[Row]]:
    ends = _ends(books)
    opened: list[Row] = []
    changed: list[Row] = []
    ended: list[Row] = []
    for hold_id in books.touched_holds - books.opened:
        if end := ends.get(hold_id):
            ended.append(rows.ended_row(hold_id, *end))
        else:
            changed.append(rows.changed_row(books.holds[hold_id]))
    if books.opened:
        # A hold can be opened and ended by one batch: then only its results still know it.
        seen = {outcome.hold.id: outcome.hold for outcome in outcomes if isinstance(outcome, HoldOpened | HoldExtended)}
        for hold_id in books.opened:
            state, at = ends.get(hold_id, ("open", None))
            opened.append(rows.opened_row(books.holds.get(hold_id) or seen[hold_id], state, at))
    return opened, changed, ended


def _ends(books: Books) -> dict[HoldId, tuple[str, datetime]]:
    """How and when the holds that this batch ended did so."""
    return {
        HoldId(transfer.reference): (STATES[transfer.kind], transfer.at)
        for transfer in books.transfers
        if transfer.kind in STATES
    }
