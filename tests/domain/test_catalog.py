"""Finding a model by what callers call it, and saying what they may have meant."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from domain.catalog import Catalog, Model, ModelNotFound, Offer, UnknownVendor
from domain.ids import ModelId, PriceId, VendorSlug
from domain.pricing import ModelUnpriced, Price, PriceSource, Rates

VENDOR = VendorSlug("v")
PRICE = Price(
    id=PriceId("p"),
    vendor=VENDOR,
    model=ModelId("m"),
    rates=Rates(input=1, output=1),
    valid_from=datetime(2026, 3, 10, tzinfo=UTC),
    source=PriceSource.OPERATOR,
)


def model(model_id: str, *prices: Price | None) -> Model:
    offers = [Offer(vendor=VENDOR, model=ModelId(model_id), vendor_model="m", price=price) for price in prices]
    return Model(id=ModelId(model_id), name=model_id, offers=tuple(offers))


def catalog(*names: str) -> Catalog:
    return Catalog([model(name, PRICE) for name in names])


def hint(found: Catalog, name: str) -> str:
    with pytest.raises(ModelNotFound) as caught:
        found.find(name)
    return caught.value.message


def test_a_model_is_found_by_its_id_and_by_a_slug_that_one_author_has():
    found = catalog("openai/gpt-4o", "meta/llama", "other/llama")
    assert found.find("openai/gpt-4o").id == found.find("gpt-4o").id == "openai/gpt-4o"
    assert "does not exist" in hint(found, "llama")


def test_an_id_wins_over_the_slug_of_another_model():
    found = Catalog([model("a/b/c", PRICE), model("b/c", PRICE)])
    assert found.find("b/c").id == "b/c"


def test_case_is_never_folded_but_hinted_at():
    found = catalog("meta-llama/Llama-3")
    assert "Did you mean meta-llama/Llama-3?" in hint(found, "meta-llama/llama-3")


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("gpt-4", "openai/gpt-4o"),
        ("openai/gtp-4o", "openai/gpt-4o"),
        ("gpt4o", "openai/gpt-4o"),
        ("OPENAI/GPT-4O", "openai/gpt-4o"),
        ("claude-sonet-4-5", "anthropic/claude-sonnet-4-5"),
        ("anthropic/claude-sonnet-45", "anthropic/claude-sonnet-4-5"),
    ],
)
def test_near_names_are_offered(asked, meant):
    found = catalog("openai/gpt-4o", "anthropic/claude-sonnet-4-5", "mistralai/mistral-large")
    assert meant in hint(found, asked)


def test_where_nothing_is_near_the_list_is_named():
    assert "GET /v1/models" in hint(catalog("openai/gpt-4o"), "zzzz-qqqq")


def test_a_model_without_a_price_is_neither_listed_nor_near_nor_usable():
    found = Catalog([model("openai/gpt-4o", None), model("openai/none")])
    assert found.listed() == []
    assert "openai" not in hint(found, "openai/gpt-4x").partition("exist.")[2]
    with pytest.raises(ModelUnpriced):
        found.find("gpt-4o")
    with pytest.raises(ModelUnpriced):
        found.find("openai/none")


def test_only_priced_offers_count():
    assert len(model("a/b", PRICE, None).priced) == 1


@pytest.mark.parametrize("asked", ["x" * 1_000_000, "a-" * 500_000, "llama-70b-instruct-chat-hf"])
def test_a_wrong_name_costs_milliseconds_even_among_20_000_models(asked):
    """Comparing with all of them took two seconds, in which nobody else was served."""
    found = catalog(*(f"author{number % 99}/llama-{number}b-instruct-chat-{number:x}" for number in range(20_000)))
    start = time.process_time()
    hint(found, asked)
    assert time.process_time() - start < 1


def test_an_unknown_vendor_names_the_known_ones():
    assert "alpha, beta" in UnknownVendor("gamma", {"beta", "alpha"}).message
