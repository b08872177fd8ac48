"""Which markup holds where several fit."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from domain.catalog import Model, Offer
from domain.errors import InvalidRequest
from domain.ids import ModelId, PlanId, VendorSlug
from domain.markups import Markup, MarkupScope, MarkupTable, parse_markup

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
GROQ, PRO = VendorSlug("groq"), PlanId("pro")
LLAMA = ModelId("meta/llama-3-70b")


def rule(ppm: int, vendor: str = "", model: str = "", plan: str = "") -> Markup:
    return Markup(scope=MarkupScope(VendorSlug(vendor), model, PlanId(plan)), ppm=ppm, set_at=NOON)


RULES = [
    rule(1),
    rule(2, vendor="groq"),
    rule(3, model="meta/*"),
    rule(4, model="meta/llama-*"),
    rule(5, model="meta/llama-*", vendor="groq"),
    rule(6, model=LLAMA),
    rule(7, model=LLAMA, vendor="groq"),
    rule(8, plan="pro"),
    rule(9, plan="pro", vendor="groq"),
    rule(10, plan="pro", model="meta/*"),
    rule(11, plan="pro", model=LLAMA),
    rule(12, plan="pro", model=LLAMA, vendor="groq"),
]
"""Each wins over all before it, for Llama at Groq, of a caller on the plan "pro"."""


@pytest.mark.parametrize("known", range(len(RULES) + 1))
def test_the_most_specific_rule_that_fits_holds_alone(known):
    table = MarkupTable(reversed(RULES[:known]), otherwise_ppm=0)
    assert table.ppm(GROQ, LLAMA, PRO) == known


def test_without_a_plan_no_plans_rule_holds():
    assert MarkupTable(RULES).ppm(GROQ, LLAMA) == 7
    assert MarkupTable(RULES).ppm(GROQ, LLAMA, PlanId("free")) == 7


@pytest.mark.parametrize(
    ("vendor", "model", "ppm"),
    [
        ("groq", "meta/llama-3-8b", 5),
        ("together", "meta/llama-3-8b", 4),
        ("together", "meta/other", 3),
        ("groq", "other/model", 2),
        ("together", "other/model", 1),
        ("together", LLAMA, 6),
    ],
)
def test_a_rule_holds_for_what_it_names(vendor, model, ppm):
    assert MarkupTable(RULES).ppm(VendorSlug(vendor), ModelId(model)) == ppm


def test_where_nothing_fits_the_gateways_own_markup_holds():
    assert MarkupTable([rule(2, vendor="groq")], 1_250_000).ppm(VendorSlug("xai"), LLAMA) == 1_250_000
    assert MarkupTable().ppm(GROQ, LLAMA) == 1_000_000


def test_ids_are_compared_letter_by_letter():
    table = MarkupTable([rule(2, model="meta/Llama-[ab]"), rule(3, model="Meta/*")], 1)
    assert table.ppm(GROQ, ModelId("meta/Llama-a")) == 2
    assert table.ppm(GROQ, ModelId("meta/llama-a")) == 1


def test_an_offer_carries_the_markups_of_plans_and_a_model_is_seen_by_a_plan():
    table = MarkupTable(RULES, 1)
    assert table.by_plan(GROQ, LLAMA) == ((PRO, 12),)
    assert table.by_plan(VendorSlug("xai"), ModelId("xai/grok")) == ((PRO, 8),)
    assert MarkupTable(RULES[:7]).by_plan(GROQ, LLAMA) == ()
    offer = Offer(
        vendor=GROQ, model=LLAMA, vendor_model="l", price=None, markup_ppm=7, plan_markups=table.by_plan(GROQ, LLAMA)
    )
    model = Model(id=LLAMA, name="Llama", offers=(offer,))
    assert model.for_plan(None) is model
    assert model.for_plan(PlanId("free")).offers == (offer,)
    (seen,) = model.for_plan(PRO).offers
    assert seen.markup_ppm == 12


@pytest.mark.parametrize(("text", "ppm"), [("1.2", 1_200_000), (" 1 ", 10**6), ("0.000001", 1), ("1000", 10**9)])
def test_a_markup_is_a_plain_factor(text, ppm):
    assert parse_markup(text) == ppm


@pytest.mark.parametrize("text", ["0", "-1", "1000.1", "NaN", "Infinity", "1e99999", "20%", "", "1.0000001"])
def test_what_is_no_factor_is_refused(text):
    with pytest.raises(InvalidRequest) as caught:
        parse_markup(text)
    assert caught.value.param == "markup"


def test_a_scope_is_told_in_words():
    assert str(MarkupScope(GROQ, "meta/*", PRO)) == "vendor groq, model meta/*, plan pro"
    assert str(MarkupScope()) == "everything"
