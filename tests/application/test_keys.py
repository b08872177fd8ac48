"""Who calls: looked up once, checked each time; and what may be made of a key, by whom."""

from __future__ import annotations

import asyncio
from dataclasses import replace as replaced
from datetime import timedelta

import pytest
from msgspec.structs import replace

from application.keys import KNOWN_TTL_S, UNKNOWN_TTL_S, KeyChanges
from application.recent import Recent
from domain.accounts import AccountStatus
from domain.errors import InvalidRequest, StorageUnavailable
from domain.ids import AccountId, KeyId
from domain.keys import (
    ADMIN_KEY_SCOPES,
    NEW_KEY_SCOPES,
    AccountSuspended,
    Budget,
    Environment,
    InvalidKey,
    KeyExpired,
    KeyNameTaken,
    KeyNotAllowed,
    KeyPolicy,
    KeyRing,
    LastAdminKey,
    Scope,
    UnknownKey,
)
from domain.limits import LimitSet, RateLimitExceeded, windows
from domain.money import Usd
from tests.fakes.gateway import FAILURES_MAX, OPERATORS_LIMITS, PEPPER, Gateway

pytestmark = pytest.mark.anyio

HOME = "203.0.113.7"


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


async def who(gateway: Gateway, secret: str, scope: Scope = Scope.INFERENCE, address: str | None = HOME):
    return await gateway.authenticate(secret, address=address, referrer=None, scope=scope)


async def test_a_key_tells_whose_it_is(gateway):
    issued = await gateway.customer()
    caller = await who(gateway, issued.secret.text)
    assert caller.key == issued.key
    assert caller.account.email == "ann@example.org"


async def test_storage_is_asked_once_for_a_key(gateway):
    issued = await gateway.customer()
    assert gateway.authenticate.lookup(issued.secret.text) is None
    caller = await who(gateway, issued.secret.text)
    assert gateway.authenticate.lookup(issued.secret.text) is caller
    assert await who(gateway, issued.secret.text) is caller
    assert gateway.keys.lookups == 1


async def test_what_is_remembered_does_not_stay_long(gateway):
    issued = await gateway.customer()
    await who(gateway, issued.secret.text)
    gateway.clock.advance(KNOWN_TTL_S)
    assert gateway.authenticate.lookup(issued.secret.text) is None
    await who(gateway, issued.secret.text)
    assert gateway.keys.lookups == 2


async def test_many_requests_with_a_new_key_ask_storage_once(gateway):
    issued = await gateway.customer()
    callers = await asyncio.gather(*(who(gateway, issued.secret.text) for _ in range(50)))
    assert all(caller is callers[0] for caller in callers)
    assert gateway.keys.lookups == 1


async def test_a_request_that_is_cancelled_fails_no_other_that_waits_for_the_same_key(gateway):
    issued = await gateway.customer()
    go_on = asyncio.Event()
    gateway.keys.answers = go_on.wait
    first = asyncio.create_task(who(gateway, issued.secret.text))
    second = asyncio.create_task(who(gateway, issued.secret.text))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    go_on.set()
    assert (await second).key == issued.key
    assert first.cancelled()


async def test_a_failing_storage_is_told_and_not_remembered(gateway):
    issued = await gateway.customer()

    async def down() -> None:
        raise StorageUnavailable("down")

    gateway.keys.answers = down
    with pytest.raises(StorageUnavailable):
        await who(gateway, issued.secret.text)
    gateway.keys.answers = None
    assert (await who(gateway, issued.secret.text)).key == issued.key


async def test_an_unknown_key_asks_storage_once_in_a_while(gateway):
    for _ in range(3):
        with pytest.raises(InvalidKey):
            await who(gateway, "gw_live_nobody")
    assert gateway.keys.lookups == 1
    gateway.clock.advance(UNKNOWN_TTL_S)
    with pytest.raises(InvalidKey):
        await who(gateway, "gw_live_nobody")
    assert gateway.keys.lookups == 2


async def test_a_known_and_an_unknown_key_take_the_same_lookups(gateway):
    issued = await gateway.customer()
    await who(gateway, issued.secret.text)
    with pytest.raises(InvalidKey):
        await who(gateway, "gw_live_nobody")
    assert gateway.keys.lookups == 2


async def test_keys_that_begin_alike_are_never_taken_for_each_other(gateway):
    issued = await gateway.customer()
    await who(gateway, issued.secret.text)
    other = issued.secret.text[:-1] + ("A" if issued.secret.text[-1] != "A" else "B")
    with pytest.raises(InvalidKey):
        await who(gateway, other)


