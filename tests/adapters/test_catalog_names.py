"""What models are called: joined only by what is known, and never by how a name looks."""

from __future__ import annotations

from collections import Counter

import pytest

from adapters.catalog.book import Sources, build_catalog
from adapters.catalog.equivalents import EQUIVALENTS
from adapters.catalog.names import KNOWN_NAMES, canonical_id, canonical_name, vendor_id
from domain.catalog import CANCEL_AND_BILL_PRODUCED, Catalog
from domain.ids import ModelId, VendorSlug
from domain.ports.vendors import ListedModel
from domain.pricing import Rates
from tests.fakes.time import NOON

LLAMA = "meta-llama/Llama-3.3-70B-Instruct"
SPELT = {
    "cerebras": "llama-3.3-70b",
    "deepinfra": LLAMA,
    "fireworks": "accounts/fireworks/models/llama-v3p3-70b-instruct",
    "groq": "llama-3.3-70b-versatile",
    "huggingface": LLAMA,
    "novita": "meta-llama/llama-3.3-70b-instruct",
    "openrouter": "meta-llama/llama-3.3-70b-instruct",
    "together": "meta-llama/Llama-3.3-70B-Instruct-Turbo",
}


def row(name: str, **others) -> ListedModel:
    return ListedModel(vendor_model=name, rates=Rates(input=10, output=20), **others)


def catalog(listed: dict[str, list[ListedModel]], **others) -> Catalog:
    by_slug = {VendorSlug(vendor): rows for vendor, rows in listed.items()}
    vendors = dict.fromkeys(by_slug, CANCEL_AND_BILL_PRODUCED)
    return build_catalog(Sources(vendors=vendors, listed=by_slug, **others), NOON)


def test_eight_vendors_that_each_spell_a_model_their_own_way_offer_one_model():
    found = catalog({vendor: [row(name)] for vendor, name in SPELT.items()})
    assert list(found.models) == [LLAMA]
    assert {offer.vendor: offer.vendor_model for offer in found.models[LLAMA].offers} == SPELT
    for name in {*SPELT.values(), "groq/llama-3.3-70b-versatile", "fireworks/llama-v3p3-70b-instruct"}:
        assert found.find(name).id == LLAMA


def test_what_nobody_knows_to_be_the_same_stays_apart():
    found = catalog({"groq": [row("llama-9")], "together": [row("meta/Llama-9")], "novita": [row("meta/llama-9")]})
    assert sorted(found.models) == ["groq/llama-9", "meta/Llama-9", "meta/llama-9"]


def test_an_aggregators_name_of_an_older_model_is_not_the_authors_newest():
    found = catalog({"openrouter": [row("deepseek/deepseek-chat")], "deepseek": [row("deepseek-chat")]})
    assert sorted(found.models) == ["deepseek-ai/DeepSeek-V3", "deepseek/deepseek-chat"]
    assert {offer.vendor for offer in found.find("deepseek/deepseek-chat").offers} == {"deepseek"}


def test_an_author_and_who_resells_it_offer_one_model():
    found = catalog({"xai": [row("grok-9")], "openrouter": [row("x-ai/grok-9")], "gemini": [row("models/gemini-9")]})
    assert {offer.vendor for offer in found.find("x-ai/grok-9").offers} == {"xai", "openrouter"}
    assert found.find("gemini-9").offers[0].vendor_model == "models/gemini-9"


def test_the_operators_word_wins_over_the_table_and_that_over_the_list():
    groq, known = VendorSlug("groq"), "llama-3.3-70b-versatile"
    hinted = row(known, canonical="list/says")
    assert canonical_name(groq, hinted, {(groq, known): ModelId("operator/says")}) == "operator/says"
    assert canonical_name(groq, hinted, {}) == LLAMA
    assert canonical_name(groq, row("new", canonical="list/says"), {}) == "list/says"
    assert canonical_name(groq, row("new"), {}) == "groq/new"


def test_a_vendors_aliases_are_names_of_the_model():
    found = catalog({"xai": [row("grok-9", aliases=("grok-9-latest", "x-ai/grok-newest"))]})
    for name in ("grok-9-latest", "x-ai/grok-9-latest", "x-ai/grok-newest", "grok-9"):
        assert found.find(name).id == "x-ai/grok-9"
    assert found.find("grok-9-latest").offers[0].vendor_model == "grok-9"


def test_no_id_of_a_vendor_means_two_models():
    pairs = Counter((v, name) for at in EQUIVALENTS.values() for v, names in at.items() for name in names)
    assert [pair for pair, times in pairs.items() if times > 1] == []
    assert len(KNOWN_NAMES) == len(pairs)


def test_every_entry_says_something():
    for (vendor, vendor_model), model in KNOWN_NAMES.items():
        assert canonical_id(vendor, vendor_model) != model, (vendor, vendor_model)
        author, slash, slug = model.partition("/")
        assert author, model
        assert slash, model
        assert slug, model
        assert "/" not in slug, model


@pytest.mark.parametrize(
    ("vendor", "model", "spelt"),
    [
        ("groq", LLAMA, "llama-3.3-70b-versatile"),
        ("xai", "x-ai/grok-9", "grok-9"),
        ("local", "local/mine", "mine"),
        ("local", "meta/mine", "meta/mine"),
    ],
)
def test_the_way_back_from_a_models_id_to_what_a_vendor_calls_it(vendor, model, spelt):
    assert vendor_id(VendorSlug(vendor), ModelId(model), {}) == spelt
