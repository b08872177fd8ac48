"""What every repository promises, whatever it is built on."""

from __future__ import annotations

import asyncio
from datetime import timedelta, timezone

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import event, select

from adapters.sql.keys import SqlKeys, keys
from adapters.sql.revisions import SqlRevisions, bump, revisions
from domain.accounts import AccountStatus, EmailTaken, UnknownAccount
from domain.credits import AlreadyBooked
from domain.errors import InvalidRequest, StorageUnavailable
from domain.ids import AccountId, KeyId, ModelId, PlanId, PriceId, VendorSlug
from domain.keys import ADMIN_KEY_SCOPES, Budget, BudgetPeriod, KeyNameTaken, KeyPolicy, Scope, UnknownKey
from domain.limits import LimitSet
from domain.markups import Markup, MarkupScope, UnknownMarkup
from domain.money import Usd
from domain.ports.repositories import Claim, StoredOutcome
from domain.ports.vendors import ListedModel
from domain.pricing import ImageRate, PriceSource, Rates, Tier
from tests.contracts.repositories import (  # noqa: F401 - the fixtures are asked for by their names
    NOON,
    RACERS,
    SECOND,
    account,
    every_adapter,
    every_database,
    in_sql,
    key,
    price,
    raced,
    tables_once,
)

pytestmark = pytest.mark.anyio

ANN, BOB = AccountId("ann"), AccountId("bob")
ACME, OTHER = VendorSlug("acme"), VendorSlug("other")
ONE = ModelId("acme/one")
KATHMANDU = timezone(timedelta(hours=5, minutes=45))
FULL_POLICY = KeyPolicy(
    scopes=frozenset({Scope.INFERENCE, Scope.BILLING}),
    expires_at=NOON,
    requests_max=7,
    models=("acme/*", "other/two"),
    addresses=("10.0.0.0/8", "::1"),
    referrers=("*.example.org",),
    budget=Budget(amount=Usd(12_345_678_901), period=BudgetPeriod.WEEK, time_zone="Asia/Kathmandu"),
    limits=LimitSet(requests_per_minute=5, concurrent=1),
)
ADMIN_POLICY = KeyPolicy(scopes=ADMIN_KEY_SCOPES)
ANSWER = StoredOutcome(
    status=200,
    headers=(("content-type", "application/json"), ("x-twice", "ä"), ("x-twice", "b")),
    body=b"\x00\xff{}",
)


class TestAccounts:
    async def test_what_is_added_is_read_back_whole(self, stored):
        await stored.accounts.add(account("ann"))
        child = replace(
            account("bob", "Bob@Example.ORG"),
            name="Bob ünicode 🙂",
            status=AccountStatus.SUSPENDED,
            parent_id=ANN,
            limits=LimitSet(requests_per_day=3, burst=1),
        )
        await stored.accounts.add(child)
        assert await stored.accounts.get(BOB) == child

    async def test_an_unknown_id_raises(self, stored):
        with pytest.raises(UnknownAccount):
            await stored.accounts.get(ANN)

    async def test_an_account_is_found_by_any_spelling_of_its_email(self, stored):
        await stored.accounts.add(account("ann", "Ann@Example.org"))
        for spelling in ("ann@example.org", " ANN@EXAMPLE.ORG "):
            assert (await stored.accounts.by_email(spelling)).id == ANN

    async def test_an_unknown_email_raises(self, stored):
        with pytest.raises(UnknownAccount):
            await stored.accounts.by_email("nobody@example.org")

    @pytest.mark.parametrize("text", ["", "ann", "ann@", "a\x00nn@example.org", "ann\ud800@example.org"])
    async def test_what_is_no_email_is_refused_before_storage_sees_it(self, stored, text):
        with pytest.raises(InvalidRequest):
            await stored.accounts.by_email(text)
        with pytest.raises(InvalidRequest):
            await stored.accounts.add(replace(account("ann"), email=text))

    async def test_another_spelling_of_a_taken_email_is_refused(self, stored):
        await stored.accounts.add(account("ann", "ann@example.org"))
        with pytest.raises(EmailTaken):
            await stored.accounts.add(account("bob", "ANN@example.org"))
        with pytest.raises(UnknownAccount):
            await stored.accounts.get(BOB)

    async def test_a_known_id_is_refused(self, stored):
        await stored.accounts.add(account("ann"))
        with pytest.raises(AlreadyBooked):
            await stored.accounts.add(account("ann", "another@example.org"))

    async def test_an_unknown_parent_is_refused(self, stored):
        with pytest.raises(UnknownAccount):
            await stored.accounts.add(replace(account("ann"), parent_id=BOB))
        with pytest.raises(UnknownAccount):
            await stored.accounts.get(ANN)

    async def test_of_racing_adds_of_one_email_one_wins(self, stored):
        await raced(lambda n: stored.accounts.add(account(f"a{n}", "same@example.org")), refused=EmailTaken)
        assert len(await stored.accounts.list(RACERS, None)) == 1

    async def test_accounts_are_listed_in_pages_in_order_of_id(self, stored):
        for name in ("c", "a", "e", "b", "d"):
            await stored.accounts.add(account(name))
        first = await stored.accounts.list(2, None)
        second = await stored.accounts.list(2, first[-1].id)
        third = await stored.accounts.list(2, second[-1].id)
        assert [[one.id for one in page] for page in (first, second, third)] == [
            ["a", "b"],
            ["c", "d"],
            ["e"],
        ]
        assert await stored.accounts.list(2, AccountId("e")) == []

    async def test_a_status_can_be_set(self, stored):
        await stored.accounts.add(account("ann"))
        await stored.accounts.add(account("bob"))
        await stored.accounts.set_status(ANN, AccountStatus.SUSPENDED)
        assert await stored.accounts.get(ANN) == replace(account("ann"), status=AccountStatus.SUSPENDED)
        assert await stored.accounts.get(BOB) == account("bob")
        assert await stored.revisions.read() == {"keys": 1}

    async def test_an_unknown_accounts_status_cannot_be_set(self, stored):
        with pytest.raises(UnknownAccount):
            await stored.accounts.set_status(ANN, AccountStatus.SUSPENDED)
        assert await stored.revisions.read() == {}

    async def test_a_moment_survives_whatever_time_zone_it_was_given_in(self, stored):
        await stored.accounts.add(replace(account("ann"), created_at=NOON.astimezone(KATHMANDU)))
        created_at = (await stored.accounts.get(ANN)).created_at
        assert created_at == NOON
        assert created_at.utcoffset() is not None


