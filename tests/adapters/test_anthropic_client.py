"""What vendors of Anthropic's dialect send is passed on as it came, counted as it is, and refused where it is none."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.dialects.anthropic.client import AnthropicStream, read_answer, write_count_request, write_request
from adapters.dialects.anthropic.errors import read_fault
from adapters.dialects.anthropic.server import read_request
from adapters.dialects.anthropic.wire import read_counts, written_usage
from domain.inference.chat import ChatCall
from domain.inference.faults import FaultKind, VendorFault
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
    token_usage,
    tool_use,
)
from tests.fakes.upstream import LIE, encode

pytestmark = pytest.mark.anyio

TOLD = stream(message(THINKING, REDACTED, TEXT, SERVER_TOOL, STRANGE, tool_use(), usage=token_usage(7)))


def opened(chunks: Iterable[bytes], hung_up: list[bool] | None = None) -> AnthropicStream:
    async def arriving() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return AnthropicStream(arriving(), lambda: None if hung_up is None else hung_up.append(True), {})


async def read(chunks: Iterable[bytes]) -> tuple[AnthropicStream, bytes]:
    reading = opened(chunks)
    return reading, b"".join([piece async for piece in reading])


async def fault_of(chunks: Iterable[bytes]) -> tuple[VendorFault, bytes]:
    passed: list[bytes] = []

    async def drain() -> None:
        async for piece in opened(chunks):
            passed.append(piece)

    with pytest.raises(VendorFault) as raised:
        await drain()
    return raised.value, b"".join(passed)


def call(limit: int | None = None, **members: Any) -> ChatCall:
    sent = {"model": "acme/one", "max_tokens": 9_000, "messages": [{"role": "user", "content": "Hello"}]} | members
    return ChatCall(request=read_request(encode(sent)), vendor_model="claude-one", output_limit=limit)


class TestStream:
    @pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
    async def test_it_passes_every_byte_and_notes_what_it_costs(self, line_end: bytes) -> None:
        frames = [frame.replace(b"\n", line_end) for frame in TOLD]

        reading, passed = await read(frames)

        assert passed == b"".join(frames)
        assert reading.started
        assert reading.finish_reason == "tool_use"
        assert reading.usage == Usage(input=11, output=7, requests=1)

    @given(st.lists(st.integers(1, 400), max_size=30))
    async def test_wherever_the_bytes_are_cut(self, cuts: list[int]) -> None:
        whole, chunks = b"".join(TOLD), []
        for cut in cuts:
            chunks.append(whole[:cut])
            whole = whole[cut:]

        reading, passed = await read([*filter(None, chunks), whole] if whole else filter(None, chunks))

        assert passed == b"".join(TOLD)
        assert reading.usage == Usage(input=11, output=7, requests=1)

    async def test_it_has_begun_with_content_and_not_with_the_frame_around_it(self) -> None:
        async def started_after(*blocks: Any) -> int:
            reading = opened(stream(message(*blocks)))
            seen = 0
            async for _ in reading:
                seen += 1
                if reading.started:
                    break
            return seen

        assert await started_after(TEXT) == 4
        assert await started_after(tool_use()) == 3
        assert await started_after(REDACTED) == 3

    async def test_usage_is_not_told_before_the_end_and_the_last_word_counts(self) -> None:
        frames = stream(message(usage=token_usage(7, cache_read_input_tokens=5)))
        early = event("message_delta", delta={}, usage={"output_tokens": 3})
        late = event("message_delta", delta={}, usage={"output_tokens": 9})
        reading = opened([*frames[:5], early, *frames[5:-1], late, frames[-1]])
        seen = [reading.usage async for _ in reading]

        assert seen[:7] == [None] * 7
        assert seen[-1] == Usage(input=11, cache_read=5, output=9, requests=1)

    async def test_who_leaves_early_has_read_what_the_beginning_says(self) -> None:
        hung_up: list[bool] = []
        usage = token_usage(50, cache_read_input_tokens=1_000, cache_creation_input_tokens=40)
        frames = stream(message({"type": "text", "text": "word " * 100}, usage=usage))
        reading = opened(frames, hung_up)
        seen = 0
        async for _ in reading:
            seen += 1
            if seen == 20:
                break

        reading.close()

        assert hung_up == [True]
        assert reading.usage == Usage(
            input=11, cache_read=1_000, cache_write_5m=40, output=reading.produced_tokens(), requests=1
        )
        assert reading.produced_tokens() == 17 <= reading.produced_at_most()

    async def test_what_it_wrote_is_counted_where_no_usage_can_be_true(self) -> None:
        lies = token_usage(LIE)
        reading, _ = await read(stream(message({"type": "text", "text": "word " * 100}, usage=lies)))

        assert reading.usage is None
        assert 60 <= reading.produced_tokens() <= 140

    @pytest.mark.parametrize(
        ("frames", "kind"),
        [
            ([*TOLD[:6], error_event()], FaultKind.OVERLOADED),
            ([*TOLD[:6], error_event("api_error", "x")], FaultKind.SERVER_ERROR),
            ([*TOLD[:6], error_event("rate_limit_error", "x")], FaultKind.RATE_LIMITED),
            ([*TOLD[:6], b'data: {"error":{"message":"x","type":"overloaded_error"}}\n\n'], FaultKind.OVERLOADED),
            (TOLD[:6], FaultKind.BROKEN_OFF),
            (TOLD[:-1], FaultKind.BROKEN_OFF),
            ([*TOLD[:6], b"event: content_block_delta\ndata: {broken\n\n"], FaultKind.MALFORMED),
            ([TOLD[0], PING, event("message_stop")], FaultKind.MALFORMED),
            ([], FaultKind.BROKEN_OFF),
            ([b"<html>"], FaultKind.BROKEN_OFF),
        ],
    )
    async def test_a_stream_that_fails_says_how_once_its_events_have_passed(
        self, frames: list[bytes], kind: FaultKind
    ) -> None:
        fault, passed = await fault_of(frames)

        assert fault.kind is kind
        good = [frame for frame in frames if frame in TOLD or frame == PING]
        assert passed.startswith(b"".join(good[:2]))
        assert b"broken" not in passed
        assert b"error" not in passed.replace(b"web_search_tool_result_error", b"")

    async def test_words_that_look_like_events_are_only_words(self) -> None:
        words = '"message_stop" {"type":"error","error":{}} event: message_stop'
        frames = stream(message({"type": "text", "text": words}, tool_use(q=words)))

        reading, passed = await read(frames)

        assert passed == b"".join(frames)
        assert reading.finish_reason == "tool_use"


class TestAnswer:
    def test_a_whole_answer(self) -> None:
        told = encode(message(THINKING, TEXT, novel=1))

        answer = read_answer(told, {})

        assert answer.body == told
        assert (answer.finish_reason, answer.usage) == ("end_turn", Usage(input=11, output=6, requests=1))

    def test_without_usage_its_text_is_counted(self) -> None:
        answer = read_answer(encode(message({"type": "text", "text": "word " * 100}, tool_use(), usage={})), {})

        assert answer.usage is None
        assert answer.produced_tokens > 100

    @pytest.mark.parametrize(
        "body", [b"", b"<html>", b"[]", b"{}", b'{"type":"error","error":{"type":"api_error","message":"x"}}']
    )
    def test_what_is_no_answer_is_a_fault(self, body: bytes) -> None:
        with pytest.raises(VendorFault):
            read_answer(body, {})


class TestUsage:
    def test_the_classes_are_disjoint_and_add_up(self) -> None:
        counts = {
            "input_tokens": 1,
            "cache_read_input_tokens": 20,
            "cache_creation_input_tokens": 300,
            "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
            "output_tokens": 4_000,
            "output_tokens_details": {"thinking_tokens": 3_000},
            "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
        }

        usage = read_counts(encode(counts)).usage()

        assert usage == Usage(
            input=1,
            cache_read=20,
            cache_write_5m=100,
            cache_write_1h=200,
            output=1_000,
            reasoning=3_000,
            searches=2,
            requests=1,
        )
        again = read_counts(json.dumps(written_usage(usage)).encode()).usage()
        assert again == usage

    @pytest.mark.parametrize(
        ("counts", "usage"),
        [
            ({}, None),
            ({"input_tokens": 1}, None),
            ({"input_tokens": -1, "output_tokens": 1}, None),
            ({"input_tokens": LIE, "output_tokens": 1}, None),
            ({"input_tokens": None, "output_tokens": 1}, None),
            ({"input_tokens": 1, "output_tokens": "x"}, None),
            ({"input_tokens": 1.0, "output_tokens": 2.0}, Usage(input=1, output=2, requests=1)),
            (
                {"input_tokens": 1, "output_tokens": 2, "output_tokens_details": {"thinking_tokens": 9}},
                Usage(input=1, reasoning=2, requests=1),
            ),
            (
                {"input_tokens": 1, "output_tokens": 2, "cache_creation_input_tokens": 7},
                Usage(input=1, cache_write_5m=7, output=2, requests=1),
            ),
            (
                {"input_tokens": 1, "output_tokens": 2, "cache_creation": {"ephemeral_1h_input_tokens": 7}},
                Usage(input=1, cache_write_1h=7, output=2, requests=1),
            ),
        ],
    )
    def test_what_is_missing_or_cannot_be_true(self, counts: Any, usage: Usage | None) -> None:
        assert read_counts(encode(counts)).usage() == usage


class TestRequest:
    def test_a_lowered_limit_takes_the_thinking_budget_along(self) -> None:
        thinking = {"type": "enabled", "budget_tokens": 8_000}

        assert json.loads(write_request(call(5_000, thinking=thinking)))["thinking"]["budget_tokens"] == 4_999
        assert json.loads(write_request(call(8_500, thinking=thinking)))["thinking"] == thinking
        assert json.loads(write_request(call(1_000, thinking=thinking)))["thinking"] == {"type": "disabled"}
        assert json.loads(write_request(call(1_000, thinking={"type": "adaptive"})))["thinking"] == {"type": "adaptive"}
        assert json.loads(write_request(call(1_000)))["max_tokens"] == 1_000

    def test_a_count_keeps_all_but_the_gateways_fields(self) -> None:
        written = json.loads(write_count_request(call(session_id="s", system="x")))

        assert written.keys() == {"model", "max_tokens", "messages", "system"}

    def test_a_turn_of_nothing_but_foreign_thoughts_goes(self) -> None:
        foreign = {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "gwz1.gemini.AA"}]}
        ours = {"role": "assistant", "content": [THINKING, {"type": "text", "text": 'about "gwz1.x" and 1.50'}]}
        citing = {
            "role": "assistant",
            "content": [{"type": "text", "text": "a", "citations": [{"encrypted_index": "", "url": "u"}]}],
        }

        written = json.loads(write_request(call(messages=[foreign, ours, citing, "unreadable"])))["messages"]

        assert written == [ours, {"role": "assistant", "content": [{"type": "text", "text": "a"}]}, "unreadable"]


@pytest.mark.parametrize(
    ("status", "kind_", "text", "kind"),
    [
        (400, "invalid_request_error", "x", FaultKind.REFUSED),
        (400, "invalid_request_error", "prompt is too long: 9 tokens > 5 maximum", FaultKind.CONTEXT_LENGTH),
        (400, "invalid_request_error", "Your credit balance is too low to access", FaultKind.ACCOUNT_EMPTY),
        (401, "authentication_error", "x", FaultKind.CREDENTIAL_REJECTED),
        (402, "billing_error", "x", FaultKind.ACCOUNT_EMPTY),
        (403, "permission_error", "x", FaultKind.CREDENTIAL_REJECTED),
        (404, "not_found_error", "model: x", FaultKind.MODEL_MISSING),
        (413, "request_too_large", "x", FaultKind.REFUSED),
        (429, "rate_limit_error", "x", FaultKind.RATE_LIMITED),
        (500, "api_error", "x", FaultKind.SERVER_ERROR),
        (504, "timeout_error", "x", FaultKind.SERVER_ERROR),
        (529, "overloaded_error", "x", FaultKind.OVERLOADED),
        (None, "overloaded_error", "x", FaultKind.OVERLOADED),
        (None, "invalid_request_error", "x", FaultKind.REFUSED),
    ],
)
def test_refusals_are_understood(status: int | None, kind_: str, text: str, kind: FaultKind) -> None:
    body = encode({"type": "error", "error": {"type": kind_, "message": text}})

    fault = read_fault(status, {"retry-after": "7"}, body)

    assert (fault.kind, fault.message, fault.retry_after_s) == (kind, text, 7)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error":"text"}', b'{"detail":"x"}', b'{"error":{"message":"x"}}'])
def test_refusals_of_imitations_are_read_too(body: bytes) -> None:
    assert read_fault(503, {}, body).kind is FaultKind.OVERLOADED
