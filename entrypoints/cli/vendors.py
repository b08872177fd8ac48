"""`gatewayz vendors`: which vendors are set up, how they do, and which of them are on."""

from __future__ import annotations

from collections.abc import Sequence

from cyclopts import App

from application.vendors import VendorHealth
from entrypoints.cli.output import print_json, print_table
from entrypoints.cli.session import perform
from entrypoints.container import Container

AUTHOR = "command line"

app = App(name="vendors", help="Switch vendors on and off, and see how their models lists are.")


@app.command(name="list")
def list_vendors(*, json: bool = False) -> None:
    """List the vendors that are set up.

    Parameters
    ----------
    json
        Print JSON.
    """

    async def act(container: Container) -> Sequence[VendorHealth]:
        await container.adapters.catalog().load()
        vendors: Sequence[VendorHealth] = await container.use_cases.show_vendors()()
        return vendors

    vendors = perform(act)
    if json:
        print_json(vendors)
        return
    rows = [
        (each.vendor, "off" if each.status == "off" else "on", each.offers, each.priced, each.listed_at, each.failure)
        for each in vendors
    ]
    print_table(("VENDOR", "STATE", "MODELS", "PRICED", "LISTED", "FAILURE"), rows)


@app.command
def enable(vendor: str, *, json: bool = False) -> None:
    """Let requests go to a vendor, also in servers that are running.

    Parameters
    ----------
    vendor
        Its name in the list.
    json
        Print JSON.
    """
    _switch(vendor, on=True, json=json)


@app.command
def disable(vendor: str, *, json: bool = False) -> None:
    """Send a vendor nothing new, also from servers that are running.

    Parameters
    ----------
    vendor
        Its name in the list.
    json
        Print JSON.
    """
    _switch(vendor, on=False, json=json)


def _switch(vendor: str, *, on: bool, json: bool) -> None:
    async def act(container: Container) -> VendorHealth:
        await container.adapters.catalog().reload()
        await container.use_cases.override_catalog().switch(vendor, on=on, author=AUTHOR)
        health: VendorHealth = await container.use_cases.show_vendors().one(vendor)
        return health

    health = perform(act)
    if json:
        print_json(health)
    else:
        print(f"{vendor} is {'on' if on else 'off'}; servers that are running know within two seconds.")
