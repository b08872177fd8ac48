"""The families of refusals.

A family says what kind of thing went wrong; its subclasses, each beside the rule that raises it, carry a stable `code`
and the data a caller needs.  No HTTP here: one table in `entrypoints/http/errors.py` gives each family its status.
"""

from __future__ import annotations


class DomainError(Exception):
    """A refusal that the caller is told about; `code` is stable API, the message says what to do next."""

    code: str = "invalid_request"
    param: str | None = None
    retry_after_s: int | None = None

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        if param is not None:
            self.param = param
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s


class InvalidRequest(DomainError):
    """The request cannot be understood or asks for something impossible."""

    code = "invalid_request"


class UnsupportedParameter(InvalidRequest):
    """Something asked for that the chosen model cannot do, and that must not be dropped in silence."""

    code = "unsupported_parameter"


class TooLarge(DomainError):
    code = "request_too_large"


class Unauthenticated(DomainError):
    code = "invalid_api_key"


class PaymentRequired(DomainError):
    code = "insufficient_credits"


class Forbidden(DomainError):
    code = "permission_denied"


class NotFound(DomainError):
    code = "not_found"


class Conflict(DomainError):
    code = "conflict"


class TooManyRequests(DomainError):
    code = "rate_limit_exceeded"


class VendorFailed(DomainError):
    """Every vendor that could have answered failed; nothing was charged."""

    code = "vendor_error"


class Unavailable(DomainError):
    """We cannot serve right now, through no fault of the caller."""

    code = "storage_unavailable"
    retry_after_s: int | None = 2


class TimedOut(DomainError):
    code = "vendor_timeout"


class StorageUnavailable(Unavailable):
    """The database did not answer; nothing was admitted, so nothing is charged."""

    code = "storage_unavailable"
