"""How refusals look over HTTP: the one table of statuses, and the body that every OpenAI client reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import structlog
from litestar import Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap

from domain.credits import InsufficientCredits
from domain.errors import (
    Conflict,
    DomainError,
    Forbidden,
    InvalidRequest,
    NotFound,
    PaymentRequired,
    TimedOut,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    VendorFailed,
)


class MethodNotAllowed(InvalidRequest):
    code = "method_not_allowed"


STATUS: Final[Mapping[type[DomainError], int]] = {
    InvalidRequest: 400,
    Unauthenticated: 401,
    PaymentRequired: 402,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    TooLarge: 413,
    TooManyRequests: 429,
    VendorFailed: 502,
    Unavailable: 503,
    TimedOut: 504,
}
TYPE: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_credits",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
}
"""The word that clients of OpenAI find in `error.type`; "server_error" for every other status."""

ANTHROPIC_TYPE: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""The word that clients of Anthropic find in `error.type`; "api_error" for every other status."""

SERVER_ERROR: Final = 500
OVERLOADED: Final = 529
NOT_FOUND: Final = 404
METHOD_NOT_ALLOWED: Final = 405
TOO_LARGE: Final = 413

_UNKNOWN_FIELD = re.compile(r"unknown field `([^`]*)`")
_MISSING_FIELD = re.compile(r"missing required field `([^`]*)`")
_PATH = re.compile(r"`\$\.?([^`]*)`")
_MESSAGES_PATH = re.compile(r"/(?:v1/){0,2}messages(?:/|\Z)")
"""Also the wrong turns of clients that speak Anthropic's dialect."""
_BELOW_V1 = frozenset(
    {"chat", "completions", "responses", "messages", "embeddings", "images", "audio", "rerank", "moderations"}
    | {"models", "generations", "explain", "providers", "gateways"}
)
_IN_THE_BASE_URL = re.compile(
    r"/v1/(chat/completions|completions|responses|messages|embeddings)/(?:v1/|\1\Z|chat/|models\Z)"
)
"""A route that somebody took for the base URL, with what their client put behind it."""
NAMES_A_ROUTE: Final = "The base URL names a route already; end it with the host, or with /v1 for OpenAI's clients."
_ELSEWHERE = re.compile(r"/(?:api|openai|anthropic|compatible-mode|inference)(?=/v1/)")
"""What other hosts have before their /v1."""

log = structlog.get_logger(__name__)


class InternalError(DomainError):
    """Something that no rule foresaw; what it was is in the log alone."""

    code = "internal_error"

    def __init__(self) -> None:
        super().__init__("The gateway failed. The operator finds the reason in its log under this request id.")


def status_of(error: DomainError) -> int:
    """The status of the error's family; HTTP's own refusal has its own."""
    if isinstance(error, MethodNotAllowed):
        return METHOD_NOT_ALLOWED
    return next((STATUS[family] for family in type(error).__mro__ if family in STATUS), SERVER_ERROR)


def type_of(status: int) -> str:
    return TYPE.get(status, "server_error")


def openai_error(error: DomainError, request_id: str, top_up_url: str | None = None) -> bytes:
    """The body that OpenAI's clients and all account routes read."""
    return msgspec.json.encode(
        {
            "error": {
                "message": error.message,
                "type": type_of(status_of(error)),
                "code": error.code,
                "param": error.param,
                "request_id": request_id,
            }
            | _credit_details(error, top_up_url)
        }
    )


def anthropic_status(error: DomainError) -> int:
    """As `status_of`; that no vendor can serve at the moment has a status of its own in Anthropic's dialect."""
    status = status_of(error)
    passes = isinstance(error, Unavailable) and error.code == "no_vendor_available" and error.retry_after_s is not None
    return OVERLOADED if passes else status


def anthropic_error(error: DomainError, request_id: str, top_up_url: str | None = None) -> bytes:
    """The body that Anthropic's clients read.  They show the message alone, so that it names the way to more credit."""
    details = {"error_code": error.code, "param": error.param} | _credit_details(error, top_up_url)
    message = error.message
    if (link := details.get("top_up_url")) and link not in message:
        message = f"{message} Top up at {link}"
    return msgspec.json.encode(
        {
            "type": "error",
            "error": {
                "type": ANTHROPIC_TYPE.get(anthropic_status(error), "api_error"),
                "message": message,
                "details": {name: value for name, value in details.items() if value is not None},
            },
            "request_id": request_id,
        }
    )


def error_headers(error: DomainError) -> list[tuple[bytes, bytes]]:
    """What the status alone does not say."""
    if error.retry_after_s is None:
        return []
    return [(b"retry-after", str(error.retry_after_s).encode())]


