"""The gateway's own request members, which all dialects share, are read exactly or refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.dialects.gateway_fields import (
    NAMES_MAX,
    GatewayFields,
    conversation_beginning,
    read_gateway_fields,
)
from adapters.dialects.json_members import JsonRefused, members
from domain.errors import InvalidRequest
from domain.inference.chat import SESSION_LENGTH_MAX
from domain.routing import NO_PREFERENCES, MaxPrice, Sort
from tests.examples import examples
from tests.fakes.upstream import encode

PER_USD = 10**9


def read(**fields: Any) -> GatewayFields:
    return read_gateway_fields(members(encode(fields)))


def read_raw(raw: bytes) -> GatewayFields:
    return read_gateway_fields(members(raw))


def test_a_request_that_says_nothing_has_no_preferences() -> None:
    fields = read(model="m", messages=[], models=None, provider=None, session_id=None, max_cost_usd=None)

    assert fields.preferences.models == ()
    assert read(model="m").preferences is NO_PREFERENCES
    assert (fields.cost_max, fields.session) == (None, None)
    assert fields.parameters == {"model", "messages"}


def test_every_preference_is_read() -> None:
    preferences = read(
        models=["b"],
        provider={
            "order": ["OpenAI"],
            "only": ["openai", " Groq "],
            "ignore": ["azure"],
            "allow_fallbacks": False,
            "sort": "latency",
            "require_parameters": True,
            "data_collection": "deny",
            "quantizations": ["FP8"],
            "max_price": {"prompt": "1.5", "completion": 2, "request": "0.01", "image": None},
        },
    ).preferences

    assert preferences.models == ("b",)
    assert (preferences.order, preferences.only, preferences.ignore) == (("openai",), ("openai", "groq"), ("azure",))
    assert not preferences.allow_fallbacks
    assert preferences.sort is Sort.LATENCY
    assert preferences.require_parameters
    assert preferences.deny_data_collection
    assert preferences.quantizations == ("fp8",)
    assert preferences.max_price == MaxPrice(
        prompt=15 * PER_USD // 10, completion=2 * PER_USD, request=PER_USD // 100 * 10**6
    )


@pytest.mark.parametrize(
    ("sort", "across"),
    [
        ({"by": "price"}, False),
        ({"by": "price", "partition": "model"}, False),
        ({"by": "price", "partition": "none"}, True),
    ],
)
def test_the_longer_form_of_sort_is_read(sort: dict[str, str], across: bool) -> None:
    preferences = read(provider={"sort": sort}).preferences

    assert (preferences.sort, preferences.across_models) == (Sort.PRICE, across)


@pytest.mark.parametrize(
    ("number", "nanos"),
    [(b"0.1", PER_USD // 10), (b'"0.1"', PER_USD // 10), (b"1e-9", 1), (b"0.30000000000000000000", 3 * PER_USD // 10)],
)
def test_a_highest_price_is_read_from_its_digits(number: bytes, nanos: int) -> None:
    limits = read_raw(b'{"provider":{"max_price":{"prompt":' + number + b"}}}").preferences.max_price

    assert limits is not None
    assert limits.prompt == nanos


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"provider": {"zdr": True}}, "provider"),
        ({"provider": {"sort": {"by": "speed"}}}, "provider"),
        ({"provider": {"sort": {"by": "price", "partition": "all"}}}, "provider"),
        ({"provider": {"data_collection": "maybe"}}, "provider"),
        ({"provider": {"max_price": {"audio": 1}}}, "provider"),
        ({"provider": {"max_price": {"prompt": "cheap"}}}, "provider.max_price.prompt"),
        ({"provider": {"max_price": {"completion": -1}}}, "provider.max_price.completion"),
        ({"provider": {"max_price": {"request": [1]}}}, "provider.max_price.request"),
        ({"provider": {"order": ["a"] * (NAMES_MAX + 1)}}, "provider.order"),
        ({"models": ["a"] * (NAMES_MAX + 1)}, "models"),
        ({"session_id": ""}, "session_id"),
        ({"session_id": "s" * (SESSION_LENGTH_MAX + 1)}, "session_id"),
        ({"session_id": 7}, "session_id"),
    ],
)
def test_a_wish_that_cannot_be_honoured_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(**fields)

    assert refused.value.param == param


@pytest.mark.parametrize(
    ("fields", "session"),
    [
        ({"session_id": "s", "prompt_cache_key": "k", "metadata": {"user_id": "u"}}, "s"),
        ({"prompt_cache_key": "k", "metadata": {"user_id": "u"}}, "k"),
        ({"metadata": {"user_id": "u", "more": 1}}, "u"),
        ({"metadata": {"user_id": 5}}, None),
        ({"metadata": "text"}, None),
        ({"prompt_cache_key": 5}, None),
        ({"metadata": {}}, None),
    ],
)
def test_what_names_a_conversation_is_found(fields: dict[str, Any], session: str | None) -> None:
    assert read(**fields).session == session


def test_all_requests_of_a_conversation_begin_alike() -> None:
    def beginning(*turns: dict[str, Any], system: str = "You help.") -> bytes:
        return conversation_beginning(
            members(encode({"system": system, "messages": list(turns)})), "messages", "system"
        )

    first = {"role": "user", "content": "Hello"}
    assert beginning(first) == beginning(
        first, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "?"}
    )
    assert beginning(first) != beginning(first, system="Another.")
    assert beginning(first) != beginning({"role": "user", "content": "Bye"})
    assert beginning({"role": "system", "content": "a"}, first) != beginning({"role": "system", "content": "b"}, first)


def test_a_single_turn_written_as_a_string_is_its_own_beginning() -> None:
    assert b"Hello" in conversation_beginning(members(b'{"input":"Hello"}'), "input", "instructions")


@settings(max_examples=examples(100))
@given(st.binary(max_size=120))
def test_no_bytes_at_all_do_anything_but_refuse(raw: bytes) -> None:
    for name in (b"provider", b"models", b"session_id", b"max_cost_usd", b"metadata", b"prompt_cache_key"):
        try:
            parts = members(b'{"' + name + b'":' + raw + b"}")
        except JsonRefused:
            continue
        conversation_beginning(parts, name.decode())
        try:
            read_gateway_fields(parts)
        except InvalidRequest:
            continue
