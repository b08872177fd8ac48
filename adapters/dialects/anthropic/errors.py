"""What a vendor's refusal in Anthropic's dialect means.

The body is `{"type":"error","error":{"type","message"},"request_id"}`; the type decides where it is there, because an
error inside a stream has no status.  Servers that only imitate the dialect often answer in OpenAI's envelope, which is
read by the same rules as that dialect's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from adapters.dialects.openai_chat.errors import read_fault as read_openai_fault
from domain.inference.faults import FaultKind, VendorFault

_BY_TYPE: Final[Mapping[str, FaultKind]] = {
    "authentication_error": FaultKind.CREDENTIAL_REJECTED,
    "permission_error": FaultKind.CREDENTIAL_REJECTED,
    "billing_error": FaultKind.ACCOUNT_EMPTY,
    "not_found_error": FaultKind.MODEL_MISSING,
    "rate_limit_error": FaultKind.RATE_LIMITED,
    "overloaded_error": FaultKind.OVERLOADED,
    "api_error": FaultKind.SERVER_ERROR,
    "timeout_error": FaultKind.SERVER_ERROR,
    "request_too_large": FaultKind.REFUSED,
    "invalid_request_error": FaultKind.REFUSED,
}
_EMPTY_ACCOUNT: Final = ("credit balance is too low", "billing")
_TOO_LARGE: Final = 413


class _Error(Struct):
    type: str = ""
    message: str = ""


class _Envelope(Struct):
    error: _Error


def read_fault(status: int | None, headers: Mapping[str, str], body: bytes) -> VendorFault:
    """The fault behind an error answer; `status` is None for an error inside an answer of status 200."""
    fault = read_openai_fault(status, headers, body)
    try:
        error = msgspec.json.decode(body, type=_Envelope).error
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return fault
    kind = _BY_TYPE.get(error.type)
    if kind is None or fault.kind in (FaultKind.CONTEXT_LENGTH, FaultKind.CONTENT_POLICY):
        return fault
    if kind is FaultKind.REFUSED and any(word in error.message.lower() for word in _EMPTY_ACCOUNT):
        # An empty account is told as a bad request.
        kind = FaultKind.ACCOUNT_EMPTY
    if kind is FaultKind.REFUSED and fault.kind is FaultKind.MODEL_MISSING:
        kind = fault.kind
    fault.kind = kind
    if error.type == "request_too_large":
        fault.status = _TOO_LARGE
    return fault


def error_of(status: int | None, headers: Mapping[str, str], error: Any) -> VendorFault:
    """As `read_fault`, of an error object that has been read already."""
    return read_fault(status, headers, msgspec.json.encode({"type": "error", "error": error}))
