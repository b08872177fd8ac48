"""What a refusal of Bedrock's means: the name of the exception is in a header, or in the frame of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from adapters.dialects.openai_chat.errors import MESSAGE_LENGTH_MAX
from adapters.dialects.openai_chat.errors import read_fault as read_openai_fault
from domain.inference.faults import FaultKind, VendorFault

ERROR_TYPE: Final = "x-amzn-errortype"

_BY_NAME: Final[Mapping[str, FaultKind]] = {
    "throttling": FaultKind.RATE_LIMITED,
    "toomanyrequests": FaultKind.RATE_LIMITED,
    "servicequotaexceeded": FaultKind.RATE_LIMITED,
    "accessdenied": FaultKind.CREDENTIAL_REJECTED,
    "unrecognizedclient": FaultKind.CREDENTIAL_REJECTED,
    "invalidsignature": FaultKind.CREDENTIAL_REJECTED,
    "incompletesignature": FaultKind.CREDENTIAL_REJECTED,
    "missingauthenticationtoken": FaultKind.CREDENTIAL_REJECTED,
    "expiredtoken": FaultKind.CREDENTIAL_REJECTED,
    "resourcenotfound": FaultKind.MODEL_MISSING,
    "validation": FaultKind.REFUSED,
    "modeltimeout": FaultKind.SERVER_ERROR,
    "modelerror": FaultKind.SERVER_ERROR,
    "modelstreamerror": FaultKind.SERVER_ERROR,
    "internalserver": FaultKind.SERVER_ERROR,
    "modelnotready": FaultKind.OVERLOADED,
    "serviceunavailable": FaultKind.OVERLOADED,
}
_NO_MODEL: Final = ("model identifier is invalid", "on-demand throughput", "end of its life", "model not found")
_TOO_LONG: Final = ("input is too long", "too many input tokens", "too many total text bytes", "prompt is too long")


class _Body(Struct):
    message: Any = None
    Message: Any = None


def read_fault(status: int | None, headers: Mapping[str, str], body: bytes) -> VendorFault:
    """The fault behind an error answer; `status` is None for an exception inside a stream, whose name is in
    `headers` all the same."""
    # Some services write a name's namespace or an address behind it.
    name = headers.get(ERROR_TYPE, "").partition(":")[0].rpartition("#")[2]
    kind = _BY_NAME.get(name.lower().removesuffix("exception"))
    fault = read_openai_fault(status, headers, body)
    if kind is None:
        return fault
    try:
        told = msgspec.json.decode(body, type=_Body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        told = _Body()
    text = told.message or told.Message
    message = " ".join(text.split()) if isinstance(text, str) else fault.message
    low = message.lower()
    if kind is FaultKind.REFUSED:
        if fault.kind is FaultKind.CONTEXT_LENGTH or any(words in low for words in _TOO_LONG):
            kind = FaultKind.CONTEXT_LENGTH
        elif any(words in low for words in _NO_MODEL):
            kind = FaultKind.MODEL_MISSING
    return VendorFault(
        kind,
        message[:MESSAGE_LENGTH_MAX] or name,
        status=status,
        retry_after_s=fault.retry_after_s,
        vendor_code=name,
    )
