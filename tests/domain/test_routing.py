"""Which offers serve a request, in which order, and why the others do not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.catalog import Capability, Model, Offer
from domain.ids import ModelId, PriceId, VendorSlug
from domain.pricing import Price, PriceSource, Rates
from domain.routing import Demand, NoOffer, Preferences, Pulse, Route, Sort, plan_route

MODEL = ModelId("a/m")


def offer(vendor: str, *, input_nanos: int | None = 1_000, model: str = MODEL, **others) -> Offer:
    slug = VendorSlug(vendor)
    price = None
    if input_nanos is not None:
        price = Price(
            id=PriceId(vendor),
            vendor=slug,
            model=ModelId(model),
            rates=Rates(input=input_nanos, output=input_nanos),
            valid_from=datetime(2026, 3, 10, tzinfo=UTC),
            source=PriceSource.OPERATOR,
        )
    return Offer(vendor=slug, model=ModelId(model), vendor_model="m", price=price, **others)


def model(*offers: Offer, model_id: str = MODEL) -> Model:
    return Model(id=ModelId(model_id), name="m", offers=offers)


def demand(*needs: Capability, prompt_tokens: int = 1_000, **wishes) -> Demand:
    return Demand(prompt_tokens=prompt_tokens, needs=frozenset(needs), preferences=Preferences(**wishes))


def vendors(route: Route) -> list[str]:
    return [each.vendor for each in route.offers]


CHEAP, MIDDLE, DEAR = (
    offer("cheap", input_nanos=10**6),
    offer("middle", input_nanos=10**7),
    offer("dear", input_nanos=10**8),
)
ALL = model(DEAR, CHEAP, MIDDLE)


def test_the_cheapest_is_tried_first():
    assert vendors(plan_route([ALL], demand())) == ["cheap", "middle", "dear"]


def test_a_markup_counts_as_price():
    marked = offer("marked", input_nanos=10**6, markup_ppm=50_000_000)
    assert vendors(plan_route([model(marked, MIDDLE)], demand())) == ["middle", "marked"]


def test_vendors_of_the_same_price_keep_one_order():
    twins = [offer("b"), offer("a")]
    assert vendors(plan_route([model(*twins)], demand())) == ["a", "b"]


def test_the_callers_order_comes_before_the_price():
    assert vendors(plan_route([ALL], demand(order=("dear", "unknown")))) == ["dear", "cheap", "middle"]


def test_only_and_ignore_exclude_with_their_reasons():
    route = plan_route([ALL], demand(only=("dear", "cheap"), ignore=("cheap",)))
    assert vendors(route) == ["dear"]
    assert {each.offer.vendor: each.reason for each in route.excluded} == {
        "cheap": "provider.ignore names it",
        "middle": "provider.only does not name it",
    }


def test_without_fallbacks_there_is_one_offer_and_it_is_from_the_order():
    route = plan_route([ALL], demand(order=("middle", "dear"), allow_fallbacks=False))
    assert vendors(route) == ["middle"]
    reasons = {str(each.offer.vendor): each.reason for each in route.excluded}
    assert reasons["dear"] == "allow_fallbacks is false"
    assert "provider.order" in reasons["cheap"]


def test_an_offer_without_a_price_serves_nobody():
    route = plan_route([model(offer("gap", input_nanos=None), CHEAP)], demand())
    assert vendors(route) == ["cheap"]
    assert route.excluded[0].reason == "it has no price"


def test_a_prompt_too_long_for_an_offer_goes_elsewhere():
    short, unknown = offer("short", context_length=999), offer("unknown")
    route = plan_route([model(short, unknown)], demand(prompt_tokens=1_000))
    assert vendors(route) == ["unknown"]
    assert "999" in route.excluded[0].reason


def test_needs_exclude_only_offers_that_are_known_to_lack_them():
    plain = offer("plain", capabilities=frozenset({Capability.STREAM}))
    able = offer("able", capabilities=frozenset({Capability.STREAM, Capability.TOOLS}))
    route = plan_route([model(plain, able, offer("unknown"))], demand(Capability.TOOLS, Capability.STREAM))
    assert vendors(route) == ["able", "unknown"]
    assert route.excluded[0].reason == "it lacks tools"


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (Sort.LATENCY, ["dear", "middle", "cheap"]),
        (Sort.THROUGHPUT, ["middle", "dear", "cheap"]),
        (Sort.PRICE, ["cheap", "middle", "dear"]),
    ],
)
def test_a_sort_uses_what_was_measured_and_puts_the_unknown_last(sort, expected):
    pulses = [(DEAR, Pulse(latency_ms=100, tokens_per_s=50)), (MIDDLE, Pulse(latency_ms=300, tokens_per_s=90))]
    assert vendors(plan_route([ALL], demand(sort=sort), pulses)) == expected


def test_a_resting_offer_is_tried_last_whatever_the_caller_prefers():
    pulses = [(CHEAP, Pulse(resting=True)), (DEAR, Pulse(resting=True))]
    assert vendors(plan_route([ALL], demand(order=("dear",)), pulses)) == ["middle", "dear", "cheap"]


def test_further_models_follow_in_the_order_named():
    second = model(offer("gift", input_nanos=1, model="a/n"), model_id="a/n")
    assert vendors(plan_route([ALL, second], demand())) == ["cheap", "middle", "dear", "gift"]
    assert vendors(plan_route([second, ALL], demand())) == ["gift", "cheap", "middle", "dear"]


def test_where_nobody_fits_every_reason_is_told():
    with pytest.raises(NoOffer) as caught:
        plan_route([ALL], demand(ignore=("cheap", "middle"), only=("cheap",)))
    assert "cheap: provider.ignore names it" in caught.value.message
    assert "dear: provider.only does not name it" in caught.value.message
    assert caught.value.retry_after_s is None


def test_a_model_without_offers_says_so():
    with pytest.raises(NoOffer, match="No vendor offers it"):
        plan_route([model()], demand())


names = st.sampled_from("abcd")


@given(
    st.lists(
        st.builds(
            offer,
            names,
            input_nanos=st.none() | st.integers(1, 10**9),
            context_length=st.none() | st.integers(1, 5_000),
            capabilities=st.none() | st.frozensets(st.sampled_from(Capability), max_size=3),
        ),
        max_size=6,
    ),
    st.frozensets(st.sampled_from(Capability), max_size=2),
    st.builds(
        Preferences,
        order=st.lists(names, max_size=3).map(tuple),
        only=st.lists(names, max_size=3).map(tuple),
        ignore=st.lists(names, max_size=2).map(tuple),
        allow_fallbacks=st.booleans(),
        sort=st.none() | st.sampled_from(Sort),
    ),
)
def test_every_offer_is_either_tried_or_excluded_with_a_reason(offers, needs, preferences):
    asked = Demand(prompt_tokens=2_000, needs=needs, preferences=preferences)
    try:
        route = plan_route([model(*offers)], asked)
    except NoOffer:
        return
    told = [*route.offers, *(each.offer for each in route.excluded)]
    assert sorted(map(repr, told)) == sorted(map(repr, offers))
    assert all(each.reason for each in route.excluded)
    for each in route.offers:
        assert each.price is not None
        assert each.vendor not in preferences.ignore
        assert not preferences.only or each.vendor in preferences.only
        assert each.capabilities is None or needs <= each.capabilities
