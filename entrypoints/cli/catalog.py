"""`gatewayz catalog`: the models that can be asked for, and asking vendors for theirs."""

from __future__ import annotations

from collections.abc import Sequence

from cyclopts import App

from application.catalog import ModelRecord
from domain.ports.catalog import Refreshed
from entrypoints.cli.output import print_json, print_table
from entrypoints.cli.session import perform
from entrypoints.container import Container

app = App(name="catalog", help="List models, and ask vendors for theirs.")


@app.command(name="list")
def list_models(q: str = "", *, json: bool = False) -> None:
    """List the models that can be asked for.

    Parameters
    ----------
    q
        Only those with this in their id or name.
    json
        Print JSON.
    """

    async def act(container: Container) -> Sequence[ModelRecord]:
        await container.adapters.catalog().load()
        records: Sequence[ModelRecord] = await container.use_cases.list_models()()
        return [record for record in records if q.lower() in f"{record.id} {record.name}".lower()]

    records = perform(act)
    if json:
        print_json(records)
        return
    rows = [
        (each.id, each.context_length, each.pricing.prompt, each.pricing.completion, each.top_provider.vendor)
        for each in records
    ]
    print_table(("MODEL", "CONTEXT", "USD/INPUT TOKEN", "USD/OUTPUT TOKEN", "CHEAPEST AT"), rows)


@app.command
def refresh(vendor: str | None = None, *, json: bool = False) -> int:
    """Ask one vendor, or all, for their models now.

    Parameters
    ----------
    vendor
        This one alone.
    json
        Print JSON.
    """

    async def act(container: Container) -> Sequence[Refreshed]:
        await container.adapters.catalog().load()
        refreshed: Sequence[Refreshed] = await container.use_cases.refresh_catalog()(vendor)
        return refreshed

    asked = perform(act)
    if json:
        print_json(asked)
    else:
        print_table(("VENDOR", "MODELS", "FAILURE"), [(each.vendor, each.models, each.failure) for each in asked])
    return 1 if any(each.failure for each in asked) else 0
