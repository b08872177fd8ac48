"""One suite over the vendors of the clouds, each in its true shapes over a real socket, asked in OpenAI's words.

`pytest -s tests/contracts/test_cloud_vendors.py` prints the table of vendors and cases at its end.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace

from adapters.dialects.callers import CALLERS
from adapters.dialects.openai_chat.server import read_request
from adapters.dialects.translation import TranslatedVendor
from adapters.transport.aws_signing import AwsCredentials
from adapters.transport.google_auth import GoogleTokens, read_credential
from adapters.transport.http import VendorHttp
from adapters.vendors.azure import AZURE, AzureVendor
from adapters.vendors.bedrock import BearerKey, BedrockVendor, Signer
from adapters.vendors.gemini import GEMINI, GeminiVendor
from adapters.vendors.vertex import VertexPlace, VertexVendor
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
from domain.ports.vendors import ChatStream, ChatVendor, ModelLister
from domain.usage import Usage
from tests.fakes import anthropic_upstream as claude
from tests.fakes import bedrock_upstream as bedrock
from tests.fakes import gemini_upstream as gemini
from tests.fakes import upstream as openai
from tests.fakes.time import FakeClock
from tests.fakes.upstream import Break, Script, Upstream

pytestmark = pytest.mark.anyio

KEY = "AIza-our-own-secret"
CASES = ("whole", "stream", "tools", "reasoning", "images in", "usage", "errors", "models list", "disconnect")
TABLE: dict[tuple[str, str], bool] = {}
PNG = gemini.PNG
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@dataclass(frozen=True)
class Shape:
    """How one vendor says things."""

    name: str
    model: str
    upstream: type[Upstream]
    build: Callable[[Any, VendorHttp], tuple[ChatVendor, ModelLister]]
    says: Callable[..., Any]
    """A script of an answer with a thought, two calls, or the golden usage."""
    counted: Usage
    overloaded: Callable[[], Script]
    limited: Callable[[], Script]
    too_long: Callable[[], Script]
    key_refused: Callable[[], Script]
    text: str
    listed: str
    thought: str | None = "Let me see."

    @property
    def path_model(self) -> str:
        """As the fake knows it."""
        return self.model.rpartition("/")[2] if self.name.startswith("vertex") else self.model


def _gemini(upstream: gemini.GeminiUpstream, http: VendorHttp) -> tuple[ChatVendor, ModelLister]:
    vendor = GeminiVendor(GEMINI, upstream.base_url, KEY, http)
    return TranslatedVendor((vendor.wire,), CALLERS, vendor.endpoints), vendor


def _vertex(upstream: gemini.VertexUpstream, http: VendorHttp) -> tuple[ChatVendor, ModelLister]:
    source = read_credential(json.dumps(upstream.credential)).source
    tokens = GoogleTokens(source, http, FakeClock())
    place = VertexPlace(project=upstream.PROJECT, location="europe-west4", base_url=upstream.base_url)
    vendor = VertexVendor(place, tokens, http, CALLERS, ("anthropic/claude-opus-4-5", "meta/llama-4"))
    return vendor, vendor


def _azure(upstream: Upstream, http: VendorHttp) -> tuple[ChatVendor, ModelLister]:
    vendor = AzureVendor(AZURE, f"{upstream.base_url}", KEY, http, ("my-mini=openai/gpt-5.2-mini", "gpt-5.2"))
    return TranslatedVendor((vendor.wire,), CALLERS, vendor.endpoints), vendor


def _bedrock(upstream: bedrock.BedrockUpstream, http: VendorHttp) -> tuple[ChatVendor, ModelLister]:
    vendor = BedrockVendor(upstream.base_url, upstream.base_url, BearerKey(bedrock.BEARER), http)
    return TranslatedVendor((vendor.wire,), CALLERS), vendor


def _signed(upstream: bedrock.BedrockUpstream, http: VendorHttp) -> tuple[ChatVendor, ModelLister]:
    credentials = AwsCredentials(bedrock.ACCESS_KEY, bedrock.SECRET_KEY)
    signer = Signer(credentials, bedrock.REGION, FakeClock())
    vendor = BedrockVendor(upstream.base_url, upstream.base_url, signer, http)
    return TranslatedVendor((vendor.wire,), CALLERS), vendor


def _gemini_says(kind: str) -> Any:
    calls = (gemini.call(signed=True), gemini.call("get_time", zone="UTC"))
    parts = {"tools": calls, "reasoning": (gemini.THOUGHT, gemini.TEXT), "usage": (gemini.TEXT,)}[kind]
    return gemini.says(*parts, usage=gemini.GOLDEN if kind == "usage" else None)


def _bedrock_says(kind: str) -> Any:
    calls = (bedrock.tool_use(), bedrock.tool_use("tooluse_2", "get_time", zone="UTC"))
    blocks = {"tools": calls, "reasoning": (bedrock.THOUGHT, bedrock.TEXT), "usage": (bedrock.TEXT,)}[kind]
    return bedrock.says(*blocks, usage=bedrock.GOLDEN if kind == "usage" else None)


def _claude_says(kind: str) -> Any:
    calls = (claude.tool_use(), claude.tool_use("toolu_2", "get_time", zone="UTC"))
    blocks = {"tools": calls, "reasoning": (claude.THINKING, claude.TEXT), "usage": (claude.TEXT,)}[kind]
    counts = claude.token_usage(50, cache_read_input_tokens=800, cache_creation_input_tokens=300)

    def script(request: openai.Request) -> Script:
        whole = claude.message(*blocks, usage=counts if kind == "usage" else None)
        return claude.streams(claude.stream(whole)) if ":stream" in request.path else Script(json_body=whole)

    return script


def _azure_says(kind: str) -> Any:
    calls = (
        openai.ToolCall(),
        openai.ToolCall(id="call_0002", name="get_time", arguments='{"zone":"UTC"}'),
    )
    usage = openai.token_usage(1_000, 30, cached=400) if kind == "usage" else None

    def script(request: openai.Request) -> Script:
        reply = openai.Reply(tool_calls=calls) if kind == "tools" else openai.Reply(reasoning=("Let me", " see."))
        if usage is not None:
            reply = openai.Reply(usage=usage)
        if not request.json.get("stream"):
            return Script(reply=reply)
        first = {
            "id": "",
            "object": "",
            "created": 0,
            "model": "",
            "choices": [],
            "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False}}}],
        }
        return Script(frames=[first, *reply.streamed("gpt", include_usage=True)])

    return script


_GEMINI_USAGE = Usage(input=362, cache_read=400, image_in=258, output=30, reasoning=50, requests=1)
_BEDROCK_USAGE = Usage(input=100, cache_read=800, cache_write_5m=200, cache_write_1h=100, output=50, requests=1)
_GOOGLE: dict[str, Any] = {
    "overloaded": lambda: gemini.refused(503, "UNAVAILABLE", "The model is overloaded."),
    "limited": gemini.exhausted,
    "too_long": gemini.too_long,
    "key_refused": lambda: gemini.refused(403, "PERMISSION_DENIED", "Permission denied"),
}
_AMAZON: dict[str, Any] = {
    "says": _bedrock_says,
    "counted": _BEDROCK_USAGE,
    "overloaded": lambda: bedrock.refused(503, "ServiceUnavailableException"),
    "limited": lambda: bedrock.refused(429, "ThrottlingException", "Too many requests"),
    "too_long": lambda: bedrock.refused(400, "ValidationException", "Input is too long for requested model."),
    "key_refused": lambda: bedrock.refused(403, "AccessDeniedException", "You don't have access"),
    "text": bedrock.TEXT["text"],
    "listed": "anthropic/claude-opus-4-8-20260115",
    "model": bedrock.MODEL,
    "upstream": bedrock.BedrockUpstream,
}
SHAPES = (
    Shape(
        name="gemini",
        model="models/gemini-2.5-flash",
        upstream=gemini.GeminiUpstream,
        build=_gemini,
        says=_gemini_says,
        counted=_GEMINI_USAGE,
        text=gemini.TEXT["text"],
        listed="gemini-2.5-flash",
        **_GOOGLE | {"key_refused": gemini.bad_key},
    ),
    Shape(
        name="vertex",
        model="publishers/google/models/gemini-2.5-flash",
        upstream=gemini.VertexUpstream,
        build=_vertex,
        says=_gemini_says,
        counted=_GEMINI_USAGE,
        text=gemini.TEXT["text"],
        listed="gemini-2.5-flash",
        **_GOOGLE,
    ),
    Shape(
        name="vertex-claude",
        model="anthropic/claude-opus-4-5",
        upstream=gemini.VertexUpstream,
        build=_vertex,
        says=_claude_says,
        counted=Usage(input=11, cache_read=800, cache_write_5m=300, output=50, requests=1),
        text=claude.TEXT["text"],
        listed="anthropic/claude-opus-4-5",
        **_GOOGLE | {"too_long": lambda: claude.refused(400, "invalid_request_error", "prompt is too long: 9 > 8")},
    ),
    Shape(
        name="azure",
        model="my-mini",
        upstream=Upstream,
        build=_azure,
        says=_azure_says,
        counted=Usage(input=600, cache_read=400, output=30, requests=1),
        overloaded=openai.overloaded,
        limited=openai.rate_limited,
        too_long=lambda: openai.bad_request("This model's maximum context length is 8", "context_length_exceeded"),
        key_refused=lambda: Script(status=401, json_body={"error": {"code": "401", "message": "Access denied"}}),
        text="Hello from the fake upstream.",
        listed="openai/gpt-5.2-mini",
    ),
    Shape(name="bedrock-bearer", build=_bedrock, **_AMAZON),
    Shape(name="bedrock-sigv4", build=_signed, **_AMAZON),
)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    yield
    width = max(len(shape.name) for shape in SHAPES)
    lines = [" | ".join((f"{'vendor':{width}}", *CASES))]
    for shape in SHAPES:
        marks = ("pass" if TABLE.get((shape.name, case)) else "FAIL" for case in CASES)
        cells = (f"{mark:{len(case)}}" for mark, case in zip(marks, CASES, strict=True))
        lines.append(" | ".join((f"{shape.name:{width}}", *cells)))
    sys.stdout.write("\n" + "\n".join(lines) + "\n")


def passed(shape: Shape, case: str) -> None:
    TABLE[shape.name, case] = True


@dataclass
class Place:
    shape: Shape
    upstream: Any
    vendor: ChatVendor
    lister: ModelLister

    def script(self, script: Any) -> None:
        self.upstream.by_model[self.shape.path_model.removeprefix("models/")] = script

    def call(self, **members: Any) -> ChatCall:
        body = {"model": "acme/m", "messages": [{"role": "user", "content": "hi"}], **members}
        return ChatCall(
            request=read_request(json.dumps(body).encode()),
            vendor_model=self.shape.model,
            first_byte_s=5,
            id="r1",
            at_s=1_760_000_000,
        )

    async def whole(self, **members: Any) -> Any:
        return json.loads((await self.vendor.complete(self.call(**members))).body)

    async def streamed(self, **members: Any) -> tuple[ChatStream, list[Any]]:
        stream = await self.vendor.stream(self.call(stream=True, stream_options={"include_usage": True}, **members))
        read = b"".join([piece async for piece in stream])
        assert read.endswith(b"data: [DONE]\n\n")
        return stream, [json.loads(each[6:]) for each in read.split(b"\n\n") if each.startswith(b"data: {")]

    @property
    def asked(self) -> Any:
        """What the vendor was sent last, its model aside."""
        return [r for r in self.upstream.requests if r.path != "/token"][-1].json


@asynccontextmanager
async def place(shape: Shape) -> AsyncIterator[Place]:
    async with shape.upstream() as upstream:
        http = VendorHttp(shape.name, secrets=(KEY,))
        vendor, lister = shape.build(upstream, http)
        yield Place(shape, upstream, vendor, lister)
        await http.close()


@shapes
async def test_whole(shape: Shape) -> None:
    async with place(shape) as at:
        answer = await at.vendor.complete(at.call(max_completion_tokens=50, temperature=0.5))

        told = json.loads(answer.body)
        assert told["choices"][0]["message"]["content"] == shape.text
        assert told["choices"][0]["finish_reason"] == "stop"
        assert answer.usage is not None
        assert (answer.usage.input, answer.usage.output) == (11, 6)
        assert "50" in json.dumps(at.asked)
        # What credit cannot pay is not asked for.
        await at.vendor.complete(replace(at.call(max_completion_tokens=50), output_limit=17))
        assert "17" in json.dumps(at.asked)
        assert "50" not in json.dumps(at.asked)
    passed(shape, "whole")


@shapes
async def test_stream(shape: Shape) -> None:
    async with place(shape) as at:
        stream, chunks = await at.streamed()

        said = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
        assert said == shape.text
        assert chunks[-1]["usage"]["completion_tokens"] == 6
        assert stream.started
        assert stream.usage is not None
        assert stream.finish_reason
    passed(shape, "stream")


@shapes
async def test_tools(shape: Shape) -> None:
    """Two calls at once, whole and streamed, and their results on the way back."""
    async with place(shape) as at:
        at.script(shape.says("tools"))
        told = await at.whole(tools=[WEATHER], tool_choice="required")
        message = told["choices"][0]["message"]
        calls = message["tool_calls"]
        assert [call["function"]["name"] for call in calls] == ["get_weather", "get_time"]
        assert json.loads(calls[1]["function"]["arguments"]) == {"zone": "UTC"}
        assert told["choices"][0]["finish_reason"] == "tool_calls"
        assert len({call["id"] for call in calls}) == 2

        _, chunks = await at.streamed(tools=[WEATHER])
        deltas = [d for c in chunks if c["choices"] for d in c["choices"][0]["delta"].get("tool_calls") or ()]
        written = "".join(d["function"].get("arguments") or "" for d in deltas if d["index"] == 0)
        assert json.loads(written)["city"] == "Zürich"

        # The results may come in any order.
        results = [{"role": "tool", "tool_call_id": call["id"], "content": "ok"} for call in reversed(calls)]
        del at.upstream.by_model[shape.path_model.removeprefix("models/")]
        again = await at.whole(messages=[{"role": "user", "content": "hi"}, message, *results], tools=[WEATHER])
        assert again["choices"][0]["message"]["content"] == shape.text
    passed(shape, "tools")


@shapes
async def test_reasoning(shape: Shape) -> None:
    async with place(shape) as at:
        at.script(shape.says("reasoning"))
        told = await at.whole(reasoning_effort="high", max_completion_tokens=30_000)
        message = told["choices"][0]["message"]
        assert message["reasoning_content"] == shape.thought
        _, chunks = await at.streamed(reasoning_effort="high", max_completion_tokens=30_000)
        deltas = [c["choices"][0]["delta"] for c in chunks if c["choices"]]
        assert "".join(d.get("reasoning_content") or "" for d in deltas) == shape.thought
    passed(shape, "reasoning")


@shapes
async def test_images_in(shape: Shape) -> None:
    async with place(shape) as at:
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
        content = [{"type": "text", "text": "What is this?"}, image]
        await at.whole(messages=[{"role": "user", "content": content}])
        assert PNG in json.dumps(at.asked)
    passed(shape, "images in")


@shapes
async def test_usage(shape: Shape) -> None:
    """Golden counts, unnested the same way whole and streamed."""
    async with place(shape) as at:
        at.script(shape.says("usage"))
        whole = await at.vendor.complete(at.call())
        stream, _ = await at.streamed()
        assert whole.usage == shape.counted
        assert stream.usage == shape.counted
    passed(shape, "usage")


@shapes
async def test_errors(shape: Shape) -> None:
    async with place(shape) as at:
        for script, kind in (
            (shape.overloaded(), FaultKind.OVERLOADED),
            (shape.limited(), FaultKind.RATE_LIMITED),
            (shape.too_long(), FaultKind.CONTEXT_LENGTH),
            (shape.key_refused(), FaultKind.CREDENTIAL_REJECTED),
            (Script(status=500, body=b"<html>oops</html>"), FaultKind.SERVER_ERROR),
            (Script(body=b"<html>oops</html>"), FaultKind.MALFORMED),
        ):
            at.script(script)
            with pytest.raises(VendorFault) as refusal:
                await at.vendor.complete(at.call())
            assert refusal.value.kind is kind, refusal.value.message
            assert KEY not in refusal.value.message
            with pytest.raises(VendorFault):
                await at.vendor.stream(at.call(stream=True))
    passed(shape, "errors")


@shapes
async def test_models_list(shape: Shape) -> None:
    async with place(shape) as at:
        listed = await at.lister.list_models()
        assert any(shape.listed in (m.canonical, m.vendor_model, m.vendor_model.rpartition("/")[2]) for m in listed)
    passed(shape, "models list")


@shapes
async def test_disconnect(shape: Shape) -> None:
    """A stream that is left early hangs up on the vendor, and one that the vendor breaks off is told apart."""
    async with place(shape) as at:
        slow = shape.says("usage")
        at.script(lambda request: _changed(slow(request), frame_delay_s=0.02))
        stream = await at.vendor.stream(at.call(stream=True))
        async for _ in stream:
            if stream.started:
                break
        stream.close()
        await at.upstream.wait_closed(len(at.upstream.requests) - 1)
        assert stream.produced_tokens() >= 1

        at.script(lambda request: _changed(slow(request), breaks=Break(how="close", after_frames=4)))
        broken = await at.vendor.stream(at.call(stream=True))
        with pytest.raises(VendorFault) as fault:
            async for _ in broken:
                pass
        broken.close()
        assert fault.value.kind is FaultKind.BROKEN_OFF
    passed(shape, "disconnect")


def _changed(script: Script, **members: Any) -> Script:
    return dataclasses.replace(script, **members)
