"""Revisions: one counter per topic, raised in the transaction that changes what the topic stands for."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import BigInteger, Column, Table, Text, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sql.database import Database
from adapters.sql.schema import metadata
from adapters.sql.upserts import insert_into

revisions = Table(
    "revisions",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
)


async def bump(connection: AsyncConnection, topic: str) -> None:
    """Raise the topic's counter.  Call it last: others who change the topic wait for this transaction."""
    insert = insert_into(connection, revisions).values(topic=topic, number=1)
    raised = {"number": revisions.c.number + 1}
    await connection.execute(insert.on_conflict_do_update(index_elements=[revisions.c.topic], set_=raised))


class SqlRevisions:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> Mapping[str, int]:
        return await self._database.promptly(self._read())

    async def _read(self) -> Mapping[str, int]:
        async with self._database.reading() as connection:
            rows = await connection.execute(select(revisions.c.topic, revisions.c.number))
            return {row.topic: row.number for row in rows}
