"""What every `CatalogOverrides` promises, and what is kept of vendors being asked for their lists."""

from __future__ import annotations

import pytest

from adapters.memory.repositories import MemoryOverrides, MemoryRevisions
from adapters.sql.overrides import SqlOverrides
from adapters.sql.revisions import SqlRevisions
from domain.catalog import Capability
from domain.ids import ModelId, VendorSlug
from domain.ports.catalog import AddedOffer, Alias, Asked, CatalogOverrides, Joined, Override, Switch
from domain.ports.repositories import Revisions
from domain.ports.vendors import ListedModel
from tests.contracts.repositories import NOON, SECOND, every_adapter, fresh_database, on_postgres, tables_once

__all__ = ["every_adapter", "tables_once"]
pytestmark = pytest.mark.anyio

ACME, OTHER = VendorSlug("acme"), VendorSlug("other")
ROW = ListedModel(vendor_model="x", canonical="a/x", context_length=9, capabilities=frozenset({Capability.TOOLS}))
SAID: list[Override] = [
    Alias("short", ModelId("a/long")),
    Joined(ACME, "their name", ModelId("a/one")),
    AddedOffer(ACME, ROW),
    Switch(ACME, on=False),
]

Said = tuple[CatalogOverrides, Revisions]


@pytest.fixture(name="said", params=["memory", "sqlite", on_postgres])
async def every_store(request: pytest.FixtureRequest, tmp_path):
    if request.param == "memory":
        revisions = MemoryRevisions()
        yield MemoryOverrides(revisions), revisions
        return
    async with fresh_database(request, tmp_path) as database:
        yield SqlOverrides(database), SqlRevisions(database)


async def revision(said: Said) -> int:
    return (await said[1].read()).get("catalog", 0)


async def test_what_was_said_is_kept_as_it_was_said(said: Said) -> None:
    for number, override in enumerate(SAID, 1):
        await said[0].put(override, NOON, "ann")
        assert await revision(said) == number
    found = await said[0].all()
    assert len(found) == len(SAID)
    assert all(override in found for override in SAID)


async def test_the_last_word_about_a_thing_counts_and_the_same_word_again_changes_nothing(said: Said) -> None:
    await said[0].put(Switch(ACME, on=False), NOON, "ann")
    await said[0].put(Switch(OTHER, on=False), NOON, "ann")
    await said[0].put(Switch(ACME, on=True), NOON + SECOND, "bob")
    before = await revision(said)
    await said[0].put(Switch(ACME, on=True), NOON + 2 * SECOND, "ann")
    assert await revision(said) == before == 3
    assert sorted(await said[0].all(), key=str) == [Switch(ACME, on=True), Switch(OTHER, on=False)]


async def test_what_is_taken_back_is_gone_once(said: Said) -> None:
    for override in SAID:
        await said[0].put(override, NOON, "ann")
    before = await revision(said)
    assert await said[0].remove(Alias("short", ModelId("whatever")))
    assert not await said[0].remove(Alias("short", ModelId("a/long")))
    assert await said[0].remove(AddedOffer(ACME, ListedModel(vendor_model="x")))
    assert await revision(said) == before + 2
    assert {type(each) for each in await said[0].all()} == {Joined, Switch}


async def test_when_a_vendor_was_asked_is_kept_with_what_came_of_it(stored) -> None:
    entries = stored.catalog_entries
    assert await entries.last_asked() == {}
    await entries.asked(OTHER, NOON, "it is ill")
    await entries.replace(ACME, [ListedModel(vendor_model="one")], NOON)
    revisions = await stored.revisions.read()
    await entries.asked(ACME, NOON + SECOND, "gone")
    assert await entries.last_asked() == {
        OTHER: Asked(at=NOON, listed_at=None, failure="it is ill"),
        ACME: Asked(at=NOON + SECOND, listed_at=NOON, failure="gone"),
    }
    assert await stored.revisions.read() == revisions
    await entries.replace(ACME, [ListedModel(vendor_model="one")], NOON + 2 * SECOND)
    assert (await entries.last_asked())[ACME] == Asked(at=NOON + 2 * SECOND, listed_at=NOON + 2 * SECOND, failure=None)
    assert await stored.revisions.read() == revisions
    before = await entries.all()
    await entries.replace(ACME, [ListedModel(vendor_model="one")], NOON + 3 * SECOND)
    assert (await entries.all())[ACME] is before[ACME]


async def test_a_list_is_read_again_as_it_was_whatever_its_texts_hold(stored) -> None:
    odd = [ListedModel(vendor_model=f'{n},\n"\\ \u2028', name='},\n{"x', description="é" * n) for n in range(130)]
    await stored.catalog_entries.replace(ACME, odd, NOON)
    found = await stored.catalog_entries.all()
    assert list(found[ACME]) == odd
    assert (await stored.catalog_entries.all())[ACME] == found[ACME]
    await stored.catalog_entries.replace(ACME, odd[:1], NOON + SECOND)
    assert list((await stored.catalog_entries.all())[ACME]) == odd[:1]
