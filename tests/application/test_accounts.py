"""Opening, finding and suspending accounts."""

from __future__ import annotations

import pytest

from domain.accounts import EmailTaken, UnknownAccount
from domain.errors import InvalidRequest
from domain.ids import AccountId
from domain.keys import LastAdminKey
from tests.fakes.gateway import Gateway

pytestmark = pytest.mark.anyio


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


async def test_an_account_is_found_by_id_and_by_any_spelling_of_its_address(gateway):
    ann = await gateway.create_account(" Ann@Example.org ", "Ann")
    assert await gateway.find_account(ann.id) == ann
    assert await gateway.find_account("ann@example.ORG") == ann


async def test_the_word_admin_finds_the_first_account(gateway):
    admin = (await gateway.bootstrap()()).account
    assert await gateway.find_account("admin") == admin


@pytest.mark.parametrize("word", ["nobody", "nobody@example.org", "admin"])
async def test_nobody_is_found_where_nobody_is(gateway, word):
    with pytest.raises(UnknownAccount):
        await gateway.find_account(word)


async def test_one_address_has_one_account(gateway):
    await gateway.create_account("ann@example.org")
    with pytest.raises(EmailTaken):
        await gateway.create_account("ANN@example.org")


@pytest.mark.parametrize("email", ["", "ann", "@example.org", "ann@", "a@b@c", "a b@example.org"])
async def test_an_account_needs_an_address(gateway, email):
    with pytest.raises(InvalidRequest) as refusal:
        await gateway.create_account(email)
    assert refusal.value.param == "email"


async def test_a_name_is_no_novel(gateway):
    with pytest.raises(InvalidRequest):
        await gateway.create_account("ann@example.org", "x" * 201)


async def test_accounts_are_listed_page_by_page(gateway):
    made = [await gateway.create_account(f"{name}@example.org") for name in "abcde"]
    one = await gateway.list_accounts(limit=3)
    two = await gateway.list_accounts(limit=3, cursor=one.next_cursor)
    assert [*one.items, *two.items] == made
    assert two.next_cursor is None


async def test_whoever_holds_the_last_admin_key_is_not_suspended(gateway):
    boss = (await gateway.admin()).key
    with pytest.raises(LastAdminKey):
        await gateway.suspend_account(boss.account_id)


async def test_nobody_cannot_be_suspended(gateway):
    with pytest.raises(UnknownAccount):
        await gateway.suspend_account(AccountId("nobody"))