class TestKeys:
    @pytest.fixture(autouse=True)
    async def owners(self, stored):
        await stored.accounts.add(account("ann"))
        await stored.accounts.add(account("bob"))

    async def test_what_is_added_is_read_back_whole(self, stored):
        full = replace(key("k1", policy=FULL_POLICY), bootstrap=True, name="ünicode 🙂")
        await stored.keys.add(full)
        assert await stored.keys.get(ANN, full.id) == full

    async def test_a_new_key_has_the_scopes_of_its_policy_and_no_others(self, stored):
        await stored.keys.add(key("k1", policy=KeyPolicy(scopes=frozenset())))
        assert (await stored.keys.get(ANN, KeyId("k1"))).policy.scopes == frozenset()

    async def test_adding_bumps_keys(self, stored):
        await stored.keys.add(key("k1"))
        await stored.keys.add(key("k2"))
        assert await stored.revisions.read() == {"keys": 2}

    async def test_a_known_digest_is_refused_also_for_another_account(self, stored):
        await stored.keys.add(key("k1"))
        with pytest.raises(AlreadyBooked):
            await stored.keys.add(replace(key("k2", "bob"), digest=key("k1").digest))
        assert await stored.keys.list(BOB, 10, None) == []
        assert await stored.revisions.read() == {"keys": 1}

    async def test_a_known_id_is_refused(self, stored):
        await stored.keys.add(key("k1"))
        with pytest.raises(AlreadyBooked):
            await stored.keys.add(replace(key("k1", "bob"), digest="another"))

    async def test_the_same_key_again_was_added_before_whatever_its_name(self, stored):
        await stored.keys.add(key("k1"))
        with pytest.raises(AlreadyBooked):
            await stored.keys.add(key("k1"))

    async def test_a_taken_name_is_refused_and_bumps_nothing(self, stored):
        await stored.keys.add(key("k1", called="laptop"))
        with pytest.raises(KeyNameTaken):
            await stored.keys.add(key("k2", called="laptop"))
        assert [one.id for one in await stored.keys.list(ANN, 10, None)] == ["k1"]
        assert await stored.revisions.read() == {"keys": 1}

    async def test_two_accounts_may_use_one_name(self, stored):
        await stored.keys.add(key("k1", "ann", called="laptop"))
        await stored.keys.add(key("k2", "bob", called="laptop"))
        assert (await stored.keys.get(BOB, KeyId("k2"))).name == "laptop"

    async def test_a_revoked_keys_name_can_be_used_again_but_not_its_digest(self, stored):
        for name in ("k1", "k2"):
            await stored.keys.add(key(name, called="laptop"))
            await stored.keys.revoke(ANN, KeyId(name), NOON)
        await stored.keys.add(key("k3", called="laptop"))
        with pytest.raises(AlreadyBooked):
            await stored.keys.add(replace(key("k4"), digest=key("k1").digest))

    async def test_an_unknown_account_gets_no_key(self, stored):
        with pytest.raises(UnknownAccount):
            await stored.keys.add(key("k1", "nobody"))
        assert await stored.revisions.read() == {}

    async def test_of_racing_adds_of_one_name_one_wins(self, stored):
        await raced(lambda n: stored.keys.add(key(f"k{n}", called="same")), refused=KeyNameTaken)
        assert len(await stored.keys.list(ANN, RACERS, None)) == 1
        assert await stored.revisions.read() == {"keys": 1}

    async def test_of_racing_adds_of_one_digest_one_wins(self, stored):
        await raced(lambda n: stored.keys.add(replace(key(f"k{n}"), digest="same")), refused=AlreadyBooked)
        assert len(await stored.keys.list(ANN, RACERS, None)) == 1
        assert await stored.revisions.read() == {"keys": 1}

    async def test_a_key_is_found_with_its_account_by_any_of_its_digests(self, stored):
        await stored.keys.add(key("k1", "ann"))
        await stored.keys.add(key("k2", "bob"))
        assert await stored.keys.by_digest(["unknown", "digest of k2"]) == (key("k2", "bob"), account("bob"))
        assert await stored.keys.by_digest(["digest of k1"]) == (key("k1"), account("ann"))

    async def test_no_known_digest_finds_no_key(self, stored):
        await stored.keys.add(key("k1"))
        assert await stored.keys.by_digest(["unknown", "another"]) is None
        assert await stored.keys.by_digest([]) is None

    async def test_the_first_known_digest_decides(self, stored):
        for name in ("k1", "k2"):
            await stored.keys.add(key(name))
        for digests in (["digest of k1", "digest of k2"], ["digest of k2", "digest of k1"]):
            found = await stored.keys.by_digest(digests)
            assert found is not None
            assert found[0].digest == digests[0]

    async def test_a_revoked_key_of_a_suspended_account_is_found_as_it_is(self, stored):
        await stored.keys.add(key("k1"))
        await stored.keys.revoke(ANN, KeyId("k1"), NOON)
        await stored.accounts.set_status(ANN, AccountStatus.SUSPENDED)
        found = await stored.keys.by_digest(["digest of k1"])
        assert found is not None
        assert (found[0].revoked_at, found[1].status) == (NOON, AccountStatus.SUSPENDED)

    async def test_another_accounts_key_is_unknown(self, stored):
        await stored.keys.add(key("k1", "ann"))
        with pytest.raises(UnknownKey):
            await stored.keys.get(BOB, KeyId("k1"))
        with pytest.raises(UnknownKey):
            await stored.keys.revoke(BOB, KeyId("k1"), NOON)
        with pytest.raises(UnknownKey):
            await stored.keys.change(BOB, KeyId("k1"), "mine", ADMIN_POLICY)
        assert await stored.keys.list(BOB, 10, None) == []
        assert await stored.keys.get(ANN, KeyId("k1")) == key("k1")
        assert await stored.revisions.read() == {"keys": 1}

    async def test_an_unknown_id_raises(self, stored):
        with pytest.raises(UnknownKey):
            await stored.keys.get(ANN, KeyId("k1"))
        with pytest.raises(UnknownKey):
            await stored.keys.revoke(ANN, KeyId("k1"), NOON)
        with pytest.raises(UnknownKey):
            await stored.keys.change(ANN, KeyId("k1"), "mine", KeyPolicy())

    async def test_own_unrevoked_keys_are_listed_in_pages_in_order_of_id(self, stored):
        for name in ("k5", "k2", "k1", "k4", "k3"):
            await stored.keys.add(key(name))
        await stored.keys.add(key("k0", "bob"))
        await stored.keys.revoke(ANN, KeyId("k2"), NOON)
        first = await stored.keys.list(ANN, 2, None)
        second = await stored.keys.list(ANN, 2, first[-1].id)
        assert [[one.id for one in page] for page in (first, second)] == [["k1", "k3"], ["k4", "k5"]]
        assert await stored.keys.list(ANN, 2, KeyId("k5")) == []

    async def test_revoking_twice_keeps_the_first_time(self, stored):
        await stored.keys.add(key("k1"))
        first = await stored.keys.revoke(ANN, KeyId("k1"), NOON)
        again = await stored.keys.revoke(ANN, KeyId("k1"), NOON + SECOND)
        assert first == again == replace(key("k1"), revoked_at=NOON) == await stored.keys.get(ANN, KeyId("k1"))

    async def test_racing_revocations_agree_on_one_time(self, stored):
        await stored.keys.add(key("k1"))
        revoked = await raced(lambda n: stored.keys.revoke(ANN, KeyId("k1"), NOON + n * SECOND))
        assert len({one.revoked_at for one in revoked}) == 1

    async def test_revoking_bumps_keys(self, stored):
        await stored.keys.add(key("k1"))
        await stored.keys.revoke(ANN, KeyId("k1"), NOON)
        assert await stored.revisions.read() == {"keys": 2}

    async def test_name_and_policy_can_be_changed_and_nothing_else_changes(self, stored):
        await stored.keys.add(key("k1"))
        changed = await stored.keys.change(ANN, KeyId("k1"), "desk", FULL_POLICY)
        assert changed == replace(key("k1"), name="desk", policy=FULL_POLICY)
        assert await stored.keys.get(ANN, KeyId("k1")) == changed
        assert await stored.revisions.read() == {"keys": 2}

    async def test_a_key_can_keep_its_own_name(self, stored):
        await stored.keys.add(key("k1", called="laptop"))
        changed = await stored.keys.change(ANN, KeyId("k1"), "laptop", FULL_POLICY)
        assert (changed.name, changed.policy) == ("laptop", FULL_POLICY)

    async def test_a_key_cannot_take_another_unrevoked_keys_name(self, stored):
        await stored.keys.add(key("k1", called="laptop"))
        await stored.keys.add(key("k2", called="desk"))
        with pytest.raises(KeyNameTaken):
            await stored.keys.change(ANN, KeyId("k2"), "laptop", FULL_POLICY)
        assert await stored.keys.get(ANN, KeyId("k2")) == key("k2", called="desk")
        assert await stored.revisions.read() == {"keys": 2}
        await stored.keys.revoke(ANN, KeyId("k1"), NOON)
        assert (await stored.keys.change(ANN, KeyId("k2"), "laptop", KeyPolicy())).name == "laptop"

    async def test_a_revoked_key_cannot_be_changed(self, stored):
        await stored.keys.add(key("k1"))
        revoked = await stored.keys.revoke(ANN, KeyId("k1"), NOON)
        with pytest.raises(UnknownKey):
            await stored.keys.change(ANN, KeyId("k1"), "desk", ADMIN_POLICY)
        assert await stored.keys.get(ANN, KeyId("k1")) == revoked

    async def test_of_racing_renames_to_one_name_one_wins(self, stored):
        for n in range(RACERS):
            await stored.keys.add(key(f"k{n}"))
        won = await raced(lambda n: stored.keys.change(ANN, KeyId(f"k{n}"), "same", KeyPolicy()), refused=KeyNameTaken)
        assert len(won) == 1
        assert await stored.revisions.read() == {"keys": RACERS + 1}

    async def test_admins_are_the_unrevoked_admin_keys_of_all_accounts(self, stored):
        await stored.keys.add(key("k3", "bob", policy=ADMIN_POLICY))
        await stored.keys.add(key("k1", "ann", policy=ADMIN_POLICY))
        await stored.keys.add(key("k2", "ann"))
        await stored.keys.add(key("k4", "ann", policy=ADMIN_POLICY))
        await stored.keys.revoke(ANN, KeyId("k4"), NOON)
        assert [one.id for one in await stored.keys.admins()] == ["k1", "k3"]

    async def test_a_changed_policy_makes_and_unmakes_admins(self, stored):
        await stored.keys.add(key("k1", policy=ADMIN_POLICY))
        await stored.keys.add(key("k2"))
        await stored.keys.change(ANN, KeyId("k1"), "one", KeyPolicy())
        await stored.keys.change(ANN, KeyId("k2"), "two", ADMIN_POLICY)
        assert [one.id for one in await stored.keys.admins()] == ["k2"]

    async def test_moments_survive_whatever_time_zone_they_were_given_in(self, stored):
        there = NOON.astimezone(KATHMANDU)
        await stored.keys.add(replace(key("k1", policy=KeyPolicy(expires_at=there)), created_at=there))
        revoked = await stored.keys.revoke(ANN, KeyId("k1"), there)
        for moment in (revoked.created_at, revoked.revoked_at, revoked.policy.expires_at):
            assert moment == NOON
            assert moment.utcoffset() is not None


