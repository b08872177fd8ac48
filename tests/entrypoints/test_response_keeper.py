"""A failure to keep an answer does not take it from whoever paid for it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from adapters.dialects.openai_responses import stored
from adapters.memory.responses import MemoryResponses
from application.responses import KeepResponses
from domain.errors import InvalidRequest
from entrypoints.http.responses import PrepareResponse, ResponseKeeper
from tests.fakes.chat import Stage
from tests.fakes.time import FakeClock

pytestmark = pytest.mark.anyio

SENT = b'{"model":"m","input":"Hello"}'


def keeper(store: MemoryResponses, sent: bytes = SENT) -> ResponseKeeper:
    keep = KeepResponses(store=store, clock=FakeClock(), keep=timedelta(days=1))
    return ResponseKeeper(PrepareResponse(keep=keep, stored=stored), Stage().caller, sent, stored.wishes(sent))


def answer(**members: Any) -> bytes:
    return json.dumps({"object": "response", "status": "completed", "output": [], **members}).encode()


@pytest.mark.parametrize("members", [{}, {"id": 7}, {"id": ""}, {"id": "a\0b"}, {"id": "r" * 9_000}, {"id": "r\n"}])
async def test_an_answer_whose_id_cannot_be_kept_goes_out(members: dict[str, Any]) -> None:
    store = MemoryResponses()

    told = await keeper(store).whole(answer(**members))
    event = b'event: response.completed\ndata: {"type":"response.completed","response":%b}\n\n' % answer(**members)
    piece = await keeper(store).piece(event)

    assert json.loads(told)["output"] == []
    assert b"response.completed" in piece
    assert not store._kept


async def test_an_answer_with_an_id_is_kept() -> None:
    store = MemoryResponses()

    await keeper(store).whole(answer(id="resp_1"))

    assert [key[1] for key in store._kept] == ["resp_1"]


@pytest.mark.parametrize("given", [b"[1]", b'["Hello"]', b"[[]]", b"[null]"])
def test_items_that_are_no_objects_are_refused_before_anything_is_paid(given: bytes) -> None:
    with pytest.raises(InvalidRequest):
        stored.continued(b'{"model":"m","input":%b}' % given, None, None, keeps=True)


def test_a_conversation_grows_no_larger_than_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "ITEMS_BYTES_MAX", 100)
    items = stored.items_of(SENT)

    with pytest.raises(InvalidRequest, match="Begin a new one"):
        stored.continued(b'{"model":"m","input":"%b"}' % (b"x" * 100), items, answer(), keeps=True)
