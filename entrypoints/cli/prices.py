"""`gatewayz prices`: what vendors' offers cost in USD, before and after the markup, and working charges out again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from cyclopts import App

from application.pages import Page
from application.prices import PriceWish, doubtful_offers, listed_offers
from application.rerating import Rerating
from domain.errors import InvalidRequest
from entrypoints.cli.output import print_fields, print_json, print_table
from entrypoints.cli.session import perform
from entrypoints.container import Container
from entrypoints.http.views import (
    DoubtView,
    MarkupView,
    OffersView,
    PriceView,
    shown_doubt,
    shown_markup,
    shown_offers,
    shown_price,
)

app = App(name="prices", help="Set and list what models cost, and work charges out again.")
markup = App(name="markup", help="Set what is put on top of vendors' prices.")
app.command(markup)

AUTHOR = "command line"


@app.command(name="set")
def set_price(
    model: str,
    *,
    input: str | None = None,
    output: str | None = None,
    vendor: str | None = None,
    cache_read: str | None = None,
    cache_write: str | None = None,
    cache_write_1h: str | None = None,
    cache_write_other: str | None = None,
    reasoning: str | None = None,
    audio_in: str | None = None,
    audio_out: str | None = None,
    image_in: str | None = None,
    image_out: str | None = None,
    per_image: str | None = None,
    image: list[str] | None = None,
    per_second: str | None = None,
    characters: str | None = None,
    per_search: str | None = None,
    per_request: str | None = None,
    tier: list[str] | None = None,
    valid_from: datetime | None = None,
    free: bool = False,
    yes: bool = False,
    json: bool = False,
) -> None:
    """Set what one vendor's offer of a model costs, from now on or from a later moment.

    Parameters
    ----------
    model
        The model's id.
    input
        USD per million input tokens, such as 1.25.
    output
        USD per million output tokens; 0 for embeddings.
    vendor
        Whose price it is; may be left out where one vendor alone serves the model.
    cache_read
        USD per million tokens read from a prompt cache.
    cache_write
        USD per million tokens written to a prompt cache for five minutes.
    cache_write_1h
        The same for an hour.
    cache_write_other
        The same for any other time.
    reasoning
        USD per million reasoning tokens, where they are billed apart.
    audio_in
        USD per million tokens of sound heard.
    audio_out
        USD per million tokens of sound spoken.
    image_in
        USD per million tokens of pictures seen.
    image_out
        USD per million tokens of pictures drawn.
    per_image
        USD for each picture drawn, where they are billed by the piece.
    image
        USD for a picture of one size and quality, such as 1024x1536:high=0.19. Repeat it for each.
    per_second
        USD for each second of sound.
    characters
        USD per million characters spoken.
    per_search
        USD for each search.
    per_request
        USD for each request.
    tier
        Prices of the whole request once its prompt is longer, such as 200000:input=2.5,output=15. Repeat it for each.
    valid_from
        When the price takes effect, such as 2026-12-01 or 2026-12-01T08:00, in UTC. Now if left out.
    free
        The model is given away; all prices are 0.
    yes
        The price is meant, although others ask for far more or less.
    json
        Print JSON.
    """
    amounts = {
        "input": input,
        "output": output,
        "cache_read": cache_read,
        "cache_write_5m": cache_write,
        "cache_write_1h": cache_write_1h,
        "cache_write_other": cache_write_other,
        "reasoning": reasoning,
        "audio_in": audio_in,
        "audio_out": audio_out,
        "image_in": image_in,
        "image_out": image_out,
        "images": per_image,
        "seconds": per_second,
        "characters": characters,
        "searches": per_search,
        "requests": per_request,
    }
    wish = PriceWish(
        rates={name: amount for name, amount in amounts.items() if amount is not None},
        tiers=_tiers(tier or ()),
        image_rates=_pairs(image or (), "--image"),
    )
    begins = valid_from.replace(tzinfo=UTC) if valid_from and valid_from.tzinfo is None else valid_from

    async def act(container: Container) -> PriceView:
        await container.adapters.catalog().load()
        price = await container.use_cases.set_price()(
            model, wish, vendor=vendor, valid_from=begins, free=free, confirmed=yes, author=AUTHOR
        )
        return shown_price(price)

    _print_price(perform(act), as_json=json)


@app.command
def confirm(model: str, *, vendor: str | None = None, json: bool = False) -> None:
    """Take a doubted price of a vendor's list as it is; from then on it is your own.

    Parameters
    ----------
    model
        The model's id.
    vendor
        Whose list it is; may be left out where one vendor alone serves the model.
    json
        Print JSON.
    """

    async def act(container: Container) -> PriceView:
        await container.adapters.catalog().load()
        return shown_price(await container.use_cases.confirm_price()(model, vendor, author=AUTHOR))

    _print_price(perform(act), as_json=json)


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
        offers = listed_offers(catalog.current(), model=model, vendor=vendor, unpriced=unpriced)
        return shown_offers(Page(tuple(offers), None))

    view = perform(act)
    if json:
        print_json(view.offers)
        return
    rows = []
    for offer in view.offers:
        rates = offer.price.usd_per_million if offer.price else {}
        source = offer.price.source if offer.price else "no price"
        other = _further(offer.price) if offer.price else ""
        rows.append((offer.model, offer.vendor, rates.get("input"), rates.get("output"), other, offer.markup, source))
    print_table(("MODEL", "VENDOR", "INPUT", "OUTPUT", "FURTHER", "MARKUP", "FROM"), rows)


@app.command
def history(model: str, *, vendor: str | None = None, json: bool = False) -> None:
    """List every version of what one vendor's offer cost, costs and will cost, newest first.

    Parameters
    ----------
    model
        The model's id.
    vendor
        Whose price it is; may be left out where one vendor alone serves the model.
    json
        Print JSON.
    """

    async def act(container: Container) -> Sequence[PriceView]:
        await container.adapters.catalog().load()
        return [shown_price(price) for price in await container.use_cases.price_history()(model, vendor)]

    versions = perform(act)
    if json:
        print_json(versions)
        return
    rows = [
        (
            each.valid_from,
            each.vendor,
            each.usd_per_million.get("input"),
            each.usd_per_million.get("output"),
            _further(each),
            each.source,
            each.author,
        )
        for each in versions
    ]
    print_table(("VALID FROM", "VENDOR", "INPUT", "OUTPUT", "FURTHER", "FROM", "AUTHOR"), rows)


@app.command
def doubtful(*, model: str | None = None, vendor: str | None = None, json: bool = False) -> None:
    """List offers whose vendor's list says a price that is not believed, and why.

    Parameters
    ----------
    model
        Of this model alone.
    vendor
        Of this vendor alone.
    json
        Print JSON.
    """

    async def act(container: Container) -> Sequence[DoubtView]:
        catalog = container.adapters.catalog()
        await catalog.load()
        return [shown_doubt(offer) for offer in doubtful_offers(catalog.current(), model=model, vendor=vendor)]

    doubts = perform(act)
    if json:
        print_json(doubts)
        return
    rows = [
        (each.model, each.vendor, each.used.usd_per_million.get("input") if each.used else "not used", each.reason)
        for each in doubts
    ]
    print_table(("MODEL", "VENDOR", "INPUT CHARGED", "WHY"), rows)


@app.command
def rerate(*, month: str, json: bool = False) -> int:
    """Work every charge of a month out again from stored price, usage and markup; exit status 1 on any difference.

    Parameters
    ----------
    month
        In which the requests began, in UTC, such as 2026-11.
    json
        Print JSON.
    """

    async def act(container: Container) -> Rerating:
        rerating: Rerating = await container.use_cases.rerate_month()(month)
        return rerating

    rerating = perform(act)
    if json:
        print_json(_told(rerating))
    else:
        _print_rerating(rerating)
    return 1 if rerating.found else 0


@markup.command(name="set")
def set_markup(factor: str, *, vendor: str = "", model: str = "", plan: str = "", json: bool = False) -> None:
    """Set the factor on vendors' prices; what is not named stands for all.

    Parameters
    ----------
    factor
        Such as 1.25 for 25 % on top.
    vendor
        On this vendor's prices.
    model
        On this model's prices, or on those of a pattern such as 'anthropic/*'.
    plan
        For callers on this plan.
    json
        Print JSON.
    """

    async def act(container: Container) -> MarkupView:
        await container.adapters.catalog().load()
        rule = await container.use_cases.set_markup()(factor, vendor=vendor, model=model, plan=plan, author=AUTHOR)
        return shown_markup(rule)

    view = perform(act)
    if json:
        print_json(view)
    else:
        print_fields(
            [("Markup", view.markup), ("Vendor", view.vendor), ("Model", view.model), ("Plan", view.plan)],
        )


@markup.command(name="list")
def list_markups(*, json: bool = False) -> None:
    """List the factors; of those that fit an offer the first one holds, and it alone.

    Parameters
    ----------
    json
        Print JSON.
    """

    async def act(container: Container) -> Sequence[MarkupView]:
        return [shown_markup(rule) for rule in await container.use_cases.list_markups()()]

    rules = perform(act)
    if json:
        print_json(rules)
        return
    rows = [(each.markup, each.vendor, each.model, each.plan, each.author, each.set_at) for each in rules]
    print_table(("MARKUP", "VENDOR", "MODEL", "PLAN", "AUTHOR", "SET AT"), rows)


@markup.command(name="remove")
def remove_markup(*, vendor: str = "", model: str = "", plan: str = "") -> None:
    """Remove the factor that was set for exactly this.

    Parameters
    ----------
    vendor
        The vendor that it was set for.
    model
        The model or pattern that it was set for.
    plan
        The plan that it was set for.
    """

    async def act(container: Container) -> None:
        await container.use_cases.remove_markup()(vendor=vendor, model=model, plan=plan)

    perform(act)


def _tiers(texts: Sequence[str]) -> Mapping[int, Mapping[str, str]]:
    """From "200000:input=2.5,output=15".  Raises InvalidRequest."""
    tiers: dict[int, Mapping[str, str]] = {}
    for text in texts:
        over, _, stated = text.partition(":")
        if not (over.isascii() and over.isdigit() and stated) or int(over) in tiers:
            raise InvalidRequest(
                f"{text[:80]!r} is no further tier; write it like 200000:input=2.5,output=15.", param="tier"
            )
        tiers[int(over)] = _pairs(stated.split(","), "--tier")
    return tiers


def _pairs(texts: Sequence[str], option: str) -> Mapping[str, str]:
    """From "name=amount".  Raises InvalidRequest."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, amount = text.strip().rpartition("=")
        if not (name and equals and amount) or name in pairs:
            raise InvalidRequest(f"{text[:80]!r} cannot be read; write name=amount, each name once.", param=option)
        pairs[name] = amount
    return pairs


def _print_price(view: PriceView, *, as_json: bool) -> None:
    if as_json:
        print_json(view)
        return
    rates = [(f"USD per million, {name}", rate) for name, rate in view.usd_per_million.items()]
    rates += [(f"USD each, {name}", rate) for name, rate in view.usd_each.items()]
    rates += [(f"USD each, image {variant}", rate) for variant, rate in view.image_usd.items()]
    for over, tier_rates in view.over_input_tokens.items():
        rates += [(f"Over {over} input tokens, {name}", rate) for name, rate in tier_rates.items()]
    print_fields([("Model", view.model), ("Vendor", view.vendor), ("Valid from", view.valid_from), *rates])


def _further(price: PriceView) -> str:
    """All but input and output, on one line."""
    named = {**price.usd_per_million, **price.usd_each, **price.image_usd}
    parts = [f"{name} {rate}" for name, rate in named.items() if name not in {"input", "output"}]
    parts += [f"over {over}: {rates['input']} {rates['output']}" for over, rates in price.over_input_tokens.items()]
    return ", ".join(parts)


def _told(rerating: Rerating) -> Mapping[str, object]:
    return {
        "month": rerating.month,
        "charges": rerating.charges,
        "charged_usd": str(rerating.charged),
        "recomputed_usd": str(rerating.recomputed),
        "differences_found": rerating.found,
        "differences": rerating.differences,
        "vendors": [
            {
                "vendor": each.vendor,
                "requests": each.requests,
                "charged_usd": str(each.charged),
                "requests_with_vendor_cost": each.told,
                "charged_for_these_usd": str(each.charged_told),
                "vendor_cost_usd": str(each.vendor_cost),
                "margin_usd": str(each.margin),
            }
            for each in rerating.vendors
        ],
    }


def _print_rerating(rerating: Rerating) -> None:
    print(f"{rerating.charges} charges of {rerating.month}, {rerating.charged} USD in all.")
    if rerating.vendors:
        told = [
            (
                each.vendor,
                each.requests,
                each.charged,
                each.told,
                each.vendor_cost if each.told else None,
                each.margin if each.told else None,
            )
            for each in rerating.vendors
        ]
        print_table(("VENDOR", "REQUESTS", "CHARGED USD", "COST TOLD", "VENDOR COST USD", "MARGIN OF THESE USD"), told)
    if not rerating.found:
        print("Each is what its price, usage and markup make.")
        return
    shown = len(rerating.differences)
    more = f", of which the first {shown} follow" if rerating.found > shown else ""
    differences = "1 difference" if rerating.found == 1 else f"{rerating.found} differences"
    between = rerating.charged - rerating.recomputed
    print(f"{differences}{more}; {between} USD between what was charged and what comes out.")
    rows = [
        (each.account_id, each.request_id, each.what, each.stored_nanos, each.recomputed_nanos)
        for each in rerating.differences
    ]
    print_table(("ACCOUNT", "REQUEST", "WHAT", "STORED NANOS", "RECOMPUTED NANOS"), rows)
