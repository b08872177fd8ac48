"""A prompt's tokens are counted by a vendor that can, else estimated; neither costs anything."""

from __future__ import annotations

from typing import Any

import pytest

from application.inference.counting import CountTokens
from domain.catalog import ModelNotFound
from domain.ids import VendorSlug
from domain.inference.chat import ChatCall
from domain.inference.faults import ContextLengthExceeded, FaultKind, VendorFault
from domain.keys import KeyNotAllowed, KeyPolicy
from domain.ports.vendors import TokenCounter
from domain.pricing import Rates
from tests.fakes.chat import ActingVendor, Stage, request
from tests.fakes.upstream import completion

pytestmark = pytest.mark.anyio

RATES = {
    "alpha": Rates(input=1_000_000_000, output=2_000_000_000),
    "beta": Rates(input=2_000_000_000, output=4_000_000_000),
}


class Counter:
    """Counts, or fails, as it is told to."""

    def __init__(self, says: int | VendorFault) -> None:
        self.says = says
        self.calls: list[ChatCall] = []

    async def count_input(self, call: ChatCall) -> int:
        self.calls.append(call)
        if isinstance(self.says, VendorFault):
            raise self.says
        return self.says


def fault(kind: FaultKind) -> VendorFault:
    return VendorFault(kind, "told")


def staged(counters: dict[str, TokenCounter], policy: KeyPolicy | None = None) -> tuple[Stage, CountTokens]:
    good = completion("Hello")
    stage = Stage(
        ActingVendor("alpha", good), ActingVendor("beta", good), rates=RATES, policy_of_key=policy or KeyPolicy()
    )
    return stage, CountTokens(stage.chat.admission, {VendorSlug(slug): each for slug, each in counters.items()})


async def test_the_vendor_that_would_serve_counts() -> None:
    alpha, beta = Counter(12), Counter(13)
    stage, count = staged({"alpha": alpha, "beta": beta})

    counted = await count(stage.caller, request())

    assert counted.input_tokens == 12
    assert counted.offer is not None
    assert counted.offer.vendor == "alpha"
    assert alpha.calls[0].vendor_model == counted.offer.vendor_model
    assert beta.calls == []


async def test_the_next_one_counts_where_the_first_fails_or_cannot() -> None:
    stage, count = staged({"alpha": Counter(fault(FaultKind.OVERLOADED)), "beta": Counter(13)})
    assert (await count(stage.caller, request())).input_tokens == 13
    stage, count = staged({"beta": Counter(13)})
    assert (await count(stage.caller, request())).input_tokens == 13


async def test_where_nobody_counts_it_is_an_estimate() -> None:
    asked = request()
    for counters in ({}, {"alpha": Counter(fault(FaultKind.UNREACHABLE)), "beta": Counter(fault(FaultKind.MALFORMED))}):
        stage, count = staged(dict(counters))
        counted = await count(stage.caller, asked)
        assert (counted.input_tokens, counted.offer) == (asked.prompt_tokens, None)


async def test_a_request_that_no_vendor_would_take_is_refused() -> None:
    beta = Counter(13)
    stage, count = staged({"alpha": Counter(fault(FaultKind.CONTEXT_LENGTH)), "beta": beta})

    with pytest.raises(ContextLengthExceeded):
        await count(stage.caller, request())
    assert beta.calls == []


async def test_it_holds_nothing_and_gives_its_place_back() -> None:
    stage, count = staged({"alpha": Counter(12)})

    for _ in range(50):
        await count(stage.caller, request())

    admitted = await stage.chat.admission.limiter.acquire(stage.caller.limited_as, 0)
    stage.chat.admission.limiter.release(stage.caller.limited_as, admitted, 0)


@pytest.mark.parametrize(
    ("members", "policy", "refused"),
    [
        ({"model": "acme/two"}, KeyPolicy(), ModelNotFound),
        ({}, KeyPolicy(models=("other/*",)), KeyNotAllowed),
    ],
)
async def test_the_key_and_the_model_are_checked(members: Any, policy: KeyPolicy, refused: type[Exception]) -> None:
    stage, count = staged({"alpha": Counter(12)}, policy)

    with pytest.raises(refused):
        await count(stage.caller, request(**members))
