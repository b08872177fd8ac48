"""Setting what offers cost, believing lists, and what is put on top."""

from __future__ import annotations

from datetime import timedelta

import pytest

from adapters.catalog.book import Sources, build_catalog
from adapters.memory.repositories import MemoryMarkups, MemoryPrices, MemoryRevisions
from adapters.vendors.sandbox import MODELS
from application.prices import (
    ConfirmPrice,
    ListMarkups,
    PriceHistory,
    PriceImplausible,
    PriceWish,
    RemoveMarkup,
    SetMarkup,
    SetPrice,
    doubtful_offers,
    listed_offers,
    offer_place,
)
from domain.catalog import CANCEL_AND_BILL_PRODUCED, Catalog, UnknownVendor
from domain.errors import InvalidRequest
from domain.ids import ModelId, VendorSlug
from domain.markups import UnknownMarkup
from domain.ports.vendors import ListedModel
from domain.pricing import ImageRate, PriceSource, Rates, Tier
from tests.fakes.time import NOON, CountingIds, FakeClock

pytestmark = pytest.mark.anyio

ALPHA, BETA, GAMMA = VendorSlug("alpha"), VendorSlug("beta"), VendorSlug("gamma")
LLAMA, FAR = ModelId("meta/Llama-3"), ModelId("meta/far")
USD = 10**9


def row(vendor_model: str, usd_input: int | None = None, **others) -> ListedModel:
    rates = None if usd_input is None else Rates(input=usd_input * USD, output=2 * usd_input * USD)
    return ListedModel(vendor_model=vendor_model, rates=rates, **others)


class Source:
    def __init__(self) -> None:
        self.catalog = build_catalog(
            Sources(
                static=MODELS,
                vendors=dict.fromkeys((ALPHA, BETA, GAMMA), CANCEL_AND_BILL_PRODUCED),
                listed={
                    ALPHA: [row("meta/Llama-3", 3), row("unpriced"), row("meta/far", 2)],
                    BETA: [row("meta/Llama-3", 1), row("own", 1), row("meta/far", 1)],
                    GAMMA: [row("meta/far", 10), row("odd", price_doubt="its list says a lot")],
                },
            ),
            NOON,
        )

    def current(self) -> Catalog:
        return self.catalog


@pytest.fixture
def revisions() -> MemoryRevisions:
    return MemoryRevisions()


@pytest.fixture
def prices(revisions: MemoryRevisions) -> MemoryPrices:
    return MemoryPrices(revisions)


@pytest.fixture
def markups(revisions: MemoryRevisions) -> MemoryMarkups:
    return MemoryMarkups(revisions)


@pytest.fixture
def set_price(prices: MemoryPrices) -> SetPrice:
    return SetPrice(prices, Source(), FakeClock(), CountingIds())


@pytest.fixture
def confirm(prices: MemoryPrices) -> ConfirmPrice:
    return ConfirmPrice(prices, Source(), FakeClock(), CountingIds())


def wish(input_: str = "1", output: str = "2", **others: str) -> PriceWish:
    return PriceWish(rates={"input": input_, "output": output, **others})


async def test_a_price_set_is_a_new_version_by_its_author(set_price, prices):
    price = await set_price("beta/own", wish("0.5", "1.25", cache_read="0.05"), author="ann")
    assert await prices.current(NOON) == [price]
    assert price.rates == Rates(input=500_000_000, output=1_250_000_000, cache_read=50_000_000)
    assert (price.vendor, price.model, price.author) == (BETA, "beta/own", "ann")
    assert (price.source, price.valid_from, price.free) == (PriceSource.OPERATOR, NOON, False)


@pytest.mark.parametrize(
    ("model", "vendor", "at", "model_id"),
    [
        ("beta/own", None, "beta", "beta/own"),
        ("own", "beta", "beta", "beta/own"),
        ("alpha/unpriced", None, "alpha", "alpha/unpriced"),
        ("meta/Llama-3", "alpha", "alpha", "meta/Llama-3"),
        ("gamma/new", None, "gamma", "gamma/new"),
        ("new", "gamma", "gamma", "gamma/new"),
        ("meta/New", "gamma", "gamma", "meta/New"),
        ("sandbox/echo", None, "sandbox", "sandbox/echo"),
    ],
)
async def test_the_vendor_is_the_one_named_or_the_only_one_it_can_be(set_price, model, vendor, at, model_id):
    price = await set_price(model, wish(), vendor=vendor, confirmed=True)
    assert (price.vendor, price.model) == (at, model_id)


@pytest.mark.parametrize("model", ["meta/Llama-3", "meta/Unknown", "unknown"])
async def test_where_the_vendor_is_not_clear_it_must_be_named(set_price, model):
    with pytest.raises(InvalidRequest, match="alpha, beta") as caught:
        await set_price(model, wish())
    assert caught.value.param == "vendor"


