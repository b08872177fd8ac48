"""Gives every request an id, which its answer carries and its log lines name."""

from __future__ import annotations

from collections.abc import Callable

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send


def with_request_ids(app: ASGIApp, fresh: Callable[[], str]) -> ASGIApp:
    """`app`, with an id in the scope's state and in the header `x-request-id`, unless the app set its own."""

    async def identified(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        request_id = fresh()
        scope.setdefault("state", {})["request_id"] = request_id

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message["headers"])
                if not any(name == b"x-request-id" for name, _ in headers):
                    message["headers"] = [*headers, (b"x-request-id", request_id.encode())]
            await send(message)

        await app(scope, receive, told)

    return identified
