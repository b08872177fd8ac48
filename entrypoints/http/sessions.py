"""Which conversation a request belongs to, where its address or its headers say so and its body does not."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

from msgspec.structs import replace

from domain.inference.chat import SESSION_LENGTH_MAX, ChatRequest
from entrypoints.http.exchange import Exchange

SESSION_HEADERS: Final = (b"x-session-id", b"x-claude-code-session-id", b"session-id", b"session_id")
"""What coding agents send: the gateway's own name first."""


def in_session(request: ChatRequest, exchange: Exchange) -> ChatRequest:
    """`request` with the session that its address (`?session_id=`) or a header names, unless its body names one."""
    if request.session is not None:
        return request
    named = _queried(exchange) or _headed(exchange)
    return replace(request, session=named) if named and len(named) <= SESSION_LENGTH_MAX else request


def _queried(exchange: Exchange) -> str | None:
    query: bytes = exchange.scope["query_string"]
    if b"session_id=" not in query:
        return None
    return parse_qs(query.decode("latin-1")).get("session_id", [None])[0]


def _headed(exchange: Exchange) -> str | None:
    for name in SESSION_HEADERS:
        if name in exchange.headers:
            return exchange.header(name)
    return None
