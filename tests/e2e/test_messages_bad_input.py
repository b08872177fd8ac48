"""Whatever is sent to /v1/messages, the answer says in Anthropic's dialect what is wrong with it, and is free."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from adapters.transport.sse import events
from tests.e2e.conftest import HELLO, SOLO, Answer, Place
from tests.e2e.processes import ADMIN_KEY
from tests.fakes.upstream import Reply, Script, ToolCall

pytestmark = pytest.mark.anyio

PATH = "/v1/messages"
MODEL = SOLO[0]
EVIL = 'a\r\n\r\nevent: message_stop\ndata: {"type":"message_stop"}\n\n: b\u2028\x00\u0085"\\'


def body(**members: Any) -> bytes:
    return json.dumps({"model": MODEL, "max_tokens": 50, "messages": HELLO} | members).encode()


def said(block: Any) -> bytes:
    return body(messages=[{"role": "user", "content": [block]}])


async def post(place: Place, sent: bytes, headers: Mapping[str, str] | None = None, path: str = PATH) -> Answer:
    named = {"x-api-key": ADMIN_KEY} | dict(headers or {})
    response = await place.http.post(path, content=sent, headers=named)
    return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, response.content)


@asynccontextmanager
async def free_of_charge(place: Place) -> AsyncIterator[None]:
    """Nothing is charged or left held, and no vendor is asked."""
    before = await place.balance(ADMIN_KEY)
    yield
    await place.nothing_held()
    after = await place.balance(ADMIN_KEY)
    assert after["charged_usd"] == before["charged_usd"]
    assert place.alpha.requests == place.beta.requests == []


def assert_refused(answer: Answer, status: int, kind: str, code: str, param: str | None = None) -> None:
    assert answer.status == status, answer.body[:500]
    told = answer.json
    assert told.keys() == {"type", "error", "request_id"}
    assert told["type"] == "error"
    assert told["request_id"] == answer.request_id
    assert answer.headers.get("request-id", answer.request_id) == answer.request_id
    error = told["error"]
    assert error["type"] == kind
    assert error["details"]["error_code"] == code
    assert error["details"].get("param") == param
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
        (body()[:-1], None),
        (body() + body(), None),
        (b"\xff" + body(), None),
        (b'{"model":"a","model":"b","max_tokens":1,"messages":[1]}', None),
        (body(model=None), "model"),
        (body(model=["a"]), "model"),
        (body(messages=[]), "messages"),
        (body(messages={"role": "user"}), "messages"),
        (body(messages="Hello"), "messages"),
        (body(stream="true"), "stream"),
        (body(max_tokens=None), "max_tokens"),
        (body(max_tokens="10"), "max_tokens"),
        (body(max_tokens=-1), "max_tokens"),
        (body(models="acme/solo-2"), "models"),
        (body(provider={"unknown": 1}), "provider"),
        (body(max_cost_usd="cheap"), "max_cost_usd"),
        # What only the translation to a vendor of another dialect reads.
        (body(messages=[1]), "messages[0]"),
        (body(messages=[{"role": "user"}]), "messages[0].content"),
        (body(messages=[{"role": "tool", "content": "x"}]), "messages[0].role"),
        (body(messages=[*HELLO, {"role": "user", "content": 7}]), "messages[1].content"),
        (said("Hello"), "messages[0].content[0]"),
        (said({"type": 3}), "messages[0].content[0].type"),
        (said({"type": "text"}), "messages[0].content[0].text"),
        (said({"type": "text", "text": ["a"]}), "messages[0].content[0].text"),
        (said({"type": "image"}), "messages[0].content[0].source"),
        (said({"type": "image", "source": {"type": "base64"}}), "messages[0].content[0].source.media_type"),
        (said({"type": "image", "source": {"type": "tape"}}), "messages[0].content[0].source.type"),
        (said({"type": "tool_use", "id": "t", "name": 1}), "messages[0].content[0].name"),
        (said({"type": "tool_use", "id": "t", "name": "n", "input": "x"}), "messages[0].content[0].input"),
        (said({"type": "tool_result", "content": "x"}), "messages[0].content[0].tool_use_id"),
        (said({"type": "tool_result", "tool_use_id": "t", "content": [1]}), "messages[0].content[0].content[0]"),
        (said({"type": "thinking", "thinking": 1}), "messages[0].content[0].thinking"),
        (said({"type": "text", "text": "a", "cache_control": "x"}), "messages[0].content[0].cache_control"),
        (body(tools=[{"input_schema": {}}]), "tools[0].name"),
        (body(tools=[{"name": "n", "input_schema": []}]), "tools[0].input_schema"),
        (body(tool_choice={"type": "must"}), "tool_choice.type"),
        (body(tool_choice={"type": "tool"}), "tool_choice.name"),
        (body(thinking={"type": "enabled", "budget_tokens": "9"}), "thinking.budget_tokens"),
        (body(output_config={"effort": "huge"}), "output_config.effort"),
        (body(output_config={"format": {"type": "json_schema"}}), "output_config.format.schema"),
        (body(stop_sequences=[1]), "stop_sequences[0]"),
        (body(system=5), "system"),
        (body(temperature="hot"), "temperature"),
    ],
)
@pytest.mark.parametrize("streams", [False, True])
async def test_a_body_that_cannot_be_understood_is_refused(
    place: Place, sent: bytes, param: str | None, streams: bool
) -> None:
    if streams and sent.startswith(b'{"model": ') and b'"stream"' not in sent:
        sent = sent.replace(b'"model"', b'"stream": true, "model"', 1)
    async with free_of_charge(place):
        assert_refused(await post(place, sent), 400, "invalid_request_error", "invalid_request", param)


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        (body(max_tokens=0), "max_tokens"),
        (body(speed="fast"), "speed"),
        (said({"type": "image", "source": {"type": "file", "file_id": "file_1"}}), "messages[0].content[0].source"),
    ],
)
async def test_what_would_change_the_answer_is_refused_not_dropped(place: Place, sent: bytes, param: str) -> None:
    async with free_of_charge(place):
        answer = await post(place, sent)
        assert answer.status == 400
        assert answer.error["details"]["error_code"] in ("unsupported_parameter", "invalid_request")


async def test_json_that_nests_too_deep_is_refused_at_once(place: Place) -> None:
    async with free_of_charge(place):
        for depth in (129, 100_000, 10_000_000):
            began = time.monotonic()
            deep = b'{"model":"a","max_tokens":1,"messages":' + b"[" * depth + b"]" * depth + b"}"
            assert_refused(await post(place, deep), 400, "invalid_request_error", "invalid_request")
            assert time.monotonic() - began < 5


async def test_many_members_messages_and_tools_are_taken_or_refused_soon(place: Place) -> None:
    began = time.monotonic()
    many = b'{"model":"a","max_tokens":1,"messages":[1]' + b"".join(b',"x%d":1' % n for n in range(10**6)) + b"}"
    assert_refused(await post(place, many), 400, "invalid_request_error", "invalid_request")
    turns = b",".join([b'{"role":"user","content":"a"}'] * 10**6)
    answer = await post(place, b'{"model":"a","max_tokens":1,"messages":[' + turns + b"]}")
    assert answer.status in (404, 413)
    tools = b",".join([b'{"name":"a","input_schema":{}}'] * 10**5)
    answer = await post(place, b'{"model":"a","max_tokens":1,"messages":[1],"tools":[' + tools + b"]}")
    assert answer.status == 404
    assert time.monotonic() - began < 20


async def test_a_body_above_the_limit_is_refused(place: Place) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 2**20

    async with free_of_charge(place):
        announced = await raw(
            place, b"Content-Length: %d\r\nx-api-key: %b\r\n" % (33 * 2**20, ADMIN_KEY.encode()), b"{"
        )
        assert announced.startswith(b"HTTP/1.1 413 ")
        assert b'"type":"request_too_large"' in announced
        response = await place.http.post(PATH, content=parts(), headers={"x-api-key": ADMIN_KEY})
        assert (response.status_code, response.json()["error"]["type"]) == (413, "request_too_large")


async def test_a_compressed_body_is_refused(place: Place) -> None:
    async with free_of_charge(place):
        answer = await post(place, gzip.compress(body()), {"Content-Encoding": "gzip"})
        assert_refused(answer, 400, "invalid_request_error", "invalid_request", "content-encoding")


async def test_large_inline_media_is_passed_on_and_not_decoded(place: Place) -> None:
    block = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 20_000_000}}
    began = time.monotonic()
    answer = await post(place, said(block))
    assert answer.status == 200, answer.body[:300]
    assert time.monotonic() - began < 10
    # Counted by the piece, not by its letters.
    record = await place.generation(answer.request_id)
    assert record["usage"]["input"] < 10_000


async def test_keys_and_methods(place: Place) -> None:
    async with free_of_charge(place):
        wrong = await post(place, body(), {"x-api-key": "gw_live_" + "x" * 43})
        assert_refused(wrong, 401, "authentication_error", "invalid_api_key")
        both = await post(place, body(), {"Authorization": "Bearer gw_live_other"})
        assert_refused(both, 401, "authentication_error", "invalid_api_key")
        none = await post(place, body(), {"x-api-key": ""})
        assert_refused(none, 401, "authentication_error", "missing_api_key")
        for path in (PATH, f"{PATH}/count_tokens"):
            response = await place.http.get(path, headers={"x-api-key": ADMIN_KEY})
            assert response.status_code == 405
            assert response.headers["allow"] == "POST"
            assert response.json()["error"]["type"] == "invalid_request_error"
        beta = await post(place, body(), {"anthropic-beta": "x" * 5_000})
        assert_refused(beta, 400, "invalid_request_error", "invalid_request", "anthropic-beta")
        for sent in (b"{", body(messages=[]), body(model=None)):
            counted = await post(place, sent, path=f"{PATH}/count_tokens")
            assert counted.error["type"] == "invalid_request_error"


SMUGGLED = (
    b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nx-api-key: " + ADMIN_KEY.encode() + b"\r\nContent-Length: 0\r\n\r\n"
)


@pytest.mark.parametrize(
    "headers",
    [
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
    ],
)
async def test_no_second_request_is_smuggled(place: Place, headers: bytes) -> None:
    async with free_of_charge(place):
        answer = await raw(place, headers + b"x-api-key: " + ADMIN_KEY.encode() + b"\r\n", b"0\r\n\r\n" + SMUGGLED)

    assert answer.count(b"HTTP/1.1") <= 1
    assert not answer or int(answer[9:12]) >= 400


async def test_nothing_of_a_vendors_breaks_out_of_its_event(place: Place) -> None:
    call = ToolCall(id=f"call_{EVIL}", name="n", arguments=json.dumps({"a": EVIL}))
    place.alpha.by_model[MODEL] = Script(reply=Reply(pieces=(EVIL, "b"), tool_calls=(call,), reasoning=(EVIL,)))

    answer = await post(place, body(stream=True))
    whole = (await post(place, body())).json

    found = events(answer.body)
    kinds = [event.name for event in found]
    assert kinds.count("message_stop") == 1
    assert all(json.loads(event.data)["type"] == event.name for event in found)
    deltas = [json.loads(event.data)["delta"] for event in found if event.name == "content_block_delta"]
    assert EVIL in "".join(delta.get("text", "") for delta in deltas)
    assert json.loads("".join(delta.get("partial_json", "") for delta in deltas)) == {"a": EVIL}
    assert [block["type"] for block in whole["content"]] == ["thinking", "text", "tool_use"]
    assert whole["content"][2]["input"] == {"a": EVIL}


async def raw(place: Place, headers: bytes, sent: bytes) -> bytes:
    """The whole answer to bytes that no HTTP client would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.gateway.port)
    try:
        writer.write(
            b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n%b\r\n" % (PATH.encode(), headers) + sent
        )
        await writer.drain()
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()
