"""Reading models lists: what one odd row, page or price must not do to the others."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from adapters.catalog.price_units import ListedPrice
from adapters.vendors.listings import (
    ModelsList,
    Paging,
    dearest,
    first_page,
    per_million,
    per_million_e4,
    per_unit,
    read_page,
)
from domain.catalog import Capability
from domain.inference.faults import FaultKind, VendorFault
from domain.ports.vendors import ListedModel
from domain.pricing import Rates

BASE = "https://api.acme.test/v1"
PLAIN = ModelsList()


def listed(row: dict[str, object], how: ModelsList = PLAIN) -> ListedModel:
    (model,) = read_page(json.dumps({"data": [row]}).encode(), BASE, how).models
    return model


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"data":{}}', b'"x"', b"[" * 10_000])
def test_what_is_no_list_is_the_vendors_fault(body: bytes) -> None:
    with pytest.raises(VendorFault) as raised:
        read_page(body, BASE, PLAIN)
    assert raised.value.kind is FaultKind.MALFORMED


def test_odd_rows_do_not_cost_the_others() -> None:
    rows = [7, None, {}, {"id": 7}, {"id": ""}, {"id": "a", "context_length": "many", "pricing": 7}, {"id": "b"}]
    page = read_page(json.dumps({"data": rows}).encode(), BASE, ModelsList(price=per_unit))
    assert [model.vendor_model for model in page.models] == ["a", "b"]


@pytest.mark.parametrize(
    ("row", "context"),
    [
        ({"context_length": 8_192}, 8_192),
        ({"context_window": 8_192}, 8_192),
        ({"contextLength": "8192"}, 8_192),
        ({"context_size": 8_192.0}, 8_192),
        ({"top_provider": {"context_length": 8_192}}, 8_192),
        ({"context_length": None, "max_model_len": 8_192}, 8_192),
        ({"context_length": 0}, None),
        ({"context_length": -1}, None),
        ({"context_length": True}, None),
        ({"context_length": 10**30}, None),
    ],
)
def test_context_is_found_under_all_its_names(row: dict[str, object], context: int | None) -> None:
    assert listed({"id": "m", **row}).context_length == context


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({}, None),
        ({"architecture": {"modality": "text+image->text"}}, None),
        ({"supported_parameters": ["temperature"]}, {Capability.STREAM}),
        (
            {
                "supported_parameters": ["tools", "structured_outputs", "reasoning"],
                "input_modalities": ["text", "image"],
            },
            {Capability.STREAM, Capability.TOOLS, Capability.JSON_SCHEMA, Capability.REASONING, Capability.IMAGES_IN},
        ),
        (
            {"capabilities": {"function_calling": False, "vision": True}},
            {Capability.STREAM, Capability.IMAGES_IN, Capability.JSON_SCHEMA, Capability.REASONING},
        ),
        ({"type": "embedding"}, {Capability.EMBEDDINGS}),
        ({"output_modalities": ["image"]}, {Capability.IMAGES_OUT}),
        ({"output_modalities": ["text", "image"]}, None),
    ],
)
def test_capabilities_are_what_the_row_says(row: dict[str, object], found: set[Capability] | None) -> None:
    assert listed({"id": "m", **row}).capabilities == found


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2027-01-14", 1_799_884_800),
        ("2027-01-14T00:00:00Z", 1_799_884_800),
        (1_799_884_800, 1_799_884_800),
        ("soon", None),
    ],
)
def test_the_end_of_a_model_is_a_moment(value: object, seconds: int | None) -> None:
    assert listed({"id": "m", "deprecation_date": value}).retires_s == seconds


def test_prices_are_read_exactly_in_each_unit() -> None:
    million = per_million(input="in", output="out", cache_read="hit")
    row: dict[str, object] = {"pricing": {"in": Decimal("0.1"), "out": Decimal("0.3"), "hit": 0}}
    assert million(row).rates == Rates(input=100_000_000, output=300_000_000)
    e4 = per_million_e4(input="in", output="out")
    assert e4({"in": 7_000, "out": 25_000}).rates == Rates(input=700_000_000, output=2_500_000_000)
    assert e4({"in": 7_000, "out": 25_000, "currency": "CNY"}).rates is None
    assert per_unit({"id": "m:free", "pricing": {"prompt": "0", "completion": "0"}}).free
    assert per_unit({"id": "m", "pricing": {"prompt": "0", "completion": "0"}}).rates is None


def test_of_several_prices_the_dearest_of_each_class_counts() -> None:
    one, other = Rates(input=1_000_000, output=9_000_000), Rates(input=2_000_000, output=8_000_000)
    found = dearest([ListedPrice(rates=one), ListedPrice(rates=other), ListedPrice()])
    assert found.rates == Rates(input=2_000_000, output=9_000_000)
    assert dearest([ListedPrice()]).rates is None


# Pages


def test_lists_are_found_beside_the_base_url_and_above_it() -> None:
    assert first_page(BASE, PLAIN) == f"{BASE}/models"
    assert first_page(f"{BASE}/", PLAIN) == f"{BASE}/models"
    assert first_page("https://a.test/inference/v1", ModelsList(path="../../v1/list")) == "https://a.test/v1/list"
    numbered = ModelsList(paging=Paging.NUMBER, page_size=2)
    assert first_page(BASE, numbered) == f"{BASE}/models?per_page=2&page=1"


@pytest.mark.parametrize(
    ("link", "following"),
    [
        ("/v1/models?offset=2", f"{BASE}/models?offset=2"),
        (f"{BASE}/models?offset=2", f"{BASE}/models?offset=2"),
        ("https://evil.test/v1/models", None),
        ("http://api.acme.test/v1/models", None),
        ("//evil.test/x", None),
        (f"{BASE}/models", None),
        (None, None),
        (7, None),
    ],
)
def test_a_next_page_is_on_the_vendors_own_origin_or_there_is_none(link: object, following: str | None) -> None:
    body = json.dumps({"data": [], "links": {"next": link}}).encode()
    assert read_page(body, f"{BASE}/models", ModelsList(paging=Paging.LINK)).next == following


def test_pages_are_counted_until_one_is_not_full() -> None:
    numbered = ModelsList(paging=Paging.NUMBER, page_size=2)
    full = json.dumps({"data": [{"id": "a"}, {"id": "b"}]}).encode()
    assert read_page(full, f"{BASE}/models?per_page=2&page=9", numbered).next == f"{BASE}/models?per_page=2&page=10"
    assert read_page(b'{"data":[{"id":"a"}]}', f"{BASE}/models?per_page=2&page=10", numbered).next is None


def test_a_token_leads_to_the_next_page() -> None:
    tokens = ModelsList(paging=Paging.TOKEN)
    body = b'{"data":[],"nextPageToken":"x y&z"}'
    first = read_page(body, f"{BASE}/models", tokens).next
    assert first == f"{BASE}/models?pageToken=x%20y%26z"
    assert read_page(body.replace(b"x y&z", b"p3"), first, tokens).next == f"{BASE}/models?pageToken=p3"
    assert read_page(b'{"data":[]}', first, tokens).next is None
