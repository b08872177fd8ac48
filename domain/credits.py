"""A customer's credit: the lots it came in, what is held of it, and every way it moves.

Credit arrives in lots and burns in one fixed order: soonest expiry first, then not-purchased before purchased, then
oldest.  A request first *holds* credit, then *settles* what it really cost or *releases* the hold.  A hold takes its
credit out of named lots, so that a lot which expires meanwhile cannot make a settlement fail.

For every account, at every moment:  funded == free + held + charged + removed,  and no term is ever negative.

Every movement is an immutable transfer between two accounts.  Its id is derived from what caused it, so that doing it
twice collides instead of paying twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from domain.errors import Conflict, InvalidRequest, NotFound, PaymentRequired
from domain.ids import AccountId, HoldId, KeyId, LotId, TransferId
from domain.money import NANOS_MAX, ZERO, Usd, total
from domain.usage import Generation

NEVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""The expiry of a lot that has none; a real date, so that lots sort by expiry alone."""


class Source(StrEnum):
    """Where a lot's credit came from."""

    TRIAL = "trial"
    PROMOTION = "promotion"
    COUPON = "coupon"
    REFERRAL = "referral"
    PLAN = "plan"
    PURCHASE = "purchase"
    ADMIN = "admin"


class House(StrEnum):
    """The operator's own accounts: the other side of every customer's transfer."""

    CASH = "house:cash"
    PROMOTIONS = "house:promotions"
    REVENUE = "house:revenue"
    BREAKAGE = "house:breakage"
    """Credit that expired unused."""
    CHARGEBACKS = "house:chargebacks"
    ADJUSTMENTS = "house:adjustments"
    OVERRUN = "house:overrun"
    """What requests cost beyond all the credit their customer had."""
    VENDOR_LOSS = "house:vendor_loss"
    """What vendors produced that no customer pays for."""


class Lot(Struct, frozen=True, kw_only=True, gc=False):
    """Credit given once."""

    id: LotId
    source: Source
    granted: Usd
    free: Usd
    """Neither held, charged, nor removed."""
    held: Usd = ZERO
    granted_at: datetime
    expires_at: datetime = NEVER
    refundable: bool = False
    frozen: bool = False
    """Disputed: cannot be spent until the dispute ends."""

    @property
    def is_used_up(self) -> bool:
        return not self.free and not self.held


def burn_rank(lot: Lot) -> tuple[datetime, bool, datetime, LotId]:
    """Lots burn in this order."""
    return lot.expires_at, lot.source is Source.PURCHASE, lot.granted_at, lot.id


class Draw(Struct, frozen=True, gc=False):
    """A part of one lot."""

    lot_id: LotId
    amount: Usd


class Kind(StrEnum):
    """What a transfer does."""

    GRANT = "grant"
    HOLD = "hold"
    """Pending: reserves, and moves nothing until it is posted or voided."""
    EXTEND = "extend"
    """Pending: adds to a hold."""
    CHARGE = "charge"
    """Posts a hold, for at most its amount; the rest goes back to its lots."""
    VOID = "void"
    """Ends a hold without a charge."""
    EXCESS = "excess"
    """The part of a cost above its hold that free credit paid."""
    OVERRUN = "overrun"
    LOSS = "loss"
    EXPIRY = "expiry"
    WITHDRAWAL = "withdrawal"
    REFUND = "refund"


PENDING: Final = frozenset({Kind.HOLD, Kind.EXTEND, Kind.VOID})
"""Kinds that move no posted balance."""


class Transfer(Struct, frozen=True, kw_only=True, gc=False):
    """One immutable movement of `amount` from `debit` to `credit`."""

    id: TransferId
    account_id: AccountId
    """The customer concerned, also where both sides are the house's."""
    kind: Kind
    debit: str
    credit: str
    amount: Usd
    at: datetime
    reference: str = ""
    """The hold, lot, payment or request that it belongs to."""
    reason: str = ""
    draws: tuple[Draw, ...] = ()
    """The lots that the amount came from, where it came from a customer."""


