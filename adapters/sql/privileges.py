"""What the role that serves may do in PostgreSQL: less than the role that migrates, which owns the tables.

A trigger keeps transfers from being changed, yet an owner could drop the trigger.  A role that owns nothing cannot, and
that it may neither change, remove nor empty transfers is the second lock on the same door.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sql.database import Database
from adapters.sql.tables import metadata
from domain.errors import Conflict, InvalidRequest

READ, ADD, CHANGE, REMOVE = "SELECT", "INSERT", "UPDATE", "DELETE"
EVERYTHING: Final = (READ, ADD, CHANGE, REMOVE)

NEEDED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "alembic_version": (READ,),
        "transfers": (READ, ADD),
        "transfers_default": (READ,),
        "booked_transfers": (READ, ADD),
        "generations": (READ, ADD),
        # Retention removes what lies in no month.
        "generations_default": (READ, REMOVE),
        "credit_accounts": (READ, ADD, CHANGE),
        "key_meters": (READ, ADD, CHANGE),
        "accounts": (READ, ADD, CHANGE),
        "keys": (READ, ADD, CHANGE),
        "catalog_entries": (READ, ADD, CHANGE),
        "revisions": (READ, ADD, CHANGE),
        "prices": (READ, ADD),
    }
)
"""The tables that bear less than everything.  Rows reach a month through its parent, so that months need nothing."""

FUNCTIONS: Final = ("make_month(text, date)", "drop_generations(text)", "guard_transfers()")


class RoleRefused(Conflict):
    """The role does not exist, or no privilege would bind it."""

    code = "role_refused"


async def grant_to(database: Database, role: str) -> None:
    """Give `role` what a serving gateway needs, and take everything else in this schema from it.

    Doing it again after each migration also covers new tables.  Raises InvalidRequest on SQLite, RoleRefused.
    """
    if database.is_sqlite:
        raise InvalidRequest("SQLite has no roles. --app-role is for PostgreSQL: set DATABASE_URL.")
    async with database.transaction(within_s=None) as connection:
        quoted = await _checked(connection, role)
        schema = await connection.scalar(text("SELECT quote_ident(current_schema())"))
        names = "SELECT quote_ident(relname) FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
        tables = (await connection.scalars(text(f"{names} AND relkind IN ('r', 'p')"))).all()
        granted = {name: NEEDED.get(name, EVERYTHING) for name in (*metadata.tables, *NEEDED)}
        statements = [
            *(f"REVOKE ALL ON {name} FROM {quoted}" for name in tables),
            f"GRANT USAGE ON SCHEMA {schema} TO {quoted}",
            *(f"GRANT {', '.join(rights)} ON {name} TO {quoted}" for name, rights in granted.items()),
            # A database that was restored without privileges lets everybody call them.
            *(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC" for function in FUNCTIONS),
            *(f"GRANT EXECUTE ON FUNCTION {function} TO {quoted}" for function in FUNCTIONS),
        ]
        for statement in statements:
            await connection.execute(text(statement))


async def _checked(connection: AsyncConnection, role: str) -> str:
    """The role's name for statements."""
    known = text("SELECT quote_ident(rolname), rolsuper FROM pg_roles WHERE rolname = :role")
    found = (await connection.execute(known, {"role": role})).first()
    if found is None:
        raise RoleRefused(
            f"PostgreSQL has no role {role!r}. Make it first, as an administrator: "
            "CREATE ROLE name LOGIN PASSWORD '...'"
        )
    quoted, is_super = found
    owns = text("SELECT pg_has_role(:role, relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('transfers')")
    if is_super or await connection.scalar(owns, {"role": role}):
        raise RoleRefused(
            f"The role {role!r} is a superuser, or has the rights of the tables' owner: no privilege binds it. "
            "Name another role, one that DATABASE_URL of the serving processes will use."
        )
    return str(quoted)
