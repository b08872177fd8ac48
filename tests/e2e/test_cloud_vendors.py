"""The clouds' vendors behind a real gateway: what OpenAI's and Anthropic's official clients get, and what it costs."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from anyio import to_thread

from domain.ids import ModelId, PriceId, VendorSlug
from domain.money import Usd
from domain.pricing import Price, PriceSource, Rates
from tests.e2e.conftest import WIDE_LIMITS, Place, beside, priced, set_prices, vendor_settings
from tests.e2e.processes import GatewayProcess
from tests.fakes import bedrock_upstream as bedrock
from tests.fakes import gemini_upstream as gemini
from tests.fakes.bedrock_upstream import BedrockUpstream
from tests.fakes.gemini_upstream import GeminiUpstream, VertexUpstream
from tests.fakes.upstream import Break, Script, Upstream

pytestmark = pytest.mark.anyio

FLASH = "google/gemini-2.5-flash"
PRO = "google/gemini-3.1-pro-preview"
DRAWS = "google/gemini-3.1-flash-image"
CLOUD = "google/gemini-2.5-pro"
"""Of Vertex AI alone."""
CLOUD_CLAUDE = "anthropic/claude-opus-4-5"
BEDROCK = "anthropic/claude-opus-4-8-20260115"
OWN = "acme/gemini-own"
"""Of a server of the operator's own that speaks Gemini."""
DEPLOYED = "openai/gpt-5.2-mini"
RATES = Rates(
    input=Usd.parse("1").nanos,
    output=Usd.parse("2").nanos,
    cache_read=Usd.parse("0.1").nanos,
    cache_write_5m=Usd.parse("1.25").nanos,
    cache_write_1h=Usd.parse("2").nanos,
    reasoning=Usd.parse("3").nanos,
    image_in=Usd.parse("4").nanos,
    image_out=Usd.parse("60").nanos,
)
SERVED = {
    "gemini": (FLASH, PRO, DRAWS),
    "vertex": (CLOUD, CLOUD_CLAUDE),
    "bedrock": (BEDROCK,),
    "own": (OWN,),
    "azure": (DEPLOYED,),
}
WEATHER: Any = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
HELLO: Any = [{"role": "user", "content": "Hello"}]


@dataclass
class Clouds(Place):
    gemini: GeminiUpstream = None  # type: ignore[assignment]
    vertex: VertexUpstream = None  # type: ignore[assignment]
    bedrock: BedrockUpstream = None  # type: ignore[assignment]
    azure: Upstream = None  # type: ignore[assignment]

    clients: list[Any] = field(default_factory=list)

    def client(self, **options: Any) -> openai.AsyncOpenAI:
        client = super().client(**options)
        self.clients.append(client)
        return client

    def anthropic(self) -> anthropic.AsyncAnthropic:
        client = anthropic.AsyncAnthropic(base_url=self.gateway.base_url, api_key=self.key, max_retries=0, timeout=20.0)
        self.clients.append(client)
        return client


@pytest.fixture(scope="module")
async def module_clouds(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Clouds]:
    directory: Path = tmp_path_factory.mktemp("gateway")
    async with AsyncExitStack() as stack:
        alpha = await stack.enter_async_context(Upstream())
        beta = await stack.enter_async_context(Upstream())
        azure = await stack.enter_async_context(Upstream())
        google = await stack.enter_async_context(
            GeminiUpstream(models=(gemini.MODEL, gemini.NEWER, gemini.DRAWS), page=2)
        )
        vertex = await stack.enter_async_context(VertexUpstream(models=("gemini-2.5-pro",)))
        amazon = await stack.enter_async_context(BedrockUpstream())
        settings = vendor_settings(alpha, beta)
        rows = json.loads(settings["GATEWAYZ_VENDORS"])
        rows.append(
            {"slug": "own", "base_url": google.base_url, "wire": "gemini", "api_key": "own-secret", "models": [OWN]}
        )
        (directory / "google.json").write_text(json.dumps(vertex.credential))
        settings |= {
            "GATEWAYZ_VENDORS": json.dumps(rows),
            "GEMINI_API_KEY": "AIza-secret-0001",
            "GEMINI_BASE_URL": google.base_url,
            "GOOGLE_APPLICATION_CREDENTIALS": str(directory / "google.json"),
            "VERTEX_BASE_URL": vertex.base_url,
            "VERTEX_MODELS": CLOUD_CLAUDE,
            "AWS_ACCESS_KEY_ID": bedrock.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": bedrock.SECRET_KEY,
            "AWS_REGION": bedrock.REGION,
            "BEDROCK_BASE_URL": amazon.base_url,
            "AZURE_API_KEY": "azure-secret-0001",
            "AZURE_BASE_URL": azure.base_url,
            "AZURE_DEPLOYMENTS": f"my-mini={DEPLOYED}",
        }
        gateway = GatewayProcess(directory, **WIDE_LIMITS | settings)
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=gateway.base_url, timeout=30.0))
        await to_thread.run_sync(gateway.start)
        place = Clouds(gateway, alpha, beta, http, gemini=google, vertex=vertex, bedrock=amazon, azure=azure)
        try:
            async with beside(gateway) as container:
                for vendor, models in SERVED.items():
                    for model in models:
                        await container.adapters.prices().add(
                            Price(
                                id=PriceId(f"test:{vendor}:{model}"),
                                vendor=VendorSlug(vendor),
                                model=ModelId(model),
                                rates=RATES,
                                valid_from=datetime(2026, 1, 1, tzinfo=UTC),
                                source=PriceSource.OPERATOR,
                            )
                        )
            await set_prices(gateway)
            await priced(place)
            yield place
        finally:
            await to_thread.run_sync(gateway.stop)


