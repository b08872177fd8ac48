"""One running request's money: what it has used, whether its hold still covers it, and how it ends.

A meter ends exactly once, in `end`, which neither waits nor raises: it runs in a `finally`, cancelled or not.  Until
then it is alive, and `Heartbeats` renews its lease and writes down what was produced, so that a killed process loses at
most one watermark.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from application.inference.outputs import UsualOutputs
from application.inference.settlement import Settler
from domain.access import Caller
from domain.catalog import Offer
from domain.credits import Hold, HoldEnded, InsufficientCredits, UnknownHold
from domain.errors import StorageUnavailable
from domain.inference.caching import cache_saving
from domain.inference.chat import ChatRequest
from domain.inference.holds import OUTPUT_TOKENS_UNKNOWN, HoldPolicy, output_limit, produced_usage
from domain.ledger import ExtendHold, HoldOpened, KeyBudgetExceeded, RenewHold, SettleHold
from domain.limits import Admitted
from domain.money import ZERO, Usd
from domain.ports.affinity import Conversation
from domain.ports.clock import Clock
from domain.ports.ledger import Ledger
from domain.ports.limiter import Limiter
from domain.routing import Route
from domain.usage import NOTHING, Attempt, Generation, Outcome, Usage

EXTEND_AT_PERCENT: Final = 80
WATERMARK_TOKENS: Final = 2_000
WINDOW_UNKNOWN: Final = 10_000_000
OUTPUT_TOKENS_SURE: Final = 1_000
"""So little is believed whatever the limit was: vendors count a few tokens that nobody sees."""
SLACK: Final = 2
ESTIMATE_SLACK: Final = 4
"""So far, times SLACK, our estimate of many inputs' tokens may be from their vendor's count."""
WINDOW_OF_TASKS: Final = 8_192
SEARCHES_MAX: Final = 1_000
"""Of the web, for one answer."""

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Meter:
    caller: Caller
    request: ChatRequest
    route: Route
    opened: HoldOpened
    admitted: Admitted
    limited_tokens: int
    """What the rate limits were charged by estimate."""
    ledger: Ledger
    settler: Settler
    limiter: Limiter
    outputs: UsualOutputs
    clock: Clock
    policy: HoldPolicy
    lease: timedelta
    conversation: Conversation | None = None
    """Which its prompt is part of, where a vendor's cache of it would pay."""

    hold: Hold = field(init=False)
    spendable: Usd = field(init=False)
    """Beside the hold, when the ledger last said."""
    offer: Offer | None = None
    """The one that serves."""
    output_limit: int | None = None
    """What the offer was told, where that is less than was asked for."""
    attempts: list[Attempt] = field(default_factory=list)
    first_token_at: float | None = None
    ended: bool = False
    record: Generation | None = None
    """How it ended."""
    progress: Callable[[], int] | None = None
    """Output tokens of the stream that serves, counted when asked."""
    _produced: int = 0
    _started: float = field(init=False)
    _extensions: int = 0
    _refused: bool = False
    _watermark: int = -1
    _watermark_at: float = 0.0

    def __post_init__(self) -> None:
        self.hold = self.opened.hold
        self.spendable = self.opened.spendable
        self._started = self.clock.monotonic()

    def limit_for(self, offer: Offer) -> int | None:
        """The output limit to send to `offer` where credit pays less than was asked for."""
        return output_limit(self.policy, self.request, offer, self.hold.amount, self.spendable)

    def cost(self, usage: Usage) -> Usd:
        offer = self.offer
        if offer is None or offer.price is None or offer.price.free:
            return ZERO
        return offer.price.cost(usage, offer.markup_ppm)

    @property
    def balance(self) -> Usd:
        """What can be spent once this request has ended; other requests may have changed it meanwhile."""
        charged = self.record.cost if self.record else ZERO
        return max(ZERO, self.spendable + self.hold.amount - charged)

    @property
    def wait_ms(self) -> int:
        """How long the vendor that answers took to begin, or where it answers whole, to end."""
        return self.attempts[-1].duration_ms if self.attempts else 0

    @property
    def cache_saved(self) -> Usd:
        """What it saved that the vendor had part of the prompt in its cache."""
        offer, record = self.offer, self.record
        return ZERO if offer is None or record is None else cache_saving(offer, record.usage)

    def began(self) -> None:
        """The first token is there."""
        if self.first_token_at is None:
            self.first_token_at = self.clock.monotonic()

    def may_outgrow(self, output_tokens: int) -> bool:
        """Whether so many tokens would come near the end of the hold."""
        spent = self.cost(produced_usage(self.request, output_tokens))
        return bool(self.hold.amount) and spent.nanos * 100 >= self.hold.amount.nanos * EXTEND_AT_PERCENT

    async def produced(self, output_tokens: int) -> bool:
        """Note the progress of a stream; False when no credit is left to go on."""
        self._produced = output_tokens
        if not self.may_outgrow(output_tokens):
            return True
        if not self._refused:
            await self._extend()
        # While storage is away nobody has refused: what runs goes on, and its settlement takes what is free.
        return not self._refused or self.cost(produced_usage(self.request, output_tokens)) < self.hold.amount

    async def _extend(self) -> None:
        """Hold as much again, or all that is spendable where that is less."""
        ceiling = self.request.cost_max
        wanted = self.opened.hold.amount
        if ceiling is not None:
            wanted = min(wanted, ceiling - self.hold.amount)
        for _ in range(2):
            if wanted <= ZERO:
                break
            try:
                extended = await asyncio.shield(self.ledger.submit(self._extension(wanted)))
            except InsufficientCredits as short:
                wanted = min(wanted, short.spendable)
            except KeyBudgetExceeded as over:
                wanted = min(wanted, over.left)
            except (StorageUnavailable, HoldEnded, UnknownHold):
                # What is running goes on; the settlement takes what is free, and the house bears the rest.
                return
            else:
                self.hold, self.spendable = extended.hold, extended.spendable
                return
        self._refused = True

    def _extension(self, amount: Usd) -> ExtendHold:
        self._extensions += 1
        at = self.clock.now()
        return ExtendHold(
            account_id=self.caller.account_id,
            hold_id=self.hold.id,
            amount=amount,
            number=self._extensions,
            at=at,
            cap=self.caller.key.cap(at),
        )

    def beat(self, period_s: float) -> None:
        """Called about once a second: write a watermark when there is enough to lose, renew the lease in time."""
        now = self.clock.monotonic()
        if self.progress is not None:
            self._produced = self.progress()
        since_s = now - (self._watermark_at or self._started)
        new_tokens = self._produced - max(self._watermark, 0)
        first = self.first_token_at is not None and self._watermark < 0
        due = new_tokens >= WATERMARK_TOKENS or (new_tokens > 0 and since_s >= period_s)
        if first or due or since_s >= self.lease.total_seconds() / 3:
            self._watermark, self._watermark_at = self._produced, now
            self._renew()

    def _renew(self) -> None:
        usage = produced_usage(self.request, self._produced) if self.first_token_at is not None else NOTHING
        at = self.clock.now()
        cost = self.cost(usage)
        self.settler.renew(
            RenewHold(
                account_id=self.caller.account_id,
                hold_id=self.hold.id,
                lease_until=at + self.lease,
                watermark=cost,
                record=self._generation(at, Outcome.RECOVERED, usage, cost=cost, estimated=True),
            )
        )

    def end(
        self,
        outcome: Outcome,
        usage: Usage | None,
        *,
        produced: Callable[[], int] | None = None,
        finish_reason: str | None = None,
        abort_policy: str | None = None,
        vendor_cost: Usd | None = None,
    ) -> None:
        """End the hold with what the answer cost; a second call does nothing.

        Where the vendor gave no `usage` that can be true, the prompt and the `produced` tokens are charged, if there
        are any.  An answer that was broken off or never came is free; what the vendor produced of it is booked as a
        loss.
        """
        if self.ended:
            return
        self.ended = True
        if usage is not None and not self.believes(usage):
            log.warning("request %s: its vendor reports an impossible usage, ours is charged", self.hold.id)
            usage = None
        elif usage is not None and not usage.has_tokens and self.request.ceiling is None:
            usage = None if produced is not None and produced() else usage
        counted = usage
        if counted is None:
            tokens = produced() if produced is not None else 0
            counted = produced_usage(self.request, tokens) if tokens else NOTHING
        price = self.cost(counted)
        free = outcome in (Outcome.BROKEN_OFF, Outcome.FAILED)
        at = self.clock.now()
        self.record = self._generation(
            at,
            outcome,
            counted,
            cost=ZERO if free else price,
            loss=price if free else ZERO,
            estimated=usage is None and counted is not NOTHING,
            finish_reason=finish_reason,
            abort_policy=abort_policy,
            vendor_cost=vendor_cost,
        )
        self.settler.end(SettleHold(account_id=self.caller.account_id, hold_id=self.hold.id, record=self.record, at=at))
        used = counted.input_tokens + counted.output_tokens
        self.limiter.release(self.caller.limited_as, self.admitted, used - self.limited_tokens)
        if outcome is Outcome.COMPLETED and self.offer is not None:
            self.outputs.note(self.offer.model, counted.output_tokens)

    def believes(self, usage: Usage) -> bool:
        """No vendor read more than its window, wrote far more than the limit that it was sent, or made far more than
        was asked for."""
        offer, request = self.offer, self.request
        if offer is None:
            return True
        window = offer.context_length or WINDOW_UNKNOWN
        limit = self.output_limit or request.output_max or offer.output_max or OUTPUT_TOKENS_UNKNOWN
        searches, most = SEARCHES_MAX, request.ceiling
        if most is not None:
            # Each of its inputs has the whole window, and vendors put words of their own beside the shortest.
            window = max(offer.context_length or WINDOW_OF_TASKS, most.input_tokens * ESTIMATE_SLACK)
            limit = max(limit, most.output_tokens)
            searches = most.searches * ESTIMATE_SLACK or SEARCHES_MAX
            if usage.images > most.images:
                return False
        return (
            usage.input_tokens <= window * SLACK
            and usage.output_tokens <= max(limit, OUTPUT_TOKENS_SURE) * request.answers * SLACK
            and usage.searches <= searches
        )

    def _generation(
        self,
        at: datetime,
        outcome: Outcome,
        usage: Usage,
        *,
        cost: Usd,
        estimated: bool,
        loss: Usd = ZERO,
        finish_reason: str | None = None,
        abort_policy: str | None = None,
        vendor_cost: Usd | None = None,
    ) -> Generation:
        offer = self.offer
        started = self._started
        first = self.first_token_at
        record = replace(
            self.opened.hold.record,
            usage=usage,
            estimated=estimated,
            cost=cost,
            loss=loss,
            outcome=outcome,
            finish_reason=finish_reason,
            abort_policy=abort_policy,
            vendor_cost=vendor_cost,
            attempts=tuple(self.attempts),
            first_token_ms=None if first is None else int((first - started) * 1000),
            duration_ms=int((self.clock.monotonic() - started) * 1000),
        )
        if offer is None or offer.price is None:
            return record
        return replace(
            record,
            model=offer.model,
            vendor=offer.vendor,
            vendor_model=offer.vendor_model,
            price_id=offer.price.id,
            markup_ppm=offer.markup_ppm,
        )
