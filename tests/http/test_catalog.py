"""The catalogue's routes beside the plain list: filters, search, offers side by side, vendors, rankings."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from domain.catalog import Capability, Catalog, Model
from domain.ids import VendorSlug
from domain.inference.faults import FaultKind, VendorFault
from domain.ports.popularity import Counted
from domain.pricing import Rates
from tests.fakes.popularity import counted
from tests.fakes.served import ACME, CATALOG, ONE, OTHER, TWO, model, offer, refusal

EYES = frozenset({Capability.IMAGES_IN, Capability.STREAM})


def ids(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [record["id"] for record in answer.json()["data"]]


@pytest.fixture
def varied(served) -> None:
    """A model that sees, one that is free, one that draws, and one that ends."""

    def changed(name: str, **others) -> Model:
        made = model(name, offer(ACME, ONE, 1))
        return replace(made, offers=tuple(replace(each, model=made.id, **others) for each in made.offers))

    free = changed("acme/free")
    price = free.offers[0].price
    assert price is not None
    zero = replace(price, rates=Rates(input=0, output=0), free=True)
    served.catalog.catalog = Catalog(
        [
            changed("acme/draws", output_modalities=("image", "text")),
            changed("acme/ends", retires_at=datetime(2027, 1, 1, tzinfo=UTC)),
            replace(free, offers=tuple(replace(each, price=zero) for each in free.offers)),
            changed("acme/sees", capabilities=EYES, context_length=8_000),
            changed("other/texts", capabilities=frozenset({Capability.STREAM})),
        ],
        vendors=[ACME, OTHER],
    )


@pytest.mark.parametrize(
    ("parameters", "fitting"),
    [
        ({"author": "other"}, ["other/texts"]),
        ({"input_modalities": "image"}, ["acme/sees"]),
        ({"output_modalities": "image,text"}, ["acme/draws"]),
        ({"supported_parameters": "tools"}, ["acme/draws", "acme/ends", "acme/free"]),
        ({"capability": "images_in, stream"}, ["acme/sees"]),
        ({"free": "true"}, ["acme/free"]),
        ({"max_price": "0.5"}, ["acme/free"]),
        ({"max_price": "1", "max_completion_price": "2", "author": "other"}, ["other/texts"]),
        ({"max_completion_price": "1.99"}, ["acme/free"]),
        ({"min_context": 9_000, "limit": 2}, ["acme/draws", "acme/ends"]),
        ({"max_context": 8_000}, ["acme/sees"]),
        ({"q": "EEs", "free": "false"}, ["acme/sees"]),
        ({"provider": "nobody"}, []),
    ],
)
@pytest.mark.parametrize("headers", [{}, {"anthropic-version": "2023-06-01"}])
def test_models_are_filtered_by_what_people_look_for(client, varied, parameters, fitting, headers):
    assert ids(client.get("/v1/models", params=parameters, headers=headers)) == fitting


def test_a_filtered_list_is_paged(client, varied):
    first = client.get("/v1/models", params={"author": "acme", "limit": 3})
    assert ids(first) == ["acme/draws", "acme/ends", "acme/free"]
    rest = client.get("/v1/models", params={"author": "acme", "limit": 3, "cursor": first.json()["next_cursor"]})
    assert ids(rest) == ["acme/sees"]
    assert rest.json()["next_cursor"] is None


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"capability": "flying"}, "capability"),
        ({"max_price": "cheap"}, "max_price"),
        ({"max_completion_price": "-1"}, "max_completion_price"),
        ({"max_price": "NaN"}, "max_price"),
        ({"q": "x" * 201}, "q"),
        ({"free": "perhaps"}, "free"),
        ({"min_context": "long"}, "min_context"),
    ],
)
def test_a_filter_that_cannot_be_understood_is_refused(client, parameters, param):
    assert refusal(client.get("/v1/models", params=parameters), 400, "invalid_request")["param"] == param


def test_a_model_that_ends_says_when(client, varied):
    record = client.get("/v1/models/acme/ends").json()
    assert (record["deprecated"], record["deprecation_date"]) == (True, "2027-01-01T00:00:00Z")
    headers = {"anthropic-version": "2023-06-01"}
    assert client.get("/v1/models/acme/ends", headers=headers).json()["lifecycle"] == "deprecated"
    assert client.get("/v1/models/acme/sees").json()["deprecated"] is False


def test_a_record_names_vendors_modalities_and_capabilities(client, varied):
    record = client.get("/v1/models/acme/draws").json()
    assert record["architecture"]["modality"] == "text->text+image"
    assert (record["providers"], record["is_free"], record["owned_by"]) == (["acme"], False, "acme")
    assert client.get("/v1/models/acme/sees").json()["capabilities"] == ["images_in", "stream"]


def test_search_gives_the_nearest_name_first_then_what_is_used_most(client, served):
    assert ids(client.get("/v1/models/search", params={"q": "one"})) == ["acme/one"]
    assert ids(client.get("/v1/models/search", params={"q": "acme"})) == ["acme/one", "acme/two"]
    served.counts.now[Counted.MODEL] = [counted("acme/two", "acme")]
    served.clock.advance(61)
    found = client.get("/v1/models/search", params={"q": "acme", "limit": 1})
    assert ids(found) == ["acme/two"]
    assert found.json()["total"] == 2
    assert refusal(client.get("/v1/models/search", params={"limit": 101}), 400, "invalid_request")["param"] == "limit"


def test_the_offers_of_a_model_are_shown_with_price_limits_and_health(client, served):
    served.health.succeeded(CATALOG.models["acme/one"].offers[0], 120, 100, 1_120)
    for _ in range(5):
        served.health.failed(CATALOG.models["acme/one"].offers[1], VendorFault(FaultKind.SERVER_ERROR, "ill"))
    shown = client.get("/v1/models/acme/one/endpoints").json()["data"]
    assert shown["model"]["id"] == "acme/one"
    cheap, dear = shown["offers"]
    assert (cheap["vendor"], cheap["vendor_model"], cheap["status"]) == ("acme", "one", "ok")
    assert (cheap["latency_ms"], cheap["tokens_per_s"], cheap["context_length"]) == (120, 100, 128_000)
    assert cheap["pricing"]["prompt"] == "0.000001"
    assert (dear["vendor"], dear["status"], dear["pricing"]["prompt"]) == ("other", "resting", "0.0000025")


@pytest.mark.parametrize("path", ["hub/author/deep/endpoints", "one/endpoints", "acme%2Fone/endpoints"])
def test_offers_are_found_however_many_slashes_an_id_has(client, path):
    assert client.get(f"/v1/models/{path}").json()["data"]["offers"]


def test_offers_are_compared(client, served):
    served.health.succeeded(CATALOG.models["acme/one"].offers[1], 120, 100, 1_120)
    compared = client.get("/v1/models/acme/one/compare").json()["data"]
    assert [each["vendor"] for each in compared["offers"]] == ["acme", "other"]
    assert (compared["cheapest"], compared["fastest"], compared["savings_percent"]) == ("acme", "other", 40)
    alone = client.get("/v1/models/acme/one/compare", params={"vendors": "other"}).json()["data"]
    assert [each["vendor"] for each in alone["offers"]] == ["other"]
    told = refusal(client.get("/v1/models/acme/two/compare", params={"vendors": "other"}), 400, "invalid_request")
    assert "acme do" in told["message"]
    refusal(client.get("/v1/models/acme/tow/compare"), 404, "model_not_found")


def test_several_models_are_compared(client):
    body = {"model_ids": ["acme/two", "one", "nobody/knows", "acme/soon", "acme/one"]}
    compared = client.post("/v1/models/batch-compare", json=body).json()
    assert [each["id"] for each in compared["data"]] == ["acme/two", "acme/one"]
    assert compared["cheapest"] == "acme/one"
    assert compared["not_found"] == ["nobody/knows", "acme/soon"]
    assert compared["data"][1]["providers"] == ["acme", "other"]
    wrongs: list[dict[str, object]] = [{"model_ids": []}, {"model_ids": ["x"] * 51}, {}, {"model_ids": "acme/one"}]
    for wrong in wrongs:
        refusal(client.post("/v1/models/batch-compare", json=wrong), 400, "invalid_request")


def test_what_is_used_most_is_ranked(client, served):
    served.counts.now[Counted.MODEL] = [
        counted("acme/one", "acme", 3_000, 30),
        counted("acme/one", "other", 1_500, 90, failed=9),
        counted("acme/two", "acme", 2_000),
    ]
    served.counts.earlier[Counted.MODEL] = [counted("acme/one", "acme", 1_500), counted("acme/one", "other", 1_500)]
    trending = client.get("/v1/models/trending").json()
    assert (trending["success"], trending["count"], trending["time_range"]) == (True, 3, "24h")
    first = trending["data"][0]
    assert (first["rank"], first["model"], first["provider"], first["tokens"]) == (1, "acme/one", "acme", 3_000)
    assert (first["trend_percent"], first["avg_first_token_ms"]) == (100, 100)
    by_requests = client.get("/v1/models/trending", params={"sort_by": "requests", "limit": 1}).json()["data"]
    assert [(each["provider"], each["requests"]) for each in by_requests] == [("other", 90)]
    alone = client.get("/v1/models/trending", params={"provider": "other"}).json()
    assert [each["provider"] for each in alone["data"]] == ["other"]
    ranked = client.get("/ranking/models", params={"time_range": "24h"}).json()
    assert [(each["rank"], each["model"], each["tokens"]) for each in ranked["data"]] == [
        (1, "acme/one", 4_500),
        (2, "acme/two", 2_000),
    ]
    assert [each["trend_percent"] for each in ranked["data"]] == [50, None]
    assert client.get("/ranking/models", params={"offset": 1}).json()["data"][0]["rank"] == 2
    assert client.get("/ranking/models").json()["total"] == 2


def test_apps_are_ranked_by_the_names_they_give_themselves(client, served):
    served.counts.now[Counted.APP] = [counted("Painter", tokens=5_000), counted("notes.example.org", tokens=100)]
    ranked = client.get("/ranking/apps").json()
    assert [(each["rank"], each["app"], each["tokens"]) for each in ranked["data"]] == [
        (1, "Painter", 5_000),
        (2, "notes.example.org", 100),
    ]


def test_a_ranking_is_read_from_storage_once_a_minute(client, served):
    for _ in range(5):
        assert client.get("/ranking/models").status_code == 200
    assert len(served.counts.asked) == 2
    served.clock.advance(61)
    client.get("/ranking/models")
    assert len(served.counts.asked) == 4


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/v1/models/trending?limit=0", "limit"),
        ("/v1/models/trending?sort_by=users", "sort_by"),
        ("/v1/models/trending?time_range=1y", "time_range"),
        ("/ranking/models?limit=101", "limit"),
        ("/ranking/apps?offset=-1", "offset"),
        ("/v1/providers/acme/top-models?limit=21", "limit"),
    ],
)
def test_a_ranking_of_an_impossible_size_is_refused(client, path, param):
    assert refusal(client.get(path), 400, "invalid_request")["param"] == param


def test_vendors_are_listed_with_what_they_serve_and_how_they_do(client, served):
    served.health.succeeded(CATALOG.models["acme/two"].offers[0], 80, 100, 1_080)
    providers = client.get("/v1/providers").json()
    assert providers["count"] == 2
    acme, other = providers["data"]
    assert (acme["slug"], acme["status"], acme["model_count"], acme["latency_ms"]) == ("acme", "ok", 2, 80)
    assert (other["slug"], other["model_count"], other["latency_ms"]) == ("other", 2, None)


def test_a_vendors_use_is_summed(client, served):
    served.counts.now[Counted.MODEL] = [
        counted("acme/one", "acme", 3_000, 30, failed=3),
        counted("acme/two", "acme", 1_000, 10),
        counted("acme/one", "other", 500, 5),
    ]
    stats = client.get("/v1/providers/acme/stats").json()
    assert stats["time_range"] == "24h"
    assert stats["data"] == {
        "slug": "acme", "status": "ok", "total_requests": 40, "failed_requests": 3, "total_tokens": 4_000,
        "unique_models": 2, "top_model": "acme/one", "avg_first_token_ms": 100, "avg_speed": stats["data"]["avg_speed"],
    }  # fmt: skip
    top = client.get("/v1/providers/acme/top-models", params={"limit": 1}).json()
    assert [each["model"] for each in top["data"]] == ["acme/one"]
    summary = client.get("/v1/gateways/summary").json()
    assert set(summary["data"]) == {"acme", "other"}
    assert summary["totals"] == {
        "total_requests": 45, "failed_requests": 3, "total_tokens": 4_500, "unique_models": 2,
    }  # fmt: skip
    told = refusal(client.get("/v1/providers/acne/stats"), 404, "vendor_not_found")
    assert "acme, other" in told["message"]


def test_the_health_of_vendors_can_be_asked_for_without_a_key(client, served):
    assert client.get("/health/vendors").json()["status"] == "ok"
    for name in (ONE, TWO):
        broken = next(o for o in CATALOG.models[name].offers if o.vendor == ACME)
        for _ in range(5):
            served.health.failed(broken, VendorFault(FaultKind.SERVER_ERROR, "ill"))
        served.clock.advance(1.5)
        acme, other = client.get("/health/vendors").json()["vendors"]
        expected = "degraded" if name == ONE else "resting"
        assert (acme["status"], other["status"]) == (expected, "ok")
    assert client.get("/health/vendors").json()["status"] == "resting"


def test_a_vendor_that_refuses_our_account_rests_as_a_whole(client, served):
    served.health.failed(
        CATALOG.models["acme/two"].offers[0], VendorFault(FaultKind.CREDENTIAL_REJECTED, "no such key")
    )
    acme = client.get("/health/vendors").json()["vendors"][0]
    assert (acme["status"], acme["resting"]) == ("resting", 2)


def test_the_token_directory_says_that_it_is_off(client):
    assert client.get("/modelz/models").json() == {"data": [], "count": 0, "enabled": False, "note": "modelz is off"}
    assert client.get("/modelz/ids").json()["data"] == []
    checked = client.get("/modelz/check/acme/one").json()
    assert (checked["model_id"], checked["exists"], checked["enabled"]) == ("acme/one", False, False)


def test_the_token_directory_shows_its_tokens_where_it_is_on(client, served):
    directory = VendorSlug("modelz")
    token = model("modelz/Token-A", offer(directory, ONE, None))
    served.catalog.catalog = Catalog([*CATALOG.models.values(), token], vendors=[ACME, directory])
    assert client.get("/modelz/ids").json() == {"data": ["one"], "count": 1, "enabled": True, "note": None}
    assert client.get("/modelz/check/one").json()["exists"]
    assert "modelz/Token-A" not in ids(client.get("/v1/models"))
