"""The ledger's tables.

One row of `credit_accounts` is one whole account, its live lots included, so that locking it locks the
account.  Amounts are nano-dollars. `transfers` and `generations` only grow and are partitioned by time on
PostgreSQL; a primary key there must contain the time, so that `booked_transfers` and `holds` keep derived
ids unique.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, Table, Text, text

from adapters.sql.schema import Instant, metadata

POSTED = text("kind NOT IN ('hold', 'extend', 'void')")
"""Transfers that moved a balance; spelt out, because a partial index serves only its own condition."""

HOT_ROWS = {"fillfactor": 50}
"""Room beside each row, so that a busy one is rewritten all day without touching its indexes."""

credit_accounts = Table(
    "credit_accounts",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("funded", BigInteger, nullable=False),
    Column("free", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("charged", BigInteger, nullable=False),
    Column("removed", BigInteger, nullable=False),
    Column("lots", Text, nullable=False),
    Column("next_expiry", Instant),
    CheckConstraint("funded >= 0 AND free >= 0 AND held >= 0 AND charged >= 0 AND removed >= 0", name="not_negative"),
    CheckConstraint("funded = free + held + charged + removed", name="adds_up"),
    Index(None, "next_expiry"),
    postgresql_with=HOT_ROWS,
)

holds = Table(
    "holds",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("watermark", BigInteger, nullable=False),
    Column("draws", Text, nullable=False),
    Column("opened_at", Instant, nullable=False),
    Column("lease_until", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("metered_key", Text),
    Column("last_extension", Integer, nullable=False),
    Column("record", Text),
    CheckConstraint("amount >= 0 AND watermark >= 0", name="not_negative"),
    CheckConstraint("state IN ('open', 'charged', 'voided')", name="state"),
    CheckConstraint("(state = 'open') = (ended_at IS NULL)", name="ended"),
    Index(
        "ix_holds_open",
        "lease_until",
        postgresql_where=text("state = 'open'"),
        sqlite_where=text("state = 'open'"),
    ),
)

key_meters = Table(
    "key_meters",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("spent", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("period_start", Instant),
    CheckConstraint("requests >= 0 AND spent >= 0 AND held >= 0", name="not_negative"),
    postgresql_with=HOT_ROWS,
)

booked_transfers = Table(
    "booked_transfers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
)

transfers = Table(
    "transfers",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("at", Instant, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("debit", Text, nullable=False),
    Column("credit", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("reference", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("draws", Text, nullable=False),
    CheckConstraint("amount >= 0", name="not_negative"),
    Index("ix_transfers_posted", "account_id", "at", "id", postgresql_where=POSTED, sqlite_where=POSTED),
    postgresql_partition_by="RANGE (at)",
    sqlite_with_rowid=False,
)

generations = Table(
    "generations",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("started_at", Instant, primary_key=True),
    Column("key_id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("vendor", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cost_nanos", BigInteger, nullable=False),
    Column("record", Text, nullable=False),
    Index(None, "account_id", "started_at"),
    postgresql_partition_by="RANGE (started_at)",
    sqlite_with_rowid=False,
)
