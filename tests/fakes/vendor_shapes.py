"""What each vendor that speaks OpenAI's dialect truly sends: usage, streams, errors and models lists, as data.

The usage of each vendor comes with its own price list and with what it would charge, worked out by hand in
nano-dollars, so that a count in the wrong class shows as a wrong sum.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from domain.inference.faults import FaultKind
from domain.pricing import Rates
from domain.usage import Usage

Json = dict[str, Any]

THOUGHT: Final = "First add, then carry."
SAID: Final = "The sum is 42."
CALLS: Final = (("call_a1", "add", '{"a":40,"b":2}'), ("call_b2", "show", '{"value":{"n":42}}'))
CREATED: Final = 1_760_000_000

UsageAt = Literal["asked", "last", "finish", "every", "x_groq"]
ReasoningIn = Literal["none", "reasoning", "reasoning_content", "both", "details", "tags", "chunks"]
ToolsAs = Literal["standard", "whole", "no_index", "no_id", "object", "same_index", "interleaved", "repeated_name"]


@dataclass(frozen=True)
class Refusal:
    """One answer that is an error, and what it means."""

    status: int
    body: object
    kind: FaultKind
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after_s: int | None = None


@dataclass(frozen=True)
class Listed:
    """One row that its models list must be read into; rates in nano-dollars per million."""

    id: str
    context: int | None = None
    input: int | None = None
    output: int | None = None
    tools: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Shape:
    usage: Json
    counted: Usage
    rates: Rates
    cost_nanos: int
    """By the vendor's own arithmetic."""
    told_nanos: int | None = None
    """What the usage itself says that it cost."""
    usage_at: UsageAt = "asked"
    reasoning: ReasoningIn = "reasoning_content"
    tools: ToolsAs = "standard"
    finish: str = "stop"
    comment: str | None = None
    done: bool = True
    blank_lines_first: bool = False
    refusals: Sequence[Refusal] = ()
    stream_error: object = None
    """The event that ends a stream of status 200; None for OpenAI's."""
    stream_error_kind: FaultKind = FaultKind.SERVER_ERROR
    models: Mapping[str, object] = field(default_factory=dict)
    """By path behind the host, with its query; each page of the list."""
    listed: Sequence[Listed] = ()

    def answer(self, message: Json, finish: str | None = None) -> Json:
        choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish or self.finish}
        told: Json = {
            "id": "cmpl-1",
            "object": "chat.completion",
            "created": CREATED,
            "model": "m",
            "choices": [choice],
        }
        place = {"x_groq": {"id": "req_1", "usage": self.usage}} if self.usage_at == "x_groq" else {"usage": self.usage}
        return told | place

    def stream(self, deltas: Sequence[Json], finish: str | None = None) -> list[Json]:
        """The chunks of an answer in these deltas, with usage where the vendor puts it."""
        chunks = [self._chunk([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in deltas]
        chunks.append(self._chunk([{"index": 0, "delta": {}, "finish_reason": finish or self.finish}]))
        match self.usage_at:
            case "asked" | "last":
                chunks.append(self._chunk([]) | {"usage": self.usage})
            case "finish":
                chunks[-1]["usage"] = self.usage
            case "x_groq":
                chunks[-1]["x_groq"] = {"id": "req_1", "usage": self.usage}
            case "every":
                for number, chunk in enumerate(chunks, 1):
                    chunk["usage"] = self._so_far(number, len(chunks))
        return chunks

    def _so_far(self, number: int, of: int) -> Json:
        """Counts that grow with the stream."""
        if number == of:
            return self.usage
        prompt, written = self.usage["prompt_tokens"], self.usage["completion_tokens"] * number // of
        return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}

    @staticmethod
    def _chunk(choices: list[Json]) -> Json:
        return {"id": "cmpl-1", "object": "chat.completion.chunk", "created": CREATED, "model": "m", "choices": choices}

    def thinking_message(self) -> Json:
        match self.reasoning:
            case "none":
                return {"content": SAID}
            case "details":
                details = [{"type": "reasoning.text", "text": THOUGHT, "signature": "c2ln", "index": 0}]
                return {"content": SAID, "reasoning": THOUGHT, "reasoning_details": details}
            case "tags":
                return {"content": f"<think>{THOUGHT}</think>\n\n{SAID}"}
            case "chunks":
                thinking = {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}], "closed": True}
                return {"content": [thinking, {"type": "text", "text": SAID}]}
            case "both":
                return {"content": SAID, "reasoning": THOUGHT, "reasoning_content": THOUGHT}
            case name:
                return {"content": SAID, name: THOUGHT}

    def thinking_deltas(self) -> list[Json]:
        thought, said = _cut(THOUGHT), _cut(SAID)
        deltas: list[Json] = [{"role": "assistant", "content": ""}]
        match self.reasoning:
            case "none":
                pass
            case "details":
                pieces = [{"type": "reasoning.text", "text": piece, "index": 0} for piece in thought]
                deltas += [{"reasoning": piece["text"], "reasoning_details": [piece]} for piece in pieces]
                deltas.append({"reasoning_details": [{"type": "reasoning.text", "signature": "c2ln", "index": 0}]})
            case "tags":
                return [*deltas, *({"content": piece} for piece in _cut(f"<think>{THOUGHT}</think>\n\n{SAID}"))]
            case "chunks":
                chunks = [{"type": "thinking", "thinking": [{"type": "text", "text": piece}]} for piece in thought]
                deltas += [{"content": [chunk]} for chunk in chunks]
            case "both":
                deltas += [{"reasoning": piece, "reasoning_content": piece} for piece in thought]
            case name:
                deltas += [{name: piece} for piece in thought]
        return [*deltas, *({"content": piece} for piece in said)]

    def tool_message(self) -> Json:
        calls = [
            {"id": id_, "type": "function", "function": {"name": name, "arguments": self._arguments(arguments)}}
            for id_, name, arguments in CALLS
        ]
        return {"content": None, "tool_calls": calls}

    def _arguments(self, arguments: str) -> object:
        return json.loads(arguments) if self.tools == "object" else arguments

    def tool_deltas(self) -> list[Json]:
        told: list[list[Json]] = []
        for at, (id_, name, arguments) in enumerate(CALLS):
            index = 0 if self.tools == "same_index" else at
            head: Json = {"index": index, "id": id_, "type": "function", "function": {"name": name, "arguments": ""}}
            rest: list[Json] = [{"index": index, "function": {"arguments": piece}} for piece in _cut(arguments)]
            if self.tools in ("whole", "object"):
                head["function"]["arguments"] = self._arguments(arguments)
                rest = []
            if self.tools == "no_id":
                head["id"] = "null"
            if self.tools == "repeated_name":
                rest = [each | {"function": {"name": name, **each["function"]}} for each in rest]
            if self.tools == "no_index":
                for each in (head, *rest):
                    del each["index"]
            told.append([head, *rest])
        first, second = told
        if self.tools == "interleaved":
            order = [first[0], second[0], *(each for pair in zip(first[1:], second[1:], strict=False) for each in pair)]
            order += [each for each in (*first, *second) if each not in order]
        else:
            order = [*first, *second]
        return [{"role": "assistant", "content": None}, *({"tool_calls": [each]} for each in order)]


