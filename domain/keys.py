"""API keys: what proves who is calling, and what that caller may do.

A key is a public prefix and 32 random bytes.  Only a keyed hash of it is kept, so that a copy of the database
opens nothing without the pepper.  The order of the checks is part of the design: exists, active, account
active, expiry, max_requests, address, referrer, scope, model, budget; max_requests and budget are counted
where credit is held.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct

from domain.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unauthenticated
from domain.ids import AccountId, KeyId
from domain.ledger import KeyCap
from domain.limits import LimitSet
from domain.money import Usd

SECRET_BYTES = 32
NAME_LENGTH_MAX = 100
_MAPPED_PREFIX = 96
"""The bits of an IPv6 address that say that an IPv4 address follows."""
_HOST_PATTERN = re.compile(r"(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?")


class Scope(StrEnum):
    INFERENCE = "inference"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    ACCOUNT_READ = "account:read"
    ACCOUNT_WRITE = "account:write"
    BILLING = "billing"
    ADMIN = "admin:*"


NEW_KEY_SCOPES = frozenset({Scope.INFERENCE, Scope.KEYS_READ, Scope.ACCOUNT_READ})
ADMIN_KEY_SCOPES = frozenset(Scope)


class Environment(StrEnum):
    LIVE = "live"
    TEST = "test"
    STAGING = "staging"
    DEV = "dev"


class BudgetPeriod(StrEnum):
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class Budget(Struct, frozen=True, kw_only=True):
    """What one key may spend per period; without a period, in all."""

    amount: Usd
    period: BudgetPeriod | None = None
    time_zone: str = "UTC"

    def period_start(self, at: datetime) -> datetime | None:
        if self.period is None:
            return None
        # fold=0: where clocks go back over midnight, the period starts at the first of the two midnights.
        local = at.astimezone(ZoneInfo(self.time_zone)).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        if self.period is BudgetPeriod.WEEK:
            local -= timedelta(days=local.weekday())
        elif self.period is BudgetPeriod.MONTH:
            local = local.replace(day=1)
        return local.astimezone(at.tzinfo)


class KeyPolicy(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the owner of a key has allowed it."""

    scopes: frozenset[Scope] = NEW_KEY_SCOPES
    expires_at: datetime | None = None
    requests_max: int | None = None
    models: tuple[str, ...] = ()
    """Globs over canonical model ids; empty allows all."""
    addresses: tuple[str, ...] = ()
    """Addresses and CIDR networks; empty allows all."""
    referrers: tuple[str, ...] = ()
    """Host names, or "*.host" for its sub-domains; empty allows all."""
    budget: Budget | None = None
    limits: LimitSet | None = None


class ApiKey(Struct, frozen=True, kw_only=True):
    id: KeyId
    account_id: AccountId
    name: str
    environment: Environment
    prefix: str
    """What a key starts with, as shown in lists: "gw_live_Ab3d"."""
    last4: str
    pepper_id: str
    digest: str
    policy: KeyPolicy
    created_at: datetime
    revoked_at: datetime | None = None
    bootstrap: bool = False
    """The first admin key, made from the settings."""

    def cap(self, at: datetime) -> KeyCap | None:
        """The limits that the ledger counts; None where the key has none."""
        budget = self.policy.budget
        if budget is None and self.policy.requests_max is None:
            return None
        return KeyCap(
            key_id=self.id,
            requests_max=self.policy.requests_max,
            budget=budget.amount if budget else None,
            period_start=budget.period_start(at) if budget else None,
        )


class Secret(Struct, frozen=True):
    """A whole key as its owner keeps it; `repr` must not give it away."""

    text: str

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"


class MissingKey(Unauthenticated):
    code = "missing_api_key"

    def __init__(self) -> None:
        super().__init__("No API key was sent. Send it as 'Authorization: Bearer <key>' or as the header 'x-api-key'.")


class InvalidKey(Unauthenticated):
    code = "invalid_api_key"

    def __init__(
        self, why: str = "This API key is not valid. Check that it was copied whole and was not revoked."
    ) -> None:
        super().__init__(why)