class Hold(Struct, frozen=True, kw_only=True, gc=False):
    """Reserved credit; exactly one of charge and void ends it."""

    id: HoldId
    account_id: AccountId
    draws: tuple[Draw, ...]
    amount: Usd
    opened_at: datetime
    lease_until: datetime
    """After this the sweeper charges `watermark` and ends the hold."""
    record: Generation
    """What is known of the request so far; the sweeper completes it."""
    watermark: Usd = ZERO
    """What had been produced when the serving process last wrote it down."""
    metered_key: KeyId | None = None
    """The key whose own cap this hold counts against."""
    last_extension: int = -1
    """The number of the latest extension; repeating one collides."""


class InsufficientCredits(PaymentRequired):
    code = "insufficient_credits"

    def __init__(self, required: Usd, spendable: Usd, held: Usd) -> None:
        super().__init__(
            f"This request needs ${required} of credit and ${spendable} is spendable (${held} is held by requests that "
            "are still running). Add credit to this account, ask for fewer output tokens, or use a cheaper model."
        )
        self.required = required
        self.spendable = spendable
        self.held = held


class UnknownHold(NotFound):
    code = "hold_not_found"


class HoldEnded(Conflict):
    code = "hold_already_ended"


class AlreadyBooked(Conflict):
    code = "already_booked"


class UnknownLot(NotFound):
    code = "lot_not_found"


class NotRefundable(Conflict):
    code = "not_refundable"


class Reserved(Struct, frozen=True, gc=False):
    """The credit that a hold took."""

    account: CreditAccount
    draws: tuple[Draw, ...]
    amount: Usd


class Charged(Struct, frozen=True, gc=False):
    """How a cost was paid: from the hold, then from free credit, then by the house."""

    account: CreditAccount
    posted: tuple[Draw, ...]
    excess: tuple[Draw, ...]
    overrun: Usd


