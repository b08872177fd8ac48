"""Kept answers: their content sealed, with what is needed to find and to forget them beside it."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import msgspec
from msgspec import Struct
from sqlalchemy import Column, Index, LargeBinary, Table, Text, delete, select, tuple_

from adapters.sql.database import Database
from adapters.sql.schema import Instant, metadata
from adapters.sql.upserts import insert_into
from domain.ids import AccountId
from domain.ports.responses import KeptResponse, ResponseStatus

responses = Table(
    "responses",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
Index("ix_responses_expires_at", responses.c.expires_at)


class Seal(Protocol):
    def sealed(self, text: bytes, place: str) -> bytes: ...
    def opened(self, sealed: bytes, place: str) -> bytes: ...


class _Content(Struct, array_like=True):
    items: bytes
    answer: bytes


_content = msgspec.msgpack.Decoder(_Content)


class SqlResponses:
    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    async def put(self, response: KeptResponse) -> None:
        content = msgspec.msgpack.encode(_Content(response.items, response.answer))
        row = {
            "account_id": response.account_id,
            "id": response.id,
            "status": response.status.value,
            "created_at": response.created_at,
            "expires_at": response.expires_at,
            "content": self._seal.sealed(content, _place(response.account_id, response.id)),
        }

        async def kept() -> None:
            async with self._database.transaction() as connection:
                insert = insert_into(connection, responses).values(row)
                changed = {name: insert.excluded[name] for name in ("status", "expires_at", "content")}
                await connection.execute(
                    insert.on_conflict_do_update(
                        index_elements=["account_id", "id"],
                        set_=changed,
                        where=responses.c.status != ResponseStatus.CANCELLED.value,
                    )
                )

        await self._database.promptly(kept())

    async def get(self, account_id: AccountId, response_id: str, at: datetime) -> KeptResponse | None:
        wanted = select(responses).where(
            responses.c.account_id == account_id, responses.c.id == response_id, responses.c.expires_at > at
        )

        async def found() -> KeptResponse | None:
            async with self._database.reading() as connection:
                row = (await connection.execute(wanted)).mappings().first()
            if row is None:
                return None
            content = _content.decode(self._seal.opened(row["content"], _place(account_id, response_id)))
            return KeptResponse(
                account_id=account_id,
                id=response_id,
                status=ResponseStatus(row["status"]),
                created_at=row["created_at"],
                expires_at=row["expires_at"],
                items=content.items,
                answer=content.answer,
            )

        return await self._database.promptly(found())

    async def status(self, account_id: AccountId, response_id: str) -> ResponseStatus | None:
        wanted = select(responses.c.status).where(responses.c.account_id == account_id, responses.c.id == response_id)

        async def found() -> ResponseStatus | None:
            async with self._database.reading() as connection:
                status = (await connection.execute(wanted)).scalar()
            return None if status is None else ResponseStatus(status)

        return await self._database.promptly(found())

    async def delete(self, account_id: AccountId, response_id: str) -> bool:
        unwanted = delete(responses).where(responses.c.account_id == account_id, responses.c.id == response_id)

        async def gone() -> bool:
            async with self._database.transaction() as connection:
                return (await connection.execute(unwanted)).rowcount > 0

        return await self._database.promptly(gone())

    async def forget_before(self, at: datetime, limit: int) -> int:
        names = (responses.c.account_id, responses.c.id)
        expired = responses.c.expires_at < at
        oldest = select(*names).where(expired).order_by(responses.c.expires_at).limit(limit)
        async with self._database.transaction(within_s=None) as connection:
            return (await connection.execute(delete(responses).where(tuple_(*names).in_(oldest), expired))).rowcount


def _place(account_id: AccountId, response_id: str) -> str:
    return f"response:{account_id}:{response_id}"
