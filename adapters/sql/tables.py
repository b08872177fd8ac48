"""Every table, so that importing this module completes the metadata."""

from __future__ import annotations

from adapters.sql.accounts import accounts
from adapters.sql.catalog_entries import catalog_asks, catalog_entries
from adapters.sql.idempotency import idempotency
from adapters.sql.keys import keys
from adapters.sql.leases import leases
from adapters.sql.ledger.tables import (
    booked_transfers,
    credit_accounts,
    generations,
    holds,
    key_meters,
    transfers,
)
from adapters.sql.markups import markups
from adapters.sql.overrides import catalog_overrides
from adapters.sql.popularity import usage_hours
from adapters.sql.prices import prices
from adapters.sql.responses import responses
from adapters.sql.revisions import revisions
from adapters.sql.schema import metadata

__all__ = [
    "accounts",
    "booked_transfers",
    "catalog_asks",
    "catalog_entries",
    "catalog_overrides",
    "credit_accounts",
    "generations",
    "holds",
    "idempotency",
    "key_meters",
    "keys",
    "leases",
    "markups",
    "metadata",
    "prices",
    "responses",
    "revisions",
    "transfers",
    "usage_hours",
]
