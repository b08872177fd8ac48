"""What the caller's program says that it is called, for the ranking of apps; nothing else of its headers is kept."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

TITLES: Final = (b"x-openrouter-title", b"x-title")
PLACES: Final = (b"http-referer", b"referer")
LENGTH_MAX: Final = 80
PRIVATE: Final = (".local", ".localhost", ".internal", ".intranet", ".lan", ".home", ".corp", ".test")
"""Endings of names that mean something inside one network alone, and are nobody else's business."""


def app_name(headers: Mapping[bytes, bytes]) -> str:
    """A title that the program gives itself, else the host that it is served from; "" where it says neither."""
    for name in TITLES:
        if (value := headers.get(name)) and (title := _title(value)):
            return title
    for name in PLACES:
        if (value := headers.get(name)) and (host := _public_host(value)):
            return host
    return ""


def _title(value: bytes) -> str:
    # Clients send UTF-8 although headers are said to be Latin-1.
    text = value.decode("utf-8", "replace")
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:LENGTH_MAX]


def _public_host(value: bytes) -> str:
    try:
        host = (urlsplit(value.decode("ascii")).hostname or "").rstrip(".")
    except ValueError:
        return ""
    if "." not in host or host.endswith(PRIVATE) or len(host) > LENGTH_MAX or not _is_name(host):
        return ""
    return host


def _is_name(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return all(char.isalnum() or char in ".-" for char in host)
    return False
