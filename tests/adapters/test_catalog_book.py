"""The book: which price wins, which names are one model, and what is not believed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)
from genai_prices.types import Tier as LibraryTier

from adapters.catalog.book import Sources, build_catalog, unpriced
from adapters.catalog.genai import PROVIDERS, GenaiPrices, Quote, look_up, quote_of, standard_prices
from adapters.catalog.names import canonical_id
from adapters.vendors.sandbox import MODELS
from domain.catalog import CANCEL_AND_BILL_PRODUCED, AbortPolicy, Capability, Catalog
from domain.ids import ModelId, PriceId, VendorSlug
from domain.ports.vendors import ListedModel
from domain.pricing import ModelUnpriced, Price, PriceSource, Rates, Tier

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
OPENAI, LOCAL, TOGETHER = VendorSlug("openai"), VendorSlug("local"), VendorSlug("together")
CHEAP, DEAR = Rates(input=1_000, output=2_000), Rates(input=5_000, output=9_000)


def operator_price(vendor: VendorSlug, model: str, rates: Rates = DEAR, *, free: bool = False) -> Price:
    return Price(
        id=PriceId(f"op:{vendor}:{model}"),
        vendor=vendor,
        model=ModelId(model),
        rates=rates,
        valid_from=NOON,
        source=PriceSource.OPERATOR,
        free=free,
    )


def rows(*names: str, rates: Rates | None = None, free: bool = False) -> list[ListedModel]:
    return [ListedModel(vendor_model=name, rates=rates, free=free) for name in names]


def catalog(**sources) -> Catalog:
    vendors = dict.fromkeys((OPENAI, LOCAL, TOGETHER), CANCEL_AND_BILL_PRODUCED)
    return build_catalog(Sources(**{"vendors": vendors, **sources}), NOON)


def price_of(found: Catalog, model: str, vendor: VendorSlug | None = None) -> Any:
    (price,) = {offer.price for offer in found.models[model].offers if vendor in {None, offer.vendor}}
    return price


@pytest.mark.parametrize(
    ("vendor", "vendor_model", "canonical"),
    [
        ("openai", "gpt-x", "openai/gpt-x"),
        ("local", "llama3", "local/llama3"),
        ("local", "llama3:8b", "local/llama3:8b"),
        ("together", "meta-llama/Llama-3-70b-Chat-HF", "meta-llama/Llama-3-70b-Chat-HF"),
        ("fireworks", "accounts/fireworks/models/x", "fireworks/x"),
        ("fireworks", "accounts/else/models/x", "fireworks/accounts/else/models/x"),
        ("xai", "grok-9", "x-ai/grok-9"),
        ("gemini", "models/gemini-9", "google/gemini-9"),
        ("odd", "/x", "odd//x"),
        ("odd", "x/", "odd/x/"),
    ],
)
def test_a_canonical_id_is_the_vendors_own_where_it_names_an_author(vendor, vendor_model, canonical):
    assert canonical_id(VendorSlug(vendor), vendor_model) == canonical


def test_an_operators_price_wins_over_the_vendors_list_and_that_over_the_library():
    listed = {OPENAI: [*rows("a", "b", rates=CHEAP), *rows("c")]}
    quote = Quote(Rates(input=7, output=7))
    library = {(OPENAI, name): quote for name in ("a", "b", "c")}
    found = catalog(listed=listed, library=library, prices=[operator_price(OPENAI, "openai/a")])
    sources = [price_of(found, f"openai/{name}").source for name in ("a", "b", "c")]
    assert sources == [PriceSource.OPERATOR, PriceSource.VENDOR, PriceSource.GENAI_PRICES]


def test_an_operators_price_holds_for_its_vendor_alone():
    listed = {OPENAI: rows("x/y", rates=CHEAP), TOGETHER: rows("x/y", rates=CHEAP)}
    twice = Rates(input=2_000, output=4_000)
    found = catalog(listed=listed, prices=[operator_price(OPENAI, "x/y", twice)])
    assert price_of(found, "x/y", OPENAI).rates == twice
    assert price_of(found, "x/y", TOGETHER).rates == CHEAP


def test_two_vendors_that_spell_a_model_alike_offer_one_model():
    listed = {
        TOGETHER: rows("meta-llama/Llama-3", rates=CHEAP),
        LOCAL: rows("meta-llama/Llama-3", "meta-llama/llama-3", rates=DEAR),
    }
    found = catalog(listed=listed)
    assert {offer.vendor for offer in found.models["meta-llama/Llama-3"].offers} == {TOGETHER, LOCAL}
    assert len(found.models["meta-llama/llama-3"].offers) == 1


def test_the_table_of_names_joins_what_is_spelt_differently():
    listed = {TOGETHER: rows("meta-llama/Llama-3", rates=CHEAP), LOCAL: rows("llama3", rates=DEAR)}
    found = catalog(listed=listed, names={(LOCAL, "llama3"): ModelId("meta-llama/Llama-3")})
    assert sorted(found.models) == ["meta-llama/Llama-3"]
    assert {offer.vendor_model for offer in found.models["meta-llama/Llama-3"].offers} == {
        "meta-llama/Llama-3",
        "llama3",
    }


def test_a_price_alone_makes_a_model_of_a_vendor_without_a_list_routable():
    found = catalog(
        prices=[operator_price(LOCAL, "local/llama3"), operator_price(LOCAL, "meta-llama/Llama-3")],
        names={(LOCAL, "L3"): ModelId("meta-llama/Llama-3")},
    )
    assert found.find("local/llama3").offers[0].vendor_model == "llama3"
    assert found.find("meta-llama/Llama-3").offers[0].vendor_model == "L3"


def test_a_price_for_a_model_that_its_vendor_does_not_list_is_no_offer():
    found = catalog(listed={LOCAL: rows("other", rates=CHEAP)}, prices=[operator_price(LOCAL, "local/llama3")])
    assert sorted(found.models) == ["local/other"]


def test_models_that_the_operator_declared_replace_the_vendors_list():
    found = catalog(listed={LOCAL: rows("old", rates=CHEAP)}, declared={LOCAL: ["new"]})
    assert sorted(found.models) == ["local/new"]


def test_a_vendor_that_is_off_offers_nothing():
    listed = {VendorSlug("gone"): rows("m", rates=CHEAP)}
    assert not catalog(listed=listed, prices=[operator_price(VendorSlug("gone"), "gone/n")]).models


def test_a_model_without_a_price_is_known_but_not_listed():
    found = catalog(listed={OPENAI: rows("a")})
    assert list(found.listed()) == []
    with pytest.raises(ModelUnpriced, match="gatewayz prices set openai/a"):
        found.find("openai/a")


@pytest.mark.parametrize(
    "rates",
    [
        Rates(input=0, output=0),
        Rates(input=-1, output=5),
        Rates(input=5, output=100_001 * 10**9),
        Rates(input=5, output=5, cache_read=-1),
    ],
)
def test_a_price_that_nobody_can_mean_is_no_price(rates):
    quote = Quote(CHEAP, (Tier(10, rates),)) if not rates.is_zero else Quote(rates)
    found = catalog(listed={OPENAI: [*rows("a", rates=rates), *rows("b")]}, library={(OPENAI, "b"): quote})
    assert price_of(found, "openai/a") is None
    assert price_of(found, "openai/b") is None


def test_zero_is_a_price_only_where_it_is_said_outright():
    zero = Rates(input=0, output=0)
    found = catalog(
        listed={OPENAI: [*rows("a", rates=zero, free=True), *rows("b", rates=zero), *rows("c")]},
        prices=[operator_price(OPENAI, "openai/c", zero, free=True)],
    )
    assert price_of(found, "openai/a").free
    assert price_of(found, "openai/b") is None
    assert price_of(found, "openai/c").free


def test_the_same_price_found_again_has_the_same_id_and_another_one_has_not():
    first = price_of(catalog(listed={OPENAI: rows("a", rates=CHEAP)}), "openai/a")
    again = price_of(catalog(listed={OPENAI: rows("a", rates=CHEAP)}), "openai/a")
    other = price_of(catalog(listed={OPENAI: rows("a", rates=DEAR)}), "openai/a")
    assert first.id == again.id != other.id
    assert first.id.startswith("vendor:")


def test_stored_prices_of_other_sources_are_not_taken_for_the_operators():
    stored = operator_price(OPENAI, "openai/a")
    stored = Price(**{name: getattr(stored, name) for name in stored.__struct_fields__} | {"source": "vendor"})
    assert price_of(catalog(listed={OPENAI: rows("a", rates=CHEAP)}, prices=[stored]), "openai/a").rates == CHEAP


def test_the_sandbox_is_always_there_and_its_price_can_be_set():
    sandbox = VendorSlug("sandbox")
    found = catalog(static=MODELS, prices=[operator_price(sandbox, "sandbox/echo")])
    assert price_of(found, "sandbox/echo").rates == DEAR
    assert price_of(found, "sandbox/slow").source is PriceSource.SANDBOX
    assert sandbox in found.vendors


def test_what_a_list_says_of_a_model_reaches_its_offer():
    policy = AbortPolicy(id="works-on", cancellable=False)
    row = ListedModel(
        vendor_model="a",
        name="The A",
        context_length=1_000,
        output_max=100,
        created_s=1_700_000_000,
        capabilities=frozenset({Capability.TOOLS}),
        rates=CHEAP,
    )
    found = build_catalog(
        Sources(vendors={OPENAI: policy}, listed={OPENAI: [row, row]}, markup_ppm=1_500_000), NOON, version=7
    )
    model = found.find("openai/a")
    (offer,) = model.offers
    assert (model.name, model.created) == ("The A", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC))
    assert (offer.context_length, offer.output_max, offer.markup_ppm) == (1_000, 100, 1_500_000)
    assert (offer.capabilities, offer.abort_policy) == (frozenset({Capability.TOOLS}), policy)
    assert found.version == 7


@pytest.mark.parametrize("created_s", [-5, 0, 1_700_000_000_000])
def test_an_impossible_date_is_no_date(created_s):
    row = ListedModel(vendor_model="a", created_s=created_s, rates=CHEAP)
    assert catalog(listed={OPENAI: [row]}).find("openai/a").created is None


def test_the_library_is_asked_only_for_what_nobody_else_prices():
    sources = Sources(
        vendors={OPENAI: CANCEL_AND_BILL_PRODUCED},
        listed={OPENAI: [*rows("a", rates=CHEAP), *rows("b", "c")], LOCAL: rows("off")},
        prices=[operator_price(OPENAI, "openai/b")],
    )
    assert unpriced(sources) == {(OPENAI, "c")}


def quoted(prices: Mapping[str, Any], model: str = "m") -> Any:
    return quote_of(prices, model)


def mtok(**prices: str) -> dict[str, Decimal]:
    return {f"{name}_mtok": Decimal(price) for name, price in prices.items()}


def test_the_librarys_prices_become_nano_dollars_exactly():
    quote = quoted(mtok(input="2.5", output="10", cache_read="0.003625", cache_write="3.125"))
    assert quote == Quote(
        Rates(input=2_500_000_000, output=10_000_000_000, cache_read=3_625_000, cache_write_5m=3_125_000_000)
    )


def test_the_trace_of_a_float_is_rounded_away():
    quote = quoted(mtok(input="0.18000000000000002", output="0.27999999999999997"))
    assert quote.rates == Rates(input=180_000_000, output=280_000_000)


def test_searches_are_counted_by_the_piece():
    quote = quoted({**mtok(input="1", output="1"), "web_searches_kcount": Decimal(10)})
    assert quote.rates.searches == 10_000 * 10**9


def test_tiers_hold_the_price_of_every_class_beyond_their_start():
    tiered = TieredPrices(base=Decimal(1), tiers=[LibraryTier(200_000, Decimal(2)), LibraryTier(500, Decimal(3))])
    later = TieredPrices(base=Decimal(4), tiers=[LibraryTier(200_000, Decimal(5))])
    quote = quoted({"input_mtok": tiered, "output_mtok": later, "cache_read_mtok": Decimal("0.1")})
    assert quote.rates == Rates(input=10**9, output=4 * 10**9, cache_read=10**8)
    assert quote.tiers == (
        Tier(500, Rates(input=3 * 10**9, output=4 * 10**9, cache_read=10**8)),
        Tier(200_000, Rates(input=2 * 10**9, output=5 * 10**9, cache_read=10**8)),
    )


@pytest.mark.parametrize(
    "prices",
    [
        {},
        mtok(input="1"),
        mtok(output="1"),
        mtok(input="0", output="0"),
        mtok(input="-1", output="1"),
        mtok(input="1", output="100000.01"),
    ],
)
def test_gaps_and_nonsense_of_the_library_are_no_price(prices):
    assert quote_of(prices, "gpt") is None


def test_embeddings_have_no_output_to_price():
    assert quoted(mtok(input="0.02"), "text-embedding-3").rates == Rates(input=20_000_000, output=0)


def test_of_prices_that_change_the_one_in_force_and_at_its_dearest_hour_is_taken():
    def at(price: str, constraint: Any = None) -> ConditionalPrice:
        return ConditionalPrice(constraint=constraint, prices=ModelPrice(**mtok(input=price, output="0.5")))

    night = TimeOfDateConstraint(NOON.replace(hour=1).timetz(), NOON.replace(hour=4).timetz())
    info = ModelInfo(
        id="m",
        match=ClauseEquals("m"),
        prices=[
            at("9", night),
            at("1"),
            at("2", StartDateConstraint(NOON.date())),
            at("4", night),
            at("3", night),
            at("50", StartDateConstraint(NOON.replace(year=2030).date())),
        ],
    )
    assert standard_prices(info, NOON)["input_mtok"] == 4


def test_models_of_vendors_that_the_library_does_not_know_have_no_price():
    asked = [(LOCAL, "gpt-4o"), (OPENAI, "no-such-model"), (OPENAI, "gpt-4o")]
    assert [(each.vendor, each.model) for each in look_up(asked, NOON)] == [(OPENAI, "gpt-4o")]


@pytest.mark.parametrize("vendor", ["gemini", "vertex"])
@pytest.mark.parametrize("path", ["models/gemini-2.5-flash", "publishers/google/models/gemini-2.5-flash"])
def test_google_names_its_models_by_paths(vendor: str, path: str) -> None:
    told, plain = look_up([(VendorSlug(vendor), path), (VendorSlug(vendor), "gemini-2.5-flash")], NOON)
    assert told.quote == plain.quote
    assert GenaiPrices().knows(OPENAI)
    assert not GenaiPrices().knows(LOCAL)


def test_every_vendor_of_the_table_is_one_of_the_library():
    from genai_prices.data import providers

    assert set(PROVIDERS.values()) <= {provider.id for provider in providers}


@pytest.mark.anyio
async def test_the_library_answers_from_a_process_of_its_own():
    quotes = await GenaiPrices().quotes([(OPENAI, "gpt-4o"), (LOCAL, "x")])
    assert quotes == {(OPENAI, "gpt-4o"): look_up([(OPENAI, "gpt-4o")], NOON)[0].quote}
    assert await GenaiPrices().quotes([]) == {}
