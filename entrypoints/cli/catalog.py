"""`gatewayz catalog`: the models that can be asked for, and asking vendors for theirs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal

from cyclopts import App

from application.catalog import ModelRecord
from application.vendors import OverrideCatalog
from domain.catalog import Offer
from domain.errors import InvalidRequest
from domain.ports.catalog import CatalogSource, Refreshed
from domain.ports.vendors import ListedModel
from entrypoints.cli.output import print_json, print_table
from entrypoints.cli.session import Result, perform
from entrypoints.container import Container
from entrypoints.http.vendors import OverridesView, shown_overrides

AUTHOR = "command line"

app = App(name="catalog", help="List models, ask vendors for theirs, and add names and offers.")


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
        (
            each.id,
            each.context_length,
            per_million(each.pricing.prompt),
            per_million(each.pricing.completion),
            each.top_provider.vendor,
        )
        for each in records
    ]
    print_table(("MODEL", "CONTEXT", "INPUT", "OUTPUT", "CHEAPEST AT"), rows)
    print("\nUSD per million tokens, as charged. What else models cost: gatewayz prices list")


def per_million(usd_per_token: str) -> str:
    """A price per token, as the catalogue has it, in the unit that vendors and `gatewayz prices` use."""
    return f"{(Decimal(usd_per_token) * 1_000_000).normalize():f}"


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


@app.command
def add(
    vendor: str,
    vendor_model: str,
    *,
    model: str | None = None,
    name: str = "",
    context: int | None = None,
    output_max: int | None = None,
    json: bool = False,
) -> None:
    """Add an offer that a vendor's own list does not have.

    Parameters
    ----------
    vendor
        Who serves it.
    vendor_model
        What the vendor calls it.
    model
        Its id here, author/slug; made from the vendor's name of it where it is not given.
    name
        For people.
    context
        The longest prompt and answer together, in tokens.
    output_max
        The longest answer, in tokens.
    json
        Print JSON.
    """
    row = ListedModel(
        vendor_model=vendor_model, canonical=model or "", name=name, context_length=context, output_max=output_max
    )

    async def act(container: Container) -> Offer:
        catalog: CatalogSource = container.adapters.catalog()
        await container.adapters.catalog().reload()
        await container.use_cases.override_catalog().add_offer(vendor, row, AUTHOR)
        await container.adapters.catalog().load()
        offers = (offer for known in catalog.current().models.values() for offer in known.offers)
        return next(offer for offer in offers if (offer.vendor, offer.vendor_model) == (vendor, vendor_model))

    offer = perform(act)
    if json:
        print_json({"model": offer.model, "vendor": offer.vendor, "priced": offer.price is not None})
        return
    print(f"{offer.vendor} serves {offer.model} now.")
    if offer.price is None:
        print(f"Set its price: gatewayz prices set {offer.model} --vendor {offer.vendor} --input USD --output USD")


@app.command
def remove(vendor: str, vendor_model: str) -> None:
    """Take an added offer back.

    Parameters
    ----------
    vendor
        Who serves it.
    vendor_model
        What the vendor calls it.
    """
    _say(lambda said: said.remove_offer(vendor, vendor_model))
    print(f"{vendor} serves {vendor_model} no more, unless its own list says so.")


@app.command
def alias(name: str, model: str | None = None, *, vendor: str | None = None, remove: bool = False) -> None:
    """Let callers call a model by a further name, or say which model it is that a vendor calls so.

    Parameters
    ----------
    name
        The further name; with --vendor, what the vendor calls the model.
    model
        The model's id here, author/slug.
    vendor
        The vendor whose own name it is.
    remove
        Take the name back.
    """
    if remove:
        _say(lambda said: said.remove_alias(name) if vendor is None else said.part(vendor, name))
        print(f"{name} means nothing of its own any more.")
        return
    if model is None:
        raise InvalidRequest("Name the model that it stands for.", param="model")
    meant = model
    if vendor is None:
        meant = _say(lambda said: said.alias(name, model, AUTHOR))
    else:
        _say(lambda said: said.join(vendor, name, model, AUTHOR))
    print(f"{name}{f' of {vendor}' if vendor else ''} means {meant} now.")


@app.command
def aliases(*, json: bool = False) -> None:
    """List the names and offers that were added here.

    Parameters
    ----------
    json
        Print JSON.
    """

    async def act(container: Container) -> OverridesView:
        return shown_overrides(await container.use_cases.override_catalog().all())

    said = perform(act)
    if json:
        print_json(said)
        return
    rows = [
        *(("alias", None, each.alias, each.model) for each in said.aliases),
        *(("name", each.vendor, each.vendor_model, each.model) for each in said.names),
        *(("offer", each.vendor, each.vendor_model, each.model) for each in said.offers),
    ]
    print_table(("KIND", "VENDOR", "NAME", "MODEL"), rows)


def _say(act: Callable[[OverrideCatalog], Awaitable[Result]]) -> Result:
    async def said(container: Container) -> Result:
        # With its prices: a model without one is not found by a name.
        await container.adapters.catalog().load()
        return await act(container.use_cases.override_catalog())

    return perform(said)
