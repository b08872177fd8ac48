"""OpenAI Chat's codec loses nothing that the dialect can say, and never writes what its callers cannot read."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from adapters.dialects.openai_chat.codec import OpenAIChatCaller, OpenAIChatCodec
from adapters.dialects.openai_chat.quirks import Quirks, ReasoningBack, ToolChoices
from adapters.dialects.openai_chat.reasoning import SEALED_DETAILS, TagSplitter, split_whole
from adapters.dialects.openai_chat.server import read_request
from adapters.transport.sse import events as sse_events
from domain.inference.chat import ChatCall
from domain.inference.conversation import (
    CacheMark,
    Conversation,
    CustomTool,
    Opaque,
    Refusal,
    Role,
    Text,
    Thinking,
    ToolCall,
    Turn,
)
from domain.inference.reply import (
    AnswerBlock,
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
from tests.properties.conversations import (
    answer_blocks,
    base64,
    conversations,
    names,
    replies,
    texts,
    thoughts,
    told,
    words,
)

OPENAI = Quirks(
    developer_role=True,
    text_parts=True,
    custom_tools=True,
    tool_choices=ToolChoices.ALL,
    verbosity=True,
    web_search=True,
    efforts={},
    think_tags=False,
    cache_field="prompt_cache_breakpoint",
)
REQUEST = {"model": "acme/one", "messages": [{"role": "user", "content": "hi"}], "stream": True}
CALL = ChatCall(request=read_request(json.dumps(REQUEST).encode()), vendor_model="one", id="r1", at_s=1_760_000_000)
CALLER = OpenAIChatCaller()
USAGE = Usage(input=3, output=4, requests=1)

system = st.lists(st.builds(lambda text: Turn(role=Role.SYSTEM, blocks=(text,)), texts), max_size=1).map(tuple)


def sendable(conversation: Conversation) -> Conversation:
    """Less what nobody can ask for: how to choose among no tools."""
    return conversation if conversation.tools else replace(conversation, tool_choice=None, parallel_tools=None)


def read_back(conversation: Conversation, quirks: Quirks) -> Conversation:
    written = OpenAIChatCodec(quirks).write_conversation(conversation, CALL)
    assert written.dropped == ()
    return CALLER.read_conversation(written.body)


@given(conversations(system=system, result_images=False).map(sendable))
def test_what_is_written_is_read_back(conversation: Conversation) -> None:
    assert read_back(conversation, OPENAI) == conversation


@given(conversations(st.builds(Thinking, text=words), result_images=False).map(sendable))
def test_plain_reasoning_goes_back_under_the_name_that_the_vendor_wants(conversation: Conversation) -> None:
    for back in (ReasoningBack.CONTENT, ReasoningBack.REASONING):
        assert read_back(conversation, replace(OPENAI, reasoning_back=back)) == conversation


@st.composite
def detailed(draw: st.DrawFn) -> Thinking:
    """Reasoning as a vendor of details wrote it: the seal is the details themselves."""
    text, signature = draw(words), draw(base64)
    details = [{"type": "reasoning.text", "text": text, "signature": signature, "index": 0, "format": "acme-v1"}]
    return Thinking(text=text, sealed=Opaque(SEALED_DETAILS, msgspec.json.encode(details).decode()))


@given(conversations(detailed(), result_images=False).map(sendable))
def test_details_go_back_unchanged(conversation: Conversation) -> None:
    written = OpenAIChatCodec(replace(OPENAI, reasoning_back=ReasoningBack.DETAILS)).write_conversation(
        conversation, CALL
    )
    sent = [message.get("reasoning_details") for message in json.loads(written.body)["messages"]]
    kept = [
        json.loads(block.sealed.value)
        for turn in conversation.turns
        for block in turn.blocks
        if isinstance(block, Thinking) and block.sealed
    ]
    assert [details for details in sent if details] == kept
    read = CALLER.read_conversation(written.body)
    assert [turn for turn in read.turns if turn.role is Role.ASSISTANT] == [
        turn for turn in conversation.turns if turn.role is Role.ASSISTANT
    ]


@given(
    st.lists(st.builds(CustomTool, name=names, description=words), min_size=1, max_size=2, unique_by=lambda t: t.name)
)
def test_custom_tools_stay_custom_where_the_vendor_has_them(tools: list[CustomTool]) -> None:
    call = ToolCall(id="call_1", name=tools[0].name, arguments="*** patch", custom=True)
    turns = (Turn(role=Role.USER, blocks=(Text(text="hi"),)), Turn(role=Role.ASSISTANT, blocks=(call,)))
    conversation = Conversation(turns=turns, tools=tuple(tools))
    assert read_back(conversation, OPENAI) == conversation


@given(st.lists(st.builds(Text, text=words, cache=st.just(CacheMark(ttl="30m"))), min_size=1, max_size=4))
def test_up_to_four_cache_marks_go_back(blocks: list[Text]) -> None:
    conversation = Conversation(turns=(Turn(role=Role.USER, blocks=tuple(blocks)),))
    assert read_back(conversation, OPENAI) == conversation


# Answers


def whole_form(reply: Reply) -> Reply:
    """As a message can hold it: reasoning, one text, one refusal, then the calls."""
    thinking = [block for block in reply.blocks if isinstance(block, Thinking)]
    spoken = "".join(block.text for block in reply.blocks if isinstance(block, Text))
    refused = "\n\n".join(block.text for block in reply.blocks if isinstance(block, Refusal))
    blocks: list[AnswerBlock] = [*thinking]
    blocks += [Text(text=spoken)] if spoken else []
    blocks += [Refusal(text=refused)] if refused else []
    blocks += [replace(block, sealed=None) for block in reply.blocks if isinstance(block, ToolCall)]
    return replace(reply, blocks=tuple(blocks))


@given(replies(thoughts("anthropic", summaries=True), refusals=True))
def test_a_whole_answer_is_read_back(reply: Reply) -> None:
    body = CALLER.write_reply(reply, USAGE, CALL)
    ChatCompletion.model_validate_json(body, strict=True)
    assert OpenAIChatCodec(OPENAI).read_reply(body) == whole_form(reply)


def streamed_form(reply: Reply) -> Reply:
    """Pieces of text that follow one another cannot be told apart."""
    blocks: list[AnswerBlock] = []
    for block in reply.blocks:
        last = blocks[-1] if blocks else None
        if (isinstance(block, Text) and isinstance(last, Text)) or (
            isinstance(block, Refusal) and isinstance(last, Refusal)
        ):
            blocks[-1] = replace(last, text=last.text + block.text)
        else:
            blocks.append(block)
    return replace(reply, blocks=tuple(blocks))


def written(events: list[ReplyEvent], call: ChatCall = CALL) -> bytes:
    writer = CALLER.reply_writer(call)
    return b"".join([writer.write([event], None) for event in events]) + writer.end(USAGE)


def read(stream: bytes, quirks: Quirks = OPENAI) -> Reply:
    reader = OpenAIChatCodec(quirks).reply_reader()
    return gathered([*reader.feed(stream), *reader.end()])


@given(replies(thoughts("anthropic", summaries=True), refusals=True), st.data())
def test_a_streamed_answer_is_read_back(reply: Reply, cuts: Any) -> None:
    assert read(written(told(reply, cuts))) == streamed_form(reply)


@given(replies(thoughts("anthropic"), refusals=True), st.data())
def test_the_official_client_accumulates_a_stream_to_the_whole_answer(reply: Reply, cuts: Any) -> None:
    state = ChatCompletionStreamState()
    for event in sse_events(written(told(reply, cuts)))[:-1]:
        state.handle_chunk(ChatCompletionChunk.model_validate_json(event.data))
    streamed = state.current_completion_snapshot.choices[0]
    whole = ChatCompletion.model_validate_json(CALLER.write_reply(reply, USAGE, CALL)).choices[0]
    assert streamed.finish_reason == whole.finish_reason
    assert (streamed.message.content or "") == (whole.message.content or "")
    assert (streamed.message.refusal or "").replace("\n", "") == (whole.message.refusal or "").replace("\n", "")
    calls = [(each.id, each.function.name, each.function.arguments) for each in streamed.message.tool_calls or ()]
    assert calls == [
        (each.id, each.function.name, each.function.arguments)
        for each in whole.message.tool_calls or ()
        if each.type == "function"
    ]


pieces = words | st.just("")
any_event: st.SearchStrategy[ReplyEvent] = (
    st.builds(Started, id=words, model=words)
    | st.builds(Opened, answer_blocks(thoughts("gemini"), refusals=True, cited=True))
    | st.builds(Grew, pieces)
    | st.builds(SummaryGrew, pieces, st.integers(0, 3))
    | st.builds(Sealed, st.builds(Opaque, st.just("gemini"), base64))
    | st.builds(Closed)
    | st.builds(Finished, finish=st.sampled_from(Finish))
)


@given(st.lists(any_event, max_size=12), st.booleans())
def test_whatever_the_events_are_callers_can_read_the_stream(events: list[ReplyEvent], wants_usage: bool) -> None:
    call = replace(CALL, request=replace(CALL.request, wants_usage=wants_usage))
    told_ = sse_events(written(events, call))
    assert told_[-1].data == b"[DONE]"
    chunks = [ChatCompletionChunk.model_validate_json(event.data, strict=True) for event in told_[:-1]]
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    ends = [chunk for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    assert len(ends) == 1
    assert (chunks[-1].usage is not None) == wants_usage
    assert (chunks[-1] if not wants_usage else chunks[-2]) is ends[0]
    indices = [call.index for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    assert indices == sorted(indices)
    assert set(indices) == set(range(len(set(indices))))


# What vendors make of it


@given(words, words, st.data())
def test_tags_mean_the_same_wherever_the_stream_is_cut(thought: str, said: str, cuts: Any) -> None:
    text = f"<think>{thought}</think>{said}"
    places = sorted(cuts.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    splitter = TagSplitter()
    parts = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
    found = [piece for part in parts for piece in splitter.feed(part)] + splitter.end()
    for reasoned in (True, False):
        joined = "".join(piece for is_thought, piece in found if is_thought is reasoned)
        assert joined == "".join(piece for is_thought, piece in split_whole(text) if is_thought is reasoned)


@given(st.data())
def test_interleaved_calls_come_out_one_after_the_other(cuts: Any) -> None:
    arguments = ['{"city":"Zürich"}', '{"n":[1,{"m":2}]}', "{}"]
    left = [cuts.draw(st.integers(1, len(text))) for text in arguments]
    deltas: list[dict[str, Any]] = [
        {"index": at, "id": f"c{at}", "type": "function", "function": {"name": f"f{at}", "arguments": text[: left[at]]}}
        for at, text in enumerate(arguments)
    ]
    rests = [
        {"index": at, "function": {"arguments": text[left[at] :]}}
        for at, text in enumerate(arguments)
        if text[left[at] :]
    ]
    deltas += cuts.draw(st.permutations(rests))
    stream = b"".join(
        b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [delta]}}]}).encode()
        for delta in deltas
    )
    calls = read(stream).blocks
    assert [(c.id, c.name, c.arguments) for c in calls if isinstance(c, ToolCall)] == [
        (f"c{at}", f"f{at}", text) for at, text in enumerate(arguments)
    ]
