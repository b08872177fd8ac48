"""From what was used to what it costs: one exact sum, rounded once, up, to the next nano-dollar.

A rate is nano-dollars per million units.  The sum over all classes, times the markup, is divided once; rounding up
costs a customer at most one nano-dollar per charge and keeps a priced answer from ever being free.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from domain.errors import NotFound
from domain.ids import ModelId, PriceId, VendorSlug
from domain.money import NANOS_MAX, NANOS_PER_USD, Usd
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
    """Of a million pictures; `Price.image_rates` may name others for some sizes and qualities."""
    seconds: int = 0
    """Of sound that is transcribed or spoken."""
    characters: int = 0
    """Of text that is spoken."""
    searches: int = 0
    """Web searches, and documents searched by a reranker in the vendor's own units."""
    requests: int = 0

    @property
    def is_zero(self) -> bool:
        return not any(getattr(self, name) for name in self.__struct_fields__)

    @property
    def implausible(self) -> str | None:
        """The first class whose rate cannot be meant; None where all can."""
        for name in self.__struct_fields__:
            most = UNIT_RATE_MAX if name in BY_THE_PIECE else RATE_MAX
            if not 0 <= (getattr(self, name) or 0) <= most:
                return name
        return None


_PIECES = ("images", "seconds", "characters", "searches", "requests")
BY_THE_PIECE = frozenset(_PIECES)
"""The classes that are no tokens."""
EACH = BY_THE_PIECE - {"characters"}
"""The classes whose price people tell for one, not for a million."""


class Tier(Struct, frozen=True, gc=False):
    """Rates for the whole request once its prompt is longer than `over_input_tokens`."""

    over_input_tokens: int
    rates: Rates


class ImageRate(Struct, frozen=True, gc=False):
    """Nano-dollars for a million pictures of this `Usage.image_variant`."""

    variant: str
    rate: int


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
    image_rates: tuple[ImageRate, ...] = ()
    """Instead of `images`: pictures of one model differ in price by size and quality."""

    def rates_for(self, input_tokens: int) -> Rates:
        """The rates of the highest tier that the prompt exceeds, for all of its tokens."""
        chosen, floor = self.rates, -1
        for tier in self.tiers:
            if floor < tier.over_input_tokens < input_tokens:
                chosen, floor = tier.rates, tier.over_input_tokens
        return chosen

    def cost(self, usage: Usage, markup_ppm: int = MARKUP_ONE_PPM) -> Usd:
        """What `usage` costs, rounded up once."""
        exact = self._exact(usage) * markup_ppm
        return Usd(-(-exact // (UNITS_PER_RATE * MARKUP_ONE_PPM)))

    def output_affordable(self, credit: Usd, spent: Usage, markup_ppm: int = MARKUP_ONE_PPM) -> int | None:
        """How many output tokens `credit` pays beyond `spent`; None where output costs nothing.

        Uses the dearer of the output and reasoning rates, because a vendor may spend the limit on either.
        """
        rates = self.rates_for(spent.input_tokens)
        rate = max(rates.output, rates.reasoning or 0) * markup_ppm
        if rate == 0:
            return None
        left = credit.nanos * UNITS_PER_RATE * MARKUP_ONE_PPM - self._exact(spent) * markup_ppm
        return max(0, left // rate)

    def _exact(self, usage: Usage) -> int:
        """The sum in nano-dollars times UNITS_PER_RATE, before any rounding."""
        rates = self.rates_for(usage.input_tokens) if self.tiers else self.rates
        sum_ = _sum(rates, usage)
        if usage.images and self.image_rates:
            own = (each.rate for each in self.image_rates if each.variant == usage.image_variant)
            sum_ += usage.images * (next(own, rates.images) - rates.images)
        return sum_


class Doubt(Struct, frozen=True, gc=False):
    """Why an offer does not cost what its vendor's list says."""

    reason: str
    listed: Price | None = None
    """What the list says; None where that cannot even be read as a price."""


class RatesDiffer(Struct, frozen=True):
    """A class whose rate is far from what others ask for it."""

    name: str
    rate: int
    usual: int


def far_rates(rates: Rates, others: Sequence[Rates]) -> RatesDiffer | None:
    """The first class that is more than three times away from the median of the others; None where none is.

    Input and output are compared wherever others ask for them, what is sold by the piece only where `rates` does too.
    """
    for name in ("input", "output", *_PIECES):
        rate = getattr(rates, name)
        if name in BY_THE_PIECE and not rate:
            continue
        usual = far_from_others(rate, [getattr(each, name) for each in others])
        if usual is not None:
            return RatesDiffer(name, rate, usual)
    return None


def far_from_others(rate: int, others: Sequence[int]) -> int | None:
    """The median of what others ask where `rate` is more than three times away from it, else None."""
    known = sorted(other for other in others if other > 0)
    if not known:
        return None
    # Of an even number the lower middle one: a whole number that somebody really asks.
    median = known[(len(known) - 1) // 2]
    return median if rate > FAR_FACTOR * median or FAR_FACTOR * rate < median else None


def parse_rate(text: str, name: str) -> int:
    """A rate as operators write it, in nano-dollars per million: USD each for pictures, seconds, searches and requests,
    USD per million for all else.  Raises ValueError, also for what is finer than the unit.
    """
    scale = NANOS_PER_USD * (UNITS_PER_RATE if name in EACH else 1)
    try:
        nanos = Decimal(text.strip()) * scale
    except ArithmeticError:
        raise ValueError(f"{text[:40]!r} is not an amount in USD; write it like 12.50") from None
    if not nanos.is_finite() or abs(nanos) > NANOS_MAX:
        raise ValueError(f"{text[:40]!r} USD is beyond any price")
    if nanos != nanos.to_integral_value():
        raise ValueError(f"{text[:40]!r} USD is finer than a price can be")
    return int(nanos)


def shown_rate(rate: int, name: str) -> str:
    """The opposite of `parse_rate`: the exact decimal."""
    return usd_per_unit(rate) if name in EACH else str(Usd(rate))


def usd_per_unit(rate: int, markup_ppm: int = MARKUP_ONE_PPM) -> str:
    """What one unit costs, as the exact decimal: "0.0000025"."""
    digits = UNITS_PER_RATE * NANOS_PER_USD * MARKUP_ONE_PPM
    whole, rest = divmod(rate * markup_ppm, digits)
    return f"{whole}.{rest:0{len(str(digits)) - 1}d}".rstrip("0").rstrip(".")


def _or(rate: int | None, fallback: int) -> int:
    return fallback if rate is None else rate


def _sum(rates: Rates, usage: Usage) -> int:
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
