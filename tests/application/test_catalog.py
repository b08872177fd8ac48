"""Listing what can be asked for, and setting what it costs."""

from __future__ import annotations

import pytest

from adapters.catalog.book import Sources, build_catalog
from adapters.memory.repositories import MemoryPrices, MemoryRevisions
from adapters.vendors.sandbox import MODELS
from application.catalog import ListModels, PriceImplausible, PriceWish, RefreshCatalog, SetPrice
from domain.catalog import CANCEL_AND_BILL_PRODUCED, Capability, Catalog, ModelNotFound, UnknownVendor
from domain.errors import InvalidRequest
from domain.ids import ModelId, VendorSlug
from domain.ports.catalog import Refreshed
from domain.ports.vendors import ListedModel
from domain.pricing import PriceSource, Rates
from tests.fakes.time import NOON, CountingIds, FakeClock

pytestmark = pytest.mark.anyio

ALPHA, BETA, GAMMA = VendorSlug("alpha"), VendorSlug("beta"), VendorSlug("gamma")


def row(vendor_model: str, usd_input: int | None = None, **others) -> ListedModel:
    rates = None if usd_input is None else Rates(input=usd_input * 10**9, output=2 * usd_input * 10**9)
    return ListedModel(vendor_model=vendor_model, rates=rates, **others)


class Source:
    def __init__(self, **others) -> None:
        self.sources = Sources(
            static=MODELS,
            vendors=dict.fromkeys((ALPHA, BETA, GAMMA), CANCEL_AND_BILL_PRODUCED),
            listed={
                ALPHA: [
                    row(
                        "meta/Llama-3",
                        3,
                        name="Llama 3",
                        created_s=1_700_000_000,
                        context_length=8_000,
                        output_max=4_000,
                        capabilities=frozenset({Capability.IMAGES_IN, Capability.TOOLS}),
                    ),
                    row("unpriced"),
                ],
                BETA: [row("meta/Llama-3", 1, context_length=4_000), row("own", 1)],
            },
            **others,
        )
        self.catalog = build_catalog(self.sources, NOON)

    def current(self) -> Catalog:
        return self.catalog


@pytest.fixture
def prices() -> MemoryPrices:
    return MemoryPrices(MemoryRevisions())


@pytest.fixture
def set_price(prices: MemoryPrices) -> SetPrice:
    return SetPrice(prices, Source(), FakeClock(), CountingIds())


def wish(input_: str = "1", output: str = "2", **others: str) -> PriceWish:
    return PriceWish(input=input_, output=output, **others)


async def test_what_has_a_price_is_listed_in_order_of_id():
    listed = [record.id for record in await ListModels(Source())()]
    assert listed == sorted(listed)
    assert {"meta/Llama-3", "beta/own", "sandbox/echo"} <= set(listed)
    assert "alpha/unpriced" not in listed


async def test_a_record_tells_of_all_offers_and_prices_the_cheapest():
    found = ListModels(Source()).one("meta/Llama-3")
    assert (found.name, found.created, found.owned_by, found.object) == ("Llama 3", 1_700_000_000, "meta", "model")
    assert found.context_length == 8_000
    assert found.top_provider.vendor == BETA
    assert found.top_provider.context_length == 4_000
    assert found.architecture.modality == "text+image->text"
    assert found.architecture.input_modalities == ("text", "image")
    assert found.architecture.output_modalities == ("text",)
    assert {"tools", "response_format", "max_tokens"} <= set(found.supported_parameters)
    assert "reasoning" not in found.supported_parameters


async def test_prices_are_what_a_caller_pays_per_token_with_the_markup():
    pricing = ListModels(Source(markup_ppm=1_500_000)).one("beta/own").pricing
    assert (pricing.prompt, pricing.completion) == ("0.0000015", "0.000003")
    assert (pricing.input_cache_read, pricing.input_cache_write) == ("0.0000015", "0.0000015")
    assert pricing.internal_reasoning == "0.000003"
    assert (pricing.request, pricing.image, pricing.web_search) == ("0", "0", "0")


async def test_records_are_made_once_for_each_snapshot():
    source = Source()
    list_models = ListModels(source)
    first = await list_models()
    assert await list_models() is first
    source.catalog = build_catalog(source.sources, NOON)
    assert await list_models() is not first


async def test_an_unknown_model_has_no_record():
    with pytest.raises(ModelNotFound):
        ListModels(Source()).one("meta/llama-4")


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
    ("input_", "output", "free", "param"),
    [
        ("-1", "1", False, "input"),
        ("1", "100000.01", False, "output"),
        ("one", "1", False, "input"),
        ("0.0000000001", "1", False, "input"),
        ("0", "0", False, "free"),
        ("1", "0", True, "free"),
    ],
)
async def test_a_price_that_cannot_be_meant_is_refused_even_if_confirmed(
    set_price, prices, input_, output, free, param
):
    with pytest.raises(InvalidRequest) as caught:
        await set_price("beta/own", wish(input_, output), free=free, confirmed=True)
    assert caught.value.param == param
    assert await prices.current(NOON) == []


async def test_free_is_said_outright(set_price):
    assert (await set_price("meta/Llama-3", wish("0", "0"), vendor="beta", free=True)).free


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


async def test_a_refresh_asks_one_vendor_or_all():
    asked: list[VendorSlug | None] = []

    class Refresher:
        async def refresh(self, vendor: VendorSlug | None = None) -> list[Refreshed]:
            asked.append(vendor)
            return []

    await RefreshCatalog(Refresher())()
    await RefreshCatalog(Refresher())("alpha")
    assert asked == [None, "alpha"]


def test_ids_are_never_lower_cased():
    assert ModelId("meta/Llama-3") in Source().catalog.models
