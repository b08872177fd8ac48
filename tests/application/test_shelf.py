"""The written list is what its records are, and what has not changed is not written again."""

from __future__ import annotations

import msgspec
import pytest

from adapters.catalog.book import Remembered, Sources, build_catalog
from application import shelf as shelves
from application.catalog import ModelRecord, record
from application.shelf import ModelFilter, ShowModels, fill_shelf, part_of
from domain.catalog import CANCEL_AND_BILL_PRODUCED, Catalog, Model
from domain.ids import ModelId, VendorSlug
from domain.ports.vendors import ListedModel
from domain.pricing import Rates
from tests.fakes.time import NOON

pytestmark = pytest.mark.anyio
ALPHA = VendorSlug("alpha")


def sources(count: int, dear: int = -1) -> Sources:
    rows = [
        ListedModel(
            vendor_model=f"author{n % 7}/Model-{n}",
            rates=Rates(input=10_000 + (n == dear), output=20_000),
            name=f"M {n}",
        )
        for n in range(count)
    ]
    return Sources(vendors={ALPHA: CANCEL_AND_BILL_PRODUCED}, listed={ALPHA: rows})


def catalog(count: int) -> Catalog:
    return build_catalog(sources(count), NOON)


def test_the_list_is_openais_and_has_every_record_in_order():
    made = catalog(30)
    shelf = fill_shelf(made)
    listed = msgspec.json.decode(shelf.whole)
    assert (listed["object"], listed["next_cursor"]) == ("list", None)
    records = [msgspec.json.decode(msgspec.json.encode(record(model))) for model in made.listed()]
    assert listed["data"] == records
    assert [msgspec.json.decode(shelf.written(entry)) for entry in shelf.entries] == records
    assert msgspec.json.decode(part_of(shelf, shelf.entries[3:5], "x"))["data"] == records[3:5]


def test_an_empty_catalogue_has_an_empty_list():
    shelf = fill_shelf(Catalog([]))
    assert msgspec.json.decode(shelf.whole) == {"object": "list", "data": [], "next_cursor": None}


def test_what_has_not_changed_is_not_written_again(monkeypatch):
    remembered = Remembered()
    before = fill_shelf(build_catalog(sources(30), NOON, 1, remembered))
    written: list[str] = []

    def watched(model: Model) -> ModelRecord:
        written.append(model.id)
        return record(model)

    monkeypatch.setattr(shelves, "record", watched)
    after = fill_shelf(build_catalog(sources(30, dear=4), NOON, 2, remembered), before)
    assert written == ["author4/Model-4"]
    assert len(msgspec.json.decode(after.whole)["data"]) == 30
    assert after.etag != before.etag
    assert fill_shelf(build_catalog(sources(30, dear=4), NOON, 3, remembered), after).etag == after.etag


def test_places_are_found_by_id():
    shelf = fill_shelf(catalog(30))
    ids = [entry.id for entry in shelf.entries]
    assert shelf.after(None) == 0
    assert shelf.after(ids[3]) == 4
    assert shelf.before(ids[3]) == 3
    assert shelf.after("zzz") == shelf.before("zzz") == 30
    assert shelf.entry(ids[3]) is shelf.entries[3]
    assert shelf.entry(ModelId("author3/none")) is None


async def test_a_filter_looks_at_every_model_from_a_place_on():
    shelf = fill_shelf(catalog(1_200))
    found = await shelf.fitting(ModelFilter(author="author6"))
    assert len(found) == 171
    assert all(entry.id.startswith("author6/") for entry in found)
    assert await shelf.fitting(ModelFilter(author="author6"), shelf.after(found[100].id)) == found[101:]


class Source:
    def __init__(self) -> None:
        self.catalog = catalog(3)

    def current(self) -> Catalog:
        return self.catalog


def test_a_snapshots_list_is_written_once():
    source = Source()
    show = ShowModels(source)
    first = show.shelf()
    assert show.shelf() is first
    source.catalog = catalog(4)
    assert len(show.shelf().entries) == 4


def test_where_lists_are_prepared_nobody_waits_for_one():
    source = Source()
    show = ShowModels(source)
    show.prepare(source.catalog, lambda: None)
    ready = show.shelf()
    source.catalog = catalog(4)
    assert show.shelf() is ready
    show.prepare(source.catalog, lambda: None)
    assert len(show.shelf().entries) == 4


def test_a_large_catalogue_is_made_in_short_steps():
    """20,000 offers: the thread that makes them takes breath after each, so that others wait for one step at most."""
    breaths = 0

    def breathe() -> None:
        nonlocal breaths
        breaths += 1

    shelf = fill_shelf(build_catalog(sources(20_000), NOON, breathe=breathe), breathe=breathe)

    assert len(shelf.entries) == 20_000
    assert breaths >= 60_000
