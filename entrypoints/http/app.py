"""The HTTP application: the routes, what runs beside them, and in which order they start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

from litestar import Litestar, asgi
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.handlers import ASGIRouteHandler
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Struct

from domain.access import Caller
from domain.catalog import Dialect
from domain.errors import DomainError, InvalidRequest
from entrypoints.container import Container
from entrypoints.http.addresses import ClientAddresses
from entrypoints.http.chat import ChatDialect, ChatRoute
from entrypoints.http.dependencies import handler_dependencies
from entrypoints.http.docs import DOCUMENTED, openapi_config
from entrypoints.http.errors import (
    EXCEPTION_HANDLERS,
    anthropic_error,
    anthropic_status,
    openai_error,
    status_of,
)
from entrypoints.http.exchange import Exchange
from entrypoints.http.explain import ExplainRoute
from entrypoints.http.guards import Entrance
from entrypoints.http.health import Readiness
from entrypoints.http.inference_docs import CHAT_COMPLETIONS, COMPLETIONS, COUNT_TOKENS, EXPLAIN, MESSAGES, RESPONSES
from entrypoints.http.messages import PATH as COUNT_PATH
from entrypoints.http.messages import CountRoute
from entrypoints.http.metrics import Metrics
from entrypoints.http.request_ids import with_request_ids
from entrypoints.http.responses import PrepareResponse
from entrypoints.http.routes import ACCOUNT_ROUTES
from entrypoints.http.streaming import OpenStreams
from entrypoints.http.tasks import TASK_ROUTES
from entrypoints.worker.jobs import background_jobs, run_jobs

SETTLE_S = 10.0
"""How long a stop waits for storage to take the last settlements."""
DETACHED_S = 1.0
"""How long it waits for work that its request left behind, which had the whole drain to end."""
BODY_BYTES_MAX = 1024 * 1024
"""Of a management request."""


@dataclass
class Gateway:
    """One process's application, and the handles that its server needs to stop it gently."""

    container: Container
    streams: OpenStreams
    metrics: Metrics
    readiness: Readiness
    app: ASGIApp

    def begin_drain(self) -> None:
        """Not ready any more; what runs may finish."""
        self.readiness.draining = True

    def end_streams(self) -> None:
        """The time for finishing is over: what still streams gets an error event and ends."""
        self.streams.end_all()


class Spoken(Struct, frozen=True):
    """A dialect's chat route: what differs between them beside the codec."""

    path: str
    dialect: ChatDialect
    documented: Mapping[str, Any]
    error_body: Callable[..., bytes] = openai_error
    error_status: Callable[[DomainError], int] = status_of
    id_headers: tuple[bytes, ...] = (b"x-request-id",)
    prepare: Callable[[Exchange, Caller, bytes], Awaitable[bytes]] | None = None


ANTHROPIC_IDS: Final = (b"x-request-id", b"request-id")


def create_gateway(container: Container) -> Gateway:
    """Builds everything and opens nothing; the ASGI lifespan does."""
    settings, adapters = container.settings(), container.adapters
    streams = OpenStreams(settings.server.keepalive_s)
    metrics = Metrics()
    settler = container.use_cases.settler()
    readiness = Readiness(adapters.revisions(), adapters.catalog(), adapters.clock(), lambda: settler.refused)
    routes = _inference_routes(container, streams, metrics)
    gateway = Gateway(container, streams, metrics, readiness, app=_nothing)
    origins = list(settings.server.cors_origins)
    litestar = Litestar(
        route_handlers=[*ACCOUNT_ROUTES, *routes],
        dependencies=handler_dependencies(
            container, {"metrics": metrics, "readiness": readiness, "prepare_response": _prepare_response(container)}
        ),
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=[lambda _: _running(gateway)],
        openapi_config=openapi_config(settings.server.base_url),
        cors_config=CORSConfig(allow_origins=origins) if origins else None,
        request_max_body_size=BODY_BYTES_MAX,
        logging_config=None,
        state=State({"entrance": _entrance(container), "top_up_url": settings.top_up_url}),
    )
    identified = with_request_ids(litestar, adapters.ids().fresh)
    # Browsers' preflights are the framework's business; without them an inference route needs no framework at all.
    direct = {} if origins else {path: cast("ASGIApp", route.fn) for route in routes for path in route.paths}
    gateway.app = _edge(identified, direct)
    return gateway


def _entrance(container: Container) -> Entrance:
    settings = container.settings()
    return Entrance(
        authenticate=container.use_cases.authenticate(),
        limiter=container.adapters.limiter(),
        addresses=ClientAddresses(settings.server.trusted_proxies),
        address_per_minute=settings.limits.address_per_minute,
    )