def _cut(text: str, length: int = 5) -> list[str]:
    return [text[at : at + length] for at in range(0, len(text), length)]


def counts(prompt: int, completion: int, **more: Any) -> Json:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **more}


def openai_error(message: str, kind: str = "invalid_request_error", code: str | int | None = None) -> Json:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def per_million(usd: str) -> int:
    """Nano-dollars per million of a price such as "2.5"."""
    whole, _, rest = usd.partition(".")
    return int(whole + rest.ljust(9, "0")[:9])


TOO_LONG: Final = "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."
EMPTY: Final = FaultKind.ACCOUNT_EMPTY
LIMITED: Final = FaultKind.RATE_LIMITED
REJECTED: Final = FaultKind.CREDENTIAL_REJECTED
OVERLOADED: Final = FaultKind.OVERLOADED
CONTEXT: Final = FaultKind.CONTEXT_LENGTH
USUAL: Final = (
    Refusal(400, openai_error(TOO_LONG, code="context_length_exceeded"), CONTEXT),
    Refusal(401, openai_error("Invalid API key", code="invalid_api_key"), REJECTED),
    Refusal(404, openai_error("The model does not exist", code="model_not_found"), FaultKind.MODEL_MISSING),
    Refusal(429, openai_error("Slow down", "rate_limit_exceeded"), LIMITED, {"Retry-After": "7"}, 7),
    Refusal(500, openai_error("Internal error", "server_error"), FaultKind.SERVER_ERROR),
    Refusal(503, openai_error("Overloaded", "overloaded"), OVERLOADED),
)
"""OpenAI's envelope, as most of them use it."""


def rates(input_: str, output: str, cache_read: str | None = None) -> Rates:
    cached = None if cache_read is None else per_million(cache_read)
    return Rates(input=per_million(input_), output=per_million(output), cache_read=cached)