async def test_a_vendor_that_is_not_set_up_has_no_prices(set_price):
    with pytest.raises(UnknownVendor, match="alpha, beta"):
        await set_price("meta/Llama-3", wish(), vendor="delta")


@pytest.mark.parametrize(
    ("rates", "free", "param"),
    [
        ({"input": "-1", "output": "1"}, False, "input"),
        ({"input": "1", "output": "100000.01"}, False, "output"),
        ({"input": "one", "output": "1"}, False, "input"),
        ({"input": "0.0000000001", "output": "1"}, False, "input"),
        ({"input": "1e999999999", "output": "1"}, False, "input"),
        ({"input": "0", "output": "0"}, False, "free"),
        ({}, False, "free"),
        ({"input": "1", "output": "0"}, True, "free"),
        ({"input": "1"}, False, "output"),
        ({"output": "1"}, False, "input"),
        ({"cache_read": "0.1"}, False, "input"),
        ({"images": "0.1", "image_in": "5"}, False, "input"),
        ({"images": "10.01"}, False, "images"),
        ({"input": "1", "output": "1", "storage": "1"}, False, "rates"),
    ],
)
async def test_a_price_that_cannot_be_meant_is_refused_even_if_confirmed(set_price, prices, rates, free, param):
    with pytest.raises(InvalidRequest) as caught:
        await set_price("beta/own", PriceWish(rates=rates), free=free, confirmed=True)
    assert caught.value.param == param
    assert await prices.current(NOON) == []


async def test_free_is_said_outright(set_price):
    assert (await set_price("meta/Llama-3", wish("0", "0"), vendor="beta", free=True)).free
    assert (await set_price("beta/own", PriceWish(rates={}), free=True)).free


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({"input": "0.02", "output": "0"}, Rates(input=20_000_000, output=0)),
        ({"images": "0.04"}, Rates(input=0, output=0, images=40_000 * USD)),
        ({"characters": "15"}, Rates(input=0, output=0, characters=15 * USD)),
        ({"seconds": "0.0001"}, Rates(input=0, output=0, seconds=100 * USD)),
        ({"searches": "0.002"}, Rates(input=0, output=0, searches=2_000 * USD)),
        ({"requests": "0.001"}, Rates(input=0, output=0, requests=1_000 * USD)),
    ],
)
async def test_embeddings_pictures_speech_transcripts_reranking_and_moderation_have_prices(set_price, rates, expected):
    assert (await set_price("beta/own", PriceWish(rates=rates))).rates == expected


async def test_every_class_can_be_given_a_price(set_price):
    named = dict.fromkeys(Rates.__struct_fields__, "0.5")
    price = await set_price("beta/own", PriceWish(rates=named))
    assert all(getattr(price.rates, name) for name in Rates.__struct_fields__)


async def test_a_tier_keeps_what_it_does_not_name(set_price):
    tiers = {400_000: {"output": "9"}, 200_000: {"input": "2.5", "output": "15"}}
    stated = {"input": "1.25", "output": "10", "cache_read": "0.125"}
    price = await set_price("beta/own", PriceWish(rates=stated, tiers=tiers))
    assert price.tiers == (
        Tier(200_000, Rates(input=2_500_000_000, output=15 * USD, cache_read=125_000_000)),
        Tier(400_000, Rates(input=1_250_000_000, output=9 * USD, cache_read=125_000_000)),
    )


@pytest.mark.parametrize(
    "tiers", [{0: {"input": "1"}}, {5: {}}, {10**9: {"input": "1"}}, {n: {"input": "1"} for n in range(1, 12)}]
)
async def test_tiers_that_cannot_be_meant_are_refused(set_price, tiers):
    with pytest.raises(InvalidRequest, match="tier") as caught:
        await set_price("beta/own", PriceWish(rates={"input": "1", "output": "1"}, tiers=tiers))
    assert caught.value.param == "tiers"


async def test_pictures_have_prices_by_size_and_quality(set_price):
    named = {"1024x1024:low": "0.01", "1024x1024:high": "0.19"}
    price = await set_price("beta/own", PriceWish(rates={}, image_rates=named))
    assert price.image_rates == (ImageRate("1024x1024:high", 190_000 * USD), ImageRate("1024x1024:low", 10_000 * USD))


@pytest.mark.parametrize("named", [{"": "1"}, {"x" * 61: "1"}, {"a": "11"}, {"a\n": "1"}])
async def test_prices_of_pictures_that_cannot_be_meant_are_refused(set_price, named):
    with pytest.raises(InvalidRequest) as caught:
        await set_price("beta/own", PriceWish(rates={"images": "1"}, image_rates=named))
    assert caught.value.param == "image_rates"


