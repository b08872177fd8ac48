"""Listing what can be asked for, and setting what it costs."""

from __future__ import annotations

import pytest

from adapters.catalog.book import Sources, build_catalog
from adapters.vendors.sandbox import MODELS
from application.catalog import ListModels, RefreshCatalog
from domain.catalog import CANCEL_AND_BILL_PRODUCED, Capability, Catalog, ModelNotFound
from domain.ids import ModelId, VendorSlug
from domain.ports.catalog import Refreshed
from domain.ports.vendors import ListedModel
from domain.pricing import Rates
from tests.fakes.time import NOON

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


async def test_an_unknown_model_has_no_record():
    with pytest.raises(ModelNotFound):
        ListModels(Source()).one("meta/llama-4")


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
