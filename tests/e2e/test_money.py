"""What a request costs is exact, shown to its caller in every way, and never more than there is."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import Any

import pytest

from tests.e2e.conftest import PATH, SHARED, SOLO, Place, cost, nanos, tell
from tests.fakes.upstream import Reply, Script, token_usage

pytestmark = pytest.mark.anyio

MODEL, PRICED, *_ = SOLO
WITH_USAGE: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


async def set_price(place: Place, model: str, *options: str) -> None:
    """By the command that operators use, and as soon as the running gateway must know of it."""
    await place.cli("prices", "set", model, "--vendor", "alpha", *options)
    await asyncio.sleep(2)


async def test_a_price_set_by_command_is_charged_to_the_nano_dollar(place: Place) -> None:
    await set_price(place, PRICED, "--input", "0.123456789", "--output", "7.000000001")
    place.alpha.by_model[PRICED] = Script(reply=Reply(usage=token_usage(123_457, 8_901)))
    exact = 123_457 * 123_456_789 + 8_901 * 7_000_000_001
    expected = -(-exact // 1_000_000)
    assert exact % 1_000_000, "the cost is to be rounded up"
    before = await place.charged()

    whole = await place.chat(PRICED)
    streamed = await place.chat(PRICED, **WITH_USAGE)

    assert whole.status == streamed.status == 200
    assert nanos(whole.headers["x-gatewayz-cost-usd"]) == expected
    assert b'"cost":%b' % whole.headers["x-gatewayz-cost-usd"].encode() in whole.body
    assert b'"cost":%b' % whole.headers["x-gatewayz-cost-usd"].encode() in streamed.body
    assert await place.charged() - before == 2 * expected
    for answer in (whole, streamed):
        record = await place.generation(answer.request_id)
        assert nanos(record["cost_usd"]) == expected
        assert record["usage"] == {"input": 123_457, "output": 8_901, "requests": 1}
        assert record["usage_estimated"] is False


async def test_cached_and_reasoning_tokens_are_charged_once(place: Place) -> None:
    place.alpha.script(Script(reply=Reply(usage=token_usage(1_000, 500, cached=400, reasoning=300))))

    answer = await place.chat(MODEL)

    assert nanos(answer.headers["x-gatewayz-cost-usd"]) == cost(1_000, 500)
    record = await place.generation(answer.request_id)
    assert record["usage"] == {"input": 600, "cache_read": 400, "output": 200, "reasoning": 300, "requests": 1}


async def test_every_header_of_a_whole_answer_is_there_and_true(place: Place) -> None:
    key = await place.customer("1")

    answer = await place.send(b'{"model":"%b","messages":[{"role":"user","content":"Hi"}]}' % MODEL.encode(), key=key)

    headers = answer.headers
    assert nanos(headers["x-gatewayz-cost-usd"]) == cost(11, 6)
    assert nanos(headers["x-gatewayz-balance-usd"]) == 10**9 - cost(11, 6)
    assert nanos((await place.balance(key))["spendable_usd"]) == 10**9 - cost(11, 6)
    assert headers["x-gatewayz-vendor"] == "alpha"
    assert headers["x-gatewayz-model"] == MODEL
    assert len(headers["x-request-id"]) == 32
    for window in ("requests", "tokens"):
        limit = int(headers[f"x-ratelimit-limit-{window}"])
        assert 0 < int(headers[f"x-ratelimit-remaining-{window}"]) <= limit
        assert headers[f"x-ratelimit-reset-{window}"].endswith(("s", "ms"))


async def test_a_streams_headers_come_with_its_first_byte(place: Place) -> None:
    answer = await place.chat(MODEL, stream=True)

    assert answer.headers["x-gatewayz-vendor"] == "alpha"
    assert answer.headers["x-gatewayz-model"] == MODEL
    assert "x-gatewayz-cost-usd" not in answer.headers
    assert int(answer.headers["x-ratelimit-remaining-requests"]) > 0
    assert answer.headers["x-accel-buffering"] == "no"
    assert "no-cache" in answer.headers["cache-control"]
    assert "content-length" not in answer.headers


async def test_a_generation_tells_everything_of_a_request_to_its_account_alone(place: Place) -> None:
    answer = await place.chat(SHARED[0], stream=True)

    record = await place.generation(answer.request_id)

    assert record["id"] == answer.request_id
    assert record["model"] == SHARED[0]
    assert record["vendor"] == "alpha"
    assert record["streamed"] is True
    assert record["outcome"] == "completed"
    assert record["finish_reason"] == "stop"
    assert record["usage"] == {"input": 11, "output": 6, "requests": 1}
    assert nanos(record["cost_usd"]) == cost(11, 6)
    assert record["price_id"] == f"test:alpha:{SHARED[0]}"
    assert [attempt["vendor"] for attempt in record["attempts"]] == ["alpha"]
    assert record["first_token_ms"] <= record["duration_ms"]
    stranger = {"Authorization": f"Bearer {await place.customer(None)}"}
    refused = await place.http.get(f"/v1/generations/{answer.request_id}", headers=stranger)
    assert refused.status_code == 404


async def test_the_balance_and_the_transactions_agree(place: Place) -> None:
    key = await place.customer("2.5")
    body = b'{"model":"%b","messages":[{"role":"user","content":"Hi"}]}' % MODEL.encode()
    ids = {(await place.send(body, key=key)).request_id for _ in range(3)}

    balance = await place.balance(key)
    transactions = (await place.get("/user/credit-transactions", key))["transactions"]

    assert nanos(balance["charged_usd"]) == 3 * cost(11, 6)
    assert balance["held_usd"] == "0"
    assert sum(nanos(each["amount_usd"]) for each in transactions) == nanos(balance["spendable_usd"])
    charges = [each for each in transactions if each["transaction_type"] == "charge"]
    assert {each["reference"] for each in charges} == ids
    assert {nanos(each["amount_usd"]) for each in charges} == {-cost(11, 6)}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_generation_can_be_asked_for_as_soon_as_its_answer_is_there(place: Place, stream: bool) -> None:
    for _ in range(20):
        answer = await place.chat(MODEL, stream=stream)

        record = await place.get(f"/v1/generations/{answer.request_id}")

        assert nanos(record["cost_usd"]) == cost(11, 6)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_ceiling_below_the_least_cost_is_refused(place: Place, stream: bool) -> None:
    for ceiling in ("0.000001", 1e-6, 0):
        answer = await place.chat(MODEL, stream=stream, max_cost_usd=ceiling)

        assert answer.status == 402
        assert answer.error["code"] == "max_cost_exceeded"
        assert answer.error["param"] == "max_cost_usd"
    assert place.alpha.requests == []


async def test_a_ceiling_limits_the_output_that_is_asked_for(place: Place) -> None:
    place.alpha.by_model[MODEL] = Script(reply=Reply(pieces=["word"] * 5_000))

    answer = await place.chat(MODEL, max_cost_usd="0.001")

    assert answer.status == 200
    assert nanos(answer.headers["x-gatewayz-cost-usd"]) <= 1_000_000
    assert answer.json["choices"][0]["finish_reason"] == "length"
    assert place.alpha.requests[0].json["max_tokens"] < 500


async def test_five_hundred_at_once_never_spend_more_than_ten_cents(place: Place) -> None:
    """Each costs a fifth of a cent, so that fifty can be paid; every other one is streamed."""
    key = await place.customer("0.10")
    place.alpha.by_model[MODEL] = Script(reply=Reply(usage=token_usage(1_000, 500), usage_at="end"), delay_s=0.05)
    members = {"model": MODEL, "messages": [{"role": "user", "content": "x" * 3_700}], "max_tokens": 500}
    bodies = [json.dumps(members | {"stream": streams}).encode() for streams in (False, True)]
    gate = asyncio.Semaphore(100)

    async def one(number: int) -> int:
        async with gate:
            status, body = await posted(place, bodies[number % 2], key)
        assert status == 200 or b'"code":"insufficient_credits"' in body
        return status

    began = time.monotonic()
    statuses = Counter(await asyncio.gather(*map(one, range(500))))
    tell(f"{statuses} in {time.monotonic() - began:.1f} s")

    balance = await place.balance(key)
    assert statuses.keys() == {200, 402}, statuses
    # The last one may cost a little more than all that was left, as its prompt was estimated; the house bears the rest.
    beyond = statuses[200] * cost(1_000, 500) - nanos(balance["charged_usd"])
    assert 0 <= beyond < cost(1_000, 500) // 10
    assert nanos(balance["charged_usd"]) + nanos(balance["spendable_usd"]) == 100_000_000
    assert balance["held_usd"] == "0"
    assert 40 <= statuses[200] <= 50
    await place.verify()


async def posted(place: Place, body: bytes, key: str) -> tuple[int, bytes]:
    """A request by hand, because five hundred of a full client take longer than the gateway."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.gateway.port)
    writer.write(
        b"POST %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n"
        % (PATH.encode(), key.encode(), len(body))
        + body
    )
    answer = await reader.read()
    writer.close()
    return int(answer[9:12]), answer


