"""Markups by vendor, model and plan; prices of pictures by size and quality."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "markups",
        sa.Column("vendor", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("ppm", sa.BigInteger, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("set_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("vendor", "model", "plan", name="pk_markups"),
        sa.CheckConstraint("ppm > 0", name="ck_markups_positive"),
    )
    op.add_column("prices", sa.Column("image_rates", sa.Text, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("prices", "image_rates")
    op.drop_table("markups")
