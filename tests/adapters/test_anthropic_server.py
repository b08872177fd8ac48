"""What callers of Anthropic's dialect send is understood or refused by name; answers get the gateway's own parts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.dialects.anthropic.server import (
    KEEP_ALIVE,
    AnthropicTelling,
    read_count_request,
    read_request,
    telling,
    with_cost,
)
from adapters.transport.sse import events
from domain.catalog import Capability, Dialect
from domain.errors import InvalidRequest, UnsupportedParameter
from domain.money import Usd
from domain.usage import Usage
from tests.fakes.anthropic_upstream import THINKING, event, message, stream, token_usage, tool_use
from tests.fakes.upstream import encode

HELLO = [{"role": "user", "content": "Hello"}]
COST = Usd(1_500)


def body(**members: Any) -> bytes:
    return encode({"model": "acme/one", "max_tokens": 9, "messages": HELLO} | members)


def told() -> AnthropicTelling:
    return telling(read_request(body(stream=True)), "r1", 1_760_000_000)


def decoded(frames: bytes) -> list[Any]:
    return [json.loads(each.data) for each in events(frames)]


class TestReadRequest:
    def test_what_the_gateway_must_know(self) -> None:
        request = read_request(body(stream=True, metadata={"user_id": "u1"}, stop_sequences=["x"]))

        assert request.dialect is Dialect.ANTHROPIC
        assert (request.model, request.streamed, request.wants_usage, request.output_max) == ("acme/one", True, True, 9)
        assert request.session == "u1"
        assert request.needs == {Capability.STREAM}
        assert request.parameters >= {"max_tokens", "messages", "stop"}
        assert request.prompt_tokens > 0

    def test_its_own_session_goes_before_the_users_id(self) -> None:
        assert read_request(body(session_id="s1", metadata={"user_id": "u1"})).session == "s1"

    @pytest.mark.parametrize(
        ("members", "needs"),
        [
            ({"tools": [{"name": "n", "input_schema": {}}]}, {Capability.TOOLS}),
            ({"tools": []}, set()),
            ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, {Capability.IMAGES_IN}),
            ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, {Capability.FILES_IN}),
            ({"messages": [{"role": "user", "content": 'say "image" and {"type":"document"}'}]}, set()),
            ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, {Capability.JSON_SCHEMA}),
            ({"thinking": {"type": "adaptive"}}, set()),
        ],
    )
    def test_what_a_model_must_be_able_to(self, members: dict[str, Any], needs: set[Capability]) -> None:
        assert read_request(body(**members)).needs == needs

    def test_the_beginning_is_the_system_prompt_and_the_first_turn(self) -> None:
        turns = [*HELLO, {"role": "assistant", "content": "a"}]
        one, two = read_request(body(system="s")), read_request(body(system="s", messages=turns))

        assert one.beginning is not None
        assert two.beginning is not None
        assert one.beginning() == two.beginning()
        assert read_request(body(system="t")).beginning() != one.beginning()  # type: ignore[misc]

    def test_a_missing_limit_is_named_unless_tokens_are_only_counted(self) -> None:
        sent = body(max_tokens=None)
        with pytest.raises(InvalidRequest) as refused:
            read_request(sent)
        assert refused.value.param == "max_tokens"
        assert read_count_request(sent).output_max is None

    def test_a_mode_with_a_price_of_its_own_is_refused(self) -> None:
        with pytest.raises(UnsupportedParameter):
            read_request(body(speed="fast"))
        assert read_request(body(speed="standard")).model == "acme/one"


class TestTelling:
    def test_a_whole_answers_usage_gets_the_cost(self) -> None:
        answer = encode(message(usage=token_usage(3)))

        assert json.loads(with_cost(answer, COST))["usage"]["cost"] == 0.0000015
        assert with_cost(b"{}", COST) == b"{}"

    def test_the_cost_goes_into_the_last_message_delta_alone(self) -> None:
        frames = stream(message())
        piece = b"".join(frames)

        costed = told().with_cost(piece, COST)

        assert costed == piece.replace(b'"usage":{"output_tokens":6}', b'"usage":{"output_tokens":6,"cost":0.0000015}')
        assert told().with_cost(frames[0], COST) is frames[0]

    def test_the_end_is_known(self) -> None:
        frames = stream(message())

        assert told().is_end(frames[-1])
        assert not any(told().is_end(frame) for frame in frames[:-1])
        text = event("content_block_delta", index=0, delta={"type": "text_delta", "text": '{"type":"message_stop"}'})
        assert not told().is_end(text)

    @pytest.mark.parametrize("together", [False, True])
    def test_a_stream_without_usage_gets_one_that_is_marked(self, together: bool) -> None:
        writer = told()
        *first, delta, stop = stream(message(stop_reason="stop_sequence", stop_sequence="END"))
        delta = delta.replace(b'"output_tokens":6', b"")
        writer.passed(b"".join(first) if together else b"".join([*first, delta]))
        end = delta + stop if together else stop

        written = writer.with_usage_before_end(end, Usage(input=4, output=2), COST)

        assert written is not None
        delta_, stop_ = decoded(written)
        assert delta_["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "END"}
        assert delta_["usage"]["estimated"] is True
        assert (delta_["usage"]["input_tokens"], delta_["usage"]["cost"]) == (4, 0.0000015)
        assert stop_ == {"type": "message_stop"}
        assert writer.with_usage_before_end(first[0], Usage(), COST) is None

    @pytest.mark.parametrize("cut", range(1, 14))
    def test_wherever_credit_ends_the_open_block_is_closed(self, cut: int) -> None:
        writer = told()
        frames = stream(message(THINKING, {"type": "text", "text": "Hello there"}, tool_use()))[:-2][:cut]
        for frame in frames:
            writer.passed(frame)

        written = decoded(b"".join(frames) + writer.length_stop(Usage(input=1, output=2)))

        opened = [each["index"] for each in written if each["type"] == "content_block_start"]
        closed = [each["index"] for each in written if each["type"] == "content_block_stop"]
        assert opened == closed == list(range(len(opened)))
        assert written[-2]["delta"]["stop_reason"] == "max_tokens"
        assert written[-2]["usage"]["output_tokens"] == 2
        assert written[-1] == {"type": "message_stop"}

    def test_pieces_that_hold_several_events_are_followed_too(self) -> None:
        writer = told()
        writer.passed(b"".join(stream(message(THINKING, tool_use()))[:-4]))

        assert [each["type"] for each in decoded(writer.length_stop(Usage()))] == [
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]

    def test_a_stream_that_has_not_begun_is_whole_all_the_same(self) -> None:
        written = decoded(told().length_stop(Usage(input=1)))

        assert [each["type"] for each in written] == ["message_start", "message_delta", "message_stop"]

    def test_a_failure_and_silence_have_events_of_their_own(self) -> None:
        assert told().error_event(b'{"type":"error"}') == b'event: error\ndata: {"type":"error"}\n\n'
        assert [each.name for each in events(KEEP_ALIVE)] == ["ping"]
