"""What is put on top of vendors' prices: a row per rule.  The empty text stands for every vendor, model or plan."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BigInteger, CheckConstraint, Column, Table, Text, select

from adapters.sql.database import Database
from adapters.sql.revisions import bump
from adapters.sql.schema import Instant, metadata
from adapters.sql.upserts import insert_into
from domain.markups import Markup, MarkupScope, UnknownMarkup

markups = Table(
    "markups",
    metadata,
    Column("vendor", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("plan", Text, primary_key=True),
    Column("ppm", BigInteger, nullable=False),
    Column("author", Text, nullable=False),
    Column("set_at", Instant, nullable=False),
    CheckConstraint("ppm > 0", name="positive"),
)

_scope = (markups.c.vendor, markups.c.model, markups.c.plan)


class SqlMarkups:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> Sequence[Markup]:
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(markups))).all()
        found = [
            Markup(
                scope=MarkupScope(row.vendor, row.model, row.plan), ppm=row.ppm, author=row.author, set_at=row.set_at
            )
            for row in rows
        ]
        # Here, because databases order texts by their own rules.
        return sorted(found, key=lambda markup: markup.scope)

    async def put(self, markup: Markup) -> None:
        scope = markup.scope
        said = {"ppm": markup.ppm, "author": markup.author, "set_at": markup.set_at}
        async with self._database.transaction() as connection:
            insert = insert_into(connection, markups).values(
                vendor=scope.vendor, model=scope.model, plan=scope.plan, **said
            )
            await connection.execute(insert.on_conflict_do_update(index_elements=list(_scope), set_=said))
            await bump(connection, "prices")

    async def remove(self, scope: MarkupScope) -> None:
        is_it = (markups.c.vendor == scope.vendor, markups.c.model == scope.model, markups.c.plan == scope.plan)
        async with self._database.transaction() as connection:
            removed = await connection.execute(markups.delete().where(*is_it).returning(markups.c.ppm))
            if removed.first() is None:
                raise UnknownMarkup(
                    f"No markup is set for {scope}. 'gatewayz prices markup list' shows those that are."
                )
            await bump(connection, "prices")
