"""Bedrock's words: frames, how conversations are written, answers read, and refusals told apart."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from adapters.dialects.bedrock_converse.client import exception_of, write_request
from adapters.dialects.bedrock_converse.conversation_writer import LOSSES, write_conversation
from adapters.dialects.bedrock_converse.errors import read_fault
from adapters.dialects.bedrock_converse.frames import FrameBroken, FrameSplitter, frame, frames
from adapters.dialects.bedrock_converse.reply_reader import ReplyReader, read_reply
from adapters.dialects.openai_chat.server import read_request
from adapters.vendors.bedrock import canonical_of
from domain.catalog import Dialect
from domain.errors import UnsupportedParameter
from domain.inference.chat import ChatCall
from domain.inference.conversation import (
    CacheMark,
    Conversation,
    Document,
    Effort,
    FunctionTool,
    Image,
    Inline,
    JsonSchema,
    Link,
    Opaque,
    Reasoning,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
    Turn,
)
from domain.inference.faults import FaultKind
from domain.inference.reply import Finish, gathered
from tests.fakes import bedrock_upstream as bedrock

HELLO = Turn(role=Role.USER, blocks=(Text(text="Hello"),))
TOOL = FunctionTool(name="get_weather", parameters={"type": "object", "properties": {}})
OLDER = "anthropic.claude-3-7-sonnet-20250219-v1:0"
NOVA = "amazon.nova-2-lite-v1:0"


def call(model: str = bedrock.MODEL) -> ChatCall:
    request = read_request(b'{"model":"a/b","messages":[{"role":"user","content":"Hello"}]}')
    return ChatCall(request=request, vendor_model=model, id="r1")


def written(said: Conversation, model: str = bedrock.MODEL) -> Any:
    return json.loads(write_conversation(said, call(model)).body)


def dropped(said: Conversation, model: str = bedrock.MODEL) -> tuple[str, ...]:
    return write_conversation(said, call(model)).dropped


# Frames


def test_frames_are_read_as_an_independent_writer_made_them() -> None:
    made = bedrock.frame("messageStop", {"stopReason": "end_turn"})
    (read,) = frames(made)
    assert (read.kind, read.fails, json.loads(read.payload)) == ("messageStop", False, {"stopReason": "end_turn"})
    assert frame(read.headers, read.payload) == made


@pytest.mark.parametrize("size", [1, 5, 64, 100_000])
def test_a_stream_is_cut_where_frames_end(size: int) -> None:
    told = bedrock.stream(bedrock.answer(bedrock.THOUGHT, bedrock.TEXT, bedrock.tool_use()))
    data, splitter, found = b"".join(told), FrameSplitter(), []
    for at in range(0, len(data), size):
        found += frames(splitter.feed(data[at : at + size]))
    assert not splitter.unfinished
    assert [each.kind for each in found] == [frames(each)[0].kind for each in told]


@pytest.mark.parametrize("at", [0, 9, 20, -1])
def test_a_damaged_frame_is_noticed(at: int) -> None:
    damaged = bytearray(bedrock.frame("contentBlockDelta", {"delta": {"text": "Hello"}, "contentBlockIndex": 0}))
    damaged[at] ^= 1
    with pytest.raises(FrameBroken):
        frames(FrameSplitter().feed(bytes(damaged)) or bytes(damaged))


def test_what_is_no_event_stream_is_refused_at_its_beginning() -> None:
    with pytest.raises(FrameBroken):
        FrameSplitter().feed(b"<html><body>gateway timeout</body></html>")


def test_a_frame_has_a_limit() -> None:
    with pytest.raises(FrameBroken):
        FrameSplitter(frame_bytes_max=50).feed(bedrock.frame("messageStart", {"role": "assistant", "p": "x" * 100}))


# How conversations are written


def test_a_conversation_in_bedrocks_words() -> None:
    turns = (
        Turn(role=Role.SYSTEM, blocks=(Text(text="Be brief.", cache=CacheMark()),)),
        HELLO,
        Turn(role=Role.USER, blocks=(Image(source=Inline("image/jpeg", "QQ==")),)),
        Turn(role=Role.ASSISTANT, blocks=(ToolCall(id="c1", name="get_weather", arguments='{"a":1}'),)),
        Turn(role=Role.TOOL, blocks=(ToolResult(call_id="c1", content=(Text(text="42"),), failed=True),)),
    )
    choice = ToolChoice(mode=ToolMode.REQUIRED)
    said = Conversation(turns=turns, tools=(TOOL,), tool_choice=choice, output_max=100, stop=("end",))
    assert written(said) == {
        "messages": [
            {
                "role": "user",
                "content": [{"text": "Hello"}, {"image": {"format": "jpeg", "source": {"bytes": "QQ=="}}}],
            },
            {
                "role": "assistant",
                "content": [{"toolUse": {"toolUseId": "c1", "name": "get_weather", "input": {"a": 1}}}],
            },
            {
                "role": "user",
                "content": [{"toolResult": {"toolUseId": "c1", "content": [{"text": "42"}], "status": "error"}}],
            },
        ],
        "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
        "toolConfig": {
            "tools": [{"toolSpec": {"name": "get_weather", "inputSchema": {"json": TOOL.parameters}}}],
            "toolChoice": {"any": {}},
        },
        "inferenceConfig": {"maxTokens": 100, "stopSequences": ["end"]},
    }


def test_calls_of_tools_that_are_no_longer_offered_are_declared() -> None:
    turns = (
        HELLO,
        Turn(role=Role.ASSISTANT, blocks=(ToolCall(id="c1", name="gone", arguments=""),)),
        Turn(role=Role.TOOL, blocks=(ToolResult(call_id="c1"),)),
    )
    said = Conversation(turns=turns)
    assert [tool["toolSpec"]["name"] for tool in written(said)["toolConfig"]["tools"]] == ["gone"]
    with pytest.raises(UnsupportedParameter) as refusal:
        written(replace(said, tools=(TOOL,), tool_choice=ToolChoice(mode=ToolMode.NONE)))
    assert refusal.value.param == "tool_choice"
    assert "toolConfig" not in written(
        Conversation(turns=(HELLO,), tools=(TOOL,), tool_choice=ToolChoice(mode=ToolMode.NONE))
    )


@pytest.mark.parametrize(
    ("model", "reasoning", "fields"),
    [
        (
            bedrock.MODEL,
            Reasoning(effort=Effort.HIGH),
            {"output_config": {"effort": "high"}, "thinking": {"type": "adaptive"}},
        ),
        (OLDER, Reasoning(effort=Effort.LOW), {"thinking": {"type": "enabled", "budget_tokens": 2_048}}),
        (OLDER, Reasoning(effort=Effort.NONE), None),
        ("openai.gpt-oss-120b-1:0", Reasoning(effort=Effort.MEDIUM), {"reasoning_effort": "medium"}),
        (NOVA, Reasoning(effort=Effort.LOW), {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}),
        ("meta.llama3-1-8b-instruct-v1:0", Reasoning(effort=Effort.LOW), None),
    ],
)  # fmt: skip
def test_thinking_by_family(model: str, reasoning: Reasoning, fields: Any) -> None:
    said = Conversation(turns=(HELLO,), reasoning=reasoning, output_max=10_000)
    assert written(said, model).get("additionalModelRequestFields") == fields
    assert ("reasoning_effort" in dropped(said, model)) == model.startswith("meta")


def test_a_lower_limit_lowers_the_budget() -> None:
    said = Conversation(turns=(HELLO,), reasoning=Reasoning(budget_tokens=4_000), output_max=10_000)
    body = write_conversation(said, call(OLDER)).body
    native = call(OLDER)
    native = replace(native, request=replace(native.request, body=body, dialect=Dialect.BEDROCK_CONVERSE, parsed=None))
    lowered = json.loads(write_request(replace(native, output_limit=3_000)))
    assert lowered["inferenceConfig"]["maxTokens"] == 3_000
    assert lowered["additionalModelRequestFields"]["thinking"]["budget_tokens"] == 2_999
    assert (
        "thinking" not in json.loads(write_request(replace(native, output_limit=500)))["additionalModelRequestFields"]
    )


def test_only_anthropics_seals_are_sent_and_only_to_its_models() -> None:
    blocks = (
        Thinking(text="Mine.", sealed=Opaque("anthropic", "own")),
        Thinking(text="Theirs.", sealed=Opaque("gemini", "foreign")),
        Text(text="Said."),
    )
    said = Conversation(turns=(HELLO, Turn(role=Role.ASSISTANT, blocks=blocks), HELLO))
    content = written(said)["messages"][1]["content"]
    assert content[0] == {"reasoningContent": {"reasoningText": {"text": "Mine.", "signature": "own"}}}
    assert content[1:] == [{"text": "Said."}]
    assert b"own" not in write_conversation(said, call(NOVA)).body
    assert b"foreign" not in write_conversation(said, call()).body


def test_the_last_four_cache_marks_are_sent() -> None:
    marked = tuple(Text(text=f"part {n}", cache=CacheMark(ttl="1h" if n else None)) for n in range(6))
    said = Conversation(turns=(Turn(role=Role.USER, blocks=marked),))
    body = json.dumps(written(said))
    assert body.count("cachePoint") == 4
    assert body.count('"ttl": "1h"') == 4
    assert dropped(said) == ("cache_control",)
    assert "cachePoint" not in json.dumps(written(said, "meta.llama3-1-8b-instruct-v1:0"))


def test_documents_have_names_that_the_vendor_takes_and_words_beside_them() -> None:
    pdf = Document(source=Inline("application/pdf", "QQ=="), name="a_b.pdf")
    said = Conversation(turns=(Turn(role=Role.USER, blocks=(pdf, pdf)),))
    content = written(said)["messages"][0]["content"]
    names = [block["document"]["name"] for block in content if "document" in block]
    assert len(set(names)) == 2
    assert all(name.startswith("a-b-pdf ") for name in names)
    assert content[-1] == {"text": "."}
    assert dropped(said) == ("document.name",)


@pytest.mark.parametrize("source", [Link("https://example.test/a.png"), Inline("image/tiff", "QQ==")])
def test_pictures_out_of_reach_are_refused(source: Any) -> None:
    with pytest.raises(UnsupportedParameter) as refusal:
        written(Conversation(turns=(Turn(role=Role.USER, blocks=(Image(source=source),)),)))
    assert refusal.value.param == "messages[0].content[0]"


def test_a_demanded_form_of_the_answer() -> None:
    said = Conversation(turns=(HELLO,), output_format=JsonSchema(schema={"type": "object"}, name="person"))
    told = written(said)["outputConfig"]["textFormat"]
    assert told == {
        "type": "json_schema",
        "structure": {"jsonSchema": {"schema": '{"type":"object"}', "name": "person"}},
    }


def test_every_loss_is_declared() -> None:
    said = Conversation(
        turns=(Turn(role=Role.USER, blocks=(Text(text="a"),), name="Ann"),),
        seed=1,
        frequency_penalty=1,
        presence_penalty=1,
        logit_bias={"1": 1},
        logprobs=0,
        metadata={"a": "b"},
        cache_key="k",
        service_tier="flex",
        user="me",
        verbosity="low",
        top_k=5,
        temperature=0.5,
    )
    lost = dropped(said)
    assert len(lost) == 13
    assert set(lost) <= LOSSES.keys()


# How answers are read


def test_a_whole_answer_and_its_stream_say_the_same() -> None:
    whole = bedrock.answer(bedrock.THOUGHT, bedrock.REDACTED, bedrock.TEXT, bedrock.tool_use())
    reader = ReplyReader()
    events = [event for piece in bedrock.stream(whole) for event in reader.feed(piece)]
    streamed = gathered([*events, *reader.end()])
    told = read_reply(json.dumps(whole).encode())
    assert streamed.blocks[:3] == told.blocks[:3]
    ours, theirs = streamed.blocks[3], told.blocks[3]
    assert isinstance(ours, ToolCall)
    assert isinstance(theirs, ToolCall)
    assert (ours.id, json.loads(ours.arguments)) == (theirs.id, json.loads(theirs.arguments))
    assert streamed.finish is told.finish is Finish.TOOL
    assert told.blocks[0] == Thinking(text="Let me see.", sealed=Opaque("anthropic", bedrock.SIGNATURE))


def test_a_call_without_arguments_has_empty_ones() -> None:
    start = {"start": {"toolUse": {"toolUseId": "t", "name": "f"}}, "contentBlockIndex": 0}
    told = [
        bedrock.frame("messageStart", {"role": "assistant"}),
        bedrock.frame("contentBlockStart", start),
        bedrock.frame("contentBlockStop", {"contentBlockIndex": 0}),
        bedrock.frame("messageStop", {"stopReason": "tool_use"}),
    ]
    reader = ReplyReader()
    reply = gathered([*reader.feed(b"".join(told)), *reader.end()])
    assert reply.blocks == (ToolCall(id="t", name="f", arguments="{}"),)


# Refusals


@pytest.mark.parametrize(
    ("name", "message", "kind"),
    [
        ("ThrottlingException", "", FaultKind.RATE_LIMITED),
        ("ServiceQuotaExceededException", "", FaultKind.RATE_LIMITED),
        ("AccessDeniedException", "", FaultKind.CREDENTIAL_REJECTED),
        ("ExpiredTokenException", "", FaultKind.CREDENTIAL_REJECTED),
        ("ResourceNotFoundException", "", FaultKind.MODEL_MISSING),
        ("ValidationException", "bad", FaultKind.REFUSED),
        ("ValidationException", "The provided model identifier is invalid.", FaultKind.MODEL_MISSING),
        ("ValidationException", "Input is too long for requested model.", FaultKind.CONTEXT_LENGTH),
        ("ModelTimeoutException", "", FaultKind.SERVER_ERROR),
        ("ModelErrorException", "", FaultKind.SERVER_ERROR),
        ("ModelNotReadyException", "", FaultKind.OVERLOADED),
        ("throttlingException", "", FaultKind.RATE_LIMITED),
    ],
)
def test_refusals_by_name(name: str, message: str, kind: FaultKind) -> None:
    headers = {"x-amzn-errortype": f"{name}:http://internal/"}
    assert read_fault(400, headers, json.dumps({"message": message}).encode()).kind is kind
    (inside,) = frames(bedrock.frame(name, {"message": message}, "exception"))
    assert exception_of(inside).kind is kind


@pytest.mark.parametrize(
    ("model", "canonical"),
    [
        (bedrock.MODEL, "anthropic/claude-opus-4-8-20260115"),
        ("amazon.nova-lite-v1:0", "amazon/nova-lite"),
        ("meta.llama3-1-8b-instruct-v1:0", "meta/llama3-1-8b-instruct"),
        ("global.anthropic.claude-opus-4-8", "anthropic/claude-opus-4-8"),
        ("deepseek.v3.2", "deepseek/v3.2"),
    ],
)
def test_canonical_ids(model: str, canonical: str) -> None:
    assert canonical_of(model) == canonical
