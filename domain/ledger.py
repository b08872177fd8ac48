"""What can be asked of the ledger, and what each question does to the books.

An operation is a value.  `Books.apply` runs one operation against the accounts and holds loaded for its batch: it
either changes them all, or raises and changes nothing, so that one poisoned operation fails alone.  Adapters only load
what a batch touches, lock it, and write down what changed; the rules are here, once, for every storage.
"""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from domain.credits import (
    AlreadyBooked,
    Charged,
    CreditAccount,
    Draw,
    Hold,
    HoldEnded,
    House,
    Kind,
    Lot,
    Source,
    Transfer,
    UnknownHold,
)
from domain.errors import InvalidRequest, PaymentRequired
from domain.ids import AccountId, HoldId, KeyId, LotId, TransferId
from domain.money import ZERO, Usd, total
from domain.usage import Generation


class KeyCap(Struct, frozen=True, kw_only=True, gc=False):
    """A key's own limits, exact because they are counted where its credit is held."""

    key_id: KeyId
    requests_max: int | None = None
    budget: Usd | None = None
    period_start: datetime | None = None
    """Start of the budget's current period; spending before it no longer counts."""


class KeyMeter(Struct, frozen=True, kw_only=True, gc=False):
    """What a capped key has used."""

    key_id: KeyId
    account_id: AccountId
    requests: int = 0
    spent: Usd = ZERO
    held: Usd = ZERO
    period_start: datetime | None = None


class KeyRequestsUsedUp(PaymentRequired):
    code = "key_budget_exceeded"


class KeyBudgetExceeded(PaymentRequired):
    code = "key_budget_exceeded"

    def __init__(self, budget: Usd, spent: Usd, held: Usd, needed: Usd) -> None:
        super().__init__(
            f"This key may spend ${budget} per period; ${spent} is spent and ${held} is held, and this request needs "
            f"${needed}. Raise the key's budget, wait for its next period, or use another key."
        )
        self.left = max(ZERO, budget - spent - held)


class OpenHold(Struct, frozen=True, kw_only=True, gc=False):
    """Reserve `wanted`, or what there is of it, but never less than `least`.

    Raises InsufficientCredits, KeyBudgetExceeded, KeyRequestsUsedUp, AlreadyBooked, InvalidRequest.
    """

    account_id: AccountId
    hold_id: HoldId
    wanted: Usd
    least: Usd
    at: datetime
    lease_until: datetime
    record: Generation
    cap: KeyCap | None = None


class ExtendHold(Struct, frozen=True, kw_only=True, gc=False):
    """Add `amount` to an open hold, all of it or nothing; `number` grows with each extension of the hold.

    Raises InsufficientCredits, HoldEnded, UnknownHold, AlreadyBooked.
    """

    account_id: AccountId
    hold_id: HoldId
    amount: Usd
    number: int
    at: datetime
    cap: KeyCap | None = None
    """The key's budget, which an extension must fit into as the hold did."""


class RenewHold(Struct, frozen=True, kw_only=True, gc=False):
    """Heartbeat: the lease, and what has been produced so far.  Raises HoldEnded, UnknownHold."""

    account_id: AccountId
    hold_id: HoldId
    lease_until: datetime
    watermark: Usd
    record: Generation


class SettleHold(Struct, frozen=True, kw_only=True, gc=False):
    """End a hold with `record.cost` charged (zero voids it) and `record` kept.  Raises HoldEnded, UnknownHold.

    `record.loss` is booked as the house's vendor loss.
    """

    account_id: AccountId
    hold_id: HoldId
    record: Generation
    at: datetime


class ReleaseHold(Struct, frozen=True, kw_only=True, gc=False):
    """End a hold that led to nothing, with no record kept.  Raises HoldEnded, UnknownHold."""

    account_id: AccountId
    hold_id: HoldId
    at: datetime


class GrantCredit(Struct, frozen=True, kw_only=True, gc=False):
    """Give a lot.  The lot's id is derived from its cause; repeating it raises AlreadyBooked."""

    account_id: AccountId
    lot: Lot
    reason: str = ""


class WithdrawCredit(Struct, frozen=True, kw_only=True, gc=False):
    """Take spendable credit away.  Raises InsufficientCredits, AlreadyBooked."""

    account_id: AccountId
    withdrawal_id: TransferId
    amount: Usd
    at: datetime
    reason: str


class RefundLot(Struct, frozen=True, kw_only=True, gc=False):
    """Give the money of unused purchased credit back.  Raises NotRefundable, UnknownLot, AlreadyBooked."""

    account_id: AccountId
    refund_id: TransferId
    lot_id: LotId
    amount: Usd | None
    at: datetime
    reason: str = ""


class ExpireLots(Struct, frozen=True, kw_only=True, gc=False):
    """Take away free credit past its date."""

    account_id: AccountId
    at: datetime


