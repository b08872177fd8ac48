"""Settlements belong to the process, not to the request: a cancelled handler only reports, and this ends its hold.

A settlement that storage could not take is kept and submitted again until it is taken.  Repeating it is safe, because a
hold ends once.  Where there is a journal, it is written down meanwhile, so that it outlives the process.

A hold ends once also where two want to end it: this process, and the sweeper of another one that took it for dead.
After an outage for all, settlements come first, because the sweeper waits for them.  A process that alone could not
reach storage for longer than its leases comes too late: the customer has paid what was produced when it was last heard
of, and the settlement changes nothing, be it more or less; both amounts are logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from domain.credits import HoldEnded, UnknownHold
from domain.errors import StorageUnavailable
from domain.ids import HoldId
from domain.ledger import HoldSettled, RenewHold, SettleHold
from domain.ports.journal import Ending, Journal
from domain.ports.ledger import Ledger
from domain.usage import Outcome

log = logging.getLogger(__name__)

RETRY_S: Final = 0.5


class Settler:
    """Submits what ends holds, and sees that it arrives."""

    def __init__(self, ledger: Ledger, journal: Journal | None = None) -> None:
        self.settled: Callable[[SettleHold, HoldSettled], None] | None = None
        """Told of each settlement once it is durable."""
        self._ledger = ledger
        self._journal = journal
        self._under_way: dict[HoldId, Ending] = {}
        self._refused: dict[HoldId, Ending] = {}
        self._comparing: set[asyncio.Task[None]] = set()
        self._retrying: asyncio.TimerHandle | None = None
        self._drained: asyncio.Event | None = None

    @property
    def waiting(self) -> int:
        """Settlements that storage has not confirmed yet."""
        return len(self._under_way) + len(self._refused)

    @property
    def refused(self) -> int:
        """Settlements that storage could not take and that are tried again."""
        return len(self._refused)

    def end(self, operation: Ending) -> None:
        """Never waits and never raises: safe in any `finally`, cancelled or not."""
        self._under_way[operation.hold_id] = operation
        future: asyncio.Future[Any] = self._ledger.submit(operation)
        future.add_done_callback(lambda done: self._ended(operation, done))

    def renew(self, operation: RenewHold) -> None:
        """A heartbeat; a lost one is made good by the next."""
        future: asyncio.Future[Any] = self._ledger.submit(operation)
        future.add_done_callback(_forgive)

    def outstanding(self) -> list[Ending]:
        """What storage has not confirmed, for whoever keeps it beyond this process's life."""
        return [*self._under_way.values(), *self._refused.values()]

    async def resume(self) -> None:
        """Submit what earlier processes could not."""
        if self._journal is not None:
            for operation in await self._journal.take_over():
                self.end(operation)

    async def drain(self, timeout_s: float) -> bool:
        """Wait until nothing is outstanding; False if time ran out first, and then the journal has what is left."""
        drained = await self._nothing_waits(timeout_s)
        if self._journal is not None:
            for operation in self.outstanding():
                self._journal.keep(operation)
            await self._journal.flush()
        return drained

    async def _nothing_waits(self, timeout_s: float) -> bool:
        if self.waiting:
            self._drained = asyncio.Event()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._drained.wait()
            except TimeoutError:
                return False
        return True

    def _ended(self, operation: Ending, future: asyncio.Future[Any]) -> None:
        self._under_way.pop(operation.hold_id, None)
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or isinstance(error, StorageUnavailable):
            self._refused[operation.hold_id] = operation
            if self._journal is not None:
                self._journal.keep(operation)
            self._retry_soon()
        else:
            self._answered(operation, future, error)
        if self._drained is not None and not self.waiting:
            self._drained.set()

    def _answered(self, operation: Ending, future: asyncio.Future[Any], error: BaseException | None) -> None:
        if error is None:
            if isinstance(operation, SettleHold) and self.settled is not None:
                self.settled(operation, future.result())
        elif isinstance(error, HoldEnded):
            # An earlier try arrived although its answer did not, or the sweeper came first.
            log.info("hold %s had ended before", operation.hold_id)
            if isinstance(operation, SettleHold):
                comparing = asyncio.get_running_loop().create_task(self._compare(operation))
                self._comparing.add(comparing)
                comparing.add_done_callback(self._comparing.discard)
        elif isinstance(error, UnknownHold):
            log.error("hold %s was never opened; its settlement is dropped", operation.hold_id)
        else:
            # Where it is in the journal it stays there, for the next process to try.
            log.error("hold %s could not be settled: %r", operation.hold_id, error)
            return
        if self._journal is not None:
            self._journal.forget(operation.hold_id)

    async def _compare(self, late: SettleHold) -> None:
        """Tell whoever runs the gateway where a customer paid something else than the request had cost."""
        with suppress(StorageUnavailable):
            paid = await self._ledger.generation(late.account_id, late.record.id)
            if paid is not None and paid.outcome is Outcome.RECOVERED and paid.cost != late.record.cost:
                log.warning(
                    "request %s cost $%s, but its lease had ended: $%s were charged, by its last heartbeat",
                    late.hold_id,
                    late.record.cost,
                    paid.cost,
                )

    def _retry_soon(self) -> None:
        if self._retrying is None:
            self._retrying = asyncio.get_running_loop().call_later(RETRY_S, self._retry)

    def _retry(self) -> None:
        self._retrying = None
        refused, self._refused = self._refused, {}
        for operation in refused.values():
            self.end(operation)


def _forgive(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        log.debug("a heartbeat was lost: %r", error)
