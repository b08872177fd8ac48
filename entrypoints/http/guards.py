"""Who may pass to a route: each route declares exactly one of these, and a test walks them all.

The check belongs to the matched route itself, never to a path, so that no spelling of a path gets around it.
"""

from __future__ import annotations

from typing import Any, Final

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler
from msgspec import Struct

from application.keys import Authenticate
from domain.access import Caller
from domain.keys import Scope
from domain.limits import MINUTE_S, Subject, Window
from domain.ports.limiter import Limiter
from entrypoints.http.addresses import ClientAddresses
from entrypoints.http.credentials import presented_secret

Connection = ASGIConnection[Any, Any, Any, Any]


class Entrance(Struct, frozen=True, kw_only=True):
    """What the guards need; the application keeps it as `state.entrance`."""

    authenticate: Authenticate
    limiter: Limiter
    addresses: ClientAddresses
    address_per_minute: int
    """Requests without a key, per client address."""


class Needs:
    """Lets callers pass whose key has `scope`."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, connection: Connection, _: BaseRouteHandler) -> None:
        entrance = entrance_of(connection)
        headers = connection.headers
        connection.state.caller = await entrance.authenticate(
            presented_secret(connection.scope["headers"], connection.scope["query_string"]),
            address=entrance.addresses(connection.scope),
            referrer=headers.get("referer") or headers.get("origin"),
            scope=self.scope,
        )


class Anyone:
    """Lets everybody pass, up to so many requests per minute and address."""

    async def __call__(self, connection: Connection, _: BaseRouteHandler) -> None:
        entrance = entrance_of(connection)
        limit = entrance.address_per_minute
        window = Window("requests_without_key_per_minute", limit, MINUTE_S, limit, False)
        address = entrance.addresses(connection.scope) or "unknown"
        await entrance.limiter.hit(Subject(f"address:open:{address}", (window,), 0))


class Probe:
    """Lets everybody pass without counting: health checks, whose callers ask all the time."""

    async def __call__(self, _: Connection, __: BaseRouteHandler) -> None:
        return


ANYONE: Final = Anyone()
PROBE: Final = Probe()


def caller_of(request: Request[Any, Any, State]) -> Caller:
    """The caller whom the route's guard let pass."""
    caller = request.state.caller
    assert isinstance(caller, Caller), "only a route guarded by `Needs` has a caller"
    return caller


def entrance_of(connection: Connection) -> Entrance:
    entrance = connection.app.state.entrance
    assert isinstance(entrance, Entrance), "the application is assembled with an entrance"
    return entrance
