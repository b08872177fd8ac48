"""No sequence of operations, expiries and crashes creates or loses a nano-dollar, on any storage.

The machine keeps a naive model of the lots and compares every lot and every balance after each step.  Time only
moves forward, by whole hours; amounts are small, so that they collide with each other and with what there is.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from adapters.memory.ledger import MemoryLedger
from adapters.sql.database import Database
from adapters.sql.ledger.group_commit import SqlLedger
from domain.credits import (
    NEVER,
    AlreadyBooked,
    HoldEnded,
    InsufficientCredits,
    Kind,
    NotRefundable,
    Source,
    UnknownLot,
)
from domain.ids import LotId
from domain.ledger import ExpireLots
from domain.money import Usd
from domain.ports.ledger import Ledger
from tests import services
from tests.contracts.ledgers import (  # noqa: F401 - the fixtures are asked for by their names
    ANN,
    HOUR,
    NOON,
    empty_tables,
    extend,
    grant,
    hold,
    migrated_file,
    migrated_schema,
    refund,
    release,
    renew,
    settle,
    withdraw,
)
from tests.examples import examples

pytestmark = pytest.mark.hypothesis

FOREVER = 10**6
LEASE_HOURS = 1

amounts = st.integers(1, 1_000)
costs = st.integers(0, 1_500)
places = st.integers(0, 99)
sources = st.sampled_from([Source.PURCHASE, Source.TRIAL, Source.PLAN])


@dataclass
class ModelLot:
    id: str
    free: int
    expires: int
    purchased: bool
    granted: int
    refundable: bool
    held: int = 0

    @property
    def place(self) -> tuple[int, bool, int, str]:
        return self.expires, self.purchased, self.granted, self.id


@dataclass
class ModelHold:
    opened: int
    lease: int
    parts: list[tuple[ModelLot, int]]
    watermark: int = 0
    extensions: int = 0


@dataclass
class Model:
    """The same rules, said as plainly as possible."""

    hours: int = 0
    lots: dict[str, ModelLot] = field(default_factory=dict)
    holds: dict[str, ModelHold] = field(default_factory=dict)
    """Open ones."""
    ended: list[str] = field(default_factory=list)
    sums: Counter[str] = field(default_factory=Counter)

    def spendable(self) -> int:
        return sum(lot.free for lot in self.live())

    def live(self) -> list[ModelLot]:
        return sorted((lot for lot in self.lots.values() if lot.expires > self.hours), key=lambda lot: lot.place)

    def hold(self, amount: int) -> list[tuple[ModelLot, int]]:
        parts = self.taken(amount)
        for lot, part in parts:
            lot.held += part
        return parts

    def settle(self, hold_id: str, cost: int) -> int:
        """Returns what the house had to pay."""
        self.ended.append(hold_id)
        for lot, part in self.holds.pop(hold_id).parts:
            paid = min(part, cost)
            cost -= paid
            lot.held -= part
            lot.free += part - paid
            self.sums["charged"] += paid
        excess = min(cost, self.spendable())
        self.taken(excess)
        self.sums["charged"] += excess
        self.sums["overrun"] += cost - excess
        return cost - excess

    def taken(self, amount: int) -> list[tuple[ModelLot, int]]:
        parts = []
        for lot in self.live():
            part = min(lot.free, amount)
            if part:
                lot.free -= part
                amount -= part
                parts.append((lot, part))
        assert amount == 0
        return parts


class Place(Protocol):
    """Where a machine's ledger lives, and how it is found again after a crash."""

    async def open(self) -> Ledger: ...

    async def crash(self) -> Ledger: ...

    async def close(self) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self._ledger = MemoryLedger()

    async def open(self) -> Ledger:
        return self._ledger

    async def crash(self) -> Ledger:
        return self._ledger

    async def close(self) -> None:
        """Nothing to close."""


class InDatabase:
    def __init__(self, connect: Callable[[], Awaitable[Database]]) -> None:
        self._connect = connect

    async def open(self) -> Ledger:
        self._database = await self._connect()
        return await self._open()

    async def crash(self) -> Ledger:
        """Stop working in the middle of everything, as if killed."""
        for task in asyncio.all_tasks():
            if task.get_name() == "ledger":
                task.cancel()
        await self._ledger.close()
        return await self._open()

    async def close(self) -> None:
        await self._ledger.close()
        await self._database.close()

    async def _open(self) -> Ledger:
        self._ledger = SqlLedger(self._database)
        await self._ledger.open()
        return self._ledger


