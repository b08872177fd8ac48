"""Use cases about accounts: opening, finding, suspending and restoring them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from application.keys import check_other_admin
from application.pages import Page, checked_limit, page
from domain.accounts import Account, AccountStatus, UnknownAccount, normalised_email
from domain.errors import InvalidRequest
from domain.ids import AccountId
from domain.ports.clock import Clock, IdSource
from domain.ports.repositories import Accounts, Keys

NAME_LENGTH_MAX = 200
ADMIN = "admin"
"""What an operator may write instead of the first account's e-mail address."""


@dataclass(frozen=True, slots=True)
class CreateAccount:
    accounts: Accounts
    clock: Clock
    ids: IdSource

    async def __call__(self, email: str, name: str = "") -> Account:
        """Raises InvalidRequest, EmailTaken."""
        normalised_email(email)
        if len(name.strip()) > NAME_LENGTH_MAX:
            raise InvalidRequest(f"A name has at most {NAME_LENGTH_MAX} characters.", param="name")
        account = Account(
            id=AccountId(self.ids.fresh()),
            email=email.strip(),
            name=name.strip(),
            created_at=self.clock.now(),
        )
        await self.accounts.add(account)
        return account


@dataclass(frozen=True, slots=True)
class ListAccounts:
    accounts: Accounts

    async def __call__(self, limit: int = 50, cursor: str | None = None) -> Page[Account]:
        """All accounts, oldest first."""
        rows = await self.accounts.list(checked_limit(limit) + 1, AccountId(cursor) if cursor else None)
        return page(rows, limit, lambda account: account.id)


@dataclass(frozen=True, slots=True)
class FindAccount:
    accounts: Accounts
    admin_email: str

    async def __call__(self, word: str) -> Account:
        """By id, by e-mail address, or by the word "admin".  Raises UnknownAccount, InvalidRequest."""
        if word == ADMIN:
            try:
                return await self.accounts.by_email(self.admin_email)
            except UnknownAccount:
                raise UnknownAccount(
                    f"There is no administrator {self.admin_email} yet. Start the gateway once; it makes one."
                ) from None
        if "@" in word:
            return await self.accounts.by_email(word)
        return await self.accounts.get(AccountId(word))


@dataclass(frozen=True, slots=True)
class SuspendAccount:
    accounts: Accounts
    keys: Keys
    clock: Clock
    keys_changed: Callable[[], None]
    """Makes this process forget what it remembers of keys; the others learn of it by the revision."""

    async def __call__(self, account_id: AccountId) -> None:
        """Refuse all its keys from now on.  Raises UnknownAccount, LastAdminKey."""
        await self.accounts.get(account_id)
        if any(key.account_id == account_id for key in await self.keys.admins()):
            await check_other_admin(self.keys, self.clock.now(), lambda key: key.account_id != account_id)
        await self.accounts.set_status(account_id, AccountStatus.SUSPENDED)
        self.keys_changed()


@dataclass(frozen=True, slots=True)
class RestoreAccount:
    accounts: Accounts
    keys_changed: Callable[[], None]

    async def __call__(self, account_id: AccountId) -> None:
        """Raises UnknownAccount."""
        await self.accounts.set_status(account_id, AccountStatus.ACTIVE)
        self.keys_changed()
