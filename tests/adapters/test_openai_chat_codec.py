"""OpenAI Chat read into the canonical form and written from it, in the cases that property tests do not reach."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from adapters.dialects.openai_chat.codec import OpenAIChatCaller, OpenAIChatCodec
from adapters.dialects.openai_chat.quirks import STANDARD, Quirks, ReasoningBack, ReasoningWish, ToolChoices
from adapters.dialects.openai_chat.server import read_request
from adapters.dialects.openai_chat.target import LOSSES
from domain.catalog import Dialect
from domain.errors import InvalidRequest, UnsupportedParameter
from domain.inference.chat import ChatCall
from domain.inference.conversation import (
    Audio,
    CacheMark,
    Citation,
    Conversation,
    CustomTool,
    Document,
    Effort,
    Foreign,
    FunctionTool,
    Image,
    Inline,
    Link,
    Opaque,
    Reasoning,
    Role,
    ServerTool,
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
from domain.inference.reply import Closed, Finish, Grew, Opened, Reply, ReplyEvent, Started, gathered
from domain.usage import Usage

Json = dict[str, Any]
HELLO = Turn(role=Role.USER, blocks=(Text(text="hi"),))
PNG = Image(source=Inline("image/png", "QQ=="))
ADD = FunctionTool(name="add", parameters={"type": "object"})
PATCH = CustomTool(name="patch", description="Edits files.")


def call(dialect: Dialect = Dialect.OPENAI_CHAT, **members: object) -> ChatCall:
    body = {"model": "acme/one", "messages": [{"role": "user", "content": "hi"}], **members}
    request = msgspec.structs.replace(read_request(json.dumps(body).encode()), dialect=dialect)
    return ChatCall(request=request, vendor_model="one", id="r1", at_s=5)


def read(**members: object) -> Conversation:
    body = {"model": "acme/one", "messages": [{"role": "user", "content": "hi"}], **members}
    return OpenAIChatCaller().read_conversation(json.dumps(body).encode())


def written(
    conversation: Conversation, quirks: Quirks = STANDARD, dialect: Dialect = Dialect.ANTHROPIC
) -> tuple[Json, tuple[str, ...]]:
    told = OpenAIChatCodec(quirks).write_conversation(conversation, call(dialect))
    return json.loads(told.body), told.dropped


def said(*blocks: Any, role: Role = Role.USER, **more: Any) -> Conversation:
    return Conversation(turns=(Turn(role=role, blocks=blocks),), **more)


# Reading requests


def test_legacy_functions_are_tools() -> None:
    conversation = read(
        messages=[
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": "{}"}},
            {"role": "function", "name": "add", "content": "42"},
        ],
        functions=[{"name": "add", "parameters": {"type": "object"}}],
        function_call={"name": "add"},
    )
    assert conversation.tools == (ADD,)
    assert conversation.tool_choice == ToolChoice(mode=ToolMode.REQUIRED, named="add")
    asked, result = conversation.turns[1].blocks[0], conversation.turns[2].blocks[0]
    assert isinstance(asked, ToolCall)
    assert isinstance(result, ToolResult)
    assert asked.id == result.call_id


@pytest.mark.parametrize(
    ("members", "meant"),
    [
        ({"reasoning_effort": "low"}, Reasoning(effort=Effort.LOW)),
        ({"reasoning": {"max_tokens": 4096, "exclude": True}}, Reasoning(budget_tokens=4096, hidden=True)),
        ({"reasoning": {"enabled": False}}, Reasoning(effort=Effort.NONE)),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, Reasoning(budget_tokens=2048)),
        ({"thinking": {"type": "disabled"}}, Reasoning(effort=Effort.NONE)),
        ({"reasoning_effort": "default"}, None),
        ({}, None),
    ],
)
def test_the_wish_to_reason_has_many_forms(members: Json, meant: Reasoning | None) -> None:
    assert read(**members).reasoning == meant


def test_results_in_a_row_are_one_turn() -> None:
    results = [{"role": "tool", "tool_call_id": f"c{number}", "content": "x"} for number in range(3)]
    turns = read(messages=[{"role": "user", "content": "hi"}, *results]).turns
    assert [turn.role for turn in turns] == [Role.USER, Role.TOOL]
    assert len(turns[1].blocks) == 3


@pytest.mark.parametrize(
    ("part", "block"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x.test/a.png", "detail": "low"}},
         Image(source=Link("https://x.test/a.png"), detail="low")),
        ({"type": "file", "file": {"file_id": "file-1"}}, Document(source=StoredFile("file-1"))),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,QQ==", "filename": "a.pdf"}},
         Document(source=Inline("application/pdf", "QQ=="), name="a.pdf")),
        ({"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}}, Audio(data="QQ==", format="wav")),
        ({"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
         Text(text="x", cache=CacheMark(ttl="1h"))),
        ({"type": "video_url", "video_url": {"url": "https://x.test/v"}},
         Foreign(Dialect.OPENAI_CHAT, "video_url", {"type": "video_url", "video_url": {"url": "https://x.test/v"}})),
    ],
)  # fmt: skip
def test_parts_are_read_as_blocks(part: Json, block: object) -> None:
    assert read(messages=[{"role": "user", "content": [part]}]).turns[0].blocks == (block,)


def test_seals_come_back_with_the_block_that_they_belong_to() -> None:
    seal, bound = Opaque("anthropic", "c2ln"), Opaque("gemini", "dGhv")
    reply = Reply(
        id="m",
        model="x",
        blocks=(Thinking(text="hm", sealed=seal), ToolCall(id="c1", name="add", arguments="{}", sealed=bound)),
        finish=Finish.TOOL,
    )
    body = json.loads(OpenAIChatCaller().write_reply(reply, Usage(), call()))
    turns = read(messages=[{"role": "user", "content": "hi"}, body["choices"][0]["message"]]).turns
    assert turns[1].blocks == reply.blocks


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": [7]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
         "messages[0].content[0].image_url.url"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]},
         "messages[0].content[0].file.file_data"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {}}]}]},
         "messages[0].function.name"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]},
         "messages[0].tool_calls[0].id"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"parameters": {}}}]}, "tools[0].function.name"),
        ({"tools": ["x"]}, "tools[0]"),
        ({"tool_choice": 7}, "tool_choice"),
        ({"tool_choice": {"type": "maybe"}}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"stop": {"a": 1}}, "stop"),
        ({"temperature": "hot"}, "temperature"),
        ({"logit_bias": {"1": "x"}}, "logit_bias"),
        ({"metadata": {"a": 1}}, "metadata"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_its_name(members: Json, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(**members)
    assert refused.value.param is not None
    assert refused.value.param.startswith(param.partition(".function.name")[0])
    assert refused.value.param in refused.value.message


# Writing requests


def test_a_results_picture_follows_in_a_user_message() -> None:
    body, dropped = written(
        Conversation(
            turns=(
                Turn(role=Role.ASSISTANT, blocks=(ToolCall(id="c1", name="add", arguments="{}"),)),
                Turn(
                    role=Role.USER, blocks=(ToolResult(call_id="c1", content=(Text(text="see"), PNG)), Text(text="so?"))
                ),
            )
        )
    )
    result, shown = body["messages"][1:]
    assert result == {"role": "tool", "tool_call_id": "c1", "content": "see"}
    assert [part["type"] for part in shown["content"]] == ["text", "image_url", "text"]
    assert "c1" in shown["content"][0]["text"]
    assert dropped == ()


def test_a_failed_result_says_so_in_words() -> None:
    body, _ = written(said(ToolResult(call_id="c1", content=(Text(text="no such file"),), failed=True)))
    assert body["messages"][0]["content"] == "Error: no such file"


@pytest.mark.parametrize(
    ("conversation", "name"),
    [
        (said(Text(text="x", cache=CacheMark())), "cache_control"),
        (said(Text(text="x", citations=(Citation(url="https://x.test"),))), "citations"),
        (said(Document(source=Inline("text/plain", "QQ=="), context="from 1999")), "context"),
        (Conversation(turns=(HELLO,), logprobs=3), "logprobs"),
        (Conversation(turns=(HELLO,), metadata={"a": "b"}), "metadata"),
        (Conversation(turns=(HELLO,), service_tier="standard_only"), "service_tier"),
        (Conversation(turns=(HELLO,), verbosity="low"), "verbosity"),
        (Conversation(turns=(HELLO,), tools=(WebSearch(),)), "web_search"),
        (Conversation(turns=(HELLO,), tools=(ServerTool(Dialect.ANTHROPIC, "bash_20250124", {}),)),
         "anthropic:bash_20250124"),
        (said(Foreign(Dialect.ANTHROPIC, "search_result", {}), Text(text="x"), PNG), "anthropic:search_result"),
        (Conversation(turns=(HELLO,), tools=(CustomTool(name="p", format={"type": "grammar"}),)), "tools[0].format"),
        (Conversation(turns=(HELLO,), reasoning=Reasoning(effort=Effort.NONE)), "thinking"),
    ],
)  # fmt: skip
def test_what_only_tunes_is_dropped_and_named(conversation: Conversation, name: str) -> None:
    _, dropped = written(conversation, Quirks(efforts={"none": ""}))
    assert dropped == (name,)


def test_every_name_that_is_dropped_is_in_the_table_of_losses() -> None:
    assert all(reason.endswith(".") for reason in LOSSES.values())
    named = {"cache_control", "citations", "context", "logprobs", "metadata", "service_tier", "verbosity", "web_search"}
    assert named | {"format", "reasoning", "thinking", "top_k"} == set(LOSSES)


@pytest.mark.parametrize(
    ("conversation", "param"),
    [
        (Conversation(turns=(HELLO,), answers=2), "n"),
        (said(Document(source=Inline("application/pdf", "QQ=="))), "document"),
        (said(Audio(data="QQ==", format="wav")), "input_audio"),
        (said(Image(source=StoredFile("file-1"))), "image"),
        (Conversation(turns=(HELLO,), tools=(ADD,), tool_choice=ToolChoice(mode=ToolMode.REQUIRED)), "tool_choice"),
    ],
)
def test_what_would_change_the_answer_is_refused(conversation: Conversation, param: str) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        written(conversation, Quirks(tool_choices=ToolChoices.FREE))
    assert refused.value.param == param


def test_a_tool_choice_is_said_in_the_vendors_form() -> None:
    required = Conversation(turns=(HELLO,), tools=(ADD,), tool_choice=ToolChoice(mode=ToolMode.REQUIRED))
    assert written(required, Quirks(tool_choices=ToolChoices.ANY))[0]["tool_choice"] == "any"
    assert written(required)[0]["tool_choice"] == "required"
    allowed = ToolChoice(mode=ToolMode.AUTO, allowed=("add",))
    several = Conversation(turns=(HELLO,), tools=(ADD, FunctionTool(name="sub")), tool_choice=allowed)
    body, _ = written(several)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["add"]
    assert body["tool_choice"] == "auto"


@pytest.mark.parametrize(
    ("wishes", "wish", "sent"),
    [
        ((ReasoningWish.EFFORT,), Reasoning(budget_tokens=10_000), {"reasoning_effort": "high"}),
        ((ReasoningWish.EFFORT,), Reasoning(effort=Effort.MAX), {"reasoning_effort": "high"}),
        ((ReasoningWish.EFFORT,), Reasoning(adaptive=True), {}),
        ((ReasoningWish.OBJECT,), Reasoning(budget_tokens=10_000), {"reasoning": {"max_tokens": 10_000}}),
        ((ReasoningWish.OBJECT,), Reasoning(adaptive=True), {"reasoning": {"enabled": True}}),
        ((ReasoningWish.THINKING,), Reasoning(effort=Effort.NONE), {"thinking": {"type": "disabled"}}),
        ((ReasoningWish.SWITCH,), Reasoning(effort=Effort.NONE),
         {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}),
        ((ReasoningWish.FLAG,), Reasoning(effort=Effort.LOW), {"enable_thinking": True}),
    ],
)  # fmt: skip
def test_the_wish_to_reason_is_said_in_the_vendors_words(
    wishes: tuple[ReasoningWish, ...], wish: Reasoning, sent: Json
) -> None:
    body, dropped = written(Conversation(turns=(HELLO,), reasoning=wish), Quirks(reasoning_wishes=wishes))
    assert {name: body[name] for name in body if name not in ("model", "messages")} == sent
    assert dropped == ()


def test_no_vendor_is_sent_the_seal_of_another() -> None:
    thought = Thinking(text="hm", sealed=Opaque("anthropic", "c2VhbA"))
    for back in ReasoningBack:
        body, _ = written(said(thought, role=Role.ASSISTANT), Quirks(reasoning_back=back, family="acme"))
        assert "c2VhbA" not in json.dumps(body)


def test_ids_of_calls_take_the_form_that_the_vendor_wants_and_stay_together() -> None:
    turns = (
        Turn(role=Role.ASSISTANT, blocks=(ToolCall(id="toolu_01ABC", name="add", arguments=""),)),
        Turn(role=Role.TOOL, blocks=(ToolResult(call_id="toolu_01ABC", content=(Text(text="42"),)),)),
    )
    body, _ = written(Conversation(turns=turns), Quirks(tool_id_length=9))
    id_ = body["messages"][0]["tool_calls"][0]["id"]
    assert len(id_) == 9
    assert id_.isalnum()
    assert body["messages"][1]["tool_call_id"] == id_
    assert body["messages"][0]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_the_last_four_cache_marks_are_kept() -> None:
    blocks = [Text(text=str(number), cache=CacheMark(ttl="1h")) for number in range(6)]
    body, dropped = written(said(*blocks), Quirks(cache_field="cache_control", text_parts=True))
    marked = [part["text"] for part in body["messages"][0]["content"] if "cache_control" in part]
    assert marked == ["2", "3", "4", "5"]
    assert dropped == ("cache_control",)


def test_a_long_user_id_is_sent_as_a_short_one_that_stays_the_same() -> None:
    long = Conversation(turns=(HELLO,), user="user_" + "a" * 100)
    assert len(written(long)[0]["user"]) == 64
    assert written(long) == written(long)


def test_a_limit_beyond_what_the_model_can_write_is_lowered_to_that() -> None:
    limited = msgspec.structs.replace(call(), output_max=8_192)
    told = OpenAIChatCodec().write_conversation(Conversation(turns=(HELLO,), output_max=32_000), limited)
    assert json.loads(told.body)["max_tokens"] == 8_192


@pytest.mark.parametrize(("shown", "roles"), [((), ["tool"]), ((PNG,), ["tool", "assistant", "user"])])
def test_where_only_the_assistant_may_follow_a_tool_nobody_else_does(
    shown: tuple[Image, ...], roles: list[str]
) -> None:
    result = ToolResult(call_id="c1", content=(Text(text="42"),))
    body, _ = written(said(result, Text(text="So?"), *shown), Quirks(user_after_tool=False))
    assert [message["role"] for message in body["messages"]] == roles
    assert "So?" in json.dumps(body)


# Custom tools


def test_a_custom_tool_is_a_function_where_the_vendor_has_none_and_its_call_is_custom_again() -> None:
    past = ToolCall(id="c0", name="patch", arguments="*** old", custom=True)
    asked = Conversation(turns=(HELLO, Turn(role=Role.ASSISTANT, blocks=(past,))), tools=(PATCH,))
    body, _ = written(asked)
    assert body["tools"][0]["function"]["parameters"]["required"] == ["input"]
    assert json.loads(body["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {"input": "*** old"}

    made = ToolCall(id="c1", name="patch", arguments='{"input":"*** new\\n"}')
    theirs = call(tools=[{"type": "custom", "custom": {"name": "patch"}}])
    reply = Reply(id="m", model="x", blocks=(made,), finish=Finish.TOOL)
    whole = json.loads(OpenAIChatCaller().write_reply(reply, Usage(), theirs))
    told = {"id": "c1", "type": "custom", "custom": {"name": "patch", "input": "*** new\n"}}
    assert whole["choices"][0]["message"]["tool_calls"] == [told]

    writer = OpenAIChatCaller().reply_writer(theirs)
    opened = ToolCall(id="c1", name="patch", arguments="")
    events: list[ReplyEvent] = [Started(id="m", model="x"), Opened(opened)]
    events += [Grew('{"inp'), Grew('ut":"*** new\\n"}'), Closed()]
    stream = writer.write(events, None) + writer.end(Usage())
    assert json.dumps({"index": 0, **told}, separators=(",", ":")).encode() in stream


# Reading answers


def stream_of(*deltas: Json, finish: str | None = None, model: str = "m", **more: object) -> bytes:
    chunks: list[Json] = [{"id": "c", "model": model, "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    if finish:
        chunks.append({"choices": [{"index": 0, "delta": None, "finish_reason": finish}], **more})
    return b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks)


def answered(stream: bytes, quirks: Quirks = STANDARD) -> Reply:
    reader = OpenAIChatCodec(quirks).reply_reader()
    return gathered([*reader.feed(stream), *reader.end()])


def calls_of(deltas: Sequence[Json]) -> list[tuple[str, str]]:
    reply = answered(stream_of(*({"tool_calls": [delta]} for delta in deltas)))
    return [(block.name, block.arguments) for block in reply.blocks if isinstance(block, ToolCall)]


@pytest.mark.parametrize(
    "deltas",
    [
        # a new id on the same index
        [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}},
         {"index": 0, "id": "b", "function": {"name": "g", "arguments": '{"x":1}'}}],
        # a new id on the same index behind a call without arguments
        [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}},
         {"index": 0, "id": "b", "function": {"name": "g", "arguments": '{"x":1}'}}],
        # another id in every piece of one call
        [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}},
         {"index": 0, "id": "z", "function": {"arguments": "}"}},
         {"index": 1, "id": "b", "function": {"name": "g", "arguments": '{"x":1}'}}],
        # no index and no id at all
        [{"function": {"name": "f", "arguments": "{}"}}, {"function": {"name": "g", "arguments": '{"x"'}},
         {"function": {"arguments": ":1}"}}],
        # the name comes later than the call, and behind the next call's beginning
        [{"index": 0, "id": "a", "function": {"arguments": ""}},
         {"index": 1, "id": "b", "function": {"name": "g", "arguments": '{"x"'}},
         {"index": 0, "function": {"name": "f", "arguments": "{}"}},
         {"index": 1, "function": {"arguments": ":1}"}}],
        # arguments as objects
        [{"index": 0, "id": "a", "function": {"name": "f", "arguments": {}}},
         {"index": 1, "id": "b", "function": {"name": "g", "arguments": {"x": 1}}}],
        # by id, without an index
        [{"id": "a", "function": {"name": "f", "arguments": "{"}},
         {"id": "b", "function": {"name": "g", "arguments": ""}},
         {"id": "a", "function": {"arguments": "}"}},
         {"id": "b", "function": {"arguments": '{"x":1}'}}],
    ],
)  # fmt: skip
def test_tool_calls_are_put_together_whatever_is_missing(deltas: Sequence[Json]) -> None:
    assert [(name, arguments or "{}") for name, arguments in calls_of(deltas)] == [("f", "{}"), ("g", '{"x":1}')]


def test_text_behind_a_call_that_is_not_whole_waits_for_it() -> None:
    reply = answered(
        stream_of(
            {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x"'}}]},
            {"content": "Then "},
            {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
            {"content": "this."},
            finish="tool_calls",
        )
    )
    assert [type(block) for block in reply.blocks] == [ToolCall, Text]
    assert reply.blocks[1] == Text(text="Then this.")


def test_ids_that_a_vendor_does_not_give_differ_from_answer_to_answer() -> None:
    made = [
        answered(stream_of({"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}).replace(b'"c"', name))
        for name in (b'"c1"', b'"c1"', b'"c2"')
    ]
    ids = [block.id for reply in made for block in reply.blocks if isinstance(block, ToolCall)]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("model", "deltas"),
    [
        ("acme-r1-thinking", [{"content": "hm"}, {"content": "m</th"}, {"content": "ink>\n\n42"}]),
        ("acme-r1-thinking", [{"content": "<think>hmm"}, {"content": "</think>42"}]),
        ("acme-r1", [{"content": "<think>"}, {"content": "\n"}, {"content": "hmm</think>"}, {"content": "\n\n42"}]),
        ("acme-r1", [{"content": "<thi"}, {"content": "nk>hmm</thin"}, {"content": "k>42"}]),
        ("acme-r1-thinking", [{"reasoning_content": "hmm"}, {"content": "42"}]),
    ],
)
def test_reasoning_between_tags_is_found(model: str, deltas: list[Json]) -> None:
    reply = answered(stream_of(*deltas, model=model), Quirks(think_opened=("-thinking",)))
    assert [block.text for block in reply.blocks if isinstance(block, Thinking)] == ["hmm"]
    assert [block.text for block in reply.blocks if isinstance(block, Text)] == ["42"]


def test_a_whole_answer_whose_opening_tag_is_missing() -> None:
    choice = {"message": {"content": "hmm</think>42"}, "finish_reason": "stop"}
    reply = OpenAIChatCodec().read_reply(json.dumps({"id": "c", "choices": [choice]}).encode())
    assert reply.blocks == (Thinking(text="hmm"), Text(text="42"))


def test_reasoning_that_is_empty_is_none() -> None:
    assert answered(stream_of({"content": "<think>\n\n</think>\n\n42"})).blocks == (Text(text="42"),)


@pytest.mark.parametrize("text", ["a < b", "Use <think> like this", "<thin", "no </think> opened"])
def test_what_only_looks_like_a_tag_is_text(text: str) -> None:
    deltas = [{"content": piece} for piece in text]
    assert answered(stream_of(*deltas)).blocks == (Text(text=text),)


def test_pictures_and_sources_are_read() -> None:
    cited = {
        "type": "url_citation",
        "url_citation": {"url": "https://x.test", "title": "X", "start_index": 0, "end_index": 2},
    }
    reply = answered(
        stream_of(
            {"content": "42"},
            {"annotations": [cited]},
            {"images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}}]},
            finish="stop",
        )
    )
    citation = Citation(url="https://x.test", title="X", start=0, end=2)
    assert reply.blocks == (Text(text="42", citations=(citation,)), PNG)


@pytest.mark.parametrize(
    ("finish", "meant"),
    [("stop", Finish.END), ("eos", Finish.END), ("length", Finish.LENGTH), ("model_length", Finish.CONTEXT),
     ("content_filter", Finish.FILTER), ("function_call", Finish.TOOL), ("COMPLETE", Finish.END)],
)  # fmt: skip
def test_finishes(finish: str, meant: Finish) -> None:
    assert answered(stream_of({"content": "x"}, finish=finish)).finish is meant


@pytest.mark.parametrize("finish", ["error", "insufficient_system_resource", "abort"])
def test_a_failure_in_the_place_of_a_finish_is_a_fault(finish: str) -> None:
    with pytest.raises(VendorFault) as raised:
        answered(stream_of({"content": "x"}, finish=finish))
    assert raised.value.kind is FaultKind.BROKEN_OFF


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'{"choices":[]}', b'{"choices":[{}]}', b"<html>"])
def test_what_is_no_answer_is_the_vendors_fault(body: bytes) -> None:
    with pytest.raises(VendorFault) as raised:
        OpenAIChatCodec().read_reply(body)
    assert raised.value.kind is FaultKind.MALFORMED
