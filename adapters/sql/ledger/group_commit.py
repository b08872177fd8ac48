"""Group commit: every operation that arrives while a transaction runs becomes part of the next one.

An operation is applied to the locked rows of its accounts and is durable when its future answers, yet many
share the cost of one transaction.  Operations of one process take effect in the order of their submission.

StorageUnavailable says that an operation did not happen, with one exception: where the connection breaks at
COMMIT, nobody knows.  Settling, releasing, renewing and granting may always be repeated, because their second
time is refused or changes nothing; a hold that nobody knows of is ended by the sweeper.
"""

from __future__ import annotations

import asyncio
from asyncio import Future, Task
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from adapters.sql.database import DOWN, Database
from adapters.sql.ledger.batch import Outcome, Store
from adapters.sql.ledger.postgresql import PostgresStore
from adapters.sql.ledger.reads import LedgerReads
from adapters.sql.ledger.sqlite import SqliteStore
from adapters.sql.ledger.verify import differences
from domain.credits import CreditAccount, Hold, Transfer
from domain.errors import StorageUnavailable
from domain.ids import AccountId, KeyId
from domain.ledger import KeyMeter, Operation, ReleaseHold, RenewHold, SettleHold
from domain.ports.ledger import Difference
from domain.usage import Generation

BATCH_MAX = 512
QUEUE_MAX = 10_000
LINGER_S = 0.004
"""How long what nobody waits for may wait for company."""
SILENCE_S = 1.0
"""Where storage has said nothing for so long, whoever waited for its turn meanwhile does not wait once more."""
UNHURRIED = frozenset({SettleHold, ReleaseHold, RenewHold})

Waiting = tuple[Operation, Future[Any]]


class StorageRefusedError(RuntimeError):
    """A constraint stopped an operation that the rules allowed: a defect, and nothing of it happened."""


