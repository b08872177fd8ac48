"""Opens accounts with credit and a key each, in the gateway of this directory and environment; prints the keys."""

from __future__ import annotations

import json
import sys

from domain.money import Usd
from entrypoints.cli.session import perform
from entrypoints.container import Container

CREDIT = Usd.from_cents(100_000)


async def open_accounts(container: Container, count: int) -> list[str]:
    use_cases = container.use_cases
    create, issue, grant = use_cases.create_account(), use_cases.issue_key(), use_cases.grant_credit()
    keys = []
    for number in range(count):
        account = await create(f"bench-{number}@example.com", "")
        await grant(account.id, CREDIT, "benchmark")
        issued = await issue(account.id, "bench")
        keys.append(issued.secret.text)
    return keys


def main() -> None:
    count = int(sys.argv[1])
    print(json.dumps(perform(lambda container: open_accounts(container, count))))


if __name__ == "__main__":
    main()
