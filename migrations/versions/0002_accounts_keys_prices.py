"""Accounts, keys, prices, models lists, revisions, and idempotency keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("normalised_email", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("parent_id", sa.Text),
        sa.Column("limits", sa.Text, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
        sa.UniqueConstraint("normalised_email", name="uq_accounts_normalised_email"),
        sa.ForeignKeyConstraint(["parent_id"], ["accounts.id"], name="fk_accounts_parent_id_accounts"),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("prefix", sa.Text, nullable=False),
        sa.Column("last4", sa.Text, nullable=False),
        sa.Column("pepper_id", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("is_admin", sa.Boolean, nullable=False),
        sa.Column("bootstrap", sa.Boolean, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("revoked_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.UniqueConstraint("digest", name="uq_keys_digest"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_keys_account_id_accounts"),
    )
    unrevoked = sa.text("revoked_at IS NULL")
    op.create_index(
        "uq_keys_account_id_name_unrevoked",
        "keys",
        ["account_id", "name"],
        unique=True,
        postgresql_where=unrevoked,
        sqlite_where=unrevoked,
    )
    op.create_index("ix_keys_account_id_id", "keys", ["account_id", "id"])
    op.create_index(
        "ix_keys_id_admin",
        "keys",
        ["id"],
        postgresql_where=sa.text("is_admin AND revoked_at IS NULL"),
        sqlite_where=sa.text("is_admin = 1 AND revoked_at IS NULL"),
    )
    op.create_table(
        "prices",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("vendor", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("valid_from", INSTANT, nullable=False),
        sa.Column("rates", sa.Text, nullable=False),
        sa.Column("tiers", sa.Text, nullable=False),
        sa.Column("free", sa.Boolean, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_prices"),
    )
    op.create_index("ix_prices_vendor_model_valid_from_id", "prices", ["vendor", "model", "valid_from", "id"])
    op.create_table(
        "catalog_entries",
        sa.Column("vendor", sa.Text, nullable=False),
        sa.Column("models", sa.Text, nullable=False),
        sa.Column("listed_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("vendor", name="pk_catalog_entries"),
    )
    op.create_table(
        "revisions",
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("topic", name="pk_revisions"),
    )
    op.create_table(
        "idempotency",
        sa.Column("account_id", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("status", sa.SmallInteger),
        sa.Column("headers", sa.Text),
        sa.Column("body", sa.LargeBinary),
        sa.PrimaryKeyConstraint("account_id", "key", name="pk_idempotency"),
    )
    op.create_index("ix_idempotency_expires_at", "idempotency", ["expires_at"])


def downgrade() -> None:
    for table in ("idempotency", "revisions", "catalog_entries", "prices", "keys", "accounts"):
        op.drop_table(table)