async def test_a_price_may_begin_later_but_not_earlier(set_price, prices):
    later = NOON + timedelta(days=20)
    price = await set_price("beta/own", wish(), valid_from=later)
    assert await prices.current(NOON) == []
    assert await prices.current(later) == [price]
    with pytest.raises(InvalidRequest, match="past") as caught:
        await set_price("beta/own", wish(), valid_from=NOON - timedelta(seconds=1))
    assert caught.value.param == "valid_from"


@pytest.mark.parametrize(
    ("input_", "output", "param"), [("9.1", "6", "input"), ("3", "1.9", "output"), ("0", "6", "input")]
)
async def test_a_price_far_from_the_other_offers_must_be_confirmed(set_price, prices, input_, output, param):
    with pytest.raises(PriceImplausible, match="costs elsewhere") as caught:
        await set_price("meta/Llama-3", wish(input_, output), vendor="beta")
    assert caught.value.param == param
    assert await prices.current(NOON) == []
    await set_price("meta/Llama-3", wish(input_, output), vendor="beta", confirmed=True)


async def test_the_offer_itself_and_models_of_one_vendor_are_no_measure(set_price):
    await set_price("beta/own", wish("900", "900"))
    await set_price("meta/Llama-3", wish("9", "18"), vendor="beta")


async def test_the_history_holds_what_was_and_what_will_be(set_price, prices):
    history = PriceHistory(prices, Source())
    first = await set_price("beta/own", wish("1"))
    later = await set_price("beta/own", wish("2"), valid_from=NOON + timedelta(days=1))
    await set_price("alpha/unpriced", wish("3"))
    assert await history("beta/own") == [later, first]
    assert await history("own", "beta") == [later, first]
    assert await history("beta/none") == []
    with pytest.raises(InvalidRequest, match="Name the vendor"):
        await history("meta/Llama-3")


async def test_a_doubted_price_is_confirmed_as_the_operators_own(confirm, prices):
    price = await confirm(FAR, "gamma", author="ann")
    assert await prices.current(NOON) == [price]
    assert (price.rates, price.source, price.author) == (
        Rates(input=10 * USD, output=20 * USD),
        PriceSource.OPERATOR,
        "ann",
    )
    assert price.id.isalnum()


async def test_only_a_doubted_price_that_can_be_used_is_confirmed(confirm, prices):
    with pytest.raises(InvalidRequest, match="not in doubt"):
        await confirm(FAR, "alpha")
    with pytest.raises(InvalidRequest, match=r"its list says a lot.*gatewayz prices set gamma/odd"):
        await confirm("gamma/odd")
    assert await prices.current(NOON) == []


def test_offers_are_listed_in_order_and_from_where_a_page_ended():
    catalog = Source().current()
    offers = listed_offers(catalog)
    assert [offer_place(offer) for offer in offers] == sorted(map(offer_place, offers))
    third = offer_place(offers[2])
    assert listed_offers(catalog, after=third) == offers[3:]
    assert [offer.model for offer in listed_offers(catalog, unpriced=True)] == ["alpha/unpriced", "gamma/odd", FAR]
    assert [offer.vendor for offer in listed_offers(catalog, model=LLAMA, vendor="beta")] == [BETA]
    assert [(offer.model, offer.vendor) for offer in doubtful_offers(catalog)] == [("gamma/odd", GAMMA), (FAR, GAMMA)]


async def test_a_markup_is_set_listed_and_removed(markups, revisions):
    set_markup = SetMarkup(markups, Source(), FakeClock())
    await set_markup("1.1", author="ann")
    await set_markup("1.5", vendor="beta", model=" meta/* ", plan="pro")
    await set_markup("1.2", model="meta/*")
    await set_markup("1.3", model="meta/*", author="bob")
    rules = await ListMarkups(markups)()
    assert [(rule.ppm, str(rule.scope)) for rule in rules] == [
        (1_500_000, "vendor beta, model meta/*, plan pro"),
        (1_300_000, "model meta/*"),
        (1_100_000, "everything"),
    ]
    assert (rules[1].author, rules[1].set_at) == ("bob", NOON)
    await RemoveMarkup(markups)(model="meta/*")
    assert len(await markups.all()) == 2
    with pytest.raises(UnknownMarkup, match="model meta"):
        await RemoveMarkup(markups)(model="meta/*")
    assert await revisions.read() == {"prices": 5}


@pytest.mark.parametrize(
    ("factor", "scope", "refusal"),
    [
        ("0", {}, InvalidRequest),
        ("x", {}, InvalidRequest),
        ("1.2", {"vendor": "delta"}, UnknownVendor),
        ("1.2", {"model": "m" * 201}, InvalidRequest),
        ("1.2", {"plan": "p\n"}, InvalidRequest),
    ],
)
async def test_a_markup_that_cannot_be_meant_is_refused(markups, factor, scope, refusal):
    with pytest.raises(refusal):
        await SetMarkup(markups, Source(), FakeClock())(factor, **scope)
    assert await markups.all() == []
