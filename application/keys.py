"""Use cases about API keys: who is calling, and making, showing, changing and revoking keys.

`Authenticate` is on the path of every request.  It remembers a key, its account and its limits under the full
keyed hash of the secret; whatever may differ between two requests (time, address, scope) is checked on each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import asdict, replace

from application.pages import Page, checked_limit, page
from application.recent import Recent
from domain.access import Caller, subjects
from domain.accounts import AccountStatus
from domain.errors import InvalidRequest
from domain.ids import AccountId, KeyId
from domain.keys import (
    NEW_KEY_SCOPES,
    SECRET_BYTES,
    ApiKey,
    Budget,
    Environment,
    InvalidKey,
    KeyPolicy,
    KeyRing,
    LastAdminKey,
    Scope,
    Secret,
    check_grantable,
    check_key,
    checked_name,
    checked_policy,
    compose_secret,
    shown_prefix,
)
from domain.limits import LimitSet, Subject, Window
from domain.ports.clock import Clock, IdSource
from domain.ports.limiter import Limiter
from domain.ports.repositories import Keys

KNOWN_MAX = 50_000
KNOWN_TTL_S = 30.0
UNKNOWN_MAX = 10_000
UNKNOWN_TTL_S = 2.0
FAILURES_PERIOD_S = 900


@dataclass(frozen=True, slots=True)
class Authenticate:
    keys: Keys
    ring: KeyRing
    limiter: Limiter
    clock: Clock
    account_limits: LimitSet
    """Of accounts that have none of their own."""
    failures_max: int
    """Refused keys in fifteen minutes, per client address."""
    _known: Recent[str, Caller] = field(default_factory=lambda: Recent(KNOWN_MAX, KNOWN_TTL_S), init=False)
    _unknown: Recent[str, bool] = field(default_factory=lambda: Recent(UNKNOWN_MAX, UNKNOWN_TTL_S), init=False)
    _flights: dict[str, asyncio.Task[Caller | None]] = field(default_factory=dict, init=False, repr=False)
    """Lookups under way, one per digest however many requests wait for it."""

    async def __call__(self, secret: str, *, address: str | None, referrer: str | None, scope: Scope) -> Caller:
        """Who calls with this secret, if they may do what needs `scope` now.

        Raises InvalidKey, KeyExpired, AccountSuspended, KeyNotAllowed, and RateLimitExceeded to an address
        that has sent too many refused keys.
        """
        try:
            caller = self.lookup(secret) or await self._find(secret)
            self.check(caller, address=address, referrer=referrer, scope=scope)
        except InvalidKey:
            await self.limiter.hit(self._failures_of(address))
            raise
        return caller

    def lookup(self, secret: str) -> Caller | None:
        """The caller if this process has seen the secret lately; nothing is checked, nothing awaited."""
        return self._known.get(self.ring.digest(secret)[1], self.clock.monotonic())

    def check(self, caller: Caller, *, address: str | None, referrer: str | None, scope: Scope) -> None:
        """Raise the first reason why this caller may not do what needs `scope` now."""
        check_key(
            caller.key,
            account_active=caller.account.status is AccountStatus.ACTIVE,
            at=self.clock.now(),
            address=address,
            referrer=referrer,
            scope=scope,
        )

    def forget_all(self) -> None:
        """A key or an account has changed somewhere."""
        self._known.clear()
        self._unknown.clear()
        # Lookups under way may still see the old state: their callers get it, but nobody keeps it.
        self._flights.clear()

    async def _find(self, secret: str) -> Caller:
        """The caller from storage; an unknown secret takes the same hashes and query as a known one."""
        digests = tuple(self.ring.digests(secret))
        digest = digests[0]
        if self._unknown.get(digest, self.clock.monotonic()):
            raise InvalidKey
        flight = self._flights.get(digest)
        if flight is None:
            flight = self._flights[digest] = asyncio.ensure_future(self._fetch(digests))
            flight.add_done_callback(lambda landed: self._landed(digest, landed))
        # Shielded, because a request that is cancelled must not fail the others that wait for the same key.
        caller = await asyncio.shield(flight)
        if caller is None:
            raise InvalidKey
        return caller

    async def _fetch(self, digests: tuple[str, ...]) -> Caller | None:
        found = await self.keys.by_digest(digests)
        if found is None:
            return None
        key, account = found
        return Caller(account=account, key=key, limited_as=subjects(account, key, self.account_limits))

    def _landed(self, digest: str, flight: asyncio.Task[Caller | None]) -> None:
        still_wanted = self._flights.get(digest) is flight
        if still_wanted:
            del self._flights[digest]
        if flight.cancelled() or flight.exception() is not None or not still_wanted:
            return
        if caller := flight.result():
            self._known.put(digest, caller, self.clock.monotonic())
        else:
            self._unknown.put(digest, True, self.clock.monotonic())

    def _failures_of(self, address: str | None) -> Subject:
        limit = self.failures_max
        window = Window("refused_keys_per_15_minutes", limit, FAILURES_PERIOD_S, limit, False)
        return Subject(f"address:refused:{address or 'unknown'}", (window,), 0)


class Issued(Struct, frozen=True):
    """A new key, and its secret, which is told this once."""

    key: ApiKey
    secret: Secret


@dataclass(frozen=True, slots=True)
class IssueKey:
    keys: Keys
    ring: KeyRing
    clock: Clock
    ids: IdSource
    random_bytes: Callable[[int], bytes]

    async def __call__(
        self,
        account_id: AccountId,
        name: str,
        *,
        environment: Environment = Environment.LIVE,
        policy: KeyPolicy | None = None,
        lifetime: timedelta | None = None,
        maker: Caller | None = None,
    ) -> Issued:
        """Make a key; one made by a `maker` can do no more than the maker's own, the operator's shell aside.

        Raises InvalidRequest, KeyNotAllowed, KeyNameTaken.
        """
        now = self.clock.now()
        policy = checked_policy(policy or new_key_policy(maker))
        if lifetime is not None:
            policy = replace(policy, expires_at=now + lifetime)
        if policy.expires_at is not None and policy.expires_at <= now:
            raise InvalidRequest("A key must expire in the future.", param="expires_at")
        if maker:
            check_grantable(maker.key.policy, policy)
        secret = compose_secret(environment, self.random_bytes(SECRET_BYTES))
        key = new_key(
            id=KeyId(self.ids.fresh()),
            account_id=account_id,
            name=checked_name(name),
            environment=environment,
            secret=secret,
            policy=policy,
            ring=self.ring,
            at=now,
        )
        await self.keys.add(key)
        return Issued(key, secret)


def new_key_policy(maker: Caller | None) -> KeyPolicy:
    """What a key gets if nobody says more: inference and the reads, as far as its maker has them."""
    if maker is None:
        return KeyPolicy()
    limits = maker.key.policy
    return KeyPolicy(scopes=NEW_KEY_SCOPES & limits.scopes, expires_at=limits.expires_at, models=limits.models)


def new_key(
    *,
    id: KeyId,
    account_id: AccountId,
    name: str,
    environment: Environment,
    secret: Secret,
    policy: KeyPolicy,
    ring: KeyRing,
    at: datetime,
    bootstrap: bool = False,
) -> ApiKey:
    """A key as it is stored: with the keyed hash of its secret, not with the secret."""
    pepper_id, digest = ring.digest(secret.text)
    return ApiKey(
        id=id,
        account_id=account_id,
        name=name,
        environment=environment,
        prefix=shown_prefix(secret),
        last4=secret.text[-4:],
        pepper_id=pepper_id,
        digest=digest,
        policy=policy,
        created_at=at,
        bootstrap=bootstrap,
    )


@dataclass(frozen=True, slots=True)
class ListKeys:
    keys: Keys

    async def __call__(self, account_id: AccountId, limit: int = 50, cursor: str | None = None) -> Page[ApiKey]:
        """The account's keys that were not revoked, oldest first."""
        rows = await self.keys.list(account_id, checked_limit(limit) + 1, KeyId(cursor) if cursor else None)
        return page(rows, limit, lambda key: key.id)


