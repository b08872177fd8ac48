"""`make bench`: one table, and a failure where a bar is missed.

`make bench ARGS="--list"` names the rows; `make bench ARGS="whole-* ledger-32"` measures these alone.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack

import uvloop

from tests import services
from tests.benchmarks import dialects, gateway, ledger, limiter, routing
from tests.benchmarks.rig import rig
from tests.benchmarks.rows import HEADING, Row, Wanted

ROUNDS = 4
NAMES = (*gateway.SQLITE_ROWS, *gateway.PRODUCTION_ROWS, *ledger.NAMES, *limiter.NAMES, *routing.NAMES, *dialects.NAMES)


async def rows(wanted: Wanted, rounds: int) -> AsyncIterator[Row]:
    """One worker on one core: first on SQLite, then on PostgreSQL and Redis; then the parts alone."""
    if wanted.any_of(gateway.SQLITE_ROWS):
        with rig() as on_sqlite:
            async for row in gateway.on_sqlite(on_sqlite, wanted, rounds):
                yield row
    if wanted.any_of(gateway.PRODUCTION_ROWS):
        with ExitStack() as stack:
            server = stack.enter_context(services.postgres())
            database = stack.enter_context(services.postgres_database(server, f"gatewayz_bench_{os.getpid()}"))
            redis = stack.enter_context(services.redis())
            in_production = stack.enter_context(rig(DATABASE_URL=database, REDIS_URL=redis))
            async for row in gateway.in_production(in_production, wanted, rounds):
                yield row
    if wanted.any_of(ledger.NAMES):
        async for row in ledger.rows(wanted):
            yield row
    if wanted.any_of(limiter.NAMES):
        async for row in limiter.rows(wanted):
            yield row
    if wanted.any_of(routing.NAMES):
        async for row in routing.rows(wanted):
            yield row
    if wanted.any_of(dialects.NAMES):
        async for row in dialects.rows(wanted, rounds):
            yield row


async def table(wanted: Wanted, rounds: int) -> int:
    """Print each row as it is known; how many bars were missed."""
    print(HEADING, flush=True)
    seen: list[Row] = []
    async for row in rows(wanted, rounds):
        print(row, flush=True)
        seen.append(row)
    missed = [row.name for row in seen if row.kept is False]
    judged = sum(row.kept is not None for row in seen)
    print(f"{judged - len(missed)} of {judged} bars kept" + (f"; missed: {', '.join(missed)}" if missed else ""))
    return len(missed)


def main() -> int:
    arguments = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    arguments.add_argument("rows", nargs="*", help="names or patterns of rows; all where none is given")
    arguments.add_argument("--list", action="store_true", help="name the rows and stop")
    arguments.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each side; the best one counts")
    chosen = arguments.parse_args()
    wanted = Wanted(chosen.rows)
    if chosen.list:
        print("\n".join(NAMES))
        return 0
    if not wanted.any_of(NAMES):
        print(f"No row is called {' or '.join(chosen.rows)}; --list names them.", file=sys.stderr)
        return 2
    try:
        return int(uvloop.run(table(wanted, chosen.rounds)) > 0)
    except services.ServiceMissing as missing:
        print(f"{missing}. Rows named sqlite-* need neither PostgreSQL nor Redis.", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
