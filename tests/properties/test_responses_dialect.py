"""Responses loses nothing: what is written is read back the same, whole and streamed, and OpenAI's SDK can read it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from adapters.dialects.openai_responses.conversation_reader import INSTRUCTIONS, OURS, read_conversation
from adapters.dialects.openai_responses.conversation_writer import write_conversation
from adapters.dialects.openai_responses.replies import ResponsesReplyWriter, write_reply
from adapters.dialects.openai_responses.reply_reader import ResponsesReplyReader, read_reply
from adapters.dialects.openai_responses.server import read_request, telling
from adapters.transport.sse import events
from domain.inference.chat import ChatCall, ChatRequest
from domain.inference.conversation import Conversation, Extras, Role, Text, Turn
from domain.inference.reply import Finish, Reply, gathered
from domain.usage import Usage
from tests.properties.conversations import conversations, replies, texts, thoughts, told

USAGE = Usage(input=7, cache_read=3, output=5, reasoning=2, requests=1)
EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)

instructions = texts.map(
    lambda text: (Turn(role=Role.SYSTEM, blocks=(text,), extras=Extras(OURS, {INSTRUCTIONS: True})),)
)
ours = conversations(thoughts("openai", summaries=True), system=st.just(()) | instructions)
our_replies = replies(thoughts("openai", summaries=True), refusals=True, cited=True)


def call(**members: Any) -> ChatCall:
    body = json.dumps({"model": "acme/one", "input": "Hello", **members}).encode()
    return ChatCall(request=read_request(body), vendor_model="one", id="r1", at_s=1_760_000_001)


@given(ours)
def test_a_conversation_is_read_as_it_was_written(conversation: Conversation) -> None:
    written = write_conversation(conversation, call())

    again = read_conversation(written.body)

    assert written.dropped == ()
    assert again == conversation


@given(our_replies)
def test_a_reply_is_read_as_it_was_written_and_the_sdk_reads_it(reply: Reply) -> None:
    written = write_reply(reply, USAGE, call())

    again = read_reply(written)

    assert again.blocks == reply.blocks
    assert again.finish is reply.finish
    parsed = Response.model_validate_json(written)
    assert parsed.usage is not None
    assert parsed.usage.total_tokens == 17
    assert parsed.id == "resp_r1"


@given(our_replies, st.data())
def test_a_stream_is_read_as_it_was_written_and_adds_up(reply: Reply, data: st.DataObject) -> None:
    writer, reader = ResponsesReplyWriter(call()), ResponsesReplyReader()
    stream = b"".join(writer.write([event], None) for event in told(reply, data)) + writer.end(USAGE)

    found = list(reader.feed(stream))
    again = gathered([*found, *reader.end()])

    assert again.blocks == reply.blocks
    assert again.finish is reply.finish
    parsed = [EVENT.validate_json(event.data) for event in events(stream)]
    assert [event.sequence_number for event in parsed] == list(range(len(parsed)))
    assert [event.name for event in events(stream)] == [event.type for event in parsed]
    done = [event.item for event in parsed if event.type == "response.output_item.done"]
    last = parsed[-1]
    assert last.type in ("response.completed", "response.incomplete")
    assert last.response.output == done
    assert last.response.model_dump()["usage"]["input_tokens_details"]["cached_tokens"] == 3


@given(our_replies, st.data())
def test_a_stream_that_is_cut_anywhere_ends_as_one_that_adds_up(reply: Reply, data: st.DataObject) -> None:
    request: ChatRequest = call().request
    writer, teller = ResponsesReplyWriter(call()), telling(request, "r1", 1_760_000_000)
    pieces = [piece for event in told(reply, data) if (piece := writer.write([event], None))]
    cut = data.draw(st.integers(0, len(pieces)))
    for piece in pieces[:cut]:
        teller.passed(piece)

    stream = b"".join(pieces[:cut]) + teller.length_stop(USAGE)

    parsed = [EVENT.validate_json(event.data) for event in events(stream)]
    assert [event.sequence_number for event in parsed] == list(range(len(parsed)))
    last = parsed[-1]
    assert last.type == "response.incomplete"
    assert last.response.output == [event.item for event in parsed if event.type == "response.output_item.done"]
    added = sum(event.type == "response.output_item.added" for event in parsed)
    assert added == len(last.response.output)


def test_a_failure_in_the_middle_is_a_failed_response() -> None:
    writer, teller = ResponsesReplyWriter(call()), telling(call().request, "r1", 1_760_000_000)
    reply = Reply(id="r1", model="m", blocks=(Text(text="Hello"),), finish=Finish.END)
    first = writer.write(told(reply)[:3], None)
    teller.passed(first)

    [event] = events(teller.error_event(b'{"error":{"message":"It broke off.","code":"vendor_error"}}'))

    failed = EVENT.validate_json(event.data)
    assert failed.type == "response.failed"
    assert failed.response.status == "failed"
    assert failed.sequence_number == len(events(first))
    assert json.loads(event.data)["response"]["error"] == {"code": "server_error", "message": "It broke off."}
