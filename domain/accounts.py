"""An account: who owns credit, keys and usage.  `parent_id` keeps the tree that sub-accounts hang in."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from domain.errors import Conflict, InvalidRequest, NotFound
from domain.ids import AccountId
from domain.limits import LimitSet

EMAIL_LENGTH_MAX = 254


class AccountStatus(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"


class Account(Struct, frozen=True, kw_only=True):
    id: AccountId
    email: str
    """As given; `normalised_email` is what must be unique."""
    name: str = ""
    status: AccountStatus = AccountStatus.ACTIVE
    parent_id: AccountId | None = None
    limits: LimitSet = LimitSet()
    created_at: datetime


class UnknownAccount(NotFound):
    code = "account_not_found"


class EmailTaken(Conflict):
    code = "email_taken"


def normalised_email(text: str) -> str:
    """Lower-cased and trimmed.  Raises InvalidRequest for what cannot be an address."""
    email = text.strip().lower()
    local, at, host = email.partition("@")
    if (
        not (local and at and host)
        or "@" in host
        or len(email) > EMAIL_LENGTH_MAX
        or any(c.isspace() or not c.isprintable() for c in email)
    ):
        raise InvalidRequest(f"{text!r} is not an e-mail address.", param="email")
    return email
