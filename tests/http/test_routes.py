"""Every route says who may pass, and is found in the documentation."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from domain.keys import ADMIN_KEY_SCOPES, KeyPolicy, Scope
from domain.money import Usd
from entrypoints.http.guards import Anyone, Needs, Probe
from tests.fakes.served import ADDRESS_PER_MINUTE, Caller, Served, refusal, run

CARRIERS = {
    "bearer": lambda secret: {"headers": {"authorization": f"Bearer {secret}"}},
    "x-api-key": lambda secret: {"headers": {"x-api-key": secret}},
    "api-key": lambda secret: {"headers": {"api-key": secret}},
    "x-goog-api-key": lambda secret: {"headers": {"x-goog-api-key": secret}},
    "query": lambda secret: {"params": {"key": secret}},
}
PUBLIC = {
    *("/", "/health", "/health/ready", "/health/vendors", "/ping", "/docs", "/docs/{path}", "/v1/models"),
    *("/v1/models/{name}", "/v1/models/search", "/v1/models/trending", "/v1/models/batch-compare"),
    *("/v1/models/{author}/{slug}/endpoints", "/v1/models/{author}/{slug}/compare", "/v1/providers"),
    *("/v1/providers/{slug}/stats", "/v1/providers/{slug}/top-models", "/v1/gateways/summary", "/ranking/models"),
    *("/ranking/apps", "/modelz/models", "/modelz/ids", "/modelz/check/{model_id}"),
}


def handlers(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for method, (handler, _) in route.route_handler_map.items():
                if method != "OPTIONS":
                    yield str(method), route.path_format, handler


def guarded(app: Litestar) -> Iterator[tuple[str, str, Needs]]:
    for method, path, handler in handlers(app):
        for guard in handler.resolve_guards():
            if isinstance(guard, Needs):
                yield method, path, guard


def concrete(path: str) -> str:
    names = {"{key_id}": "k1", "{account}": "a1", "{request_id}": "r9", "{vendor}": "acme"}
    for name, value in names.items():
        path = path.replace(name, value)
    return path


def test_every_route_declares_who_may_pass(served):
    for method, path, handler in handlers(served.app):
        guards = [guard for guard in handler.resolve_guards() if isinstance(guard, Needs | Anyone | Probe)]
        assert len(guards) == 1, (method, path)


def test_only_these_routes_are_open(served):
    closed = {path for _, path, _ in guarded(served.app)}
    opened = {path for _, path, _ in handlers(served.app)} - closed
    assert {path.removesuffix("/openapi.json") or "/" for path in opened} <= PUBLIC


def test_every_admin_route_needs_the_administrators_scope(served):
    scopes = {guard.scope for _, path, guard in guarded(served.app) if path.startswith("/admin")}
    assert scopes == {Scope.ADMIN}


def test_without_a_key_no_closed_route_opens(served, client):
    for method, path, _ in guarded(served.app):
        refusal(client.request(method, concrete(path)), 401, "missing_api_key")


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_key_passes_where_it_has_the_scope_and_nowhere_else_however_it_is_carried(served, client, carrier):
    for number, (method, path, guard) in enumerate(guarded(served.app)):
        name = f"{number}-{carrier}@example.org"
        right = run(served.customer, name, KeyPolicy(scopes=frozenset({guard.scope})))
        wrong = run(served.customer, f"not-{name}", KeyPolicy(scopes=ADMIN_KEY_SCOPES - {guard.scope}))
        answer = client.request(method, concrete(path), **CARRIERS[carrier](wrong.secret.text))
        assert guard.scope in refusal(answer, 403, "key_not_allowed")["message"]
        answer = client.request(method, concrete(path), **CARRIERS[carrier](right.secret.text))
        assert answer.status_code not in {401, 403, 500}, (path, answer.text)


@pytest.mark.parametrize(
    "path", ["//user/balance", "/user//balance", "/USER/balance", "/user/%62alance/", "/user/balance;x"]
)
def test_no_spelling_of_a_path_gets_around_its_guard(client, path):
    assert client.get(path).status_code in {401, 404}


def test_an_address_without_a_key_is_let_in_only_so_often(client):
    for _ in range(ADDRESS_PER_MINUTE):
        assert client.get("/v1/models").status_code == 200
    answer = client.get("/v1/models")
    assert "requests_without_key_per_minute" in refusal(answer, 429, "rate_limit_exceeded")["message"]
    assert int(answer.headers["retry-after"]) >= 1
    assert client.get("/health").status_code == 200


def test_wrong_keys_are_counted_against_their_address(client):
    for number in range(20):
        refusal(client.get("/user/balance", headers={"x-api-key": f"gw_live_{number}"}), 401, "invalid_api_key")
    refusal(client.get("/user/balance", headers={"x-api-key": "gw_live_more"}), 429, "rate_limit_exceeded")


def test_every_route_is_in_the_documentation(served, client):
    documented = client.get("/docs/openapi.json").json()
    assert documented["openapi"].startswith("3.1")
    for method, path, handler in handlers(served.app):
        if method != "HEAD" and handler.resolve_include_in_schema():
            assert method.lower() in documented["paths"][path], path


def test_every_operation_has_a_title_a_text_and_a_name_of_its_own(client):
    operations = [
        (f"{method} {path}", operation)
        for path, item in client.get("/docs/openapi.json").json()["paths"].items()
        for method, operation in item.items()
    ]
    names = [operation["operationId"] for _, operation in operations]
    assert len(names) == len(set(names)) > 50
    for where, operation in operations:
        assert operation["description"], where
        # The framework makes titles of handlers' names, such as ListModels.
        assert " " in operation["summary"], where
        assert operation["tags"], where


def test_the_page_shows_every_route_and_loads_nothing(served, client):
    answer = client.get("/docs")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for path in client.get("/docs/openapi.json").json()["paths"]:
        assert path in answer.text
    for loading in ("<script", "src=", "http://", "@import", "url(", "<link"):
        assert loading not in answer.text


def test_the_documentation_names_no_secret_and_every_field(client):
    schema = json.dumps(client.get("/docs/openapi.json").json())
    for name in ("scope_permissions", "spendable_usd", "domain_referrers", "usd_per_million", "produced_usd"):
        assert name in schema
    for name in ("digest", "pepper"):
        assert name not in schema


def two_tenants(served: Served, client) -> tuple[Caller, Caller]:
    policy = KeyPolicy(scopes=ADMIN_KEY_SCOPES - {Scope.ADMIN})
    return (
        Caller(client, run(served.customer, "ann@example.org", policy)),
        Caller(client, run(served.customer, "bob@example.org", policy)),
    )


def test_nobody_reaches_what_is_another_accounts(served, client):
    ann, bob = two_tenants(served, client)
    refusal(bob.delete(f"/user/api-keys/{ann.key.id}"), 404, "key_not_found")
    refusal(bob.patch(f"/user/api-keys/{ann.key.id}", key_name="mine"), 404, "key_not_found")
    assert [key["id"] for key in bob.get("/user/api-keys").json()["keys"]] == [bob.key.id]
    run(served.grant_credit, ann.account_id, Usd.parse("5"), "welcome")
    assert bob.get("/user/balance").json()["spendable_usd"] == "0"
    assert bob.get("/user/credit-transactions").json()["transactions"] == []