async def test_after_a_change_somewhere_nothing_is_remembered(gateway):
    issued = await gateway.customer()
    await who(gateway, issued.secret.text)
    await gateway.keys.revoke(issued.key.account_id, issued.key.id, gateway.clock.now())
    gateway.authenticate.forget_all()
    with pytest.raises(InvalidKey, match="revoked"):
        await who(gateway, issued.secret.text)


async def test_an_answer_older_than_a_change_is_not_kept(gateway):
    issued = await gateway.customer()
    go_on = asyncio.Event()
    gateway.keys.answers = go_on.wait
    early = asyncio.create_task(who(gateway, issued.secret.text))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await gateway.keys.revoke(issued.key.account_id, issued.key.id, gateway.clock.now())
    gateway.authenticate.forget_all()
    go_on.set()
    await early
    assert gateway.authenticate.lookup(issued.secret.text) is None
    with pytest.raises(InvalidKey, match="revoked"):
        await who(gateway, issued.secret.text)


async def test_a_key_that_expires_meanwhile_is_refused_although_remembered(gateway):
    expires_at = gateway.clock.now() + timedelta(seconds=5)
    issued = await gateway.customer(policy=KeyPolicy(expires_at=expires_at))
    await who(gateway, issued.secret.text)
    gateway.clock.advance(5)
    with pytest.raises(KeyExpired):
        await who(gateway, issued.secret.text)


async def test_address_and_scope_are_checked_each_time(gateway):
    issued = await gateway.customer(policy=KeyPolicy(addresses=("203.0.113.0/24",)))
    await who(gateway, issued.secret.text)
    with pytest.raises(KeyNotAllowed, match="address"):
        await who(gateway, issued.secret.text, address="198.51.100.1")
    with pytest.raises(KeyNotAllowed, match="scope"):
        await who(gateway, issued.secret.text, Scope.ADMIN)


async def test_a_key_made_before_the_pepper_changed_still_works(gateway):
    issued = await gateway.customer()
    rotated = KeyRing({"v2": b"q" * 32, "v1": PEPPER})
    authenticate = replaced(gateway.authenticate, ring=rotated)
    caller = await authenticate(issued.secret.text, address=HOME, referrer=None, scope=Scope.INFERENCE)
    assert caller.key == issued.key


async def test_an_address_that_sends_too_many_refused_keys_is_told_to_wait(gateway):
    for number in range(FAILURES_MAX):
        with pytest.raises(InvalidKey):
            await who(gateway, f"gw_live_{number}")
    with pytest.raises(RateLimitExceeded) as refusal:
        await who(gateway, "gw_live_another")
    assert refusal.value.retry_after_s == 45
    with pytest.raises(InvalidKey):
        await who(gateway, "gw_live_another", address="198.51.100.1")


async def test_refused_keys_do_not_lock_out_the_right_one_behind_the_same_address(gateway):
    issued = await gateway.customer()
    for number in range(FAILURES_MAX + 5):
        with pytest.raises((InvalidKey, RateLimitExceeded)):
            await who(gateway, f"gw_live_{number}")
    assert (await who(gateway, issued.secret.text)).key == issued.key


async def test_a_key_without_limits_of_its_own_has_the_operators(gateway):
    issued = await gateway.customer()
    key, account = (await who(gateway, issued.secret.text)).limited_as
    assert key.id == f"key:{issued.key.id}"
    assert account.id == f"account:{issued.key.account_id}"
    assert key.windows == account.windows == windows(OPERATORS_LIMITS)
    assert key.concurrent == OPERATORS_LIMITS.concurrent


async def test_a_keys_own_limits_only_lower_its_accounts(gateway):
    own = LimitSet(requests_per_minute=5, requests_per_day=10**9, burst=50, concurrent=1)
    issued = await gateway.customer(policy=KeyPolicy(limits=own))
    key, account = (await who(gateway, issued.secret.text)).limited_as
    by_name = {window.name: window for window in key.windows}
    assert by_name["requests_per_minute"].limit == 5
    assert by_name["requests_per_minute"].burst == 5
    assert by_name["requests_per_day"].limit == OPERATORS_LIMITS.requests_per_day
    assert key.concurrent == 1
    assert account.windows == windows(OPERATORS_LIMITS)


@pytest.mark.parametrize("environment", [Environment.TEST, Environment.STAGING, Environment.DEV])
async def test_a_key_that_is_not_for_live_use_has_half_the_limits(gateway, environment):
    account = await gateway.create_account("ann@example.org")
    issued = await gateway.issue_key(account.id, "half", environment=environment)
    key, _ = (await who(gateway, issued.secret.text)).limited_as
    assert key.windows[0].limit == OPERATORS_LIMITS.requests_per_minute // 2
    assert issued.secret.text.startswith(f"gw_{environment}_")


