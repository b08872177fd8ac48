"""A caller on a plan is held, limited and charged by the plan's markup."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from domain.catalog import Catalog
from domain.ids import PlanId
from domain.money import Usd
from tests.fakes.chat import MODEL, ActingVendor, FixedCatalog, Stage, cost, request
from tests.fakes.upstream import encode

pytestmark = pytest.mark.anyio

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


@pytest.mark.parametrize(("plan", "times"), [(None, 1), ("free", 1), ("pro", 3)])
async def test_the_plan_decides_on_the_markup(plan, times):
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    stage = Stage(ActingVendor("alpha", encode({"choices": [choice], "usage": USAGE})))
    catalog = stage.chat.admission.catalog
    assert isinstance(catalog, FixedCatalog)
    model = catalog.current().models[MODEL]
    offers = tuple(replace(offer, plan_markups=((PlanId("pro"), 3_000_000),)) for offer in model.offers)
    catalog._catalog = Catalog([replace(model, offers=offers)])
    stage.caller = replace(stage.caller, plan=None if plan is None else PlanId(plan))
    await stage.fund("1")
    await stage.whole(request())
    assert await stage.charged() == Usd(cost(10, 5).nanos * times)
    assert (await stage.generation()).markup_ppm == times * 1_000_000
