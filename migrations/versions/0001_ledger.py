"""The ledger: credit accounts, holds, key meters, transfers and generations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")

REFUSE_CHANGE = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the table % is append-only', TG_TABLE_NAME;
END
$$
"""


def upgrade() -> None:
    _create_accounts()
    _create_holds()
    _create_transfers()
    _create_generations()
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE TABLE transfers_default PARTITION OF transfers DEFAULT")
        op.execute("CREATE TABLE generations_default PARTITION OF generations DEFAULT")
        op.execute(REFUSE_CHANGE)
        op.execute(
            "CREATE TRIGGER transfers_append_only BEFORE UPDATE OR DELETE ON transfers "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            "CREATE TRIGGER transfers_not_truncated BEFORE TRUNCATE ON transfers "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    else:
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER transfers_no_{change.lower()} BEFORE {change} ON transfers "
                "BEGIN SELECT RAISE(ABORT, 'the table transfers is append-only'); END"
            )


def downgrade() -> None:
    for table in ("generations", "transfers", "booked_transfers", "key_meters", "holds", "credit_accounts"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change()")


def _create_accounts() -> None:
    op.create_table(
        "credit_accounts",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("funded", sa.BigInteger(), nullable=False),
        sa.Column("free", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("charged", sa.BigInteger(), nullable=False),
        sa.Column("removed", sa.BigInteger(), nullable=False),
        sa.Column("lots", sa.Text(), nullable=False),
        sa.Column("next_expiry", INSTANT),
        sa.PrimaryKeyConstraint("account_id", name="pk_credit_accounts"),
        sa.CheckConstraint(
            "funded >= 0 AND free >= 0 AND held >= 0 AND charged >= 0 AND removed >= 0",
            name="ck_credit_accounts_not_negative",
        ),
        sa.CheckConstraint("funded = free + held + charged + removed", name="ck_credit_accounts_adds_up"),
        postgresql_with={"fillfactor": 50},
    )
    op.create_index("ix_credit_accounts_next_expiry", "credit_accounts", ["next_expiry"])
    op.create_table(
        "key_meters",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("period_start", INSTANT),
        sa.PrimaryKeyConstraint("key_id", name="pk_key_meters"),
        sa.CheckConstraint("requests >= 0 AND spent >= 0 AND held >= 0", name="ck_key_meters_not_negative"),
        postgresql_with={"fillfactor": 50},
    )


def _create_holds() -> None:
    op.create_table(
        "holds",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("watermark", sa.BigInteger(), nullable=False),
        sa.Column("draws", sa.Text(), nullable=False),
        sa.Column("opened_at", INSTANT, nullable=False),
        sa.Column("lease_until", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT),
        sa.Column("metered_key", sa.Text()),
        sa.Column("last_extension", sa.Integer(), nullable=False),
        sa.Column("record", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_holds"),
        sa.CheckConstraint("amount >= 0 AND watermark >= 0", name="ck_holds_not_negative"),
        sa.CheckConstraint("state IN ('open', 'charged', 'voided')", name="ck_holds_state"),
        sa.CheckConstraint("(state = 'open') = (ended_at IS NULL)", name="ck_holds_ended"),
        sqlite_with_rowid=False,
    )
    is_open = sa.text("state = 'open'")
    op.create_index("ix_holds_open", "holds", ["lease_until"], postgresql_where=is_open, sqlite_where=is_open)


def _create_transfers() -> None:
    op.create_table(
        "booked_transfers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_booked_transfers"),
    )
    op.create_table(
        "transfers",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("debit", sa.Text(), nullable=False),
        sa.Column("credit", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("draws", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "id", "at", name="pk_transfers"),
        sa.CheckConstraint("amount >= 0", name="ck_transfers_not_negative"),
        postgresql_partition_by="RANGE (at)",
        sqlite_with_rowid=False,
    )
    posted = sa.text("kind NOT IN ('hold', 'extend', 'void')")
    op.create_index(
        "ix_transfers_posted",
        "transfers",
        ["account_id", "at", "id"],
        postgresql_where=posted,
        sqlite_where=posted,
    )


def _create_generations() -> None:
    op.create_table(
        "generations",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_nanos", sa.BigInteger(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "id", "started_at", name="pk_generations"),
        postgresql_partition_by="RANGE (started_at)",
        sqlite_with_rowid=False,
    )
    op.create_index("ix_generations_account_id_started_at", "generations", ["account_id", "started_at"])
