"""Stored things held in this process's memory; nothing here awaits, so that every method is one step."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from domain.accounts import Account, AccountStatus, EmailTaken, UnknownAccount, normalised_email
from domain.credits import AlreadyBooked
from domain.ids import AccountId, KeyId, ModelId, PriceId, VendorSlug
from domain.keys import ApiKey, KeyNameTaken, KeyPolicy, Scope, UnknownKey
from domain.markups import Markup, MarkupScope, UnknownMarkup
from domain.ports.catalog import Asked, Override, subject
from domain.ports.repositories import Claim, StoredOutcome
from domain.ports.vendors import ListedModel
from domain.pricing import Price, PriceSource


class MemoryRevisions:
    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    async def read(self) -> Mapping[str, int]:
        return dict(self._numbers)

    def bump(self, topic: str) -> None:
        self._numbers[topic] = self._numbers.get(topic, 0) + 1


class MemoryAccounts:
    def __init__(self, revisions: MemoryRevisions) -> None:
        self._revisions = revisions
        self._by_id: dict[AccountId, Account] = {}
        self._by_email: dict[str, AccountId] = {}

    async def add(self, account: Account) -> None:
        email = normalised_email(account.email)
        if email in self._by_email:
            raise EmailTaken(f"The e-mail address {account.email} has an account. Use another address.", param="email")
        if account.id in self._by_id:
            raise AlreadyBooked(f"The account {account.id} has been added before.")
        if account.parent_id is not None and account.parent_id not in self._by_id:
            raise UnknownAccount(f"The parent account {account.parent_id} does not exist.")
        self._by_id[account.id] = account
        self._by_email[email] = account.id

    async def get(self, account_id: AccountId) -> Account:
        return self.known(account_id)

    async def by_email(self, email: str) -> Account:
        account_id = self._by_email.get(normalised_email(email))
        if account_id is None:
            raise UnknownAccount(f"No account has the e-mail address {email}.")
        return self._by_id[account_id]

    async def list(self, limit: int, after: AccountId | None) -> Sequence[Account]:
        later = sorted(account_id for account_id in self._by_id if after is None or account_id > after)
        return [self._by_id[account_id] for account_id in later[:limit]]

    async def set_status(self, account_id: AccountId, status: AccountStatus) -> None:
        self._by_id[account_id] = replace(self.known(account_id), status=status)
        self._revisions.bump("keys")

    def known(self, account_id: AccountId) -> Account:
        account = self._by_id.get(account_id)
        if account is None:
            raise UnknownAccount(f"The account {account_id} does not exist.")
        return account


class MemoryKeys:
    def __init__(self, accounts: MemoryAccounts, revisions: MemoryRevisions) -> None:
        self._accounts = accounts
        self._revisions = revisions
        self._by_id: dict[KeyId, ApiKey] = {}
        self._by_digest: dict[str, KeyId] = {}

    async def add(self, key: ApiKey) -> None:
        if key.id in self._by_id or key.digest in self._by_digest:
            raise AlreadyBooked(f"The key {key.id} or its secret has been added before.")
        self._accounts.known(key.account_id)
        if key.revoked_at is None:
            self._check_name(key)
        self._by_digest[key.digest] = key.id
        self._keep(key)

    async def by_digest(self, digests: Sequence[str]) -> tuple[ApiKey, Account] | None:
        for digest in digests:
            if digest in self._by_digest:
                key = self._by_id[self._by_digest[digest]]
                return key, self._accounts.known(key.account_id)
        return None

    async def get(self, account_id: AccountId, key_id: KeyId) -> ApiKey:
        return self._known(account_id, key_id)

    async def list(self, account_id: AccountId, limit: int, after: KeyId | None) -> Sequence[ApiKey]:
        own = (key for key in self._unrevoked() if key.account_id == account_id)
        return [key for key in own if after is None or key.id > after][:limit]

    async def revoke(self, account_id: AccountId, key_id: KeyId, at: datetime) -> ApiKey:
        key = self._known(account_id, key_id)
        return self._keep(replace(key, revoked_at=key.revoked_at or at))

    async def change(self, account_id: AccountId, key_id: KeyId, name: str, policy: KeyPolicy) -> ApiKey:
        key = self._known(account_id, key_id)
        if key.revoked_at is not None:
            raise _unknown(key_id)
        changed = replace(key, name=name, policy=policy)
        self._check_name(changed)
        return self._keep(changed)

    async def admins(self) -> Sequence[ApiKey]:
        return [key for key in self._unrevoked() if Scope.ADMIN in key.policy.scopes]

    def _known(self, account_id: AccountId, key_id: KeyId) -> ApiKey:
        key = self._by_id.get(key_id)
        if key is None or key.account_id != account_id:
            raise _unknown(key_id)
        return key

    def _unrevoked(self) -> Iterator[ApiKey]:
        return (key for _, key in sorted(self._by_id.items()) if key.revoked_at is None)

    def _check_name(self, key: ApiKey) -> None:
        for other in self._unrevoked():
            if (other.account_id, other.name) == (key.account_id, key.name) and other.id != key.id:
                raise KeyNameTaken(
                    f"This account has a key named {key.name!r}. Choose another name, or revoke that key.",
                    param="name",
                )

    def _keep(self, key: ApiKey) -> ApiKey:
        self._by_id[key.id] = key
        self._revisions.bump("keys")
        return key


def _unknown(key_id: KeyId) -> UnknownKey:
    return UnknownKey(f"This account has no key {key_id}.")


class MemoryPrices:
    def __init__(self, revisions: MemoryRevisions) -> None:
        self._revisions = revisions
        self._by_id: dict[PriceId, Price] = {}

    async def add(self, price: Price) -> None:
        if price.id in self._by_id:
            raise AlreadyBooked(f"The price {price.id} has been added before; a change is a new version.")
        self._by_id[price.id] = price
        self._revisions.bump("prices")

    async def record(self, versions: Sequence[Price]) -> None:
        for version in versions:
            self._by_id.setdefault(version.id, version)

    async def current(self, at: datetime) -> Sequence[Price]:
        set_by_operator = (price for price in self._oldest_first() if price.source is PriceSource.OPERATOR)
        valid = (price for price in set_by_operator if price.valid_from <= at)
        latest = {(price.vendor, price.model): price for price in valid}
        return [latest[offer] for offer in sorted(latest)]

    async def history(self, vendor: VendorSlug, model: ModelId) -> Sequence[Price]:
        versions = [price for price in self._oldest_first() if (price.vendor, price.model) == (vendor, model)]
        return versions[::-1]

    async def next_change(self, after: datetime) -> datetime | None:
        waiting = (price.valid_from for price in self._by_id.values() if price.source is PriceSource.OPERATOR)
        return min((moment for moment in waiting if moment > after), default=None)

    async def versions(self, ids: Collection[PriceId]) -> Sequence[Price]:
        return [self._by_id[each] for each in ids if each in self._by_id]

    async def latest_recorded(self) -> Sequence[Price]:
        recorded = (price for price in self._oldest_first() if price.source is not PriceSource.OPERATOR)
        latest = {(price.vendor, price.model): price for price in recorded}
        return [latest[offer] for offer in sorted(latest)]

    def _oldest_first(self) -> list[Price]:
        return sorted(self._by_id.values(), key=lambda price: (price.valid_from, price.id))


class MemoryMarkups:
    def __init__(self, revisions: MemoryRevisions) -> None:
        self._revisions = revisions
        self._by_scope: dict[MarkupScope, Markup] = {}

    async def all(self) -> Sequence[Markup]:
        return [self._by_scope[scope] for scope in sorted(self._by_scope)]

    async def put(self, markup: Markup) -> None:
        self._by_scope[markup.scope] = markup
        self._revisions.bump("prices")

    async def remove(self, scope: MarkupScope) -> None:
        if self._by_scope.pop(scope, None) is None:
            raise UnknownMarkup(f"No markup is set for {scope}. 'gatewayz prices markup list' shows those that are.")
        self._revisions.bump("prices")


class MemoryCatalogEntries:
    def __init__(self, revisions: MemoryRevisions) -> None:
        self._revisions = revisions
        self._by_vendor: dict[VendorSlug, tuple[ListedModel, ...]] = {}
        self._listed_at: dict[VendorSlug, datetime] = {}
        self._asked: dict[VendorSlug, tuple[datetime, str | None]] = {}

    async def replace(self, vendor: VendorSlug, models: Sequence[ListedModel], at: datetime) -> None:
        self._listed_at[vendor] = at
        self._asked[vendor] = (at, None)
        if self._by_vendor.get(vendor) != tuple(models):
            self._by_vendor[vendor] = tuple(models)
            self._revisions.bump("catalog")

    async def all(self) -> Mapping[VendorSlug, Sequence[ListedModel]]:
        return dict(self._by_vendor)

    async def asked(self, vendor: VendorSlug, at: datetime, failure: str) -> None:
        self._asked[vendor] = (at, failure)

    async def last_asked(self) -> Mapping[VendorSlug, Asked]:
        return {
            vendor: Asked(at=at, listed_at=self._listed_at.get(vendor), failure=failure)
            for vendor, (at, failure) in self._asked.items()
        }


class MemoryOverrides:
    def __init__(self, revisions: MemoryRevisions) -> None:
        self._revisions = revisions
        self._by_subject: dict[tuple[str, str, str], Override] = {}

    async def all(self) -> Sequence[Override]:
        return [override for _, override in sorted(self._by_subject.items())]

    async def put(self, override: Override, at: datetime, author: str) -> None:
        if self._by_subject.get(subject(override)) != override:
            self._by_subject[subject(override)] = override
            self._revisions.bump("catalog")

    async def remove(self, override: Override) -> bool:
        if self._by_subject.pop(subject(override), None) is None:
            return False
        self._revisions.bump("catalog")
        return True


class _Claimed(Struct, frozen=True):
    """A claim whose lease ends at `expires_at`, or an outcome kept until then."""

    fingerprint: str
    expires_at: datetime
    outcome: StoredOutcome | None = None


class MemoryIdempotency:
    def __init__(self) -> None:
        self._claims: dict[tuple[AccountId, str], _Claimed] = {}

    async def claim(
        self, account_id: AccountId, key: str, fingerprint: str, at: datetime, lease_until: datetime
    ) -> Claim:
        claimed = self._claims.get((account_id, key))
        if claimed is None or claimed.expires_at <= at:
            self._claims[account_id, key] = _Claimed(fingerprint, lease_until)
            return Claim(won=True)
        if claimed.fingerprint != fingerprint:
            return Claim(won=False, same_request=False)
        return Claim(won=False, outcome=claimed.outcome)

    async def finish(
        self, account_id: AccountId, key: str, fingerprint: str, outcome: StoredOutcome, keep_until: datetime
    ) -> None:
        if self._is_running(account_id, key, fingerprint):
            self._claims[account_id, key] = _Claimed(fingerprint, keep_until, outcome)

    async def abandon(self, account_id: AccountId, key: str, fingerprint: str) -> None:
        if self._is_running(account_id, key, fingerprint):
            del self._claims[account_id, key]

    async def forget_before(self, at: datetime, limit: int) -> int:
        expired = [name for name, claimed in self._claims.items() if claimed.expires_at < at]
        oldest = sorted(expired, key=lambda name: self._claims[name].expires_at)[:limit]
        for name in oldest:
            del self._claims[name]
        return len(oldest)

    def _is_running(self, account_id: AccountId, key: str, fingerprint: str) -> bool:
        claimed = self._claims.get((account_id, key))
        return claimed is not None and claimed.outcome is None and claimed.fingerprint == fingerprint
