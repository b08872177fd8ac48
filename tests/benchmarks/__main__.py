"""`make bench`: the table, and a failure where a bar is missed."""

from __future__ import annotations

import asyncio
import sys

from tests.benchmarks.gateway import measure


def main() -> int:
    print("The gateway on SQLite, all accounting on, beside a bare ASGI + aiohttp passthrough of the same run")
    rows = asyncio.run(measure())
    for row in rows:
        print(row)
    return int(any(row.kept is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
