"""From what vendors' lists write to nano-dollars per million: exact, and no binary float on the way.

A list is decoded with `msgspec.json.Decoder(Rows, float_hook=Decimal)`, its amounts typed `Any`: then a JSON number
arrives as an `int` or as a `Decimal` of its digits, and one odd row cannot make the whole list unreadable.  Then

    price = read_price(Unit.USD_PER_MILLION, input=row.pricing.input, output=row.pricing.output)
    ListedModel(..., rates=price.rates, tiers=price.tiers, free=price.free, price_doubt=price.doubt)

A price outside of the band is no price: gateways that believed every list have been a factor of 100 to 1,000,000 off,
and gave models away or took a fortune for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from enum import Enum
from typing import Any, Final

from msgspec import Struct

from domain.money import NANOS_MAX, NANOS_PER_USD, Usd
from domain.pricing import BY_THE_PIECE, UNITS_PER_RATE, Rates, Tier

DIGITS_MAX: Final = 64
"""A longer number is no price."""
TOKEN_RATE_MAX: Final = 1_000 * NANOS_PER_USD
"""0.001 USD a token; a list that says more counts in another unit."""
TOKEN_RATE_MIN: Final = NANOS_PER_USD // 1_000
"""0.000000001 USD an input or output token.  What is read from a cache may cost less."""
PIECE_RATE_MAX: Final = 100 * UNITS_PER_RATE * NANOS_PER_USD
"""100 USD an image, a search or a request."""

RATE_DIGITS_MAX: Final = 20
UNKNOWN: Final = -1
"""What vendors write for a price that depends."""

Amount = str | int | Decimal | None
"""A decimal text, or a JSON number as `int` or `Decimal`; None where the list has none."""


class Unit(Enum):
    """What an amount of 1 means, as a power of ten of nano-dollars per million units.

    A unit is a token, and for what is sold by the piece an image, a second, a character, a search or a request.
    """

    USD_PER_UNIT = 15
    """OpenRouter, Nebius, Cerebras (openrouter format), NEAR (prompt, completion): "0.0000025"."""
    USD_PER_MILLION = 9
    """Together, HuggingFace, Chutes, DeepInfra (metadata), NEAR (input, output), Fireworks: 2.5."""
    E4_USD_PER_MILLION = 5
    """xAI and Novita, one ten-thousandth of a dollar per million: 25000."""
    CENTS_PER_UNIT = 13
    """DeepInfra's models/list: 0.00025."""


class ListedPrice(Struct, frozen=True, kw_only=True):
    """What a vendor's list says that a model costs."""

    rates: Rates | None = None
    """None where the list does not say, or says what cannot be used."""
    tiers: tuple[Tier, ...] = ()
    free: bool = False
    doubt: str | None = None
    """Why what the list says is not used."""


NO_PRICE: Final = ListedPrice()


class NoPrice(Exception):
    """An amount that is no price, in words for the operator."""


def read_rate(amount: Amount, unit: Unit) -> int | None:
    """Nano-dollars per million units; None for an amount that is absent, "" or -1, which vendors write for unknown.

    What is finer than a nano-dollar per million is rounded to the nearest.  Raises NoPrice for anything else that is
    no price, TypeError for a binary float.
    """
    number = _number(amount)
    return None if number is None else _scaled(number, unit.value)


def read_scaled(amount: Amount, scale: object) -> int | None:
    """Of `amount` times 10^-`scale` USD per unit, as NEAR's model/list writes it.  Raises as `read_rate` does."""
    if isinstance(scale, bool) or not isinstance(scale, int) or not 0 <= scale <= DIGITS_MAX:
        raise NoPrice(f"a scale of {scale!r}")
    number = _number(amount)
    return None if number is None else _scaled(number, Unit.USD_PER_UNIT.value - scale)


def read_price(unit: Unit, *, free: bool = False, **amounts: Amount) -> ListedPrice:
    """The price whose amounts are all in one unit, named as the classes of `Rates`.

    `input` and `output` must be there; give 0 for the output of embeddings and for both of what is sold by the piece.
    Where one is unknown the model has no listed price.  `free`: the list says outright that the model costs nothing.
    Never raises for what a list may say, but TypeError for a binary float and for a name that is no class.
    """
    try:
        return price_of({name: read_rate(amount, unit) for name, amount in amounts.items()}, free=free)
    except NoPrice as reason:
        return ListedPrice(doubt=f"its list says {reason}")


def price_of(rates: Mapping[str, int | None], *, free: bool = False, tiers: Sequence[Tier] = ()) -> ListedPrice:
    """The price of rates that are read already, by class, for lists that mix units."""
    known = {name: rate for name, rate in rates.items() if rate is not None}
    if "input" not in known or "output" not in known:
        return NO_PRICE
    read = Rates(**known)
    for each in (read, *(tier.rates for tier in tiers)):
        if reason := outside_band(each):
            return ListedPrice(doubt=f"its list says {reason}")
    if read.is_zero and not free:
        return ListedPrice(doubt="its list says 0, but not that it is free")
    return ListedPrice(rates=read, tiers=tuple(tiers), free=free and read.is_zero)