async def test_only_a_hash_of_a_new_key_is_kept(gateway):
    issued = await gateway.customer()
    assert issued.secret.text not in repr(issued)
    assert issued.key.digest == KeyRing({"v1": PEPPER}).digest(issued.secret.text)[1]
    assert issued.secret.text.startswith(issued.key.prefix)
    assert issued.secret.text.endswith(issued.key.last4)


async def test_a_new_key_may_call_and_read_but_not_write(gateway):
    assert (await gateway.customer()).key.policy.scopes == NEW_KEY_SCOPES


@pytest.mark.parametrize("name", ["", "   ", "n" * 101, "two\nlines"])
async def test_a_key_needs_a_name_that_can_be_shown(gateway, name):
    with pytest.raises(InvalidRequest) as refusal:
        await gateway.issue_key(AccountId("ann"), name)
    assert refusal.value.param == "name"


async def test_two_keys_of_an_account_have_two_names(gateway):
    issued = await gateway.customer()
    with pytest.raises(KeyNameTaken):
        await gateway.issue_key(issued.key.account_id, "first")


async def test_a_key_does_not_expire_before_it_is_made(gateway):
    with pytest.raises(InvalidRequest, match="future"):
        await gateway.customer(policy=KeyPolicy(expires_at=gateway.clock.now()))


@pytest.mark.parametrize(
    ("maker", "made"),
    [
        (KeyPolicy(scopes=NEW_KEY_SCOPES), KeyPolicy(scopes=ADMIN_KEY_SCOPES)),
        (KeyPolicy(budget=Budget(amount=Usd(1))), KeyPolicy()),
        (KeyPolicy(requests_max=5), KeyPolicy()),
        (KeyPolicy(models=("acme/*",)), KeyPolicy()),
        (KeyPolicy(models=("acme/*",)), KeyPolicy(models=("acme/one", "other/one"))),
        (KeyPolicy(models=("acme/?",)), KeyPolicy(models=("acme/*",))),
        (KeyPolicy(models=("*x*",)), KeyPolicy(models=("a[xy]b",))),
    ],
)
async def test_a_key_makes_none_that_can_do_more(gateway, maker, made):
    issued = await gateway.customer(policy=maker)
    caller = await who(gateway, issued.secret.text)
    with pytest.raises(KeyNotAllowed):
        await gateway.issue_key(caller.account_id, "more", policy=made, maker=caller)


async def test_a_key_that_expires_makes_none_that_stays(gateway):
    soon = gateway.clock.now() + timedelta(days=1)
    issued = await gateway.customer(policy=KeyPolicy(expires_at=soon))
    caller = await who(gateway, issued.secret.text)
    with pytest.raises(KeyNotAllowed, match="expire"):
        await gateway.issue_key(caller.account_id, "more", policy=KeyPolicy(), maker=caller)
    made = await gateway.issue_key(caller.account_id, "as long", maker=caller)
    assert made.key.policy.expires_at == soon


async def test_a_key_gives_what_it_has(gateway):
    maker = KeyPolicy(scopes=NEW_KEY_SCOPES | {Scope.KEYS_WRITE}, models=("acme/*",))
    issued = await gateway.customer(policy=maker)
    caller = await who(gateway, issued.secret.text)
    policy = KeyPolicy(scopes=frozenset({Scope.INFERENCE}), models=("acme/one", "acme/t*"))
    made = await gateway.issue_key(caller.account_id, "less", policy=policy, maker=caller)
    assert made.key.policy == policy


async def test_keys_are_listed_page_by_page_without_the_revoked(gateway):
    first = (await gateway.customer()).key
    others = [(await gateway.issue_key(first.account_id, str(number))).key for number in range(4)]
    await gateway.revoke_key(first.account_id, others[0].id)
    one = await gateway.list_keys(first.account_id, limit=2)
    two = await gateway.list_keys(first.account_id, limit=2, cursor=one.next_cursor)
    assert [key.id for key in (*one.items, *two.items)] == [first.id, *(key.id for key in others[1:])]
    assert two.next_cursor is None


@pytest.mark.parametrize("limit", [0, 101])
async def test_a_page_has_a_size(gateway, limit):
    with pytest.raises(InvalidRequest):
        await gateway.list_keys(AccountId("ann"), limit)


async def test_a_revoked_key_is_refused_at_once(gateway):
    issued = await gateway.customer()
    await who(gateway, issued.secret.text)
    revoked = await gateway.revoke_key(issued.key.account_id, issued.key.id)
    assert revoked.revoked_at == gateway.clock.now()
    with pytest.raises(InvalidKey):
        await who(gateway, issued.secret.text)


async def test_another_accounts_key_is_none(gateway):
    ann, bob = await gateway.customer(), await gateway.customer("bob@example.org")
    with pytest.raises(UnknownKey):
        await gateway.revoke_key(bob.key.account_id, ann.key.id)
    with pytest.raises(UnknownKey):
        await gateway.change_key(bob.key.account_id, ann.key.id, KeyChanges(name="mine"))


