"""`gatewayz ledger`: whether the books add up."""

from __future__ import annotations

from collections.abc import Sequence

from cyclopts import App

from domain.ports.ledger import Difference
from entrypoints.cli.output import print_json, print_table
from entrypoints.cli.session import perform
from entrypoints.container import Container

app = App(name="ledger", help="Check the books.")


@app.command
def verify(*, json: bool = False) -> int:
    """Recompute every balance from the transfers; exit status 1 and the list on any difference.

    Parameters
    ----------
    json
        Print JSON.
    """

    async def act(container: Container) -> Sequence[Difference]:
        differences: Sequence[Difference] = await container.adapters.ledger().verify()
        return differences

    differences = perform(act)
    if json:
        print_json({"differences": differences})
    elif differences:
        rows = [(each.account_id, each.what, each.stored_nanos, each.recomputed_nanos) for each in differences]
        print_table(("ACCOUNT", "WHAT", "STORED NANOS", "RECOMPUTED NANOS"), rows)
    else:
        print("Every balance is the sum of its transfers.")
    return 1 if differences else 0
