"""Whatever is sent, the answer says in the dialect what is wrong with it, soon, and nothing is charged."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.e2e.conftest import HELLO, PATH, SHARED, SOLO, Answer, Place
from tests.e2e.processes import ADMIN_KEY

pytestmark = pytest.mark.anyio

MODEL = SOLO[0]
WRONG = "gw_live_" + "x" * 43


def body(**members: Any) -> bytes:
    return json.dumps({"model": MODEL, "messages": HELLO} | members).encode()


@asynccontextmanager
async def free_of_charge(place: Place) -> AsyncIterator[None]:
    """Nothing is charged or left held, and no vendor is asked."""
    before = await place.balance(ADMIN_KEY)
    yield
    await place.nothing_held()
    after = await place.balance(ADMIN_KEY)
    assert after["charged_usd"] == before["charged_usd"]
    assert place.alpha.requests == place.beta.requests == []


def assert_refused(answer: Answer, status: int, code: str, param: str | None = None) -> None:
    assert answer.status == status, answer.body[:500]
    error = answer.error
    assert error.keys() >= {"message", "type", "code", "param", "request_id"}
    assert error["code"] == code
    assert error["param"] == param
    assert error["request_id"] == answer.request_id
    assert 10 < len(error["message"]) < 1_000
    for secret in ("Traceback", "/work", "site-packages", "sqlite", "sk-alpha", ADMIN_KEY):
        assert secret not in answer.body.decode()


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"null", None),
        (b"[1]", None),
        (b"model=a", None),
        (body()[:-1], None),
        (body() + body(), None),
        (b"\xff" + body(), None),
        (b'{"model":"a","model":"b","messages":[1]}', None),
        (body(model=None), "model"),
        (body(model=["a"]), "model"),
        (body(messages=[]), "messages"),
        (body(messages={"role": "user"}), "messages"),
        (body(stream="true"), "stream"),
        (body(max_tokens="10"), "max_tokens"),
        (body(max_completion_tokens=0), "max_completion_tokens"),
        (body(n=1_000), "n"),
        (body(models="acme/solo-2"), "models"),
        (body(provider={"unknown": 1}), "provider"),
        (body(max_cost_usd="cheap"), "max_cost_usd"),
        (body(messages=json.loads("[" * 126 + "]" * 126)), None),
    ],
)
@pytest.mark.parametrize("streams", [False, True])
async def test_a_body_that_cannot_be_understood_is_refused(
    place: Place, sent: bytes, param: str | None, streams: bool
) -> None:
    if streams and sent.startswith(b'{"model": ') and b'"stream"' not in sent:
        sent = sent.replace(b'"model"', b'"stream": true, "model"', 1)
    if param is None and sent.startswith(b'{"') and sent.count(b"[") > 100:
        sent = sent.replace(b"[", b"[" * 4, 1).replace(b"]", b"]" * 4, 1)
    async with free_of_charge(place):
        assert_refused(await place.send(sent), 400, "invalid_request", param)


async def test_json_that_nests_too_deep_is_refused_at_once(place: Place) -> None:
    async with free_of_charge(place):
        for depth in (129, 100_000, 10_000_000):
            began = time.monotonic()
            deep = b'{"model":"a","messages":' + b"[" * depth + b"]" * depth + b"}"
            assert_refused(await place.send(deep), 400, "invalid_request")
            assert time.monotonic() - began < 5


async def test_a_million_members_are_refused_at_once(place: Place) -> None:
    async with free_of_charge(place):
        began = time.monotonic()
        many = b'{"model":"a","messages":[1]' + b"".join(b',"x%d":1' % n for n in range(1_000_000)) + b"}"
        assert_refused(await place.send(many), 400, "invalid_request")
        assert time.monotonic() - began < 5


async def test_an_announced_body_above_the_limit_is_refused_before_it_is_read(place: Place) -> None:
    async with free_of_charge(place):
        answer = await raw(
            place, b"Content-Length: %d\r\nAuthorization: Bearer %b\r\n" % (33 * 2**20, ADMIN_KEY.encode()), b"{"
        )

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"request_too_large"' in answer


async def test_a_body_above_the_limit_without_a_length_is_refused_while_it_comes(place: Place) -> None:
    block = b" " * 2**20

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield block

    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with free_of_charge(place):
        response = await place.http.post(PATH, content=parts(), headers=headers)
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "request_too_large"


async def test_a_body_of_the_largest_size_is_read(place: Place) -> None:
    padded = body() + b" " * (32 * 2**20 - len(body()))

    answer = await place.send(padded, headers={"Content-Type": "text/plain"})

    assert answer.status in {200, 402, 503}, answer.body[:300]


async def test_a_chunked_body_is_read(place: Place) -> None:
    async def parts() -> AsyncIterator[bytes]:
        whole = body()
        for start in range(0, len(whole), 7):
            yield whole[start : start + 7]

    response = await place.http.post(PATH, content=parts(), headers={"Authorization": f"Bearer {ADMIN_KEY}"})

    assert response.status_code == 200
    assert place.alpha.requests[0].body == body()


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "x"])
async def test_a_compressed_body_is_refused(place: Place, encoding: str) -> None:
    async with free_of_charge(place):
        answer = await place.send(gzip.compress(body()), headers={"Content-Encoding": encoding})
        assert_refused(answer, 400, "invalid_request", "content-encoding")


async def test_a_body_that_breaks_off_harms_nothing(place: Place) -> None:
    async with free_of_charge(place):
        reader, writer = await asyncio.open_connection("127.0.0.1", place.gateway.port)
        writer.write(head(b"Content-Length: 1000\r\nAuthorization: Bearer %b\r\n" % ADMIN_KEY.encode()) + b'{"model"')
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        del reader


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("acme/solo-11", "acme/solo-1"),
        ("ACME/SHARED-1", "acme/shared-1"),
        ("sandbox/ecko", "sandbox/echo"),
        ("shared1", SHARED[0]),
    ],
)
async def test_an_unknown_model_is_refused_with_near_names(place: Place, name: str, near: str) -> None:
    async with free_of_charge(place):
        answer = await place.chat(name)
        assert_refused(answer, 404, "model_not_found", "model")
        assert near in answer.error["message"]


@pytest.mark.parametrize("name", ["q" * 100_000, "\x00", "../../etc/passwd", "<script>", "\u202e", " " * 10, "%s%n"])
async def test_an_absurd_model_name_is_only_unknown(place: Place, name: str) -> None:
    async with free_of_charge(place):
        assert_refused(await place.chat(name), 404, "model_not_found", "model")


CARRIERS = ["Authorization", "x-api-key", "api-key", "x-goog-api-key", "key"]


def carried(carrier: str, secret: str) -> tuple[dict[str, str], str]:
    if carrier == "key":
        return {}, f"?key={secret}"
    return {carrier: f"Bearer {secret}".strip() if carrier == "Authorization" else secret}, ""


async def post(place: Place, headers: dict[str, str], query: str = "") -> Answer:
    response = await place.http.post(PATH + query, content=body(), headers=headers)
    return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, response.content)


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_a_key_opens_in_every_carrier_and_a_wrong_one_in_none(place: Place, carrier: str) -> None:
    assert (await post(place, *carried(carrier, ADMIN_KEY))).status == 200
    place.alpha.requests.clear()
    async with free_of_charge(place):
        assert_refused(await post(place, *carried(carrier, WRONG)), 401, "invalid_api_key")
        assert_refused(await post(place, *carried(carrier, "y" * 10_000)), 401, "invalid_api_key")
        assert_refused(await post(place, *carried(carrier, "")), 401, "missing_api_key")


async def test_no_key_at_all_is_told_where_it_belongs(place: Place) -> None:
    async with free_of_charge(place):
        answer = await post(place, {})
        assert_refused(answer, 401, "missing_api_key")
        assert "Authorization" in answer.error["message"]
        assert_refused(await post(place, {"Authorization": "Basic YTpi"}), 401, "invalid_api_key")
        assert_refused(await post(place, {"Authorization": ADMIN_KEY}), 401, "invalid_api_key")


@pytest.mark.parametrize("first", CARRIERS)
@pytest.mark.parametrize("second", CARRIERS)
async def test_two_different_keys_are_refused_wherever_they_are(place: Place, first: str, second: str) -> None:
    if first == second:
        return
    headers, query = carried(first, ADMIN_KEY)
    more, other_query = carried(second, WRONG)
    same, same_query = carried(second, ADMIN_KEY)

    async with free_of_charge(place):
        assert_refused(await post(place, headers | more, query or other_query), 401, "invalid_api_key")
    assert (await post(place, headers | same, query or same_query)).status == 200


async def test_odd_bytes_in_a_key_are_no_error_of_ours(place: Place) -> None:
    rng = random.Random(7)
    alphabet = bytes(byte for byte in range(1, 256) if byte not in b"\r\n")
    async with free_of_charge(place):
        for _ in range(300):
            value = bytes(rng.choices(alphabet, k=rng.randrange(1, 60)))
            answer = await raw(place, b"Content-Length: 2\r\nAuthorization: Bearer " + value + b"\r\n", b"{}")
            status = int(answer[9:12])
            assert status in {400, 401}, (value, answer[:200])


async def test_no_credit_is_told_with_what_is_needed_and_where_to_get_it(place: Place) -> None:
    poor = await place.customer(None)
    for stream in (False, True):
        answer = await place.send(body(stream=stream), key=poor)

        assert_refused(answer, 402, "insufficient_credits")
        assert answer.error["spendable_usd"] == "0"
        assert float(answer.error["required_usd"]) > 0
        assert answer.error["held_usd"] == "0"
        assert answer.error["top_up_url"].startswith("http")
    assert place.alpha.requests == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_another_method_is_refused(place: Place, method: str) -> None:
    response = await place.http.request(method, PATH, headers={"Authorization": f"Bearer {ADMIN_KEY}"})

    assert response.status_code == 405
    assert response.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/v1/chat/completions", "/v1/chat/completion"])
async def test_a_wrong_address_is_told_the_right_one(place: Place, path: str) -> None:
    response = await place.http.post(path, content=body(), headers={"Authorization": f"Bearer {ADMIN_KEY}"})

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"
    assert "/" in response.json()["error"]["message"]


def head(headers: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n%b\r\n" % (PATH.encode(), headers)


async def raw(place: Place, headers: bytes, sent: bytes) -> bytes:
    """The whole answer to bytes that no HTTP client would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.gateway.port)
    try:
        writer.write(head(headers) + sent)
        await writer.drain()
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()
