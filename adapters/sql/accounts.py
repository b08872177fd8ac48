"""Accounts; the normalised e-mail address is unique by constraint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Column, ColumnElement, ForeignKey, RowMapping, Table, Text, exists, select, update
from sqlalchemy.exc import IntegrityError

from adapters.sql.database import Database
from adapters.sql.revisions import bump
from adapters.sql.schema import Instant, metadata
from adapters.sql.upserts import insert_into
from domain.accounts import Account, AccountStatus, EmailTaken, UnknownAccount, normalised_email
from domain.credits import AlreadyBooked
from domain.ids import AccountId
from domain.limits import LimitSet

accounts = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("email", Text, nullable=False),
    Column("normalised_email", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("parent_id", Text, ForeignKey("accounts.id")),
    Column("limits", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
)

_limits = msgspec.json.Decoder(LimitSet)


class SqlAccounts:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, account: Account) -> None:
        email = normalised_email(account.email)
        try:
            async with self._database.transaction() as connection:
                insert = insert_into(connection, accounts).values(_row(account, email))
                insert = insert.on_conflict_do_nothing()
                if (await connection.execute(insert.returning(accounts.c.id))).first():
                    return
                taken = await connection.scalar(select(exists().where(accounts.c.normalised_email == email)))
        except IntegrityError:
            # What is unique cannot raise here, so that only the foreign key is left.
            raise UnknownAccount(f"The parent account {account.parent_id} does not exist.") from None
        if taken:
            raise EmailTaken(f"The e-mail address {account.email} has an account. Use another address.", param="email")
        raise AlreadyBooked(f"The account {account.id} has been added before.")

    async def get(self, account_id: AccountId) -> Account:
        return await self._one(accounts.c.id == account_id, f"The account {account_id} does not exist.")

    async def by_email(self, email: str) -> Account:
        found = accounts.c.normalised_email == normalised_email(email)
        return await self._one(found, f"No account has the e-mail address {email}.")

    async def list(self, limit: int, after: AccountId | None) -> Sequence[Account]:
        query = select(accounts).order_by(accounts.c.id).limit(limit)
        if after is not None:
            query = query.where(accounts.c.id > after)
        async with self._database.reading() as connection:
            return [read_account(row) for row in (await connection.execute(query)).mappings()]

    async def set_status(self, account_id: AccountId, status: AccountStatus) -> None:
        change = update(accounts).where(accounts.c.id == account_id).values(status=status.value)
        async with self._database.transaction() as connection:
            if not (await connection.execute(change.returning(accounts.c.id))).first():
                raise UnknownAccount(f"The account {account_id} does not exist.")
            await bump(connection, "keys")

    async def _one(self, condition: ColumnElement[bool], otherwise: str) -> Account:
        async with self._database.reading() as connection:
            row = (await connection.execute(select(accounts).where(condition))).mappings().first()
        if row is None:
            raise UnknownAccount(otherwise)
        return read_account(row)


def read_account(row: RowMapping) -> Account:
    """From a row that may hold other tables' columns too."""
    return Account(
        id=row[accounts.c.id],
        email=row[accounts.c.email],
        name=row[accounts.c.name],
        status=AccountStatus(row[accounts.c.status]),
        parent_id=row[accounts.c.parent_id],
        limits=_limits.decode(row[accounts.c.limits]),
        created_at=row[accounts.c.created_at],
    )


def _row(account: Account, email: str) -> dict[str, Any]:
    return {
        "id": account.id,
        "email": account.email,
        "normalised_email": email,
        "name": account.name,
        "status": account.status.value,
        "parent_id": account.parent_id,
        "limits": msgspec.json.encode(account.limits).decode(),
        "created_at": account.created_at,
    }
