"""Money is a whole number of nano-dollars.

A cached token can cost 2.8e-9 USD, so cents, and even micro-dollars, would round real prices to zero.  A signed 64-bit
column holds 9.2 billion dollars of nanos.  No float enters or leaves this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from msgspec import Struct

NANOS_PER_USD = 1_000_000_000
NANOS_PER_CENT = NANOS_PER_USD // 100
NANOS_MAX = 2**63 - 1
"""What a BIGINT column holds; an amount beyond it is refused where it is parsed."""


class Usd(Struct, frozen=True, order=True, gc=False):
    """An exact amount.  Multiplying money by money is meaningless, so it is absent."""

    nanos: int

    @classmethod
    def parse(cls, text: str) -> Usd:
        """Read a decimal such as "1.25"; what is finer than a nano-dollar is refused, not rounded.

        Raises ValueError for anything that is no finite decimal, too fine, or beyond a 64-bit column.
        """
        try:
            nanos = Decimal(text.strip()) * NANOS_PER_USD
        except ArithmeticError:
            raise ValueError(f"{text!r} is not an amount in USD; write it like 12.50") from None
        if not nanos.is_finite() or abs(nanos) > NANOS_MAX:
            raise ValueError(f"{text!r} USD is beyond what an account can hold")
        if nanos != nanos.to_integral_value():
            raise ValueError(f"{text!r} USD is finer than one nano-dollar")
        return cls(int(nanos))

    @classmethod
    def from_cents(cls, cents: int) -> Usd:
        return cls(cents * NANOS_PER_CENT)

    def __add__(self, other: Usd) -> Usd:
        return Usd(self.nanos + other.nanos)

    def __sub__(self, other: Usd) -> Usd:
        return Usd(self.nanos - other.nanos)

    def __neg__(self) -> Usd:
        return Usd(-self.nanos)

    def __bool__(self) -> bool:
        return self.nanos != 0

    def __str__(self) -> str:
        """The plain decimal, with no exponent and no trailing zeros: "0.000001234", "5", "-0.5"."""
        whole, nanos = divmod(abs(self.nanos), NANOS_PER_USD)
        text = f"{whole}.{nanos:09d}".rstrip("0").rstrip(".") if nanos else str(whole)
        return f"-{text}" if self.nanos < 0 else text


ZERO = Usd(0)


def total(amounts: Iterable[Usd]) -> Usd:
    return Usd(sum(amount.nanos for amount in amounts))