class SqlLedger:
    """Belongs to the event loop that opened it."""

    def __init__(self, database: Database) -> None:
        self.committed: Callable[[int, float], None] | None = None
        """Told of each batch: its operations, and the seconds that it took."""
        self._database = database
        self._reads = LedgerReads(database)
        self._waiting: deque[Waiting] = deque()
        self._store: Store = (
            SqliteStore(database)
            if database.is_sqlite
            else PostgresStore(database, is_more_waiting=lambda: bool(self._waiting))
        )
        self._arrived = asyncio.Event()
        self._urgent = asyncio.Event()
        """Somebody waits for what has arrived."""
        self._submitted = 0
        self._answered = 0
        self._turn = asyncio.Event()
        """Set, and replaced, whenever a batch has been answered."""
        self._worker: Task[None] | None = None
        self._closing = False

    async def open(self) -> None:
        """Start taking operations.  Storage is reached with the first, and again after each outage."""
        await self._store.open()
        self._worker = asyncio.get_running_loop().create_task(self._work(), name="ledger")

    async def close(self) -> None:
        """Finish everything submitted; what comes later is refused."""
        self._closing = True
        self._urgent.set()
        self._arrived.set()
        if self._worker is not None:
            await asyncio.wait([self._worker])
            self._worker = None
            await self._store.close()

    def submit(self, operation: Operation) -> Future[Any]:
        answer: Future[Any] = asyncio.get_running_loop().create_future()
        if self._closing or self._worker is None:
            answer.set_exception(StorageUnavailable("The ledger is closed. Nothing was charged."))
        elif len(self._waiting) >= QUEUE_MAX:
            answer.set_exception(StorageUnavailable("Storage is too busy. Nothing was charged; try again shortly."))
        else:
            self._waiting.append((operation, answer))
            self._submitted += 1
            if type(operation) not in UNHURRIED:
                self._urgent.set()
            self._arrived.set()
        return answer

    async def flush(self) -> None:
        """Wait until everything submitted so far has been answered."""
        goal = self._submitted
        self._urgent.set()
        while self._answered < goal:
            await self._turn.wait()

    async def account(self, account_id: AccountId) -> CreditAccount:
        await self.flush()
        return await self._reads.account(account_id)

    async def key_meter(self, key_id: KeyId) -> KeyMeter | None:
        await self.flush()
        return await self._reads.key_meter(key_id)

    async def overdue_holds(self, at: datetime, limit: int) -> Sequence[Hold]:
        return await self._reads.overdue_holds(at, limit)

    async def accounts_to_expire(self, at: datetime, limit: int) -> Sequence[AccountId]:
        return await self._reads.accounts_to_expire(at, limit)

    async def transfers(self, account_id: AccountId, limit: int, before: str | None) -> Sequence[Transfer]:
        await self.flush()
        return await self._reads.transfers(account_id, limit, before)

    async def generation(self, account_id: AccountId, request_id: str) -> Generation | None:
        await self.flush()
        return await self._reads.generation(account_id, request_id)

    async def verify(self) -> Sequence[Difference]:
        return await differences(self._database)

    async def _work(self) -> None:
        try:
            while True:
                await self._arrived.wait()
                while self._waiting:
                    await self._gathered()
                    size = min(BATCH_MAX, len(self._waiting))
                    batch = [self._waiting.popleft() for _ in range(size)]
                    if not self._waiting:
                        self._urgent.clear()
                    await self._commit(batch)
                if self._closing:
                    return
                self._arrived.clear()
        finally:
            # Stopped from outside, because the event loop ends: nobody may wait for ever.
            self._closing = True
            self._answer(list(self._waiting), _unavailable(len(self._waiting)))
            self._waiting.clear()

    async def _gathered(self) -> None:
        """Let a batch grow: for a moment where nobody waits, else once around the event loop.

        That once, whoever was just answered can be part of it; and the settlements of answers that have gone out ride
        along with the next holds, which halves the transactions of a gateway that is not yet busy.
        """
        if self._urgent.is_set():
            await asyncio.sleep(0)
            return
        timer = asyncio.get_running_loop().call_later(LINGER_S, self._urgent.set)
        try:
            await self._urgent.wait()
        finally:
            timer.cancel()

    async def _commit(self, batch: list[Waiting]) -> None:
        """Run a batch and answer everyone in it, whatever happens."""
        outcomes: Sequence[Outcome | Exception] = ()
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            outcomes = await self._outcomes([operation for operation, _ in batch])
            if self.committed is not None:
                self.committed(len(batch), clock() - began)
        finally:
            self._answer(batch, outcomes or _unavailable(len(batch)))
        if clock() - began >= SILENCE_S and isinstance(outcomes[0], StorageUnavailable):
            late, self._waiting = list(self._waiting), deque()
            self._answer(late, _unavailable(len(late)))

    def _answer(self, batch: list[Waiting], outcomes: Sequence[Outcome | Exception]) -> None:
        for (_, answer), outcome in zip(batch, outcomes, strict=True):
            # A caller that no longer waits has cancelled its future; the operation stands all the same.
            if answer.done():
                continue
            if isinstance(outcome, Exception):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)
        self._answered += len(batch)
        turn, self._turn = self._turn, asyncio.Event()
        turn.set()

    async def _outcomes(self, operations: list[Operation]) -> Sequence[Outcome | Exception]:
        try:
            return await self._store.transact(operations)
        except StorageUnavailable as error:
            return _unavailable(len(operations), error)
        except Exception as error:
            if len(operations) > 1:
                # One operation must not fail its neighbours, so that each gets a transaction of its own.
                return [(await self._outcomes([operation]))[0] for operation in operations]
            refused = StorageRefusedError(f"{type(operations[0]).__name__} could not be stored: {error}")
            refused.__cause__ = error
            return [refused]


def _unavailable(count: int, cause: Exception | None = None) -> list[Exception]:
    """One for each caller, because raising an exception changes it."""
    outages: list[Exception] = [StorageUnavailable(DOWN) for _ in range(count)]
    for outage in outages:
        outage.__cause__ = cause
    return outages
