"""Who is calling, once a credential has proved it.  There is no default and no anonymous `Caller`."""

from __future__ import annotations

from msgspec import Struct

from domain.accounts import Account
from domain.ids import AccountId, PlanId
from domain.keys import ApiKey, Environment
from domain.limits import LimitSet, Subject, halved, lowest, windows


class Caller(Struct, frozen=True, kw_only=True):
    account: Account
    key: ApiKey
    limited_as: tuple[Subject, ...]
    """The key and the account, with the limits of each."""
    plan: PlanId | None = None
    """What the account pays by; None pays what everybody does."""

    @property
    def account_id(self) -> AccountId:
        return self.account.id


def subjects(account: Account, key: ApiKey, without_own: LimitSet) -> tuple[Subject, ...]:
    """Whom a request with this key counts against.

    An account whose limits are the built-in ones has none of its own: it gets the operator's, `without_own`.
    """
    allowed = without_own if account.limits == LimitSet() else account.limits
    own = lowest(allowed, key.policy.limits) if key.policy.limits else allowed
    if key.environment is not Environment.LIVE:
        own = halved(own)
    return (
        Subject(f"key:{key.id}", windows(own), own.concurrent),
        Subject(f"account:{account.id}", windows(allowed), allowed.concurrent),
    )
