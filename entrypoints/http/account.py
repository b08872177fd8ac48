"""/user: what an account sees and does with its own credit and keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

from litestar import Controller, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import UNSET, Meta, Struct, UnsetType

from application.credits import ListTransactions, ShowBalance
from application.keys import ChangeKey, IssueKey, KeyChanges, ListKeys, RevokeKey, new_key_policy
from domain.access import Caller
from domain.errors import InvalidRequest
from domain.ids import KeyId
from domain.keys import Environment, Scope
from entrypoints.http.guards import Needs
from entrypoints.http.views import (
    BalanceView,
    BudgetBody,
    IssuedKeyView,
    KeysView,
    KeyView,
    LimitsBody,
    TransactionsView,
    shown_balance,
    shown_issued,
    shown_key,
    shown_keys,
    shown_transactions,
)

EXPIRATION_DAYS_MAX = 3650
LIST_LENGTH_MAX = 100

Names = Annotated[tuple[str, ...], Meta(max_length=LIST_LENGTH_MAX)]
Moment = Annotated[datetime, Meta(tz=True)]
EnvironmentTag = Literal["live", "test", "staging", "dev", "development"]
Count = Annotated[int, Meta(ge=1, le=10**12)]

_ENVIRONMENTS: Final[Mapping[str, Environment]] = {
    **{tag: Environment(tag) for tag in Environment},
    "development": Environment.DEV,
}
FIELD_NAMES: Final = {
    "name": "key_name",
    "models": "allowed_models",
    "addresses": "ip_allowlist",
    "referrers": "domain_referrers",
    "budget_usd": "budget.amount_usd",
    "time_zone": "budget.time_zone",
}
"""The fields of these routes where the domain has another word."""


class KeyBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key_name: str
    environment_tag: EnvironmentTag = "live"
    scope_permissions: frozenset[Scope] | UnsetType = UNSET
    expiration_days: Annotated[int, Meta(ge=1, le=EXPIRATION_DAYS_MAX)] | UnsetType = UNSET
    expires_at: Moment | UnsetType = UNSET
    max_requests: Count | UnsetType = UNSET
    budget: BudgetBody | UnsetType = UNSET
    allowed_models: Names | UnsetType = UNSET
    ip_allowlist: Names | UnsetType = UNSET
    domain_referrers: Names | UnsetType = UNSET
    limits: LimitsBody | UnsetType = UNSET


class KeyChangesBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is not sent stays; null takes a restriction away."""

    key_name: str | UnsetType = UNSET
    scope_permissions: frozenset[Scope] | UnsetType = UNSET
    expires_at: Moment | UnsetType | None = UNSET
    max_requests: Count | UnsetType | None = UNSET
    budget: BudgetBody | UnsetType | None = UNSET
    allowed_models: Names | UnsetType = UNSET
    ip_allowlist: Names | UnsetType = UNSET
    domain_referrers: Names | UnsetType = UNSET
    limits: LimitsBody | UnsetType | None = UNSET


class CreditController(Controller):
    path = "/user"
    tags = ("Account",)

    @get("/balance", guards=[Needs(Scope.ACCOUNT_READ)])
    async def balance(self, caller: NamedDependency[Caller], show_balance: NamedDependency[ShowBalance]) -> BalanceView:
        """What the account can spend, what is held, and the lots it comes from."""
        return shown_balance(await show_balance(caller.account_id))

    @get("/credit-transactions", guards=[Needs(Scope.ACCOUNT_READ)])
    async def transactions(
        self,
        caller: NamedDependency[Caller],
        list_transactions: NamedDependency[ListTransactions],
        limit: FromQuery[int] = 50,
        cursor: FromQuery[str | None] = None,
    ) -> TransactionsView:
        """Every movement of the account's credit, newest first."""
        return shown_transactions(await list_transactions(caller.account_id, limit, cursor))


class KeyController(Controller):
    path = "/user/api-keys"
    tags = ("API keys",)

    @get(guards=[Needs(Scope.KEYS_READ)])
    async def list_keys(
        self,
        caller: NamedDependency[Caller],
        list_keys: NamedDependency[ListKeys],
        limit: FromQuery[int] = 50,
        cursor: FromQuery[str | None] = None,
    ) -> KeysView:
        """The account's keys, without their secrets."""
        return shown_keys(await list_keys(caller.account_id, limit, cursor))

    @post(guards=[Needs(Scope.KEYS_WRITE)])
    async def create_key(
        self,
        data: JSONBody[KeyBody],
        caller: NamedDependency[Caller],
        issue_key: NamedDependency[IssueKey],
    ) -> IssuedKeyView:
        """Make a key; its secret is in this answer and nowhere else."""
        with in_our_words():
            if data.expiration_days is not UNSET and data.expires_at is not UNSET:
                raise InvalidRequest("Send expiration_days or expires_at, not both.", param="expires_at")
            issued = await issue_key(
                caller.account_id,
                data.key_name,
                environment=_ENVIRONMENTS[data.environment_tag],
                policy=_changes(data).applied(new_key_policy(caller)),
                lifetime=timedelta(days=data.expiration_days) if data.expiration_days else None,
                maker=caller,
            )
        return shown_issued(issued)

    @patch("/{key_id:str}", guards=[Needs(Scope.KEYS_WRITE)])
    async def change_key(
        self,
        key_id: FromPath[str],
        data: JSONBody[KeyChangesBody],
        caller: NamedDependency[Caller],
        change_key: NamedDependency[ChangeKey],
    ) -> KeyView:
        """Change what a key may do; a key can give no more than it has itself."""
        with in_our_words():
            changed = await change_key(caller.account_id, KeyId(key_id), _changes(data), maker=caller)
        return shown_key(changed)

    @delete("/{key_id:str}", guards=[Needs(Scope.KEYS_WRITE)], status_code=200)
    async def revoke_key(
        self,
        key_id: FromPath[str],
        caller: NamedDependency[Caller],
        revoke_key: NamedDependency[RevokeKey],
    ) -> KeyView:
        """Refuse the key from now on, for good."""
        return shown_key(await revoke_key(caller.account_id, KeyId(key_id)))


@contextmanager
def in_our_words() -> Iterator[None]:
    """A refusal of the domain names the field as these routes call it."""
    try:
        yield
    except InvalidRequest as error:
        if error.param:
            error.param = FIELD_NAMES.get(error.param, error.param)
        raise


def _changes(body: KeyBody | KeyChangesBody) -> KeyChanges:
    return KeyChanges(
        name=body.key_name,
        scopes=body.scope_permissions,
        expires_at=body.expires_at,
        requests_max=body.max_requests,
        models=body.allowed_models,
        addresses=body.ip_allowlist,
        referrers=body.domain_referrers,
        budget=body.budget.as_budget() if isinstance(body.budget, BudgetBody) else body.budget,
        limits=body.limits.as_limits() if isinstance(body.limits, LimitsBody) else body.limits,
    )
