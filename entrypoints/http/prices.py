"""/admin/prices and /admin/markups: what vendors' offers cost, and what is put on top of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

from litestar import Controller, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody
from msgspec import Meta, Struct

from application.catalog import ListModels
from application.pages import checked_limit, page
from application.prices import (
    CLASSES,
    ConfirmPrice,
    ListMarkups,
    PriceHistory,
    PriceWish,
    RemoveMarkup,
    SetMarkup,
    SetPrice,
    doubtful_offers,
    listed_offers,
    offer_place,
)
from domain.access import Caller
from domain.errors import InvalidRequest
from domain.keys import Scope
from entrypoints.http.account import Moment
from entrypoints.http.guards import Needs
from entrypoints.http.views import (
    DoubtsView,
    MarkupsView,
    MarkupView,
    OffersView,
    PricesView,
    PriceView,
    shown_doubt,
    shown_markup,
    shown_offers,
    shown_price,
)

ModelWord = Annotated[str, Meta(min_length=1, max_length=200)]
OptionalWord = Annotated[str, Meta(max_length=200)]


class RatesBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Decimal strings in USD: per million tokens and characters; each for images, seconds, searches and requests.

    What is not named costs what the class that it is part of costs.
    """

    input_usd: str | None = None
    output_usd: str | None = None
    cache_read_usd: str | None = None
    cache_write_5m_usd: str | None = None
    cache_write_1h_usd: str | None = None
    cache_write_other_usd: str | None = None
    reasoning_usd: str | None = None
    audio_in_usd: str | None = None
    audio_out_usd: str | None = None
    image_in_usd: str | None = None
    image_out_usd: str | None = None
    images_usd: str | None = None
    seconds_usd: str | None = None
    characters_usd: str | None = None
    searches_usd: str | None = None
    requests_usd: str | None = None

    def stated(self) -> Mapping[str, str]:
        """By our own names of the classes."""
        amounts = {name: getattr(self, f"{name}_usd") for name in CLASSES}
        return {name: amount for name, amount in amounts.items() if amount is not None}


class TierBody(RatesBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices of the whole request once its prompt is longer; what is not named stays."""

    over_input_tokens: int


class PriceBody(RatesBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: ModelWord
    vendor: str | None = None
    tiers: tuple[TierBody, ...] = ()
    image_usd: dict[str, str] = {}
    """For one picture of a size and quality, such as "1024x1536:high", instead of `images_usd`."""
    valid_from: Moment | None = None
    """When it takes effect; now if left out."""
    free: bool = False
    confirmed: bool = False
    """For a price far from what others ask."""

    def as_wish(self) -> PriceWish:
        """Raises InvalidRequest."""
        tiers = {tier.over_input_tokens: tier.stated() for tier in self.tiers}
        if len(tiers) < len(self.tiers):
            raise InvalidRequest("Two tiers begin at the same length.", param="tiers")
        return PriceWish(rates=self.stated(), tiers=tiers, image_rates=self.image_usd)


class ConfirmBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: ModelWord
    vendor: str | None = None


class MarkupBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the factor is for; a part that is left out stands for all."""

    markup: str
    """Such as "1.25" for 25 % on top."""
    vendor: OptionalWord = ""
    model: OptionalWord = ""
    """An id, or a pattern such as "anthropic/*"."""
    plan: OptionalWord = ""


class PriceController(Controller):
    path = "/admin/prices"
    tags = ("Administration",)
    guards = (Needs(Scope.ADMIN),)

    @get()
    async def list_prices(
        self,
        list_models: NamedDependency[ListModels],
        model: FromQuery[str | None] = None,
        vendor: FromQuery[str | None] = None,
        unpriced: FromQuery[bool] = False,
        limit: FromQuery[int] = 50,
        cursor: FromQuery[str | None] = None,
    ) -> OffersView:
        """What each vendor's offer of each model costs now; `unpriced` shows only those that have no price."""
        size = checked_limit(limit)
        catalog = list_models.catalog.current()
        offers = listed_offers(catalog, model=model, vendor=vendor, unpriced=unpriced, after=cursor)
        return shown_offers(page(offers[: size + 1], size, offer_place))

    @post()
    async def set_price(
        self, data: JSONBody[PriceBody], caller: NamedDependency[Caller], set_price: NamedDependency[SetPrice]
    ) -> PriceView:
        """Set what one vendor's offer of a model costs, before the markup, from now on or from `valid_from`."""
        with _fields_of_these_routes():
            price = await set_price(
                data.model,
                data.as_wish(),
                vendor=data.vendor,
                valid_from=data.valid_from,
                free=data.free,
                confirmed=data.confirmed,
                author=caller.account.email,
            )
        return shown_price(price)

    @get("/history")
    async def history(
        self, price_history: NamedDependency[PriceHistory], model: FromQuery[str], vendor: FromQuery[str | None] = None
    ) -> PricesView:
        """Every version of what one vendor's offer of a model cost, costs and will cost, newest first."""
        return PricesView(tuple(map(shown_price, await price_history(model, vendor))))

    @get("/doubtful")
    async def doubtful(
        self,
        list_models: NamedDependency[ListModels],
        model: FromQuery[str | None] = None,
        vendor: FromQuery[str | None] = None,
        limit: FromQuery[int] = 50,
        cursor: FromQuery[str | None] = None,
    ) -> DoubtsView:
        """Offers whose vendor's list says a price that is not believed, why, and what is charged instead."""
        size = checked_limit(limit)
        offers = doubtful_offers(list_models.catalog.current(), model=model, vendor=vendor, after=cursor)
        shown = page(offers[: size + 1], size, offer_place)
        return DoubtsView(tuple(map(shown_doubt, shown.items)), shown.next_cursor)

    @post("/confirm")
    async def confirm(
        self,
        data: JSONBody[ConfirmBody],
        caller: NamedDependency[Caller],
        confirm_price: NamedDependency[ConfirmPrice],
    ) -> PriceView:
        """Take a doubted price of a vendor's list as it is; from then on it is the operator's own."""
        return shown_price(await confirm_price(data.model, data.vendor, author=caller.account.email))


class MarkupController(Controller):
    path = "/admin/markups"
    tags = ("Administration",)
    guards = (Needs(Scope.ADMIN),)

    @get()
    async def list_markups(self, list_markups: NamedDependency[ListMarkups]) -> MarkupsView:
        """The factors on vendors' prices; of those that fit an offer the first one holds, and it alone."""
        return MarkupsView(tuple(map(shown_markup, await list_markups())))

    @put()
    async def set_markup(
        self, data: JSONBody[MarkupBody], caller: NamedDependency[Caller], set_markup: NamedDependency[SetMarkup]
    ) -> MarkupView:
        """Set the factor for a vendor, a model or a pattern of models, a plan, or any of them together."""
        return shown_markup(
            await set_markup(
                data.markup, vendor=data.vendor, model=data.model, plan=data.plan, author=caller.account.email
            )
        )

    @delete()
    async def remove_markup(
        self,
        remove_markup: NamedDependency[RemoveMarkup],
        vendor: FromQuery[str] = "",
        model: FromQuery[str] = "",
        plan: FromQuery[str] = "",
    ) -> None:
        """Remove the factor that was set for exactly this."""
        await remove_markup(vendor=vendor, model=model, plan=plan)


@contextmanager
def _fields_of_these_routes() -> Iterator[None]:
    """Name the field of the body, not the class of usage, that cannot be meant."""
    try:
        yield
    except InvalidRequest as error:
        if error.param in CLASSES:
            error.param = f"{error.param}_usd"
        elif error.param == "image_rates":
            error.param = "image_usd"
        raise
