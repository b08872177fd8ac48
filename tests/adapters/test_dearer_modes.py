"""What a vendor asks more for than its price says is refused, or counted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.dialects.anthropic import server as anthropic
from adapters.dialects.openai_chat import server as chat
from adapters.dialects.openai_completions import server as completions
from adapters.dialects.openai_responses import server as responses
from adapters.dialects.openai_responses.client import ResponsesStream, read_answer
from adapters.transport.sse import named_event
from domain.errors import DomainError, InvalidRequest, UnsupportedParameter
from entrypoints.http.chat import passed_headers

HELLO = [{"role": "user", "content": "Hello"}]
READERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "chat": (chat.read_request, {"messages": HELLO}),
    "messages": (anthropic.read_request, {"messages": HELLO, "max_tokens": 9}),
    "responses": (responses.read_request, {"input": "Hello"}),
    "completions": (completions.read_request, {"prompt": "Hello"}),
}
USAGE = {"input_tokens": 10, "output_tokens": 5}


def read(dialect: str, **members: Any) -> None:
    reader, needed = READERS[dialect]
    reader(json.dumps({"model": "m", **needed, **members}).encode())


@pytest.mark.parametrize("dialect", READERS)
@pytest.mark.parametrize(
    "members", [{"service_tier": "priority"}, {"service_tier": "fast"}, {"inference_geo": "us"}], ids=str
)
def test_a_mode_with_a_price_of_its_own_is_refused(dialect: str, members: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        read(dialect, **members)
    assert refused.value.param == next(iter(members))


@pytest.mark.parametrize("dialect", READERS)
@pytest.mark.parametrize("tier", ["auto", "default", "flex", "standard_only", None])
def test_the_usual_tiers_pass(dialect: str, tier: str | None) -> None:
    read(dialect, service_tier=tier, inference_geo=None)
    read(dialect, service_tier=tier, inference_geo="global")


def answer(**members: Any) -> bytes:
    told = {"id": "r", "status": "completed", "output": [], "usage": USAGE, **members}
    return json.dumps(told).encode()


CALLS = [
    {"type": "web_search_call", "action": {"type": "search", "query": "a"}},
    {"type": "web_search_call", "action": {"type": "open_page", "url": "https://x.test"}},
    {"type": "web_search_call"},
    {"type": "message", "content": []},
]


@pytest.mark.parametrize(
    ("members", "searches"),
    [
        ({}, 0),
        ({"output": CALLS}, 2),
        ({"output": CALLS, "tool_usage": {"web_search": {"num_requests": 3}}}, 3),
        ({"tool_usage": {"web_search": {"num_requests": -1}}}, 0),
        ({"tool_usage": []}, 0),
    ],
)
def test_searches_of_the_web_are_counted(members: dict[str, Any], searches: int) -> None:
    usage = read_answer(answer(**members), {}).usage

    assert usage is not None
    assert usage.searches == searches


@pytest.mark.anyio
async def test_a_stream_that_comes_in_one_piece_without_a_usage_is_not_free() -> None:
    whole = {"type": "response.completed", "response": json.loads(answer(output=CALLS, usage=None))}

    async def chunks() -> Any:
        yield named_event("response.completed", json.dumps(whole).encode())

    stream = ResponsesStream(chunks(), lambda: None, {})
    async for _ in stream:
        pass

    assert stream.usage is None
    assert stream.produced_tokens() > 10


@pytest.mark.parametrize("value", [b"a\r\nx: y", b"a\x00", "\u202e".encode(), b"\xff", b"b" * 4_097])
def test_a_callers_header_for_a_vendor_is_one_short_line(value: bytes) -> None:
    with pytest.raises(InvalidRequest):
        passed_headers([(b"anthropic-beta", value)], (b"anthropic-beta",))


def test_many_headers_of_one_name_are_one_short_line_too() -> None:
    with pytest.raises(DomainError, match="too long"):
        passed_headers([(b"anthropic-beta", b"b" * 4_000)] * 2, (b"anthropic-beta",))
