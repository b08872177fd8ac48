"""Gemini's words: how conversations are written, answers read, counts unnested, and refusals told apart."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from adapters.dialects.gemini import images
from adapters.dialects.gemini.client import GeminiStream, write_request
from adapters.dialects.gemini.conversation_writer import LOSSES, UNSIGNED, write_conversation
from adapters.dialects.gemini.errors import read_fault
from adapters.dialects.gemini.models import rules_of
from adapters.dialects.gemini.reply_reader import ReplyReader, read_reply
from adapters.dialects.gemini.wire import Counts
from adapters.dialects.openai_chat.server import read_request
from domain.catalog import Dialect
from domain.errors import InvalidRequest, UnsupportedParameter
from domain.inference.chat import ChatCall
from domain.inference.conversation import (
    Audio,
    CacheMark,
    Conversation,
    Document,
    Effort,
    Extras,
    FunctionTool,
    Image,
    Inline,
    JsonObject,
    JsonSchema,
    Link,
    Opaque,
    Reasoning,
    Role,
    StoredFile,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
    Turn,
    WebSearch,
)
from domain.inference.faults import FaultKind, VendorFault
from domain.inference.reply import Finish, gathered
from domain.usage import Usage
from tests.fakes import gemini_upstream as gemini

HELLO = Turn(role=Role.USER, blocks=(Text(text="Hello"),))
TOOL = FunctionTool(name="get_weather", parameters={"type": "object", "properties": {}})
SEAL = Opaque("gemini", gemini.SIGNATURE)


def call(model: str = gemini.MODEL) -> ChatCall:
    request = read_request(b'{"model":"a/b","messages":[{"role":"user","content":"Hello"}]}')
    return ChatCall(request=request, vendor_model=model, id="r1", at_s=7)


def written(said: Conversation, model: str = gemini.MODEL) -> Any:
    return json.loads(write_conversation(said, call(model)).body)


def dropped(said: Conversation, model: str = gemini.MODEL) -> tuple[str, ...]:
    return write_conversation(said, call(model)).dropped


# How conversations are written


def test_a_conversation_in_geminis_words() -> None:
    said = Conversation(
        turns=(
            Turn(role=Role.SYSTEM, blocks=(Text(text="Be brief."),)),
            HELLO,
            Turn(role=Role.USER, blocks=(Image(source=Inline("image/png", "QQ==")),)),
            Turn(role=Role.ASSISTANT, blocks=(Text(text="Hi."), ToolCall(id="c1", name="f", arguments='{"a":1}'))),
            Turn(role=Role.TOOL, blocks=(ToolResult(call_id="c1", content=(Text(text="42"),)),)),
        ),
        tools=(TOOL,),
        tool_choice=ToolChoice(mode=ToolMode.REQUIRED, named="get_weather"),
        output_max=100,
        temperature=0.5,
        top_k=3,
        stop=("end",),
        seed=4,
    )
    assert written(said) == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Hello"}, {"inlineData": {"mimeType": "image/png", "data": "QQ=="}}]},
            {"role": "model", "parts": [{"text": "Hi."}, {"functionCall": {"name": "f", "args": {"a": 1}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "42"}}}]},
        ],
        "tools": [{"functionDeclarations": [{"name": "get_weather", "parametersJsonSchema": TOOL.parameters}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["get_weather"]}},
        "generationConfig": {
            "maxOutputTokens": 100,
            "temperature": 0.5,
            "topK": 3,
            "seed": 4,
            "stopSequences": ["end"],
        },
    }


def test_results_that_are_objects_or_failures() -> None:
    def result(text: str, *, failed: bool = False) -> Any:
        turns = (
            HELLO,
            Turn(role=Role.ASSISTANT, blocks=(ToolCall(id="c1", name="f", arguments=""),)),
            Turn(role=Role.TOOL, blocks=(ToolResult(call_id="c1", content=(Text(text=text),), failed=failed),)),
        )
        return written(Conversation(turns=turns))["contents"][2]["parts"][0]["functionResponse"]["response"]

    assert result('{"t": 21}') == {"t": 21}
    assert result("[1]") == {"output": "[1]"}
    assert result("no", failed=True) == {"error": "no"}


def test_a_result_without_its_call_is_refused_by_name() -> None:
    said = Conversation(turns=(HELLO, Turn(role=Role.TOOL, blocks=(ToolResult(call_id="lost"),))))
    with pytest.raises(InvalidRequest, match="lost") as refusal:
        written(said)
    assert refusal.value.param == "messages[1].content[0]"


@pytest.mark.parametrize("seal", [None, Opaque("anthropic", "theirs")], ids=["none", "another family's"])
def test_only_geminis_own_seals_are_sent(seal: Opaque | None) -> None:
    """A call of the current turn that Gemini did not sign carries what Google documents for that, on newer models."""
    blocks = (
        Thinking(text="Hm.", sealed=seal),
        ToolCall(id="c1", name="f", arguments="{}", sealed=seal),
        ToolCall(id="c2", name="g", arguments="{}", sealed=seal),
    )
    results = Turn(role=Role.TOOL, blocks=(ToolResult(call_id="c1"), ToolResult(call_id="c2")))
    said = Conversation(turns=(HELLO, Turn(role=Role.ASSISTANT, blocks=blocks), results))
    assert b"theirs" not in write_conversation(said, call()).body
    parts = written(said, gemini.NEWER)["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == [UNSIGNED, None]
    assert [part["functionCall"]["id"] for part in parts] == ["c1", "c2"]
    # Before the last question nothing is looked at.
    over = Conversation(turns=(*said.turns, HELLO))
    assert "thoughtSignature" not in json.dumps(written(over, gemini.NEWER))


@pytest.mark.parametrize(
    ("model", "reasoning", "config"),
    [
        ("gemini-2.5-flash", Reasoning(effort=Effort.LOW), {"includeThoughts": True, "thinkingBudget": 2_048}),
        ("gemini-2.5-flash", Reasoning(effort=Effort.NONE), {"includeThoughts": False, "thinkingBudget": 0}),
        ("gemini-2.5-flash", Reasoning(effort=Effort.MAX), {"includeThoughts": True, "thinkingBudget": 24_576}),
        ("gemini-2.5-flash", Reasoning(adaptive=True), {"includeThoughts": True, "thinkingBudget": -1}),
        ("gemini-2.5-flash-lite", Reasoning(budget_tokens=9), {"includeThoughts": True, "thinkingBudget": 512}),
        ("gemini-2.5-pro", Reasoning(effort=Effort.NONE), {"includeThoughts": False, "thinkingBudget": 128}),
        ("gemini-3-pro-preview", Reasoning(effort=Effort.MEDIUM), {"includeThoughts": True, "thinkingLevel": "HIGH"}),
        ("gemini-3.1-pro", Reasoning(effort=Effort.MEDIUM), {"includeThoughts": True, "thinkingLevel": "MEDIUM"}),
        ("gemini-3-flash", Reasoning(effort=Effort.NONE), {"includeThoughts": False, "thinkingLevel": "MINIMAL"}),
        ("gemini-9-pro", Reasoning(budget_tokens=100), {"includeThoughts": True, "thinkingLevel": "LOW"}),
        (
            "gemini-2.5-flash",
            Reasoning(effort=Effort.LOW, hidden=True),
            {"includeThoughts": False, "thinkingBudget": 2_048},
        ),
        ("gemini-2.0-flash", Reasoning(effort=Effort.HIGH), None),
        ("gemma-3-27b-it", Reasoning(effort=Effort.HIGH), None),
    ],
)  # fmt: skip
def test_thinking_by_family(model: str, reasoning: Reasoning, config: Any) -> None:
    said = Conversation(turns=(HELLO,), reasoning=reasoning)
    assert written(said, model).get("generationConfig", {}).get("thinkingConfig") == config
    lost = config is None or (rules_of(model).thinks_always and reasoning.effort is Effort.NONE)
    assert dropped(said, model) == (("reasoning_effort",) if lost else ())


def test_a_budget_fits_below_the_limit() -> None:
    said = Conversation(turns=(HELLO,), reasoning=Reasoning(effort=Effort.HIGH), output_max=1_000)
    body = write_conversation(said, call()).body
    assert json.loads(body)["generationConfig"]["thinkingConfig"]["thinkingBudget"] == 750

    native = replace(
        call(), request=replace(call().request, body=body, dialect=Dialect.GEMINI, parsed=None), output_limit=100
    )
    config = json.loads(write_request(native))["generationConfig"]
    assert (config["maxOutputTokens"], config["thinkingConfig"]["thinkingBudget"]) == (100, 75)


def test_a_form_of_the_answer() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    said = Conversation(turns=(HELLO,), output_format=JsonSchema(schema=schema))
    config = {"responseMimeType": "application/json", "responseJsonSchema": schema}
    assert written(said)["generationConfig"] == config
    # Beside tools the older models are asked in words.
    beside = replace(said, tools=(TOOL,))
    assert "generationConfig" not in written(beside)
    assert json.dumps(schema, separators=(",", ":")) in written(beside)["systemInstruction"]["parts"][0]["text"]
    assert dropped(beside) == ("response_format",)
    assert written(beside, gemini.NEWER)["generationConfig"] == config
    assert written(replace(said, output_format=JsonObject()))["generationConfig"] == {
        "responseMimeType": "application/json"
    }


def test_search_beside_functions() -> None:
    said = Conversation(turns=(HELLO,), tools=(TOOL, WebSearch()))
    assert dropped(said) == ("web_search",)
    assert {"googleSearch": {}} in written(said, gemini.NEWER)["tools"]
    assert written(replace(said, tools=(WebSearch(),)))["tools"] == [{"googleSearch": {}}]


def test_files_at_hand_and_out_of_reach() -> None:
    def parts(*blocks: Any) -> Any:
        return written(Conversation(turns=(Turn(role=Role.USER, blocks=blocks),)))["contents"][0]["parts"]

    assert parts(Document(source=Inline("application/pdf", "QQ=="))) == [
        {"inlineData": {"mimeType": "application/pdf", "data": "QQ=="}}
    ]
    assert parts(Audio(data="QQ==", format="mp3")) == [{"inlineData": {"mimeType": "audio/mp3", "data": "QQ=="}}]
    uri = "gs://bucket/a.png"
    assert parts(Image(source=Link(uri))) == [{"fileData": {"fileUri": uri, "mimeType": "image/png"}}]
    for source in (Link("https://example.test/a.png"), Link("http://169.254.169.254/x"), StoredFile("file-1")):
        with pytest.raises(UnsupportedParameter, match="send the file itself") as refusal:
            parts(Image(source=source))
        assert refusal.value.param == "messages[0].content[0]"


def test_every_loss_is_declared() -> None:
    said = Conversation(
        turns=(Turn(role=Role.USER, blocks=(Text(text="a", cache=CacheMark()),), name="Ann"),),
        tools=(FunctionTool(name="f", strict=True),),
        parallel_tools=False,
        frequency_penalty=1,
        presence_penalty=1,
        logit_bias={"1": 1},
        logprobs=2,
        user="me",
        cache_key="k",
        service_tier="flex",
        metadata={"a": "b"},
        verbosity="low",
    )
    lost = dropped(said)
    assert len(lost) == 13
    assert set(lost) <= LOSSES.keys()
    with pytest.raises(UnsupportedParameter, match="one answer"):
        written(replace(said, answers=2))


def test_penalties_are_sent_to_models_that_take_them() -> None:
    said = Conversation(turns=(HELLO,), presence_penalty=1)
    assert written(said, "gemini-2.0-flash")["generationConfig"] == {"presencePenalty": 1}


def test_a_system_prompt_alone_is_a_question() -> None:
    said = Conversation(turns=(Turn(role=Role.SYSTEM, blocks=(Text(text="Say hi."),)),))
    assert written(said) == {"contents": [{"role": "user", "parts": [{"text": "Say hi."}]}]}


def test_what_another_dialect_added_is_named() -> None:
    said = Conversation(turns=(HELLO,), extras=Extras(Dialect.OPENAI_CHAT, {"prediction": {}}))
    assert dropped(said) == ("prediction",)


# How answers are read


def read(*parts: Any, **more: Any) -> Any:
    return read_reply(json.dumps(gemini.answer(*parts, **more)).encode())


def test_a_whole_answer_and_its_stream_say_the_same() -> None:
    whole = gemini.answer(
        gemini.THOUGHT,
        gemini.TEXT | {"thoughtSignature": gemini.SIGNATURE},
        gemini.call(signed=True),
        gemini.call("g", id_="own"),
        gemini.PICTURE,
    )
    reader = ReplyReader()
    events = [event for piece in gemini.stream(whole) for event in reader.feed(piece)]
    streamed = gathered([*events, *reader.end()])

    assert streamed == read_reply(json.dumps(whole).encode())
    assert streamed.blocks[:3] == (
        Thinking(text="Let me see."),
        Text(text=gemini.TEXT["text"]),
        Thinking(sealed=SEAL, redacted=True),
    )
    assert streamed.blocks[5:] == (Image(source=Inline("image/png", gemini.PNG)),)
    call_, other = streamed.blocks[3], streamed.blocks[4]
    assert isinstance(call_, ToolCall)
    assert isinstance(other, ToolCall)
    assert json.loads(call_.arguments) == {"city": "Zürich"}
    assert (call_.id, call_.sealed) == ("call_gwz_resp0001_1", SEAL)
    assert other.id == "own"
    assert streamed.finish is Finish.TOOL


def test_seals_go_back_to_where_they_came_from() -> None:
    """What is read of an answer is written as the same parts."""
    parts = [
        {"text": "Hm.", "thought": True, "thoughtSignature": "YQ=="},
        {"text": "Said.", "thoughtSignature": "Yg=="},
        {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "Yw=="},
        {"functionCall": {"name": "g", "args": {}}},
    ]
    reply = read(*parts)
    results = tuple(ToolResult(call_id=block.id) for block in reply.blocks if isinstance(block, ToolCall))
    turns = (HELLO, Turn(role=Role.ASSISTANT, blocks=reply.blocks), Turn(role=Role.TOOL, blocks=results))
    assert written(Conversation(turns=turns), gemini.NEWER)["contents"][1]["parts"] == parts


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        ("STOP", Finish.END),
        ("MAX_TOKENS", Finish.LENGTH),
        ("SAFETY", Finish.FILTER),
        ("PROHIBITED_CONTENT", Finish.FILTER),
        ("NEVER_HEARD_OF", Finish.END),
    ],
)
def test_reasons_to_stop(finish: str, expected: Finish) -> None:
    assert read(gemini.TEXT, finish=finish).finish is expected


@pytest.mark.parametrize("finish", ["MALFORMED_FUNCTION_CALL", "MISSING_THOUGHT_SIGNATURE", "OTHER"])
def test_a_failure_is_no_clean_stop(finish: str) -> None:
    with pytest.raises(VendorFault, match=finish):
        read(gemini.TEXT, finish=finish)


def test_a_blocked_prompt_is_filtered() -> None:
    reply = read_reply(json.dumps(gemini.blocked()).encode())
    assert (reply.blocks, reply.finish) == ((), Finish.FILTER)


def test_sources_are_counted_in_characters() -> None:
    text = "Zürich is sunny."
    segment = {"startIndex": 0, "endIndex": len(text.encode()), "text": text}
    grounding = {
        "webSearchQueries": ["weather", "zürich"],
        "groundingChunks": [{"web": {"uri": "https://a.test", "title": "A"}}],
        "groundingSupports": [{"segment": segment, "groundingChunkIndices": [0, 9]}],
    }
    reply = read({"text": text}, groundingMetadata=grounding)
    block = reply.blocks[0]
    assert isinstance(block, Text)
    (citation,) = block.citations
    assert (citation.url, citation.start, citation.end) == ("https://a.test", 0, len(text))


# What is counted


def counted(**counts: Any) -> Usage | None:
    return msgspec.convert(counts, Counts).usage()


def test_counts_are_disjoint() -> None:
    assert counted(**gemini.GOLDEN) == Usage(
        input=362, cache_read=400, image_in=258, output=30, reasoning=50, requests=1
    )
    sound = [{"modality": "AUDIO", "tokenCount": 60}, {"modality": "TEXT", "tokenCount": 40}]
    cached = [{"modality": "AUDIO", "tokenCount": 10}]
    heard = counted(
        promptTokenCount=100,
        cachedContentTokenCount=10,
        promptTokensDetails=sound,
        cacheTokensDetails=cached,
        candidatesTokenCount=5,
    )
    assert heard == Usage(input=40, cache_read=10, audio_in=50, output=5, requests=1)


def test_thoughts_inside_the_answers_count_are_found_by_the_total() -> None:
    inside = counted(promptTokenCount=10, candidatesTokenCount=50, thoughtsTokenCount=30, totalTokenCount=60)
    assert inside == Usage(input=10, output=20, reasoning=30, requests=1)
    beside = counted(promptTokenCount=10, candidatesTokenCount=50, thoughtsTokenCount=30, totalTokenCount=90)
    assert beside == Usage(input=10, output=50, reasoning=30, requests=1)


def test_nonsense_counts_for_nothing() -> None:
    assert counted() is None
    assert counted(promptTokenCount=10**12) is None
    assert counted(promptTokenCount=-1) is None


# Streams


async def chunks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@pytest.mark.anyio
@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_a_stream_cut_anywhere(size: int) -> None:
    data = b"".join(gemini.stream(gemini.answer(gemini.THOUGHT, gemini.TEXT, usage=gemini.GOLDEN)))
    stream = GeminiStream(chunks(data, size), lambda: None, {})
    reader = ReplyReader()
    events = [event async for piece in stream for event in reader.feed(piece)]
    reply = gathered([*events, *reader.end()])
    assert reply.blocks == (Thinking(text="Let me see."), Text(text=gemini.TEXT["text"]))
    assert (stream.usage, stream.finish_reason) == (counted(**gemini.GOLDEN), "STOP")


@pytest.mark.anyio
async def test_counts_behind_the_reason_to_stop_have_the_last_word() -> None:
    last = {"usageMetadata": gemini.token_usage(99)}
    data = b"".join([*gemini.stream(gemini.answer()), gemini.event(last)])
    stream = GeminiStream(chunks(data, 50), lambda: None, {})
    async for _ in stream:
        pass
    assert stream.usage is not None
    assert stream.usage.output == 99


@pytest.mark.anyio
async def test_an_error_inside_a_stream_comes_behind_what_was_said() -> None:
    error = {"error": {"code": 503, "status": "UNAVAILABLE", "message": "overloaded"}}
    data = b"".join([*gemini.stream(gemini.answer(gemini.TEXT))[:2], gemini.event(error)])
    stream = GeminiStream(chunks(data, 10_000), lambda: None, {})
    passed: list[bytes] = []
    with pytest.raises(VendorFault) as fault:
        await collected(stream, passed)
    assert fault.value.kind is FaultKind.OVERLOADED
    assert b"Hello" in b"".join(passed)


@pytest.mark.anyio
async def test_a_stream_left_early_charges_what_was_read_and_thought() -> None:
    usage = gemini.GOLDEN | {"candidatesTokenCount": 3}
    data = b"".join(gemini.stream(gemini.answer({"text": "word " * 50}, usage=usage))[:-1])
    stream = GeminiStream(chunks(data, 10_000), lambda: None, {})
    async for _ in stream:
        break
    stream.close()
    assert stream.usage is not None
    assert (stream.usage.cache_read, stream.usage.reasoning) == (400, 50)
    assert stream.usage.output == stream.produced_tokens()


async def collected(stream: GeminiStream, into: list[bytes]) -> None:
    async for piece in stream:
        into.append(piece)


# Refusals


def test_a_limit_says_how_long_to_wait() -> None:
    body = gemini.exhausted("34.2s").json_body
    for shape in (body, [body]):
        fault = read_fault(429, {}, json.dumps(shape).encode())
        assert (fault.kind, fault.retry_after_s) == (FaultKind.RATE_LIMITED, 35)


@pytest.mark.parametrize(
    ("code", "status", "message", "kind"),
    [
        (400, "INVALID_ARGUMENT", "Invalid value at 'contents'", FaultKind.REFUSED),
        (400, "FAILED_PRECONDITION", "User location is not supported", FaultKind.CREDENTIAL_REJECTED),
        (400, "FAILED_PRECONDITION", "Please enable billing", FaultKind.ACCOUNT_EMPTY),
        (403, "PERMISSION_DENIED", "no", FaultKind.CREDENTIAL_REJECTED),
        (404, "NOT_FOUND", "no", FaultKind.MODEL_MISSING),
        (500, "INTERNAL", "no", FaultKind.SERVER_ERROR),
        (503, "UNAVAILABLE", "no", FaultKind.OVERLOADED),
        (504, "DEADLINE_EXCEEDED", "no", FaultKind.SERVER_ERROR),
    ],
)
def test_refusals_by_their_status(code: int, status: str, message: str, kind: FaultKind) -> None:
    body = json.dumps(gemini.refused(code, status, message).json_body).encode()
    assert read_fault(code, {}, body).kind is kind


# Pictures


@pytest.mark.parametrize(
    ("size", "config"),
    [
        ("1024x1024", {"aspectRatio": "1:1", "imageSize": "1K"}),
        ("1024x1536", {"aspectRatio": "2:3", "imageSize": "1K"}),
        ("1792x1024", {"aspectRatio": "16:9", "imageSize": "1K"}),
        ("2048x2048", {"aspectRatio": "1:1", "imageSize": "2K"}),
        ("4096x4096", {"aspectRatio": "1:1", "imageSize": "4K"}),
        ("auto", {}),
        ("4:5", {"aspectRatio": "4:5"}),
    ],
)
def test_sizes_become_ratios(size: str, config: Any) -> None:
    assert images._image_config(size, gemini.DRAWS) == config
    assert "imageSize" not in images._image_config(size, "gemini-2.5-flash-image")
