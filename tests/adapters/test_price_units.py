"""What vendors' lists write, read digit by digit into nano-dollars per million."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from adapters.catalog.price_units import (
    ListedPrice,
    NoPrice,
    Unit,
    outside_band,
    price_of,
    read_price,
    read_pricing,
    read_rate,
    read_scaled,
)
from domain.pricing import Rates, Tier

TWO_USD = 2 * 10**9
"""Two dollars per million."""


class Row(Struct):
    amount: Any = None


def decoded(json: str) -> Any:
    """As a vendor's list is read: numbers from their digits."""
    return msgspec.json.Decoder(Row, float_hook=Decimal).decode(b'{"amount": %s}' % json.encode()).amount


@pytest.mark.parametrize(
    ("json", "unit", "nanos"),
    [
        ('"0.000002"', Unit.USD_PER_UNIT, TWO_USD),
        ('"2e-06"', Unit.USD_PER_UNIT, TWO_USD),
        ('"0.0000000028"', Unit.USD_PER_UNIT, 2_800_000),
        ("2", Unit.USD_PER_MILLION, TWO_USD),
        ("2.0", Unit.USD_PER_MILLION, TWO_USD),
        ('" 2.00 "', Unit.USD_PER_MILLION, TWO_USD),
        ("0.1", Unit.USD_PER_MILLION, 100_000_000),
        ("20000", Unit.E4_USD_PER_MILLION, TWO_USD),
        ("7000", Unit.E4_USD_PER_MILLION, 700_000_000),
        ("0.0002", Unit.CENTS_PER_UNIT, TWO_USD),
        ("0.00000725", Unit.CENTS_PER_UNIT, 72_500_000),
        ('"0.04"', Unit.USD_PER_UNIT, 40_000 * 10**9),
        ("0", Unit.USD_PER_MILLION, 0),
        ('"0"', Unit.USD_PER_UNIT, 0),
        ("null", Unit.USD_PER_MILLION, None),
        ('""', Unit.USD_PER_UNIT, None),
        ('"-1"', Unit.USD_PER_UNIT, None),
        ("-1", Unit.USD_PER_MILLION, None),
        ("-1.0", Unit.USD_PER_MILLION, None),
    ],
)
def test_each_unit_becomes_nano_dollars_per_million(json, unit, nanos):
    assert read_rate(decoded(json), unit) == nanos


def test_the_trace_of_a_float_in_a_list_is_rounded_to_the_nearest_nano():
    assert read_rate("0.00000014999999999999999", Unit.USD_PER_UNIT) == 150_000_000


@given(st.integers(0, 10**15), st.sampled_from(Unit))
def test_a_rate_that_is_written_out_in_any_unit_is_read_back_exactly(nanos, unit):
    digits = str(nanos).rjust(unit.value + 1, "0")
    text = f"{digits[: -unit.value]}.{digits[-unit.value :]}"
    assert read_rate(text, unit) == nanos
    assert read_rate(decoded(text), unit) == nanos
    assert Fraction(text) * 10**unit.value == nanos


@pytest.mark.parametrize(
    "amount",
    ["NaN", "Infinity", "1e999999999", "-0.5", -2, "two", "1" * 100, 10**400, [], {}, True, Decimal("1E+400")],
)
def test_what_is_no_price_is_refused_in_words(amount):
    with pytest.raises(NoPrice):
        read_rate(amount, Unit.USD_PER_UNIT)
    doubt = read_price(Unit.USD_PER_UNIT, input=amount, output="0.000001").doubt
    assert doubt is not None
    assert doubt.startswith("its list says ")


def test_a_binary_float_is_a_mistake_of_the_reader():
    with pytest.raises(TypeError, match="float_hook=Decimal"):
        read_rate(0.1, Unit.USD_PER_MILLION)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("amount", "scale", "nanos"), [(2, 6, TWO_USD), (850, 9, 850 * 10**6), (0, 9, 0), (-1, 9, None), (None, 9, None)]
)
def test_an_amount_with_a_scale_is_usd_per_token(amount, scale, nanos):
    assert read_scaled(amount, scale) == nanos


@pytest.mark.parametrize(("amount", "scale"), [(1, -1), (1, 10**9), (1, True), ("x", 9), (10**30, 0)])
def test_a_scale_that_cannot_be_meant_is_no_price(amount, scale):
    with pytest.raises(NoPrice):
        read_scaled(amount, scale)


def test_a_price_names_our_classes():
    price = read_price(Unit.USD_PER_MILLION, input="1.25", output=Decimal("10"), cache_read="0.125", reasoning=None)
    rates = Rates(input=1_250_000_000, output=10 * 10**9, cache_read=125_000_000)
    assert price == ListedPrice(rates=rates)