def _credit_details(error: DomainError, top_up_url: str | None) -> dict[str, str | None]:
    if isinstance(error, InsufficientCredits):
        return {
            "required_usd": str(error.required),
            "spendable_usd": str(error.spendable),
            "held_usd": str(error.held),
            "top_up_url": top_up_url,
        }
    return {}


def request_id_of(scope: Mapping[str, Any]) -> str:
    """The id that the outermost layer gave this request."""
    state = scope.get("state") or {}
    return str(state.get("request_id", ""))


AnyRequest = Request[Any, Any, State]


def tell_refusal(request: AnyRequest, error: DomainError) -> Response[bytes]:
    speaks_anthropic = _MESSAGES_PATH.match(request.scope["path"]) is not None
    written = anthropic_error if speaks_anthropic else openai_error
    body = written(error, request_id_of(request.scope), getattr(request.app.state, "top_up_url", None))
    headers = {name.decode(): value.decode() for name, value in error_headers(error)}
    return Response(body, status_code=status_of(error), headers=headers, media_type="application/json")


def tell_http(request: AnyRequest, error: HTTPException) -> Response[bytes]:
    """Litestar's own refusals, in our shape."""
    if error.status_code >= SERVER_ERROR:
        return tell_unexpected(request, error)
    response = tell_refusal(request, _refusal(request, error))
    response.status_code = error.status_code
    response.headers.update(error.headers or {})
    return response


def tell_unexpected(request: AnyRequest, error: Exception) -> Response[bytes]:
    """No traceback leaves the process; the log has it, under the request's id."""
    request_id = request_id_of(request.scope)
    log.error("request failed", request_id=request_id, path=request.scope["path"], exc_info=error)
    body = openai_error(InternalError(), request_id)
    return Response(body, status_code=SERVER_ERROR, media_type="application/json")


def tell_too_deep(request: AnyRequest, _: RecursionError) -> Response[bytes]:
    """The one way to exhaust the stack here is a body nested thousands of levels deep."""
    return tell_refusal(request, InvalidRequest("The body of this request is nested too deeply."))


EXCEPTION_HANDLERS: Final[ExceptionHandlersMap] = {
    DomainError: tell_refusal,
    HTTPException: tell_http,
    RecursionError: tell_too_deep,
    Exception: tell_unexpected,
}


def no_route(method: str, path: str) -> NotFound:
    """What to say of an address that does not exist, with a hint where the base URL is the likely mistake."""
    first = path.strip("/").partition("/")[0]
    if path.startswith("/v1/v1/"):
        hint = "The base URL ends in /v1 already; leave one of the two out."
    elif _IN_THE_BASE_URL.match(path):
        hint = NAMES_A_ROUTE
    elif elsewhere := _ELSEWHERE.match(path):
        hint = f"The base URL has {elsewhere[0]} before /v1; use {path[elsewhere.end() : 200]}."
    elif first in _BELOW_V1:
        hint = f"The base URL lacks /v1: use /v1{path}."
    else:
        hint = "/docs lists every route."
    return NotFound(f"There is no route {method} {path[:200]}. {hint}")


def _refusal(request: AnyRequest, error: HTTPException) -> DomainError:
    match error.status_code:
        case 404:
            return no_route(str(request.method), request.scope["path"])
        case 405:
            hint = NAMES_A_ROUTE if _IN_THE_BASE_URL.match(request.scope["path"]) else "/docs lists every route."
            return MethodNotAllowed(f"{request.method} is not allowed here. {hint}")
        case 413:
            return TooLarge("The body of this request is too large.")
        case _:
            return _invalid(error)


def _invalid(error: HTTPException) -> InvalidRequest:
    if isinstance(error, ValidationException) and isinstance(error.extra, list) and error.extra:
        first = error.extra[0]
        text, field = str(first.get("message", "")), str(first.get("key", ""))
    else:
        text, field = error.detail, ""
    for pattern, said in (
        (_UNKNOWN_FIELD, "is not a field of this request; remove it"),
        (_MISSING_FIELD, "is missing"),
    ):
        if match := pattern.search(text):
            return InvalidRequest(f"{match[1]!r} {said}.", param=match[1])
    if match := _PATH.search(text):
        field = match[1].replace("[...]", "") or field
    # "data" is the framework's word for the whole body.
    field = "" if field == "data" else field
    plain = text.partition(" - at ")[0].rstrip(".")
    return InvalidRequest(f"{field}: {plain}." if field else f"{plain}.", param=field or None)
