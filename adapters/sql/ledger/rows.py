"""How accounts, holds, meters and transfers look as rows.

A row is a plain tuple in the order of its statement's columns.  The two databases differ in nothing but how a
moment is written, so that both share one `Rows`, told how to read and write moments.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from adapters.sql.schema import from_micros, to_micros
from domain.credits import NEVER, CreditAccount, Draw, Hold, Kind, Lot, Source, Transfer
from domain.ids import AccountId, HoldId, KeyId, LotId, TransferId
from domain.ledger import KeyMeter
from domain.money import Usd
from domain.usage import Generation

Row = tuple[Any, ...]
Moment = Callable[[Any], Any]


class LotRow(Struct, array_like=True, frozen=True):
    id: str
    source: Source
    granted: int
    free: int
    held: int
    granted_at: int
    expires_at: int
    refundable: bool
    frozen: bool


_encoder = msgspec.json.Encoder()
_lots = msgspec.json.Decoder(tuple[LotRow, ...])
_draws = msgspec.json.Decoder(tuple[tuple[str, int], ...])
_record = msgspec.json.Decoder(Generation)


class Rows:
    """Rows to values and back; `read` turns a stored moment into a datetime, `write` the other way."""

    def __init__(self, read: Moment, write: Moment) -> None:
        self._read = read
        self._write = write

    def hold_of(self, row: Row, record: Generation | None = None) -> Hold:
        """An open hold; `record` is what stands for a stored record that was not loaded."""
        hold_id, account_id, amount, watermark, draws, opened_at, lease_until, key, extension, stored = row
        return Hold(
            id=HoldId(hold_id),
            account_id=AccountId(account_id),
            draws=draws_of(draws),
            amount=Usd(amount),
            opened_at=self._read(opened_at),
            lease_until=self._read(lease_until),
            record=record_of(stored) if record is None else record,
            watermark=Usd(watermark),
            metered_key=None if key is None else KeyId(key),
            last_extension=extension,
        )

    def meter_of(self, row: Row) -> KeyMeter:
        key_id, account_id, requests, spent, held, period_start = row
        return KeyMeter(
            key_id=KeyId(key_id),
            account_id=AccountId(account_id),
            requests=requests,
            spent=Usd(spent),
            held=Usd(held),
            period_start=None if period_start is None else self._read(period_start),
        )

    def transfer_of(self, row: Row) -> Transfer:
        account_id, transfer_id, at, kind, debit, credit, amount, reference, reason, draws = row
        return Transfer(
            id=TransferId(transfer_id),
            account_id=AccountId(account_id),
            kind=Kind(kind),
            debit=debit,
            credit=credit,
            amount=Usd(amount),
            at=self._read(at),
            reference=reference,
            reason=reason,
            draws=draws_of(draws),
        )

    def account_row(self, account: CreditAccount) -> Row:
        dates = [lot.expires_at for lot in account.lots if lot.free and lot.expires_at != NEVER]
        return (
            account.id,
            account.funded.nanos,
            account.free.nanos,
            account.held.nanos,
            account.charged.nanos,
            account.removed.nanos,
            _encoder.encode([_lot_row(lot) for lot in account.lots]).decode(),
            self._write(min(dates)) if dates else None,
        )

    def opened_row(self, hold: Hold, state: str, ended_at: datetime | None) -> Row:
        return (
            hold.id,
            hold.account_id,
            state,
            hold.amount.nanos,
            hold.watermark.nanos,
            draws_text(hold.draws),
            self._write(hold.opened_at),
            self._write(hold.lease_until),
            None if ended_at is None else self._write(ended_at),
            hold.metered_key,
            hold.last_extension,
            record_text(hold.record) if ended_at is None else None,
        )

    def changed_row(self, hold: Hold) -> Row:
        return (
            hold.id,
            hold.amount.nanos,
            hold.watermark.nanos,
            draws_text(hold.draws),
            self._write(hold.lease_until),
            hold.last_extension,
            record_text(hold.record),
        )

    def ended_row(self, hold_id: HoldId, state: str, ended_at: datetime) -> Row:
        return hold_id, state, self._write(ended_at)

    def meter_row(self, meter: KeyMeter) -> Row:
        return (
            meter.key_id,
            meter.account_id,
            meter.requests,
            meter.spent.nanos,
            meter.held.nanos,
            None if meter.period_start is None else self._write(meter.period_start),
        )

    def transfer_row(self, transfer: Transfer) -> Row:
        return (
            transfer.account_id,
            transfer.id,
            self._write(transfer.at),
            transfer.kind.value,
            str(transfer.debit),
            str(transfer.credit),
            transfer.amount.nanos,
            transfer.reference,
            transfer.reason,
            draws_text(transfer.draws),
        )

    def generation_row(self, record: Generation) -> Row:
        return (
            record.account_id,
            record.id,
            self._write(record.started_at),
            record.key_id,
            record.model,
            record.vendor,
            record.outcome.value,
            record.usage.input_tokens,
            record.usage.output_tokens,
            record.cost.nanos,
            record_text(record),
        )


def account_of(row: Row) -> CreditAccount:
    account_id, funded, held, charged, removed, lots = row
    return CreditAccount(
        id=AccountId(account_id),
        lots=tuple(_lot_of(lot) for lot in _lots.decode(lots)),
        funded=Usd(funded),
        held=Usd(held),
        charged=Usd(charged),
        removed=Usd(removed),
    )


def draws_of(text: str) -> tuple[Draw, ...]:
    return tuple(Draw(LotId(lot_id), Usd(nanos)) for lot_id, nanos in _draws.decode(text))


def draws_text(draws: tuple[Draw, ...]) -> str:
    return _encoder.encode([(draw.lot_id, draw.amount.nanos) for draw in draws]).decode()


def record_of(text: str) -> Generation:
    return _record.decode(text)


def record_text(record: Generation) -> str:
    return _encoder.encode(record).decode()


def _lot_row(lot: Lot) -> LotRow:
    return LotRow(
        lot.id,
        lot.source,
        lot.granted.nanos,
        lot.free.nanos,
        lot.held.nanos,
        to_micros(lot.granted_at),
        to_micros(lot.expires_at),
        lot.refundable,
        lot.frozen,
    )


def _lot_of(row: LotRow) -> Lot:
    return Lot(
        id=LotId(row.id),
        source=row.source,
        granted=Usd(row.granted),
        free=Usd(row.free),
        held=Usd(row.held),
        granted_at=from_micros(row.granted_at),
        expires_at=from_micros(row.expires_at),
        refundable=row.refundable,
        frozen=row.frozen,
    )
