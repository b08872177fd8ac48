"""API keys, stored without their secrets; unique are digests, and names among an account's unrevoked keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    RowMapping,
    Table,
    Text,
    and_,
    exists,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from adapters.sql.accounts import accounts, read_account
from adapters.sql.database import Database
from adapters.sql.revisions import bump
from adapters.sql.schema import Instant, metadata
from adapters.sql.upserts import insert_into
from domain.accounts import Account, UnknownAccount
from domain.credits import AlreadyBooked
from domain.ids import AccountId, KeyId
from domain.keys import ApiKey, Environment, KeyNameTaken, KeyPolicy, Scope, UnknownKey

keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("last4", Text, nullable=False),
    Column("pepper_id", Text, nullable=False),
    Column("digest", Text, nullable=False, unique=True),
    Column("policy", Text, nullable=False),
    Column("is_admin", Boolean, nullable=False),
    Column("bootstrap", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("revoked_at", Instant),
)
_unrevoked = keys.c.revoked_at.is_(None)
_unrevoked_admin = and_(keys.c.is_admin, _unrevoked)
Index(
    "uq_keys_account_id_name_unrevoked",
    keys.c.account_id,
    keys.c.name,
    unique=True,
    postgresql_where=_unrevoked,
    sqlite_where=_unrevoked,
)
Index("ix_keys_account_id_id", keys.c.account_id, keys.c.id)
Index("ix_keys_id_admin", keys.c.id, postgresql_where=_unrevoked_admin, sqlite_where=_unrevoked_admin)

_policy = msgspec.json.Decoder(KeyPolicy)


class SqlKeys:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, key: ApiKey) -> None:
        try:
            async with self._database.transaction() as connection:
                insert = insert_into(connection, keys).values(_row(key)).on_conflict_do_nothing()
                if (await connection.execute(insert.returning(keys.c.id))).first():
                    await bump(connection, "keys")
                    return
                # Keys are never deleted: if neither is known, then it was the name.
                known = or_(keys.c.id == key.id, keys.c.digest == key.digest)
                repeated = await connection.scalar(select(exists().where(known)))
        except IntegrityError:
            # What is unique cannot raise here, so that only the foreign key is left.
            raise UnknownAccount(f"The account {key.account_id} does not exist.") from None
        if repeated:
            raise AlreadyBooked(f"The key {key.id} or its secret has been added before.")
        raise _name_taken(key.name)

    async def by_digest(self, digests: Sequence[str]) -> tuple[ApiKey, Account] | None:
        found = await self._database.promptly(self._rows_by_digest(digests))
        row = next((found[digest] for digest in digests if digest in found), None)
        return (_read_key(row), read_account(row)) if row is not None else None

    async def _rows_by_digest(self, digests: Sequence[str]) -> Mapping[str, RowMapping]:
        query = select(keys, accounts).join(accounts).where(keys.c.digest.in_(digests))
        async with self._database.reading() as connection:
            return {row[keys.c.digest]: row for row in (await connection.execute(query)).mappings()}

    async def get(self, account_id: AccountId, key_id: KeyId) -> ApiKey:
        query = select(keys).where(keys.c.id == key_id, keys.c.account_id == account_id)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).mappings().first()
        return _known(row, key_id)

    async def list(self, account_id: AccountId, limit: int, after: KeyId | None) -> Sequence[ApiKey]:
        query = select(keys).where(keys.c.account_id == account_id, _unrevoked)
        if after is not None:
            query = query.where(keys.c.id > after)
        async with self._database.reading() as connection:
            rows = await connection.execute(query.order_by(keys.c.id).limit(limit))
            return [_read_key(row) for row in rows.mappings()]

    async def revoke(self, account_id: AccountId, key_id: KeyId, at: datetime) -> ApiKey:
        first_time = func.coalesce(keys.c.revoked_at, literal(at, Instant()))
        change = (
            update(keys)
            .where(keys.c.id == key_id, keys.c.account_id == account_id)
            .values(revoked_at=first_time)
            .returning(keys)
        )
        async with self._database.transaction() as connection:
            key = _known((await connection.execute(change)).mappings().first(), key_id)
            await bump(connection, "keys")
        return key

    async def change(self, account_id: AccountId, key_id: KeyId, name: str, policy: KeyPolicy) -> ApiKey:
        change = (
            update(keys)
            .where(keys.c.id == key_id, keys.c.account_id == account_id, _unrevoked)
            .values(name=name, **_policy_columns(policy))
            .returning(keys)
        )
        try:
            async with self._database.transaction() as connection:
                key = _known((await connection.execute(change)).mappings().first(), key_id)
                await bump(connection, "keys")
        except IntegrityError:
            raise _name_taken(name) from None
        return key

    async def admins(self) -> Sequence[ApiKey]:
        async with self._database.reading() as connection:
            rows = await connection.execute(select(keys).where(_unrevoked_admin).order_by(keys.c.id))
            return [_read_key(row) for row in rows.mappings()]


def _known(row: RowMapping | None, key_id: KeyId) -> ApiKey:
    if row is None:
        raise UnknownKey(f"This account has no key {key_id}.")
    return _read_key(row)


def _name_taken(name: str) -> KeyNameTaken:
    return KeyNameTaken(
        f"This account has a key named {name!r}. Choose another name, or revoke that key.", param="name"
    )


def _read_key(row: RowMapping) -> ApiKey:
    return ApiKey(
        id=row[keys.c.id],
        account_id=row[keys.c.account_id],
        name=row[keys.c.name],
        environment=Environment(row[keys.c.environment]),
        prefix=row[keys.c.prefix],
        last4=row[keys.c.last4],
        pepper_id=row[keys.c.pepper_id],
        digest=row[keys.c.digest],
        policy=_policy.decode(row[keys.c.policy]),
        created_at=row[keys.c.created_at],
        revoked_at=row[keys.c.revoked_at],
        bootstrap=row[keys.c.bootstrap],
    )


def _row(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "account_id": key.account_id,
        "name": key.name,
        "environment": key.environment.value,
        "prefix": key.prefix,
        "last4": key.last4,
        "pepper_id": key.pepper_id,
        "digest": key.digest,
        "bootstrap": key.bootstrap,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
        **_policy_columns(key.policy),
    }


def _policy_columns(policy: KeyPolicy) -> dict[str, Any]:
    # Written out in full: a default left out would let the next release's default widen the keys of this one.
    written = msgspec.json.encode(msgspec.structs.asdict(policy), order="deterministic")
    return {"policy": written.decode(), "is_admin": Scope.ADMIN in policy.scopes}
