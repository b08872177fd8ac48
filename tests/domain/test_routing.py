"""Which offers serve a request, in which order, and why the others do not."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from domain.catalog import Capability, Catalog, Model, ModelNotFound, Offer
from domain.ids import ModelId, PriceId, VendorSlug
from domain.pricing import Price, PriceSource, Rates, Tier
from domain.routing import (
    Demand,
    MaxPrice,
    NoOffer,
    Ordering,
    Preferences,
    Pulse,
    Route,
    Sort,
    Wanted,
    Why,
    considered,
    plan_route,
    wanted,
    weights,
)
from tests.examples import examples

MODEL = ModelId("a/m")


def offer(
    vendor: str,
    *,
    input_nanos: int | None = 1_000,
    model: str = MODEL,
    free: bool = False,
    rates: Rates | None = None,
    tiers: tuple[Tier, ...] = (),
    **others,
) -> Offer:
    slug = VendorSlug(vendor)
    price = None
    if input_nanos is not None:
        price = Price(
            id=PriceId(vendor),
            vendor=slug,
            model=ModelId(model),
            rates=rates or Rates(input=input_nanos, output=input_nanos),
            tiers=tiers,
            free=free,
            valid_from=datetime(2026, 3, 10, tzinfo=UTC),
            source=PriceSource.OPERATOR,
        )
    return Offer(vendor=slug, model=ModelId(model), vendor_model="m", price=price, **others)


def model(*offers: Offer, model_id: str = MODEL) -> Model:
    return Model(id=ModelId(model_id), name="m", offers=offers)


def demand(*needs: Capability, prompt_tokens: int = 1_000, **wishes) -> Demand:
    return Demand(prompt_tokens=prompt_tokens, needs=frozenset(needs), preferences=Preferences(**wishes))


def plan(models: Sequence[Model | Wanted], asked: Demand, pulses: Sequence[tuple[Offer, Pulse]] = (), **more) -> Route:
    known = {(each.vendor, each.model): pulse for each, pulse in pulses}
    return plan_route(
        [each if isinstance(each, Wanted) else Wanted(each) for each in models],
        asked,
        lambda each: known.get((each.vendor, each.model), Pulse()),
        **more,
    )


def vendors(route: Route) -> list[str]:
    return [each.vendor for each in route.offers]


CHEAP, MIDDLE, DEAR = (
    offer("cheap", input_nanos=10**6),
    offer("middle", input_nanos=10**7),
    offer("dear", input_nanos=10**8),
)
ALL = model(DEAR, CHEAP, MIDDLE)


def test_the_cheapest_is_tried_first():
    assert vendors(plan([ALL], demand())) == ["cheap", "middle", "dear"]


def test_a_markup_counts_as_price():
    marked = offer("marked", input_nanos=10**6, markup_ppm=50_000_000)
    assert vendors(plan([model(marked, MIDDLE)], demand())) == ["middle", "marked"]


def test_vendors_of_the_same_price_keep_one_order():
    twins = [offer("b"), offer("a")]
    assert vendors(plan([model(*twins)], demand())) == ["a", "b"]


def test_the_callers_order_comes_before_the_price():
    assert vendors(plan([ALL], demand(order=("dear", "unknown")))) == ["dear", "cheap", "middle"]


def test_only_and_ignore_exclude_with_their_reasons():
    route = plan([ALL], demand(only=("dear", "cheap"), ignore=("cheap",)))
    assert vendors(route) == ["dear"]
    assert {each.offer.vendor: each.reason for each in route.excluded} == {
        "cheap": "provider.ignore names it",
        "middle": "provider.only does not name it",
    }


def test_without_fallbacks_only_the_vendors_of_the_order_are_tried():
    route = plan([ALL], demand(order=("middle", "dear"), allow_fallbacks=False))
    assert vendors(route) == ["middle", "dear"]
    assert [(each.offer.vendor, each.why) for each in route.excluded] == [("cheap", Why.NOT_IN_ORDER)]


def test_without_fallbacks_and_order_each_model_has_one_offer():
    second = model(offer("gift", input_nanos=1, model="a/n"), offer("gold", model="a/n"), model_id="a/n")
    route = plan([ALL, second], demand(allow_fallbacks=False))
    assert vendors(route) == ["cheap", "gift"]
    assert {each.offer.vendor: each.why for each in route.excluded} == dict.fromkeys(
        ("middle", "dear", "gold"), Why.NO_FALLBACKS
    )


def test_an_offer_without_a_price_serves_nobody():
    route = plan([model(offer("gap", input_nanos=None), CHEAP)], demand())
    assert vendors(route) == ["cheap"]
    assert route.excluded[0].reason == "it has no price"


def test_a_prompt_too_long_for_an_offer_goes_elsewhere():
    short, unknown = offer("short", context_length=999), offer("unknown")
    route = plan([model(short, unknown)], demand(prompt_tokens=1_000))
    assert vendors(route) == ["unknown"]
    assert "999" in route.excluded[0].reason


def test_needs_exclude_only_offers_that_are_known_to_lack_them():
    plain = offer("plain", capabilities=frozenset({Capability.STREAM}))
    able = offer("able", capabilities=frozenset({Capability.STREAM, Capability.TOOLS}))
    route = plan([model(plain, able, offer("unknown"))], demand(Capability.TOOLS, Capability.STREAM))
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
    assert vendors(plan([ALL], demand(sort=sort), pulses)) == expected


def test_a_resting_offer_is_tried_last_whatever_the_caller_prefers():
    pulses = [(CHEAP, Pulse(resting=True)), (DEAR, Pulse(resting=True))]
    assert vendors(plan([ALL], demand(order=("dear",)), pulses)) == ["middle", "dear", "cheap"]


def test_further_models_follow_in_the_order_named():
    second = model(offer("gift", input_nanos=1, model="a/n"), model_id="a/n")
    assert vendors(plan([ALL, second], demand())) == ["cheap", "middle", "dear", "gift"]
    assert vendors(plan([second, ALL], demand())) == ["gift", "cheap", "middle", "dear"]


def test_where_nobody_fits_every_reason_is_told():
    with pytest.raises(NoOffer) as caught:
        plan([ALL], demand(ignore=("cheap", "middle"), only=("cheap",)))
    assert "cheap: provider.ignore names it" in caught.value.message
    assert "dear: provider.only does not name it" in caught.value.message
    assert caught.value.retry_after_s is None


def test_a_model_without_offers_says_so():
    with pytest.raises(NoOffer, match="No vendor offers it"):
        plan([model()], demand())


def test_a_pinned_vendor_serves_or_nobody_does():
    assert vendors(plan([Wanted(ALL, VendorSlug("dear"))], demand())) == ["dear"]
    with pytest.raises(NoOffer, match="ignore names it"):
        plan([Wanted(ALL, VendorSlug("dear"))], demand(ignore=("dear",)))
    with pytest.raises(NoOffer, match="other: it does not offer a/m; cheap, dear, middle do"):
        plan([Wanted(ALL, VendorSlug("other"))], demand())


@pytest.mark.parametrize(
    ("most", "fits"),
    [
        (MaxPrice(prompt=10**7), ["cheap", "middle"]),
        (MaxPrice(prompt=10**7 - 1), ["cheap"]),
        (MaxPrice(completion=10**6), ["cheap"]),
        (MaxPrice(prompt=10**9, completion=10**7), ["cheap", "middle"]),
        (MaxPrice(request=0, image=0), ["cheap", "middle", "dear"]),
    ],
)
def test_a_highest_price_excludes_what_is_dearer(most, fits):
    route = plan([ALL], demand(max_price=most))
    assert vendors(route) == fits
    assert all(each.why is Why.TOO_DEAR and "max_price" in each.reason for each in route.excluded)


def test_a_highest_price_is_compared_with_what_the_caller_pays_for_such_a_prompt():
    marked = offer("marked", input_nanos=10**6, markup_ppm=1_500_000)
    tiered = offer("tiered", input_nanos=10**6, tiers=(Tier(999, Rates(input=10**7, output=10**7)),))
    with pytest.raises(NoOffer):
        plan([model(marked, tiered)], demand(max_price=MaxPrice(prompt=1_499_999)))
    assert vendors(plan([model(marked, tiered)], demand(max_price=MaxPrice(prompt=1_500_000), prompt_tokens=999))) == [
        "tiered",
        "marked",
    ]


def test_required_parameters_exclude_who_would_drop_one():
    dropping = offer("dropping", unsupported=frozenset({"seed", "logprobs"}))
    asked = Demand(
        prompt_tokens=1,
        needs=frozenset(),
        preferences=Preferences(require_parameters=True),
        parameters=frozenset({"model", "seed"}),
    )
    route = plan([model(dropping, CHEAP)], asked)
    assert vendors(route) == ["cheap"]
    assert route.excluded[0].reason == "it does not take seed"
    unasked = Demand(prompt_tokens=1, needs=frozenset(), preferences=Preferences(), parameters=asked.parameters)
    assert len(plan([model(dropping, CHEAP)], unasked).offers) == 2


def test_data_collection_denied_leaves_only_who_is_known_to_keep_nothing():
    keeps, unknown, private = (
        offer("keeps", trains_on_data=True),
        offer("unknown"),
        offer("private", trains_on_data=False),
    )
    route = plan([model(keeps, unknown, private)], demand(deny_data_collection=True))
    assert vendors(route) == ["private"]
    assert {each.why for each in route.excluded} == {Why.COLLECTS_DATA}


def test_quantizations_exclude_the_others_and_the_unknown():
    offers = [offer("exact", quantization="FP8"), offer("coarse", quantization="int4"), offer("silent")]
    assert vendors(plan([model(*offers)], demand(quantizations=("fp8",)))) == ["exact"]
    assert vendors(plan([model(*offers)], demand(quantizations=("int4", "unknown")))) == ["coarse", "silent"]


def test_all_models_offers_can_be_sorted_together():
    second = model(offer("gift", input_nanos=1, model="a/n"), model_id="a/n")
    route = plan([ALL, second], demand(sort=Sort.PRICE, across_models=True))
    assert vendors(route) == ["gift", "cheap", "middle", "dear"]


CATALOG = Catalog(
    [
        model(offer("groq", model="meta/llama"), offer("nitro", model="meta/llama"), model_id="meta/llama"),
        model(offer("openrouter", model="meta/llama:free"), model_id="meta/llama:free"),
        model(offer("groq", model="x/solo"), model_id="x/solo"),
    ],
    vendors=[VendorSlug(name) for name in ("groq", "openrouter", "nitro")],
)


@pytest.mark.parametrize(
    ("name", "model_id", "vendor", "sort", "free_only"),
    [
        ("meta/llama", "meta/llama", None, None, False),
        ("llama", "meta/llama", None, None, False),
        ("meta/llama:free", "meta/llama:free", None, None, False),
        ("meta/llama:floor", "meta/llama", None, Sort.PRICE, False),
        ("llama:nitro", "meta/llama", None, Sort.THROUGHPUT, False),
        ("solo:free", "x/solo", None, None, True),
        ("groq:meta/llama", "meta/llama", "groq", None, False),
        ("groq/meta/llama", "meta/llama", "groq", None, False),
        ("groq:llama:nitro", "meta/llama", "groq", Sort.THROUGHPUT, False),
        ("nitro:llama:free", "meta/llama:free", "nitro", None, False),
        ("groq/solo:floor", "x/solo", "groq", Sort.PRICE, False),
    ],
)
def test_what_a_models_name_says_beside(name, model_id, vendor, sort, free_only):
    found = wanted(CATALOG, name)
    assert (found.model.id, found.vendor, found.sort, found.free_only) == (model_id, vendor, sort, free_only)


@pytest.mark.parametrize("name", ["none", "none:free", "azure:llama", "llama:slow", ":free", ":", "/", "groq:none"])
def test_what_no_model_is_called_is_not_found(name):
    with pytest.raises(ModelNotFound):
        wanted(CATALOG, name)


def test_free_only_leaves_what_costs_nothing():
    gift = offer("gift", rates=Rates(input=0, output=0), free=True)
    assert vendors(plan([Wanted(model(CHEAP, gift), free_only=True)], demand())) == ["gift"]
    with pytest.raises(NoOffer, match="not free"):
        plan([Wanted(ALL, free_only=True)], demand())


def test_first_tries_are_drawn_by_the_inverse_square_of_the_price():
    """Prices 1, 2 and 3: nine, two and a quarter, and one of every twelve and a quarter."""
    one, two, three = (offer(name, input_nanos=nanos * 10**6) for name, nanos in (("one", 1), ("two", 2), ("three", 3)))
    rng, tries = random.Random(7), 20_000
    first = Counter(plan([model(three, one, two)], demand(), draw=rng.randrange).offers[0].vendor for _ in range(tries))
    shares = {"one": 36, "two": 9, "three": 4}
    for name, share in shares.items():
        assert abs(first[VendorSlug(name)] * 49 - share * tries) < tries * 49 * 2 // 100


def test_after_the_one_drawn_the_others_follow_by_price():
    last = plan([ALL], demand(), draw=lambda count: count - 1)
    assert vendors(last) == ["dear", "cheap", "middle"]
    assert last.ordering is Ordering.PRICE_WEIGHTED


def test_weights_are_whole_numbers_and_nothing_beats_free():
    gift = offer("gift", rates=Rates(input=0, output=0), free=True)
    cheap, middle = weights([CHEAP, MIDDLE], 1_000)
    assert cheap // middle == 100
    assert weights([gift, CHEAP], 1_000)[1] == 0
    assert weights([gift, gift], 1_000)[0] == weights([gift, gift], 1_000)[1]


def test_nobody_who_rests_is_drawn():
    resting = [(CHEAP, Pulse(resting=True))]
    for at in range(100):
        route = plan([ALL], demand(), resting, draw=lambda count, at=at: count * at // 100)
        assert route.offers[-1].vendor == "cheap"


@pytest.mark.parametrize("wishes", [{"order": ("dear",)}, {"sort": Sort.PRICE}])
def test_nothing_is_drawn_where_the_caller_says_the_order(wishes):
    def never(_: int) -> int:
        raise AssertionError("the order is the caller's")

    plan([ALL], demand(**wishes), draw=never, cached_at=VendorSlug("middle"))


def test_a_conversation_stays_where_its_cache_is():
    route = plan([ALL], demand(), cached_at=VendorSlug("dear"), draw=lambda _: 0)
    assert vendors(route) == ["dear", "cheap", "middle"]
    assert route.ordering is Ordering.CACHE


@pytest.mark.parametrize(
    ("wishes", "first"),
    [({"order": ("middle",)}, "middle"), ({"sort": Sort.PRICE}, "cheap"), ({"ignore": ("dear",)}, "cheap")],
)
def test_what_the_caller_wishes_goes_before_its_cache(wishes, first):
    assert vendors(plan([ALL], demand(**wishes), cached_at=VendorSlug("dear")))[0] == first


def test_a_resting_vendor_keeps_no_conversation():
    route = plan([ALL], demand(), [(DEAR, Pulse(resting=True))], cached_at=VendorSlug("dear"))
    assert vendors(route) == ["cheap", "middle", "dear"]


names = st.sampled_from("abcd")
offers_of_vendors = st.lists(
    st.builds(
        offer,
        names,
        input_nanos=st.none() | st.integers(1, 10**9),
        free=st.booleans(),
        context_length=st.none() | st.integers(1, 5_000),
        capabilities=st.none() | st.frozensets(st.sampled_from(Capability), max_size=3),
        unsupported=st.frozensets(st.sampled_from(["seed", "top_k"])),
        trains_on_data=st.none() | st.booleans(),
        quantization=st.sampled_from(["", "fp8", "int4"]),
    ),
    max_size=6,
)
some_names = st.lists(names, max_size=3).map(tuple)
any_preferences = st.builds(
    Preferences,
    order=some_names,
    only=st.just(()) | some_names,
    ignore=st.just(()) | st.lists(names, max_size=2).map(tuple),
    allow_fallbacks=st.booleans(),
    sort=st.none() | st.sampled_from(Sort),
    across_models=st.booleans(),
    max_price=st.none()
    | st.builds(MaxPrice, prompt=st.none() | st.integers(0, 10**9), completion=st.none() | st.integers(0, 10**9)),
    require_parameters=st.booleans(),
    deny_data_collection=st.booleans(),
    quantizations=st.sampled_from([(), ("fp8",), ("unknown", "int4")]),
)
any_demand = st.builds(
    Demand,
    prompt_tokens=st.integers(0, 6_000),
    needs=st.frozensets(st.sampled_from(Capability), max_size=2),
    preferences=any_preferences,
    parameters=st.frozensets(st.sampled_from(["seed", "top_k", "model"])),
)
any_wanted = st.builds(
    lambda offers, model_id, vendor, sort, free_only: Wanted(
        model(*(structs.replace(each, model=ModelId(model_id)) for each in offers), model_id=model_id),
        vendor,
        sort,
        free_only,
    ),
    offers_of_vendors,
    st.sampled_from(["a/m", "b/n"]),
    st.none() | names.map(VendorSlug),
    st.none() | st.sampled_from(Sort),
    st.booleans(),
)
any_pulse = st.builds(
    Pulse,
    resting=st.booleans(),
    latency_ms=st.none() | st.integers(0, 10_000),
    tokens_per_s=st.none() | st.integers(0, 500),
)


@settings(max_examples=examples(100))
@given(
    st.lists(any_wanted, min_size=1, max_size=3),
    any_demand,
    st.dictionaries(names, any_pulse),
    st.none() | names.map(VendorSlug),
    st.none() | st.randoms(use_true_random=False).map(lambda rng: rng.randrange),
)
def test_whatever_is_asked_nobody_serves_who_may_not_and_everybody_else_has_a_reason(
    sought, asked, pulses, cached_at, draw
):
    route = considered(sought, asked, lambda each: pulses.get(each.vendor, Pulse()), cached_at=cached_at, draw=draw)

    wishes = asked.preferences
    told = [*route.offers, *(each.offer for each in route.excluded)]
    assert sorted(map(repr, told)) == sorted(repr(each) for some in sought for each in some.model.offers)
    assert all(each.reason and each.why for each in route.excluded)
    for each in route.offers:
        assert each.price is not None
        assert each.vendor not in wishes.ignore
        assert not wishes.only or each.vendor in wishes.only
        assert wishes.allow_fallbacks or not wishes.order or each.vendor in wishes.order
        assert each.capabilities is None or asked.needs <= each.capabilities
        assert each.context_length is None or asked.prompt_tokens <= each.context_length
        assert not (wishes.require_parameters and asked.parameters & each.unsupported)
        assert not wishes.deny_data_collection or each.trains_on_data is False
        assert not wishes.quantizations or (each.quantization or "unknown") in wishes.quantizations
        assert (
            wishes.max_price is None
            or wishes.max_price.prompt is None
            or (each.price.rates.input <= wishes.max_price.prompt)
        )
        asked_for = [some for some in sought if each in some.model.offers]
        assert any(some.vendor in (None, each.vendor) for some in asked_for)
        assert any(each.price.free or not some.free_only for some in asked_for)
    if not wishes.allow_fallbacks and not wishes.order:
        assert len(route.offers) <= len(sought)


@settings(max_examples=examples(100))
@given(any_wanted, any_demand, st.dictionaries(names, any_pulse), st.none() | names.map(VendorSlug))
def test_the_order_of_those_who_do_not_rest_is_the_callers(sought, asked, pulses, cached_at):
    route = considered([sought], asked, lambda each: pulses.get(each.vendor, Pulse()), cached_at=cached_at)

    resting = [pulses.get(each.vendor, Pulse()).resting for each in route.offers]
    assert resting == sorted(resting)
    awake = [each for each, rests in zip(route.offers, resting, strict=True) if not rests]
    order = asked.preferences.order
    places = [order.index(each.vendor) if each.vendor in order else len(order) for each in awake]
    assert places == sorted(places)
    sort = asked.preferences.sort or sought.sort
    if not order and sort is Sort.LATENCY:
        latencies = [pulses.get(each.vendor, Pulse()).latency_ms for each in awake]
        known = [latency for latency in latencies if latency is not None]
        assert latencies == sorted(known) + [None] * (len(latencies) - len(known))


def test_nothing_left_is_refused_and_considered_is_not():
    assert considered([Wanted(model())], demand()).offers == ()
    with pytest.raises(NoOffer, match="No vendor offers it"):
        plan([model()], demand())
