"""POST /v1/explain: what would become of a request, at which vendor, for how much, and what would refuse it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
import structlog
from litestar.types import Receive, Scope, Send
from msgspec import Raw

from application.inference.explain import Explain, ExplainedOffer, Explanation
from application.keys import Authenticate
from domain.catalog import Dialect
from domain.credits import NEVER
from domain.errors import DomainError, InvalidRequest
from domain.ids import RequestId
from domain.inference.chat import ChatRequest
from domain.inference.holds import CostRange
from domain.keys import Scope as KeyScope
from domain.limits import NO_WINDOW, Headroom
from domain.money import Usd
from domain.ports.clock import IdSource
from entrypoints.http.addresses import ClientAddresses
from entrypoints.http.credentials import presented_secret
from entrypoints.http.errors import METHOD_NOT_ALLOWED, InternalError, error_headers, openai_error, status_of
from entrypoints.http.exchange import CallerGone, Exchange, Headers
from entrypoints.http.sessions import in_session

PATH: Final = "/v1/explain"
DIALECTS: Final[Mapping[str, Dialect]] = {
    "chat": Dialect.OPENAI_CHAT,
    "messages": Dialect.ANTHROPIC,
    "responses": Dialect.OPENAI_RESPONSES,
}
"""The values of `?dialect=`, beside the dialects' own names."""
ONLY_IN_MESSAGES: Final = frozenset({"system", "stop_sequences"})
"""Members that Anthropic's requests have and OpenAI's do not."""

Read = Callable[[bytes], ChatRequest]

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class ExplainRoute:
    """Raw ASGI like the routes that it explains, so that it takes the very same bodies."""

    explain: Explain
    readers: Mapping[Dialect, Read]
    authenticate: Authenticate
    addresses: ClientAddresses
    ids: IdSource
    answered: Callable[[str, int, None], None]
    """Counts an answer."""
    path: str = PATH

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, self.ids.fresh())
        try:
            await self._serve(exchange)
        except CallerGone:
            return
        except DomainError as error:
            await self._refuse(exchange, error)
        except Exception:
            log.exception("request failed", request_id=exchange.request_id, path=self.path)
            await self._refuse(exchange, InternalError())

    async def _serve(self, exchange: Exchange) -> None:
        scope = exchange.scope
        caller = await self.authenticate(
            presented_secret(scope["headers"], scope["query_string"]),
            address=self.addresses(scope),
            referrer=exchange.header(b"referer") or exchange.header(b"origin"),
            scope=KeyScope.INFERENCE,
        )
        body = await exchange.body()
        read = self._reader(exchange, body)
        request = in_session(read(body), exchange)
        explanation = await self.explain(caller, request)
        self.answered(self.path, 200, None)
        await exchange.answer(200, _identified(exchange), msgspec.json.encode(shown(request, explanation)))

    def _reader(self, exchange: Exchange, body: bytes) -> Read:
        """By `?dialect=`, else by the body's shape."""
        asked = parse_qs(exchange.scope["query_string"].decode("latin-1")).get("dialect", [""])[0]
        known = {name: dialect for name, dialect in DIALECTS.items() if dialect in self.readers}
        known |= {str(dialect): dialect for dialect in self.readers}
        if asked and asked not in known:
            raise InvalidRequest(
                f"'dialect' {asked[:40]!r} cannot be explained here; use one of {', '.join(sorted(known))}.",
                param="dialect",
            )
        dialect = known[asked] if asked else dialect_of(body, exchange.headers)
        reader = self.readers.get(dialect)
        if reader is None:
            raise InvalidRequest(
                f"This looks like a request of the dialect {dialect}, which cannot be explained here. Send one of "
                f"{', '.join(sorted(known))}, or say with ?dialect= which of them it is.",
                param="dialect",
            )
        return reader

    async def _refuse(self, exchange: Exchange, error: DomainError) -> None:
        status = status_of(error)
        headers = [*_identified(exchange), *error_headers(error)]
        if status == METHOD_NOT_ALLOWED:
            headers.append((b"allow", b"POST"))
        self.answered(self.path, status, None)
        await exchange.answer(status, headers, openai_error(error, exchange.request_id))


