"""From what was used to what it costs: one exact sum, rounded once, up, to the next nano-dollar.

A rate is nano-dollars per million units.  The sum over all classes, times the markup, is divided once; rounding up
costs a customer at most one nano-dollar per charge and keeps a priced answer from ever being free.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from domain.errors import NotFound
from domain.ids import ModelId, PriceId, VendorSlug
from domain.money import NANOS_PER_USD, Usd
from domain.usage import Usage

UNITS_PER_RATE = 1_000_000
RATE_MAX = 100_000 * NANOS_PER_USD
"""No million tokens costs more; a list that says so counts in another unit."""
FAR_FACTOR = 3
"""Further than this from what others ask, a price is more likely a slip than meant."""
UNIT_RATE_MAX = 10 * UNITS_PER_RATE * NANOS_PER_USD
"""The same for images, searches and what else is counted by the piece: at most $10 each."""
MARKUP_ONE_PPM = 1_000_000
"""A markup of 1.00; markups are whole parts per million, so that no float enters a price."""


class ModelUnpriced(NotFound):
    code = "model_unpriced"


class Rates(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Nano-dollars per million units of each class.  None falls back as `rate` says."""

    input: int
    output: int
    cache_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    cache_write_other: int | None = None
    reasoning: int | None = None
    audio_in: int | None = None
    audio_out: int | None = None
    image_in: int | None = None
    image_out: int | None = None
    images: int = 0
    seconds: int = 0
    characters: int = 0
    searches: int = 0
    requests: int = 0

    @property
    def is_zero(self) -> bool:
        return not any(getattr(self, name) for name in self.__struct_fields__)

    @property
    def implausible(self) -> str | None:
        """The first class whose rate cannot be meant; None where all can."""
        for name in self.__struct_fields__:
            most = UNIT_RATE_MAX if name in _BY_THE_PIECE else RATE_MAX
            if not 0 <= (getattr(self, name) or 0) <= most:
                return name
        return None


_BY_THE_PIECE = frozenset({"images", "seconds", "characters", "searches", "requests"})


class Tier(Struct, frozen=True, gc=False):
    """Rates for the whole request once its prompt is longer than `over_input_tokens`."""

    over_input_tokens: int
    rates: Rates


class PriceSource(StrEnum):
    SANDBOX = "sandbox"
    VENDOR = "vendor"
    """The vendor's own published list."""
    GENAI_PRICES = "genai-prices"
    OPERATOR = "operator"


class Price(Struct, frozen=True, kw_only=True, gc=False):
    """One version of what one vendor asks for one model; never changed, only followed by a later one.

    Rates of zero are only honoured with `free=True`, so that a gap in a price list cannot give a model away.
    """

    id: PriceId
    vendor: VendorSlug
    model: ModelId
    rates: Rates
    valid_from: datetime
    source: PriceSource
    tiers: tuple[Tier, ...] = ()
    free: bool = False
    author: str = ""

    def rates_for(self, input_tokens: int) -> Rates:
        """The rates of the highest tier that the prompt exceeds, for all of its tokens."""
        chosen, floor = self.rates, -1
        for tier in self.tiers:
            if floor < tier.over_input_tokens < input_tokens:
                chosen, floor = tier.rates, tier.over_input_tokens
        return chosen

    def cost(self, usage: Usage, markup_ppm: int = MARKUP_ONE_PPM) -> Usd:
        """What `usage` costs, rounded up once."""
        rates = self.rates_for(usage.input_tokens) if self.tiers else self.rates
        exact = _exact(rates, usage) * markup_ppm
        return Usd(-(-exact // (UNITS_PER_RATE * MARKUP_ONE_PPM)))

    def output_affordable(self, credit: Usd, spent: Usage, markup_ppm: int = MARKUP_ONE_PPM) -> int | None:
        """How many output tokens `credit` pays beyond `spent`; None where output costs nothing.

        Uses the dearer of the output and reasoning rates, because a vendor may spend the limit on either.
        """
        rates = self.rates_for(spent.input_tokens)
        rate = max(rates.output, rates.reasoning or 0) * markup_ppm
        if rate == 0:
            return None
        left = credit.nanos * UNITS_PER_RATE * MARKUP_ONE_PPM - _exact(rates, spent) * markup_ppm
        return max(0, left // rate)


def far_from_others(rate: int, others: Sequence[int]) -> int | None:
    """The median of what others ask where `rate` is more than three times away from it, else None."""
    known = sorted(other for other in others if other > 0)
    if not known:
        return None
    # Of an even number the lower middle one: a whole number that somebody really asks.
    median = known[(len(known) - 1) // 2]
    return median if rate > FAR_FACTOR * median or FAR_FACTOR * rate < median else None


def usd_per_unit(rate: int, markup_ppm: int = MARKUP_ONE_PPM) -> str:
    """What one unit costs, as the exact decimal: "0.0000025"."""
    digits = UNITS_PER_RATE * NANOS_PER_USD * MARKUP_ONE_PPM
    whole, rest = divmod(rate * markup_ppm, digits)
    return f"{whole}.{rest:0{len(str(digits)) - 1}d}".rstrip("0").rstrip(".")


def _or(rate: int | None, fallback: int) -> int:
    return fallback if rate is None else rate


def _exact(rates: Rates, usage: Usage) -> int:
    """The sum in nano-dollars times UNITS_PER_RATE, before any rounding."""
    sum_ = usage.input * rates.input + usage.output * rates.output + usage.requests * rates.requests
    if usage.cache_read:
        sum_ += usage.cache_read * _or(rates.cache_read, rates.input)
    if usage.reasoning:
        sum_ += usage.reasoning * _or(rates.reasoning, rates.output)
    if usage.cache_write_5m or usage.cache_write_1h or usage.cache_write_other:
        sum_ += usage.cache_write_5m * _or(rates.cache_write_5m, rates.input)
        # A longer-lived write never costs less than a shorter one at any vendor.
        sum_ += usage.cache_write_1h * _or(rates.cache_write_1h, _or(rates.cache_write_5m, rates.input))
        sum_ += usage.cache_write_other * _or(rates.cache_write_other, _or(rates.cache_write_5m, rates.input))
    if usage.audio_in or usage.audio_out or usage.image_in or usage.image_out:
        sum_ += usage.audio_in * _or(rates.audio_in, rates.input)
        sum_ += usage.audio_out * _or(rates.audio_out, rates.output)
        sum_ += usage.image_in * _or(rates.image_in, rates.input)
        sum_ += usage.image_out * _or(rates.image_out, rates.output)
    if usage.images or usage.seconds or usage.characters or usage.searches:
        sum_ += usage.images * rates.images + usage.seconds * rates.seconds
        sum_ += usage.characters * rates.characters + usage.searches * rates.searches
    return sum_
