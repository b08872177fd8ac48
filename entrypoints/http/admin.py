"""/admin: what the operator sees and does; every route needs the scope admin:*."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from application.accounts import CreateAccount, FindAccount, ListAccounts, RestoreAccount, SuspendAccount
from application.catalog import RefreshCatalog
from application.credits import AdjustCredit, GrantCredit, ShowBalance
from application.settlements import ShowSettlements
from domain.keys import Scope
from domain.ports.catalog import Refreshed
from entrypoints.http.account import Moment
from entrypoints.http.guards import Needs
from entrypoints.http.views import (
    AccountsView,
    AccountView,
    AdjustedView,
    BalanceView,
    HoldView,
    read_usd,
    shown_account,
    shown_accounts,
    shown_adjusted,
    shown_balance,
    shown_hold,
)

AccountWord = Annotated[str, Meta(min_length=1, max_length=254)]
"""An account's id, its e-mail address, or "admin"."""


class GrantBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    account: AccountWord
    amount_usd: str
    reason: str
    reference: str | None = None
    """Names the grant, so that repeating it is refused instead of paid twice."""
    expires_at: Moment | None = None


class AdjustBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    account: AccountWord
    amount_usd: str
    """Negative to take credit away."""
    reason: str
    reference: str | None = None


class AccountBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    email: str
    name: str = ""


class SettlementsView(Struct, frozen=True):
    open: tuple[HoldView, ...]
    overdue: tuple[HoldView, ...]


class AdminCreditController(Controller):
    path = "/admin/credits"
    tags = ("Administration",)
    guards = (Needs(Scope.ADMIN),)

    @post("/grant", status_code=200)
    async def grant(
        self,
        data: JSONBody[GrantBody],
        find_account: NamedDependency[FindAccount],
        grant_credit: NamedDependency[GrantCredit],
    ) -> AdjustedView:
        """Give credit to an account."""
        account = await find_account(data.account)
        amount = read_usd(data.amount_usd, "amount_usd")
        return shown_adjusted(
            await grant_credit(account.id, amount, data.reason, reference=data.reference, expires_at=data.expires_at)
        )

    @post("/adjust", status_code=200)
    async def adjust(
        self,
        data: JSONBody[AdjustBody],
        find_account: NamedDependency[FindAccount],
        adjust_credit: NamedDependency[AdjustCredit],
    ) -> AdjustedView:
        """Give or take credit; no more is taken than can be spent."""
        account = await find_account(data.account)
        amount = read_usd(data.amount_usd, "amount_usd")
        return shown_adjusted(await adjust_credit(account.id, amount, data.reason, reference=data.reference))

    @get("/{account:str}")
    async def show(
        self,
        account: FromPath[str],
        find_account: NamedDependency[FindAccount],
        show_balance: NamedDependency[ShowBalance],
    ) -> BalanceView:
        """An account's credit."""
        return shown_balance(await show_balance((await find_account(account)).id))


class AdminAccountController(Controller):
    path = "/admin/users"
    tags = ("Administration",)
    guards = (Needs(Scope.ADMIN),)

    @get()
    async def list_accounts(
        self,
        list_accounts: NamedDependency[ListAccounts],
        limit: FromQuery[int] = 50,
        cursor: FromQuery[str | None] = None,
    ) -> AccountsView:
        """All accounts, oldest first."""
        return shown_accounts(await list_accounts(limit, cursor))

    @post()
    async def create(self, data: JSONBody[AccountBody], create_account: NamedDependency[CreateAccount]) -> AccountView:
        """Open an account."""
        return shown_account(await create_account(data.email, data.name))

    @get("/{account:str}")
    async def show(self, account: FromPath[str], find_account: NamedDependency[FindAccount]) -> AccountView:
        """One account, by id, e-mail address, or the word "admin"."""
        return shown_account(await find_account(account))

    @post("/{account:str}/suspend", status_code=200)
    async def suspend(
        self,
        account: FromPath[str],
        find_account: NamedDependency[FindAccount],
        suspend_account: NamedDependency[SuspendAccount],
    ) -> AccountView:
        """Refuse all keys of the account from now on."""
        found = await find_account(account)
        await suspend_account(found.id)
        return shown_account(await find_account(found.id))

    @post("/{account:str}/restore", status_code=200)
    async def restore(
        self,
        account: FromPath[str],
        find_account: NamedDependency[FindAccount],
        restore_account: NamedDependency[RestoreAccount],
    ) -> AccountView:
        """Accept the account's keys again."""
        found = await find_account(account)
        await restore_account(found.id)
        return shown_account(await find_account(found.id))


class CatalogController(Controller):
    path = "/admin/catalog"
    tags = ("Administration",)
    guards = (Needs(Scope.ADMIN),)

    @post("/refresh", status_code=200)
    async def refresh(
        self,
        refresh_catalog: NamedDependency[RefreshCatalog],
        vendor: FromQuery[str | None] = None,
    ) -> tuple[Refreshed, ...]:
        """Ask one vendor, or all, for their models now."""
        return tuple(await refresh_catalog(vendor))


class SettlementController(Controller):
    path = "/admin/settlements"
    tags = ("Administration",)
    guards = (Needs(Scope.ADMIN),)

    @get()
    async def show(
        self, show_settlements: NamedDependency[ShowSettlements], limit: FromQuery[int] = 50
    ) -> SettlementsView:
        """Holds that are open, and those that nobody renewed."""
        settlements = await show_settlements(limit)
        return SettlementsView(tuple(map(shown_hold, settlements.open)), tuple(map(shown_hold, settlements.overdue)))