def _inference_routes(container: Container, streams: OpenStreams, metrics: Metrics) -> list[ASGIRouteHandler]:
    """Routes on raw ASGI: their bodies are passed on as they came, and an answer's bytes as the vendor sent them."""
    settings, use_cases, adapters = container.settings(), container.use_cases, container.adapters
    top_up_url = settings.top_up_url
    spoken = (
        Spoken("/v1/chat/completions", container.openai_chat(), CHAT_COMPLETIONS),
        Spoken("/v1/completions", container.openai_completions(), COMPLETIONS),
        Spoken("/v1/messages", container.anthropic(), MESSAGES, anthropic_error, anthropic_status, ANTHROPIC_IDS),
        Spoken(
            "/v1/responses",
            container.openai_responses(),
            RESPONSES,
            prepare=_prepare_response(container),
        ),
        *(Spoken(path, container.tasks()[dialect], documented) for path, dialect, documented in TASK_ROUTES),
    )
    chats = [
        ChatRoute(
            dialect=each.dialect,
            chat=use_cases.complete_chat(),
            authenticate=use_cases.authenticate(),
            once=use_cases.once_per_key(),
            streams=streams,
            addresses=ClientAddresses(settings.server.trusted_proxies),
            clock=adapters.clock(),
            ids=adapters.ids(),
            path=each.path,
            error_body=partial(each.error_body, top_up_url=top_up_url),
            answered=metrics.answered,
            error_status=each.error_status,
            id_headers=each.id_headers,
            prepare=each.prepare,
        )
        for each in spoken
    ]
    count = CountRoute(
        count_tokens=use_cases.count_tokens(),
        read_request=container.anthropic().read_count_request,
        passed_headers=container.anthropic().PASSED_HEADERS,
        authenticate=use_cases.authenticate(),
        addresses=ClientAddresses(settings.server.trusted_proxies),
        ids=adapters.ids(),
        answered=metrics.answered,
        top_up_url=top_up_url,
    )
    explain = ExplainRoute(
        explain=use_cases.explain(),
        readers={
            Dialect.OPENAI_CHAT: container.openai_chat().read_request,
            Dialect.ANTHROPIC: container.anthropic().read_request,
            Dialect.OPENAI_RESPONSES: container.openai_responses().read_request,
        },
        authenticate=use_cases.authenticate(),
        addresses=ClientAddresses(settings.server.trusted_proxies),
        ids=adapters.ids(),
        answered=metrics.answered,
    )

    return [
        *(_raw(chat.path, each.documented, chat) for chat, each in zip(chats, spoken, strict=True)),
        _raw(COUNT_PATH, COUNT_TOKENS, count),
        _raw(explain.path, EXPLAIN, explain),
    ]


def _prepare_response(container: Container) -> PrepareResponse:
    return PrepareResponse(container.use_cases.keep_responses(), container.stored_responses())


def _raw(path: str, documented: Mapping[str, Any], app: ASGIApp) -> ASGIRouteHandler:
    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    return asgi(path, copy_scope=False, opt={DOCUMENTED: documented})(served)


@asynccontextmanager
async def _running(gateway: Gateway) -> AsyncIterator[None]:
    """Opens what the process needs, and closes it only when every settlement has been taken."""
    container = gateway.container
    use_cases, adapters = container.use_cases, container.adapters
    ledger, settler, catalog = adapters.ledger(), use_cases.settler(), adapters.catalog()
    await ledger.open()
    await adapters.shared().open(use_cases.watch_revisions().look)
    catalog.prepare = use_cases.show_models().prepare
    await catalog.load()
    # Before the sweeper, which knows of these holds only what their last heartbeat said.
    await settler.resume()
    beside = [
        use_cases.heartbeats().run(),
        gateway.streams.run(),
        use_cases.watch_revisions()(),
        run_jobs(background_jobs(container), adapters.leases(), adapters.ids().fresh()),
    ]
    tasks = [asyncio.create_task(work) for work in beside]
    settler.settled = gateway.metrics.settled
    ledger.committed = gateway.metrics.batch_committed
    watch = gateway.metrics.watch
    watch("streams_open", "Streams to callers that are open.", lambda: gateway.streams.open)
    watch("requests_running", "Requests that hold credit.", lambda: use_cases.heartbeats().running)
    watch("settlements_waiting", "Settlements that storage has not taken yet.", lambda: settler.waiting)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError, Exception):
                await task
        await use_cases.detached().drain(DETACHED_S)
        await settler.drain(SETTLE_S)
        await adapters.shared().close()
        await ledger.close()
        await adapters.journal().close()
        await adapters.vendors().close()
        await adapters.database().close()


def _edge(framework: ASGIApp, direct: Mapping[str, ASGIApp]) -> ASGIApp:
    """Sends requests of the raw routes straight to their handlers: the same handlers as in the route table.

    They authenticate, give ids and tell errors themselves, so that the framework's layers, of which one wraps every
    chunk that is sent, would only cost time: about a tenth of what the gateway adds to a request.
    """

    async def edge(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and not _names_one_host(scope):
            await _refuse_host(send)
            return
        app = direct.get(scope["path"]) if scope["type"] == ScopeType.HTTP else None
        await (app or framework)(scope, receive, send)

    return edge


def _names_one_host(scope: Scope) -> bool:
    """Whether all who read a request agree for whom it is (RFC 9112, section 3.2); HTTP/1.0 may name nobody."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    return len(hosts) == 1 or (not hosts and scope["http_version"] == "1.0")


async def _refuse_host(send: Send) -> None:
    body = openai_error(InvalidRequest("A request must have exactly one Host header.", param="host"), "", top_up_url="")
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Stands in until the application is built."""