class KeyChanges(Struct, frozen=True, kw_only=True):
    """What to change of a key; what is not set stays."""

    name: str | UnsetType = UNSET
    scopes: frozenset[Scope] | UnsetType = UNSET
    expires_at: datetime | UnsetType | None = UNSET
    requests_max: int | UnsetType | None = UNSET
    models: tuple[str, ...] | UnsetType = UNSET
    addresses: tuple[str, ...] | UnsetType = UNSET
    referrers: tuple[str, ...] | UnsetType = UNSET
    budget: Budget | UnsetType | None = UNSET
    limits: LimitSet | UnsetType | None = UNSET

    def applied(self, policy: KeyPolicy) -> KeyPolicy:
        changes = {name: value for name, value in asdict(self).items() if value is not UNSET and name != "name"}
        return replace(policy, **changes)


@dataclass(frozen=True, slots=True)
class ChangeKey:
    keys: Keys
    clock: Clock
    keys_changed: Callable[[], None]
    """Makes this process forget what it remembers of keys; the others learn of it by the revision."""

    async def __call__(
        self, account_id: AccountId, key_id: KeyId, changes: KeyChanges, *, maker: Caller | None = None
    ) -> ApiKey:
        """Raises UnknownKey, InvalidRequest, KeyNotAllowed, KeyNameTaken, LastAdminKey."""
        key = await self.keys.get(account_id, key_id)
        policy = checked_policy(changes.applied(key.policy))
        if maker:
            check_grantable(maker.key.policy, key.policy)
            check_grantable(maker.key.policy, policy)
        if Scope.ADMIN in key.policy.scopes and not _is_live_admin(replace(key, policy=policy), self.clock.now()):
            await check_other_admin(self.keys, self.clock.now(), lambda other: other.id != key_id)
        name = key.name if isinstance(changes.name, UnsetType) else checked_name(changes.name)
        changed = await self.keys.change(account_id, key_id, name, policy)
        self.keys_changed()
        return changed


@dataclass(frozen=True, slots=True)
class RevokeKey:
    keys: Keys
    clock: Clock
    keys_changed: Callable[[], None]

    async def __call__(self, account_id: AccountId, key_id: KeyId) -> ApiKey:
        """Revoke for good.  Raises UnknownKey, LastAdminKey."""
        key = await self.keys.get(account_id, key_id)
        now = self.clock.now()
        if key.revoked_at is None and Scope.ADMIN in key.policy.scopes:
            await check_other_admin(self.keys, now, lambda other: other.id != key_id)
        revoked = await self.keys.revoke(account_id, key_id, now)
        self.keys_changed()
        return revoked


async def check_other_admin(keys: Keys, at: datetime, counts: Callable[[ApiKey], bool]) -> None:
    """Raise LastAdminKey where no admin key that `counts` would work now."""
    if not any(counts(key) and _is_live_admin(key, at) for key in await keys.admins()):
        raise LastAdminKey


def _is_live_admin(key: ApiKey, at: datetime) -> bool:
    expires_at = key.policy.expires_at
    return Scope.ADMIN in key.policy.scopes and (expires_at is None or expires_at > at)
