"""Messages lose nothing: what is written is read back the same, whole and streamed, and Anthropic's SDK can read it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic import TypeAdapter

from adapters.dialects.anthropic.conversation_reader import read_conversation
from adapters.dialects.anthropic.conversation_writer import OUTPUT_MAX_UNKNOWN, write_conversation
from adapters.dialects.anthropic.reply_reader import ReplyReader, read_reply
from adapters.dialects.anthropic.reply_writer import ReplyWriter, write_reply
from adapters.dialects.anthropic.server import read_request
from adapters.transport.sse import events
from domain.catalog import Dialect
from domain.inference.chat import ChatCall
from domain.inference.conversation import (
    Citation,
    Conversation,
    Extras,
    Foreign,
    Image,
    JsonObject,
    JsonSchema,
    Link,
    Opaque,
    Refusal,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolMode,
    ToolResult,
    Turn,
)
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
    SummaryGrew,
    gathered,
)
from domain.usage import Usage
from tests.properties.conversations import answer_blocks, conversations, replies, texts, thoughts, told

USAGE = Usage(input=7, cache_read=3, cache_write_1h=2, output=5, reasoning=2, requests=1)
EVENT: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
CALL = ChatCall(
    request=read_request(b'{"model":"acme/one","max_tokens":5,"messages":[{"role":"user","content":"Hello"}]}'),
    vendor_model="local-model",
    id="r1",
)

systems = texts.map(lambda text: (Turn(role=Role.SYSTEM, blocks=(text,)),))


def spelt(blocks: Iterable[Any]) -> tuple[Any, ...]:
    """Blocks whose arguments are spelt as this dialect's readers do, which decode them."""
    return tuple(
        replace(block, arguments=msgspec.json.encode(json.loads(block.arguments)).decode())
        if isinstance(block, ToolCall)
        else block
        for block in blocks
    )


ours = conversations(thoughts("anthropic"), system=st.just(()) | systems).map(
    lambda said: replace(said, turns=tuple(replace(turn, blocks=spelt(turn.blocks)) for turn in said.turns))
)
redacted = st.builds(Thinking, sealed=st.builds(Opaque, st.just("anthropic"), st.just("QQ==")), redacted=st.just(True))
our_replies = replies(thoughts("anthropic") | redacted).map(
    lambda reply: replace(reply, id="msg_1", created_s=None, blocks=spelt(reply.blocks))
)


def in_this_dialect(said: Conversation) -> Conversation:
    """What of a conversation this dialect can say: the losses that are declared, and its way to cut turns."""
    turns: list[Turn] = []
    for turn in said.turns:
        if turn.role is Role.TOOL:
            turn = replace(turn, role=Role.USER)
        if turns and turns[-1].role is turn.role:
            turn = replace(turn, blocks=(*turns.pop().blocks, *turn.blocks))
        results = [block for block in turn.blocks if isinstance(block, ToolResult)]
        rest = [block for block in turn.blocks if not isinstance(block, ToolResult)]
        turns.append(replace(turn, blocks=(*results, *rest)))
    format_ = said.output_format
    choice, parallel = said.tool_choice, said.parallel_tools
    if not said.tools:
        choice = parallel = None
    elif choice is None and parallel is not None:
        choice = read_conversation(b'{"max_tokens":1,"messages":[],"tool_choice":{"type":"auto"}}').tool_choice
    elif choice is not None and choice.mode is ToolMode.NONE and choice.named is None:
        parallel = None
    if isinstance(format_, JsonSchema):
        format_ = JsonSchema(schema=format_.schema)
    return replace(
        said,
        turns=tuple(turns),
        output_format=format_,
        tool_choice=choice,
        parallel_tools=parallel,
        output_max=said.output_max or OUTPUT_MAX_UNKNOWN,
    )


@given(ours)
def test_a_conversation_is_read_as_it_was_written(conversation: Conversation) -> None:
    if isinstance(conversation.output_format, JsonObject):
        conversation = replace(conversation, output_format=None)
    written = write_conversation(conversation, CALL)

    again = read_conversation(written.body)

    assert written.dropped == ()
    assert again == in_this_dialect(conversation)
    assert write_conversation(again, CALL).body == written.body


@given(our_replies)
def test_a_reply_is_read_as_it_was_written_and_the_sdk_reads_it(reply: Reply) -> None:
    written = write_reply(reply, USAGE, CALL)

    assert read_reply(written) == reply
    parsed = Message.model_validate_json(written, strict=True)
    assert parsed.usage.cache_read_input_tokens == 3
    assert parsed.usage.output_tokens == 7


@given(our_replies, st.data())
def test_a_stream_is_read_as_it_was_written_and_adds_up(reply: Reply, data: st.DataObject) -> None:
    writer, reader = ReplyWriter(CALL), ReplyReader()
    stream = b"".join(writer.write([event], None) for event in told(reply, data)) + writer.end(USAGE)

    again = gathered([*reader.feed(stream), *reader.end()])

    assert again == reply
    whole = Message.model_validate_json(write_reply(reply, USAGE, CALL))
    added = accumulated(stream)
    assert added.content == whole.content
    assert added.stop_reason == whole.stop_reason
    assert (added.usage.output_tokens, added.usage.input_tokens) == (7, 7)


