"""What a key may do, in which order it is asked, and what its secret gives away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.errors import DomainError, InvalidRequest
from domain.ids import AccountId, KeyId
from domain.keys import (
    ADMIN_KEY_SCOPES,
    SECRET_BYTES,
    AccountSuspended,
    ApiKey,
    Budget,
    BudgetPeriod,
    Environment,
    InvalidKey,
    KeyExpired,
    KeyNotAllowed,
    KeyPolicy,
    KeyRing,
    Scope,
    Secret,
    check_grantable,
    check_key,
    check_model,
    checked_policy,
    compose_secret,
    model_allowed,
    shown_prefix,
)
from domain.ledger import KeyCap
from domain.money import Usd

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOME = "203.0.113.7"


def key(policy: KeyPolicy | None = None, revoked_at: datetime | None = None) -> ApiKey:
    return ApiKey(
        id=KeyId("k"),
        account_id=AccountId("ann"),
        name="k",
        environment=Environment.LIVE,
        prefix="gw_live_Ab3d",
        last4="wxyz",
        pepper_id="v1",
        digest="d",
        policy=policy or KeyPolicy(),
        created_at=NOON,
        revoked_at=revoked_at,
    )


def check(
    policy: KeyPolicy | None = None,
    *,
    revoked_at: datetime | None = None,
    account_active: bool = True,
    address: str | None = HOME,
    referrer: str | None = None,
    scope: Scope = Scope.INFERENCE,
) -> None:
    check_key(
        key(policy, revoked_at),
        account_active=account_active,
        at=NOON,
        address=address,
        referrer=referrer,
        scope=scope,
    )


# Order

EVERYTHING_WRONG: dict[str, Any] = {
    "revoked_at": NOON,
    "account_active": False,
    "address": "198.51.100.1",
    "referrer": "https://evil.example",
    "scope": Scope.ADMIN,
}
STRICT: dict[str, Any] = {"expires_at": NOON, "addresses": (HOME,), "referrers": ("app.example.com",)}
ORDER: list[tuple[type[DomainError], str, dict[str, Any], tuple[str, ...]]] = [
    (InvalidKey, "revoked", {"revoked_at": None}, ()),
    (AccountSuspended, "suspended", {"account_active": True}, ()),
    (KeyExpired, "expired", {}, ("expires_at",)),
    (KeyNotAllowed, "address", {"address": HOME}, ()),
    (KeyNotAllowed, "pages of evil.example", {"referrer": "https://app.example.com/chat"}, ()),
    (KeyNotAllowed, "scope", {"scope": Scope.INFERENCE}, ()),
]


def test_a_key_with_everything_wrong_is_told_the_reasons_in_order():
    circumstances, policy = dict(EVERYTHING_WRONG), dict(STRICT)
    for refusal, said, cure, dropped in ORDER:
        with pytest.raises(refusal, match=said) as told:
            check(KeyPolicy(**policy), **circumstances)
        assert type(told.value) is refusal
        circumstances |= cure
        policy = {name: value for name, value in policy.items() if name not in dropped}
    check(KeyPolicy(**policy), **circumstances)


def test_a_key_expires_at_its_moment_not_after_it():
    check(KeyPolicy(expires_at=NOON + timedelta(microseconds=1)))
    with pytest.raises(KeyExpired):
        check(KeyPolicy(expires_at=NOON))


def test_a_revocation_counts_from_its_moment():
    check(revoked_at=NOON + timedelta(seconds=1))
    with pytest.raises(InvalidKey):
        check(revoked_at=NOON)


@pytest.mark.parametrize("scope", Scope)
def test_every_scope_is_asked_for_by_name(scope):
    check(KeyPolicy(scopes=frozenset({scope})), scope=scope)
    with pytest.raises(KeyNotAllowed, match=scope):
        check(KeyPolicy(scopes=ADMIN_KEY_SCOPES - {scope}), scope=scope)


# Addresses

ALLOWED_ADDRESSES = [
    ("203.0.113.7", "203.0.113.7"),
    ("203.0.113.0/24", "203.0.113.7"),
    ("203.0.113.9/24", "203.0.113.7"),
    (" 203.0.113.7 ", "203.0.113.7"),
    ("203.0.113.7", "::ffff:203.0.113.7"),
    ("::ffff:203.0.113.0/120", "203.0.113.7"),
    ("::ffff:203.0.113.7", "::ffff:203.0.113.7"),
    ("2001:db8::/32", "2001:db8::1"),
    ("2001:DB8::1", "2001:db8:0:0:0:0:0:1"),
    ("0.0.0.0/0", "203.0.113.7"),
]
REFUSED_ADDRESSES = [
    ("203.0.113.7", "203.0.113.70"),
    ("203.0.113.0/24", "203.0.114.7"),
    ("2001:db8::/32", "203.0.113.7"),
    ("0.0.0.0/0", "2001:db8::1"),
    ("::/0", "203.0.113.7"),
    ("203.0.113.7", None),
    ("203.0.113.7", ""),
    ("203.0.113.7", "unknown"),
    ("203.0.113.7", "0313.0.113.7"),
    ("203.0.113.7", "3405803783"),
]


@pytest.mark.parametrize(("allowed", "address"), ALLOWED_ADDRESSES)
def test_an_address_is_allowed_however_it_is_written(allowed, address):
    check(KeyPolicy(addresses=("192.0.2.1", allowed)), address=address)


@pytest.mark.parametrize(("allowed", "address"), REFUSED_ADDRESSES)
def test_any_other_address_is_refused(allowed, address):
    with pytest.raises(KeyNotAllowed, match="address"):
        check(KeyPolicy(addresses=(allowed,)), address=address)


# Referrers


@pytest.mark.parametrize(
    ("allowed", "referrer"),
    [
        ("app.example.com", "https://app.example.com/chat?x=1"),
        ("App.Example.com", "https://APP.example.COM"),
        ("*.example.com", "https://app.example.com:8443/"),
        ("*.example.com", "http://deep.app.example.com"),
    ],
)
def test_a_page_of_an_allowed_host_may_use_the_key(allowed, referrer):
    check(KeyPolicy(referrers=(allowed,)), referrer=referrer)


@pytest.mark.parametrize(
    ("allowed", "referrer"),
    [
        ("app.example.com", None),
        ("app.example.com", ""),
        ("app.example.com", "app.example.com"),
        ("app.example.com", "https://app.example.com.evil.example/"),
        ("app.example.com", "https://app.example.com@evil.example/"),
        ("app.example.com", "https://sub.app.example.com/"),
        ("*.example.com", "https://example.com/"),
        ("*.example.com", "https://evilexample.com/"),
        ("*.example.com", "https://[::1"),
    ],
)
def test_any_other_page_may_not(allowed, referrer):
    with pytest.raises(KeyNotAllowed, match="pages"):
        check(KeyPolicy(referrers=(allowed,)), referrer=referrer)


# Models


@pytest.mark.parametrize(
    ("patterns", "model", "allowed"),
    [
        ((), "acme/one", True),
        (("acme/one",), "acme/one", True),
        (("acme/*",), "acme/one", True),
        (("acme/?ne", "x"), "acme/one", True),
        (("*one*",), "acme/one:free", True),
        (("acme/one",), "acme/One", False),
        (("acme/*",), "other/acme/one", False),
        (("acme",), "acme/one", False),
        (("acme/[!o]*",), "acme/one", False),
    ],
)
def test_models_are_allowed_by_globs(patterns, model, allowed):
    policy = KeyPolicy(models=patterns)
    assert model_allowed(policy, model) is allowed
    if not allowed:
        with pytest.raises(KeyNotAllowed, match=patterns[0].replace("*", r"\*").replace("[", r"\[")):
            check_model(policy, model)


# What can be enforced

UNUSABLE = [
    (KeyPolicy(requests_max=0), "max_requests"),
    (KeyPolicy(budget=Budget(amount=Usd(0))), "budget_usd"),
    (KeyPolicy(budget=Budget(amount=Usd(-1))), "budget_usd"),
    (KeyPolicy(budget=Budget(amount=Usd(1), time_zone="Mars/Olympus")), "time_zone"),
    (KeyPolicy(budget=Budget(amount=Usd(1), time_zone="")), "time_zone"),
    (KeyPolicy(budget=Budget(amount=Usd(1), time_zone="../../etc/passwd")), "time_zone"),
    (KeyPolicy(addresses=("10.0.0.0/33",)), "addresses"),
    (KeyPolicy(addresses=("localhost",)), "addresses"),
    (KeyPolicy(models=("",)), "models"),
    (KeyPolicy(models=("x" * 201,)), "models"),
    (KeyPolicy(referrers=("https://app.example.com",)), "referrers"),
    (KeyPolicy(referrers=("*",)), "referrers"),
    (KeyPolicy(referrers=("",)), "referrers"),
]


@pytest.mark.parametrize(("policy", "param"), UNUSABLE)
def test_a_policy_that_cannot_be_enforced_is_refused_with_its_field(policy, param):
    with pytest.raises(InvalidRequest) as refusal:
        checked_policy(policy)
    assert refusal.value.param == param


globs = st.text("ab*?", min_size=1, max_size=6)
names = st.text("ab", min_size=1, max_size=6)


@example(["?"], ["*"], "ab")
@given(st.lists(globs, min_size=1, max_size=3), st.lists(globs, min_size=1, max_size=3), names)
def test_a_key_never_reaches_a_model_that_its_maker_does_not(maker, made, model):
    made_policy, maker_policy = KeyPolicy(models=tuple(made)), KeyPolicy(models=tuple(maker))
    try:
        check_grantable(maker_policy, made_policy)
    except DomainError:
        return
    if model_allowed(made_policy, model):
        assert model_allowed(maker_policy, model)


scopes = st.frozensets(st.sampled_from(list(Scope)))


@given(scopes, scopes)
def test_a_key_never_gives_a_scope_that_it_lacks(maker, made):
    try:
        check_grantable(KeyPolicy(scopes=maker), KeyPolicy(scopes=made))
    except KeyNotAllowed:
        assert made - maker
    else:
        assert made <= maker


# Secrets


@given(st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES), st.sampled_from(list(Environment)))
def test_a_secret_says_what_it_is_for_and_fits_a_header(random, environment):
    secret = compose_secret(environment, random)
    assert secret.text.startswith(f"gw_{environment}_")
    assert len(secret.text) == len(f"gw_{environment}_") + 43
    assert secret.text.isascii()
    assert shown_prefix(secret) == secret.text[: len(f"gw_{environment}_") + 4]


def test_a_foreign_secret_shows_four_characters():
    assert shown_prefix(Secret("our-own-key-of-the-operator")) == "our-"


def test_a_secret_is_made_of_enough_randomness():
    with pytest.raises(ValueError, match="32"):
        compose_secret(Environment.LIVE, b"short")


def test_printing_gives_no_secret_away():
    secret = Secret("gw_live_very-secret")
    assert "very-secret" not in f"{secret} {secret!r} {[secret]}"
    assert "pppp" not in repr(KeyRing({"v1": b"p" * 32}))


def test_a_new_pepper_hashes_new_keys_and_the_old_one_still_finds_old_ones():
    before = KeyRing({"v1": b"p" * 32})
    after = KeyRing({"v2": b"q" * 32, "v1": b"p" * 32})
    pepper_id, digest = before.digest("secret")
    assert pepper_id == "v1"
    assert after.digest("secret")[0] == "v2"
    assert list(after.digests("secret")) == [after.digest("secret")[1], digest]


def test_a_hash_is_not_one_of_another_pepper_or_of_the_bare_secret():
    digests = {KeyRing({"v": bytes([number]) * 32}).digest("secret")[1] for number in range(50)}
    assert len(digests) == 50


def test_a_ring_needs_a_pepper():
    with pytest.raises(ValueError, match="at least one"):
        KeyRing({})


def test_any_text_can_be_hashed():
    assert KeyRing({"v1": b"p" * 32}).digest("\udc80\x00é")


# Budgets


def starts(period: BudgetPeriod, time_zone: str, at: datetime) -> datetime:
    start = Budget(amount=Usd(1), period=period, time_zone=time_zone).period_start(at)
    assert start is not None
    return start


@pytest.mark.parametrize(
    ("period", "start"),
    [
        (BudgetPeriod.DAY, datetime(2026, 3, 9, 23, tzinfo=UTC)),
        (BudgetPeriod.WEEK, datetime(2026, 3, 8, 23, tzinfo=UTC)),
        (BudgetPeriod.MONTH, datetime(2026, 2, 28, 23, tzinfo=UTC)),
    ],
)
def test_a_period_starts_at_midnight_of_its_time_zone(period, start):
    assert starts(period, "Europe/Berlin", NOON) == start


def test_a_budget_without_a_period_never_starts_anew():
    assert Budget(amount=Usd(1)).period_start(NOON) is None


@pytest.mark.parametrize(
    ("time_zone", "midnight", "hours"),
    [
        ("Europe/Berlin", datetime(2026, 3, 28, 23, tzinfo=UTC), 23),
        ("Europe/Berlin", datetime(2026, 10, 24, 22, tzinfo=UTC), 25),
        ("Africa/Cairo", datetime(2026, 4, 23, 22, tzinfo=UTC), 23),
        ("America/Havana", datetime(2026, 11, 1, 4, tzinfo=UTC), 25),
        ("Asia/Kathmandu", datetime(2026, 3, 9, 18, 15, tzinfo=UTC), 24),
    ],
)
def test_a_day_is_one_period_however_long_the_clocks_make_it(time_zone, midnight, hours):
    quarters = (midnight + timedelta(minutes=15) * count for count in range(hours * 4))
    assert {starts(BudgetPeriod.DAY, time_zone, at) for at in quarters} == {midnight}
    after = midnight + timedelta(hours=hours)
    assert starts(BudgetPeriod.DAY, time_zone, after) == after


@given(
    st.timedeltas(timedelta(0), timedelta(days=3650)).map(lambda span: NOON + span),
    st.sampled_from(list(BudgetPeriod)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/Havana", "Africa/Cairo", "Australia/Lord_Howe"]),
)
def test_a_period_has_begun_and_begins_where_it_begins(at, period, time_zone):
    start = starts(period, time_zone, at)
    assert start <= at
    assert starts(period, time_zone, start) == start


# What the ledger counts


def test_only_a_capped_key_is_counted():
    assert key().cap(NOON) is None
    assert key(KeyPolicy(models=("acme/*",))).cap(NOON) is None


def test_a_cap_says_what_is_counted_and_since_when():
    assert key(KeyPolicy(requests_max=3)).cap(NOON) == KeyCap(key_id=KeyId("k"), requests_max=3)
    budget = Budget(amount=Usd(5), period=BudgetPeriod.DAY)
    midnight = datetime(2026, 3, 10, tzinfo=UTC)
    assert key(KeyPolicy(budget=budget)).cap(NOON) == KeyCap(key_id=KeyId("k"), budget=Usd(5), period_start=midnight)
