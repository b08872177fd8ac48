"""Every refusal has its status and says in one shape what to do next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from litestar import Litestar, get, post
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.testing import TestClient
from msgspec import Struct

import domain.errors
from domain.credits import InsufficientCredits
from domain.errors import Conflict, DomainError, InvalidRequest, StorageUnavailable, TooManyRequests
from domain.inference.faults import NoVendorAvailable
from domain.keys import KeyNotAllowed, MissingKey
from domain.money import Usd
from domain.routing import NoOffer
from entrypoints.http.errors import (
    EXCEPTION_HANDLERS,
    STATUS,
    TYPE,
    InternalError,
    anthropic_error,
    anthropic_status,
    error_headers,
    openai_error,
    status_of,
    type_of,
)
from entrypoints.http.request_ids import with_request_ids

TOP_UP = "https://gateway.example/credits"


def all_errors(family: type[DomainError] = DomainError) -> Iterator[type[DomainError]]:
    for error in family.__subclasses__():
        yield error
        yield from all_errors(error)


def body(error: DomainError) -> Any:
    told = json.loads(openai_error(error, "r1", TOP_UP))
    assert list(told) == ["error"]
    return told["error"]


def test_every_family_has_a_status():
    families = {
        error for error in vars(domain.errors).values()
        if isinstance(error, type) and issubclass(error, DomainError) and error.__base__ is DomainError
    }  # fmt: skip
    assert families == set(STATUS)


def test_no_error_of_the_domain_falls_through_the_table():
    assert [error for error in all_errors() if not issubclass(error, (*STATUS, InternalError))] == []


def test_every_code_is_a_word_that_programs_can_compare():
    codes = {error.code for error in all_errors()}
    assert [code for code in codes if not code.replace("_", "a").isalpha() or not code.islower()] == []


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (InvalidRequest("x"), 400, "invalid_request_error", "invalid_request"),
        (MissingKey(), 401, "authentication_error", "missing_api_key"),
        (KeyNotAllowed("x"), 403, "permission_error", "key_not_allowed"),
        (Conflict("x"), 409, "conflict_error", "conflict"),
        (TooManyRequests("x"), 429, "rate_limit_error", "rate_limit_exceeded"),
        (StorageUnavailable("x"), 503, "server_error", "storage_unavailable"),
        (InternalError(), 500, "server_error", "internal_error"),
    ],
)
def test_an_error_is_told_as_openai_tells_it(error, status, kind, code):
    assert status_of(error) == status
    told = body(error)
    assert (told["type"], told["code"], told["request_id"]) == (kind, code, "r1")
    assert told["message"] == error.message
    assert told.keys() == {"message", "type", "code", "param", "request_id"}


def test_the_field_at_fault_is_named():
    assert body(InvalidRequest("x", param="model"))["param"] == "model"


def test_a_lack_of_credit_says_how_much_and_where_to_add_some():
    error = InsufficientCredits(Usd.parse("0.000001234"), Usd.parse("0.5"), Usd.parse("2"))
    told = body(error)
    assert status_of(error) == 402
    assert told["type"] == told["code"] == "insufficient_credits"
    assert told["required_usd"] == "0.000001234"
    assert told["spendable_usd"] == "0.5"
    assert told["held_usd"] == "2"
    assert told["top_up_url"] == TOP_UP


def test_whoever_should_wait_is_told_how_long():
    assert error_headers(TooManyRequests("x", retry_after_s=7)) == [(b"retry-after", b"7")]
    assert error_headers(StorageUnavailable("x")) == [(b"retry-after", b"2")]
    assert error_headers(InvalidRequest("x")) == []


def test_a_status_without_a_word_of_its_own_is_the_servers_fault():
    assert {type_of(status) for status in (500, 502, 503, 504)} == {"server_error"}
    assert "server_error" not in TYPE.values()


# Through the framework


class Inner(Struct, forbid_unknown_fields=True):
    count: int


class Body(Struct, forbid_unknown_fields=True):
    name: str
    inner: Inner | None = None


@post("/things")
async def make_thing(data: JSONBody[Body]) -> Body:
    return data


@get("/things/{number:int}")
async def thing(number: FromPath[int], limit: FromQuery[int] = 5) -> int:
    return number + limit


@get("/short")
async def short() -> None:
    raise InsufficientCredits(Usd(1), Usd(0), Usd(0))


@get("/late")
async def late() -> None:
    raise TooManyRequests("slow down", retry_after_s=3)


@get("/broken")
async def broken() -> None:
    raise RuntimeError("password=hunter2 in /srv/secret/path.py")


@pytest.fixture
def client() -> Iterator[TestClient[Litestar]]:
    app = Litestar(
        [make_thing, thing, short, late, broken],
        exception_handlers=EXCEPTION_HANDLERS,
        request_max_body_size=300_000,
        openapi_config=None,
        logging_config=None,
    )
    app.state.top_up_url = TOP_UP
    app.asgi_handler = with_request_ids(app.asgi_handler, lambda: "r1")
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def refusal(answer: Any) -> Any:
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"] == "r1"
    told = answer.json()["error"]
    assert told["request_id"] == "r1"
    return told


def test_a_refusal_of_the_domain_passes_through(client):
    answer = client.get("/short")
    assert answer.status_code == 402
    assert refusal(answer)["top_up_url"] == TOP_UP
    answer = client.get("/late")
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "3"
    assert refusal(answer)["message"] == "slow down"


@pytest.mark.parametrize(
    ("sent", "param", "said"),
    [
        ({"name": "a", "colour": "red"}, "colour", "not a field"),
        ({"name": "a", "inner": {"count": 1, "size": 2}}, "size", "not a field"),
        ({}, "name", "missing"),
        ({"name": 5}, "name", "str"),
        ({"name": "a", "inner": {"count": "many"}}, "inner.count", "int"),
        ([], None, "object"),
    ],
)
def test_a_body_that_does_not_fit_is_refused_with_its_field(client, sent, param, said):
    answer = client.post("/things", json=sent)
    assert answer.status_code == 400
    told = refusal(answer)
    assert told["code"] == "invalid_request"
    assert told["param"] == param
    assert said in told["message"]


@pytest.mark.parametrize("sent", [b"{", b"\xff", b"", b"nonsense", b'{"name":"\\ud800"}', b"[" * 900, b"[" * 200_000])
def test_a_body_that_is_no_json_is_refused(client, sent):
    answer = client.post("/things", content=sent, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert refusal(answer)["code"] == "invalid_request"


@pytest.mark.parametrize("path", ["/things/5?limit=many"])
def test_a_parameter_that_does_not_fit_is_refused_with_its_name(client, path):
    answer = client.get(path)
    assert answer.status_code == 400
    assert refusal(answer)["param"] == "limit"


def test_a_body_too_large_is_refused(client):
    answer = client.post("/things", json={"name": "x" * 400_000})
    assert answer.status_code == 413
    assert refusal(answer)["code"] == "request_too_large"


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/nowhere", "/docs"),
        ("/chat/completions", "use /v1/chat/completions"),
        ("/responses", "use /v1/responses"),
        ("/v1/v1/models", "ends in /v1 already"),
    ],
)
def test_an_address_that_does_not_exist_hints_at_the_right_one(client, path, hint):
    answer = client.post(path, json={})
    assert answer.status_code == 404
    told = refusal(answer)
    assert told["code"] == "not_found"
    assert hint in told["message"]


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/messages", "use /v1/messages"),
        ("/v1/v1/messages", "ends in /v1 already"),
        ("/v1/messages/batches", "/docs"),
        ("/messages/count_tokens", "use /v1/messages/count_tokens"),
    ],
)
def test_a_wrong_turn_of_anthropics_clients_is_told_in_their_dialect(client, path, hint):
    answer = client.post(path, json={})
    assert answer.status_code == 404
    told = answer.json()
    assert (told["type"], told["error"]["type"], told["request_id"]) == ("error", "not_found_error", "r1")
    assert hint in told["error"]["message"]


def test_an_address_that_only_sounds_alike_is_told_in_the_usual_one(client):
    for path in ("/messagesx", "/v1/chat/sessions/1/messages"):
        assert refusal(client.post(path, json={}))["code"] == "not_found"


ANTHROPIC_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 409: "invalid_request_error", 413: "request_too_large", 429: "rate_limit_error",
    500: "api_error", 502: "api_error", 503: "api_error", 504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip


def anthropic_body(error: DomainError) -> Any:
    told = json.loads(anthropic_error(error, "r1", TOP_UP))
    assert (list(told), told["type"], told["request_id"]) == (["type", "error", "request_id"], "error", "r1")
    return told["error"]


@pytest.mark.parametrize("family", [*STATUS, InternalError])
def test_every_family_has_its_word_in_anthropics_dialect(family):
    error = family() if family is InternalError else family("what to do", param="p")
    told = anthropic_body(error)
    assert told["type"] == ANTHROPIC_TYPES[anthropic_status(error)]
    assert told["details"]["error_code"] == error.code


def test_that_nobody_can_serve_now_is_overloaded_in_anthropics_dialect():
    assert anthropic_status(NoVendorAvailable("none")) == 529
    assert anthropic_body(NoVendorAvailable("none"))["type"] == "overloaded_error"
    # That nothing fits the request does not pass, and storage is our own affair.
    assert anthropic_status(NoOffer("none")) == 503
    assert anthropic_status(StorageUnavailable("none")) == 503


def test_missing_credit_names_the_way_to_more_in_the_message_itself():
    short = InsufficientCredits(required=Usd(5), spendable=Usd(3), held=Usd(1))
    told = anthropic_body(short)
    assert told["type"] == "billing_error"
    assert told["message"].count(TOP_UP) == 1
    assert told["details"]["required_usd"] == "0.000000005"
    assert TOP_UP not in json.loads(anthropic_error(short, "r1", None))["error"]["message"]


def test_a_method_that_is_not_there_is_told_apart(client):
    answer = client.delete("/things/5")
    assert answer.status_code == 405
    assert refusal(answer)["code"] == "method_not_allowed"
    assert "GET" in answer.headers["allow"]


def test_what_nobody_foresaw_is_not_shown(client):
    answer = client.get("/broken")
    assert answer.status_code == 500
    told = refusal(answer)
    assert told["code"] == "internal_error"
    for leaked in ("hunter2", "RuntimeError", "Traceback", "path.py"):
        assert leaked not in answer.text
