"""What an explanation says is what happens, and explaining changes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from application.inference.explain import PER_MINUTE, Explain, Explanation
from domain.access import subjects
from domain.catalog import Catalog, Model, ModelNotFound
from domain.credits import Lot, Source
from domain.errors import DomainError
from domain.ids import LotId
from domain.keys import Budget, KeyNotAllowed, KeyPolicy
from domain.ledger import GrantCredit
from domain.limits import LimitSet, RateLimitExceeded
from domain.money import ZERO, Usd
from domain.pricing import Rates
from domain.routing import Ordering, Why
from tests.fakes.chat import ANN, MODEL, ActingVendor, FixedCatalog, Stage, request
from tests.fakes.time import NOON
from tests.fakes.upstream import completion, token_usage

pytestmark = pytest.mark.anyio

GOOD = completion("Hello", usage=token_usage(10, 5))
RATES = {
    "alpha": Rates(input=2_000_000_000, output=4_000_000_000),
    "beta": Rates(input=1_000_000_000, output=2_000_000_000),
}


def staged(policy: KeyPolicy | None = None, **more: Any) -> Stage:
    vendors = (ActingVendor("alpha", GOOD), ActingVendor("beta", GOOD))
    return Stage(*vendors, rates=RATES, draw=lambda _: 0, policy_of_key=policy or KeyPolicy(), **more)


async def explained(stage: Stage, **members: Any) -> Explanation:
    return await Explain(stage.chat.admission)(stage.caller, request(**members))


def codes(told: Explanation) -> list[str]:
    return [refusal.code for refusal in told.refusals]


async def grant(stage: Stage, lot_id: str, usd: str, days: int) -> None:
    lot = Lot(
        id=LotId(lot_id),
        source=Source.PURCHASE,
        granted=Usd.parse(usd),
        free=Usd.parse(usd),
        granted_at=NOON,
        expires_at=NOON + timedelta(days=days),
    )
    await stage.ledger.submit(GrantCredit(account_id=ANN, lot=lot))


async def test_the_offers_come_in_order_with_what_they_cost_and_the_others_with_reasons() -> None:
    stage = staged()
    await stage.fund("1")
    asked = request(max_tokens=100)

    told = await explained(stage, max_tokens=100)

    assert [each.offer.vendor for each in told.offers] == ["beta", "alpha"]
    assert [each.first_percent for each in told.offers] == [80, 20]
    assert told.ordering is Ordering.PRICE_WEIGHTED
    assert told.refusals == ()
    beta, alpha = (each.cost for each in told.offers)
    prompt = asked.prompt_tokens
    assert (beta.least, beta.likely, beta.most) == (
        Usd(prompt * 1_000 + 2_000),
        Usd(prompt * 1_000 + 100 * 2_000),
        Usd(prompt * 1_000 + 100 * 2_000),
    )
    assert told.cost is not None
    assert (told.cost.least, told.cost.likely, told.cost.most) == (beta.least, beta.likely, alpha.most)
    only = await explained(stage, provider={"only": ["alpha"]})
    assert [(each.offer.vendor, each.why) for each in only.excluded] == [("beta", Why.NOT_IN_ONLY)]
    assert [each.first_percent for each in only.offers] == [100]


async def test_the_hold_told_is_the_hold_made_and_nothing_was_touched() -> None:
    stage = staged()
    await grant(stage, "soon", "0.005", 1)
    await grant(stage, "late", "5", 30)
    before = await stage.account()

    told = await explained(stage)

    assert await stage.account() == before
    assert stage.ledger.submitted[2:] == []
    assert not any(vendor.calls for vendor in stage.chat.failover.vendors.values())  # type: ignore[attr-defined]
    meter = await stage.chat.admission.admit(stage.caller, request(), stage.latest)
    assert told.held == meter.hold.amount
    assert [(each.lot.id, each.amount) for each in told.paid_by] == [
        (draw.lot_id, draw.amount) for draw in meter.hold.draws
    ]
    assert [each.lot.id for each in told.paid_by] == ["soon", "late"]
    assert (told.requests.remaining, meter.admitted.requests.remaining) == (250, 249)


async def test_explaining_uses_up_no_limit_of_inference_but_has_one_of_its_own() -> None:
    stage = staged(concurrent=1)
    await stage.fund("1")
    for _ in range(PER_MINUTE):
        assert (await explained(stage)).requests.remaining == 250
    with pytest.raises(RateLimitExceeded, match="explanations_per_minute"):
        await explained(stage)
    await stage.whole(request())


async def refusal_of(stage: Stage, **members: Any) -> str:
    with pytest.raises(DomainError) as caught:
        await stage.whole(request(**members))
    return caught.value.code


@pytest.mark.parametrize(
    ("funded", "policy", "members", "code"),
    [
        ("0.000001", KeyPolicy(), {}, "insufficient_credits"),
        ("1", KeyPolicy(budget=Budget(amount=Usd(1_000))), {}, "key_budget_exceeded"),
        ("1", KeyPolicy(), {"max_cost_usd": "0.000001"}, "max_cost_exceeded"),
        ("1", KeyPolicy(), {"provider": {"ignore": ["alpha", "beta"]}}, "no_vendor_available"),
    ],
)
async def test_what_would_refuse_a_request_is_what_refuses_it(
    funded: str, policy: KeyPolicy, members: dict[str, Any], code: str
) -> None:
    stage = staged(policy)
    await stage.fund(funded)

    told = await explained(stage, **members)

    assert codes(told) == [code]
    assert told.held is None
    assert await refusal_of(stage, **members) == code


async def test_a_ceiling_leaves_the_offers_that_it_pays() -> None:
    stage = staged()
    await stage.fund("1")
    ceiling = "0.0001"

    told = await explained(stage, max_cost_usd=ceiling)

    assert [each.offer.vendor for each in told.offers] == ["beta"]
    assert [(each.offer.vendor, each.why) for each in told.excluded] == [("alpha", Why.ABOVE_MAX_COST)]
    assert "max_cost_usd allows" in told.excluded[0].reason
    done = await stage.whole(request(max_cost_usd=ceiling))
    assert done.meter.route.offers == tuple(each.offer for each in told.offers)
    assert done.cost <= Usd.parse(ceiling)


async def test_a_reached_rate_limit_is_told_and_so_is_everything_else() -> None:
    stage = staged(concurrent=1)
    await stage.fund("1")
    await stage.limiter.acquire(stage.caller.limited_as, 0)

    told = await explained(stage)

    assert codes(told) == ["rate_limit_exceeded"]
    assert told.held
    assert len(told.offers) == 2
    assert await refusal_of(stage) == "rate_limit_exceeded"


async def test_requests_that_a_key_has_left_are_counted() -> None:
    stage = staged(KeyPolicy(requests_max=2, budget=Budget(amount=Usd.parse("0.5"))))
    await stage.fund("1")
    await stage.whole(request())
    await stage.settled()

    told = await explained(stage)
    assert told.ceilings[0].name == "key_max_requests"
    assert told.ceilings[0].requests_left == 1
    spent = (await stage.account()).charged
    assert told.budget_left == Usd.parse("0.5") - spent
    await stage.whole(request())
    await stage.settled()
    assert codes(await explained(stage)) == ["key_budget_exceeded"]


async def test_the_nearest_limit_comes_first() -> None:
    stage = staged()
    await stage.fund("0.01")
    told = await explained(stage, max_tokens=1_000)
    assert told.ceilings[0].name == "credit"
    assert told.cost is not None
    assert told.ceilings[0].requests_left == Usd.parse("0.01").nanos // told.cost.likely.nanos
    tight = LimitSet(tokens_per_minute=40)
    stage.caller = structs.replace(stage.caller, limited_as=subjects(stage.caller.account, stage.caller.key, tight))
    assert (await explained(stage)).ceilings[0].name == "tokens"


async def test_a_model_that_does_not_exist_or_is_not_allowed_is_refused() -> None:
    stage = staged(KeyPolicy(models=("other/*",)))
    with pytest.raises(ModelNotFound):
        await explained(stage, model="acme/nine")
    with pytest.raises(KeyNotAllowed):
        await explained(stage)


async def test_what_is_free_holds_nothing() -> None:
    stage = staged()
    admission = stage.chat.admission
    offers = admission.catalog.current().find(MODEL).offers
    gifts = tuple(
        structs.replace(offer, price=structs.replace(offer.price, free=True, rates=Rates(input=0, output=0)))
        for offer in offers
        if offer.price is not None
    )
    free = FixedCatalog(Catalog([Model(id=MODEL, name="One", offers=gifts)]))
    stage.chat = replace(stage.chat, admission=replace(admission, catalog=free))
    told = await explained(stage)
    assert (told.held, told.paid_by, told.refusals) == (ZERO, (), ())