class KeyExpired(Unauthenticated):
    code = "key_expired"


class AccountSuspended(Forbidden):
    code = "account_suspended"


class KeyNotAllowed(Forbidden):
    code = "key_not_allowed"


class UnknownKey(NotFound):
    code = "key_not_found"


class KeyNameTaken(Conflict):
    code = "key_name_taken"


class LastAdminKey(Conflict):
    """Without it nobody could administer the gateway."""

    code = "last_admin_key"

    def __init__(self) -> None:
        super().__init__("This is the last key with admin rights. Create another one before you take this one away.")


class KeyRing:
    """The versioned peppers, newest first: new keys are hashed with the first, old ones are still found."""

    def __init__(self, peppers: Mapping[str, bytes]) -> None:
        if not peppers:
            raise ValueError("a key ring needs at least one pepper")
        self._peppers = {pepper_id: _derived(pepper, b"api-keys") for pepper_id, pepper in peppers.items()}
        self._newest = next(iter(self._peppers))

    def digest(self, secret: str) -> tuple[str, str]:
        """The newest pepper's id, and the keyed hash under it."""
        return self._newest, _keyed_hash(self._peppers[self._newest], secret)

    def digests(self, secret: str) -> Iterator[str]:
        """The keyed hash under every pepper, newest first."""
        for pepper in self._peppers.values():
            yield _keyed_hash(pepper, secret)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self._peppers)})"


def _derived(pepper: bytes, purpose: bytes) -> bytes:
    """A key for one purpose alone, so that a value signed for another purpose proves nothing here."""
    return hmac.digest(pepper, b"gatewayz:" + purpose, "sha256")


def _keyed_hash(pepper: bytes, secret: str) -> str:
    return hmac.digest(pepper, secret.encode("utf-8", "surrogatepass"), "sha256").hex()


def compose_secret(environment: Environment, random: bytes) -> Secret:
    """The text of a new key from 32 random bytes."""
    if len(random) != SECRET_BYTES:
        raise ValueError("a key is made of 32 random bytes")
    return Secret(f"gw_{environment}_{urlsafe_b64encode(random).rstrip(b'=').decode()}")


def shown_prefix(secret: Secret) -> str:
    """The part of a key that lists may show: its kind and the first four characters of the random part."""
    kind = "_".join(secret.text.split("_", 2)[:2]) + "_" if secret.text.startswith("gw_") else ""
    return secret.text[: len(kind) + 4]


def checked_name(text: str) -> str:
    """The name, trimmed.  Raises InvalidRequest."""
    name = text.strip()
    if not 0 < len(name) <= NAME_LENGTH_MAX or not name.isprintable():
        raise InvalidRequest(f"A key's name must have 1 to {NAME_LENGTH_MAX} printable characters.", param="name")
    return name