class CreditMachine(RuleBasedStateMachine):
    def __init__(self, place: Place) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.place = place
        self.ledger = self.loop.run(place.open())
        self.model = Model()
        self.steps = 0

    def teardown(self) -> None:
        self.loop.run(self.place.close())
        self.loop.close()

    @property
    def now(self) -> Any:
        return NOON + self.model.hours * HOUR

    def ask(self, operation: Any) -> Any:
        async def submit() -> Any:
            return await self.ledger.submit(operation)

        return self.loop.run(submit())

    def refuses(self, refusal: type[Exception], operation: Any) -> None:
        with pytest.raises(refusal):
            self.ask(operation)

    def fresh(self, kind: str) -> str:
        self.steps += 1
        return f"{kind}{self.steps}"

    @initialize(amount=amounts)
    def begin_with_credit(self, amount: int) -> None:
        self.grant(amount, None, Source.PURCHASE, True)

    @rule(
        amount=amounts,
        lives=st.none() | st.integers(1, 9),
        source=sources,
        refundable=st.booleans(),
    )
    def grant(self, amount: int, lives: int | None, source: Source, refundable: bool) -> None:
        lot_id = self.fresh("lot")
        expires = FOREVER if lives is None else self.model.hours + lives
        expires_at = NEVER if lives is None else NOON + expires * HOUR
        operation = grant(
            lot_id, amount, source=source, refundable=refundable, granted_at=self.now, expires_at=expires_at
        )
        self.ask(operation)
        self.refuses(AlreadyBooked, operation)
        self.model.lots[lot_id] = ModelLot(
            lot_id, amount, expires, source is Source.PURCHASE, self.model.hours, refundable
        )
        self.model.sums["funded"] += amount

    @rule(wanted=amounts, surplus=st.integers(0, 500))
    def hold(self, wanted: int, surplus: int) -> None:
        hold_id = self.fresh("hold")
        spendable = self.model.spendable()
        operation = hold(hold_id, wanted + surplus, least=wanted, at=self.now)
        if spendable < wanted:
            self.refuses(InsufficientCredits, operation)
            return
        amount = min(spendable, wanted + surplus)
        assert self.ask(operation).hold.amount == Usd(amount)
        self.refuses(AlreadyBooked, operation)
        self.model.holds[hold_id] = ModelHold(self.model.hours, self.model.hours + LEASE_HOURS, self.model.hold(amount))

    @precondition(lambda self: self.model.holds)
    @rule(place=places, amount=amounts)
    def extend(self, place: int, amount: int) -> None:
        hold_id = picked(self.model.holds, place)
        held = self.model.holds[hold_id]
        operation = extend(hold_id, amount, held.extensions + 1, at=self.now)
        if self.model.spendable() < amount:
            self.refuses(InsufficientCredits, operation)
            return
        self.ask(operation)
        self.refuses(AlreadyBooked, operation)
        held.parts += self.model.hold(amount)
        held.extensions += 1

    @precondition(lambda self: self.model.holds)
    @rule(place=places, watermark=costs)
    def renew(self, place: int, watermark: int) -> None:
        hold_id = picked(self.model.holds, place)
        held = self.model.holds[hold_id]
        held.lease, held.watermark = self.model.hours + LEASE_HOURS, watermark
        self.ask(renew(hold_id, watermark, NOON + held.lease * HOUR))

    @precondition(lambda self: self.model.holds)
    @rule(place=places, cost=costs, loss=st.integers(0, 5))
    def settle(self, place: int, cost: int, loss: int) -> None:
        hold_id = picked(self.model.holds, place)
        overrun = self.model.settle(hold_id, cost)
        settled = self.ask(settle(hold_id, cost, at=self.now, loss=loss))
        assert (settled.charged, settled.overrun) == (Usd(cost - overrun), Usd(overrun))
        self.model.sums["loss"] += loss

    @precondition(lambda self: self.model.holds)
    @rule(place=places)
    def settle_at_exactly_what_is_held(self, place: int) -> None:
        held = self.model.holds[picked(self.model.holds, place)]
        self.settle(place, sum(part for _, part in held.parts), 0)

    @precondition(lambda self: self.model.holds)
    @rule(place=places)
    def release(self, place: int) -> None:
        hold_id = picked(self.model.holds, place)
        self.model.settle(hold_id, 0)
        self.ask(release(hold_id))

    @precondition(lambda self: self.model.ended)
    @rule(place=places)
    def end_again(self, place: int) -> None:
        hold_id = picked(self.model.ended, place)
        for operation in (settle(hold_id, 5), release(hold_id), extend(hold_id, 5, 99), renew(hold_id, 5)):
            self.refuses(HoldEnded, operation)
        self.refuses(AlreadyBooked, hold(hold_id, 1))

    @rule(amount=amounts)
    def withdraw(self, amount: int) -> None:
        operation = withdraw(self.fresh("withdrawal"), amount, at=self.now)
        if self.model.spendable() < amount:
            self.refuses(InsufficientCredits, operation)
            return
        self.model.taken(amount)
        self.model.sums["removed"] += amount
        self.ask(operation)
        self.refuses(AlreadyBooked, operation)

    @rule(place=places, amount=st.none() | amounts)
    def refund(self, place: int, amount: int | None) -> None:
        lot_id = picked(self.model.lots, place)
        lot = self.model.lots[lot_id]
        operation = refund(self.fresh("refund"), LotId(lot_id), amount)
        if not lot.free and not lot.held:
            self.refuses(UnknownLot, operation)
        elif not lot.refundable or not lot.free or (amount or 0) > lot.free:
            self.refuses(NotRefundable, operation)
        else:
            taken = lot.free if amount is None else amount
            lot.free -= taken
            self.model.sums["removed"] += taken
            self.ask(operation)

    @rule(hours=st.integers(1, 4), sweeps=st.booleans())
    def let_time_pass(self, hours: int, sweeps: bool) -> None:
        self.model.hours += hours
        if sweeps:
            self.expire()

    @rule()
    def expire(self) -> None:
        gone = [lot for lot in self.model.lots.values() if lot.free and lot.expires <= self.model.hours]
        assert self.loop.run(self.ledger.accounts_to_expire(self.now, 9)) == ([ANN] if gone else [])
        self.ask(ExpireLots(account_id=ANN, at=self.now))
        for lot in gone:
            self.model.sums["removed"] += lot.free
            lot.free = 0

    @rule()
    def crash(self) -> None:
        self.ledger = self.loop.run(self.place.crash())

    @rule()
    def sweep(self) -> None:
        """End what nobody renewed, at what had been produced."""
        overdue = self.loop.run(self.ledger.overdue_holds(self.now, 1_000))
        expected = {name for name, held in self.model.holds.items() if held.lease < self.model.hours}
        assert {held.id for held in overdue} == expected
        for held in overdue:
            assert held.watermark == Usd(self.model.holds[held.id].watermark)
            self.model.settle(held.id, held.watermark.nanos)
            self.ask(settle(held.id, held.watermark.nanos, at=self.now))

    @invariant()
    def every_nano_is_accounted_for(self) -> None:
        account = self.loop.run(self.ledger.account(ANN))
        sums = self.model.sums
        assert {lot.id: (lot.free.nanos, lot.held.nanos) for lot in account.lots} == {
            lot.id: (lot.free, lot.held) for lot in self.model.lots.values() if lot.free or lot.held
        }
        assert account.funded.nanos == sums["funded"]
        assert account.charged.nanos == sums["charged"]
        assert account.removed.nanos == sums["removed"]
        assert account.funded == account.free + account.held + account.charged + account.removed
        assert account.charged + account.held <= account.funded
        assert account.spendable(self.now).nanos == self.model.spendable()

    @invariant()
    def what_one_account_pays_another_receives(self) -> None:
        balances: Counter[str] = Counter()
        for transfer in self.loop.run(self.ledger.transfers(ANN, 10_000, None)):
            assert transfer.kind not in {Kind.HOLD, Kind.EXTEND, Kind.VOID}
            balances[transfer.credit] += transfer.amount.nanos
            balances[transfer.debit] -= transfer.amount.nanos
        sums = self.model.sums
        assert sum(balances.values()) == 0
        assert balances[ANN] == sum(lot.free + lot.held for lot in self.model.lots.values())
        assert balances["house:revenue"] == sums["charged"] + sums["overrun"] + sums["loss"]

    @invariant()
    def the_ledger_finds_no_difference(self) -> None:
        assert self.loop.run(self.ledger.verify()) == []