@pytest.fixture
async def clouds(module_clouds: Clouds) -> AsyncIterator[Clouds]:
    for vendor in (module_clouds.gemini, module_clouds.vertex, module_clouds.bedrock, module_clouds.azure):
        vendor.requests.clear()
        vendor.by_model.clear()
    logged = len(module_clouds.log())
    yield module_clouds
    for client in module_clouds.clients:
        await client.close()
    module_clouds.clients.clear()
    log = module_clouds.log()
    assert "Traceback" not in log[logged:], "an unforeseen error is in the gateway's log"
    for secret in ("AIza-secret", "PRIVATE KEY", bedrock.SECRET_KEY, "azure-secret", "ya29."):
        assert secret not in log


@pytest.mark.parametrize("model", [FLASH, CLOUD, CLOUD_CLAUDE, BEDROCK, OWN, DEPLOYED])
async def test_whole_and_streamed_for_openais_client(clouds: Clouds, model: str) -> None:
    whole = await clouds.client().chat.completions.create(model=model, messages=HELLO, max_tokens=100)
    text = whole.choices[0].message.content
    assert text is not None
    assert text.startswith("Hello from the fake")
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (11, 6)

    said, usage = "", None
    stream = await clouds.client().chat.completions.create(
        model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    async for chunk in stream:
        said += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        usage = chunk.usage or usage
    assert said == text
    assert usage is not None
    assert usage.completion_tokens == 6
    await clouds.verify()


@pytest.mark.parametrize("model", [FLASH, CLOUD, CLOUD_CLAUDE, BEDROCK, DEPLOYED])
async def test_whole_and_streamed_for_anthropics_client(clouds: Clouds, model: str) -> None:
    client = clouds.anthropic()
    whole = await client.messages.create(model=model, messages=HELLO, max_tokens=100)
    assert whole.content[0].type == "text"
    assert whole.stop_reason == "end_turn"
    async with client.messages.stream(model=model, messages=HELLO, max_tokens=100) as stream:
        final = await stream.get_final_message()
    assert final.content[0].type == "text"
    assert final.content[0].text == whole.content[0].text
    assert (final.usage.input_tokens, final.usage.output_tokens) == (11, 6)


async def test_gemini_usage_costs_exactly_what_it_should(clouds: Clouds) -> None:
    """362 fresh, 400 cached, 258 of pictures in, 30 out, 50 thought."""
    for streamed in (False, True):
        clouds.gemini.by_model[gemini.MODEL] = gemini.says(gemini.TEXT, usage=gemini.GOLDEN)
        before = await clouds.charged()
        answer = await clouds.chat(FLASH, stream=streamed)
        assert answer.status == 200
        assert await clouds.charged() - before == 362 * 1_000 + 400 * 100 + 258 * 4_000 + 30 * 2_000 + 50 * 3_000
    await clouds.verify()


async def test_bedrock_usage_costs_exactly_what_it_should(clouds: Clouds) -> None:
    """100 fresh, 800 read, 200 and 100 written, 50 out."""
    for streamed in (False, True):
        clouds.bedrock.by_model[bedrock.MODEL] = bedrock.says(bedrock.TEXT, usage=bedrock.GOLDEN)
        before = await clouds.charged()
        answer = await clouds.chat(BEDROCK, stream=streamed)
        assert answer.status == 200
        assert await clouds.charged() - before == 100 * 1_000 + 800 * 100 + 200 * 1_250 + 100 * 2_000 + 50 * 2_000
    await clouds.verify()


async def test_parallel_calls_come_back_with_their_signature_through_openais_client(clouds: Clouds) -> None:
    calls = (gemini.call(signed=True), gemini.call("get_time", zone="UTC"))
    clouds.gemini.by_model[gemini.NEWER] = gemini.says(gemini.THOUGHT, *calls, model=gemini.NEWER)
    client = clouds.client()
    asked: Any = {"model": PRO, "tools": [WEATHER], "reasoning_effort": "high"}
    first = await client.chat.completions.create(messages=HELLO, **asked)
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls is not None
    assert [call.function.name for call in message.tool_calls] == ["get_weather", "get_time"]

    # As agents send it back: the whole message, and the results.
    clouds.gemini.by_model.clear()
    results: Any = [{"role": "tool", "tool_call_id": call.id, "content": "21"} for call in message.tool_calls]
    sent: Any = [*HELLO, message.model_dump(exclude_none=True), *results]
    await client.chat.completions.create(messages=sent, **asked)

    contents = clouds.gemini.requests[-1].json["contents"]
    said = [part for part in contents[1]["parts"] if "functionCall" in part]
    assert said[0]["thoughtSignature"] == gemini.SIGNATURE
    assert "thoughtSignature" not in said[1]
    assert [part["functionResponse"]["name"] for part in contents[2]["parts"]] == ["get_weather", "get_time"]
    thinking = clouds.gemini.requests[-1].json["generationConfig"]["thinkingConfig"]
    assert thinking == {"includeThoughts": True, "thinkingLevel": "HIGH"}


async def test_a_call_comes_back_with_its_signature_through_anthropics_stream(clouds: Clouds) -> None:
    clouds.gemini.by_model[gemini.NEWER] = gemini.says(gemini.THOUGHT, gemini.call(signed=True), model=gemini.NEWER)
    client = clouds.anthropic()
    tools: Any = [{"name": "get_weather", "input_schema": {"type": "object"}}]
    async with client.messages.stream(model=PRO, messages=HELLO, max_tokens=4_000, tools=tools) as stream:
        message = await stream.get_final_message()
    assert message.stop_reason == "tool_use"
    call = next(block for block in message.content if block.type == "tool_use")

    clouds.gemini.by_model.clear()
    result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": "21"}
    sent: Any = [
        *HELLO,
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in message.content]},
        {"role": "user", "content": [result]},
    ]
    await client.messages.create(model=PRO, messages=sent, max_tokens=4_000, tools=tools)

    parts = clouds.gemini.requests[-1].json["contents"][1]["parts"]
    assert [part["thoughtSignature"] for part in parts if "functionCall" in part] == [gemini.SIGNATURE]


