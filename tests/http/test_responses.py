"""Kept responses: what their routes refuse, and what becomes of one whose process was killed."""

from __future__ import annotations

import pytest

from application.responses import LOST_AFTER
from domain.ports.responses import ResponseStatus
from tests.fakes.served import refusal, run

RUNNING = b'{"id":"resp_1","object":"response","status":"in_progress","error":null,"output":[]}'


@pytest.fixture
def kept(served, ann):
    items = b'[{"type":"message","role":"user","content":"Hello"}]'
    run(served.keep_responses.put, ann.account_id, "resp_1", ResponseStatus.IN_PROGRESS, items, RUNNING)
    return ann


def test_one_that_runs_is_shown_as_it_is(kept):
    assert kept.get("/v1/responses/resp_1").json()["status"] == "in_progress"
    refusal(kept.get("/v1/responses/resp_1", stream=True), 400, "invalid_request")


def test_one_whose_process_was_killed_has_failed(served, kept):
    served.clock.advance(LOST_AFTER.total_seconds() + 1)

    shown = kept.get("/v1/responses/resp_1").json()

    assert shown["status"] == "failed"
    assert shown["error"]["code"] == "server_error"
    assert kept.get("/v1/responses/resp_1").json() == shown
    refusal(kept.post("/v1/responses/resp_1/cancel"), 409, "response_not_running")


def test_its_items_are_listed_in_pages(kept):
    listed = kept.get("/v1/responses/resp_1/input_items").json()
    assert [item["content"][0]["text"] for item in listed["data"]] == ["Hello"]
    assert not listed["has_more"]
    refusal(kept.get("/v1/responses/resp_1/input_items", limit=0), 400, "invalid_request")
    refusal(kept.get("/v1/responses/resp_1/input_items", order="up"), 400, "invalid_request")
    refusal(kept.get("/v1/responses/resp_1/input_items", after="item_9"), 400, "invalid_request")
    refusal(kept.get("/v1/responses/resp_2/input_items"), 404, "response_not_found")