class CreditAccount(Struct, frozen=True, kw_only=True, gc=False):
    """Every method returns the account as it stands afterwards and changes nothing else."""

    id: AccountId
    lots: tuple[Lot, ...] = ()
    """Lots with something free or held; the used-up ones live on in the transfers only."""
    funded: Usd = ZERO
    held: Usd = ZERO
    charged: Usd = ZERO
    removed: Usd = ZERO
    """Expired, withdrawn or refunded."""

    @property
    def free(self) -> Usd:
        return total(lot.free for lot in self.lots)

    def spendable(self, at: datetime) -> Usd:
        return total(lot.free for lot in self.lots if not lot.frozen and lot.expires_at > at)

    def grant(self, lot: Lot) -> CreditAccount:
        if lot.granted.nanos <= 0:
            raise InvalidRequest("A grant of credit must be more than zero.", param="amount_usd")
        if lot.free != lot.granted or lot.held:
            raise InvalidRequest(f"The lot {lot.id} is new, so that all of it must be free.", param="lot")
        if self.funded.nanos + lot.granted.nanos > NANOS_MAX:
            raise InvalidRequest("An account cannot hold that much credit.", param="amount_usd")
        if any(lot.id == known.id for known in self.lots):
            raise AlreadyBooked(f"The lot {lot.id} has been granted before.")
        return replace(self, lots=(*self.lots, lot), funded=self.funded + lot.granted)

    def reserve(self, wanted: Usd, least: Usd, at: datetime) -> Reserved:
        """Take `wanted`, or what there is of it, but never less than `least`."""
        order = self._burn_order(at)
        spendable = total(lot.free for lot in order)
        if spendable < least:
            raise InsufficientCredits(least, spendable, self.held)
        amount = min(wanted, spendable)
        draws, _ = _take(((lot.id, lot.free) for lot in order), amount)
        lots = _moved(self.lots, draws, free=-1, held=+1)
        return Reserved(replace(self, lots=lots, held=self.held + amount), draws, amount)

    def charge(self, draws: tuple[Draw, ...], cost: Usd, at: datetime) -> Charged:
        """End a hold made of `draws` at `cost`; what the hold lacks comes from free credit, then from the house."""
        posted, missing = _take(((draw.lot_id, draw.amount) for draw in draws), cost)
        lots = _moved(self.lots, draws, free=+1, held=-1)
        lots = _moved(lots, posted, free=-1, held=0)
        amount = total(draw.amount for draw in draws)
        account = replace(self, lots=lots, held=self.held - amount, charged=self.charged + cost - missing)
        if not missing:
            return Charged(account._tidied(), posted, (), ZERO)
        order = account._burn_order(at)
        excess, overrun = _take(((lot.id, lot.free) for lot in order), missing)
        account = replace(
            account,
            lots=_moved(account.lots, excess, free=-1, held=0),
            charged=account.charged + missing - overrun,
        )
        return Charged(account._tidied(), posted, excess, overrun)

    def release(self, draws: tuple[Draw, ...]) -> CreditAccount:
        amount = total(draw.amount for draw in draws)
        lots = _moved(self.lots, draws, free=+1, held=-1)
        return replace(self, lots=lots, held=self.held - amount)._tidied()

    def expire(self, at: datetime) -> tuple[CreditAccount, tuple[Draw, ...]]:
        """Take away free credit past its date.  Held credit is left to its hold."""
        gone = tuple(Draw(lot.id, lot.free) for lot in self.lots if lot.free and lot.expires_at <= at)
        return self._without(gone), gone

    def withdraw(self, amount: Usd, at: datetime) -> tuple[CreditAccount, tuple[Draw, ...]]:
        """Take `amount` of spendable credit away, all of it or nothing."""
        if amount.nanos <= 0:
            raise InvalidRequest("A withdrawal must be more than zero.", param="amount_usd")
        order = self._burn_order(at)
        draws, missing = _take(((lot.id, lot.free) for lot in order), amount)
        if missing:
            raise InsufficientCredits(amount, amount - missing, self.held)
        return self._without(draws), draws

    def refund(self, lot_id: LotId, amount: Usd | None) -> tuple[CreditAccount, tuple[Draw, ...]]:
        """Take back unused purchased credit of one lot: `amount`, or all that is free of it."""
        lot = next((lot for lot in self.lots if lot.id == lot_id), None)
        if lot is None:
            raise UnknownLot(f"The lot {lot_id} does not exist or is used up.")
        if not lot.refundable:
            raise NotRefundable(f"The lot {lot_id} was not purchased, so that it cannot be refunded.")
        taken = lot.free if amount is None else amount
        if not ZERO < taken <= lot.free:
            raise NotRefundable(f"${lot.free} of the lot {lot_id} is unused; no more than that can be refunded.")
        draws = (Draw(lot_id, taken),)
        return self._without(draws), draws

    def _without(self, draws: tuple[Draw, ...]) -> CreditAccount:
        gone = total(draw.amount for draw in draws)
        lots = _moved(self.lots, draws, free=-1, held=0)
        return replace(self, lots=lots, removed=self.removed + gone)._tidied()

    def _burn_order(self, at: datetime) -> list[Lot]:
        live = [lot for lot in self.lots if lot.free and not lot.frozen and lot.expires_at > at]
        if len(live) > 1:
            live.sort(key=burn_rank)
        return live

    def _tidied(self) -> CreditAccount:
        if any(lot.is_used_up for lot in self.lots):
            return replace(self, lots=tuple(lot for lot in self.lots if not lot.is_used_up))
        return self


def _take(offered: Iterable[tuple[LotId, Usd]], amount: Usd) -> tuple[tuple[Draw, ...], Usd]:
    """Take `amount` from the front; return the draws and what was missing."""
    draws: list[Draw] = []
    for lot_id, free in offered:
        if not amount:
            break
        part = min(free, amount)
        if part:
            draws.append(Draw(lot_id, part))
            amount -= part
    return tuple(draws), amount


def _moved(lots: tuple[Lot, ...], draws: Iterable[Draw], *, free: int, held: int) -> tuple[Lot, ...]:
    """Each drawn lot with `free` and `held` times its draw added: the one place where lots change."""
    change: dict[LotId, int] = {}
    for draw in draws:
        change[draw.lot_id] = change.get(draw.lot_id, 0) + draw.amount.nanos
    if not change:
        return lots
    return tuple(
        lot
        if (nanos := change.get(lot.id, 0)) == 0
        else replace(lot, free=Usd(lot.free.nanos + free * nanos), held=Usd(lot.held.nanos + held * nanos))
        for lot in lots
    )