async def test_claudes_thoughts_go_through_bedrock_and_back(clouds: Clouds) -> None:
    blocks = (bedrock.THOUGHT, bedrock.REDACTED, bedrock.tool_use())
    clouds.bedrock.by_model[bedrock.MODEL] = bedrock.says(*blocks)
    client = clouds.anthropic()
    tools: Any = [{"name": "get_weather", "input_schema": {"type": "object"}}]
    thinking: Any = {"type": "adaptive"}
    asked: Any = {"model": BEDROCK, "max_tokens": 4_000, "tools": tools, "thinking": thinking}
    async with client.messages.stream(messages=HELLO, **asked) as stream:
        message = await stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "redacted_thinking", "tool_use"]
    assert message.content[0].signature == bedrock.SIGNATURE  # type: ignore[union-attr]

    clouds.bedrock.by_model.clear()
    result: Any = {"type": "tool_result", "tool_use_id": "tooluse_1", "content": "21"}
    sent: Any = [
        *HELLO,
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in message.content]},
        {"role": "user", "content": [result]},
    ]
    await client.messages.create(messages=sent, **asked)

    request = clouds.bedrock.requests[-1].json
    assert request["messages"][1]["content"] == list(blocks)
    assert request["additionalModelRequestFields"]["thinking"] == {"type": "adaptive"}
    assert clouds.bedrock.requests[-1].path.startswith("/model/us.anthropic.claude-opus-4-8-20260115-v1%3A0/")


async def test_a_picture_goes_in_and_a_linked_one_is_refused(clouds: Clouds) -> None:
    def content(url: str) -> Any:
        return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]

    answer = await clouds.chat(FLASH, messages=content(f"data:image/png;base64,{gemini.PNG}"))
    assert answer.status == 200
    part = clouds.gemini.requests[-1].json["contents"][0]["parts"][0]
    assert part == {"inlineData": {"mimeType": "image/png", "data": gemini.PNG}}

    refused = await clouds.chat(FLASH, messages=content("https://example.test/a.png"))
    assert refused.status == 400
    assert refused.error["code"] == "unsupported_parameter"
    assert "send the file itself" in refused.error["message"]


