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
    assert list(found.listed()) == []
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


OTHER = VendorSlug("other")


def offered(model_id: str, *vendors: VendorSlug, **others) -> Model:
    offers = tuple(Offer(vendor=each, model=ModelId(model_id), vendor_model="m", price=PRICE) for each in vendors)
    return Model(id=ModelId(model_id), name=model_id, offers=offers, **others)


def test_a_vendor_that_is_switched_off_serves_nothing():
    both, alone = offered("a/both", VENDOR, OTHER), offered("a/alone", OTHER)
    found = Catalog([both, alone], vendors=[VENDOR, OTHER])
    off = found.switched([OTHER], 7)
    assert off.version == 7
    assert [offer.vendor for offer in off.find("a/both").offers] == [VENDOR]
    assert [model.id for model in off.listed()] == ["a/both"]
    assert "the operator has switched off" in hint(off, "a/alone")
    assert "a/alone" not in hint(off, "a/alon")
    assert [model.id for model in found.listed()] == ["a/both", "a/alone"]
    assert off.switched([], 8).find("a/alone") == alone
    assert Catalog([both, alone], off=[OTHER]).listed() == off.listed()


def test_a_model_is_found_by_its_aliases_but_not_by_a_name_that_two_have():
    one, two = offered("a/one", VENDOR, aliases=("uno", "same")), offered("a/two", VENDOR, aliases=("same", "a/one"))
    found = Catalog([one, two])
    assert found.find("uno") is one
    assert found.find("a/one") is one
    assert "does not exist" in hint(found, "same")


def test_the_operators_alias_wins_over_what_models_bring_along_and_over_slugs():
    one, two = offered("a/one", VENDOR, aliases=("uno",)), offered("a/two", VENDOR)
    found = Catalog([one, two], aliases={"uno": two.id, "one": two.id, "a/one": two.id, "gone": ModelId("a/none")})
    assert found.find("uno") is found.find("one") is two
    assert found.find("a/one") is one
    assert "does not exist" in hint(found, "gone")


def test_indexes_are_made_anew_where_ids_have_changed():
    before = catalog("a/one", "a/two")
    same = Catalog(before.models.values(), previous=before)
    assert "a/one" in hint(same, "a/onne")
    changed = Catalog([*before.models.values(), model("a/three", PRICE)], previous=before)
    assert "a/three" in hint(changed, "a/thre")


def test_a_model_is_deprecated_when_all_of_its_vendors_have_set_a_date():
    def retiring(*dates: datetime | None) -> Model:
        offers = [
            Offer(vendor=VENDOR, model=ModelId("m"), vendor_model="m", price=PRICE, retires_at=date) for date in dates
        ]
        return Model(id=ModelId("m"), name="m", offers=tuple(offers))

    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    assert retiring(early, late).deprecated_at == late
    assert retiring(early, None).deprecated_at is None
    assert retiring().deprecated_at is None