def outside_band(rates: Rates) -> str | None:
    """The first class whose rate is of another order than any price, in words; None where all can be meant."""
    for name in rates.__struct_fields__:
        rate = getattr(rates, name)
        if not isinstance(rate, int) or rate == 0:
            continue
        if name in BY_THE_PIECE:
            if rate > PIECE_RATE_MAX:
                return f"{Usd(rate // UNITS_PER_RATE)} USD each for {name}"
        elif rate > TOKEN_RATE_MAX or (rate < TOKEN_RATE_MIN and name in {"input", "output"}):
            return f"{Usd(rate)} USD per million for {name}"
    return None


PER_UNIT_NAMES: Final[Mapping[str, str]] = {
    "prompt": "input",
    "completion": "output",
    "input_cache_read": "cache_read",
    "input_cache_write": "cache_write_5m",
    "input_cache_write_1h": "cache_write_1h",
    "internal_reasoning": "reasoning",
    "audio": "audio_in",
    "audio_output": "audio_out",
    "image_token": "image_in",
    "image_output": "image_out",
    "image": "images",
    "web_search": "searches",
    "request": "requests",
}
"""The names of OpenRouter's price object, which Nebius, Cerebras and NEAR share -> our classes."""
_ZERO_IS_A_GAP: Final = frozenset({"cache_read", "reasoning"})
"""Lists write 0 here where a class has no rate of its own."""


def read_pricing(pricing: Mapping[str, Any], *, free: bool = False) -> ListedPrice:
    """The price of an object in OpenRouter's shape: USD per unit, with `overrides` for long prompts.

    An override by the hour counts where it is dearer, because a charge is made at any hour; `discount` is not taken
    off.  Never raises for what a list may say, but TypeError for a binary float.
    """
    try:
        base = _per_unit(pricing)
        steps: dict[int, dict[str, int]] = {}
        overrides = pricing.get("overrides")
        for override in overrides if isinstance(overrides, list) else ():
            changed, start = _override(override)
            if start is not None:
                steps[start] = {**steps.get(start, {}), **changed}
            else:
                base.update({name: rate for name, rate in changed.items() if rate > base.get(name, 0)})
    except NoPrice as reason:
        return ListedPrice(doubt=f"its list says {reason}")
    if "input" not in base or "output" not in base:
        return NO_PRICE
    tiers, reached = [], base
    for start in sorted(steps):
        reached = {**reached, **steps[start]}
        tiers.append(Tier(start, Rates(**reached)))
    return price_of(base, free=free, tiers=tiers)


def _override(override: object) -> tuple[dict[str, int], int | None]:
    """The rates that it names, and beyond how many prompt tokens they hold."""
    if not isinstance(override, dict):
        return {}, None
    conditions = override.get("conditions")
    start = (conditions if isinstance(conditions, dict) else override).get("min_prompt_tokens")
    known = isinstance(start, int) and not isinstance(start, bool) and start > 0
    return _per_unit(override), start if known else None


def _per_unit(pricing: Mapping[str, Any]) -> dict[str, int]:
    read = {ours: read_rate(pricing.get(name), Unit.USD_PER_UNIT) for name, ours in PER_UNIT_NAMES.items()}
    return {name: rate for name, rate in read.items() if rate is not None and (rate or name not in _ZERO_IS_A_GAP)}


def _number(amount: object) -> Decimal | None:
    """The exact number; None where vendors say that they do not know.  Raises NoPrice, TypeError."""
    if isinstance(amount, float):
        raise TypeError("a price was decoded as a binary float; decode with float_hook=Decimal")
    if amount is None or (isinstance(amount, str) and not amount.strip()):
        return None
    if isinstance(amount, bool) or not isinstance(amount, str | int | Decimal):
        raise NoPrice(f"{type(amount).__name__} where an amount belongs")
    if isinstance(amount, int) and abs(amount) > NANOS_MAX:
        raise NoPrice("a number beyond any price")
    text = str(amount).strip()
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise NoPrice(f"{text[:DIGITS_MAX]!r}, which is no number") from None
    if not number.is_finite() or len(text) > DIGITS_MAX:
        raise NoPrice(f"{text[:DIGITS_MAX]!r}, which is no price")
    if number == UNKNOWN:
        return None
    if number < 0:
        raise NoPrice(f"{text}, which is negative")
    return number


def _scaled(number: Decimal, power: int) -> int:
    """`number` times ten to the power, as a whole number."""
    # By magnitude first: the integer of 1e999999 would fill the memory.
    if number and number.adjusted() + power >= RATE_DIGITS_MAX:
        raise NoPrice(f"{number}, which is beyond any price")
    return int(number.scaleb(power).to_integral_value(ROUND_HALF_UP)) if number else 0
