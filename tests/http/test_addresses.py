"""Whose address it is: only the operator's own proxies are believed."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from entrypoints.http.addresses import HOPS_MAX, ClientAddresses

PROXIES = [ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48")]


def address(peer: str | None, *forwarded: str, trusted=PROXIES) -> str | None:
    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
    client = (peer, 1234) if peer is not None else None
    return ClientAddresses(trusted)({"client": client, "headers": headers})


def test_without_trusted_proxies_the_peer_is_the_client():
    assert address("10.0.0.1", "203.0.113.7", trusted=()) == "10.0.0.1"


def test_a_peer_that_is_no_proxy_cannot_name_another_address():
    assert address("198.51.100.1", "203.0.113.7") == "198.51.100.1"


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (("203.0.113.7",), "203.0.113.7"),
        (("203.0.113.7, 10.1.1.1",), "203.0.113.7"),
        (("192.0.2.66, 203.0.113.7",), "203.0.113.7"),
        (("192.0.2.66, 203.0.113.7, 10.2.2.2,10.1.1.1",), "203.0.113.7"),
        (("192.0.2.66", "203.0.113.7"), "203.0.113.7"),
        (("203.0.113.7:4711",), "203.0.113.7"),
        (("[2001:db8::7]:4711",), "2001:db8::7"),
        (("2001:DB8:0::7",), "2001:db8::7"),
        (("::ffff:203.0.113.7",), "203.0.113.7"),
        (("10.1.1.1, 10.2.2.2",), "10.1.1.1"),
        ((), "10.0.0.1"),
        (("",), "10.0.0.1"),
        (("unknown",), "10.0.0.1"),
        (("203.0.113.7, unknown",), "10.0.0.1"),
        (("203.0.113.7, not an address, 10.1.1.1",), "10.1.1.1"),
    ],
)
def test_the_last_hop_that_is_no_proxy_is_the_client(forwarded, client):
    assert address("10.0.0.1", *forwarded) == client


def test_a_proxy_on_ipv6_is_believed_too():
    assert address("2001:db8:1::5", "203.0.113.7") == "203.0.113.7"
    assert address("::ffff:10.0.0.1", "203.0.113.7") == "203.0.113.7"


def test_a_chain_that_never_ends_is_followed_only_so_far():
    chain = ", ".join(["203.0.113.7", *["10.0.0.1"] * (HOPS_MAX * 2)])
    assert address("10.0.0.1", chain) == "10.0.0.1"


@pytest.mark.parametrize("peer", [None, "testclient", ""])
def test_a_peer_without_an_address_has_none(peer):
    assert address(peer, "203.0.113.7") is None


def test_bytes_that_are_no_text_name_nobody():
    scope = {"client": ("10.0.0.1", 1), "headers": [(b"x-forwarded-for", b"\xff\xfe")]}
    assert ClientAddresses(PROXIES)(scope) == "10.0.0.1"
