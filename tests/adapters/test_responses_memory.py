"""What the gateway remembers of a stream of Responses, in case that it must end it itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.dialects.openai_responses import server
from adapters.dialects.openai_responses.server import ResponsesTelling, read_request, telling
from adapters.transport.sse import events, named_event
from domain.usage import Usage


def told() -> ResponsesTelling:
    return telling(read_request(b'{"model":"m","input":"x","stream":true}'), "r1", 1_760_000_000)


def event(kind: str, number: int, **members: Any) -> bytes:
    return named_event(kind, json.dumps({"type": kind, "sequence_number": number, **members}).encode())


ITEM = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
ADDED = event("response.output_item.added", 0, output_index=0, item=ITEM)


def delta(number: int, text: str) -> bytes:
    kind = "response.output_text.delta"
    return event(kind, number, item_id="msg_1", output_index=0, content_index=0, delta=text, logprobs=[])


def kept_bytes(writer: ResponsesTelling) -> int:
    return sum(map(len, writer._open)) + sum(map(len, writer._items))


def test_a_long_answer_is_kept_as_its_text() -> None:
    writer, length = told(), 20_000
    writer.passed(ADDED)
    for number in range(1, length):
        writer.passed(delta(number, f"{number} "))

    assert kept_bytes(writer) <= server.FOLDED_BYTES + 1_000
    last = json.loads(events(writer.length_stop(Usage(input=1, output=2)))[-1].data)
    [item] = last["response"]["output"]
    assert item["content"][0]["text"] == "".join(f"{number} " for number in range(1, length))
    assert item["status"] == "incomplete"


def test_no_more_than_so_much_of_a_stream_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "KEPT_BYTES_MAX", 100_000)
    writer = told()
    for number in range(3_000):
        item = {**ITEM, "content": [{"type": "output_text", "text": "x" * 500}]}
        writer.passed(event("response.output_item.done", number, output_index=0, item=item))

    assert kept_bytes(writer) < 300_000
    end = json.loads(events(writer.length_stop(Usage()))[-1].data)
    assert end["response"]["status"] == "incomplete"
    assert end["sequence_number"] == 3_000
