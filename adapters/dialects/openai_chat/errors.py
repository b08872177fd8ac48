"""What a vendor's refusal in OpenAI's dialect, or one of its many relatives, means.

Bodies seen: `{"error":{message,type,code,param}}`, `{"error":"text"}`, `{"error":{"error":"text"}}`, `{"detail":...}`,
`{"message":...}`, `{"code":..,"reason":..}`; codes may be numbers or strings.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from domain.inference.faults import FaultKind, VendorFault

MESSAGE_LENGTH_MAX = 1_000
RETRY_AFTER_MAX_S = 3_600

_CONTEXT_WORDS = (
    "maximum context length",
    "exceed context limit",
    "model's maximum context limit",
    "longer than the model's context length",
    "input tokens exceed the configured limit",
    "exceeds the available context size",
    "exceeds the maximum number of tokens allowed",
    "maximum input length is",
    "input too long",
    "prompt is too long",
    "`inputs` tokens + `max_new_tokens` must be",
)
_NOT_CONTEXT = ("string_above_max_length", "invalid 'user'")
_EMPTY_ACCOUNT = ("insufficient_quota", "insufficient_credits", "no_credits", "not_enough_balance", "billing")
_POLICY = ("content_policy_violation", "content_filter", "responsibleaipolicyviolation", "moderation")

_BY_STATUS: Mapping[int, FaultKind] = {
    401: FaultKind.CREDENTIAL_REJECTED,
    402: FaultKind.ACCOUNT_EMPTY,
    403: FaultKind.CREDENTIAL_REJECTED,
    404: FaultKind.MODEL_MISSING,
    408: FaultKind.SERVER_ERROR,
    409: FaultKind.SERVER_ERROR,
    424: FaultKind.SERVER_ERROR,
    425: FaultKind.SERVER_ERROR,
    429: FaultKind.RATE_LIMITED,
    498: FaultKind.OVERLOADED,
    503: FaultKind.OVERLOADED,
    529: FaultKind.OVERLOADED,
}


def read_fault(status: int | None, headers: Mapping[str, str], body: bytes) -> VendorFault:
    """The fault behind an error answer; `status` is None for an error inside an answer of status 200."""
    error = _error_of(body)
    code = str(error.get("code") or error.get("type") or "")
    message = _message_of(error) or ("" if status is None else f"it answered with status {status}")
    if status is None and code.isdigit():
        status = int(code)
    kind = _kind(status, f"{code} {error.get('type') or ''} {error.get('reason') or ''}".lower(), message.lower())
    param = error.get("param")
    return VendorFault(
        kind,
        message[:MESSAGE_LENGTH_MAX],
        status=status,
        retry_after_s=_retry_after_s(headers),
        param=param if isinstance(param, str) else None,
        vendor_code=code or None,
    )


def _error_of(body: bytes) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return {}
    if isinstance(decoded, list) and decoded:
        decoded = decoded[0]
    if not isinstance(decoded, dict):
        return {}
    error = decoded.get("error", decoded.get("detail", decoded))
    while isinstance(error, dict) and isinstance(error.get("error"), dict):
        error = error["error"]
    return error if isinstance(error, dict) else {"message": error, "code": decoded.get("code")}


def _message_of(error: dict[str, Any]) -> str:
    for name in ("message", "msg", "error", "detail"):
        value = error.get(name)
        if isinstance(value, str) and value.strip():
            return " ".join(value.split())
        if isinstance(value, list | dict) and value:
            return msgspec.json.encode(value).decode()
    return ""


def _kind(status: int | None, code: str, message: str) -> FaultKind:  # noqa: PLR0911 - one return per meaning
    if any(word in code for word in _EMPTY_ACCOUNT):
        return FaultKind.ACCOUNT_EMPTY
    if "context_length_exceeded" in code or _is_about_context(code, message):
        return FaultKind.CONTEXT_LENGTH
    if any(word in code for word in _POLICY):
        return FaultKind.CONTENT_POLICY
    if status is None:
        if "rate_limit" in code:
            return FaultKind.RATE_LIMITED
        return FaultKind.OVERLOADED if "overload" in code or "overload" in message else FaultKind.SERVER_ERROR
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if "invalid_api_key" in code or "incorrect api key" in message:
        return FaultKind.CREDENTIAL_REJECTED
    if 300 <= status < 400:
        return FaultKind.SERVER_ERROR
    return FaultKind.REFUSED if 400 <= status < 500 else FaultKind.SERVER_ERROR


def _is_about_context(code: str, message: str) -> bool:
    if any(word in code or word in message for word in _NOT_CONTEXT):
        return False
    if "current length is" in message and "while limit is" in message:
        return True
    return any(word in message for word in _CONTEXT_WORDS)


def _retry_after_s(headers: Mapping[str, str]) -> int | None:
    """The longest of the vendor's hints, in whole seconds; a date cannot be compared without a clock and is ignored
    unless the vendor sent its own date beside it."""
    hints: list[float] = []
    for name, scale in (("retry-after-ms", 1000), ("x-ms-retry-after-ms", 1000), ("retry-after", 1)):
        value = headers.get(name, "")
        try:
            hints.append(float(value) / scale)
        except ValueError:
            if value and name == "retry-after":
                hints += _until(value, headers.get("date", ""))
    real = [hint for hint in hints if 0 <= hint < float("inf")]
    return min(RETRY_AFTER_MAX_S, -int(-max(real) // 1)) if real else None


def _until(date: str, now: str) -> list[float]:
    try:
        return [max(0.0, (parsedate_to_datetime(date) - parsedate_to_datetime(now)).total_seconds())]
    except (ValueError, TypeError):
        return []
