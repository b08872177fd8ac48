"""Every place where clients put a key means the same, and nothing else is a key."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Unauthenticated
from domain.keys import InvalidKey, MissingKey
from entrypoints.http.credentials import SECRET_LENGTH_MAX, ConflictingKeys, presented_secret

KEY, OTHER = "gw_live_one", "gw_live_two"

CARRIERS: dict[str, Callable[[bytes], tuple[list[tuple[bytes, bytes]], bytes]]] = {
    "bearer": lambda key: ([(b"authorization", b"Bearer " + key)], b""),
    "x-api-key": lambda key: ([(b"x-api-key", key)], b""),
    "api-key": lambda key: ([(b"api-key", key)], b""),
    "x-goog-api-key": lambda key: ([(b"x-goog-api-key", key)], b""),
    "query": lambda key: ([], b"alt=sse&key=" + key),
}
every_carrier = pytest.mark.parametrize("carrier", CARRIERS)


def presented(*carried: tuple[str, str | bytes]) -> str:
    headers, query = [(b"host", b"gateway")], b""
    for carrier, key in carried:
        more, asked = CARRIERS[carrier](key if isinstance(key, bytes) else key.encode())
        headers += more
        query = query + b"&" + asked if query else asked
    return presented_secret(headers, query)


@every_carrier
def test_a_key_is_found_wherever_it_is_carried(carrier):
    assert presented((carrier, KEY)) == KEY


@pytest.mark.parametrize(("one", "two"), list(itertools.combinations_with_replacement(CARRIERS, 2)))
def test_two_carriers_may_repeat_one_key_but_never_differ(one, two):
    assert presented((one, KEY), (two, KEY)) == KEY
    with pytest.raises(ConflictingKeys) as refusal:
        presented((one, KEY), (two, OTHER))
    assert refusal.value.code == "invalid_api_key"


def test_no_key_is_no_caller():
    with pytest.raises(MissingKey):
        presented_secret([(b"host", b"gateway")], b"model=x&monkey=1")


@every_carrier
@pytest.mark.parametrize("empty", ["", " ", "\t"])
def test_an_empty_carrier_carries_nothing(carrier, empty):
    with pytest.raises(MissingKey):
        presented((carrier, empty))
    another = "bearer" if carrier != "bearer" else "x-api-key"
    assert presented((carrier, empty), (another, KEY)) == KEY


@every_carrier
@pytest.mark.parametrize(
    "secret",
    [b"k" * (SECRET_LENGTH_MAX + 1), b"k" * 10_240, b"gw_live_\x00", b"\x00", "gw_live_ä".encode(), b"a b", b"a\x7f"],
    ids=["just too long", "10 KB", "NUL inside", "NUL", "unicode", "space", "DEL"],
)
def test_what_no_key_looks_like_is_refused(carrier, secret):
    with pytest.raises(InvalidKey):
        presented((carrier, secret))


@pytest.mark.parametrize("encoded", [b"gw_live_%00", b"%c3%a4", b"a+b", b"%F0%9F%98%80"])
def test_an_escaped_query_key_is_judged_by_what_it_stands_for(encoded):
    with pytest.raises(InvalidKey):
        presented(("query", encoded))


def test_a_query_key_is_unescaped():
    assert presented(("query", b"gw%5Flive%5Fone")) == KEY


def test_a_query_too_long_to_be_looked_through_is_refused():
    with pytest.raises(InvalidKey):
        presented_secret([], b"key=" + b"x" * 20_000)


@pytest.mark.parametrize("scheme", [b"bearer", b"BEARER", b"Bearer  "])
def test_the_scheme_is_read_as_http_says(scheme):
    assert presented_secret([(b"authorization", scheme + b" " + KEY.encode())]) == KEY


@pytest.mark.parametrize("value", [b"Basic dXNlcjpwYXNz", b"gw_live_one", b"Token x", b"Digest a=b", b"Bearergw"])
def test_another_scheme_is_refused_with_the_right_form(value):
    with pytest.raises(InvalidKey, match="Bearer <key>"):
        presented_secret([(b"authorization", value)])


def read(headers: list[tuple[bytes, bytes]], query: bytes) -> str | Unauthenticated:
    try:
        return presented_secret(headers, query)
    except Unauthenticated as refusal:
        return refusal


@given(st.binary(max_size=300), st.sampled_from(sorted(CARRIERS)))
def test_whatever_is_sent_is_a_clean_key_or_a_clean_refusal(sent, carrier):
    found = read(*CARRIERS[carrier](sent))
    if isinstance(found, str):
        assert found
        assert found.isascii()
        assert found.isprintable()
        assert " " not in found
    else:
        assert found.code in {"missing_api_key", "invalid_api_key"}


names = st.sampled_from([b"authorization", b"x-api-key", b"cookie"])


@given(st.lists(st.tuples(names, st.binary(max_size=40))), st.binary(max_size=40))
def test_no_heap_of_headers_breaks_the_reading(headers, query):
    assert isinstance(read(headers, query), str | Unauthenticated)
