"""What runs in the background passes the same door as everything else, once for each key that says so."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import SOLO, Place, cost
from tests.fakes.upstream import server_error

pytestmark = pytest.mark.anyio

MODEL = SOLO[0]


async def taken(place: Place, *, key: str | None = None, once: str | None = None, **members: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key or place.key}"} | ({} if once is None else {"Idempotency-Key": once})
    body = {"model": MODEL, "input": "What is a hold?", "background": True} | members
    return await place.http.post("/v1/responses", json=body, headers=headers)


async def shown(place: Place, path: str) -> httpx.Response:
    return await place.http.get(f"/v1/responses/{path}", headers={"Authorization": f"Bearer {place.key}"})


async def ended(place: Place, response_id: str) -> Any:
    for _ in range(100):
        answer = (await shown(place, response_id)).json()
        if answer["status"] not in ("queued", "in_progress"):
            return answer
        await asyncio.sleep(0.1)
    raise AssertionError("it did not end")


async def test_the_same_key_runs_it_once(place: Place) -> None:
    before = await place.charged()
    first, second = [await taken(place, once="one") for _ in range(2)]

    assert second.headers["x-gatewayz-replayed"] == "true"
    assert second.content == first.content
    assert (await ended(place, first.json()["id"]))["status"] == "completed"
    await place.nothing_held()
    assert len(place.alpha.requests) == 1
    assert await place.charged() - before == cost(11, 6)
    other = await taken(place, once="one", input="Something else")
    assert other.status_code == 409


async def test_what_is_refused_is_refused_at_once(place: Place) -> None:
    poor = await place.customer("0.000001")
    refused = await taken(place, key=poor, once="two")
    assert refused.status_code == 402
    unknown = await taken(place, model="acme/none")
    assert unknown.status_code == 404
    dear = await taken(place, max_cost_usd="0.000000001")
    assert dear.json()["error"]["code"] == "max_cost_exceeded"
    # The key was given back: with credit, the same request would run.
    assert (await taken(place, key=poor, once="two")).status_code == 402
    odd = await taken(place, input=[1, "two"])
    assert odd.status_code == 400
    assert not place.alpha.requests
    await place.nothing_held()


async def test_one_that_failed_can_be_streamed_and_listed(place: Place) -> None:
    place.alpha.by_model[MODEL] = server_error()
    response_id = (await taken(place)).json()["id"]
    assert (await ended(place, response_id))["status"] == "failed"

    events = await shown(place, f"{response_id}?stream=true")
    assert events.status_code == 200
    assert events.text.startswith("event: response.failed\n")
    assert (await shown(place, f"{response_id}/input_items")).status_code == 200