@pytest.mark.parametrize("amounts", [{"input": 1}, {"output": 1}, {"input": "-1", "output": "-1"}, {}])
def test_half_a_price_is_none(amounts):
    assert read_price(Unit.USD_PER_MILLION, **amounts) == ListedPrice()


def test_zero_is_believed_only_where_the_list_says_free():
    assert read_price(Unit.USD_PER_UNIT, input="0", output="0").rates is None
    assert "not that it is free" in (read_price(Unit.USD_PER_UNIT, input="0", output="0").doubt or "")
    given_away = read_price(Unit.USD_PER_UNIT, input="0", output="0", free=True)
    assert given_away == ListedPrice(rates=Rates(input=0, output=0), free=True)
    assert not read_price(Unit.USD_PER_MILLION, input="1", output="0", free=True).free


def test_what_is_sold_by_the_piece_has_no_token_price():
    price = read_price(Unit.USD_PER_UNIT, input=0, output=0, images="0.04")
    assert price.rates == Rates(input=0, output=0, images=40_000 * 10**9)


@pytest.mark.parametrize(
    ("unit", "amount"),
    [
        # Each slip that such lists have been read with: a factor of 100 to 1,000,000 in either direction.
        (Unit.USD_PER_UNIT, "2.5"),
        (Unit.USD_PER_UNIT, "2500"),
        (Unit.USD_PER_MILLION, "0.0000025"),
        (Unit.USD_PER_MILLION, "25000"),
        (Unit.E4_USD_PER_MILLION, "2.5"),
        (Unit.CENTS_PER_UNIT, "0.25"),
    ],
)
def test_a_price_in_the_wrong_unit_is_doubted(unit, amount):
    price = read_price(unit, input=amount, output=amount)
    assert price.rates is None
    assert "per million for input" in (price.doubt or "")


@pytest.mark.parametrize(
    ("rates", "outside"),
    [
        (Rates(input=10**6, output=10**12), None),
        (Rates(input=10**6 - 1, output=0), "0.000999999 USD per million for input"),
        (Rates(input=0, output=10**12 + 1), "1000.000000001 USD per million for output"),
        (Rates(input=10**9, output=10**9, cache_read=1), None),
        (Rates(input=0, output=0, images=101 * 10**15), "101 USD each for images"),
        (Rates(input=0, output=0, searches=10**13), None),
    ],
)
def test_the_band_names_the_class_that_is_outside(rates, outside):
    assert outside_band(rates) == outside


def test_a_tier_outside_the_band_spoils_the_price():
    price = price_of({"input": 10**9, "output": 10**9}, tiers=[Tier(10, Rates(input=1, output=1))])
    assert price.rates is None
    assert price.doubt is not None


def test_an_openrouter_object_with_a_long_prompt_tier():
    pricing = {
        "prompt": "0.00000125",
        "completion": "0.00001",
        "request": "0",
        "image": "0",
        "web_search": "0.01",
        "internal_reasoning": "0",
        "input_cache_read": "0.00000031",
        "input_cache_write": "0.000001625",
        "discount": 0,
        "overrides": [
            {"min_prompt_tokens": 200_000, "prompt": "0.0000025", "completion": "0.000015"},
            {"utc_start": "0100", "utc_end": "0500", "completion": "0.000005"},
            {"utc_start": "0900", "utc_end": "1700", "web_search": "0.02"},
        ],
    }
    price = read_pricing(pricing)
    assert price.doubt is None
    assert price.rates == Rates(
        input=1_250_000_000,
        output=10_000_000_000,
        cache_read=310_000_000,
        cache_write_5m=1_625_000_000,
        searches=20_000 * 10**9,
    )
    (tier,) = price.tiers
    assert tier.over_input_tokens == 200_000
    assert (tier.rates.input, tier.rates.output) == (2_500_000_000, 15_000_000_000)
    assert tier.rates.cache_read == 310_000_000


@pytest.mark.parametrize("pricing", [{}, {"prompt": "-1", "completion": "-1"}, {"prompt": "0.000001"}])
def test_an_object_without_a_price_has_none(pricing):
    assert read_pricing(pricing) == ListedPrice()


@pytest.mark.parametrize("overrides", [None, 5, [5], [{"min_prompt_tokens": "x"}], [{"conditions": 4}], {}])
def test_overrides_of_no_known_shape_change_nothing(overrides):
    price = read_pricing({"prompt": "0.000001", "completion": "0.000002", "overrides": overrides})
    assert price == ListedPrice(rates=Rates(input=10**9, output=2 * 10**9))


def test_an_object_of_odd_amounts_is_doubted_not_raised():
    assert read_pricing({"prompt": {"usd": 1}, "completion": "0.000002"}).doubt
    assert read_pricing({"prompt": "0.000001", "completion": "0.000002", "overrides": [{"prompt": "x"}]}).doubt