def dialect_of(body: bytes, headers: Mapping[bytes, bytes]) -> Dialect:
    """The dialect of a body, by its members; what cannot be read is left to the reader of the commonest one."""
    try:
        names = msgspec.json.decode(body, type=dict[str, Raw]).keys()
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return Dialect.OPENAI_CHAT
    if "input" in names and "messages" not in names:
        return Dialect.OPENAI_RESPONSES
    if b"anthropic-version" in headers or not ONLY_IN_MESSAGES.isdisjoint(names):
        return Dialect.ANTHROPIC
    return Dialect.OPENAI_CHAT


def shown(request: ChatRequest, explained: Explanation) -> dict[str, Any]:
    """The answer.  Amounts are exact decimals in USD, as strings."""
    nearest = explained.ceilings[0] if explained.ceilings else None
    return {
        "object": "explanation",
        "admitted": not explained.refusals,
        "refusals": [
            {"status": status_of(each), "code": each.code, "message": each.message} for each in explained.refusals
        ],
        "dialect": str(request.dialect),
        "models": [each.model.id for each in explained.sought],
        "models_not_allowed": list(explained.models_refused),
        "prompt_tokens_estimated": explained.prompt_tokens,
        "ordered_by": str(explained.ordering),
        "offers": [_offer(each) for each in explained.offers],
        "excluded": [
            {
                "vendor": each.offer.vendor,
                "model": each.offer.model,
                "code": str(each.why),
                "reason": f"{each.offer.vendor}: {each.reason}.",
            }
            for each in explained.excluded
        ],
        "cost_usd": _cost(explained.cost),
        "hold_usd": _usd(explained.held),
        "max_cost_usd": _usd(request.cost_max),
        "paid_by": [
            {
                "lot_id": each.lot.id,
                "source": str(each.lot.source),
                "amount_usd": str(each.amount),
                "expires_at": None if each.lot.expires_at == NEVER else each.lot.expires_at.isoformat(),
            }
            for each in explained.paid_by
        ],
        "spendable_usd": str(explained.spendable),
        "key_budget_left_usd": _usd(explained.budget_left),
        "limits": {"requests": _headroom(explained.requests), "tokens": _headroom(explained.tokens)},
        "requests_left": {each.name: each.requests_left for each in explained.ceilings},
        "first_limit": None if nearest is None else nearest.name,
    }


def _offer(each: ExplainedOffer) -> dict[str, Any]:
    return {
        "vendor": each.offer.vendor,
        "model": each.offer.model,
        "vendor_model": each.offer.vendor_model,
        "first_tried_percent": each.first_percent,
        "cost_usd": _cost(each.cost),
        "context_length": each.offer.context_length,
        "max_output_tokens": each.offer.output_max,
        "dropped_parameters": list(each.dropped),
        "health": {
            "resting": each.pulse.resting,
            "latency_ms": each.pulse.latency_ms,
            "tokens_per_second": each.pulse.tokens_per_s,
        },
    }


def _cost(cost: CostRange | None) -> dict[str, str] | None:
    return None if cost is None else {"min": str(cost.least), "likely": str(cost.likely), "max": str(cost.most)}


def _usd(amount: Usd | None) -> str | None:
    return None if amount is None else str(amount)


def _headroom(room: Headroom) -> dict[str, int] | None:
    if room is NO_WINDOW:
        return None
    return {"limit": room.limit, "remaining": room.remaining, "reset_seconds": -int(-room.reset_s // 1)}


def _identified(exchange: Exchange) -> Headers:
    return [(b"x-request-id", RequestId(exchange.request_id).encode())]
