"""Whether the process lives, whether to send it requests, and what it counts."""

from __future__ import annotations

from litestar.testing import TestClient

from domain.catalog import Catalog
from domain.ids import AccountId, HoldId, KeyId, RequestId
from domain.ledger import HoldSettled, SettleHold
from domain.money import ZERO, Usd
from domain.usage import Attempt, Generation, Usage
from entrypoints.http.health import UNSETTLED_MAX
from entrypoints.http.metrics import Metrics
from tests.fakes.served import ACME, ONE, OTHER, refusal
from tests.fakes.time import NOON


def test_the_first_look_says_what_this_is_and_where_to_go_on(client):
    assert client.get("/").json()["name"] == "Gatewayz"
    assert client.get("/").json()["docs"] == "/docs"
    assert client.head("/").status_code == 200


def test_a_living_process_says_so(client, served):
    served.revisions.down = True
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ping").json() == {"message": "pong"}


def test_a_process_that_can_serve_is_ready(client):
    answer = client.get("/health/ready")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "storage": "ok", "models": 3, "unsettled": 0}


def test_without_storage_it_is_not_ready_and_says_why(client, served):
    served.revisions.down = True
    answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json() == {"status": "not_ready", "storage": "does not answer", "models": 3, "unsettled": 0}
    served.revisions.down = False
    served.clock.advance(1)
    assert client.get("/health/ready").status_code == 200


def test_storage_is_not_asked_at_every_probe(client, served):
    client.get("/health/ready")
    served.revisions.down = True
    assert client.get("/health/ready").status_code == 200
    served.clock.advance(1)
    assert client.get("/health/ready").status_code == 503


def test_without_a_model_it_is_not_ready(client, served):
    served.catalog.catalog = Catalog([])
    assert client.get("/health/ready").status_code == 503


def test_with_too_many_unsettled_requests_it_is_not_ready(client, served):
    served.readiness.unsettled = lambda: UNSETTLED_MAX
    assert client.get("/health/ready").status_code == 200
    served.readiness.unsettled = lambda: UNSETTLED_MAX + 1
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (503, "not_ready")
    assert answer.json()["unsettled"] == UNSETTLED_MAX + 1


def test_a_process_that_stops_gets_no_new_requests(client, served):
    served.readiness.draining = True
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (503, "draining")


def settlement(cost: int, overrun: int = 0, loss: int = 0, *attempts: Attempt) -> tuple[SettleHold, HoldSettled]:
    record = Generation(
        id=RequestId("r"), account_id=AccountId("ann"), key_id=KeyId("k"), model=ONE, dialect="openai_chat",
        streamed=False, started_at=NOON, vendor=ACME, usage=Usage(input=10, cache_read=4, output=5), cost=Usd(cost),
        loss=Usd(loss), attempts=attempts,
    )  # fmt: skip
    operation = SettleHold(account_id=AccountId("ann"), hold_id=HoldId("h"), record=record, at=NOON)
    return operation, HoldSettled(charged=Usd(cost - overrun), overrun=Usd(overrun), spendable=ZERO)


def test_money_tokens_and_vendors_are_counted_as_they_are_booked():
    metrics = Metrics()
    tried = (Attempt(vendor=OTHER, fault="overloaded"), Attempt(vendor=ACME))
    metrics.settled(*settlement(1_000, 100, 7, *tried))
    metrics.settled(*settlement(500))
    text = metrics.exposed().decode()
    for line in (
        'gatewayz_cost_nanos_total{model="acme/one",vendor="acme"} 1400.0',
        "gatewayz_overrun_nanos_total 100.0",
        "gatewayz_vendor_loss_nanos_total 7.0",
        'gatewayz_tokens_total{kind="input",model="acme/one",vendor="acme"} 20.0',
        'gatewayz_tokens_total{kind="cache_read",model="acme/one",vendor="acme"} 8.0',
        'gatewayz_vendor_attempts_total{fault="overloaded",vendor="other"} 1.0',
        'gatewayz_vendor_attempts_total{fault="",vendor="acme"} 1.0',
    ):
        assert line in text.splitlines()


def test_refused_requests_batches_and_foreign_numbers_are_counted():
    metrics = Metrics()
    for _ in range(2):
        metrics.answered("/v1/chat/completions", 402, None)
    metrics.batch_committed(12, 0.002)
    metrics.watch("streams_open", "Open streams.", lambda: 3)
    lines = metrics.exposed().decode().splitlines()
    route = 'model="",outcome="",route="/v1/chat/completions",status="402",vendor=""'
    assert f"gatewayz_requests_total{{{route}}} 2.0" in lines
    assert 'gatewayz_ledger_batch_operations_bucket{le="16.0"} 1.0' in lines
    assert "gatewayz_streams_open 3.0" in lines


def test_numbers_are_for_the_operator(client, boss, ann):
    refusal(client.get("/metrics"), 401, "missing_api_key")
    refusal(ann.get("/metrics"), 403, "key_not_allowed")
    answer = boss.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "gatewayz_requests_total" in answer.text


def test_numbers_are_given_away_in_the_operators_own_network(served):
    handler = served.app.asgi_handler
    for address, status in (("10.1.2.3", 200), ("127.0.0.1", 200), ("8.8.8.8", 401), ("2001:4860::1", 401)):

        async def coming_from(scope, receive, send, peer=address):
            await handler({**scope, "client": (peer, 1234)}, receive, send)

        served.app.asgi_handler = coming_from
        with TestClient(served.app) as client:
            assert client.get("/metrics").status_code == status, address
