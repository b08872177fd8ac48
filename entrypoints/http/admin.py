"""/admin: what the operator sees and does; every route needs the scope admin:*."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from application.accounts import CreateAccount, FindAccount, ListAccounts, RestoreAccount, SuspendAccount
from application.catalog import ListModels, PriceWish, RefreshCatalog, SetPrice
from application.credits import AdjustCredit, GrantCredit, ShowBalance
from application.pages import checked_limit, page
from application.settlements import ShowSettlements
from domain.access import Caller
from domain.catalog import Offer
from domain.errors import InvalidRequest
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
    OffersView,
    PriceView,
    read_usd,
    shown_account,
    shown_accounts,
    shown_adjusted,
    shown_balance,
    shown_hold,
    shown_offers,
    shown_price,
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


class PriceBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD per million tokens, as decimal strings."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    vendor: str | None = None
    input_usd: str
    output_usd: str
    cache_read_usd: str | None = None
    cache_write_5m_usd: str | None = None
    cache_write_1h_usd: str | None = None
    reasoning_usd: str | None = None
    free: bool = False
    confirmed: bool = False
    """For a price far from what others ask."""


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


class PriceController(Controller):
    path = "/admin/prices"
    tags = ("Administration",)
    guards = (Needs(Scope.ADMIN),)

    @get()
    async def list_prices(
        self,
        list_models: NamedDependency[ListModels],
        model: FromQuery[str | None] = None,
        vendor: FromQuery[str | None] = None,
        unpriced: FromQuery[bool] = False,
        limit: FromQuery[int] = 50,
        cursor: FromQuery[str | None] = None,
    ) -> OffersView:
        """What each vendor's offer of each model costs now; `unpriced` shows only those that have no price."""
        size = checked_limit(limit)
        offers = [
            offer
            for known in list_models.catalog.current().models.values()
            for offer in known.offers
            if (model is None or offer.model == model)
            and (vendor is None or offer.vendor == vendor)
            and (offer.price is None or not unpriced)
            and (cursor is None or _place(offer) > cursor)
        ]
        offers.sort(key=_place)
        return shown_offers(page(offers[: size + 1], size, _place))

    @post()
    async def set_price(
        self,
        data: JSONBody[PriceBody],
        caller: NamedDependency[Caller],
        set_price: NamedDependency[SetPrice],
    ) -> PriceView:
        """Set what one vendor's offer of a model costs from now on, before the markup, per million tokens."""
        wish = PriceWish(
            input=data.input_usd,
            output=data.output_usd,
            cache_read=data.cache_read_usd,
            cache_write_5m=data.cache_write_5m_usd,
            cache_write_1h=data.cache_write_1h_usd,
            reasoning=data.reasoning_usd,
        )
        try:
            price = await set_price(
                data.model,
                wish,
                vendor=data.vendor,
                free=data.free,
                confirmed=data.confirmed,
                author=caller.account.email,
            )
        except InvalidRequest as error:
            if error.param in wish.__struct_fields__:
                error.param = f"{error.param}_usd"
            raise
        return shown_price(price)


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


def _place(offer: Offer) -> str:
    """Where an offer stands in the list; also the cursor that leads on from it."""
    return f"{offer.model} {offer.vendor}"