def checked_policy(policy: KeyPolicy) -> KeyPolicy:
    """The policy, if every part of it can be enforced.  Raises InvalidRequest naming the part that cannot."""
    if policy.requests_max is not None and policy.requests_max < 1:
        raise InvalidRequest("max_requests must be at least 1.", param="max_requests")
    if policy.budget is not None:
        if policy.budget.amount.nanos <= 0:
            raise InvalidRequest("A key's budget must be more than zero.", param="budget_usd")
        try:
            ZoneInfo(policy.budget.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise InvalidRequest(
                f"{policy.budget.time_zone!r} is not a time zone; use a name like Europe/Berlin.",
                param="time_zone",
            ) from None
    for text in policy.addresses:
        if _network(text) is None:
            raise InvalidRequest(f"{text!r} is neither an address nor a network.", param="addresses")
    for pattern in policy.models:
        if not pattern or len(pattern) > NAME_LENGTH_MAX * 2:
            raise InvalidRequest("A model pattern must have 1 to 200 characters.", param="models")
    for pattern in policy.referrers:
        if not _HOST_PATTERN.fullmatch(pattern):
            raise InvalidRequest(f"{pattern!r} is no host; write app.example.com or *.example.com.", param="referrers")
    return policy


def check_grantable(maker: KeyPolicy, made: KeyPolicy) -> None:
    """Raise where a key of the policy `made` could do more than the key that makes or changes it."""
    if lacking := made.scopes - maker.scopes:
        raise KeyNotAllowed(f"This API key cannot give the scopes {', '.join(sorted(lacking))}: it lacks them itself.")
    if maker.budget is not None or maker.requests_max is not None:
        raise KeyNotAllowed("This API key has a budget of its own, so that it may not make or change keys.")
    if maker.expires_at is not None and (made.expires_at is None or made.expires_at > maker.expires_at):
        raise KeyNotAllowed(f"A key made with this one must expire by {maker.expires_at:%Y-%m-%dT%H:%M:%SZ} as well.")
    if maker.models and not (made.models and all(_within(maker.models, pattern) for pattern in made.models)):
        raise KeyNotAllowed(f"A key made with this one must be limited to {', '.join(maker.models)} as well.")


def _within(allowed: tuple[str, ...], pattern: str) -> bool:
    """Whether all that `pattern` matches is matched by `allowed`; in doubt it is not."""
    if pattern in allowed:
        return True
    if "[" in pattern:
        return False
    if "*" in pattern or "?" in pattern:
        # A glob is within another one that has only stars if that one matches it as text.
        allowed = tuple(glob for glob in allowed if "?" not in glob and "[" not in glob)
    return any(fnmatchcase(pattern, glob) for glob in allowed)


def check_key(
    key: ApiKey,
    *,
    account_active: bool,
    at: datetime,
    address: str | None,
    referrer: str | None,
    scope: Scope,
) -> None:
    """Raise the first reason why `key` may not do this now."""
    if key.revoked_at is not None and key.revoked_at <= at:
        raise InvalidKey("This API key was revoked. Create another one.")
    if not account_active:
        raise AccountSuspended("This account is suspended. Ask the operator why.")
    policy = key.policy
    if policy.expires_at is not None and policy.expires_at <= at:
        raise KeyExpired(f"This API key expired on {policy.expires_at:%Y-%m-%d}. Create another one.")
    if policy.addresses and not _address_allowed(policy.addresses, address):
        raise KeyNotAllowed(f"This API key may not be used from the address {address or 'unknown'}.")
    if policy.referrers and not _referrer_allowed(policy.referrers, referrer):
        raise KeyNotAllowed(f"This API key may not be used by pages of {_host(referrer) or 'an unknown site'}.")
    if scope not in policy.scopes:
        raise KeyNotAllowed(f"This API key lacks the scope {scope!s}. Use a key that has it.")


def check_model(policy: KeyPolicy, model: str) -> None:
    if not model_allowed(policy, model):
        raise KeyNotAllowed(
            f"This API key may not use the model {model}; it is limited to {', '.join(policy.models)}.",
            param="model",
        )


def model_allowed(policy: KeyPolicy, model: str) -> bool:
    return not policy.models or any(fnmatchcase(model, pattern) for pattern in policy.models)


def _address_allowed(allowed: tuple[str, ...], address: str | None) -> bool:
    try:
        ip = ip_address(address or "")
    except ValueError:
        return False
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return any(_contains(text, ip) for text in allowed)


def _contains(text: str, ip: IPv4Address | IPv6Address) -> bool:
    network = _network(text)
    return network is not None and ip in network


@lru_cache(maxsize=4096)
def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        network = ip_network(text.strip(), strict=False)
    except ValueError:
        return None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= _MAPPED_PREFIX:
        return IPv4Network((mapped, network.prefixlen - _MAPPED_PREFIX))
    return network


def _referrer_allowed(allowed: tuple[str, ...], referrer: str | None) -> bool:
    host = _host(referrer)
    if not host:
        return False
    return any(
        host.endswith(pattern[1:].lower()) if pattern.startswith("*.") else host == pattern.lower()
        for pattern in allowed
    )


def _host(referrer: str | None) -> str:
    try:
        return (urlsplit(referrer or "").hostname or "").lower()
    except ValueError:
        return ""