@given(our_replies)
def test_a_seal_of_another_family_comes_back_through_a_caller(reply: Reply) -> None:
    """What only its maker can read is packed into this dialect's signature and unpacked on its way back."""
    sealed = tuple(
        replace(block, sealed=Opaque("gemini", "c2VhbA==")) if isinstance(block, Thinking | ToolCall) else block
        for block in reply.blocks
    )
    message = json.loads(write_reply(replace(reply, blocks=sealed), USAGE, CALL))
    back = {"max_tokens": 9, "messages": [{"role": "assistant", "content": message["content"]}]}

    read = read_conversation(json.dumps(back).encode())

    assert read.turns[0].blocks == sealed
    # Nothing of it is ever sent to Anthropic.
    assert b"c2VhbA==" not in write_conversation(read, CALL).body


citations = st.builds(Citation, url=st.just("https://example.test"), title=st.just("Title"), quoted=st.just("said"))
foreign = st.sampled_from(
    [
        Foreign(Dialect.ANTHROPIC, "web_search_tool_result", {"type": "web_search_tool_result", "tool_use_id": "t"}),
        Foreign(Dialect.OPENAI_RESPONSES, "shell_call", {"type": "shell_call"}),
    ]
)
any_block = answer_blocks(
    thoughts("gemini") | thoughts("openai", summaries=True) | redacted, refusals=True, cited=True
) | st.sampled_from(
    [
        Text(text=""),
        Thinking(),
        Refusal(text=""),
        ToolCall(id="weird id!", name="f", arguments="not json", custom=True),
        ToolCall(id="", name="f", arguments="", sealed=Opaque("gemini", "AA==")),
        Image(source=Link("https://example.test/a.png")),
    ]
)
any_event = st.one_of(
    st.builds(Started, id=st.just("x"), model=st.just("m"), extras=st.none() | st.just(Extras(Dialect.GEMINI, {}))),
    st.builds(Opened, any_block | foreign),
    st.builds(Grew, st.sampled_from(["", "a", '"', "\n\ndata: x", "é", " "])),
    st.builds(SummaryGrew, st.sampled_from(["", "s"]), st.integers(0, 2)),
    st.builds(Sealed, st.builds(Opaque, st.sampled_from(["anthropic", "gemini"]), st.just("AA=="))),
    st.builds(Cited, citations),
    st.just(Closed()),
    st.builds(Finished, finish=st.sampled_from(Finish), stop_sequence=st.none() | st.just("\n")),
)


@given(st.lists(st.tuples(any_event, st.none() | st.just(USAGE)), max_size=12))
def test_whatever_comes_is_written_as_a_sequence_that_the_dialect_allows(
    told_: list[tuple[ReplyEvent, Usage | None]],
) -> None:
    writer = ReplyWriter(CALL)

    stream = b"".join(writer.write([event], usage) for event, usage in told_) + writer.end(USAGE)

    check_sequence(stream)
    # Reading it again raises nothing and loses no block.
    reader = ReplyReader()
    assert len(gathered(list(reader.feed(stream))).blocks) == stream.count(b'"type":"content_block_start"')


def check_sequence(stream: bytes) -> None:
    """Raises AssertionError where a stream breaks the order of the dialect."""
    assert stream.endswith(b"\n\n")
    told_ = events(stream)
    kinds = [event.name for event in told_]
    decoded: list[dict[str, Any]] = [json.loads(event.data) for event in told_]
    assert [each["type"] for each in decoded] == kinds, "every event is named as its type is"
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert kinds.count("message_start") == kinds.count("message_stop") == kinds.count("message_delta") == 1
    open_: dict[str, Any] | None = None
    index, filled, signed = -1, False, False
    for each in decoded[1:-2]:
        match each["type"]:
            case "content_block_start":
                assert open_ is None, "blocks never interleave"
                index += 1
                assert each["index"] == index
                open_ = each["content_block"]
                filled = open_["type"] not in ("text", "thinking")
                signed = False
            case "content_block_delta":
                assert open_ is not None
                assert each["index"] == index
                kind = each["delta"]["type"]
                assert not signed, "the signature comes last"
                signed = kind == "signature_delta"
                filled = filled or kind in ("text_delta", "thinking_delta", "signature_delta")
                allowed = {
                    "text": {"text_delta", "citations_delta"},
                    "thinking": {"thinking_delta", "signature_delta"},
                    "tool_use": {"input_json_delta"},
                }
                assert kind in allowed[open_["type"]]
            case "content_block_stop":
                assert open_ is not None
                assert each["index"] == index
                assert filled, "no block is empty"
                open_ = None
            case other:
                raise AssertionError(f"{other} does not belong here")
    assert open_ is None, "every block is closed"


def accumulated(stream: bytes) -> Message:
    """What the SDK's own helper makes of a stream."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in events(stream):
        parsed = EVENT.validate_json(event.data)
        snapshot = accumulate_event(event=parsed, current_snapshot=snapshot, json_bufs=buffers)
    return Message.model_validate(snapshot.model_dump())
