"""The first start: an account and a key for whoever runs this gateway.

Everything is named after what it is for, so that starting again, or starting twice at once, adds nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import Struct

from application.keys import new_key
from domain.accounts import Account, EmailTaken, UnknownAccount
from domain.credits import AlreadyBooked, Lot, Source
from domain.ids import AccountId, KeyId, LotId
from domain.keys import (
    ADMIN_KEY_SCOPES,
    SECRET_BYTES,
    Environment,
    KeyNameTaken,
    KeyPolicy,
    KeyRing,
    Secret,
    compose_secret,
)
from domain.ledger import GrantCredit
from domain.money import ZERO, Usd
from domain.ports.clock import Clock, IdSource
from domain.ports.ledger import Ledger
from domain.ports.repositories import Accounts, Keys

FIRST_KEY_NAME = "First admin key"
PLAY_CREDIT = Usd.parse("10")
"""What a development gateway starts with, so that its first call works."""


class FirstStart(Struct, frozen=True):
    account: Account
    secret: Secret | None
    """The admin key that was made just now; it cannot be shown again."""
    revoked: bool = False
    """The key in the settings was revoked, and stays so."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    accounts: Accounts
    keys: Keys
    ledger: Ledger
    ring: KeyRing
    clock: Clock
    ids: IdSource
    random_bytes: Callable[[int], bytes]
    admin_email: str
    admin_key: Secret | None
    """From the settings, used as it is."""
    play_credit: Usd = ZERO

    async def __call__(self) -> FirstStart:
        account = await self._admin_account()
        if self.play_credit:
            await self._grant_play_credit(account.id)
        if self.admin_key:
            return await self._with_given_key(account, self.admin_key)
        return FirstStart(account, await self._made_key(account.id))

    async def _admin_account(self) -> Account:
        with contextlib.suppress(UnknownAccount):
            return await self.accounts.by_email(self.admin_email)
        account = Account(
            id=AccountId(self.ids.fresh()),
            email=self.admin_email,
            name="Administrator",
            created_at=self.clock.now(),
        )
        try:
            await self.accounts.add(account)
        except EmailTaken:
            return await self.accounts.by_email(self.admin_email)
        return account

    async def _grant_play_credit(self, account_id: AccountId) -> None:
        lot = Lot(
            id=LotId(f"promotion:development:{account_id}"),
            source=Source.PROMOTION,
            granted=self.play_credit,
            free=self.play_credit,
            granted_at=self.clock.now(),
        )
        operation = GrantCredit(account_id=account_id, lot=lot, reason="to try the gateway")
        with contextlib.suppress(AlreadyBooked):
            await asyncio.shield(self.ledger.submit(operation))

    async def _with_given_key(self, account: Account, secret: Secret) -> FirstStart:
        known = await self.keys.by_digest(tuple(self.ring.digests(secret.text)))
        if known is None:
            # Named by its hash, so that a key that changed stands beside the one before it.
            digest = self.ring.digest(secret.text)[1]
            with contextlib.suppress(AlreadyBooked, KeyNameTaken):
                await self._add(account.id, f"Admin key from the settings ({digest[:8]})", secret)
            return FirstStart(account, None)
        return FirstStart(account, None, revoked=known[0].revoked_at is not None)

    async def _made_key(self, account_id: AccountId) -> Secret | None:
        if await self.keys.admins():
            return None
        secret = compose_secret(Environment.LIVE, self.random_bytes(SECRET_BYTES))
        try:
            await self._add(account_id, FIRST_KEY_NAME, secret)
        except KeyNameTaken:
            # Another process was first, and has told its key.
            return None
        return secret

    async def _add(self, account_id: AccountId, name: str, secret: Secret) -> None:
        key = new_key(
            id=KeyId(self.ids.fresh()),
            account_id=account_id,
            name=name,
            environment=Environment.LIVE,
            secret=secret,
            policy=KeyPolicy(scopes=ADMIN_KEY_SCOPES),
            ring=self.ring,
            at=self.clock.now(),
            bootstrap=True,
        )
        await self.keys.add(key)