async def test_the_last_admin_key_stays(gateway):
    boss = (await gateway.admin()).key
    with pytest.raises(LastAdminKey):
        await gateway.revoke_key(boss.account_id, boss.id)
    with pytest.raises(LastAdminKey):
        await gateway.change_key(boss.account_id, boss.id, KeyChanges(scopes=NEW_KEY_SCOPES))
    with pytest.raises(LastAdminKey):
        await gateway.change_key(boss.account_id, boss.id, KeyChanges(expires_at=gateway.clock.now()))
    await gateway.issue_key(boss.account_id, "second", policy=KeyPolicy(scopes=ADMIN_KEY_SCOPES))
    await gateway.revoke_key(boss.account_id, boss.id)


async def test_an_admin_key_that_expired_is_no_other_admin_key(gateway):
    boss = (await gateway.admin()).key
    soon = gateway.clock.now() + timedelta(hours=1)
    policy = KeyPolicy(scopes=ADMIN_KEY_SCOPES, expires_at=soon)
    await gateway.issue_key(boss.account_id, "short", policy=policy)
    gateway.clock.advance(3600)
    with pytest.raises(LastAdminKey):
        await gateway.revoke_key(boss.account_id, boss.id)


async def test_what_is_not_named_of_a_key_stays(gateway):
    policy = KeyPolicy(models=("acme/*",), requests_max=5)
    issued = await gateway.customer(policy=policy)
    changed = await gateway.change_key(issued.key.account_id, issued.key.id, KeyChanges(requests_max=None))
    assert changed.name == "first"
    assert changed.policy == replace(policy, requests_max=None)


async def test_a_change_is_heeded_at_once(gateway):
    issued = await gateway.customer()
    await who(gateway, issued.secret.text)
    changes = KeyChanges(addresses=("198.51.100.1",))
    await gateway.change_key(issued.key.account_id, issued.key.id, changes)
    with pytest.raises(KeyNotAllowed):
        await who(gateway, issued.secret.text)


async def test_a_key_cannot_widen_itself(gateway):
    scopes = NEW_KEY_SCOPES | {Scope.KEYS_WRITE}
    issued = await gateway.customer(policy=KeyPolicy(scopes=scopes, models=("acme/*",)))
    caller = await who(gateway, issued.secret.text)
    for changes in (KeyChanges(scopes=ADMIN_KEY_SCOPES), KeyChanges(models=())):
        with pytest.raises(KeyNotAllowed):
            await gateway.change_key(caller.account_id, issued.key.id, changes, maker=caller)


async def test_a_lesser_key_does_not_change_a_greater_one(gateway):
    boss = await gateway.admin()
    policy = KeyPolicy(scopes=NEW_KEY_SCOPES | {Scope.KEYS_WRITE})
    lesser = await gateway.issue_key(boss.key.account_id, "lesser", policy=policy)
    caller = await who(gateway, lesser.secret.text)
    with pytest.raises(KeyNotAllowed):
        await gateway.change_key(caller.account_id, boss.key.id, KeyChanges(scopes=frozenset()), maker=caller)


async def test_an_unusable_policy_is_refused_with_its_field(gateway):
    with pytest.raises(InvalidRequest) as refusal:
        await gateway.customer(policy=KeyPolicy(addresses=("300.1.1.1",)))
    assert refusal.value.param == "addresses"


async def test_suspending_and_restoring_take_effect_at_once(gateway):
    await gateway.admin()
    issued = await gateway.customer()
    await who(gateway, issued.secret.text)
    await gateway.suspend_account(issued.key.account_id)
    with pytest.raises(AccountSuspended):
        await who(gateway, issued.secret.text)
    await gateway.restore_account(issued.key.account_id)
    caller = await who(gateway, issued.secret.text)
    assert caller.account.status is AccountStatus.ACTIVE


def test_what_was_asked_for_least_lately_is_forgotten_first():
    remembered: Recent[str, int] = Recent(size_max=2, ttl_s=10)
    remembered.put("a", 1, now=0)
    remembered.put("b", 2, now=0)
    assert remembered.get("a", now=1) == 1
    remembered.put("c", 3, now=1)
    assert [remembered.get(key, now=1) for key in "abc"] == [1, None, 3]
    assert len(remembered) == 2


async def test_a_revoked_keys_id_cannot_be_changed(gateway):
    issued = await gateway.customer()
    await gateway.revoke_key(issued.key.account_id, issued.key.id)
    with pytest.raises(UnknownKey):
        await gateway.change_key(issued.key.account_id, KeyId(issued.key.id), KeyChanges(name="new"))
