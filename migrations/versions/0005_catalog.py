"""What the operator says about the catalogue, when vendors were asked for their lists, and usage by the hour."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "catalog_asks",
        sa.Column("vendor", sa.Text, nullable=False),
        sa.Column("asked_at", INSTANT, nullable=False),
        sa.Column("failure", sa.Text),
        sa.PrimaryKeyConstraint("vendor", name="pk_catalog_asks"),
    )
    op.create_table(
        "catalog_overrides",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("vendor", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("said", sa.Text, nullable=False),
        sa.Column("said_at", INSTANT, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("kind", "vendor", "name", name="pk_catalog_overrides"),
    )
    op.create_table(
        "usage_hours",
        sa.Column("hour", INSTANT, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("vendor", sa.Text, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("first_token_ms", sa.BigInteger, nullable=False),
        sa.Column("duration_ms", sa.BigInteger, nullable=False),
        sa.Column("timed", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("hour", "kind", "name", "vendor", name="pk_usage_hours"),
    )


def downgrade() -> None:
    for table in ("usage_hours", "catalog_overrides", "catalog_asks"):
        op.drop_table(table)
