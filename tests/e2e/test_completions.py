"""OpenAI's older Completions by its official client: before chat models, and before a vendor that has them."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from anyio import to_thread
from openai.types import Completion

from tests.e2e.conftest import SOLO, WIDE_LIMITS, Place, priced, set_prices, vendor_settings
from tests.e2e.processes import ADMIN_KEY, GatewayProcess
from tests.fakes.upstream import Break, Request, Script, Upstream, failure
from tests.fakes.vendor_shapes import SHAPES

pytestmark = pytest.mark.anyio

CHAT = SOLO[0]
"""A chat model, whose vendor knows no /completions."""
SHAPE = SHAPES["deepinfra"]
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
PIECES = (" and", " then", " some")


def text_completion(request: Request) -> Script:
    """What a vendor answers on its own /completions."""
    asked = request.json
    assert isinstance(asked, dict)
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1_760_000_000, "model": asked["model"]}

    def said(text: str, finish: str | None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}]}

    if not asked.get("stream"):
        return Script(json_body=said("".join(PIECES), "length") | {"usage": USAGE})
    frames: list[Any] = [said(piece, None) for piece in PIECES] + [said("", "length")]
    if (asked.get("stream_options") or {}).get("include_usage"):
        frames = [{**frame, "usage": None} for frame in frames] + [{**head, "choices": [], "usage": USAGE}]
    return Script(frames=frames)


@dataclass
class Here:
    place: Place
    vendor: Upstream
    own: str
    """A model whose vendor serves /completions itself."""
    client: openai.AsyncOpenAI

    async def post(self, **members: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        response = await self.place.http.post("/v1/completions", json=members, headers=headers)
        return response.status_code, response.json()

    async def charged(self) -> int:
        await self.place.nothing_held()
        return await self.place.charged()


@pytest.fixture(scope="module")
async def module_here(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Here]:
    directory: Path = tmp_path_factory.mktemp("gateway")
    async with Upstream() as alpha, Upstream() as beta, Upstream() as vendor:
        base = "/v1/openai"
        for path, page in SHAPE.models.items():
            vendor.by_path[path] = Script(json_body=page)
        vendor.by_path[f"{base}/completions"] = text_completion
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(vendor.base_url))
        gateway = GatewayProcess(
            directory,
            **WIDE_LIMITS | vendor_settings(alpha, beta),
            DEEPINFRA_API_KEY="sk-deepinfra",
            DEEPINFRA_BASE_URL=f"{origin}{base}",
        )
        async with httpx.AsyncClient(base_url=gateway.base_url, timeout=30.0) as http:
            await to_thread.run_sync(gateway.start)
            try:
                place = Place(gateway, alpha, beta, http)
                await set_prices(gateway)
                await priced(place)
                async with place.client() as client:
                    yield Here(place, vendor, await _listed(place), client)
            finally:
                await to_thread.run_sync(gateway.stop)


async def _listed(place: Place) -> str:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        for row in (await place.get("/v1/models?limit=100"))["data"]:
            if any(name in json.dumps(row) for name in ("deepinfra",)):
                return str(row["id"])
    raise AssertionError("the vendor's models are not listed")


@pytest.fixture
async def here(module_here: Here) -> AsyncIterator[Here]:
    for upstream in (module_here.place.alpha, module_here.vendor):
        upstream.requests.clear()
    logged = len(module_here.place.log())
    yield module_here
    await module_here.place.verify()
    assert "Traceback" not in module_here.place.log()[logged:], "an unforeseen error is in the gateway's log"


def strictly(answer: Completion) -> Completion:
    """Read again with every member required that the client's types require, and none beside them but the cost."""
    told = answer.to_dict()
    if usage := told.get("usage"):
        usage.pop("cost", None)  # type: ignore[attr-defined]
    read = Completion.model_validate(told, strict=True)
    assert not read.model_extra
    return answer


