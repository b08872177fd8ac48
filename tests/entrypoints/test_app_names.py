"""What is kept of what a caller's program says of itself."""

from __future__ import annotations

import pytest

from entrypoints.http.app_names import LENGTH_MAX, app_name


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({}, ""),
        ({b"x-title": b"My App"}, "My App"),
        ({b"x-openrouter-title": b"New", b"x-title": b"Old"}, "New"),
        ({b"x-title": " Größe\t\n 日本 ".encode()}, "Größe 日本"),
        ({b"x-title": b"\x00\xff\x1b[31m"}, "\ufffd [31m"),
        ({b"x-title": b"x" * 200}, "x" * LENGTH_MAX),
        ({b"x-title": b"  ", b"http-referer": b"https://app.example.org/secret/path?token=1"}, "app.example.org"),
        ({b"http-referer": b"https://me:pw@app.example.org:8443/"}, "app.example.org"),
        ({b"referer": b"https://chat.example.org/c/1"}, "chat.example.org"),
        ({b"http-referer": b"https://APP.Example.org."}, "app.example.org"),
        ({b"http-referer": b"http://localhost:3000/"}, ""),
        ({b"http-referer": b"http://10.0.0.7/"}, ""),
        ({b"http-referer": b"http://[::1]/"}, ""),
        ({b"http-referer": b"https://wiki.acme.internal/"}, ""),
        ({b"http-referer": b"not an address"}, ""),
        ({b"http-referer": b"http://[broken"}, ""),
        ({b"http-referer": b"https://\xff.example.org/"}, ""),
        ({b"http-referer": b"https://a<script>.example.org/"}, ""),
    ],
)
def test_a_program_is_called_what_it_says_or_where_it_is_served_from(headers, name):
    assert app_name(headers) == name
