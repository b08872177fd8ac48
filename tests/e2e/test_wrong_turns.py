"""Slips that people make with base URLs and names of models, at every route: the answer says what to do instead."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.conftest import HELLO, Place
from tests.e2e.processes import ADMIN_KEY

pytestmark = pytest.mark.anyio

MESSAGES = "/v1/messages"
ASKS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/completions": {"prompt": "Hello"},
    MESSAGES: {"messages": HELLO, "max_tokens": 5},
    "/v1/messages/count_tokens": {"messages": HELLO},
    "/v1/responses": {"input": "Hello"},
    "/v1/embeddings": {"input": "Hello"},
    "/v1/images/generations": {"prompt": "A fox"},
    "/v1/audio/speech": {"input": "Hello", "voice": "alloy"},
    "/v1/rerank": {"query": "a", "documents": ["b"]},
    "/v1/moderations": {"input": "Hello"},
}


def message(told: Any, path: str) -> str:
    """What the refusal says, in the shape of the route's dialect."""
    if path.startswith(MESSAGES):
        assert told.keys() == {"type", "error", "request_id"}
        assert (told["type"], told["error"]["type"]) == ("error", "not_found_error")
    else:
        assert told["error"].keys() >= {"message", "type", "code", "param", "request_id"}
    text: str = told["error"]["message"]
    return text


async def test_a_base_url_without_v1_or_with_two_is_told_at_every_route(place: Place) -> None:
    paths = (await place.http.get("/docs/openapi.json")).json()["paths"]
    walked = 0
    for path, operations in paths.items():
        if not path.startswith("/v1/"):
            continue
        concrete = path.replace("{", "").replace("}", "")
        for method in operations:
            for wrong, hint in (
                (concrete.removeprefix("/v1"), f"The base URL lacks /v1: use {concrete}"),
                (f"/v1{concrete}", "ends in /v1 already"),
            ):
                answer = await place.http.request(method.upper(), wrong, headers={"x-api-key": ADMIN_KEY})
                assert answer.status_code == 404, wrong
                assert hint in message(answer.json(), concrete), wrong
                walked += 1
    assert walked > 40


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("/v1/chat/completions/chat/completions", "names a route already"),
        ("/v1/chat/completions/models", "names a route already"),
        ("/v1/responses/responses", "names a route already"),
        ("/v1/messages/v1/messages", "names a route already"),
        ("/api/v1/chat/completions", "use /v1/chat/completions"),
        ("/openai/v1/models", "use /v1/models"),
        ("/anthropic/v1/messages", "use /v1/messages"),
    ],
)
async def test_a_base_url_of_elsewhere_is_told(place: Place, wrong: str, hint: str) -> None:
    answer = await place.http.post(wrong, json={})

    # One of them is an address, though not to be posted to.
    assert answer.status_code == (405 if wrong == "/v1/responses/responses" else 404)
    assert hint in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ASKS)
@pytest.mark.parametrize("streams", [False, True])
async def test_an_unknown_model_gets_near_names_in_every_dialect(place: Place, path: str, streams: bool) -> None:
    sent = ASKS[path] | {"model": "acme/sollo-1"} | ({"stream": True} if streams else {})
    answer = await place.http.post(path, json=sent, headers={"x-api-key": ADMIN_KEY})

    assert answer.status_code == 404
    assert "acme/solo-1" in message(answer.json(), path)
    assert not place.alpha.requests