Operation = (
    OpenHold | ExtendHold | RenewHold | SettleHold | ReleaseHold | GrantCredit | WithdrawCredit | RefundLot | ExpireLots
)


class HoldOpened(Struct, frozen=True, kw_only=True, gc=False):
    hold: Hold
    spendable: Usd
    """What is left beside the hold."""


class HoldExtended(Struct, frozen=True, kw_only=True, gc=False):
    hold: Hold
    spendable: Usd


class HoldSettled(Struct, frozen=True, kw_only=True, gc=False):
    charged: Usd
    overrun: Usd
    spendable: Usd


class Booked(Struct, frozen=True, kw_only=True, gc=False):
    """The account after any other operation, and the amount that moved."""

    amount: Usd
    spendable: Usd


Result = HoldOpened | HoldExtended | HoldSettled | Booked


def derived_id(operation: Operation) -> TransferId | None:
    """The id that must not have been booked before, for operations that are not guarded by a hold's state."""
    match operation:
        case GrantCredit():
            return TransferId(f"grant:{operation.lot.id}")
        case WithdrawCredit():
            return operation.withdrawal_id
        case RefundLot():
            return operation.refund_id
        case _:
            return None


class Books:
    """The accounts and holds that one batch touches, and what the batch has changed so far."""

    def __init__(self) -> None:
        self.accounts: dict[AccountId, CreditAccount] = {}
        self.holds: dict[HoldId, Hold] = {}
        """Open holds named by the batch, or opened by it."""
        self.ended: set[HoldId] = set()
        """Holds named by the batch that have ended, before it or in it."""
        self.booked: set[TransferId] = set()
        """Derived ids, asked for by the batch, that exist."""
        self.meters: dict[KeyId, KeyMeter] = {}

        self.touched_accounts: set[AccountId] = set()
        self.touched_holds: set[HoldId] = set()
        self.opened: set[HoldId] = set()
        """Holds that storage does not know yet."""
        self.touched_meters: set[KeyId] = set()
        self.transfers: list[Transfer] = []
        self.records: list[Generation] = []

    def apply(self, operation: Operation) -> Result:  # noqa: PLR0911 - one return per kind of operation
        match operation:
            case OpenHold():
                return self._open(operation)
            case SettleHold():
                return self._settle(operation)
            case RenewHold():
                return self._renew(operation)
            case ExtendHold():
                return self._extend(operation)
            case ReleaseHold():
                return self._release(operation)
            case GrantCredit():
                return self._grant(operation)
            case WithdrawCredit():
                return self._withdraw(operation)
            case RefundLot():
                return self._refund(operation)
            case ExpireLots():
                return self._expire(operation)
            case _:
                assert_never(operation)

    def _open(self, op: OpenHold) -> HoldOpened:
        if op.hold_id in self.holds or op.hold_id in self.ended:
            raise AlreadyBooked(f"The hold {op.hold_id} has been opened before.")
        if not 0 <= op.least.nanos <= op.wanted.nanos:
            raise InvalidRequest(f"A hold of at least ${op.least} and at most ${op.wanted} makes no sense.")
        meter = self._meter_with(op.cap, op.account_id, op.least) if op.cap else None
        wanted = op.wanted
        if op.cap and op.cap.budget is not None and meter:
            wanted = min(wanted, op.cap.budget - meter.spent - meter.held)
        taken = self._account(op.account_id).reserve(wanted, op.least, op.at)
        hold = Hold(
            id=op.hold_id,
            account_id=op.account_id,
            draws=taken.draws,
            amount=taken.amount,
            opened_at=op.at,
            lease_until=op.lease_until,
            record=op.record,
            metered_key=op.cap.key_id if op.cap else None,
        )
        self._keep(taken.account)
        self._keep_hold(hold)
        self.opened.add(hold.id)
        if meter:
            self._keep_meter(replace(meter, requests=meter.requests + 1, held=meter.held + taken.amount))
        self._book(
            f"hold:{op.hold_id}", op.account_id, Kind.HOLD, op.account_id, House.REVENUE, taken.amount, op.at,
            reference=op.hold_id, draws=taken.draws,
        )  # fmt: skip
        return HoldOpened(hold=hold, spendable=taken.account.spendable(op.at))

    def _extend(self, op: ExtendHold) -> HoldExtended:
        hold = self._open_hold(op.hold_id, op.account_id)
        if op.number <= hold.last_extension:
            raise AlreadyBooked(f"The extension {op.number} of the hold {op.hold_id} has been made before.")
        if op.amount.nanos <= 0:
            raise InvalidRequest("An extension of a hold must be more than zero.")
        meter = self.meters.get(hold.metered_key) if hold.metered_key else None
        budget = op.cap.budget if op.cap else None
        if meter is not None and budget is not None and meter.spent + meter.held + op.amount > budget:
            raise KeyBudgetExceeded(budget, meter.spent, meter.held, op.amount)
        taken = self._account(op.account_id).reserve(op.amount, op.amount, op.at)
        longer = replace(
            hold,
            draws=hold.draws + taken.draws,
            amount=hold.amount + taken.amount,
            last_extension=op.number,
        )
        self._keep(taken.account)
        self._keep_hold(longer)
        self._meter_moves(hold, held=taken.amount)
        self._book(
            f"extend:{op.hold_id}:{op.number}", op.account_id, Kind.EXTEND, op.account_id, House.REVENUE,
            taken.amount, op.at, reference=op.hold_id, draws=taken.draws,
        )  # fmt: skip
        return HoldExtended(hold=longer, spendable=taken.account.spendable(op.at))

    def _renew(self, op: RenewHold) -> Booked:
        hold = self._open_hold(op.hold_id, op.account_id)
        self._keep_hold(replace(hold, lease_until=op.lease_until, watermark=op.watermark, record=op.record))
        return Booked(amount=hold.amount, spendable=ZERO)

    def _settle(self, op: SettleHold) -> HoldSettled:
        hold = self._open_hold(op.hold_id, op.account_id)
        cost = op.record.cost
        if cost.nanos < 0 or op.record.loss.nanos < 0:
            raise InvalidRequest(f"The request {op.hold_id} cannot have cost less than nothing.")
        paid = self._account(op.account_id).charge(hold.draws, cost, op.at)
        self._keep(paid.account)
        self._end_hold(hold)
        self._meter_moves(hold, held=-hold.amount, spent=cost - paid.overrun)
        self._book_charge(op, cost, paid)
        self.records.append(op.record)
        return HoldSettled(charged=cost - paid.overrun, overrun=paid.overrun, spendable=paid.account.spendable(op.at))

    def _book_charge(self, op: SettleHold, cost: Usd, paid: Charged) -> None:
        customer, request = op.account_id, op.hold_id
        posted = total(draw.amount for draw in paid.posted)
        if cost:
            self._book(
                f"charge:{request}", customer, Kind.CHARGE, customer, House.REVENUE, posted, op.at,
                reference=request, draws=paid.posted,
            )  # fmt: skip
        else:
            self._book_void(customer, request, op.at)
        if paid.excess:
            self._book(
                f"excess:{request}", customer, Kind.EXCESS, customer, House.REVENUE,
                total(draw.amount for draw in paid.excess), op.at, reference=request, draws=paid.excess,
            )  # fmt: skip
        if paid.overrun:
            self._book(
                f"overrun:{request}", customer, Kind.OVERRUN, House.OVERRUN, House.REVENUE, paid.overrun, op.at,
                reference=request,
            )  # fmt: skip
        if op.record.loss:
            self._book(
                f"loss:{request}", customer, Kind.LOSS, House.VENDOR_LOSS, House.REVENUE, op.record.loss, op.at,
                reference=request,
            )  # fmt: skip

    def _release(self, op: ReleaseHold) -> Booked:
        hold = self._open_hold(op.hold_id, op.account_id)
        account = self._account(op.account_id).release(hold.draws)
        self._keep(account)
        self._end_hold(hold)
        self._meter_moves(hold, held=-hold.amount, requests=-1)
        self._book_void(op.account_id, op.hold_id, op.at)
        return Booked(amount=hold.amount, spendable=account.spendable(op.at))

    def _grant(self, op: GrantCredit) -> Booked:
        lot = op.lot
        transfer_id = self._unbooked(op)
        account = self._account(op.account_id).grant(lot)
        self._keep(account)
        house = House.CASH if lot.source is Source.PURCHASE else House.PROMOTIONS
        self._book(
            transfer_id, op.account_id, Kind.GRANT, house, op.account_id, lot.granted, lot.granted_at,
            reference=lot.id, reason=op.reason, draws=(Draw(lot.id, lot.granted),),
        )  # fmt: skip
        return Booked(amount=lot.granted, spendable=account.spendable(lot.granted_at))

    def _withdraw(self, op: WithdrawCredit) -> Booked:
        transfer_id = self._unbooked(op)
        account, draws = self._account(op.account_id).withdraw(op.amount, op.at)
        self._keep(account)
        self._book(
            transfer_id, op.account_id, Kind.WITHDRAWAL, op.account_id, House.ADJUSTMENTS, op.amount, op.at,
            reason=op.reason, draws=draws,
        )  # fmt: skip
        return Booked(amount=op.amount, spendable=account.spendable(op.at))

    def _refund(self, op: RefundLot) -> Booked:
        transfer_id = self._unbooked(op)
        account, draws = self._account(op.account_id).refund(op.lot_id, op.amount)
        self._keep(account)
        amount = total(draw.amount for draw in draws)
        self._book(
            transfer_id, op.account_id, Kind.REFUND, op.account_id, House.CASH, amount, op.at,
            reference=op.lot_id, reason=op.reason, draws=draws,
        )  # fmt: skip
        return Booked(amount=amount, spendable=account.spendable(op.at))

    def _expire(self, op: ExpireLots) -> Booked:
        before = self._account(op.account_id)
        account, gone = before.expire(op.at)
        if gone:
            self._keep(account)
        for draw in gone:
            # A lot can expire twice: what a hold gives back after the date goes the same way.  What the account had
            # lost before tells the two apart, also where both happen at one moment.
            self._book(
                f"expiry:{draw.lot_id}:{before.removed.nanos}", op.account_id, Kind.EXPIRY, op.account_id,
                House.BREAKAGE, draw.amount, op.at, reference=draw.lot_id, draws=(draw,),
            )  # fmt: skip
        return Booked(amount=total(draw.amount for draw in gone), spendable=account.spendable(op.at))

    def _account(self, account_id: AccountId) -> CreditAccount:
        return self.accounts.get(account_id) or CreditAccount(id=account_id)

    def _keep(self, account: CreditAccount) -> None:
        self.accounts[account.id] = account
        self.touched_accounts.add(account.id)

    def _open_hold(self, hold_id: HoldId, account_id: AccountId) -> Hold:
        """The hold, if it is open and that account's: only the account named by the operation is locked."""
        hold = self.holds.get(hold_id)
        if hold is None or hold.account_id != account_id:
            if hold_id in self.ended:
                raise HoldEnded(f"The hold {hold_id} has ended before.")
            raise UnknownHold(f"The hold {hold_id} does not exist.")
        return hold

    def _keep_hold(self, hold: Hold) -> None:
        self.holds[hold.id] = hold
        self.touched_holds.add(hold.id)

    def _end_hold(self, hold: Hold) -> None:
        del self.holds[hold.id]
        self.ended.add(hold.id)
        self.touched_holds.add(hold.id)

    def _unbooked(self, operation: GrantCredit | WithdrawCredit | RefundLot) -> TransferId:
        transfer_id = derived_id(operation)
        assert transfer_id is not None, "every operation of these kinds has a derived id"
        if transfer_id in self.booked:
            raise AlreadyBooked(f"{transfer_id} has been booked before.")
        return transfer_id

    def _book(
        self,
        transfer_id: str,
        account_id: AccountId,
        kind: Kind,
        debit: str,
        credit: str,
        amount: Usd,
        at: datetime,
        *,
        reference: str = "",
        reason: str = "",
        draws: tuple[Draw, ...] = (),
    ) -> None:
        """The one place where a ledger line is made."""
        self.booked.add(TransferId(transfer_id))
        self.transfers.append(
            Transfer(
                id=TransferId(transfer_id),
                account_id=account_id,
                kind=kind,
                debit=debit,
                credit=credit,
                amount=amount,
                at=at,
                reference=reference,
                reason=reason,
                draws=draws,
            )
        )

    def _book_void(self, account_id: AccountId, hold_id: HoldId, at: datetime) -> None:
        self._book(f"void:{hold_id}", account_id, Kind.VOID, House.REVENUE, account_id, ZERO, at, reference=hold_id)

    def _meter_with(self, cap: KeyCap, account_id: AccountId, least: Usd) -> KeyMeter:
        """The key's meter in the current period.  Raises where the cap leaves no room for `least`."""
        meter = self.meters.get(cap.key_id) or KeyMeter(
            key_id=cap.key_id, account_id=account_id, period_start=cap.period_start
        )
        if cap.period_start and (meter.period_start is None or meter.period_start < cap.period_start):
            # Only forwards: a request admitted just before the period ended must not reopen it.
            meter = replace(meter, spent=ZERO, period_start=cap.period_start)
        if cap.requests_max is not None and meter.requests >= cap.requests_max:
            raise KeyRequestsUsedUp(
                f"This key's {cap.requests_max} requests are used up. Raise its max_requests or use another key."
            )
        if cap.budget is not None and meter.spent + meter.held + least > cap.budget:
            raise KeyBudgetExceeded(cap.budget, meter.spent, meter.held, least)
        return meter

    def _meter_moves(self, hold: Hold, *, held: Usd, spent: Usd = ZERO, requests: int = 0) -> None:
        meter = self.meters.get(hold.metered_key) if hold.metered_key else None
        if meter is not None:
            self._keep_meter(
                replace(
                    meter,
                    held=meter.held + held,
                    spent=meter.spent + spent,
                    requests=meter.requests + requests,
                )
            )

    def _keep_meter(self, meter: KeyMeter) -> None:
        self.meters[meter.key_id] = meter
        self.touched_meters.add(meter.key_id)