class TestPrices:
    async def test_what_is_added_is_read_back_whole(self, stored):
        full = replace(
            price("p1"),
            rates=Rates(input=2**53 + 1, output=0, cache_read=0, reasoning=5, searches=9),
            tiers=(
                Tier(200_000, Rates(input=3, output=4)),
                Tier(1_000_000, Rates(input=5, output=6, images=1)),
            ),
            free=True,
            author="ann",
            image_rates=(ImageRate("1024x1024:high", 2**53 + 3), ImageRate("", 1)),
        )
        await stored.prices.add(full)
        assert await stored.prices.history(ACME, ONE) == [full]
        assert await stored.prices.current(NOON) == [full]
        assert await stored.revisions.read() == {"prices": 1}

    async def test_recorded_versions_are_kept_but_never_stand_in_for_the_operators(self, stored):
        listed = replace(price("listed"), source=PriceSource.GENAI_PRICES, valid_from=NOON)
        await stored.prices.add(price("p1"))
        await stored.prices.record([listed])
        await stored.prices.record([listed, replace(listed, rates=Rates(input=9, output=9))])
        assert [one.id for one in await stored.prices.current(NOON)] == ["p1"]
        assert listed in await stored.prices.history(ACME, ONE)
        assert await stored.revisions.read() == {"prices": 1}

    async def test_a_version_is_never_written_twice(self, stored):
        await stored.prices.add(price("p1", rate=1))
        with pytest.raises(AlreadyBooked):
            await stored.prices.add(price("p1", rate=2))
        assert await stored.prices.history(ACME, ONE) == [price("p1", rate=1)]
        assert await stored.revisions.read() == {"prices": 1}

    async def test_of_racing_adds_of_one_version_one_wins(self, stored):
        won = await raced(lambda n: stored.prices.add(price("p1", rate=n)), refused=AlreadyBooked)
        assert len(won) == 1
        assert await stored.revisions.read() == {"prices": 1}

    async def test_the_latest_version_valid_by_then_is_current(self, stored):
        for n, name in ((2, "p1"), (0, "p2"), (1, "p3")):
            await stored.prices.add(price(name, valid_from=NOON + n * SECOND))
        micro = timedelta(microseconds=1)
        expected = {
            NOON - micro: [],
            NOON: ["p2"],
            NOON + SECOND - micro: ["p2"],
            NOON + SECOND: ["p3"],
            NOON + 2 * SECOND: ["p1"],
            NOON + 9 * SECOND: ["p1"],
        }
        assert {at: [one.id for one in await stored.prices.current(at)] for at in expected} == expected

    async def test_of_two_versions_from_one_moment_the_later_id_is_current(self, stored):
        for name in ("p1", "p3", "p2"):
            await stored.prices.add(price(name))
        assert [one.id for one in await stored.prices.current(NOON)] == ["p3"]
        assert [one.id for one in await stored.prices.history(ACME, ONE)] == ["p3", "p2", "p1"]

    async def test_every_vendor_and_model_has_a_current_price_of_its_own(self, stored):
        offers = [("acme", "acme/one"), ("acme", "acme/two"), ("other", "acme/one")]
        for n, (vendor, model) in enumerate(offers):
            await stored.prices.add(price(f"old{n}", vendor=vendor, model=model))
            await stored.prices.add(price(f"new{n}", vendor=vendor, model=model, valid_from=NOON + SECOND))
        assert {one.id for one in await stored.prices.current(NOON)} == {"old0", "old1", "old2"}
        assert {one.id for one in await stored.prices.current(NOON + SECOND)} == {"new0", "new1", "new2"}

    async def test_the_history_is_one_offers_newest_first_with_what_is_not_valid_yet(self, stored):
        for n in (1, 3, 2):
            await stored.prices.add(price(f"p{n}", valid_from=NOON + n * SECOND))
        await stored.prices.add(price("p4", vendor="other"))
        await stored.prices.add(price("p5", model="acme/two"))
        assert [one.id for one in await stored.prices.history(ACME, ONE)] == ["p3", "p2", "p1"]
        assert await stored.prices.history(OTHER, ModelId("acme/two")) == []

    async def test_the_next_change_is_the_operators_next_version(self, stored):
        assert await stored.prices.next_change(NOON) is None
        for n in (3, 1, 0):
            await stored.prices.add(price(f"p{n}", valid_from=NOON + n * SECOND))
        listed = replace(price("l2", valid_from=NOON + 2 * SECOND), source=PriceSource.VENDOR)
        await stored.prices.record([listed])
        assert await stored.prices.next_change(NOON) == NOON + SECOND
        assert await stored.prices.next_change(NOON + SECOND) == NOON + 3 * SECOND
        assert await stored.prices.next_change(NOON + 3 * SECOND) is None

    async def test_versions_are_found_by_their_ids_whoever_set_them(self, stored):
        listed = replace(price("listed"), source=PriceSource.VENDOR)
        await stored.prices.record([listed])
        many = [price(f"p{n:04}", model=f"acme/{n}") for n in range(3)]
        for each in many:
            await stored.prices.add(each)
        asked = [PriceId("listed"), *(each.id for each in many), *(PriceId(f"none{n}") for n in range(1_200))]
        found = await stored.prices.versions(asked)
        assert {each.id: each for each in found} == {each.id: each for each in (listed, *many)}
        assert await stored.prices.versions([]) == []

    async def test_the_version_recorded_last_is_known_for_each_offer(self, stored):
        for n in (2, 1):
            name = f"l{n}"
            await stored.prices.record([replace(price(name, valid_from=NOON + n * SECOND), source=PriceSource.VENDOR)])
        await stored.prices.record([replace(price("q", vendor="other"), source=PriceSource.GENAI_PRICES)])
        await stored.prices.add(price("p", valid_from=NOON + 9 * SECOND))
        assert [each.id for each in await stored.prices.latest_recorded()] == ["l2", "q"]


