"""The older Completions never write what their callers cannot read, and a stream says what the whole answer says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from openai.types import Completion

from adapters.dialects.openai_completions.codec import CompletionsCaller
from adapters.dialects.openai_completions.server import OUTPUT_MAX_UNSAID, PROMPTS_MAX, read_request, telling
from adapters.transport.sse import events as sse_events
from domain.errors import InvalidRequest
from domain.inference.chat import ChatCall
from domain.inference.conversation import Opaque
from domain.inference.reply import Closed, Finish, Finished, Grew, Opened, Reply, ReplyEvent, Sealed, Started
from domain.money import Usd
from domain.usage import Usage
from tests.properties.conversations import answer_blocks, base64, replies, thoughts, told, words

CALLER = CompletionsCaller()
USAGE = Usage(input=7, output=3, requests=1)
REQUEST = read_request(b'{"model":"m","prompt":"Once","stream":true,"stream_options":{"include_usage":true}}')
CALL = ChatCall(request=REQUEST, vendor_model="theirs", id="r1", at_s=1_760_000_000)


def written(events: list[ReplyEvent], call: ChatCall = CALL) -> bytes:
    writer = CALLER.reply_writer(call)
    return b"".join([writer.write([event], None) for event in events]) + writer.end(USAGE)


def chunks(stream: bytes) -> list[Completion]:
    found = sse_events(stream)
    assert found.pop().data == b"[DONE]"
    # A piece has no end yet, which the client's type, made for whole answers, does not know.
    return [Completion.model_construct(**json.loads(event.data)) for event in found]


@given(replies(thoughts("anthropic"), refusals=True), st.data())
def test_a_stream_says_what_the_whole_answer_says(reply: Reply, cuts: Any) -> None:
    whole = Completion.model_validate_json(CALLER.write_reply(reply, USAGE, CALL), strict=True)
    *pieces, last = chunks(written(told(reply, cuts)))

    choices = [piece.choices[0].to_dict() for piece in pieces]
    assert "".join(str(choice["text"]) for choice in choices) == whole.choices[0].text
    assert choices[-1]["finish_reason"] == whole.choices[0].finish_reason
    assert [choice["finish_reason"] for choice in choices[:-1]] == [None] * (len(choices) - 1)
    assert not whole.model_extra
    assert whole.usage is not None
    assert whole.usage.total_tokens == 10
    assert dict(last.usage or ())["total_tokens"] == 10
    assert {(each.id, each.model, each.object) for each in pieces} == {(whole.id, whole.model, "text_completion")}


any_event: st.SearchStrategy[ReplyEvent] = (
    st.builds(Started, id=words, model=words)
    | st.builds(Opened, answer_blocks(thoughts("gemini"), refusals=True, cited=True))
    | st.builds(Grew, words | st.just(""))
    | st.builds(Sealed, st.builds(Opaque, st.just("gemini"), base64))
    | st.builds(Closed)
    | st.builds(Finished, finish=st.sampled_from(Finish))
)


@given(st.lists(any_event, max_size=12), st.booleans())
def test_whatever_the_events_are_callers_can_read_the_stream(events: list[ReplyEvent], wants_usage: bool) -> None:
    call = replace(CALL, request=replace(REQUEST, wants_usage=wants_usage))
    told_ = chunks(written(events, call))

    assert len({(each.id, each.created, each.model) for each in told_}) == 1
    ends = [each for each in told_ if each.choices and each.choices[0].finish_reason]
    assert ends == [told_[-2] if wants_usage else told_[-1]]


def test_without_a_limit_as_much_is_written_as_the_dialect_says() -> None:
    assert CALLER.read_conversation(b'{"prompt":"a"}').output_max == OUTPUT_MAX_UNSAID
    assert CALLER.read_conversation(b'{"prompt":["a"],"max_tokens":5}').output_max == 5
    assert REQUEST.output_max is None


@pytest.mark.parametrize(
    ("prompt", "answers", "tokens"),
    [
        (b'"a text"', 1, None),
        (b'["a","b"]', 2, None),
        (b"[1,22,333]", 1, 3),
        (b"[[1,2],[3]]", 2, 3),
    ],
)
def test_every_prompt_is_counted(prompt: bytes, answers: int, tokens: int | None) -> None:
    request = read_request(b'{"model":"m","n":3,"best_of":4,"prompt":%b}' % prompt)

    assert request.answers == answers * 4
    assert tokens is None or request.prompt_tokens == tokens


@pytest.mark.parametrize("prompt", [b"null", b"5", b"{}", b"[]", b'["a",1]', b"[1,[2]]", b"[null]", b"[true]", b"[-1]"])
def test_what_is_no_prompt_is_refused_by_name(prompt: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_request(b'{"model":"m","prompt":%b}' % prompt)
    assert refused.value.param == "prompt"


def test_too_many_prompts_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=str(PROMPTS_MAX)):
        read_request(json.dumps({"model": "m", "prompt": ["a"] * (PROMPTS_MAX + 1)}).encode())


def test_the_gateways_own_parts_are_of_the_same_dialect() -> None:
    tells = telling(REQUEST, "r1", 5)
    (cut,) = chunks(tells.length_stop(USAGE))
    costed = tells.with_usage_before_end(b"data: [DONE]\n\n", USAGE, Usd(2_000))

    assert costed is not None
    assert (cut.id, cut.object) == ("cmpl-r1", "text_completion")
    assert cut.choices[0].to_dict() == {
        "index": 0,
        "text": "",
        "logprobs": None,
        "finish_reason": "length",
    }
    assert dict(chunks(costed)[0].usage or ())["cost"] == 0.000002
