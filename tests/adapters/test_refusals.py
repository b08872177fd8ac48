"""What a model refuses to be told is left out of translated requests, told to the caller, and not tried again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.dialects.callers import CALLERS
from adapters.dialects.openai_chat.client import read_answer
from adapters.dialects.openai_chat.codec import OpenAIChatCodec
from adapters.dialects.openai_chat.errors import read_fault
from adapters.dialects.openai_responses.server import read_request
from adapters.dialects.refusals import MODELS_MAX, LearntRefusals, refused_field
from adapters.dialects.translation import TranslatedVendor, Wire
from domain.catalog import Dialect
from domain.ids import VendorSlug
from domain.inference.chat import ChatCall
from domain.inference.conversation import Conversation, Effort, Reasoning
from domain.inference.faults import FaultKind, VendorFault
from domain.ports.vendors import ChatAnswer, ChatStream
from tests.fakes.upstream import completion, token_usage

pytestmark = pytest.mark.anyio

ASKED = {"model": "acme/one", "input": "Hello", "reasoning": {"effort": "low"}, "temperature": 0.5, "seed": 1}


def refusal(message: str, param: str | None = None, code: str | None = None) -> VendorFault:
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}})
    return read_fault(400, {}, body.encode())


class Picky:
    """A vendor that refuses some members."""

    slug = VendorSlug("picky")

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.sent: list[dict[str, Any]] = []

    async def complete(self, call: ChatCall) -> ChatAnswer:
        sent = json.loads(call.request.body)
        self.sent.append(sent)
        for name in self.refused:
            if name in sent:
                raise refusal(f"Unsupported parameter: '{name}' is not supported with this model.", name)
        return read_answer(completion("Hello", usage=token_usage(1, 1)), {})

    async def stream(self, call: ChatCall) -> ChatStream:
        raise NotImplementedError


def translated(vendor: Picky) -> TranslatedVendor:
    return TranslatedVendor((Wire(vendor, Dialect.OPENAI_CHAT, OpenAIChatCodec()),), CALLERS)


def call(**members: Any) -> ChatCall:
    request = read_request(json.dumps(ASKED | members).encode())
    return ChatCall(request=request, vendor_model="one", id="r1", at_s=1)


async def test_it_is_written_again_without_what_is_refused() -> None:
    vendor = Picky("reasoning_effort", "temperature")
    gateway = translated(vendor)

    answer = await gateway.complete(call())

    assert [sorted({"reasoning_effort", "temperature"} & sent.keys()) for sent in vendor.sent] == [
        ["reasoning_effort", "temperature"],
        ["temperature"],
        [],
    ]
    assert answer.headers["x-gatewayz-dropped-params"].split(", ")[:2] == ["reasoning", "temperature"]
    again = await gateway.complete(call())
    assert len(vendor.sent) == 4
    assert "temperature" in again.headers["x-gatewayz-dropped-params"]


async def test_what_the_answer_depends_on_is_never_left_out() -> None:
    vendor = Picky("messages")

    with pytest.raises(VendorFault) as raised:
        await translated(vendor).complete(call())

    assert raised.value.kind is FaultKind.REFUSED
    assert len(vendor.sent) == 1


class Lacking(Picky):
    """An endpoint that this server does not have, for some models or for all."""

    async def complete(self, call: ChatCall) -> ChatAnswer:
        self.sent.append(json.loads(call.request.body))
        raise read_fault(404, {}, b'{"detail":"Not Found"}')


async def test_callers_of_a_language_that_the_server_lacks_are_translated() -> None:
    vendor, responses = Picky(), Lacking()
    gateway = TranslatedVendor(
        (Wire(vendor, Dialect.OPENAI_CHAT, OpenAIChatCodec()),), CALLERS, {Dialect.OPENAI_RESPONSES: responses}
    )

    for _ in range(2):
        answer = await gateway.complete(call())
        assert json.loads(answer.body)["object"] == "response"

    assert len(responses.sent) == 1
    assert len(vendor.sent) == 2


async def test_a_model_that_is_missing_in_every_language_is_missing() -> None:
    vendor, responses = Lacking(), Lacking()
    gateway = TranslatedVendor(
        (Wire(vendor, Dialect.OPENAI_CHAT, OpenAIChatCodec()),), CALLERS, {Dialect.OPENAI_RESPONSES: responses}
    )

    for asked in (1, 2):
        with pytest.raises(VendorFault) as raised:
            await gateway.complete(call())
        assert raised.value.kind is FaultKind.MODEL_MISSING
        assert len(responses.sent) == asked


@pytest.mark.parametrize(
    ("fault", "field"),
    [
        (
            refusal("Unsupported value: 'temperature' does not support 0.5", "temperature", "unsupported_value"),
            "temperature",
        ),
        (refusal("Unrecognized request argument supplied: reasoning_effort"), "reasoning"),
        (refusal("thinking: Extra inputs are not permitted"), "reasoning"),
        (refusal("Unknown name \"topK\" at 'generation_config': Cannot find field."), "top_k"),
        (refusal("property 'logprobs' is not supported"), "logprobs"),
        (refusal("Unsupported parameter: 'stop' is not supported with this model.", "stop"), None),
        (refusal("Unsupported parameter: 'tools' is not supported with this model.", "tools"), None),
        (refusal("temperature must be at most 2", "temperature"), None),
        (refusal("Two turns of the role 'user' in a row are not allowed"), None),
        (refusal("A message without its reasoning is not allowed here"), None),
        (refusal("An unknown user asks"), None),
        (VendorFault(FaultKind.SERVER_ERROR, "temperature is not supported"), None),
    ],
)
def test_refusals_are_read(fault: VendorFault, field: str | None) -> None:
    assert refused_field(fault) == field


def test_only_so_many_models_are_remembered() -> None:
    refusals = LearntRefusals()
    conversation = Conversation(turns=(), reasoning=Reasoning(effort=Effort.LOW))
    fault = refusal("Unsupported parameter: 'reasoning_effort'", "reasoning_effort")

    for number in range(MODELS_MAX + 1):
        assert refusals.learn(fault, conversation, f"model-{number}")

    assert refusals.spared(conversation, "model-0") == (conversation, ())
    spared, left_out = refusals.spared(conversation, f"model-{MODELS_MAX}")
    assert spared.reasoning is None
    assert left_out == ("reasoning",)
    assert not refusals.learn(fault, conversation, f"model-{MODELS_MAX}")
