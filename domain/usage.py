"""What a request consumed, as a vector of disjoint classes, and the record that is kept of it.

No unit is counted in two classes: a vendor whose classes nest (OpenAI counts cached tokens inside prompt tokens) is
unnested by its adapter, so that pricing is a plain sum.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from domain.ids import AccountId, KeyId, ModelId, PriceId, RequestId, VendorSlug
from domain.money import ZERO, Usd


class Usage(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Counts of billable units; tokens unless the name says otherwise."""

    input: int = 0
    """Input tokens neither read from nor written to a prompt cache."""
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_write_other: int = 0
    """Cache writes with any other time to live (OpenAI: 30 minutes)."""
    output: int = 0
    """Visible output tokens."""
    reasoning: int = 0
    """Hidden reasoning tokens; billed as output where a price names no rate of their own."""
    audio_in: int = 0
    audio_out: int = 0
    image_in: int = 0
    image_out: int = 0
    images: int = 0
    image_variant: str = ""
    """What the pictures were, in the words of the price, such as "1024x1536:high"; one request makes one kind."""
    seconds: int = 0
    characters: int = 0
    searches: int = 0
    requests: int = 0

    @property
    def input_tokens(self) -> int:
        """All tokens of the prompt, however they were billed."""
        written = self.cache_write_5m + self.cache_write_1h + self.cache_write_other
        return self.input + self.cache_read + written + self.audio_in + self.image_in

    @property
    def output_tokens(self) -> int:
        return self.output + self.reasoning + self.audio_out + self.image_out

    @property
    def has_tokens(self) -> bool:
        """No answer of a chat is read from nothing: some servers count 0 where they do not count."""
        return bool(self.input_tokens or self.output_tokens)


NOTHING = Usage()


class Outcome(StrEnum):
    """How a request ended, from the customer's point of view."""

    COMPLETED = "completed"
    ABORTED = "aborted"
    """The caller left; what was produced is charged by the vendor's abort policy."""
    BROKEN_OFF = "broken_off"
    """The vendor stopped without a usable finish; free to the customer."""
    FAILED = "failed"
    """No vendor answered; free."""
    CUT_OFF = "cut_off"
    """The gateway ended the answer: no credit to go on, a deadline, a shutdown."""
    RECOVERED = "recovered"
    """The serving process died; charged to the last watermark by the sweeper."""


class Attempt(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One try at one vendor."""

    vendor: VendorSlug
    fault: str | None = None
    """None where the vendor answered."""
    status: int | None = None
    duration_ms: int = 0


class Generation(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The record of one request that could cost money; written in the transaction that charges it.

    It holds no prompt and no answer.  Price version, usage and markup are enough to re-rate the charge exactly.
    """

    id: RequestId
    account_id: AccountId
    key_id: KeyId
    model: ModelId
    dialect: str
    streamed: bool
    started_at: datetime
    vendor: VendorSlug = VendorSlug("")
    vendor_model: str = ""
    price_id: PriceId = PriceId("")
    markup_ppm: int = 1_000_000
    usage: Usage = NOTHING
    estimated: bool = False
    """The vendor gave no usage, so that the counts are ours."""
    cost: Usd = ZERO
    loss: Usd = ZERO
    """What the vendor produced but the customer does not pay for."""
    vendor_cost: Usd | None = None
    """What the vendor says that it bills us, where it says so; never what the customer is charged by."""
    outcome: Outcome = Outcome.COMPLETED
    finish_reason: str | None = None
    abort_policy: str | None = None
    attempts: tuple[Attempt, ...] = ()
    first_token_ms: int | None = None
    duration_ms: int = 0
    app: str = ""
    """What the caller's program says that it is called; nothing else is kept of the headers that say so."""
