"""Answers of Anthropic's vendors are read, and any answer is written as Anthropic's clients read it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.dialects.anthropic.conversation_writer import valid_id
from adapters.dialects.anthropic.reply_reader import ReplyReader, read_reply
from adapters.dialects.anthropic.reply_writer import ReplyWriter, write_reply
from adapters.dialects.anthropic.server import read_request
from adapters.transport.sse import events
from domain.catalog import Dialect
from domain.inference.chat import ChatCall
from domain.inference.conversation import (
    Citation,
    Extras,
    Foreign,
    Image,
    Inline,
    Link,
    Opaque,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from domain.inference.faults import FaultKind, VendorFault
from domain.inference.reply import (
    Cited,
    Closed,
    Finish,
    Finished,
    Grew,
    Opened,
    Reply,
    ReplyEvent,
    Sealed,
    Started,
    gathered,
)
from domain.usage import Usage
from tests.fakes.anthropic_upstream import (
    PING,
    REDACTED,
    SERVER_TOOL,
    STRANGE,
    TEXT,
    THINKING,
    error_event,
    event,
    message,
    stream,
    tool_use,
)
from tests.fakes.upstream import encode

CALL = ChatCall(
    request=read_request(b'{"model":"acme/one","max_tokens":5,"messages":[{"role":"user","content":"Hello"}]}'),
    vendor_model="local-model",
    id="r1",
)
USAGE = Usage(input=5, output=2, requests=1)
CITED = {
    "type": "char_location",
    "cited_text": "c",
    "document_index": 0,
    "document_title": "T",
    "start_char_index": 3,
    "end_char_index": 4,
}


def reply(*blocks: Any, finish: Finish = Finish.END, **members: Any) -> Reply:
    return Reply(**{"id": "msg_1", "model": "m", "blocks": blocks, "finish": finish} | members)


def written(*blocks: Any, **members: Any) -> Any:
    return json.loads(write_reply(reply(*blocks, **members), USAGE, CALL))


def streamed(reading: bytes) -> Reply:
    reader = ReplyReader()
    return gathered([*reader.feed(reading), *reader.end()])


class TestReading:
    @pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
    def test_whole_and_streamed_are_the_same(self, line_end: bytes) -> None:
        told = message(
            THINKING,
            REDACTED,
            TEXT | {"citations": [CITED]},
            SERVER_TOOL,
            STRANGE,
            tool_use(),
            tool_use("toolu_2", "nothing", **{"a": 1}),
        )

        whole = read_reply(encode(told))

        assert streamed(b"".join(stream(told)).replace(b"\n", line_end)) == whole
        assert [type(block) for block in whole.blocks] == [
            Thinking,
            Thinking,
            Text,
            Foreign,
            Foreign,
            ToolCall,
            ToolCall,
        ]
        assert whole.finish is Finish.TOOL
        cited = whole.blocks[2]
        assert isinstance(cited, Text)
        assert cited.citations == (Citation(title="T", quoted="c", extras=Extras(Dialect.ANTHROPIC, CITED)),)

    @pytest.mark.parametrize(
        ("reason", "finish"),
        [
            ("end_turn", Finish.END),
            ("max_tokens", Finish.LENGTH),
            ("model_context_window_exceeded", Finish.CONTEXT),
            ("tool_use", Finish.TOOL),
            ("stop_sequence", Finish.STOP_SEQUENCE),
            ("refusal", Finish.FILTER),
            ("pause_turn", Finish.PAUSE),
            ("something_new", Finish.END),
        ],
    )
    def test_why_it_stopped(self, reason: str, finish: Finish) -> None:
        told = message(stop_reason=reason, stop_sequence="END")

        for read in (read_reply(encode(told)), streamed(b"".join(stream(told)))):
            assert (read.finish, read.stop_sequence) == (finish, "END")
        if reason != "something_new":
            assert written(finish=finish)["stop_reason"] == reason

    def test_a_tool_without_arguments_has_none(self) -> None:
        told = message({"type": "tool_use", "id": "t", "name": "n", "input": {}})
        quiet = [frame for frame in stream(told) if b"input_json_delta" not in frame]

        for read in (read_reply(encode(told)), streamed(b"".join(stream(told))), streamed(b"".join(quiet))):
            assert read.blocks == (ToolCall(id="t", name="n", arguments="{}"),)

    def test_servers_that_imitate_it_may_forget_frames(self) -> None:
        delta = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "a"})
        thought = event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "t"})
        end = event("message_delta", delta={"stop_reason": "end_turn"}, usage={})

        assert streamed(delta + PING + delta + end).blocks == (Text(text="aa"),)
        assert streamed(thought + end + end).blocks == (Thinking(text="t"),)
        start = event("content_block_start", index=0, content_block=tool_use(a=1))
        assert streamed(start + end).blocks == (ToolCall(id="toolu_01", name="get_weather", arguments='{"a":1}'),)

    def test_what_cannot_be_read_is_a_fault(self) -> None:
        for body in (b"", b"[]", b"{}", b'{"content":[1]}'):
            with pytest.raises(VendorFault):
                read_reply(body)
        for frames in (b"event: x\ndata: {broken\n\n", b"data: [1]\n\n"):
            with pytest.raises(VendorFault):
                ReplyReader().feed(frames)
        with pytest.raises(VendorFault) as told:
            ReplyReader().feed(error_event())
        assert told.value.kind is FaultKind.OVERLOADED


class TestWriting:
    def test_usage_adds_up_however_it_was_counted(self) -> None:
        usage = Usage(input=1, cache_read=2, cache_write_other=4, audio_in=8, output=16, reasoning=32, audio_out=64)

        told = json.loads(write_reply(reply(), usage, CALL))["usage"]

        assert told["input_tokens"] + told["cache_read_input_tokens"] + told["cache_creation_input_tokens"] == 15
        assert told["output_tokens"] == 112
        assert told["output_tokens_details"] == {"thinking_tokens": 32}
        assert "cache_creation" not in told

    def test_what_the_dialect_has_no_word_for(self) -> None:
        told = written(
            Refusal(text="No."),
            Image(source=Link("https://a.test/b.png")),
            Image(source=Inline("image/png", "AA==")),
            Foreign(Dialect.OPENAI_RESPONSES, "shell_call", {}),
            Text(text="x", citations=(Citation(url="u", title="t", quoted="q"),)),
            Text(text=""),
            Thinking(summary=("a", "b")),
            ToolCall(id="call:1", name="f", arguments="not json"),
            ToolCall(id="c", name="patch", arguments="*** Begin", custom=True),
        )

        assert [block["type"] for block in told["content"]] == ["text"] * 4 + ["thinking", "tool_use", "tool_use"]
        assert told["content"][1]["text"] == "![image](https://a.test/b.png)"
        assert told["content"][2]["text"] == "![image](data:image/png;base64,AA==)"
        assert told["content"][3]["citations"] == [
            {"type": "web_search_result_location", "url": "u", "title": "t", "cited_text": "q", "encrypted_index": ""}
        ]
        assert told["content"][4] == {"type": "thinking", "thinking": "a\n\nb", "signature": ""}
        assert told["content"][5]["input"] == {"_raw": "not json"}
        assert told["content"][5]["id"] == valid_id("call:1")
        assert told["content"][6]["input"] == {"input": "*** Begin"}
        assert told["stop_reason"] == "refusal"
        assert written(Text(text="a"), id="chatcmpl-1")["id"] == "msg_r1"

    def test_the_signature_comes_last_in_its_block_and_a_summary_keeps_its_parts(self) -> None:
        writer = ReplyWriter(CALL)
        stream_ = writer.write(
            [
                Started(id="x", model="m"),
                Opened(Thinking()),
                Sealed(Opaque("anthropic", "SIG")),
                Grew("a"),
                Grew("b"),
                Closed(),
                Finished(finish=Finish.LENGTH),
            ],
            None,
        ) + writer.end(USAGE)

        told = [json.loads(each.data) for each in events(stream_)]
        assert [each["delta"]["type"] for each in told if each["type"] == "content_block_delta"] == [
            "thinking_delta",
            "thinking_delta",
            "signature_delta",
        ]
        assert told[0]["message"]["usage"]["input_tokens"] == CALL.request.prompt_tokens
        assert told[-2]["usage"]["input_tokens"] == 5
        assert told[-2]["delta"]["stop_reason"] == "max_tokens"

    def test_a_custom_call_streams_as_the_function_that_stands_for_it(self) -> None:
        writer = ReplyWriter(CALL)
        said: list[ReplyEvent] = [
            Opened(ToolCall(id="c", name="patch", arguments="", custom=True)),
            Grew('a"\n'),
            Grew("é"),
            Closed(),
        ]

        stream_ = writer.write(said, None) + writer.end(USAGE)

        deltas = [json.loads(each.data)["delta"] for each in events(stream_) if each.name == "content_block_delta"]
        assert json.loads("".join(delta["partial_json"] for delta in deltas)) == {"input": 'a"\né'}

    def test_sources_wait_for_the_text_that_they_belong_to(self) -> None:
        writer = ReplyWriter(CALL)
        citation = Citation(url="u")

        early = writer.write([Opened(Text(text="")), Cited(citation)], None)
        late = writer.write([Grew("a"), Cited(citation), Closed()], None)

        assert b"citations_delta" not in early
        assert late.count(b"citations_delta") == 2
