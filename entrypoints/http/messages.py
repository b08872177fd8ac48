"""POST /v1/messages/count_tokens: Anthropic's count of a prompt's tokens, the vendor's own or our estimate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from litestar.types import Receive, Scope, Send

from application.inference.counting import CountTokens
from application.keys import Authenticate
from domain.errors import DomainError
from domain.inference.chat import ChatRequest
from domain.keys import Scope as KeyScope
from domain.ports.clock import IdSource
from entrypoints.http.addresses import ClientAddresses
from entrypoints.http.chat import passed_headers
from entrypoints.http.credentials import presented_secret
from entrypoints.http.errors import (
    METHOD_NOT_ALLOWED,
    InternalError,
    anthropic_error,
    anthropic_status,
    error_headers,
)
from entrypoints.http.exchange import CallerGone, Exchange, Headers, encoded

PATH = "/v1/messages/count_tokens"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CountRoute:
    """The handler of the count."""

    count_tokens: CountTokens
    read_request: Callable[[bytes], ChatRequest]
    passed_headers: tuple[bytes, ...]
    authenticate: Authenticate
    addresses: ClientAddresses
    ids: IdSource
    answered: Callable[[str, int, None], None]
    top_up_url: str | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, self.ids.fresh())
        try:
            await self._serve(exchange)
        except CallerGone:
            return
        except DomainError as error:
            await self._refuse(exchange, error)
        except Exception:
            log.exception("request failed", request_id=exchange.request_id, path=PATH)
            await self._refuse(exchange, InternalError())

    async def _serve(self, exchange: Exchange) -> None:
        scope = exchange.scope
        caller = await self.authenticate(
            presented_secret(scope["headers"], scope["query_string"]),
            address=self.addresses(scope),
            referrer=exchange.header(b"referer") or exchange.header(b"origin"),
            scope=KeyScope.INFERENCE,
        )
        request = self.read_request(await exchange.body())
        request = msgspec.structs.replace(request, headers=passed_headers(scope["headers"], self.passed_headers))
        counted = await self.count_tokens(caller, request)
        view: dict[str, Any] = {"input_tokens": counted.input_tokens}
        headers = _ids(exchange)
        if counted.offer is None:
            view["estimated"] = True
            headers.append((b"x-gatewayz-estimated", b"true"))
        else:
            headers += encoded((("x-gatewayz-vendor", counted.offer.vendor), ("x-gatewayz-model", counted.offer.model)))
        self.answered(PATH, 200, None)
        await exchange.answer(200, headers, msgspec.json.encode(view))

    async def _refuse(self, exchange: Exchange, error: DomainError) -> None:
        status = anthropic_status(error)
        self.answered(PATH, status, None)
        headers = [*_ids(exchange), *error_headers(error)]
        if status == METHOD_NOT_ALLOWED:
            headers.append((b"allow", b"POST"))
        await exchange.answer(status, headers, anthropic_error(error, exchange.request_id, self.top_up_url))


def _ids(exchange: Exchange) -> Headers:
    request_id = exchange.request_id.encode()
    return [(b"x-request-id", request_id), (b"request-id", request_id)]
