"""`gatewayz prices`: what models cost, in USD per million tokens, before the markup."""

from __future__ import annotations

from cyclopts import App

from application.catalog import PriceWish
from application.pages import Page
from entrypoints.cli.output import print_fields, print_json, print_table
from entrypoints.cli.session import perform
from entrypoints.container import Container
from entrypoints.http.views import OffersView, PriceView, shown_offers, shown_price

app = App(name="prices", help="Set and list what models cost.")


@app.command(name="set")
def set_price(
    model: str,
    *,
    input: str,
    output: str,
    vendor: str | None = None,
    cache_read: str | None = None,
    cache_write: str | None = None,
    cache_write_1h: str | None = None,
    reasoning: str | None = None,
    free: bool = False,
    yes: bool = False,
    json: bool = False,
) -> None:
    """Set what one vendor's offer of a model costs from now on.

    Parameters
    ----------
    model
        The model's id.
    input
        USD per million input tokens, such as 1.25.
    output
        USD per million output tokens.
    vendor
        Whose price it is; may be left out where one vendor alone serves the model.
    cache_read
        USD per million tokens read from a prompt cache.
    cache_write
        USD per million tokens written to a prompt cache for five minutes.
    cache_write_1h
        The same for an hour.
    reasoning
        USD per million reasoning tokens, where they are billed apart.
    free
        The model is given away; both prices are 0.
    yes
        The price is meant, although others ask for far more or less.
    json
        Print JSON.
    """
    wish = PriceWish(
        input=input,
        output=output,
        cache_read=cache_read,
        cache_write_5m=cache_write,
        cache_write_1h=cache_write_1h,
        reasoning=reasoning,
    )

    async def act(container: Container) -> PriceView:
        await container.adapters.catalog().load()
        price = await container.use_cases.set_price()(
            model, wish, vendor=vendor, free=free, confirmed=yes, author="command line"
        )
        return shown_price(price)

    view = perform(act)
    if json:
        print_json(view)
        return
    rates = [(f"USD per million, {name}", rate) for name, rate in view.usd_per_million.items()]
    print_fields([("Model", view.model), ("Vendor", view.vendor), *rates])


@app.command(name="list")
def list_prices(
    *, model: str | None = None, vendor: str | None = None, unpriced: bool = False, json: bool = False
) -> None:
    """List what each vendor's offer of each model costs now.

    Parameters
    ----------
    model
        Of this model alone.
    vendor
        Of this vendor alone.
    unpriced
        Only those that have no price and therefore cannot be used.
    json
        Print JSON.
    """

    async def act(container: Container) -> OffersView:
        catalog = container.adapters.catalog()
        await catalog.load()
        offers = [
            offer
            for known in catalog.current().models.values()
            for offer in known.offers
            if (model is None or offer.model == model)
            and (vendor is None or offer.vendor == vendor)
            and (offer.price is None or not unpriced)
        ]
        offers.sort(key=lambda offer: (offer.model, offer.vendor))
        return shown_offers(Page(tuple(offers), None))

    view = perform(act)
    if json:
        print_json(view.offers)
        return
    rows = []
    for offer in view.offers:
        rates = offer.price.usd_per_million if offer.price else {}
        source = offer.price.source if offer.price else "no price"
        rows.append((offer.model, offer.vendor, rates.get("input"), rates.get("output"), offer.markup, source))
    print_table(("MODEL", "VENDOR", "INPUT", "OUTPUT", "MARKUP", "FROM"), rows)
