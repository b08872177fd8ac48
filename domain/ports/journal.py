"""The journal: what ended holds while storage was away, written down beyond this process's life."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from domain.ids import HoldId
from domain.ledger import ReleaseHold, SettleHold

Ending = SettleHold | ReleaseHold


class Journal(Protocol):
    """Keeping and forgetting never wait and never raise: what cannot be written is logged and tried again."""

    def keep(self, ending: Ending) -> None:
        """Write down how a hold ends, soon; a hold that is written down already stays as it is."""
        ...

    def forget(self, hold_id: HoldId) -> None:
        """Cross out what has arrived; nothing happens where nothing was written down."""
        ...

    def outstanding(self) -> Sequence[Ending]:
        """What was kept, or taken over, and not forgotten."""
        ...

    async def flush(self) -> None:
        """Return once everything kept and forgotten so far is durable, or could not be made so."""
        ...

    async def take_over(self) -> Sequence[Ending]:
        """What processes that have ended left behind; it is this one's from now on, and nobody else's."""
        ...
