"""Every behaviour of the fake vendor, seen by a client that is not ours or by a plain socket."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import aiohttp
import pytest

from tests.fakes import upstream as fake
from tests.fakes.upstream import Break, ErrorForm, FastUpstream, Reply, Script, ToolCall, Upstream

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
TEXT = "".join(fake.TEXT_PIECES)
SILENCE_S = 0.15
"""Long enough to believe that nothing will come."""
TIMERS_EARLY_S = 0.005

Json = dict[str, Any]


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as upstream:
        yield upstream


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
        yield session


def asking(**fields: object) -> Json:
    return {"model": "gpt-fake", "messages": [{"role": "user", "content": "Hi"}], **fields}


STREAMED = asking(stream=True, stream_options={"include_usage": True})


def ask(http: aiohttp.ClientSession, upstream: Upstream | FastUpstream, body: Json) -> Any:
    return http.post(f"{upstream.base_url}/chat/completions", json=body, allow_redirects=False)


async def told(http: aiohttp.ClientSession, upstream: Upstream, **fields: object) -> Json:
    async with ask(http, upstream, asking(**fields)) as answer:
        return cast(Json, await answer.json())


async def heard(http: aiohttp.ClientSession, upstream: Upstream | FastUpstream, body: Json) -> bytes:
    async with ask(http, upstream, body) as answer:
        return cast(bytes, await answer.read())


async def heard_before(trouble: type[Exception], answer: Any) -> bytes:
    """What came of a body before it broke, or before it fell silent."""
    received = b""
    try:
        while True:
            async with asyncio.timeout(SILENCE_S):
                part = await answer.content.readany()
            assert part, "the body came to its proper end"
            received += part
    except trouble:
        return received


def events(stream: bytes) -> list[Any]:
    """What the `data:` lines of a well-formed stream say; `[DONE]` stays text."""
    assert stream.endswith(b"\n\n")
    said = [part.removeprefix(b"data: ") for part in stream.split(b"\n\n")[:-1]]
    return ["[DONE]" if data == b"[DONE]" else json.loads(data) for data in said]


def text_of(chunks: Iterable[Any]) -> str:
    parts = (chunk["choices"] for chunk in chunks if isinstance(chunk, dict))
    return "".join(choices[0]["delta"].get("content") or "" for choices in parts if choices)


def usages(chunks: Iterable[Any]) -> list[Any]:
    return [chunk["usage"] for chunk in chunks if isinstance(chunk, dict) and chunk.get("usage")]


class Socket:
    """A client that sends and receives bytes and nothing else."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def post(self, body: bytes, *, path: str = "/v1/chat/completions") -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)

    async def hears(self, size: int = 2**16) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.read(size)

    async def hears_all(self) -> bytes:
        async with asyncio.timeout(10):
            return await self.reader.read()

    async def hears_until(self, end: bytes) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.readuntil(end)

    async def hears_nothing(self) -> bool:
        try:
            async with asyncio.timeout(SILENCE_S):
                await self.reader.read(1)
        except TimeoutError:
            return True
        return False


