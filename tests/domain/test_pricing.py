"""Prices against exact fractions: one sum, one rounding, upwards."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from domain.ids import ModelId, PriceId, VendorSlug
from domain.money import Usd
from domain.pricing import (
    MARKUP_ONE_PPM,
    ImageRate,
    Price,
    PriceSource,
    Rates,
    RatesDiffer,
    Tier,
    far_from_others,
    far_rates,
    parse_rate,
    shown_rate,
    usd_per_unit,
)
from domain.usage import Usage

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
FALLBACKS = {
    "cache_read": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "cache_write_5m",
    "cache_write_other": "cache_write_5m",
    "reasoning": "output",
    "audio_in": "input",
    "audio_out": "output",
    "image_in": "input",
    "image_out": "output",
}
"""The class whose rate holds where a class has none of its own."""

counts = st.integers(0, 10**8)
rate = st.integers(0, 10**14)
optional = st.none() | rate
usages = st.builds(Usage, **dict.fromkeys(Rates.__struct_fields__, counts))
rates = st.builds(Rates, **{name: optional if name in FALLBACKS else rate for name in Rates.__struct_fields__})
tiers = st.lists(st.builds(Tier, st.integers(0, 10**9), rates), max_size=4).map(tuple)
markups = st.integers(1, 5 * MARKUP_ONE_PPM)


def price(chosen: Rates, tiers: tuple[Tier, ...] = ()) -> Price:
    return Price(
        id=PriceId("p"),
        vendor=VendorSlug("v"),
        model=ModelId("v/m"),
        rates=chosen,
        tiers=tiers,
        valid_from=NOON,
        source=PriceSource.OPERATOR,
    )


def rate_of(chosen: Rates, name: str) -> int:
    own = getattr(chosen, name)
    return rate_of(chosen, FALLBACKS[name]) if own is None else own


def exact_usd(chosen: Rates, usage: Usage, markup_ppm: int) -> Fraction:
    dollars = sum(
        Fraction(getattr(usage, name)) * Fraction(rate_of(chosen, name), 10**9) / 10**6 for name in asdict(chosen)
    )
    return dollars * Fraction(markup_ppm, 10**6)


@given(rates, usages, markups)
def test_a_cost_is_the_exact_sum_rounded_up_once(chosen, usage, markup_ppm):
    cost = price(chosen).cost(usage, markup_ppm)
    assert cost.nanos == ceil(exact_usd(chosen, usage, markup_ppm) * 10**9)


@given(rates, tiers, usages)
def test_the_highest_tier_that_the_prompt_exceeds_prices_all_of_it(chosen, further, usage):
    exceeded = [tier for tier in further if usage.input_tokens > tier.over_input_tokens]
    highest = max((tier.over_input_tokens for tier in exceeded), default=None)
    possible = [tier.rates for tier in exceeded if tier.over_input_tokens == highest] or [chosen]
    costs = [ceil(exact_usd(each, usage, MARKUP_ONE_PPM) * 10**9) for each in possible]
    assert price(chosen, further).cost(usage).nanos in costs


def test_a_tier_begins_beyond_its_threshold():
    tiered = price(Rates(input=10**9, output=0), (Tier(200_000, Rates(input=2 * 10**9, output=0)),))
    assert tiered.cost(Usage(input=200_000)) == Usd.parse("0.2")
    assert tiered.cost(Usage(input=100_000, cache_read=100_001)) == Usd.parse("0.400002")


@given(rates, usages, st.integers(0, 10**15), markups)
def test_what_is_affordable_is_paid_for_and_one_token_more_is_not(chosen, spent, nanos, markup_ppm):
    asked = price(chosen)
    credit = Usd(nanos)
    most = asked.output_affordable(credit, spent, markup_ppm)
    dearest = "reasoning" if rate_of(chosen, "reasoning") > chosen.output else "output"
    if most is None:
        assert rate_of(chosen, dearest) == 0
        return
    assume(asked.cost(spent, markup_ppm) <= credit)

    def with_more(tokens: int, name: str) -> Usd:
        return asked.cost(replace(spent, **{name: getattr(spent, name) + tokens}), markup_ppm)

    assert with_more(most, "output") <= credit
    assert with_more(most, "reasoning") <= credit
    assert with_more(most + 1, dearest) > credit


def test_nothing_more_is_affordable_once_the_credit_is_spent():
    asked = price(Rates(input=10**9, output=10**9))
    assert asked.output_affordable(Usd(5), Usage(input=1_000)) == 0


@given(rates, usages)
def test_anything_priced_costs_at_least_a_nano_dollar(chosen, usage):
    exact = exact_usd(chosen, usage, MARKUP_ONE_PPM)
    assert (price(chosen).cost(usage).nanos > 0) == (exact > 0)


def test_every_class_of_usage_has_a_rate_and_every_rate_a_class():
    assert set(Usage.__struct_fields__) - {"image_variant"} == set(Rates.__struct_fields__)


@pytest.mark.parametrize("name", Rates.__struct_fields__)
def test_rates_are_zero_only_where_every_class_is(name):
    chosen: dict[str, Any] = {"input": 0, "output": 0}
    assert Rates(**chosen).is_zero
    assert not Rates(**{**chosen, name: 1}).is_zero


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        (Rates(input=100_000 * 10**9, output=0), None),
        (Rates(input=100_000 * 10**9 + 1, output=0), "input"),
        (Rates(input=0, output=-1), "output"),
        (Rates(input=0, output=0, cache_read=-1), "cache_read"),
        (Rates(input=0, output=0, images=200_000 * 10**9), None),
        (Rates(input=0, output=0, searches=11 * 10**15), "searches"),
    ],
)
def test_rates_that_nobody_can_mean_are_named(chosen, name):
    assert chosen.implausible == name


@given(st.integers(0, 10**16), markups)
def test_a_price_per_unit_is_written_exactly(chosen, markup_ppm):
    text = usd_per_unit(chosen, markup_ppm)
    assert Fraction(text) == Fraction(chosen * markup_ppm, 10**21)
    assert not text.endswith(".")


@pytest.mark.parametrize(
    ("asked", "others", "median"),
    [
        (30, [10], None),
        (31, [10], 10),
        (10, [30], None),
        (9, [30], 30),
        (100, [1, 100, 10_000], None),
        (100, [1, 2, 10_000], 2),
        (5, [], None),
        (5, [0, 0], None),
        (1_000, [10, 500], 10),
    ],
)
def test_a_price_is_far_from_others_beyond_three_times_their_median(asked, others, median):
    assert far_from_others(asked, others) == median


IMAGE_USD = 10**15
"""One dollar a picture, in nano-dollars for a million of them."""


@pytest.mark.parametrize(
    ("variant", "usd"),
    [("1024x1024:high", "0.76"), ("1024x1024:low", "0.04"), ("2048x2048:high", "0.16"), ("", "0.16")],
)
def test_a_picture_costs_what_its_kind_costs_or_else_any_picture(variant, usd):
    rates = (ImageRate("1024x1024:high", 19 * IMAGE_USD // 100), ImageRate("1024x1024:low", IMAGE_USD // 100))
    asked = replace(price(Rates(input=0, output=0, images=4 * IMAGE_USD // 100)), image_rates=rates)
    assert asked.cost(Usage(images=4, image_variant=variant)) == Usd.parse(usd)


def test_kinds_of_pictures_change_nothing_where_none_is_drawn():
    asked = replace(price(Rates(input=10**9, output=0)), image_rates=(ImageRate("", IMAGE_USD),))
    assert asked.cost(Usage(input=10**6)) == Usd.parse("1")


def test_a_tiers_own_price_of_pictures_is_replaced_too():
    tiered = price(Rates(input=0, output=0, images=1), (Tier(5, Rates(input=0, output=0, images=7)),))
    asked = replace(tiered, image_rates=(ImageRate("big", 3 * 10**6),))
    assert asked.cost(Usage(input=10, images=2, image_variant="big")) == Usd(6)


@pytest.mark.parametrize(
    ("name", "text", "nanos"),
    [
        ("input", "1.25", 1_250_000_000),
        ("characters", "15", 15 * 10**9),
        ("images", "0.04", 40_000 * 10**9),
        ("seconds", "0.0000308333", 30_833_300_000),
        ("searches", "0.01", 10**13),
        ("requests", "1e-9", 10**6),
    ],
)
def test_a_rate_is_written_for_a_million_or_for_one_as_people_do(name, text, nanos):
    assert parse_rate(text, name) == nanos
    assert parse_rate(shown_rate(nanos, name), name) == nanos


@pytest.mark.parametrize("text", ["", "one", "NaN", "Infinity", "0.0000000001", "1e30", "1e999999999"])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(ValueError, match="USD"):
        parse_rate(text, "input")


@pytest.mark.parametrize(
    ("asked", "others", "far"),
    [
        (Rates(input=31, output=10), [Rates(input=10, output=10)], RatesDiffer("input", 31, 10)),
        (Rates(input=30, output=31), [Rates(input=10, output=10)], RatesDiffer("output", 31, 10)),
        (Rates(input=0, output=10), [Rates(input=10, output=10)], RatesDiffer("input", 0, 10)),
        (Rates(input=10, output=10), [Rates(input=0, output=0)], None),
        (Rates(input=0, output=0, images=40), [Rates(input=0, output=0, images=10)], RatesDiffer("images", 40, 10)),
        (Rates(input=5, output=5), [Rates(input=5, output=5, searches=10)], None),
        (Rates(input=5, output=5), [], None),
    ],
)
def test_rates_are_compared_class_by_class(asked, others, far):
    assert far_rates(asked, others) == far
