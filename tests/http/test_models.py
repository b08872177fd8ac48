"""/v1/models: the list that clients choose from."""

from __future__ import annotations

import pytest

from domain.catalog import Catalog
from tests.fakes.served import CATALOG, refusal

ANTHROPIC = {"anthropic-version": "2023-06-01"}
LISTED = ["acme/one", "acme/two", "hub/author/deep"]


def ids(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [record["id"] for record in answer.json()["data"]]


def test_whoever_asks_gets_the_models_that_can_be_asked_for(client):
    answer = client.get("/v1/models")
    assert ids(answer) == LISTED
    listed = answer.json()
    assert listed["object"] == "list"
    assert listed["next_cursor"] is None
    record = listed["data"][0]
    assert record["object"] == "model"
    assert record["owned_by"] == "acme"
    assert record["pricing"]["prompt"] == "0.000001"
    assert record["context_length"] == 128_000


def test_openais_own_client_understands_the_list(client):
    from openai.types import Model

    models = [Model.model_validate(record) for record in client.get("/v1/models").json()["data"]]
    assert [model.id for model in models] == LISTED


def test_the_list_is_filtered_and_paged(client):
    assert ids(client.get("/v1/models", params={"provider": "other"})) == ["acme/one", "hub/author/deep"]
    assert ids(client.get("/v1/models", params={"provider": "nobody"})) == []
    assert ids(client.get("/v1/models", params={"q": "TWO"})) == ["acme/two"]
    one = client.get("/v1/models", params={"limit": 2})
    two = client.get("/v1/models", params={"limit": 2, "cursor": one.json()["next_cursor"]})
    assert ids(one) + ids(two) == LISTED
    assert two.json()["next_cursor"] is None


@pytest.mark.parametrize("limit", ["0", "1001", "x"])
@pytest.mark.parametrize("headers", [{}, ANTHROPIC])
def test_a_page_of_an_impossible_size_is_refused(client, limit, headers):
    answer = client.get("/v1/models", params={"limit": limit}, headers=headers)
    assert refusal(answer, 400, "invalid_request")["param"] == "limit"


def test_who_has_the_list_already_does_not_get_it_again(client, served):
    first = client.get("/v1/models")
    etag = first.headers["etag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        again = client.get("/v1/models", headers={"if-none-match": known})
        assert again.status_code == 304
        assert again.content == b""
        assert again.headers["etag"] == etag
    assert client.get("/v1/models", headers={"if-none-match": '"other"'}).status_code == 200
    served.catalog.catalog = Catalog(list(CATALOG.models.values())[1:], vendors=CATALOG.vendors)
    changed = client.get("/v1/models", headers={"if-none-match": etag})
    assert ids(changed) == LISTED[1:]


def test_anthropics_clients_get_their_own_shape(client):
    answer = client.get("/v1/models", headers=ANTHROPIC)
    listed = answer.json()
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == (LISTED[0], LISTED[-1], False)
    assert listed["data"][0] == {
        "type": "model", "id": "acme/one", "display_name": "Acme/One", "created_at": "2026-01-02T00:00:00Z",
        "max_input_tokens": 128_000, "max_tokens": 16_000,
        "lifecycle": "active",
    }  # fmt: skip
    assert answer.headers["vary"] == "anthropic-version"
    assert answer.headers["etag"] != client.get("/v1/models").headers["etag"]


def test_anthropics_own_client_understands_the_list(client):
    from anthropic.types import ModelInfo

    models = [ModelInfo.model_validate(each) for each in client.get("/v1/models", headers=ANTHROPIC).json()["data"]]
    assert [model.id for model in models] == LISTED


def test_anthropics_list_is_paged_in_both_directions(client):
    def page(**parameters: object):
        return client.get("/v1/models", params=parameters, headers=ANTHROPIC)

    first = page(limit=2)
    assert ids(first) == LISTED[:2]
    assert first.json()["has_more"]
    assert ids(page(limit=2, after_id=first.json()["last_id"])) == LISTED[2:]
    back = page(limit=1, before_id=LISTED[2])
    assert ids(back) == [LISTED[1]]
    assert back.json()["has_more"]
    assert page(after_id="zzz").json() == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize("path", ["acme/one", "acme%2Fone", "one", "hub/author/deep"])
def test_one_model_is_found_by_its_id(client, path):
    answer = client.get(f"/v1/models/{path}")
    assert answer.status_code == 200
    assert answer.json()["id"] in LISTED
    assert client.get(f"/v1/models/{path}", headers=ANTHROPIC).json()["type"] == "model"


def test_a_model_that_is_not_there_hints_at_near_ones(client):
    told = refusal(client.get("/v1/models/acme/on"), 404, "model_not_found")
    assert "acme/one" in told["message"]
    assert told["param"] == "model"


def test_a_model_without_a_price_is_told_apart(client):
    told = refusal(client.get("/v1/models/acme/soon"), 404, "model_unpriced")
    assert "gatewayz prices set acme/soon" in told["message"]