def markup(vendor: str = "", model: str = "", plan: str = "", ppm: int = 1_200_000, author: str = "ann") -> Markup:
    scope = MarkupScope(VendorSlug(vendor), model, PlanId(plan))
    return Markup(scope=scope, ppm=ppm, author=author, set_at=NOON)


class TestMarkups:
    async def test_each_scope_has_one_rule(self, stored):
        rules = [markup(), markup(model="Z/*"), markup(model="a/*"), markup("acme", "a/b", "pro", 2**40)]
        for rule in reversed(rules):
            await stored.markups.put(rule)
        assert await stored.markups.all() == rules
        again = markup(model="a/*", ppm=1, author="bob")
        await stored.markups.put(again)
        assert await stored.markups.all() == [*rules[:2], again, rules[3]]
        assert await stored.revisions.read() == {"prices": 5}

    async def test_a_rule_is_removed_once(self, stored):
        await stored.markups.put(markup("acme"))
        await stored.markups.put(markup("acme", "x"))
        await stored.markups.remove(markup("acme").scope)
        assert await stored.markups.all() == [markup("acme", "x")]
        with pytest.raises(UnknownMarkup, match="vendor acme"):
            await stored.markups.remove(markup("acme").scope)
        assert await stored.revisions.read() == {"prices": 3}


