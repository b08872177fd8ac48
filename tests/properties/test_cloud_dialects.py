"""Gemini and Bedrock: whatever a conversation holds is written as the vendor takes it, and whatever comes is read."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from adapters.dialects.bedrock_converse.conversation_writer import write_conversation as write_converse
from adapters.dialects.bedrock_converse.frames import FrameBroken, FrameSplitter, frames
from adapters.dialects.bedrock_converse.reply_reader import ReplyReader as ConverseReader
from adapters.dialects.gemini.conversation_writer import LOSSES, write_conversation
from adapters.dialects.gemini.reply_reader import ReplyReader
from adapters.dialects.openai_chat.server import read_request
from domain.errors import UnsupportedParameter
from domain.inference.chat import ChatCall
from domain.inference.conversation import Conversation, Text, Thinking, ToolCall
from domain.inference.faults import VendorFault
from domain.inference.reply import Closed, Finished, Opened, ReplyEvent, Started, gathered
from tests.fakes import bedrock_upstream as bedrock
from tests.fakes import gemini_upstream as gemini
from tests.properties.conversations import conversations, replies, thoughts

REQUEST = read_request(b'{"model":"a/b","messages":[{"role":"user","content":"Hello"}]}')


def call(model: str) -> ChatCall:
    return ChatCall(request=REQUEST, vendor_model=model, id="r1")


gemini_models = st.sampled_from([gemini.MODEL, gemini.NEWER, "gemini-2.0-flash", "gemma-3-27b-it"])
said_to_gemini = conversations(thoughts("gemini") | thoughts("anthropic"))
said_to_bedrock = conversations(thoughts("anthropic") | thoughts("gemini"))


@given(said_to_gemini, gemini_models)
def test_gemini_takes_whatever_is_written(said: Conversation, model: str) -> None:
    try:
        written = write_conversation(said, call(model))
    except UnsupportedParameter:
        # A picture that is linked, which the vendor cannot open.
        return
    asked = json.loads(written.body)
    assert gemini.unreadable(asked) == ""
    assert set(written.dropped) <= LOSSES.keys()
    texts = [part["text"] for content in asked["contents"] for part in content["parts"] if part.get("text")]
    for turn in said.turns:
        for block in turn.blocks:
            if isinstance(block, Text):
                assert block.text in texts


@given(said_to_bedrock, st.sampled_from([bedrock.MODEL, "amazon.nova-2-lite-v1:0"]))
def test_bedrock_takes_whatever_is_written(said: Conversation, model: str) -> None:
    try:
        written = write_converse(said, call(model))
    except UnsupportedParameter:
        return
    assert bedrock.unreadable(json.loads(written.body)) == ""


parts = st.lists(
    st.one_of(
        st.builds(lambda text: {"text": text}, st.text(max_size=9)),
        st.builds(lambda text: {"text": text, "thought": True}, st.text(max_size=9)),
        st.builds(lambda text: {"text": text, "thoughtSignature": "YQ=="}, st.text(max_size=3)),
        st.builds(lambda signed: gemini.call(signed=signed), st.booleans()),
        st.just(gemini.PICTURE),
        st.just({"executableCode": {"code": "1"}}),
        st.just({}),
    ),
    max_size=5,
)


@given(st.lists(parts, max_size=5))
def test_whatever_gemini_sends_is_a_valid_sequence(chunks: list[list[Any]]) -> None:
    reader = ReplyReader()
    events: list[ReplyEvent] = []
    for chunk in chunks:
        answer = gemini.answer(model="m", finish=None)
        answer["candidates"][0]["content"]["parts"] = chunk
        events += reader.feed(gemini.event(answer))
    check_sequence([*events, *reader.end()])


@given(replies(thoughts("anthropic")), st.integers(1, 50))
def test_what_bedrock_streams_is_read_as_it_was_said(reply: Any, size: int) -> None:
    blocks: list[Any] = []
    for block in reply.blocks:
        match block:
            case Text():
                blocks.append({"text": block.text})
            case ToolCall():
                blocks.append(
                    {"toolUse": {"toolUseId": block.id, "name": block.name, "input": json.loads(block.arguments)}}
                )
            case Thinking():
                told = {"text": block.text, "signature": block.sealed.value if block.sealed else ""}
                blocks.append({"reasoningContent": {"reasoningText": told}})
    data = b"".join(bedrock.stream(bedrock.answer(*blocks)))
    splitter, reader, events = FrameSplitter(), ConverseReader(), list[ReplyEvent]()
    for at in range(0, len(data), size):
        events += reader.feed(splitter.feed(data[at : at + size]))
    events += reader.end()
    check_sequence(events)
    again = gathered(events)
    assert [type(block) for block in again.blocks] == [type(block) for block in reply.blocks]
    for ours, theirs in zip(again.blocks, reply.blocks, strict=True):
        if isinstance(ours, ToolCall):
            assert json.loads(ours.arguments) == json.loads(theirs.arguments)
        else:
            assert ours == theirs


@given(st.binary(max_size=200))
def test_no_bytes_make_the_frames_reader_fail_otherwise(data: bytes) -> None:
    try:
        frames(FrameSplitter().feed(data))
        ConverseReader().feed(data)
    except (FrameBroken, VendorFault):
        pass


def check_sequence(events: list[ReplyEvent]) -> None:
    """One beginning, blocks one after another, one end."""
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    open_ = False
    for event in events[1:-1]:
        match event:
            case Opened():
                assert not open_
                open_ = True
            case Closed():
                assert open_
                open_ = False
            case Started() | Finished():
                raise AssertionError(f"{event} does not belong here")
            case _:
                assert open_
    assert not open_
