"""Stored things other than credit: accounts, keys, prices, catalogue entries, idempotent outcomes.

Every method is one transaction of its own.  In it, a method that changes what processes cache also bumps that
topic's revision; `Revisions` tells the others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from domain.accounts import Account, AccountStatus
from domain.ids import AccountId, KeyId, ModelId, PriceId, VendorSlug
from domain.keys import ApiKey, KeyPolicy
from domain.markups import Markup, MarkupScope
from domain.ports.catalog import Asked
from domain.ports.vendors import ListedModel
from domain.pricing import Price


class Accounts(Protocol):
    async def add(self, account: Account) -> None:
        """Raises EmailTaken, AlreadyBooked for a known id, UnknownAccount for a parent that is not there."""
        ...

    async def get(self, account_id: AccountId) -> Account:
        """Raises UnknownAccount."""
        ...

    async def by_email(self, email: str) -> Account:
        """By e-mail, however it is spelt.  Raises UnknownAccount, InvalidRequest for what is no address."""
        ...

    async def list(self, limit: int, after: AccountId | None) -> Sequence[Account]:
        """In order of id."""
        ...

    async def set_status(self, account_id: AccountId, status: AccountStatus) -> None:
        """Raises UnknownAccount.  Bumps the topic "keys"."""
        ...


class Keys(Protocol):
    async def add(self, key: ApiKey) -> None:
        """Bumps the topic "keys".

        Raises AlreadyBooked for a known digest or id, UnknownAccount, and KeyNameTaken where the account has
        an unrevoked key of that name.
        """
        ...

    async def by_digest(self, digests: Sequence[str]) -> tuple[ApiKey, Account] | None:
        """The key of the first known one of these keyed hashes, with its account, in one query.

        Also a revoked key, of an account in any state.
        """
        ...

    async def get(self, account_id: AccountId, key_id: KeyId) -> ApiKey:
        """Also a revoked one.  Raises UnknownKey, also for another account's key."""
        ...

    async def list(self, account_id: AccountId, limit: int, after: KeyId | None) -> Sequence[ApiKey]:
        """Unrevoked ones, in order of id."""
        ...

    async def revoke(self, account_id: AccountId, key_id: KeyId, at: datetime) -> ApiKey:
        """Raises UnknownKey.  Revoking twice keeps the first time.  Bumps the topic "keys"."""
        ...

    async def change(self, account_id: AccountId, key_id: KeyId, name: str, policy: KeyPolicy) -> ApiKey:
        """Raises UnknownKey, also for a revoked key, KeyNameTaken.  Bumps the topic "keys"."""
        ...

    async def admins(self) -> Sequence[ApiKey]:
        """Unrevoked keys with the scope admin:*, of all accounts, in order of id."""
        ...


class Prices(Protocol):
    """The price book: versions are added, never changed."""

    async def add(self, price: Price) -> None:
        """Raises AlreadyBooked for a known id.  Bumps the topic "prices"."""
        ...

    async def current(self, at: datetime) -> Sequence[Price]:
        """For each vendor and model the latest version that an operator set and that is valid at `at`.

        Among equals the later id.
        """
        ...

    async def history(self, vendor: VendorSlug, model: ModelId) -> Sequence[Price]:
        """Newest first, also those that are not valid yet and those that no operator set."""
        ...

    async def next_change(self, after: datetime) -> datetime | None:
        """When the next version that an operator set becomes valid; None where none is waiting."""
        ...

    async def versions(self, ids: Collection[PriceId]) -> Sequence[Price]:
        """Those of these that are known."""
        ...


class Markups(Protocol):
    """What is put on top of vendors' prices; one rule for each scope."""

    async def all(self) -> Sequence[Markup]:
        """In order of scope."""
        ...

    async def put(self, markup: Markup) -> None:
        """Replaces the rule of the same scope.  Bumps the topic "prices"."""
        ...

    async def remove(self, scope: MarkupScope) -> None:
        """Raises UnknownMarkup.  Bumps the topic "prices"."""
        ...


class PriceVersions(Protocol):
    """Where versions are kept that no operator set: from vendors' lists, the library and the sandbox."""

    async def record(self, prices: Sequence[Price]) -> None:
        """Keep them, so that charges made by them can be rated again; those whose id is known are skipped.

        `Prices.current` does not answer with them.  Bumps nothing.
        """
        ...

    async def latest_recorded(self) -> Sequence[Price]:
        """For each vendor and model the version that was recorded last."""
        ...


class CatalogEntries(Protocol):
    """The last good models list of every vendor, so that a restart does not begin empty."""

    async def replace(self, vendor: VendorSlug, models: Sequence[ListedModel], at: datetime) -> None:
        """The vendor has sent this list.  Bumps the topic "catalog" if anything changed."""
        ...

    async def all(self) -> Mapping[VendorSlug, Sequence[ListedModel]]:
        """A list that has not changed since the last call is the same object."""
        ...

    async def asked(self, vendor: VendorSlug, at: datetime, failure: str) -> None:
        """The vendor was asked for its list in vain; `failure` says why none came."""
        ...

    async def last_asked(self) -> Mapping[VendorSlug, Asked]: ...


class Revisions(Protocol):
    """A counter per topic: who caches something compares it to learn of changes made by other processes."""

    async def read(self) -> Mapping[str, int]:
        """Topics that nothing has changed yet are absent."""
        ...


class StoredOutcome(Struct, frozen=True, kw_only=True):
    """A finished answer kept for a repeated Idempotency-Key."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Claim(Struct, frozen=True, kw_only=True):
    """What became of claiming an idempotency key."""

    won: bool
    """This request is the first; it must finish or abandon the claim."""
    same_request: bool = True
    outcome: StoredOutcome | None = None
    """None while the first request is still running, and for another request."""


class Idempotency(Protocol):
    async def claim(
        self, account_id: AccountId, key: str, fingerprint: str, at: datetime, lease_until: datetime
    ) -> Claim:
        """Insert first, look second.  A claim whose lease ran out, or whose outcome expired, is taken over.

        The lease must outlast the request: `finish` and `abandon` know their claim by its fingerprint alone.
        """
        ...

    async def finish(
        self, account_id: AccountId, key: str, fingerprint: str, outcome: StoredOutcome, keep_until: datetime
    ) -> None:
        """Does nothing where the claim has been finished, or taken over by another request."""
        ...

    async def abandon(self, account_id: AccountId, key: str, fingerprint: str) -> None:
        """The request led to nothing that must be repeated: the next one with this key runs.

        Does nothing where the claim has been finished, or taken over by another request.
        """
        ...

    async def forget_before(self, at: datetime, limit: int) -> int:
        """Remove outcomes kept, and claims leased, until before `at`, oldest first; returns how many."""
        ...