def picked(among: Iterable[str], place: int) -> str:
    names = sorted(among)
    return names[place % len(names)]


def run(place: Callable[[], Place], *, usual: int, steps: int, shrinks: bool) -> None:
    class Here(CreditMachine):
        def __init__(self) -> None:
            super().__init__(place())

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=examples(usual),
            stateful_step_count=steps,
            deadline=None,
            database=None,
            # On a database shrinking takes minutes; what fails there alone is told as it was found.
            phases=[Phase.generate, Phase.shrink] if shrinks else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_in_memory() -> None:
    run(InMemory, usual=60, steps=50, shrinks=True)


def test_on_sqlite(ledger_on_sqlite: Path, tmp_path: Path) -> None:
    async def connect() -> Database:
        return Database(f"sqlite+aiosqlite:///{shutil.copy(ledger_on_sqlite, tmp_path)}")

    run(lambda: InDatabase(connect), usual=8, steps=40, shrinks=False)


def test_on_postgres(ledger_on_postgres: services.PostgresPlace) -> None:
    async def connect() -> Database:
        database = Database(ledger_on_postgres.server_url, schema=ledger_on_postgres.schema)
        await empty_tables(database)
        return database

    run(lambda: InDatabase(connect), usual=8, steps=40, shrinks=False)
