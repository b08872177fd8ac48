"""Routing as callers and operators see it: explained, pinned, kept at its cache, spread over several keys."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest
from anyio import to_thread

from domain.ids import ModelId, PriceId, VendorSlug
from domain.money import Usd
from domain.pricing import Price, PriceSource, Rates
from tests.e2e.conftest import HELLO, WIDE_LIMITS, Place, beside
from tests.e2e.processes import GatewayProcess
from tests.fakes.upstream import (
    PROMPT_TOKENS,
    Reply,
    Request,
    Script,
    Upstream,
    rate_limited,
    token_usage,
    unauthorized,
)

pytestmark = pytest.mark.anyio

TALK, KEYS, FAR, DRAWN = "acme/talk", "acme/keys", "acme/far", "acme/drawn"
SERVED = {
    "alpha": {TALK: "1", KEYS: "1", DRAWN: "1"},
    "beta": {TALK: "1", FAR: "1", DRAWN: "2"},
    "nohost": {FAR: "1"},
    "notls": {FAR: "1"},
}
"""What each vendor asks for a million input tokens; twice as much for output, a tenth for what its cache has."""
ALPHAS = ("sk-alpha-one-0001", "sk-alpha-two-0002")


@pytest.fixture(scope="module")
async def routed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """Alpha has two keys; two vendors cannot be reached: one has no address, one speaks no TLS."""
    async with Upstream() as alpha, Upstream() as beta, await asyncio.start_server(_greet, "127.0.0.1", 0) as plain:
        addresses = {
            "alpha": alpha.base_url,
            "beta": beta.base_url,
            "nohost": "http://no-such-host.invalid/v1",
            "notls": f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}/v1",
        }
        rows = [
            {
                "slug": slug,
                "base_url": address,
                "wire": "openai",
                "api_key": ",".join(ALPHAS) if slug == "alpha" else f"sk-{slug}-0001",
                "models": list(SERVED[slug]),
            }
            for slug, address in addresses.items()
        ]
        settings = WIDE_LIMITS | {"GATEWAYZ_VENDORS": json.dumps(rows), "GATEWAYZ_FIRST_TRY": "drawn"}
        gateway = GatewayProcess(tmp_path_factory.mktemp("routing"), **settings)
        async with httpx.AsyncClient(base_url=gateway.base_url, timeout=30.0) as http:
            await to_thread.run_sync(gateway.start)
            place = Place(gateway, alpha, beta, http)
            try:
                await priced(place)
                yield place
            finally:
                await to_thread.run_sync(gateway.stop)


async def _greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 ready\r\n")
    writer.close()


@pytest.fixture
def place(routed: Place) -> Place:
    for vendor in (routed.alpha, routed.beta):
        vendor.requests.clear()
        vendor.by_model.clear()
    return routed


async def priced(place: Place) -> None:
    async with beside(place.gateway) as container:
        for vendor, models in SERVED.items():
            for model, usd in models.items():
                rate = Usd.parse(usd).nanos
                await container.adapters.prices().add(
                    Price(
                        id=PriceId(f"test:{vendor}:{model}"),
                        vendor=VendorSlug(vendor),
                        model=ModelId(model),
                        rates=Rates(input=rate, output=2 * rate, cache_read=rate // 10),
                        valid_from=datetime(2026, 1, 1, tzinfo=UTC),
                        source=PriceSource.OPERATOR,
                    )
                )
    deadline = time.monotonic() + 15
    while (await place.chat(FAR)).status != 200:
        assert time.monotonic() < deadline


async def explain(place: Place, model: str = TALK, query: str = "", **members: Any) -> Any:
    answer = await place.http.post(
        f"/v1/explain{query}",
        json={"model": model, "messages": HELLO} | members,
        headers={"Authorization": f"Bearer {place.key}"},
    )
    return answer.json() | {"status": answer.status_code}


async def test_an_explanation_is_what_then_happens(place: Place) -> None:
    before = await place.balance()

    told = await explain(place, DRAWN, max_tokens=50)

    assert (told["status"], told["admitted"], told["refusals"]) == (200, True, [])
    assert [(each["vendor"], each["first_tried_percent"]) for each in told["offers"]] == [("alpha", 80), ("beta", 20)]
    assert await place.balance() == before
    assert place.alpha.requests == place.beta.requests == []
    answer = await place.chat(DRAWN, max_tokens=50)
    charged = Decimal(answer.headers["x-gatewayz-cost-usd"])
    # Both prompts are counted, one of them by estimate.
    assert Decimal(told["cost_usd"]["min"]) / 2 <= charged <= Decimal(told["cost_usd"]["max"])
    [lot] = told["paid_by"]
    assert lot["amount_usd"] == told["hold_usd"]
    assert told["limits"]["requests"]["remaining"] == int(answer.headers["x-ratelimit-remaining-requests"]) + 1


async def test_what_is_left_out_is_explained(place: Place) -> None:
    told = await explain(place, DRAWN, provider={"only": ["alpha"], "max_price": {"prompt": 0.5}})

    assert (told["status"], told["admitted"], told["offers"]) == (200, False, [])
    assert {each["vendor"]: each["code"] for each in told["excluded"]} == {"alpha": "too_dear", "beta": "not_in_only"}
    [refusal] = told["refusals"]
    answer = await place.chat(DRAWN, provider={"only": ["alpha"], "max_price": {"prompt": 0.5}})
    assert (answer.status, answer.error["code"], answer.error["message"]) == (
        refusal["status"],
        refusal["code"],
        refusal["message"],
    )


@pytest.mark.parametrize(
    ("query", "members", "status", "param"),
    [
        ("?dialect=klingon", {}, 400, "dialect"),
        ("", {"messages": []}, 400, "messages"),
        ("", {"model": "acme/nine"}, 404, "model"),
        ("", {"provider": {"zdr": True}}, 400, "provider"),
    ],
)
async def test_what_cannot_be_explained_is_refused_like_the_request(
    place: Place, query: str, members: dict[str, Any], status: int, param: str
) -> None:
    told = await explain(place, query=query, **members)

    assert (told["status"], told["error"]["param"]) == (status, param)


async def test_nobody_gets_an_explanation_without_a_key(place: Place) -> None:
    answer = await place.http.post("/v1/explain", json={"model": TALK, "messages": HELLO})

    assert answer.status_code == 401
    assert (await place.http.get("/v1/explain", headers={"Authorization": f"Bearer {place.key}"})).status_code == 405


@pytest.mark.parametrize("name", ["beta:acme/talk", "beta/acme/talk", "beta:talk", "beta:acme/talk:floor"])
async def test_a_pinned_vendor_is_honoured(place: Place, name: str) -> None:
    for _ in range(5):
        assert (await place.chat(name)).headers["x-gatewayz-vendor"] == "beta"
    assert place.alpha.requests == []


async def test_a_pinned_vendor_is_refused_with_its_reason_and_never_replaced(place: Place) -> None:
    answer = await place.chat("beta:acme/keys")

    assert (answer.status, answer.error["code"]) == (503, "no_vendor_available")
    assert "beta: it does not offer acme/keys; alpha do" in answer.error["message"]
    assert place.alpha.requests == place.beta.requests == []


async def test_a_vendor_twice_as_dear_gets_a_fifth_of_the_requests(place: Place) -> None:
    served = Counter[str]()
    for number in range(200):
        answer = await place.chat(DRAWN, session_id=f"new {number}")
        served[answer.headers["x-gatewayz-vendor"]] += 1

    assert 15 < served["beta"] < 70


@pytest.mark.parametrize(
    "session",
    [
        {"headers": {"x-session-id": "h"}},
        {"headers": {"x-claude-code-session-id": "c"}},
        {"session_id": "b"},
        {"prompt_cache_key": "k"},
        {},
    ],
    ids=["header", "Claude Code", "body", "cache key", "same beginning"],
)
async def test_a_conversation_stays_where_its_cache_is(place: Place, session: dict[str, Any]) -> None:
    turns = [{"role": "user", "content": f"Tell me of {session}"}]
    vendors = set()
    for turn in range(12):
        answer = await place.chat(TALK, messages=turns, **session)
        vendors.add(answer.headers["x-gatewayz-vendor"])
        turns = [*turns, {"role": "assistant", "content": "Yes"}, {"role": "user", "content": f"And {turn}?"}]
    assert len(vendors) == 1


async def test_what_a_cache_saves_is_told_and_counted(place: Place) -> None:
    cached = Script(reply=Reply(usage=token_usage(PROMPT_TOKENS, 6, cached=PROMPT_TOKENS - 2)))
    for vendor in (place.alpha, place.beta):
        vendor.by_model[TALK] = cached
    fresh, kept = [await place.chat(TALK, session_id="saving") for _ in range(2)]

    saved = (PROMPT_TOKENS - 2) * 900
    assert fresh.headers["x-gatewayz-cache-saved-usd"] == str(Usd(saved))
    assert kept.headers["x-gatewayz-vendor"] == fresh.headers["x-gatewayz-vendor"]
    metrics = (await place.http.get("/metrics")).text
    counted = re.findall(r"^gatewayz_cache_saved_nanos_total\{(.*)\} (\S+)$", metrics, re.MULTILINE)
    assert sum(Decimal(value) for labels, value in counted if 'kept="true"' in labels) >= saved
    assert "x-gatewayz-cache-saved-usd" not in (await place.chat(DRAWN)).headers


def keys_used(vendor: Upstream) -> Counter[str]:
    return Counter(request.headers["authorization"].removeprefix("Bearer ") for request in vendor.requests)


async def test_the_keys_of_a_vendor_share_its_requests(place: Place) -> None:
    for number in range(20):
        await place.chat(KEYS, session_id=f"s{number}")
    used = keys_used(place.alpha)
    assert used.keys() == set(ALPHAS)
    place.alpha.requests.clear()
    for _ in range(5):
        await place.chat(KEYS, session_id="s1")
    assert len(keys_used(place.alpha)) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_limited_key_gives_way_to_the_next(place: Place, stream: bool) -> None:
    def limited(request: Request) -> Script:
        return rate_limited(1) if ALPHAS[0] in request.headers["authorization"] else Script()

    place.alpha.by_model[KEYS] = limited
    for number in range(8):
        answer = await place.chat(KEYS, stream=stream, session_id=f"{stream}{number}")
        assert answer.status == 200, answer.body
    assert keys_used(place.alpha)[ALPHAS[0]] <= 3


async def test_where_all_keys_are_limited_the_caller_is_told_when_to_come_back(place: Place) -> None:
    place.alpha.by_model[KEYS] = rate_limited(2)

    answer = await place.chat(KEYS)

    assert answer.status == 429
    assert answer.headers["retry-after"] in {"1", "2"}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_vendor_without_an_address_or_without_tls_gives_way(place: Place, stream: bool) -> None:
    answer = await place.chat(FAR, stream=stream, provider={"order": ["nohost", "notls", "beta"]})

    assert answer.status == 200, answer.body
    assert answer.headers["x-gatewayz-vendor"] == "beta"


@pytest.mark.parametrize("vendor", ["nohost", "notls"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_vendor_that_cannot_be_reached_is_told_without_its_address(
    place: Place, vendor: str, stream: bool
) -> None:
    answer = await place.chat(FAR, stream=stream, provider={"only": [vendor]})

    assert (answer.status, answer.error["code"]) == (503, "no_vendor_available")
    assert b"no-such-host" not in answer.body
    assert b"127.0.0.1" not in answer.body


# Last, because a key that is refused is left alone for a minute after these.


async def test_a_refused_key_is_parked_and_never_seen_by_callers(place: Place) -> None:
    bad = ALPHAS[1]
    place.alpha.by_model[KEYS] = lambda request: unauthorized() if bad in request.headers["authorization"] else Script()
    await asyncio.sleep(2.1)  # Until both keys have rested.

    answers = [await place.chat(KEYS, session_id=f"p{number}") for number in range(8)]

    assert {answer.status for answer in answers} == {200}
    assert keys_used(place.alpha)[bad] == 1
    log = place.log()
    assert "key 2 of 2 at the vendor alpha is refused" in log
    assert not any(key in log for key in ALPHAS)
