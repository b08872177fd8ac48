"""What a vendor's refusal in OpenAI's dialect, or one of its many relatives, means.

Bodies seen: `{"error":{message,type,code,param}}`, `{"error":"text"}`, `{"error":{"error":"text"}}`, `{"code","error"}`
and `{"error","detail"}` with a code and a text, `{"detail":...}` with a text, an object or a list of `{loc,msg,type}`,
`{"message":...}` with a text or an object, `{"code","reason","message"}`, `{"fault":{faultstring,detail:{errorcode}}}`;
codes may be numbers or strings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

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
_EMPTY_ACCOUNT = (
    "insufficient_quota",
    "insufficient_credits",
    "insufficient_balance",
    "no_credits",
    "no_limit_configured",
    "api_key_limit_exceeded",
    "not_enough_balance",
    "payment_required",
    "billing",
)
_NO_MODEL = ("model_not_found", "model_not_supported", "deploymentnotfound")
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


class FaultWords(Struct, frozen=True):
    """What one vendor means by statuses and words that say something else elsewhere."""

    by_status: Mapping[int, FaultKind] = {}
    by_word: tuple[tuple[str, FaultKind], ...] = ()
    """Lower-case parts of its code, type, reason or message; the first that is found decides."""


USUAL: Final = FaultWords()


def read_fault(
    status: int | None, headers: Mapping[str, str], body: bytes, words: FaultWords = USUAL, extension: str = ""
) -> VendorFault:
    """The fault behind an error answer; `status` is None for an error inside an answer of status 200.

    `extension` is a member of chunks in which a vendor tells an error too.
    """
    error = _error_of(body, extension)
    code = str(error.get("code") or error.get("type") or "")
    message = _text_of(error) or ("" if status is None else f"it answered with status {status}")
    if status is None and code.isdigit():
        status = int(code)
    kind = _kind(status, _codes_of(error, code), message.lower(), words)
    param = error.get("param")
    return VendorFault(
        kind,
        message[:MESSAGE_LENGTH_MAX],
        status=status,
        retry_after_s=_retry_after_s(headers),
        param=param if isinstance(param, str) else None,
        vendor_code=code or None,
    )


def _error_of(body: bytes, extension: str) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return {}
    if isinstance(decoded, list) and decoded:
        decoded = decoded[0]
    if not isinstance(decoded, dict):
        return {}
    inside = decoded.get(extension) if extension else None
    if not decoded.get("error") and isinstance(inside, dict) and inside.get("error"):
        decoded = inside
    if isinstance(fault := decoded.get("fault"), dict):
        detail = fault.get("detail")
        return {
            "message": fault.get("faultstring"),
            "code": detail.get("errorcode") if isinstance(detail, dict) else "",
        }
    error, detail = decoded.get("error"), decoded.get("detail")
    if isinstance(error, str) and isinstance(detail, str):
        return {"code": error, "message": detail}
    error = error or detail or decoded
    while isinstance(error, dict) and isinstance(error.get("error"), dict):
        error = error["error"]
    return error if isinstance(error, dict) else {"message": error, "code": decoded.get("code")}


def _text_of(error: object) -> str:
    """The words of an error, wherever they are."""
    if isinstance(error, str):
        return " ".join(error.split())
    if isinstance(error, list):
        return "; ".join(filter(None, (_text_of(each) for each in error)))
    if not isinstance(error, dict):
        return ""
    where = ".".join(str(step) for step in loc) if isinstance(loc := error.get("loc"), list) else ""
    for name in ("message", "msg", "error", "detail"):
        if text := _text_of(error.get(name)):
            return f"{where}: {text}" if where else text
    return ""


def _codes_of(error: dict[str, Any], code: str) -> str:
    """Everything in it that names the kind of error, in lower case."""
    metadata = error.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    named = [code, error.get("type"), error.get("reason"), metadata.get("error_type")]
    if metadata.get("flagged_input") or metadata.get("reasons"):
        named.append("moderation")
    return " ".join(str(each) for each in named if each).lower()


def _kind(status: int | None, code: str, message: str, words: FaultWords) -> FaultKind:
    for word, kind in words.by_word:
        if word in code or word in message:
            return kind
    if status is not None and status in words.by_status:
        return words.by_status[status]
    return _kind_by_code(code, message) or _kind_by_status(status, message)


def _kind_by_code(code: str, message: str) -> FaultKind | None:
    if any(word in code for word in _EMPTY_ACCOUNT):
        return FaultKind.ACCOUNT_EMPTY
    if "context_length_exceeded" in code or _is_about_context(code, message):
        return FaultKind.CONTEXT_LENGTH
    if any(word in code for word in _POLICY):
        return FaultKind.CONTENT_POLICY
    if "invalid_api_key" in code or "incorrect api key" in message:
        return FaultKind.CREDENTIAL_REJECTED
    if any(word in code for word in _NO_MODEL):
        return FaultKind.MODEL_MISSING
    if "overload" in code:
        return FaultKind.OVERLOADED
    return FaultKind.RATE_LIMITED if "rate_limit" in code else None


def _kind_by_status(status: int | None, message: str) -> FaultKind:
    if status is None:
        return FaultKind.OVERLOADED if "overload" in message else FaultKind.SERVER_ERROR
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return FaultKind.REFUSED if 400 <= status < 500 else FaultKind.SERVER_ERROR


def _is_about_context(code: str, message: str) -> bool:
    if any(word in code or word in message for word in _NOT_CONTEXT):
        return False
    if "current length is" in message and "while limit is" in message:
        return True
    return any(word in message for word in _CONTEXT_WORDS)


def _retry_after_s(headers: Mapping[str, str]) -> int | None:
    """The longest of the vendor's hints, in whole seconds; a moment cannot be compared without a clock and is ignored
    unless the vendor sent its own date beside it.

    Where it gives no hint of its own, what it says of the limit that is used up is one.
    """
    hints: list[float] = []
    for name, scale in (("retry-after-ms", 1000), ("x-ms-retry-after-ms", 1000), ("retry-after", 1)):
        value = headers.get(name, "").strip()
        if value:
            hints += [hint / scale for hint in _span_s(value)] or _until(value, headers.get("date", ""))
    if not hints:
        hints = _resets(headers)
    real = [hint for hint in hints if 0 <= hint < float("inf")]
    return min(RETRY_AFTER_MAX_S, -int(-max(real) // 1)) if real else None


_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS: Mapping[str, float] = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


def _span_s(value: str) -> list[float]:
    """Seconds of `7`, `1.5` or `2m59.56s`; nothing for what is no span of time."""
    try:
        return [float(value)]
    except ValueError:
        parts = _SPAN.findall(value)
        whole = "".join(number + unit for number, unit in parts) == value
        return [sum(float(number) * _SECONDS[unit] for number, unit in parts)] if parts and whole else []


def _resets(headers: Mapping[str, str]) -> list[float]:
    """Of the limits of which nothing remains."""
    found: list[float] = []
    for name in ("", "-requests", "-tokens", "-requests-day", "-tokens-minute"):
        if headers.get(f"x-ratelimit-remaining{name}", "").strip() not in ("0", "0.0"):
            continue
        value = headers.get(f"x-ratelimit-reset{name}", "").strip()
        for span in _span_s(value):
            found += [span] if span < _EPOCH_S else _from_epoch(span, headers.get("date", ""))
    return found


_EPOCH_S: Final = 1_000_000_000
"""More seconds than anyone waits: a moment, in seconds or in milliseconds since 1970."""


def _from_epoch(moment: float, now: str) -> list[float]:
    try:
        left = (moment / 1000 if moment > _EPOCH_S * 100 else moment) - parsedate_to_datetime(now).timestamp()
    except (ValueError, TypeError):
        return []
    return [max(0.0, left)]


def _until(date: str, now: str) -> list[float]:
    try:
        return [max(0.0, (parsedate_to_datetime(date) - parsedate_to_datetime(now)).total_seconds())]
    except (ValueError, TypeError):
        return []