Connect = Callable[[Upstream | FastUpstream], Awaitable[Socket]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    sockets: list[Socket] = []

    async def connect(peer: Upstream | FastUpstream) -> Socket:
        sockets.append(Socket(*await asyncio.open_connection("127.0.0.1", peer.port, limit=2**23)))
        return sockets[-1]

    yield connect
    for opened in sockets:
        opened.writer.transport.abort()
    await asyncio.sleep(0)


ASKING = json.dumps(asking()).encode()
STREAMING = json.dumps(STREAMED).encode()


async def test_by_default_the_answer_is_a_whole_completion_of_the_model_asked(
    http: aiohttp.ClientSession, upstream: Upstream
) -> None:
    async with ask(http, upstream, asking(model="some/model")) as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        body = await answer.json()
    assert body == {
        "id": "chatcmpl-fake0001",
        "object": "chat.completion",
        "created": fake.CREATED,
        "model": "some/model",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT, "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "service_tier": "default",
        "system_fingerprint": fake.FINGERPRINT,
        "usage": fake.token_usage(11, 6),
    }


async def test_a_stream_comes_in_openais_order_and_ends_with_done(
    http: aiohttp.ClientSession, upstream: Upstream
) -> None:
    async with ask(http, upstream, STREAMED) as answer:
        assert answer.content_type == "text/event-stream"
        said = events(await answer.read())
    *chunks, usage_chunk, done = said
    assert done == "[DONE]"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert text_of(chunks) == TEXT
    assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert all(chunk["usage"] is None for chunk in chunks)
    assert (usage_chunk["choices"], usage_chunk["usage"]) == ([], fake.token_usage(11, 6))
    assert {(chunk["id"], chunk["created"], chunk["object"]) for chunk in said[:-1]} == {
        ("chatcmpl-fake0001", fake.CREATED, "chat.completion.chunk")
    }
    assert all(chunk["obfuscation"] for chunk in said[:-1])


async def test_usage_is_streamed_only_when_asked_for(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    *chunks, _ = events(await heard(http, upstream, asking(stream=True)))
    assert all("usage" not in chunk for chunk in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_obfuscation_can_be_declined(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    body = asking(stream=True, stream_options={"include_obfuscation": False})
    *chunks, _ = events(await heard(http, upstream, body))
    assert all("obfuscation" not in chunk for chunk in chunks)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_a_token_limit_cuts_the_answer(http: aiohttp.ClientSession, upstream: Upstream, name: str) -> None:
    body = await told(http, upstream, **{name: 2})
    assert body["choices"][0]["message"]["content"] == "Hello from"
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 2

    *chunks, usage_chunk, _ = events(await heard(http, upstream, STREAMED | {name: 2}))
    assert text_of(chunks) == "Hello from"
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert usage_chunk["usage"]["completion_tokens"] == 2


async def test_a_limit_that_fits_does_not_cut(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    body = await told(http, upstream, max_tokens=6)
    assert body["choices"][0]["finish_reason"] == "stop"


async def test_reasoning_uses_up_the_limit_first(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    upstream.script(Script(reply=Reply(reasoning=("hm", "hm", "hm"))))
    body = await told(http, upstream, max_tokens=4)
    message = body["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("hmhmhm", "Hello")
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == 3


async def test_the_same_request_has_the_same_answer_to_the_byte(http: aiohttp.ClientSession) -> None:
    answers = set()
    for _ in range(2):
        async with Upstream() as upstream:
            answers.add(await heard(http, upstream, STREAMED))
    assert len(answers) == 1


async def test_models_are_listed_without_using_up_a_script(http: aiohttp.ClientSession) -> None:
    async with Upstream(models=["a", "b"]) as upstream:
        upstream.script(fake.server_error())
        async with http.get(f"{upstream.base_url}/models") as answer:
            assert answer.status == 200
            listed = await answer.json()
        assert [model["id"] for model in listed["data"]] == ["a", "b"]
        assert upstream.unplayed == 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/chat/completions", b"{", 400),
        ("/chat/completions", b'{"model":"m"}', 400),
        ("/chat/completions", b'{"messages":[{}]}', 400),
        ("/embeddings", b"{}", 404),
    ],
)
async def test_a_wrong_request_is_refused_as_openai_would(
    http: aiohttp.ClientSession, upstream: Upstream, path: str, body: bytes, status: int
) -> None:
    upstream.script(Script(), Script())
    async with http.post(upstream.base_url + path, data=body) as answer:
        assert answer.status == status
        assert (await answer.json())["error"]["type"] == "invalid_request_error"


def test_completion_says_what_it_is_told() -> None:
    call = ToolCall(id="call_7", name="add", arguments='{"a":1}')
    body = json.loads(
        fake.completion(
            "Hm.",
            model="m",
            usage=fake.token_usage(3, 4, cached=2),
            tool_calls=[call],
            reasoning="thinking",
            logprobs=True,
            extra={"cost": 0.25},
        )
    )
    choice = body["choices"][0]
    assert choice["message"]["tool_calls"] == [
        {"id": "call_7", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
    ]
    assert choice["message"]["content"] == "Hm."
    assert choice["message"]["reasoning_content"] == "thinking"
    assert choice["finish_reason"] == "tool_calls"
    assert choice["logprobs"]["content"][0] == {
        "token": "Hm.",
        "logprob": -0.125,
        "bytes": [72, 109, 46],
        "top_logprobs": [],
    }
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == 2
    assert (body["model"], body["cost"]) == ("m", 0.25)


def test_a_structured_answer_is_a_document_in_the_text() -> None:
    content = json.loads(fake.structured({"city": "Zürich"}))["choices"][0]["message"]["content"]
    assert json.loads(content) == {"city": "Zürich"}


def test_a_refusal_leaves_the_content_null() -> None:
    message = json.loads(fake.completion(refusal="I will not."))["choices"][0]["message"]
    assert (message["content"], message["refusal"]) == (None, "I will not.")
    said = events(b"".join(fake.chunks(refusal="I will not.")))
    deltas = [chunk["choices"][0]["delta"] for chunk in said if chunk["choices"]]
    assert "".join(delta.get("refusal") or "" for delta in deltas) == "I will not."


def test_tool_calls_stream_as_an_opening_and_fragments() -> None:
    calls = [ToolCall(), ToolCall(id="call_0002", name="add", arguments='{"a":1,"b":2}')]
    said = events(b"".join(fake.chunks(tool_calls=calls)))
    pieces = [piece for chunk in said for choice in chunk["choices"] for piece in choice["delta"].get("tool_calls", [])]
    for index, call in enumerate(calls):
        opening, *fragments = [piece for piece in pieces if piece["index"] == index]
        assert opening == {
            "index": index,
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": ""},
        }
        assert len(fragments) > 1
        assert "".join(piece["function"]["arguments"] for piece in fragments) == call.arguments
        assert all(set(piece) == {"index", "function"} for piece in fragments)
    assert said[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert said[0]["choices"][0]["delta"]["content"] is None


def test_reasoning_and_logprobs_stream_beside_the_text() -> None:
    said = events(b"".join(fake.chunks(["Yes"], reasoning=["be", "cause"], logprobs=True)))
    deltas = [chunk["choices"][0]["delta"] for chunk in said if chunk["choices"]]
    assert [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta] == ["be", "cause"]
    tokens = [
        chunk["choices"][0]["logprobs"]["content"][0]["token"]
        for chunk in said
        if chunk["choices"] and chunk["choices"][0]["logprobs"]
    ]
    assert tokens == ["Yes"]


def test_strange_puts_an_unknown_field_into_every_object() -> None:
    def objects(value: Any) -> Iterable[Json]:
        if isinstance(value, dict):
            yield value
            for part in value.values():
                yield from objects(part)
        elif isinstance(value, list):
            for part in value:
                yield from objects(part)

    whole = json.loads(fake.completion("x", tool_calls=[ToolCall()], logprobs=True, strange=True))
    for answer in (whole, *events(b"".join(fake.chunks(strange=True)))):
        found = [part for part in objects(answer) if part != {"deep": "so"}]
        assert len(found) > 1
        assert all("x_unheard_of" in part for part in found)


def test_usage_can_stand_in_any_of_the_places_vendors_choose() -> None:
    def told_at(where: fake.UsageAt) -> tuple[list[Any], list[Any]]:
        said = events(b"".join(fake.chunks(usage_at=where)))
        return said, usages(said)

    right = fake.token_usage(11, 6)
    said, told = told_at("finish")
    assert told == [right]
    assert said[-1]["choices"][0]["finish_reason"] == "stop"
    assert told_at("both")[1] == [right, right]
    assert told_at("nowhere")[1] == []
    said, told = told_at("x_groq")
    assert told == []
    assert said[-1]["x_groq"]["usage"] == right
    counts = [told["completion_tokens"] for told in told_at("every")[1]]
    assert counts == [0, 1, 2, 3, 4, 5, 6, 6]


async def test_queued_scripts_are_played_in_order_then_the_default(
    http: aiohttp.ClientSession, upstream: Upstream
) -> None:
    upstream.script(fake.server_error(), fake.overloaded())
    statuses = []
    for _ in range(3):
        async with ask(http, upstream, asking()) as answer:
            statuses.append(answer.status)
    assert statuses == [500, 529, 200]


async def test_a_models_own_script_leaves_the_queue_alone(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    upstream.by_model["ill"] = fake.server_error(503)
    upstream.script(fake.overloaded())
    for model, status in (("ill", 503), ("ill", 503), ("well", 529), ("well", 200)):
        async with ask(http, upstream, asking(model=model)) as answer:
            assert answer.status == status


async def test_a_script_may_be_written_on_seeing_the_request(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    def picky(request: fake.Request) -> Script:
        return Script() if request.headers["authorization"] == "Bearer good" else fake.unauthorized()

    upstream.by_model["gpt-fake"] = picky
    for key, status in (("bad", 401), ("good", 200)):
        http.headers["Authorization"] = f"Bearer {key}"
        async with ask(http, upstream, asking()) as answer:
            assert answer.status == status


async def test_any_path_can_be_scripted(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    upstream.by_path["/v1/models"] = fake.server_error(502)
    upstream.by_path["/v1/embeddings"] = Script(json_body={"data": []})
    async with http.get(f"{upstream.base_url}/models?limit=1") as answer:
        assert answer.status == 502
    async with http.post(f"{upstream.base_url}/embeddings", json={}) as answer:
        assert await answer.json() == {"data": []}


async def test_a_mistake_in_a_tests_own_script_fails_the_test(http: aiohttp.ClientSession) -> None:
    def mistaken(_: fake.Request) -> Script:
        raise ZeroDivisionError

    upstream = await Upstream().__aenter__()
    upstream.script(mistaken)
    with pytest.raises(aiohttp.ClientError):
        await heard(http, upstream, asking())
    with pytest.raises(AssertionError, match="the fake vendor itself failed"):
        await upstream.__aexit__()


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (fake.bad_request(), 400, "invalid_value"),
        (fake.unauthorized(), 401, "invalid_api_key"),
        (fake.payment_required(), 402, "invalid_request_error"),
        (fake.insufficient_quota(), 429, "insufficient_quota"),
        (fake.server_error(), 500, None),
        (fake.overloaded(), 529, None),
        (Script(status=503), 503, None),
        (Script(status=529), 529, None),
    ],
)
async def test_errors_have_openais_body(
    http: aiohttp.ClientSession, upstream: Upstream, script: Script, status: int, code: str | None
) -> None:
    upstream.by_model["gpt-fake"] = script
    for body in (asking(), STREAMED):
        async with ask(http, upstream, body) as answer:
            assert answer.status == status
            error = (await answer.json())["error"]
            assert error["message"]
            assert error["code"] == code


async def test_a_rate_limit_may_say_when_to_come_back(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    upstream.script(fake.rate_limited(0.5), fake.rate_limited(None))
    async with ask(http, upstream, asking()) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "0.5")
    async with ask(http, upstream, asking()) as answer:
        assert (answer.status, answer.headers.get("Retry-After")) == (429, None)


async def test_a_redirect_points_elsewhere(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    upstream.script(fake.redirect("http://evil.example/"))
    async with ask(http, upstream, asking()) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, "http://evil.example/")


async def test_status_200_may_carry_a_page_nothing_or_an_error(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    upstream.script(fake.html(), fake.empty(), Script(json_body=fake.failure("no", "server_error")))
    async with ask(http, upstream, asking()) as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        assert (await answer.read()).startswith(b"<!doctype html>")
    assert await heard(http, upstream, asking()) == b""
    async with ask(http, upstream, asking()) as answer:
        assert answer.status == 200
        assert (await answer.json())["error"]["message"] == "no"


async def test_headers_are_added_repeated_and_replaced(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    upstream.script(Script(headers=[("X-A", "1"), ("X-A", "2"), ("content-type", "text/plain")]))
    async with ask(http, upstream, asking()) as answer:
        assert answer.headers.getall("X-A") == ["1", "2"]
        assert answer.headers.getall("Content-Type") == ["text/plain"]
        assert answer.headers["X-Request-Id"] == "req_0000"


async def test_twenty_thousand_headers_are_too_many_for_aiohttp(
    http: aiohttp.ClientSession, upstream: Upstream, connect: Connect
) -> None:
    upstream.script(fake.many_headers(), fake.many_headers())
    with pytest.raises(aiohttp.ClientError):
        await heard(http, upstream, asking())
    client = await connect(upstream)
    client.post(ASKING)
    head = await client.reader.readuntil(b"X-Filler-19999: x\r\n")
    assert head.count(b"\r\n") == 20_004


@pytest.mark.parametrize("body", [asking(), STREAMED], ids=["whole", "stream"])
async def test_gzip_is_real(upstream: Upstream, body: Json) -> None:
    async with aiohttp.ClientSession() as http:
        plain = await heard(http, upstream, body)
        upstream.script(Script(gzip=True))
        async with ask(http, upstream, body) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            assert await answer.read() == plain


async def test_a_gzip_bomb_is_small_on_the_wire(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    upstream.script(fake.gzip_bomb(10_000_000), fake.gzip_bomb(10_000_000))
    assert len(await heard(http, upstream, asking())) < 15_000
    async with aiohttp.ClientSession() as inflating, ask(inflating, upstream, asking()) as answer:
        size = 0
        async for part in answer.content.iter_any():
            size += len(part)
    assert size == 10_000_000


async def test_raw_bytes_go_out_as_they_are(http: aiohttp.ClientSession, upstream: Upstream, connect: Connect) -> None:
    upstream.script(Script(raw=b"SSH-2.0-OpenSSH_9.6\r\n"), Script(raw=b"\x00\xff"))
    with pytest.raises(aiohttp.ClientError):
        await heard(http, upstream, asking())
    client = await connect(upstream)
    client.post(ASKING)
    assert await client.hears() == b"\x00\xff"
    assert await client.hears() == b""


async def test_frames_are_streamed_whatever_was_asked(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    upstream.script(Script(frames=[b": hello\n\n", {"a": 1}, b"event: x\ndata: y\n\n"]))
    stream = await heard(http, upstream, asking())
    assert stream == b': hello\n\ndata: {"a":1}\n\nevent: x\ndata: y\n\ndata: [DONE]\n\n'


async def test_done_can_be_missing(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    upstream.script(Script(done=False))
    said = events(await heard(http, upstream, STREAMED))
    assert "[DONE]" not in said
    assert usages(said) == [fake.token_usage()]


async def test_usage_can_be_missing_though_asked_for(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    upstream.by_model["gpt-fake"] = Script(reply=Reply(usage_at="nowhere"))
    assert usages(events(await heard(http, upstream, STREAMED))) == []
    assert "usage" not in await told(http, upstream)


async def test_usage_can_lie(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    upstream.by_model["gpt-fake"] = fake.lying_usage("both")
    assert [usage["completion_tokens"] for usage in usages(events(await heard(http, upstream, STREAMED)))] == [
        10**12,
        10**12,
    ]
    assert (await told(http, upstream))["usage"]["total_tokens"] == 2 * 10**12


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
async def test_lines_end_as_scripted(http: aiohttp.ClientSession, upstream: Upstream, line_end: bytes) -> None:
    plain = await heard(http, upstream, STREAMED)
    upstream.script(Script(line_end=line_end))
    assert await heard(http, upstream, STREAMED) == plain.replace(b"\n", line_end)


async def test_comments_a_bom_and_a_missing_space_are_all_legal(
    http: aiohttp.ClientSession, upstream: Upstream
) -> None:
    upstream.script(Script(comment="keep-alive", bom=True, space=False))
    stream = await heard(http, upstream, STREAMED)
    assert stream.startswith(b'\xef\xbb\xbf: keep-alive\n\ndata:{"id"')
    assert stream.endswith(b": keep-alive\n\ndata:[DONE]\n\n")
    assert stream.count(b": keep-alive\n\n") == stream.count(b"data:") == 10


async def test_an_event_can_be_spread_over_several_data_lines(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    plain = events(await heard(http, upstream, STREAMED))
    upstream.script(Script(multi_line=True))
    stream = await heard(http, upstream, STREAMED)
    joined = [part.replace(b"data: ", b"") for part in stream.split(b"\n\n")[:-1]]
    assert [json.loads(data) for data in joined[:-1]] == plain[:-1]
    assert joined[0].count(b"\n") > 10


async def test_a_chunk_can_be_malformed_among_good_ones(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    upstream.script(fake.malformed_chunk(at=2))
    parts = (await heard(http, upstream, STREAMED)).split(b"\n\n")
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(parts[2].removeprefix(b"data: "))
    assert json.loads(parts[3].removeprefix(b"data: "))["choices"]


@pytest.mark.parametrize("form", get_args(ErrorForm))
async def test_an_error_can_come_in_a_stream_of_status_200(
    http: aiohttp.ClientSession, upstream: Upstream, form: ErrorForm
) -> None:
    upstream.by_model["gpt-fake"] = fake.error_in_stream(form, after_frames=3)
    async with ask(http, upstream, STREAMED) as answer:
        assert answer.status == 200
        said = events(await answer.read())
    assert text_of(said[:3]) == "Hello from"
    assert said[3:] == [fake.failure_in(form)]
    assert await told(http, upstream) == fake.failure_in(form)


def test_the_forms_of_an_error_differ_as_vendors_do() -> None:
    forms = {form: fake.failure_in(form) for form in get_args(ErrorForm)}
    assert isinstance(forms["dict"]["error"], dict)
    assert isinstance(forms["string"]["error"], str)
    assert json.loads(forms["json_string"]["error"])["message"]
    assert isinstance(forms["error_in_error"]["error"]["error"], str)
    assert forms["with_status_code"]["status_code"] == 500
    assert forms["on_a_chunk"]["choices"][0]["finish_reason"] == "error"
    assert isinstance(forms["x_groq"]["x_groq"]["error"], str)


async def test_an_event_can_be_huge(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    upstream.script(fake.oversize_event(5_000_000))
    said = events(await heard(http, upstream, STREAMED))
    assert len(said[1]["choices"][0]["delta"]["content"]) == 5_000_000


@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
@pytest.mark.parametrize("slice_bytes", [1, 2, 3, 50, 1000])
async def test_slicing_never_changes_what_is_said(
    http: aiohttp.ClientSession, upstream: Upstream, slice_bytes: int, framing: Any
) -> None:
    whole = Script(reply=Reply(pieces=["Zürich", " 🦜"]), line_end=b"\r\n")
    upstream.script(whole, replace(whole, slice_bytes=slice_bytes, framing=framing))
    plain = await heard(http, upstream, STREAMED)
    assert await heard(http, upstream, STREAMED) == plain


async def test_slices_are_separate_writes(upstream: Upstream, connect: Connect) -> None:
    upstream.script(Script(body=b"abcdefgh", slice_bytes=3, slice_delay_s=0.02))
    client = await connect(upstream)
    client.post(ASKING)
    await client.hears_until(b"\r\n\r\n")
    assert [await client.hears() for _ in range(3)] == [b"abc", b"def", b"gh"]


async def test_small_pieces_do_not_wait_for_acknowledgements(upstream: Upstream, connect: Connect) -> None:
    client = await connect(upstream)
    took = []
    for _ in range(10):
        upstream.script(Script(body=b"{}", slice_bytes=1))
        began = time.monotonic()
        client.post(ASKING)
        await client.hears_until(b"{}")
        took.append(time.monotonic() - began)
    assert sorted(took)[1] < 0.03  # Only the very first exchange is spared the delay.


async def test_a_stream_cut_at_every_byte_reaches_a_reader_in_pieces(
    http: aiohttp.ClientSession, upstream: Upstream
) -> None:
    upstream.script(Script(reply=Reply(pieces=["ü"]), slice_bytes=1))
    async with ask(http, upstream, STREAMED) as answer:
        parts = [part async for part in answer.content.iter_any()]
    assert len(parts) > 100
    assert events(b"".join(parts))[1]["choices"][0]["delta"]["content"] == "ü"


async def test_a_slow_body_comes_byte_by_byte(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    upstream.script(replace(fake.slow_body(bytes_per_s=50), body=b"{  }"))
    began = time.monotonic()
    assert await heard(http, upstream, asking()) == b"{  }"
    assert time.monotonic() - began >= 0.08 - TIMERS_EARLY_S


async def test_delays_come_before_the_answer_and_before_each_frame(
    http: aiohttp.ClientSession, upstream: Upstream
) -> None:
    upstream.script(Script(frames=[b"data: 1\n\n"] * 3, delay_s=0.1, frame_delay_s=[0, 0.1, 0.05]))
    began = time.monotonic()
    moments = []
    async with ask(http, upstream, STREAMED) as answer:
        async for _ in answer.content.iter_any():
            moments.append(time.monotonic() - began)
    for moment, due in zip(moments, [0.1, 0.2, 0.25, 0.25], strict=False):
        assert due - TIMERS_EARLY_S <= moment < due + 0.3


async def test_a_body_may_end_with_the_connection(upstream: Upstream, connect: Connect) -> None:
    upstream.script(Script(framing="close"))
    client = await connect(upstream)
    client.post(ASKING)
    head = await client.hears_until(b"\r\n\r\n")
    assert b"Content-Length" not in head
    assert b"Connection: close" in head
    assert json.loads(await client.hears_all())["object"] == "chat.completion"


@pytest.mark.parametrize("script", [fake.closes(3), fake.closes(3, 20), fake.resets(3), fake.resets(3, 20)])
async def test_a_stream_can_break_between_events_or_within_one(
    http: aiohttp.ClientSession, upstream: Upstream, script: Script
) -> None:
    plain = await heard(http, upstream, STREAMED)
    three_events = b"\n\n".join(plain.split(b"\n\n")[:3]) + b"\n\n"
    assert script.breaks is not None
    upstream.script(script)
    async with ask(http, upstream, STREAMED) as answer:
        received = await heard_before(aiohttp.ClientError, answer)
    expected = plain[: len(three_events) + script.breaks.bytes_of_next]
    # A reset may overtake what a reader has not yet taken in.
    assert received == expected or (script.breaks.how == "reset" and expected.startswith(received))
    request = upstream.requests[1]
    assert (request.answered_at, request.closed_at) == (None, None)


@pytest.mark.parametrize("script", [fake.closes(3), fake.resets(3), fake.half_closes(3)])
async def test_a_whole_answer_breaks_in_the_middle(
    http: aiohttp.ClientSession, upstream: Upstream, script: Script
) -> None:
    upstream.script(script)
    async with ask(http, upstream, asking()) as answer:
        with pytest.raises(aiohttp.ClientError):
            await answer.read()


async def test_a_reset_is_a_reset_and_a_close_is_not(upstream: Upstream, connect: Connect) -> None:
    upstream.script(fake.resets(1), fake.closes(1))
    client = await connect(upstream)
    client.post(STREAMING)
    with pytest.raises(ConnectionResetError):
        await client.hears_all()
    client = await connect(upstream)
    client.post(STREAMING)
    assert (await client.hears_all()).startswith(b"HTTP/1.1 200 OK")


async def test_after_a_half_close_the_vendor_still_listens(upstream: Upstream, connect: Connect) -> None:
    upstream.script(fake.half_closes(1))
    client = await connect(upstream)
    client.post(STREAMING)
    await client.hears_all()
    client.writer.write(b"still here")
    await asyncio.sleep(SILENCE_S)
    assert upstream.open_connections == 1
    client.writer.close()
    request = await upstream.wait_closed(0)
    assert request.closed_at is not None
    await upstream.wait_open_connections(0)


async def test_a_vendor_can_hang_up_without_a_word(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    upstream.script(fake.hangs_up())
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await heard(http, upstream, asking())


async def test_a_silent_vendor_answers_once_released(upstream: Upstream, connect: Connect) -> None:
    upstream.script(fake.silent())
    client = await connect(upstream)
    client.post(ASKING)
    assert await client.hears_nothing()
    upstream.requests[0].release()
    assert (await client.hears()).startswith(b"HTTP/1.1 200 OK\r\n")
    await upstream.wait_answered(0)


async def test_a_stalled_stream_goes_on_where_it_stopped(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    plain = await heard(http, upstream, STREAMED)
    upstream.script(fake.stalls(2, bytes_of_next=9))
    async with ask(http, upstream, STREAMED) as answer:
        received = await heard_before(TimeoutError, answer)
        assert received == b"\n\n".join(plain.split(b"\n\n")[:2]) + b'\n\ndata: {"i'
        assert upstream.requests[1].frames_sent == 3
        upstream.requests[1].release()
        received += await answer.read()
    assert received == plain


async def test_a_stream_can_end_early_in_good_order(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    upstream.script(Script(breaks=Break(how="end", after_frames=2)))
    said = events(await heard(http, upstream, STREAMED))
    assert text_of(said) == "Hello"
    assert len(said) == 2


async def test_requests_are_recorded_as_they_came(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    began = time.monotonic()
    body = b'{"model": "gpt-fake",  "messages": [{"content": "\xc3\xbc"}]}'
    url = f"{upstream.base_url}/chat/completions?beta=1"
    async with http.post(url, data=body, headers=[("X-Two", "a"), ("X-Two", "b")]) as answer:
        await answer.read()
    (request,) = upstream.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions?beta=1")
    assert request.body == body
    assert request.model == "gpt-fake"
    assert request.headers["x-two"] == "a, b"
    assert request.answered_at is not None
    assert began <= request.arrived_at <= request.answered_at <= time.monotonic()
    assert request.closed_at is None


async def test_a_chunked_request_is_put_together(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(ASKING), 7):
            yield ASKING[start : start + 7]
            await asyncio.sleep(0)

    async with http.post(f"{upstream.base_url}/chat/completions", data=parts()) as answer:
        assert answer.status == 200
    assert upstream.requests[0].headers["transfer-encoding"] == "chunked"
    assert upstream.requests[0].body == ASKING


async def test_a_connection_serves_many_requests_even_sent_at_once(
    http: aiohttp.ClientSession, upstream: Upstream, connect: Connect
) -> None:
    for body in (asking(), STREAMED, asking()):
        await heard(http, upstream, body)
    assert upstream.open_connections == 1
    client = await connect(upstream)
    for _ in range(3):
        client.post(ASKING)
    for _ in range(3):
        assert b"200 OK" in await client.hears_until(b"}}}")
    assert upstream.open_connections == 2


async def test_connection_close_is_obeyed(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    http.headers["Connection"] = "close"
    await heard(http, upstream, asking())
    await upstream.wait_open_connections(0)


@pytest.mark.parametrize("script", [fake.silent(), fake.stalls(2), Script(frame_delay_s=0.05)])
async def test_a_client_that_leaves_is_noticed_at_once(
    http: aiohttp.ClientSession, upstream: Upstream, script: Script
) -> None:
    upstream.script(script)
    asked = asyncio.create_task(heard(http, upstream, STREAMED))
    await upstream.wait_for_requests(1)
    await asyncio.sleep(0.02)
    left_at = time.monotonic()
    asked.cancel()
    request = await upstream.wait_closed(0)
    assert request.closed_at is not None
    assert 0 <= request.closed_at - left_at < 0.1
    assert request.answered_at is None
    await upstream.wait_open_connections(0)


async def test_leaving_after_the_whole_answer_is_no_disconnect(upstream: Upstream, connect: Connect) -> None:
    for body, end in ((ASKING, b"}}}"), (STREAMING, b"[DONE]\n\n")):
        client = await connect(upstream)
        client.post(body)
        await client.hears_until(end)
        client.writer.transport.abort()
    await upstream.wait_open_connections(0)
    for request in upstream.requests:
        assert request.answered_at is not None
        assert request.closed_at is None
    with pytest.raises(AssertionError, match="was answered completely"):
        await upstream.wait_closed(0)


async def test_waiting_in_vain_says_for_what(upstream: Upstream) -> None:
    with pytest.raises(TimeoutError, match="in vain for 1 requests"):
        await upstream.wait_for_requests(1, timeout_s=0.01)


async def test_hanging_up_closes_idle_connections(http: aiohttp.ClientSession, upstream: Upstream) -> None:
    await heard(http, upstream, asking())
    upstream.hang_up()
    await upstream.wait_open_connections(0)
    await asyncio.sleep(0.05)  # A client that asks before it has noticed would fail.
    assert await heard(http, upstream, asking())


async def test_a_client_that_does_not_read_stops_the_vendor(connect: Connect) -> None:
    async with Upstream(send_buffer_bytes=2**14) as upstream:
        upstream.script(Script(frames=[b"data: " + b"x" * 10_000 + b"\n\n"] * 5_000))
        client = await connect(upstream)
        client.post(STREAMING)
        (request,) = await upstream.wait_for_requests(1)
        sent = 0
        while sent == 0 or sent != request.bytes_sent:
            sent = request.bytes_sent
            await asyncio.sleep(SILENCE_S)
        assert sent < 45_000_000
        assert request.answered_at is None


async def test_the_fast_vendor_gives_the_one_answer_in_either_shape(http: aiohttp.ClientSession) -> None:
    async with FastUpstream(chunks=50, body_bytes=700) as upstream:
        for _ in range(2):
            async with ask(http, upstream, asking()) as answer:
                body = await answer.read()
            assert len(body) == 700
            assert json.loads(body)["usage"]["completion_tokens"] == 50
        *chunks, usage_chunk, done = events(await heard(http, upstream, STREAMED))
        assert text_of(chunks) == " word" * 50
        assert (usage_chunk["usage"]["completion_tokens"], done) == (50, "[DONE]")
        assert usages(events(await heard(http, upstream, asking(stream=True)))) == []
        async with http.get(f"{upstream.base_url}/models") as answer:
            assert (await answer.json())["object"] == "list"


async def test_the_fast_vendor_recognises_a_stream_however_it_is_spaced(connect: Connect) -> None:
    async with FastUpstream(chunks=3) as upstream:
        client = await connect(upstream)
        for body in (b'{"stream":true}', b'{"stream": true}'):
            client.post(body)
            assert b"text/event-stream" in await client.hears_until(b"[DONE]\n\n\r\n0\r\n\r\n")
        client.post(b'{"stream":false}')
        assert b"application/json" in await client.hears_until(b"}}}")


async def test_the_fast_vendor_takes_requests_in_any_pieces(connect: Connect) -> None:
    async with FastUpstream(chunks=3) as upstream:
        client = await connect(upstream)
        request = b"POST / HTTP/1.1\r\ncontent-length: 14\r\n\r\n" + b'{"stream":true'
        for byte in request:
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        await client.hears_until(b"0\r\n\r\n")
        client.writer.write(request * 2 + b"GET /v1/models HTTP/1.1\r\n\r\n")
        await client.hears_until(b"0\r\n\r\n")
        await client.hears_until(b"0\r\n\r\n")
        assert b'"object":"list"' in await client.hears()


async def test_the_fast_vendor_sends_each_chunk_by_itself(connect: Connect) -> None:
    async with FastUpstream(chunks=100) as upstream:
        client = await connect(upstream)
        client.post(STREAMING)
        pieces = 0
        while b"[DONE]" not in await client.hears():
            pieces += 1
        # A reader in the same loop takes its turn between any two writes.
        assert pieces >= 50


async def test_the_fast_vendor_keeps_its_pace(http: aiohttp.ClientSession) -> None:
    async with FastUpstream(chunks=20, chunk_delay_s=0.01) as upstream:
        began = time.monotonic()
        await heard(http, upstream, STREAMED)
        assert 0.2 <= time.monotonic() - began < 0.6


async def test_the_fast_vendor_waits_for_a_reader_that_pauses(connect: Connect) -> None:
    async with FastUpstream(chunks=20_000) as upstream:
        client = await connect(upstream)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.post(STREAMING)
        await asyncio.sleep(1)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(60):
            stream = await client.reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert stream.count(b" word") == 20_000


async def test_the_fast_vendor_demands_a_length(connect: Connect) -> None:
    async with FastUpstream() as upstream:
        client = await connect(upstream)
        client.writer.write(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert (await client.hears()).startswith(b"HTTP/1.1 411 ")


def test_an_answer_too_short_to_be_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        FastUpstream(body_bytes=10)


async def test_the_fast_vendor_runs_by_itself_until_told_to_stop(http: aiohttp.ClientSession) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.fakes.upstream", "--port", "0", "--chunks", "5", "--body-bytes", "800"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert process.stdout is not None
    port = int(await asyncio.wait_for(process.stdout.readline(), 20))
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    async with http.post(url, json=asking()) as answer:
        assert len(await answer.read()) == 800
    async with http.post(url, json=STREAMED) as answer:
        assert text_of(events(await answer.read())) == " word" * 5
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 10) == 0