class TestCatalogEntries:
    MODELS = (
        ListedModel(vendor_model="one", name="One ünicode", context_length=8, output_max=4, created_s=1),
        ListedModel(vendor_model="two"),
    )

    async def test_at_first_there_is_none(self, stored):
        assert await stored.catalog_entries.all() == {}

    async def test_a_vendors_list_is_replaced_and_no_others(self, stored):
        await stored.catalog_entries.replace(ACME, [ListedModel(vendor_model="old")], NOON)
        await stored.catalog_entries.replace(OTHER, [], NOON)
        await stored.catalog_entries.replace(ACME, self.MODELS, NOON + SECOND)
        found = {vendor: tuple(models) for vendor, models in (await stored.catalog_entries.all()).items()}
        assert found == {ACME: self.MODELS, OTHER: ()}

    async def test_only_a_change_bumps_the_catalog(self, stored):
        revisions_seen = []
        for n, models in enumerate([self.MODELS, list(self.MODELS), self.MODELS[:1], (), ()]):
            await stored.catalog_entries.replace(ACME, models, NOON + n * SECOND)
            revisions_seen.append((await stored.revisions.read())["catalog"])
        assert revisions_seen == [1, 1, 2, 3, 3]

    async def test_racing_replacements_by_one_list_bump_once(self, stored):
        await raced(lambda n: stored.catalog_entries.replace(ACME, self.MODELS, NOON + n * SECOND))
        assert await stored.revisions.read() == {"catalog": 1}