async def test_credit_that_runs_out_ends_a_stream_with_length(place: Place) -> None:
    """The vendor ignores the limit that it was told."""
    key = await place.customer("0.02")
    pieces = ["word " * 40] * 2_000
    frames = [json.dumps({"choices": [{"index": 0, "delta": {"content": piece}}]}) for piece in pieces]
    place.alpha.by_model[MODEL] = Script(frames=[f"data: {frame}\n\n".encode() for frame in frames])
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "stream": True}

    answer = await place.send(json.dumps(body).encode(), key=key)

    *said, finish, done = answer.events
    assert done == b"[DONE]"
    assert finish["choices"][0]["finish_reason"] == "length"
    assert 0 < len(said) < len(pieces)
    balance = await place.balance(key)
    assert nanos(balance["charged_usd"]) <= 20_000_000
    record = await place.get(f"/v1/generations/{answer.request_id}", key)
    assert (record["outcome"], record["finish_reason"]) == ("cut_off", "length")
    await place.verify()


async def test_a_long_answer_of_a_rich_customer_is_whole(place: Place) -> None:
    pieces = ["word " * 40] * 1_000
    place.alpha.by_model[MODEL] = Script(reply=Reply(pieces=pieces, usage=token_usage(10, 50_000)))
    before = await place.charged()

    answer = await place.chat(MODEL, stream=True)

    assert len(answer.events) == len(pieces) + 3
    assert await place.charged() - before == cost(10, 50_000)


async def test_the_ledger_agrees_with_all_of_this(place: Place) -> None:
    await place.verify()