async def test_a_picture_is_drawn_and_charged_by_its_tokens(clouds: Clouds) -> None:
    before = await clouds.charged()
    drawn = await clouds.client().images.generate(model=DRAWS, prompt="A cat", size="1536x1024", quality="high")
    assert drawn.data is not None
    assert base64.b64decode(drawn.data[0].b64_json or "").startswith(b"\x89PNG")
    config = clouds.gemini.requests[-1].json["generationConfig"]
    assert config["imageConfig"] == {"aspectRatio": "3:2", "imageSize": "1K"}
    assert drawn.usage is not None
    assert drawn.usage.output_tokens == 1_120
    assert await clouds.charged() - before == 11 * 1_000 + 1_120 * 60_000

    refused = await clouds.http.post(
        "/v1/images/generations",
        json={"model": DRAWS, "prompt": "A cat", "size": "1000x17"},
        headers={"Authorization": f"Bearer {clouds.key}"},
    )
    assert refused.status_code == 400
    assert "ratios" in refused.json()["error"]["message"]


async def test_errors_are_told_in_the_callers_dialect(clouds: Clouds) -> None:
    clouds.gemini.by_model[gemini.MODEL] = gemini.too_long()
    too_long = await clouds.chat(FLASH)
    assert (too_long.status, too_long.error["code"]) == (400, "context_length_exceeded")
    clouds.gemini.by_model[gemini.MODEL] = Script(json_body=gemini.blocked("PROHIBITED_CONTENT"))
    blocked = await clouds.chat(FLASH)
    assert (blocked.status, blocked.json["choices"][0]["finish_reason"]) == (200, "content_filter")
    clouds.gemini.by_model[gemini.MODEL] = gemini.says(gemini.TEXT, finish="MALFORMED_FUNCTION_CALL")
    assert (await clouds.chat(FLASH)).status >= 500
    clouds.bedrock.by_model[bedrock.MODEL] = bedrock.streams(
        [
            bedrock.frame("messageStart", {"role": "assistant"}),
            bedrock.frame("contentBlockDelta", {"delta": {"text": "Hel"}, "contentBlockIndex": 0}),
            bedrock.frame("modelStreamErrorException", {"message": "it broke"}, "exception"),
        ]
    )
    broken = await clouds.chat(BEDROCK, stream=True)
    assert b"Hel" in broken.body
    assert "error" in broken.events[-1]
    await clouds.verify()


async def test_who_leaves_ends_the_vendors_work(clouds: Clouds) -> None:
    frames = gemini.stream(gemini.answer({"text": "word " * 200}))
    clouds.gemini.by_model[gemini.MODEL] = gemini.streams(frames, Break(how="stall", after_frames=20))
    body = {"model": FLASH, "messages": HELLO, "stream": True}
    headers = {"Authorization": f"Bearer {clouds.key}"}
    async with clouds.http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
        async for piece in response.aiter_raw():
            if b"word" in piece:
                break
    await clouds.gemini.wait_closed(0)
    await clouds.verify()


async def test_a_withdrawn_token_is_fetched_anew(clouds: Clouds) -> None:
    assert (await clouds.chat(CLOUD)).status == 200
    clouds.vertex.withdrawn.add(f"ya29.token-{clouds.vertex.tokens_given}")

    assert (await clouds.chat(CLOUD)).status == 200
    used = [r.headers["authorization"] for r in clouds.vertex.requests if "publishers" in r.path]
    assert len(set(used)) == 2
    path = f"/v1/projects/{clouds.vertex.PROJECT}/locations/global/publishers/google/models/gemini-2.5-pro"
    assert clouds.vertex.requests[-1].path == f"{path}:generateContent"


async def test_the_key_of_azure_goes_in_its_own_header(clouds: Clouds) -> None:
    await clouds.chat(DEPLOYED)
    request = clouds.azure.requests[-1]
    assert request.headers["api-key"] == "azure-secret-0001"
    assert "authorization" not in request.headers
    assert request.json["model"] == "my-mini"


async def test_what_cannot_be_said_is_named(clouds: Clouds) -> None:
    answer = await clouds.chat(FLASH, parallel_tool_calls=False, tools=[WEATHER], user="me", logit_bias={"1": 2})
    assert answer.headers["x-gatewayz-dropped-params"] == "logit_bias, parallel_tool_calls, user"
