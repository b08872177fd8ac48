"""Recomputes every balance, lot, hold and meter from the transfers, and tells what does not agree.

The database does the sums, in one snapshot: millions of transfers are read, but only differences come back.
Each check is a statement that selects: account, what differs, the stored value, the recomputed value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import text

from adapters.sql.database import Database
from domain.ids import AccountId
from domain.ports.ledger import Difference

DIFFERENCES_MAX = 1_000
"""Of each check: whoever has more than that needs no longer list."""

SNAPSHOT = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "SET LOCAL statement_timeout = '30min'",
)

BALANCES = """
WITH sides AS (
    SELECT account_id, funded AS has_funded, free AS has_free, held AS has_held, charged AS has_charged,
        removed AS has_removed, 0 AS funded, 0 AS held, 0 AS charged, 0 AS removed
    FROM credit_accounts
    UNION ALL
    SELECT account_id, 0, 0, 0, 0, 0,
        CASE WHEN kind = 'grant' THEN amount ELSE 0 END,
        0,
        CASE WHEN kind IN ('charge', 'excess') THEN amount ELSE 0 END,
        CASE WHEN kind IN ('expiry', 'withdrawal', 'refund') THEN amount ELSE 0 END
    FROM transfers
    UNION ALL
    SELECT account_id, 0, 0, 0, 0, 0, 0, amount, 0, 0 FROM holds WHERE state = 'open'
), sums AS (
    SELECT account_id, SUM(has_funded) AS has_funded, SUM(has_free) AS has_free, SUM(has_held) AS has_held,
        SUM(has_charged) AS has_charged, SUM(has_removed) AS has_removed, SUM(funded) AS funded,
        SUM(held) AS held, SUM(charged) AS charged, SUM(removed) AS removed
    FROM sides GROUP BY account_id
)
SELECT account_id, 'funded', has_funded, funded FROM sums WHERE has_funded <> funded
UNION ALL SELECT account_id, 'held', has_held, held FROM sums WHERE has_held <> held
UNION ALL SELECT account_id, 'charged', has_charged, charged FROM sums WHERE has_charged <> charged
UNION ALL SELECT account_id, 'removed', has_removed, removed FROM sums WHERE has_removed <> removed
UNION ALL SELECT account_id, 'free', has_free, funded - held - charged - removed FROM sums
    WHERE has_free <> funded - held - charged - removed
"""

LOTS = """
SELECT account_id, 'lot ' || lot, SUM(stored), SUM(recomputed) FROM (
    SELECT account_id, part.value->>0 AS lot,
        CAST(part.value->>3 AS BIGINT) + CAST(part.value->>4 AS BIGINT) AS stored, 0 AS recomputed
    FROM credit_accounts, json_each(lots) AS part
    UNION ALL
    SELECT account_id, part.value->>0, 0,
        CASE WHEN kind = 'grant' THEN CAST(part.value->>1 AS BIGINT) ELSE -CAST(part.value->>1 AS BIGINT) END
    FROM transfers, json_each(draws) AS part WHERE kind NOT IN ('hold', 'extend', 'void')
) AS sides GROUP BY account_id, lot HAVING SUM(stored) <> SUM(recomputed)
"""

HELD_LOTS = """
SELECT account_id, 'held of lot ' || lot, SUM(stored), SUM(recomputed) FROM (
    SELECT account_id, part.value->>0 AS lot, CAST(part.value->>4 AS BIGINT) AS stored, 0 AS recomputed
    FROM credit_accounts, json_each(lots) AS part
    UNION ALL
    SELECT account_id, part.value->>0, 0, CAST(part.value->>1 AS BIGINT)
    FROM holds, json_each(draws) AS part WHERE state = 'open'
) AS sides GROUP BY account_id, lot HAVING SUM(stored) <> SUM(recomputed)
"""

NEGATIVE_LOTS = """
SELECT account_id, 'negative lot ' || (part.value->>0), CAST(part.value->>3 AS BIGINT), 0
FROM credit_accounts, json_each(lots) AS part
WHERE CAST(part.value->>3 AS BIGINT) < 0 OR CAST(part.value->>4 AS BIGINT) < 0
"""

OPEN_HOLDS = """
SELECT holds.account_id, 'hold ' || holds.id, holds.amount, COALESCE(pending.amount, 0)
FROM holds LEFT JOIN (
    SELECT account_id, reference, SUM(amount) AS amount FROM transfers
    WHERE kind IN ('hold', 'extend') GROUP BY account_id, reference
) AS pending ON pending.account_id = holds.account_id AND pending.reference = holds.id
WHERE state = 'open' AND (pending.amount IS NULL OR pending.amount <> holds.amount)
"""

HOLD_ENDS = """
SELECT holds.account_id, 'ends of hold ' || holds.id, CASE state WHEN 'open' THEN 0 ELSE 1 END,
    COALESCE(ended.times, 0)
FROM holds LEFT JOIN (
    SELECT account_id, reference, COUNT(*) AS times FROM transfers
    WHERE kind IN ('charge', 'void') GROUP BY account_id, reference
) AS ended ON ended.account_id = holds.account_id AND ended.reference = holds.id
WHERE COALESCE(ended.times, 0) <> CASE state WHEN 'open' THEN 0 ELSE 1 END
"""

METERS = """
SELECT key_meters.account_id, 'held by key ' || key_meters.key_id, key_meters.held,
    COALESCE(SUM(holds.amount), 0)
FROM key_meters LEFT JOIN holds ON holds.metered_key = key_meters.key_id AND holds.state = 'open'
GROUP BY key_meters.account_id, key_meters.key_id, key_meters.held
HAVING key_meters.held <> COALESCE(SUM(holds.amount), 0)
"""

CHECKS = (BALANCES, LOTS, HELD_LOTS, NEGATIVE_LOTS, OPEN_HOLDS, HOLD_ENDS, METERS)


async def differences(database: Database) -> Sequence[Difference]:
    """Empty where all agree; at most DIFFERENCES_MAX of each kind."""
    found: list[Difference] = []
    async with database.reading(within_s=None) as connection:
        if not database.is_sqlite:
            for statement in SNAPSHOT:
                await connection.execute(text(statement))
        for check in CHECKS:
            rows = await connection.execute(text(check if database.is_sqlite else _in_postgresql(check)))
            for account_id, what, stored, recomputed in rows.fetchmany(DIFFERENCES_MAX):
                found.append(
                    Difference(
                        account_id=AccountId(account_id),
                        what=what,
                        stored_nanos=int(stored),
                        recomputed_nanos=int(recomputed),
                    )
                )
    return found


def _in_postgresql(check: str) -> str:
    """The checks are SQLite's; all that PostgreSQL says otherwise is how a JSON array becomes rows."""
    return re.sub(r"json_each\((\w+)\) AS part", r"json_array_elements(\1::json) AS part(value)", check)
