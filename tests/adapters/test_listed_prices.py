"""Which list prices are believed, and what an offer costs while its own list is not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from adapters.catalog.book import Sources, build_catalog
from adapters.catalog.genai import Quote
from adapters.catalog.listed_prices import doubted, prices_in_use
from domain.catalog import CANCEL_AND_BILL_PRODUCED, Catalog, Offer
from domain.ids import ModelId, PriceId, VendorSlug
from domain.ports.vendors import ListedModel
from domain.pricing import Price, PriceSource, Rates, Tier

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
MODEL = ModelId("meta/llama")
USD = 10**9
NAMES = "abcdef"


def rates(usd: int | None) -> Rates | None:
    return None if usd is None else Rates(input=usd * USD, output=usd * USD)


def catalog(*usd: int | None, vendors: int | None = None, **sources) -> Catalog:
    """One model, which vendors a, b, c, ... list for so many dollars."""
    listed = {
        VendorSlug(name): [ListedModel(vendor_model=MODEL, rates=rates(each))]
        for name, each in zip(NAMES, usd, strict=False)
    }
    named = Sources(vendors=dict.fromkeys(listed, CANCEL_AND_BILL_PRODUCED), listed=listed, **sources)
    return build_catalog(named, NOON)


def by_vendor(found: Catalog) -> Mapping[str, Offer]:
    return {offer.vendor: offer for offer in found.models[MODEL].offers}


def asked(found: Catalog) -> str:
    """What each vendor's offer costs in dollars, in their order."""
    offers = by_vendor(found)
    prices = [offers[VendorSlug(name)].price for name in sorted(offers)]
    return " ".join("-" if price is None else str(price.rates.input // USD) for price in prices)


@pytest.mark.parametrize(
    ("listed", "used"),
    [
        ((1,), "1"),
        ((1, 3), "1 3"),
        # Of two that disagree the dearer stands.
        ((1, 4), "- 4"),
        ((4, 1), "4 -"),
        # Of three or more the one that is alone falls.
        ((1, 2, 10), "1 2 -"),
        ((100, 1, 2, 2), "- 1 2 2"),
        ((20, 1, 30, 25), "20 - 30 25"),
        # Where all are far from all, those near the one in the middle stand, of an even number the dearer middle.
        ((1, 10, 100), "- 10 -"),
        ((1, 1, 10, 10), "- - 10 10"),
        ((1, 10, 100, 1000), "- - 100 -"),
        ((1, None, 4), "- - 4"),
    ],
)
def test_a_list_price_far_from_the_others_is_not_used(listed, used):
    assert asked(catalog(*listed)) == used


def test_a_doubt_tells_what_is_listed_and_what_others_ask():
    doubt = by_vendor(catalog(1, 2, 10))["c"].doubt
    assert doubt is not None
    assert doubt.reason == (
        "its list says 10 USD per million for input, more than three times away from the 1 USD per million for input "
        "that others ask"
    )
    assert doubt.listed is not None
    assert doubt.listed.rates == rates(10)
    assert doubted(catalog(1, 2, 10)) == {("c", MODEL)}


def test_nobody_doubts_whoever_agrees_or_is_alone():
    assert all(offer.doubt is None for offer in by_vendor(catalog(1, 2, 3)).values())
    assert doubted(catalog(1)) == set()


def test_an_operators_price_is_never_doubted_and_counts_like_any_other():
    def with_operator(*listed: int, at: str, usd: int) -> str:
        price = Price(
            id=PriceId("op"),
            vendor=VendorSlug(at),
            model=MODEL,
            rates=rates(usd) or Rates(input=0, output=0),
            valid_from=NOON,
            source=PriceSource.OPERATOR,
        )
        return asked(catalog(*listed, prices=[price]))

    assert with_operator(1, 4, at="a", usd=1) == "1 -"
    assert with_operator(1, 4, at="b", usd=50) == "- 50"
    assert with_operator(1, 2, 3, at="c", usd=60) == "1 2 60"


def test_an_offer_keeps_the_price_that_it_had():
    before = catalog(1, 2)
    after = catalog(1, 200, last_good=prices_in_use(before))
    assert asked(after) == "1 2"
    assert by_vendor(after)["b"].price == by_vendor(before)["b"].price
    assert by_vendor(after)["b"].doubt is not None
    again = catalog(1, 200, last_good=prices_in_use(after))
    assert asked(again) == "1 2"
    assert asked(catalog(1, 3, last_good=prices_in_use(again))) == "1 3"


def test_of_two_the_one_that_changed_is_doubted_whichever_way_it_went():
    before = prices_in_use(catalog(10, 12))
    assert asked(catalog(10, 1, last_good=before)) == "10 12"
    assert asked(catalog(10, 100, last_good=before)) == "10 12"


def test_a_price_that_it_had_is_no_help_where_it_is_the_one_that_is_far():
    assert asked(catalog(100, 1, 2, last_good=prices_in_use(catalog(100)))) == "- 1 2"


def test_the_library_stands_in_or_settles_that_the_list_is_right():
    def with_quote(usd: int) -> Catalog:
        return catalog(1, 2, 10, library={(VendorSlug("c"), MODEL): Quote(rates(usd) or Rates(input=0, output=0))})

    assert asked(with_quote(2)) == "1 2 2"
    assert by_vendor(with_quote(2))["c"].price.source is PriceSource.GENAI_PRICES  # type: ignore[union-attr]
    assert by_vendor(with_quote(2))["c"].doubt is not None
    assert asked(with_quote(9)) == "1 2 10"
    assert by_vendor(with_quote(9))["c"].doubt is None
    assert asked(with_quote(200)) == "1 2 -"


def test_free_offers_measure_nobody():
    free = ListedModel(vendor_model=MODEL, rates=Rates(input=0, output=0), free=True)
    listed = {VendorSlug("a"): [free], VendorSlug("b"): [ListedModel(vendor_model=MODEL, rates=rates(9))]}
    found = build_catalog(Sources(vendors=dict.fromkeys(listed, CANCEL_AND_BILL_PRODUCED), listed=listed), NOON)
    assert asked(found) == "0 9"


def test_what_a_list_says_that_is_no_price_is_told():
    rows = {
        "a": ListedModel(vendor_model=MODEL, price_doubt="its list says -3, which is negative"),
        "b": ListedModel(vendor_model=MODEL, rates=Rates(input=0, output=0)),
        "c": ListedModel(vendor_model=MODEL, rates=Rates(input=5, output=10**15)),
        "d": ListedModel(vendor_model=MODEL, rates=rates(1), tiers=(Tier(5, Rates(input=-1, output=1)),)),
        "e": ListedModel(vendor_model=MODEL),
    }
    listed = {VendorSlug(name): [row] for name, row in rows.items()}
    sources = Sources(vendors=dict.fromkeys(listed, CANCEL_AND_BILL_PRODUCED), listed=listed)
    offers = by_vendor(build_catalog(sources, NOON))
    assert all(offer.price is None for offer in offers.values())
    assert {name: offer.doubt and offer.doubt.reason for name, offer in offers.items()} == {
        "a": "its list says -3, which is negative",
        "b": "its list says 0, but not that it is free",
        "c": "its list says 1000000 USD per million for output, which nobody can mean",
        "d": "its list says -0.000000001 USD per million for input, which nobody can mean",
        "e": None,
    }
    kept = Price(
        id=PriceId("k"), vendor=VendorSlug("a"), model=MODEL, rates=Rates(input=7 * USD, output=7 * USD),
        valid_from=NOON, source=PriceSource.VENDOR,
    )  # fmt: skip
    again = by_vendor(build_catalog(replace(sources, last_good={(VendorSlug("a"), MODEL): kept}), NOON))
    assert again["a"].price == kept
    assert again["a"].doubt is not None