async def test_a_chat_model_goes_on_with_a_text(here: Here) -> None:
    before = await here.charged()
    answer = strictly(await here.client.completions.create(model=CHAT, prompt="Once", stop=["\n"], temperature=0.5))

    assert answer.object == "text_completion"
    assert answer.choices[0].text == "Hello from the fake upstream."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    sent = here.place.alpha.requests[-1].json
    assert sent["messages"] == [{"role": "user", "content": "Once"}]
    assert (sent["max_tokens"], sent["stop"], sent["temperature"]) == (16, ["\n"], 0.5)
    assert await here.charged() - before == answer.usage.prompt_tokens * 1_000 + answer.usage.completion_tokens * 2_000


async def test_a_chat_model_streams_a_text(here: Here) -> None:
    stream = await here.client.completions.create(
        model=CHAT, prompt=["Once"], max_tokens=3, stream=True, stream_options={"include_usage": True}
    )
    chunks = [strictly(chunk) if not chunk.choices else chunk async for chunk in stream]

    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == "Hello from the"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3
    assert chunks[-1].usage.to_dict()["cost"] == 0.000017
    assert {chunk.object for chunk in chunks} == {"text_completion"}
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize("model", ["sandbox/echo", "sandbox/no-usage", "sandbox/reason"])
async def test_the_sandbox_repeats_a_text(here: Here, model: str) -> None:
    whole = await here.client.completions.create(model=model, prompt="Hello, gateway!", max_tokens=400)
    stream = await here.client.completions.create(model=model, prompt="Hello, gateway!", max_tokens=400, stream=True)
    streamed = "".join([chunk.choices[0].text async for chunk in stream])

    assert whole.choices[0].text == streamed
    assert "Hello, gateway!" in streamed


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"prompt": ["one", "two"]}, "prompt"),
        ({"prompt": [1, 2, 3]}, "prompt"),
        ({"prompt": [[1, 2], [3]]}, "prompt"),
        ({"prompt": "a", "suffix": "z"}, "suffix"),
        ({"prompt": "a", "echo": True}, "echo"),
        ({"prompt": "a", "best_of": 2}, "best_of"),
        ({"prompt": "a", "n": 2}, "n"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": "a", "stop": [1]}, "stop"),
        ({"prompt": "a", "temperature": "hot"}, "temperature"),
        ({"prompt": "a", "max_tokens": "many"}, "max_tokens"),
    ],
)
async def test_what_a_chat_model_cannot_do_is_refused_by_name(here: Here, members: Any, param: str) -> None:
    before = await here.charged()
    status, told = await here.post(model=CHAT, **members)

    assert (status, told["error"]["param"]) == (400, param)
    assert not here.place.alpha.requests
    assert await here.charged() == before


async def test_what_only_tunes_is_dropped_and_named(here: Here) -> None:
    raw = await here.client.completions.with_raw_response.create(model=CHAT, prompt="a", logprobs=2)

    assert raw.headers["x-gatewayz-dropped-params"] == "logprobs"


async def test_a_vendor_that_serves_completions_gets_them_as_they_are(here: Here) -> None:
    answer = await here.client.completions.create(
        model=here.own, prompt=["one", "two"], echo=True, suffix="z", best_of=2, n=2, max_tokens=3
    )

    assert answer.choices[0].text == " and then some"
    sent = here.vendor.requests[-1]
    assert sent.path.endswith("/completions")
    assert "chat" not in sent.path
    assert sent.json["prompt"] == ["one", "two"]
    assert (sent.json["echo"], sent.json["suffix"], sent.json["best_of"]) == (True, "z", 2)
    record = await here.place.generation(str(answer._request_id))
    assert (record["dialect"], record["usage"]["input"], record["usage"]["output"]) == ("openai_completions", 7, 3)


