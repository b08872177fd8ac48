"""The first start makes an administrator, and every later one nothing."""

from __future__ import annotations

import asyncio

import pytest

from application.bootstrap import PLAY_CREDIT
from domain.keys import ADMIN_KEY_SCOPES, InvalidKey, Scope
from domain.money import ZERO
from tests.fakes.gateway import Gateway

pytestmark = pytest.mark.anyio

GIVEN = "our-own-key-of-the-operator-0123456789"


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


async def may_administer(gateway: Gateway, secret: str) -> bool:
    gateway.authenticate.forget_all()
    try:
        await gateway.authenticate(secret, address=None, referrer=None, scope=Scope.ADMIN)
    except InvalidKey:
        return False
    return True


async def test_the_first_start_tells_an_admin_key_once(gateway):
    first = await gateway.bootstrap()()
    assert first.account.email == "admin@localhost"
    assert first.secret is not None
    assert await may_administer(gateway, first.secret.text)
    again = await gateway.bootstrap()()
    assert again.account == first.account
    assert again.secret is None
    (key,) = await gateway.keys.admins()
    assert key.bootstrap
    assert key.policy.scopes == ADMIN_KEY_SCOPES


async def test_starts_that_race_make_one_account_and_one_key(gateway):
    starts = await asyncio.gather(*(gateway.bootstrap(play_credit=PLAY_CREDIT)() for _ in range(10)))
    assert len({start.account.id for start in starts}) == 1
    assert len([start for start in starts if start.secret]) == 1
    assert len(await gateway.keys.admins()) == 1
    assert await gateway.spendable(starts[0].account.id) == PLAY_CREDIT


async def test_a_given_key_is_used_as_it_is_and_never_told(gateway):
    for _ in range(2):
        assert (await gateway.bootstrap(GIVEN)()).secret is None
    assert await may_administer(gateway, GIVEN)
    assert len(await gateway.keys.admins()) == 1


async def test_a_given_key_that_changed_is_added(gateway):
    await gateway.bootstrap(GIVEN)()
    await gateway.bootstrap(f"{GIVEN}-new")()
    assert await may_administer(gateway, GIVEN)
    assert await may_administer(gateway, f"{GIVEN}-new")


async def test_a_given_key_that_was_revoked_stays_so(gateway):
    first = await gateway.bootstrap(GIVEN)()
    await gateway.bootstrap(f"{GIVEN}-new")()
    (old,) = [key for key in await gateway.keys.admins() if key.last4 == GIVEN[-4:]]
    await gateway.revoke_key(first.account.id, old.id)
    assert (await gateway.bootstrap(GIVEN)()).revoked
    assert not await may_administer(gateway, GIVEN)


async def test_no_key_is_made_where_an_administrator_has_one(gateway):
    await gateway.admin()
    assert (await gateway.bootstrap()()).secret is None


async def test_only_a_development_gateway_plays_with_credit(gateway):
    serious = await gateway.bootstrap()()
    assert await gateway.spendable(serious.account.id) == ZERO


async def test_play_credit_is_given_once(gateway):
    starts = [await gateway.bootstrap(play_credit=PLAY_CREDIT)() for _ in range(3)]
    assert await gateway.spendable(starts[0].account.id) == PLAY_CREDIT