class TestRevisions:
    async def test_at_first_there_is_none(self, stored):
        assert await stored.revisions.read() == {}

    async def test_no_bump_is_lost_in_a_race(self, stored):
        await stored.accounts.add(account("ann"))
        await raced(lambda n: stored.keys.add(key(f"k{n}")))
        assert await stored.revisions.read() == {"keys": RACERS}

    async def test_topics_are_counted_apart(self, stored):
        await stored.prices.add(price("p1"))
        await stored.catalog_entries.replace(ACME, [], NOON)
        await stored.prices.add(price("p2"))
        assert await stored.revisions.read() == {"prices": 2, "catalog": 1}


class TestIdempotency:
    LEASE = NOON + 60 * SECOND
    KEPT = NOON + 3600 * SECOND

    def claim(self, stored, *, at=NOON, until=None, fingerprint="f1", owner=ANN, name="i1"):
        return stored.idempotency.claim(owner, name, fingerprint, at, until or at + 60 * SECOND)

    async def test_the_first_request_wins_and_the_second_hears_that_it_runs(self, stored):
        assert await self.claim(stored) == Claim(won=True)
        assert await self.claim(stored, at=NOON + SECOND) == Claim(won=False)

    async def test_another_request_with_the_same_key_is_told_apart(self, stored):
        await self.claim(stored)
        assert await self.claim(stored, fingerprint="f2") == Claim(won=False, same_request=False)

    async def test_a_finished_outcome_is_repeated_whole(self, stored):
        await self.claim(stored)
        await stored.idempotency.finish(ANN, "i1", "f1", ANSWER, self.KEPT)
        for at in (NOON, self.LEASE, self.KEPT - timedelta(microseconds=1)):
            assert await self.claim(stored, at=at) == Claim(won=False, outcome=ANSWER)

    async def test_an_empty_answer_is_an_outcome_too(self, stored):
        empty = StoredOutcome(status=204, headers=(), body=b"")
        await self.claim(stored)
        await stored.idempotency.finish(ANN, "i1", "f1", empty, self.KEPT)
        assert await self.claim(stored) == Claim(won=False, outcome=empty)

    async def test_an_outcome_is_not_shown_to_another_request(self, stored):
        await self.claim(stored)
        await stored.idempotency.finish(ANN, "i1", "f1", ANSWER, self.KEPT)
        assert await self.claim(stored, fingerprint="f2") == Claim(won=False, same_request=False)

    async def test_accounts_and_keys_are_claimed_apart(self, stored):
        assert (await self.claim(stored)).won
        assert (await self.claim(stored, owner=BOB)).won
        assert (await self.claim(stored, name="i2")).won

    async def test_of_racing_claims_one_wins(self, stored):
        claims = await raced(lambda _: self.claim(stored))
        assert sum(claim.won for claim in claims) == 1
        assert all(claim.same_request and claim.outcome is None for claim in claims)

    async def test_of_racing_claims_of_different_requests_one_wins(self, stored):
        claims = await raced(lambda n: self.claim(stored, fingerprint=f"f{n}"))
        assert [claim.same_request for claim in claims if claim.won] == [True]
        assert not any(claim.same_request for claim in claims if not claim.won)

    async def test_a_claim_is_taken_over_from_the_end_of_its_lease(self, stored):
        await self.claim(stored, until=self.LEASE)
        assert not (await self.claim(stored, at=self.LEASE - timedelta(microseconds=1))).won
        assert (await self.claim(stored, at=self.LEASE, fingerprint="f2")).won
        assert await self.claim(stored, at=self.LEASE, fingerprint="f2") == Claim(won=False)

    async def test_of_racing_claims_of_an_ended_lease_one_wins(self, stored):
        await self.claim(stored, until=self.LEASE)
        claims = await raced(lambda _: self.claim(stored, at=self.LEASE + SECOND))
        assert sum(claim.won for claim in claims) == 1

    async def test_an_expired_outcome_is_forgotten_by_the_claim_that_follows(self, stored):
        await self.claim(stored)
        await stored.idempotency.finish(ANN, "i1", "f1", ANSWER, self.KEPT)
        assert (await self.claim(stored, at=self.KEPT)).won
        assert await self.claim(stored, at=self.KEPT) == Claim(won=False)

    async def test_of_racing_claims_of_an_expired_outcome_one_wins(self, stored):
        await self.claim(stored)
        await stored.idempotency.finish(ANN, "i1", "f1", ANSWER, self.KEPT)
        claims = await raced(lambda _: self.claim(stored, at=self.KEPT))
        assert sum(claim.won for claim in claims) == 1
        assert all(claim.outcome is None for claim in claims)

    async def test_an_abandoned_key_is_free_at_once(self, stored):
        await self.claim(stored)
        await stored.idempotency.abandon(ANN, "i1", "f1")
        assert (await self.claim(stored, fingerprint="f2")).won

    async def test_a_finished_claim_is_neither_abandoned_nor_finished_again(self, stored):
        await self.claim(stored)
        await stored.idempotency.finish(ANN, "i1", "f1", ANSWER, self.KEPT)
        await stored.idempotency.abandon(ANN, "i1", "f1")
        await stored.idempotency.finish(ANN, "i1", "f1", replace(ANSWER, status=500), self.KEPT)
        assert await self.claim(stored) == Claim(won=False, outcome=ANSWER)

    async def test_who_lost_the_claim_to_another_request_cannot_end_it(self, stored):
        await self.claim(stored, until=self.LEASE)
        await self.claim(stored, at=self.LEASE, fingerprint="f2")
        await stored.idempotency.abandon(ANN, "i1", "f1")
        await stored.idempotency.finish(ANN, "i1", "f1", ANSWER, self.KEPT)
        assert await self.claim(stored, at=self.LEASE, fingerprint="f2") == Claim(won=False)

    async def test_a_request_that_outlived_its_lease_unnoticed_still_finishes(self, stored):
        await self.claim(stored, until=self.LEASE)
        await stored.idempotency.finish(ANN, "i1", "f1", ANSWER, self.KEPT)
        assert await self.claim(stored, at=self.LEASE + SECOND) == Claim(won=False, outcome=ANSWER)

    async def test_finishing_and_abandoning_what_nobody_claimed_does_nothing(self, stored):
        await stored.idempotency.finish(ANN, "i1", "f1", ANSWER, self.KEPT)
        await stored.idempotency.abandon(ANN, "i1", "f1")
        assert (await self.claim(stored)).won

    async def test_expired_outcomes_and_ended_leases_are_forgotten_oldest_first(self, stored):
        for n in range(5):
            await self.claim(stored, name=f"i{n}", until=NOON + n * SECOND)
        await stored.idempotency.finish(ANN, "i0", "f1", ANSWER, NOON + 9 * SECOND)
        assert await stored.idempotency.forget_before(NOON + 3 * SECOND, 1) == 1
        # Seen from before any expiry, a claim wins only what is gone.
        assert [(await self.claim(stored, name=f"i{n}", at=NOON - SECOND)).won for n in range(5)] == [
            False, True, False, False, False,
        ]  # fmt: skip
        assert await stored.idempotency.forget_before(NOON + 3 * SECOND, 10) == 1
        assert await stored.idempotency.forget_before(NOON + 3 * SECOND, 10) == 0
        assert await stored.idempotency.forget_before(NOON + 3600 * SECOND, 10) == 4

    async def test_what_is_claimed_anew_is_not_forgotten(self, stored):
        for n in range(RACERS):
            await self.claim(stored, name=f"i{n}", until=self.LEASE)
        now = self.LEASE + SECOND

        async def take_over_and_look_again(n: int) -> bool:
            won = (await self.claim(stored, name=f"i{n}", at=now)).won
            await asyncio.sleep(0.01)
            return won and not (await self.claim(stored, name=f"i{n}", at=now)).won

        async def forget_repeatedly() -> None:
            for _ in range(RACERS):
                await stored.idempotency.forget_before(now, 3)

        forgetting = asyncio.create_task(forget_repeatedly())
        assert all(await raced(take_over_and_look_again))
        await forgetting