@pytest.mark.parametrize("asks", [True, False])
async def test_a_vendors_own_stream_passes_and_is_charged_by_its_usage(here: Here, asks: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if asks else {}
    before = await here.charged()
    stream = await here.client.completions.create(model=here.own, prompt="one", max_tokens=3, stream=True, **options)
    chunks = [chunk async for chunk in stream]

    assert [chunk.choices[0].text for chunk in chunks if chunk.choices] == [*PIECES, ""]
    assert here.vendor.requests[-1].json["stream_options"] == {"include_usage": True}
    assert [chunk.usage is not None for chunk in chunks if not chunk.choices] == [True] * asks
    assert await here.charged() > before


async def test_a_vendors_refusal_arrives_in_openais_shape(here: Here) -> None:
    path = next(path for path in here.vendor.by_path if path.endswith("/completions"))
    served = here.vendor.by_path[path]
    here.vendor.by_path[path] = Script(status=400, json_body=failure("prompt too long", "invalid_request_error"))
    try:
        with pytest.raises(openai.BadRequestError, match="prompt too long"):
            await here.client.completions.create(model=here.own, prompt="one")
    finally:
        here.vendor.by_path[path] = served


async def test_an_unknown_model_gets_near_names(here: Here) -> None:
    status, told = await here.post(model="sandbox/ecko", prompt="a")

    assert status == 404
    assert "sandbox/echo" in told["error"]["message"]


@pytest.mark.parametrize("streams", [False, True])
async def test_a_vendors_failure_before_the_first_word_is_openais_error(here: Here, streams: bool) -> None:
    before = await here.charged()
    with pytest.raises(openai.InternalServerError) as raised:
        await here.client.completions.create(model="sandbox/fail", prompt="500", stream=streams)

    body: Any = raised.value.body
    assert body["code"] == "vendor_error"
    assert body.keys() >= {"message", "type", "code", "param", "request_id"}
    assert await here.charged() == before


async def until_it_fails(stream: openai.AsyncStream[Completion]) -> tuple[list[str], openai.APIError]:
    told: list[str] = []
    try:
        async for chunk in stream:
            told.append(chunk.choices[0].text)
    except openai.APIError as error:
        return told, error
    raise AssertionError(f"it ended as if it were whole: {told}")


async def test_a_vendors_failure_after_the_first_word_ends_the_stream_with_an_error(here: Here) -> None:
    stream = await here.client.completions.create(
        model="sandbox/fail-after", prompt="one two three four 500", max_tokens=50, stream=True
    )
    told, failed = await until_it_fails(stream)

    assert "".join(told).split() == ["one", "two", "three"]
    assert failed.code == "vendor_error"


async def test_a_vendors_own_stream_that_breaks_off_ends_with_an_error(here: Here) -> None:
    path = next(path for path in here.vendor.by_path if path.endswith("/completions"))
    served = here.vendor.by_path[path]

    def broken(request: Request) -> Script:
        frames = text_completion(request).frames
        assert frames is not None
        return Script(frames=frames, breaks=Break(how="close", after_frames=2))

    here.vendor.by_path[path] = broken
    try:
        stream = await here.client.completions.create(model=here.own, prompt="one", max_tokens=3, stream=True)
        told, _ = await until_it_fails(stream)
    finally:
        here.vendor.by_path[path] = served
    assert told == list(PIECES[:2])


async def test_no_credit_is_told_with_the_way_to_more(here: Here) -> None:
    key = await here.place.customer(None)
    async with here.place.client(api_key=key) as poor:
        for streams in (False, True):
            with pytest.raises(openai.APIStatusError) as raised:
                await poor.completions.create(model=CHAT, prompt="a", stream=streams)
            body: Any = raised.value.body
            assert (raised.value.status_code, body["code"]) == (402, "insufficient_credits")
            assert body["top_up_url"].startswith("http")


async def test_little_credit_never_makes_an_answer_longer_than_the_dialects_own_limit(here: Here) -> None:
    """Where no limit is asked for, the one that credit sets must not stand in place of the usual 16 tokens."""
    async with here.place.client(api_key=await here.place.customer("0.001")) as poor:
        await poor.completions.create(model=CHAT, prompt="Once")
        await poor.completions.create(model=here.own, prompt="Once")

    assert here.place.alpha.requests[-1].json["max_tokens"] == 16
    assert here.vendor.requests[-1].json["max_tokens"] == 16
