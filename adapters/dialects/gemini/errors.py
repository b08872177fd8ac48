"""What a refusal of Google's means.

The body is `{"error":{"code","message","status","details":[...]}}`, inside an array where a stream was asked for as an
array; the status decides, because a bad key comes as a bad request.  There are no headers about limits: how long to
wait is told in a detail, `RetryInfo`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from adapters.dialects.openai_chat.errors import MESSAGE_LENGTH_MAX, RETRY_AFTER_MAX_S
from adapters.dialects.openai_chat.errors import read_fault as read_openai_fault
from domain.inference.faults import FaultKind, VendorFault

_BY_STATUS: Final[Mapping[str, FaultKind]] = {
    "INVALID_ARGUMENT": FaultKind.REFUSED,
    "OUT_OF_RANGE": FaultKind.REFUSED,
    "FAILED_PRECONDITION": FaultKind.REFUSED,
    "UNAUTHENTICATED": FaultKind.CREDENTIAL_REJECTED,
    "PERMISSION_DENIED": FaultKind.CREDENTIAL_REJECTED,
    "NOT_FOUND": FaultKind.MODEL_MISSING,
    "RESOURCE_EXHAUSTED": FaultKind.RATE_LIMITED,
    "ABORTED": FaultKind.SERVER_ERROR,
    "CANCELLED": FaultKind.SERVER_ERROR,
    "INTERNAL": FaultKind.SERVER_ERROR,
    "UNKNOWN": FaultKind.SERVER_ERROR,
    "UNIMPLEMENTED": FaultKind.SERVER_ERROR,
    "DEADLINE_EXCEEDED": FaultKind.SERVER_ERROR,
    "UNAVAILABLE": FaultKind.OVERLOADED,
}
_BAD_KEY: Final = ("API_KEY_INVALID", "API_KEY_EXPIRED", "ACCESS_TOKEN_EXPIRED", "CREDENTIALS_MISSING")
_BAD_KEY_WORDS: Final = ("api key not valid", "api key expired", "api key not found", "location is not supported")
_EMPTY: Final = ("BILLING_DISABLED", "BILLING_NOT_ENABLED")
_EMPTY_WORDS: Final = ("enable billing", "billing account", "prepayment credits are depleted")
_TOO_LONG: Final = ("exceeds the maximum number of tokens allowed", "input context is too long")


def read_fault(status: int | None, headers: Mapping[str, str], body: bytes) -> VendorFault:
    """The fault behind an error answer; `status` is None for an error inside an answer of status 200."""
    error = _error_of(body)
    if error is None:
        return read_openai_fault(status, headers, body)
    word = error.get("status")
    code = error.get("code")
    if status is None and isinstance(code, int):
        status = code
    message = error.get("message")
    message = " ".join(message.split()) if isinstance(message, str) else ""
    details = [each for each in error.get("details") or () if isinstance(each, dict)]
    kind = _kind(word if isinstance(word, str) else "", message.lower(), details)
    if kind is None:
        return read_openai_fault(status, headers, body)
    return VendorFault(
        kind,
        message[:MESSAGE_LENGTH_MAX] or f"it answered with status {status}",
        status=status,
        retry_after_s=_retry_after_s(details),
        vendor_code=word if isinstance(word, str) else None,
    )


def error_of(error: Any) -> VendorFault:
    """As `read_fault`, of an error object that was read inside an answer of status 200."""
    return read_fault(None, {}, msgspec.json.encode({"error": error}))


def _error_of(body: bytes) -> dict[str, Any] | None:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    if isinstance(decoded, list) and decoded:
        decoded = decoded[0]
    error = decoded.get("error") if isinstance(decoded, dict) else None
    return error if isinstance(error, dict) and isinstance(error.get("status"), str) else None


def _kind(word: str, message: str, details: list[dict[str, Any]]) -> FaultKind | None:
    reasons = {str(each.get("reason")) for each in details if each.get("reason")}
    if reasons.intersection(_BAD_KEY) or any(words in message for words in _BAD_KEY_WORDS):
        return FaultKind.CREDENTIAL_REJECTED
    kind = _BY_STATUS.get(word)
    if reasons.intersection(_EMPTY) or (
        kind is not FaultKind.RATE_LIMITED and any(words in message for words in _EMPTY_WORDS)
    ):
        # A limit per minute is told with the words of an unpaid account too; then its status counts.
        return FaultKind.ACCOUNT_EMPTY
    if kind is FaultKind.REFUSED and any(words in message for words in _TOO_LONG):
        return FaultKind.CONTEXT_LENGTH
    return kind


def _retry_after_s(details: list[dict[str, Any]]) -> int | None:
    for each in details:
        delay = each.get("retryDelay")
        if isinstance(delay, str) and delay.endswith("s"):
            try:
                seconds = float(delay[:-1])
            except ValueError:
                continue
            if 0 <= seconds < float("inf"):
                return min(RETRY_AFTER_MAX_S, -int(-seconds // 1))
    return None
