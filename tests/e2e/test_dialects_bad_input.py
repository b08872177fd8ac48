"""What the other tests of bad input show of single routes, at every route of OpenAI's dialects."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest

from adapters.transport.sse import events
from tests.e2e.conftest import HELLO, SOLO, Answer, Place
from tests.e2e.processes import ADMIN_KEY
from tests.fakes.upstream import Reply, Script, ToolCall

pytestmark = pytest.mark.anyio

MODEL: Final = SOLO[0]
EVIL: Final = 'a\r\n\r\nevent: response.completed\ndata: [DONE]\n\n: b\u2028\x00\u0085"\\'
SOON_S: Final = 5


@dataclass(frozen=True)
class Route:
    path: str
    members: Mapping[str, Any]
    """What makes a smallest request of it, beside the model."""
    said: str
    """The member that holds what is said."""
    limit: str

    def body(self, **members: Any) -> bytes:
        return json.dumps({"model": MODEL} | dict(self.members) | members).encode()


ROUTES: Final = [
    Route("/v1/chat/completions", {"messages": HELLO}, "messages", "max_tokens"),
    Route("/v1/responses", {"input": "Hello"}, "input", "max_output_tokens"),
    Route("/v1/completions", {"prompt": "Hello", "max_tokens": 400}, "prompt", "max_tokens"),
]
every_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)


async def post(place: Place, route: Route, sent: bytes, headers: Mapping[str, str] | None = None) -> Answer:
    named = {"Authorization": f"Bearer {ADMIN_KEY}"} | dict(headers or {})
    response = await place.http.post(route.path, content=sent, headers=named)
    return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, response.content)


@asynccontextmanager
async def free_of_charge(place: Place) -> AsyncIterator[None]:
    """Nothing is charged or left held, and no vendor is asked."""
    before = await place.balance(ADMIN_KEY)
    yield
    await place.nothing_held()
    assert (await place.balance(ADMIN_KEY))["charged_usd"] == before["charged_usd"]
    assert place.alpha.requests == place.beta.requests == []


def assert_refused(answer: Answer, status: int, code: str, param: str | None = None) -> None:
    assert answer.status == status, answer.body[:500]
    error = answer.error
    assert error.keys() >= {"message", "type", "code", "param", "request_id"}
    assert (error["code"], error["param"], error["request_id"]) == (code, param, answer.request_id)
    assert 10 < len(error["message"]) < 1_000
    for secret in ("Traceback", "site-packages", "sqlite", "sk-alpha", ADMIN_KEY):
        assert secret not in answer.body.decode()


@every_route
@pytest.mark.parametrize("streams", [False, True])
async def test_a_body_that_cannot_be_understood_is_refused(place: Place, route: Route, streams: bool) -> None:
    right = route.body(stream=streams)
    async with free_of_charge(place):
        for sent in (b"", b"{", b"null", b"[1]", b"model=a", right[:-1], right + right, b"\xff" + right):
            assert_refused(await post(place, route, sent), 400, "invalid_request")
        assert_refused(await post(place, route, b'{"model":"a","model":"b","x":[1]}'), 400, "invalid_request")
        for name, value in (
            ("model", None),
            ("model", ["a"]),
            (route.said, 5),
            (route.said, []),
            (route.limit, "10"),
            (route.limit, -1),
            ("stream", "true"),
            ("models", "acme/solo-2"),
            ("provider", {"unknown": 1}),
            ("max_cost_usd", "cheap"),
            ("session_id", ""),
        ):
            refused = await post(place, route, route.body(**{"stream": streams, name: value}))
            assert_refused(refused, 400, "invalid_request", name)


@every_route
async def test_json_that_nests_too_deep_is_refused_at_once(place: Place, route: Route) -> None:
    async with free_of_charge(place):
        for depth in (129, 100_000, 10_000_000):
            began = time.monotonic()
            deep = b'{"model":"a","%b":' % route.said.encode() + b"[" * depth + b"]" * depth + b"}"
            answer = await post(place, route, deep)
            # Where the member itself was being read, it is named.
            assert_refused(answer, 400, "invalid_request", answer.error["param"] and route.said)
            assert time.monotonic() - began < SOON_S


@every_route
async def test_many_members_and_entries_are_taken_or_refused_soon(place: Place, route: Route) -> None:
    async with free_of_charge(place):
        began = time.monotonic()
        start = b'{"model":"acme/none","%b":' % route.said.encode()
        many = start + b'"a"' + b"".join(b',"x%d":1' % number for number in range(10**6)) + b"}"
        assert_refused(await post(place, route, many), 400, "invalid_request")
        entry = b'"a"' if route.said == "prompt" else b'{"role":"user","content":"a"}'
        answer = await post(place, route, start + b"[" + b",".join([entry] * 10**6) + b"]}")
        assert answer.status in (400, 404, 413)
        tools = b",".join([b'{"type":"function","name":"a","parameters":{}}'] * 10**5)
        answer = await post(place, route, start + (b"[%b]" % entry) + b',"tools":[' + tools + b"]}")
        assert answer.status in (400, 404)
        assert time.monotonic() - began < 4 * SOON_S


@every_route
async def test_a_body_above_the_limit_is_refused(place: Place, route: Route) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 2**20

    async with free_of_charge(place):
        length = b"Content-Length: %d\r\nx-api-key: %b\r\n" % (33 * 2**20, ADMIN_KEY.encode())
        announced = await raw(place, route, length, b"{")
        assert announced.startswith(b"HTTP/1.1 413 ")
        response = await place.http.post(route.path, content=parts(), headers={"x-api-key": ADMIN_KEY})
        assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")
        packed = await post(place, route, gzip.compress(route.body()), {"Content-Encoding": "gzip"})
        assert_refused(packed, 400, "invalid_request", "content-encoding")


PICTURE: Final = "data:image/png;base64," + "A" * 20_000_000


@pytest.mark.parametrize(
    ("route", "said"),
    [
        (ROUTES[0], [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PICTURE}}]}]),
        (ROUTES[1], [{"role": "user", "content": [{"type": "input_image", "image_url": PICTURE, "detail": "auto"}]}]),
    ],
    ids=["chat", "responses"],
)
async def test_large_inline_media_is_passed_on_and_counted_by_the_piece(place: Place, route: Route, said: Any) -> None:
    began = time.monotonic()
    answer = await post(place, route, route.body(**{route.said: said}))

    assert answer.status == 200, answer.body[:300]
    assert time.monotonic() - began < 2 * SOON_S
    assert place.alpha.requests[-1].body.count(b"A" * 20_000_000) == 1
    assert (await place.generation(answer.request_id))["usage"]["input"] < 10_000


SMUGGLINGS: Final = (
    b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    b"Content-Length: 4\r\nContent-Length: 5\r\n",
    b"Content-Length: +4\r\n",
    b"Content-Length: 0x4\r\n",
    b"Content-Length: 4, 4\r\n",
    b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b" Transfer-Encoding: chunked\r\n",
    b"Content-Length: 4\r\nTransfer-Encoding:\x0bchunked\r\n",
)


@every_route
async def test_no_second_request_is_smuggled(place: Place, route: Route) -> None:
    key = b"x-api-key: " + ADMIN_KEY.encode() + b"\r\n"
    second = b"POST %b HTTP/1.1\r\nHost: a\r\n%bContent-Length: 0\r\n\r\n" % (route.path.encode(), key)
    async with free_of_charge(place):
        for headers in SMUGGLINGS:
            answer = await raw(place, route, headers + key, b"0\r\n\r\n" + second)
            assert answer.count(b"HTTP/1.1") <= 1, headers
            assert not answer or int(answer[9:12]) >= 400, headers


@every_route
async def test_what_callers_name_breaks_out_of_no_header(place: Place, route: Route) -> None:
    async with free_of_charge(place):
        for name in ("\r\nset-cookie: a=b", "\x00", "\u2028", "a" * 100_000):
            answer = await post(place, route, route.body(model=name))
            assert_refused(answer, 404, "model_not_found", "model")
            assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("streams", [False, True])
async def test_nothing_of_a_vendors_breaks_out_of_an_event_of_responses(place: Place, streams: bool) -> None:
    call = ToolCall(id=f"call_{EVIL}", name="n", arguments=json.dumps({"a": EVIL}))
    place.alpha.by_model[MODEL] = Script(reply=Reply(pieces=(EVIL, "b"), tool_calls=(call,), reasoning=(EVIL,)))
    answer = await post(place, ROUTES[1], ROUTES[1].body(stream=streams))

    if streams:
        told = events(answer.body)
        assert [json.loads(event.data)["type"] for event in told] == [event.name for event in told]
        assert [event.name for event in told].count("response.completed") == 1
        response = json.loads(told[-1].data)["response"]
    else:
        response = answer.json
    by_type = {item["type"]: item for item in response["output"]}
    assert by_type["message"]["content"][0]["text"] == f"{EVIL}b"
    assert json.loads(by_type["function_call"]["arguments"]) == {"a": EVIL}


@pytest.mark.parametrize("streams", [False, True])
async def test_nothing_of_a_vendors_breaks_out_of_an_event_of_completions(place: Place, streams: bool) -> None:
    place.alpha.by_model[MODEL] = Script(reply=Reply(pieces=(EVIL, "b")))
    answer = await post(place, ROUTES[2], ROUTES[2].body(stream=streams))

    if streams:
        told = [event.data for event in events(answer.body)]
        assert told.pop() == b"[DONE]"
        assert b"[DONE]" not in told
        text = "".join(choice["text"] for data in told for choice in json.loads(data)["choices"])
    else:
        text = answer.json["choices"][0]["text"]
    assert text == f"{EVIL}b"


async def raw(place: Place, route: Route, headers: bytes, sent: bytes) -> bytes:
    """The whole answer to bytes that no HTTP client would send."""
    start = b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n" % route.path.encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", place.gateway.port)
    try:
        writer.write(start + headers + b"\r\n" + sent)
        await writer.drain()
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()
