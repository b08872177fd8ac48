"""What vendors themselves say that an answer costs, inside its usage: OpenRouter, xAI, DeepInfra, Perplexity.

It is kept beside the charge, so that the operator sees the margin; nobody is charged by it.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from domain.money import NANOS_PER_USD, Usd

COST_MAX: Final = 1_000_000 * NANOS_PER_USD
"""No answer costs a million dollars."""
TICKS_PER_NANO: Final = 10
"""xAI counts in ten-billionths of a dollar."""


class _Costs(Struct, gc=False):
    cost: Any = None
    estimated_cost: Any = None
    cost_in_usd_ticks: Any = None


_COSTS = msgspec.json.Decoder(_Costs, float_hook=Decimal)


def read_vendor_cost(usage: bytes | Raw) -> Usd | None:
    """The cost in a usage object, read from its digits, to the nearest nano-dollar; None where it tells none."""
    raw = bytes(usage)
    if b"cost" not in raw:
        return None
    try:
        told = _COSTS.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    if (ticks := _number(told.cost_in_usd_ticks)) is not None:
        return _nanos(ticks / TICKS_PER_NANO)
    cost = told.cost.get("total_cost") if isinstance(told.cost, dict) else told.cost
    for usd in (cost, told.estimated_cost):
        if (number := _number(usd)) is not None:
            return _nanos(number * NANOS_PER_USD)
    return None


def _number(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    number = Decimal(value)
    return number if number.is_finite() and 0 <= number <= COST_MAX * TICKS_PER_NANO else None


def _nanos(nanos: Decimal) -> Usd | None:
    whole = int(nanos.to_integral_value(ROUND_HALF_UP))
    return Usd(whole) if whole <= COST_MAX else None