def ids_only(*ids: str, **more: Any) -> Json:
    return {"object": "list", "data": [{"id": id_, "object": "model", "created": CREATED, **more} for id_ in ids]}


def row(id_: str, **more: Any) -> Json:
    return {"id": id_, "object": "model", "created": CREATED, **more}


PLAIN: Final[Json] = {
    "usage": counts(1_000, 500),
    "counted": Usage(input=1_000, output=500, requests=1),
    "rates": rates("0.27", "1.1"),
    "cost_nanos": 1_000 * 270 + 500 * 1_100,
}

SHAPES: Final[Mapping[str, Shape]] = {
    "openai": Shape(
        usage=counts(
            2_006,
            300,
            prompt_tokens_details={"cached_tokens": 1_920, "cache_write_tokens": 0, "audio_tokens": 0},
            completion_tokens_details={"reasoning_tokens": 192, "audio_tokens": 0},
        ),
        counted=Usage(input=86, cache_read=1_920, output=108, reasoning=192, requests=1),
        rates=rates("1.25", "10", "0.125"),
        cost_nanos=86 * 1_250 + 1_920 * 125 + 300 * 10_000,
        reasoning="none",
        refusals=(
            *USUAL,
            Refusal(429, openai_error("You exceeded your quota", "insufficient_quota", "insufficient_quota"), EMPTY),
            Refusal(
                429,
                openai_error("Limit reached", "requests", "rate_limit_exceeded"),
                LIMITED,
                {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2.5s"},
                63,
            ),
            Refusal(
                400,
                openai_error("Invalid 'user': string_above_max_length", code="string_above_max_length"),
                FaultKind.REFUSED,
            ),
        ),
        models={"/v1/models": ids_only("gpt-5.6", owned_by="openai", shutdown_date="2027-01-14")},
        listed=(Listed("gpt-5.6"),),
    ),
    "openrouter": Shape(
        usage=counts(
            1_200,
            100,
            prompt_tokens_details={"cached_tokens": 1_000},
            completion_tokens_details={"reasoning_tokens": 40},
            cost=0.0024,
            is_byok=False,
            cost_details={"upstream_inference_cost": None},
        ),
        counted=Usage(input=200, cache_read=1_000, output=60, reasoning=40, requests=1),
        rates=rates("3", "15", "0.3"),
        cost_nanos=200 * 3_000 + 1_000 * 300 + 100 * 15_000,
        told_nanos=2_400_000,
        usage_at="last",
        reasoning="details",
        comment="OPENROUTER PROCESSING",
        refusals=(
            *USUAL,
            Refusal(402, {"error": {"code": 402, "message": "Insufficient credits"}}, EMPTY),
            Refusal(
                403,
                {
                    "error": {
                        "code": 403,
                        "message": "Flagged",
                        "metadata": {"reasons": ["violence"], "flagged_input": "x"},
                    }
                },
                FaultKind.CONTENT_POLICY,
            ),
            Refusal(529, {"error": {"code": 529, "message": "Provider overloaded"}}, OVERLOADED),
            Refusal(200, {"error": {"code": 502, "message": "Provider returned error"}}, FaultKind.SERVER_ERROR),
            Refusal(
                429,
                {"error": {"code": 429, "message": "Rate limit exceeded: free-models-per-min"}},
                LIMITED,
                {
                    "X-RateLimit-Remaining": "0",
                    "X-RateLimit-Reset": "1760000030000",
                    "Date": "Thu, 09 Oct 2025 08:53:20 GMT",
                },
                30,
            ),
        ),
        stream_error={
            "id": "gen-1",
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": "m",
            "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
            "error": {
                "code": 502,
                "message": "Provider disconnected",
                "metadata": {"error_type": "provider_unavailable"},
            },
        },
        models={
            "/api/v1/models": {
                "data": [
                    row(
                        "acme/large",
                        name="Acme: Large",
                        context_length=200_000,
                        architecture={"input_modalities": ["text", "image"], "output_modalities": ["text"]},
                        pricing={"prompt": "0.000003", "completion": "0.000015", "input_cache_read": "0.0000003"},
                        top_provider={"max_completion_tokens": 64_000},
                        supported_parameters=["tools", "reasoning", "structured_outputs"],
                        hugging_face_id="",
                    )
                ],
                "links": {"next": "/api/v1/models?offset=1&limit=1"},
                "total_count": 3,
            },
            "/api/v1/models?offset=1&limit=1": {
                "data": [
                    row("acme/auto", context_length=2_000_000, pricing={"prompt": "-1", "completion": "-1"}),
                    row("acme/small:free", context_length=8_192, pricing={"prompt": "0", "completion": "0"}),
                ],
                "links": {"next": None},
            },
        },
        listed=(
            Listed("acme/large", 200_000, per_million("3"), per_million("15"), tools=True),
            Listed("acme/auto", 2_000_000),
            Listed("acme/small:free", 8_192, 0, 0),
        ),
    ),
    "portkey": Shape(
        **PLAIN,
        reasoning="none",
        refusals=(
            *USUAL,
            Refusal(400, {"status": "failure", "message": "Invalid config"}, FaultKind.REFUSED),
            Refusal(
                446, {"error": {"message": "A guardrail denied it", "type": "hooks_failed"}}, FaultKind.CONTENT_POLICY
            ),
            Refusal(408, {"error": {"message": "Request timed out"}}, FaultKind.SERVER_ERROR),
        ),
        models={"/v1/models": ids_only("@openai-main/gpt-5.6")},
        listed=(Listed("@openai-main/gpt-5.6"),),
    ),
    "featherless": Shape(
        **PLAIN,
        reasoning="tags",
        refusals=(
            *USUAL,
            Refusal(403, openai_error("This model is gated", "gated"), FaultKind.MODEL_MISSING),
            Refusal(429, openai_error("Concurrency units exceeded", "concurrency_limit"), LIMITED),
        ),
        models={
            "/v1/models?per_page=1000&page=1": {
                "data": [
                    {"id": f"org/model-{number}", "name": "M", "context_length": 32_768, "max_completion_tokens": 4_096}
                    for number in range(1_000)
                ]
            },
            "/v1/models?per_page=1000&page=2": {"data": [{"id": "org/last", "context_length": 16_384}]},
        },
        listed=(Listed("org/model-0", 32_768), Listed("org/last", 16_384)),
    ),
    "chutes": Shape(
        **PLAIN,
        usage_at="every",
        reasoning="tags",
        done=False,
        refusals=(
            *USUAL,
            Refusal(402, {"detail": {"message": "Quota exceeded and account balance is $0.0"}}, EMPTY),
            Refusal(429, {"detail": "infra_overload"}, OVERLOADED),
            Refusal(503, {"detail": "No instances available (yet)"}, OVERLOADED),
            Refusal(200, {"error": "infra_overload", "detail": "No capacity"}, OVERLOADED),
        ),
        stream_error={"error": "infra_overload", "detail": "Infrastructure is at maximum capacity"},
        stream_error_kind=OVERLOADED,
        models={
            "/v1/models": {
                "object": "list",
                "data": [
                    row(
                        "deepseek-ai/DeepSeek-V3.2",
                        root="deepseek-ai/DeepSeek-V3.2",
                        max_model_len=163_840,
                        max_output_length=65_536,
                        pricing={"prompt": 0.28, "completion": 0.42, "input_cache_read": 0.14},
                        input_modalities=["text"],
                        supported_features=["tools", "json_mode", "structured_outputs"],
                        quantization="fp8",
                    )
                ],
            }
        },
        listed=(Listed("deepseek-ai/DeepSeek-V3.2", 163_840, 280_000_000, 420_000_000, tools=True),),
    ),
    "xai": Shape(
        usage={
            "prompt_tokens": 200,
            "completion_tokens": 50,
            "total_tokens": 400,
            "prompt_tokens_details": {"text_tokens": 200, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 100},
            "completion_tokens_details": {"reasoning_tokens": 150, "audio_tokens": 0},
            "num_sources_used": 0,
            "cost_in_usd_ticks": 33_750_000,
        },
        counted=Usage(input=100, cache_read=100, output=50, reasoning=150, requests=1),
        rates=rates("3", "15", "0.75"),
        cost_nanos=100 * 3_000 + 100 * 750 + 200 * 15_000,
        told_nanos=3_375_000,
        usage_at="every",
        tools="whole",
        refusals=(
            *USUAL,
            Refusal(
                400,
                {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***"},
                REJECTED,
            ),
            Refusal(403, {"code": "permission-denied", "error": "Your team doesn't have any credits yet."}, EMPTY),
            Refusal(403, {"code": "permission-denied", "error": "Your key may not use this model."}, REJECTED),
            Refusal(429, {"code": "resource-exhausted", "error": "Too many requests"}, LIMITED),
        ),
        stream_error={"code": "internal", "error": "The service failed"},
        models={
            "/v1/language-models": {
                "models": [
                    {
                        "id": "grok-4.2",
                        "created": CREATED,
                        "aliases": ["grok-4.2-latest"],
                        "input_modalities": ["text", "image"],
                        "output_modalities": ["text"],
                        "prompt_text_token_price": 30_000,
                        "cached_prompt_text_token_price": 7_500,
                        "prompt_image_token_price": 0,
                        "completion_text_token_price": 150_000,
                        "max_prompt_length": 256_000,
                    }
                ]
            }
        },
        listed=(Listed("grok-4.2", 256_000, per_million("3"), per_million("15")),),
    ),
    "near": Shape(
        usage=counts(
            1_000, 500, input_tokens_details={"cached_tokens": 400}, output_tokens_details={"reasoning_tokens": 100}
        ),
        counted=Usage(input=600, cache_read=400, output=400, reasoning=100, requests=1),
        rates=rates("0.85", "3.4", "0.17"),
        cost_nanos=600 * 850 + 400 * 170 + 500 * 3_400,
        usage_at="last",
        reasoning="reasoning",
        refusals=(
            *USUAL,
            Refusal(402, openai_error("Add credits", "no_limit_configured"), EMPTY),
            Refusal(402, openai_error("Limit of the key", "api_key_limit_exceeded"), EMPTY),
            Refusal(429, openai_error("Busy", "service_overloaded"), OVERLOADED, {"Retry-After": "2"}, 2),
        ),
        stream_error={"error": {"message": "backend failed", "type": "server_error"}},
        models={
            "/v1/models": {
                "object": "list",
                "data": [
                    row(
                        "zai-org/GLM-4.6",
                        context_length=200_000,
                        max_output_length=64_000,
                        pricing={
                            "input": 0.85,
                            "output": 3.4,
                            "prompt": "0.00000085",
                            "completion": "0.0000034",
                            "input_cache_read": "0.00000017",
                        },
                        supported_features=["tools", "reasoning"],
                        deprecation_date=None,
                    )
                ],
            }
        },
        listed=(Listed("zai-org/GLM-4.6", 200_000, 850_000_000, 3_400_000_000, tools=True),),
    ),
    "huggingface": Shape(
        **PLAIN,
        reasoning="reasoning",
        tools="object",
        finish="eos_token",
        refusals=(
            Refusal(401, {"error": "Invalid username or password."}, REJECTED),
            Refusal(402, {"error": "You have exceeded your monthly included credits"}, EMPTY),
            Refusal(
                400,
                {"error": {"message": "The requested model is not a chat model", "code": "model_not_supported"}},
                FaultKind.MODEL_MISSING,
            ),
            Refusal(422, {"error": "`inputs` tokens + `max_new_tokens` must be <= 4096"}, CONTEXT),
            Refusal(429, {"error": "Too Many Requests"}, LIMITED),
            Refusal(503, {"error": "Service Unavailable"}, OVERLOADED),
        ),
        stream_error={"error": "Model is overloaded"},
        stream_error_kind=OVERLOADED,
        models={
            "/v1/models": {
                "object": "list",
                "data": [
                    row(
                        "Qwen/Qwen3-32B",
                        architecture={"input_modalities": ["text"], "output_modalities": ["text"]},
                        providers=[
                            {
                                "provider": "a",
                                "status": "live",
                                "context_length": 40_960,
                                "pricing": {"input": 0.1, "output": 0.5},
                                "supports_tools": True,
                            },
                            {"provider": "b", "status": "live", "pricing": {"input": 0.29, "output": 0.39}},
                            {"provider": "c", "status": "error", "pricing": {"input": 9, "output": 9}},
                        ],
                    )
                ],
            }
        },
        listed=(Listed("Qwen/Qwen3-32B", None, 290_000_000, 500_000_000, tools=True),),
    ),
    "groq": Shape(
        usage={
            **counts(500, 100, prompt_tokens_details={"cached_tokens": 256}),
            "queue_time": 0.01,
            "prompt_time": 0.002,
            "completion_time": 0.1,
            "total_time": 0.112,
        },
        counted=Usage(input=244, cache_read=256, output=100, requests=1),
        rates=rates("0.15", "0.6", "0.075"),
        cost_nanos=244 * 150 + 256 * 75 + 100 * 600,
        usage_at="x_groq",
        reasoning="reasoning",
        refusals=(
            *USUAL,
            Refusal(
                413,
                openai_error("Request too large for model on tokens per minute", "tokens", "rate_limit_exceeded"),
                LIMITED,
            ),
            Refusal(498, openai_error("Flex capacity exceeded", "flex"), OVERLOADED),
            Refusal(
                400,
                {
                    "error": {
                        "message": "Failed to call a function",
                        "type": "invalid_request_error",
                        "code": "tool_use_failed",
                        "failed_generation": "<function=add{",
                    }
                },
                FaultKind.MALFORMED,
            ),
            Refusal(
                429,
                openai_error("Rate limit reached", "tokens", "rate_limit_exceeded"),
                LIMITED,
                {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "2m59.56s"},
                180,
            ),
        ),
        stream_error={
            "id": "c",
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": "m",
            "choices": [],
            "x_groq": {"id": "req_1", "error": "over capacity: overloaded"},
        },
        stream_error_kind=OVERLOADED,
        models={
            "/openai/v1/models": ids_only(
                "openai/gpt-oss-120b", active=True, context_window=131_072, max_completion_tokens=65_536
            )
        },
        listed=(Listed("openai/gpt-oss-120b", 131_072),),
    ),
    "fireworks": Shape(
        usage=counts(1_500, 200, prompt_tokens_details={"cached_tokens": 1_024}),
        counted=Usage(input=476, cache_read=1_024, output=200, requests=1),
        rates=rates("0.56", "1.68", "0.28"),
        cost_nanos=476 * 560 + 1_024 * 280 + 200 * 1_680,
        usage_at="finish",
        refusals=(
            *USUAL,
            Refusal(412, {"error": {"message": "Account is suspended"}}, EMPTY),
            Refusal(
                401,
                {"fault": {"faultstring": "Invalid API Key", "detail": {"errorcode": "oauth.v2.InvalidApiKey"}}},
                REJECTED,
            ),
            Refusal(520, {"code": 13, "message": "internal"}, FaultKind.SERVER_ERROR),
        ),
        models={
            "/v1/serverless/models": {
                "object": "list",
                "data": [
                    {
                        "id": "accounts/fireworks/models/deepseek-v3p2",
                        "service_tier": "priority",
                        "pricing": [{"sku": "LLM output tokens", "amount": "9.99", "unit": "1M tokens"}],
                        "context_length": 163_840,
                    },
                    {
                        "id": "accounts/fireworks/models/deepseek-v3p2",
                        "pricing": [
                            {"sku": "LLM input tokens (uncached)", "amount": "0.56", "unit": "1M tokens"},
                            {"sku": "LLM input tokens (cached)", "amount": "0.28", "unit": "1M tokens"},
                            {"sku": "LLM output tokens", "amount": "1.68", "unit": "1M tokens"},
                        ],
                        "context_length": 163_840,
                    },
                ],
                "nextPageToken": "p2",
            },
            "/v1/serverless/models?pageToken=p2": {
                "object": "list",
                "data": [{"id": "accounts/fireworks/models/kimi", "pricing": [], "context_length": 262_144}],
            },
        },
        listed=(
            Listed("accounts/fireworks/models/deepseek-v3p2", 163_840, 560_000_000, 1_680_000_000),
            Listed("accounts/fireworks/models/kimi", 262_144),
        ),
    ),
    "together": Shape(
        **PLAIN,
        usage_at="finish",
        reasoning="both",
        finish="eos",
        refusals=(
            *USUAL,
            Refusal(403, openai_error("The input token count is longer than the model's context length"), CONTEXT),
            Refusal(500, {"error": "Internal", "model": "m", "request_id": "r"}, FaultKind.SERVER_ERROR),
        ),
        models={
            "/v1/models": [
                {
                    "id": "meta/llama",
                    "type": "chat",
                    "display_name": "Llama",
                    "context_length": 131_072,
                    "pricing": {"input": 0.88, "output": 0.88, "hourly": 0, "base": 0, "finetune": 0},
                },
                {"id": "meta/dedicated", "type": "chat", "pricing": {"input": 0, "output": 0}},
                {"id": "bge/embed", "type": "embedding", "pricing": {"input": 0.02, "output": 0}},
            ]
        },
        listed=(
            Listed("meta/llama", 131_072, 880_000_000, 880_000_000),
            Listed("meta/dedicated"),
            Listed("bge/embed", None, 20_000_000, 0, tools=False),
        ),
    ),
    "deepinfra": Shape(
        **PLAIN | {"usage": counts(1_000, 500, estimated_cost=0.00082)},
        told_nanos=820_000,
        refusals=(
            *USUAL,
            Refusal(402, {"detail": {"error": "You need to add a payment method"}}, EMPTY),
            Refusal(
                422,
                {"detail": [{"loc": ["body", "messages"], "msg": "field required", "type": "missing"}]},
                FaultKind.REFUSED,
            ),
        ),
        models={
            "/v1/openai/models": {
                "data": [
                    row(
                        "acme/large",
                        metadata={
                            "context_length": 163_840,
                            "max_tokens": 163_840,
                            "tags": ["tools", "reasoning"],
                            "pricing": {"input_tokens": 0.27, "output_tokens": 1.1, "cache_read_tokens": 0.216},
                        },
                    ),
                    row("acme/pictures", metadata=None),
                ]
            }
        },
        listed=(Listed("acme/large", 163_840, 270_000_000, 1_100_000_000, tools=True), Listed("acme/pictures")),
    ),
    "cerebras": Shape(
        usage=counts(1_000, 500, prompt_tokens_details={"cached_tokens": 128}),
        counted=Usage(input=872, cache_read=128, output=500, requests=1),
        rates=rates("0.35", "0.75"),
        cost_nanos=1_000 * 350 + 500 * 750,
        reasoning="reasoning",
        tools="no_index",
        refusals=(
            *USUAL,
            Refusal(
                400,
                {
                    "message": "Please reduce the length. Current length is 9000 while limit is 8192",
                    "type": "invalid_request_error",
                    "param": "messages",
                    "code": "context_length",
                },
                CONTEXT,
            ),
            Refusal(
                429,
                {"message": "Tokens per day", "type": "too_many_requests_error", "code": "token_quota_exceeded"},
                LIMITED,
            ),
        ),
        stream_error={"error": {"message": "failed", "type": "server_error"}, "status_code": 500},
        models={
            "/v1/models?format=openrouter": {
                "data": [
                    row(
                        "gpt-oss-120b",
                        context_length=131_072,
                        max_output_length=40_960,
                        pricing={"prompt": "0.00000035", "completion": "0.00000075"},
                        supported_features=["tools"],
                    )
                ]
            }
        },
        listed=(Listed("gpt-oss-120b", 131_072, 350_000_000, 750_000_000, tools=True),),
    ),
    "nebius": Shape(
        **PLAIN,
        refusals=(
            *USUAL,
            Refusal(401, {"detail": "Unauthorized"}, REJECTED),
            Refusal(402, {"detail": "Top up"}, EMPTY),
        ),
        models={
            "/v1/models?verbose=true": {
                "data": [
                    row(
                        "meta/llama",
                        context_length=131_072,
                        architecture={"modality": "text+image->text"},
                        pricing={"prompt": "0.00000013", "completion": "0.0000004", "image": "0", "request": "0"},
                    )
                ]
            }
        },
        listed=(Listed("meta/llama", 131_072, 130_000_000, 400_000_000),),
    ),
    "novita": Shape(
        **PLAIN,
        reasoning="tags",
        tools="repeated_name",
        refusals=(
            *USUAL,
            Refusal(
                403,
                {"code": 403, "reason": "NOT_ENOUGH_BALANCE", "message": "not enough balance", "metadata": {}},
                EMPTY,
            ),
            Refusal(401, {"code": 401, "reason": "INVALID_API_KEY", "message": "bad key"}, REJECTED),
            Refusal(
                404, {"code": 404, "reason": "MODEL_NOT_FOUND", "message": "no such model"}, FaultKind.MODEL_MISSING
            ),
            Refusal(429, {"code": 429, "reason": "RATE_LIMIT_EXCEEDED", "message": "slow down"}, LIMITED),
        ),
        models={
            "/openai/v1/models": {
                "data": [
                    row(
                        "acme/large",
                        title="Large",
                        context_size=65_536,
                        max_output_tokens=16_384,
                        input_token_price_per_m=7_000,
                        output_token_price_per_m=25_000,
                        features=["function-calling", "reasoning"],
                        model_type="chat",
                    ),
                    row(
                        "acme/yuan",
                        context_size=8_192,
                        currency="CNY",
                        input_token_price_per_m=7_000,
                        output_token_price_per_m=25_000,
                    ),
                ]
            }
        },
        listed=(
            Listed("acme/large", 65_536, per_million("0.7"), per_million("2.5"), tools=True),
            Listed("acme/yuan", 8_192),
        ),
    ),
    "aimo": Shape(
        **PLAIN,
        reasoning="none",
        refusals=USUAL,
        models={
            "/api/v1/models": {
                "data": [
                    {
                        "name": "acme-large",
                        "display_name": "Large",
                        "context_length": 32_768,
                        "providers": [{"id": "Pub1", "name": "p", "pricing": {"prompt": "1", "completion": "2"}}],
                    }
                ]
            }
        },
        listed=(Listed("Pub1:acme-large", 32_768),),
    ),
    "mistral": Shape(
        **PLAIN,
        usage_at="finish",
        reasoning="chunks",
        tools="object",
        refusals=(
            Refusal(
                400,
                {
                    "object": "error",
                    "message": "Prompt contains 9000 tokens, too large for model with 8192 maximum context length",
                    "type": "invalid_request_invalid_args",
                    "param": None,
                    "code": "3051",
                },
                CONTEXT,
            ),
            Refusal(401, {"detail": "Unauthorized"}, REJECTED),
            Refusal(
                422,
                {
                    "object": "error",
                    "message": {"detail": [{"loc": ["body", "user"], "msg": "Extra inputs are not permitted"}]},
                },
                FaultKind.REFUSED,
            ),
            Refusal(429, {"message": "Requests rate limit exceeded"}, LIMITED),
            Refusal(500, {"object": "error", "message": "Service unavailable", "type": "x"}, FaultKind.SERVER_ERROR),
        ),
        models={
            "/v1/models": {
                "object": "list",
                "data": [
                    row(
                        "mistral-large",
                        max_context_length=131_072,
                        aliases=["mistral-large-latest"],
                        capabilities={"completion_chat": True, "function_calling": True, "vision": False},
                        deprecation="2027-03-01T12:00:00Z",
                    )
                ],
            }
        },
        listed=(Listed("mistral-large", 131_072, tools=True),),
    ),
    "deepseek": Shape(
        usage=counts(
            2_000,
            300,
            prompt_cache_hit_tokens=1_024,
            prompt_cache_miss_tokens=976,
            completion_tokens_details={"reasoning_tokens": 200},
        ),
        counted=Usage(input=976, cache_read=1_024, output=100, reasoning=200, requests=1),
        rates=rates("0.28", "0.42", "0.028"),
        cost_nanos=976 * 280 + 1_024 * 28 + 300 * 420,
        comment="keep-alive",
        blank_lines_first=True,
        refusals=(*USUAL, Refusal(402, openai_error("Insufficient Balance", "unknown_error"), EMPTY)),
        stream_error={
            "id": "c",
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": "m",
            "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "insufficient_system_resource"}],
        },
        stream_error_kind=FaultKind.BROKEN_OFF,
        models={"/models": ids_only("deepseek-chat", "deepseek-reasoner")},
        listed=(Listed("deepseek-chat"), Listed("deepseek-reasoner")),
    ),
    "ollama": Shape(
        **PLAIN,
        reasoning="reasoning",
        tools="no_id",
        refusals=(
            Refusal(404, {"error": "model 'm' not found, try pulling it first"}, FaultKind.MODEL_MISSING),
            Refusal(400, {"error": "the prompt exceeds the available context size"}, CONTEXT),
            Refusal(503, {"error": "server busy, please try again. maximum pending requests exceeded"}, OVERLOADED),
            Refusal(500, {"error": "llama runner process has terminated"}, FaultKind.SERVER_ERROR),
        ),
        stream_error={"error": "an error was encountered while running the model"},
        models={"/v1/models": ids_only("llama3.3:70b", owned_by="library")},
        listed=(Listed("llama3.3:70b"),),
    ),
    "vllm": Shape(
        **PLAIN,
        usage_at="every",
        reasoning="tags",
        tools="interleaved",
        refusals=(
            Refusal(
                400,
                {"object": "error", "message": TOO_LONG, "type": "BadRequestError", "param": None, "code": 400},
                CONTEXT,
            ),
            Refusal(401, {"error": "Unauthorized"}, REJECTED),
            Refusal(
                404,
                {"error": {"message": "The model `m` does not exist.", "type": "NotFoundError", "code": 404}},
                FaultKind.MODEL_MISSING,
            ),
            Refusal(
                500, {"error": {"message": "boom", "type": "InternalServerError", "code": 500}}, FaultKind.SERVER_ERROR
            ),
        ),
        stream_error={"error": {"message": "boom", "type": "InternalServerError", "param": None, "code": 500}},
        models={"/v1/models": ids_only("Qwen/Qwen3-8B", root="Qwen/Qwen3-8B", max_model_len=40_960)},
        listed=(Listed("Qwen/Qwen3-8B", 40_960),),
    ),
}
