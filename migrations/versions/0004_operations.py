"""What an app role without any ownership needs: months made and dropped for it, and transfers nobody truncates.

The functions run with their owner's rights.  Each does one thing to one kind of table, so that whoever may call them
can neither change nor drop a transfer.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MAKE_MONTH = """
CREATE FUNCTION make_month(parent text, month date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER {path} AS $$
DECLARE
    name text := parent || to_char(month, '_YYYY_MM');
    starts text := to_char(month, 'YYYY-MM-01') || ' 00:00:00+00';
    ends text := to_char(month + interval '1 month', 'YYYY-MM-01') || ' 00:00:00+00';
BEGIN
    IF parent NOT IN ('transfers', 'generations') THEN
        RAISE EXCEPTION 'the table % has no months', parent;
    END IF;
    -- Attached rather than created in place, so that the whole table is never locked.
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', name, parent);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, name, starts, ends);
    PERFORM guard_transfers();
END
$$
"""

GUARD_TRANSFERS = """
CREATE FUNCTION guard_transfers() RETURNS void LANGUAGE plpgsql SECURITY DEFINER {path} AS $$
DECLARE
    name regclass;
BEGIN
    -- A trigger of a whole statement guards one table: its partitions do not get it by themselves.
    FOR name IN SELECT relid FROM pg_partition_tree('transfers') WHERE NOT EXISTS (
        SELECT FROM pg_trigger WHERE tgrelid = relid AND tgname = 'transfers_not_truncated'
    ) LOOP
        EXECUTE format('CREATE TRIGGER transfers_not_truncated BEFORE TRUNCATE ON %s '
            'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name);
    END LOOP;
END
$$
"""

DROP_GENERATIONS = """
CREATE FUNCTION drop_generations(month text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER {path} AS $$
BEGIN
    IF month !~ '^generations_[0-9]{{4}}_[0-9]{{2}}$' THEN
        RAISE EXCEPTION '% is no month of generations', month;
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS %I', month);
END
$$
"""

SIGNATURES = ("make_month(text, date)", "drop_generations(text)", "guard_transfers()")


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    schema = connection.exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    # Fixed, and with temporary tables last, so that a caller cannot make the names mean something else.
    path = f"SET search_path = {schema}, pg_temp"
    for function in (GUARD_TRANSFERS, MAKE_MONTH, DROP_GENERATIONS):
        connection.exec_driver_sql(function.format(path=path))
    for signature in SIGNATURES:
        op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
    op.execute("SELECT guard_transfers()")


def downgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    leaves = "SELECT relid::regclass::text FROM pg_partition_tree('transfers') WHERE parentrelid IS NOT NULL"
    for name in connection.exec_driver_sql(leaves).scalars().all():
        connection.exec_driver_sql(f"DROP TRIGGER transfers_not_truncated ON {name}")
    for signature in SIGNATURES:
        op.execute(f"DROP FUNCTION {signature}")