class TestSql:
    async def test_a_key_and_its_account_are_read_in_one_query(self, database):
        stored = in_sql(database)
        await stored.accounts.add(account("ann"))
        await stored.keys.add(key("k1"))
        statements: list[str] = []

        @event.listens_for(database.engine.sync_engine, "before_cursor_execute")
        def note(_connection, _cursor, statement, *_rest):
            statements.append(statement)

        await stored.keys.by_digest(["unknown", "digest of k1"])
        assert len([text for text in statements if not text.startswith("BEGIN")]) == 1

    async def test_a_keys_scopes_are_written_out_also_where_they_are_the_default(self, database):
        stored = in_sql(database)
        await stored.accounts.add(account("ann"))
        await stored.keys.add(key("k1"))
        async with database.reading() as connection:
            written = msgspec.json.decode((await connection.scalar(select(keys.c.policy))) or "")
        assert written["scopes"] == sorted(KeyPolicy().scopes)

    async def test_a_bump_is_forgotten_with_its_transaction(self, database):
        async def bump_and_fail():
            async with database.transaction() as connection:
                await bump(connection, "keys")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await bump_and_fail()
        assert await SqlRevisions(database).read() == {}

    async def test_a_change_that_cannot_be_announced_is_not_made(self, database):
        stored = in_sql(database)
        await stored.accounts.add(account("ann"))
        async with database.transaction() as connection:
            await connection.run_sync(revisions.drop)
        try:
            with pytest.raises(StorageUnavailable):
                await stored.keys.add(key("k1"))
            with pytest.raises(StorageUnavailable):
                await stored.prices.add(price("p1"))
            with pytest.raises(StorageUnavailable):
                await stored.accounts.set_status(ANN, AccountStatus.SUSPENDED)
            with pytest.raises(StorageUnavailable):
                await stored.catalog_entries.replace(ACME, [], NOON)
        finally:
            async with database.transaction() as connection:
                await connection.run_sync(revisions.create)
        assert await SqlKeys(database).list(ANN, 10, None) == []
        assert await stored.prices.history(ACME, ONE) == []
        assert await stored.accounts.get(ANN) == account("ann")
        assert await stored.catalog_entries.all() == {}
