"""Money is exact, and what is not exact is refused."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import NANOS_MAX, ZERO, Usd, total

nanos = st.integers(-NANOS_MAX, NANOS_MAX)


@given(nanos)
def test_an_amount_survives_being_written_and_read(amount):
    text = str(Usd(amount))
    assert Usd.parse(text) == Usd(amount)
    assert Fraction(text) == Fraction(amount, 10**9)
    assert "e" not in text.lower()


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1.25", 1_250_000_000),
        (" 12 ", 12_000_000_000),
        ("0.000000001", 1),
        ("-0.5", -500_000_000),
        ("1e-9", 1),
        ("9223372036.854775807", NANOS_MAX),
    ],
)
def test_decimals_are_read_exactly(text, amount):
    assert Usd.parse(text).nanos == amount


@pytest.mark.parametrize(
    "text",
    [
        "",
        "one",
        "1,5",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "1e999999999",
        "0.0000000001",
        "9223372036.854775808",
        "1.0000000005",
    ],
)
def test_what_is_no_exact_amount_is_refused(text):
    with pytest.raises(ValueError, match="USD"):
        Usd.parse(text)


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0"), (5_000_000_000, "5"), (1_234, "0.000001234"), (-500_000_000, "-0.5"), (-1, "-0.000000001")],
)
def test_amounts_are_written_plainly(amount, text):
    assert str(Usd(amount)) == text


@given(st.lists(nanos), nanos)
def test_sums_are_whole_numbers(amounts, other):
    assert total(Usd(amount) for amount in amounts).nanos == sum(amounts)
    assert Usd(other) - Usd(other) == ZERO
    assert -Usd(other) + Usd(other) == ZERO
    assert bool(Usd(other)) == (other != 0)


def test_cents_are_ten_million_nanos():
    assert Usd.from_cents(199) == Usd.parse("1.99")
