"""Usage by the hour is what the records of requests add up to, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from adapters.sql import migrate, popularity
from adapters.sql.accounts import SqlAccounts
from adapters.sql.database import Database
from adapters.sql.ledger.tables import generations
from adapters.sql.popularity import KEPT, SqlPopularity, usage_hours
from domain.accounts import Account
from domain.ids import AccountId, KeyId, ModelId, RequestId, VendorSlug
from domain.ports.popularity import Counted, Popularity
from domain.usage import Generation, Outcome, Usage
from tests import services

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
NOW = datetime(2026, 3, 10, 12, 34, 56, tzinfo=UTC)
on_postgres = pytest.param("postgres", marks=pytest.mark.postgres)


@pytest.fixture(name="database", params=["sqlite", on_postgres])
async def migrated(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        database = Database(f"sqlite+aiosqlite:///{tmp_path}/counted.db")
        await prepare(database)
        yield database
        await database.close()
        return
    server: str = request.getfixturevalue("postgres_url")
    with services.postgres_schema(server, f"popularity_{uuid4().hex[:12]}") as place:
        database = Database(place.server_url, schema=place.schema)
        await prepare(database)
        yield database
        await database.close()


async def prepare(database: Database) -> None:
    await migrate.upgrade(database)
    for name in ("ann", "bob"):
        await SqlAccounts(database).add(Account(id=AccountId(name), email=f"{name}@example.org", created_at=NOW))


def used(name: str, at: datetime = NOW, *, model: str = "acme/one", vendor: str = "acme", **others) -> Generation:
    given = {"usage": Usage(input=100, output=10), "first_token_ms": 50, "duration_ms": 250, **others}
    return Generation(
        id=RequestId(name),
        account_id=AccountId("ann" if name < "m" else "bob"),
        key_id=KeyId("k"),
        model=ModelId(model),
        vendor=VendorSlug(vendor),
        dialect="openai_chat",
        streamed=True,
        started_at=at,
        **given,
    )


async def keep(database: Database, *records: Generation) -> None:
    async with database.transaction() as connection:
        for record in records:
            row = {
                "account_id": record.account_id,
                "id": record.id,
                "started_at": record.started_at,
                "key_id": record.key_id,
                "model": record.model,
                "vendor": record.vendor,
                "outcome": record.outcome.value,
                "input_tokens": record.usage.input_tokens,
                "output_tokens": record.usage.output_tokens,
                "cost_nanos": record.cost.nanos,
                "record": msgspec.json.encode(record).decode(),
            }
            await connection.execute(generations.insert().values(row))


async def models(counts: SqlPopularity, since: datetime = NOW - 24 * HOUR, until: datetime = NOW + HOUR):
    return await counts.between(Counted.MODEL, since, until)


async def test_models_are_counted_for_each_vendor_most_tokens_first(database: Database) -> None:
    await keep(
        database,
        used("a"),
        used("b", NOW - HOUR),
        used("n"),
        used("c", vendor="other", usage=Usage(input=1_000), first_token_ms=None),
        used("d", model="acme/two", outcome=Outcome.FAILED, usage=Usage()),
    )
    counts = SqlPopularity(database)
    assert await counts.count(NOW) == 4
    assert list(await models(counts)) == [
        Popularity(name="acme/one", vendor="other", requests=1, failed=0, input_tokens=1_000, output_tokens=0,
                   first_token_ms=0, duration_ms=0, timed=0),
        Popularity(name="acme/one", vendor="acme", requests=3, failed=0, input_tokens=300, output_tokens=30,
                   first_token_ms=150, duration_ms=750, timed=3),
        Popularity(name="acme/two", vendor="acme", requests=1, failed=1, input_tokens=0, output_tokens=0,
                   first_token_ms=50, duration_ms=250, timed=1),
    ]  # fmt: skip


async def test_apps_are_those_that_say_what_they_are_called(database: Database) -> None:
    await keep(database, used("a", app='The "App"'), used("n", app='The "App"'), used("b", app="zeta"), used("c"))
    counts = SqlPopularity(database)
    await counts.count(NOW)
    apps = await counts.between(Counted.APP, NOW - HOUR, NOW + HOUR)
    assert [(app.name, app.vendor, app.requests, app.tokens) for app in apps] == [
        ('The "App"', "", 2, 220),
        ("zeta", "", 1, 110),
    ]


async def test_counting_again_counts_nothing_twice_and_takes_up_what_came_late(database: Database) -> None:
    await keep(database, used("a"))
    counts = SqlPopularity(database)
    await counts.count(NOW)
    await keep(database, used("b", NOW - 2 * HOUR))
    for _ in range(2):
        await counts.count(NOW)
        assert [(each.requests, each.tokens) for each in await models(counts)] == [(2, 220)]


async def test_a_gap_of_days_is_caught_up_with(database: Database) -> None:
    counts = SqlPopularity(database)
    await keep(database, used("a", NOW - timedelta(days=9)))
    await counts.count(NOW - timedelta(days=9))
    await keep(database, used("b", NOW - timedelta(days=4)), used("c"))
    await counts.count(NOW)
    assert [each.requests for each in await models(counts, NOW - timedelta(days=10))] == [3]


async def test_only_whole_hours_that_begin_in_the_span_are_summed(database: Database) -> None:
    await keep(database, used("a"), used("b", NOW - HOUR), used("c", NOW - 2 * HOUR))
    counts = SqlPopularity(database)
    await counts.count(NOW)
    start = NOW.replace(minute=0, second=0)
    assert [each.requests for each in await models(counts, start - HOUR, start)] == [1]
    assert [each.requests for each in await models(counts, start - HOUR, start + HOUR)] == [2]


async def test_what_is_older_than_a_month_is_forgotten(database: Database) -> None:
    await keep(database, used("a", NOW - timedelta(days=20)))
    counts = SqlPopularity(database)
    await counts.count(NOW)
    await counts.count(NOW + KEPT)
    async with database.reading() as connection:
        assert (await connection.execute(usage_hours.select())).all() == []


async def test_made_up_names_cannot_fill_the_database(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(popularity, "GROUPS_MAX", 3)
    await keep(database, *[used(f"a{n}", app=f"app {n}", usage=Usage(input=n)) for n in range(6)])
    counts = SqlPopularity(database)
    await counts.count(NOW)
    assert [app.name for app in await counts.between(Counted.APP, NOW - HOUR, NOW + HOUR)] == [
        "app 5", "app 4", "app 3",
    ]  # fmt: skip
