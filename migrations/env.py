"""Runs the migrations on a connection that it is given, or on the database that DATABASE_URL names."""

from __future__ import annotations

import asyncio
import os

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

LIMITS = {"lock_timeout": "4s", "statement_timeout": "5s"}
ONE_AT_A_TIME = 7_238_195_460
"""The advisory lock under which one process migrates while the others wait, to find their work done."""


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=context.config.attributes.get("target_metadata"),
        compare_type=True,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": ONE_AT_A_TIME})
            for setting, limit in LIMITS.items():
                connection.execute(
                    text("SELECT set_config(:setting, :limit, true)"), {"setting": setting, "limit": limit}
                )
        context.run_migrations()


async def connect_and_migrate(url: str) -> None:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


given = context.config.attributes.get("connection")
if given is None:
    asyncio.run(connect_and_migrate(os.environ["DATABASE_URL"]))
else:
    migrate(given)
