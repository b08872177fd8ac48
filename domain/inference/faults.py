"""How vendors fail, who is to blame, and what a caller is told.

One exception with a kind, because the kinds differ only in the answers to three questions: is another vendor worth
trying, does the vendor's health suffer, and what does the caller see.
"""

from __future__ import annotations

from enum import StrEnum

from domain.errors import (
    DomainError,
    InvalidRequest,
    TimedOut,
    TooLarge,
    TooManyRequests,
    Unavailable,
    VendorFailed,
)


class FaultKind(StrEnum):
    UNREACHABLE = "unreachable"
    """Refused, no such host, bad TLS."""
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    SERVER_ERROR = "server_error"
    OVERLOADED = "overloaded"
    RATE_LIMITED = "rate_limited"
    CREDENTIAL_REJECTED = "credential_rejected"
    """401 or 403: our key at this vendor, never the caller's."""
    ACCOUNT_EMPTY = "account_empty"
    """402 or insufficient_quota: our balance at this vendor, never the caller's."""
    MALFORMED = "malformed"
    """An answer that is not what its dialect says."""
    BROKEN_OFF = "broken_off"
    MODEL_MISSING = "model_missing"
    REFUSED = "refused"
    """400, 413, 422: the request itself."""
    CONTEXT_LENGTH = "context_length"
    CONTENT_POLICY = "content_policy"


CALLERS_OWN = frozenset({FaultKind.REFUSED, FaultKind.CONTEXT_LENGTH, FaultKind.CONTENT_POLICY})
"""Another vendor would say the same, and this one is not to blame."""

OPERATORS_OWN = frozenset({FaultKind.CREDENTIAL_REJECTED, FaultKind.ACCOUNT_EMPTY})
"""Our account at the vendor: the operator is alerted, the caller never sees it as theirs."""


class VendorFault(Exception):
    """One vendor's failure to answer one attempt."""

    def __init__(
        self,
        kind: FaultKind,
        message: str,
        *,
        status: int | None = None,
        retry_after_s: int | None = None,
        param: str | None = None,
        vendor_code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        """The vendor's own words, with our secrets taken out."""
        self.status = status
        self.retry_after_s = retry_after_s
        self.param = param
        self.vendor_code = vendor_code

    @property
    def worth_another_vendor(self) -> bool:
        return self.kind not in CALLERS_OWN

    @property
    def hurts_health(self) -> bool:
        return self.kind not in CALLERS_OWN and self.kind is not FaultKind.MODEL_MISSING


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class ContentPolicyViolation(InvalidRequest):
    code = "content_policy_violation"


class NoVendorAvailable(Unavailable):
    code = "no_vendor_available"
    retry_after_s = 5


class VendorRateLimited(TooManyRequests):
    code = "rate_limit_exceeded"


def told(fault: VendorFault, vendor: str) -> DomainError:
    """What the caller is told when this fault was the last word."""
    match fault.kind:
        case FaultKind.CONTEXT_LENGTH:
            return ContextLengthExceeded(fault.message, param=fault.param or "messages")
        case FaultKind.CONTENT_POLICY:
            return ContentPolicyViolation(fault.message, param=fault.param)
        case FaultKind.REFUSED:
            family = TooLarge if fault.status == 413 else InvalidRequest  # noqa: PLR2004 - the vendor's status
            return family(fault.message, param=fault.param)
        case FaultKind.RATE_LIMITED:
            return VendorRateLimited(
                f"The vendor {vendor} limits how often this gateway may call it. Try again shortly.",
                retry_after_s=fault.retry_after_s or 5,
            )
        case FaultKind.FIRST_BYTE_TIMEOUT | FaultKind.IDLE_TIMEOUT:
            return TimedOut(f"The vendor {vendor} did not answer in time. Nothing was charged; try again.")
        case FaultKind.UNREACHABLE | FaultKind.OVERLOADED | FaultKind.CREDENTIAL_REJECTED | FaultKind.ACCOUNT_EMPTY:
            return NoVendorAvailable(
                f"No vendor can serve this model right now ({vendor}: {_plainly(fault.kind)}). Nothing was charged; "
                "try again, or use another model.",
                retry_after_s=fault.retry_after_s or 5,
            )
        case FaultKind.MODEL_MISSING:
            return NoVendorAvailable(
                f"The vendor {vendor} no longer serves this model. Use another one.", param="model"
            )
        case FaultKind.SERVER_ERROR | FaultKind.MALFORMED | FaultKind.BROKEN_OFF:
            return VendorFailed(f"The vendor {vendor} failed ({_plainly(fault.kind)}). Nothing was charged; try again.")


def _plainly(kind: FaultKind) -> str:
    """Our own account's state at a vendor is the operator's business alone."""
    return "unavailable" if kind in OPERATORS_OWN else kind.replace("_", " ")
