"""The routes beside inference, served from memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.testing import TestClient

from adapters.dialects.openai_responses import stored
from adapters.memory.health import MemoryHealthBoard
from adapters.memory.repositories import MemoryMarkups, MemoryOverrides, MemoryPrices, MemoryRevisions
from adapters.memory.responses import MemoryResponses
from application.catalog import ListModels, RefreshCatalog
from application.generations import ShowGeneration
from application.keys import Issued
from application.offers import ShowOffers
from application.prices import ConfirmPrice, ListMarkups, PriceHistory, RemoveMarkup, SetMarkup, SetPrice
from application.rankings import Rankings
from application.responses import KeepResponses
from application.settlements import ShowSettlements
from application.shelf import ShowModels
from application.vendors import OverrideCatalog, ShowVendors
from domain.catalog import Capability, Catalog, Model, Offer
from domain.errors import StorageUnavailable
from domain.ids import ModelId, PriceId, VendorSlug
from domain.ports.catalog import CatalogOverrides, Refreshed, Switch, VendorState
from domain.pricing import Price, PriceSource, Rates
from entrypoints.http.addresses import ClientAddresses
from entrypoints.http.docs import openapi_config
from entrypoints.http.errors import EXCEPTION_HANDLERS
from entrypoints.http.guards import Entrance, caller_of
from entrypoints.http.health import Readiness
from entrypoints.http.metrics import Metrics
from entrypoints.http.request_ids import with_request_ids
from entrypoints.http.responses import PrepareResponse
from entrypoints.http.routes import ACCOUNT_ROUTES
from tests.fakes.gateway import Gateway
from tests.fakes.popularity import Counts
from tests.fakes.time import NOON

T = TypeVar("T")
ACME, OTHER = VendorSlug("acme"), VendorSlug("other")
ADDRESS_PER_MINUTE = 300


def offer(vendor: VendorSlug, model: ModelId, input_usd: int | None, output_usd: int = 2, markup_ppm: int = 1_000_000):
    price = None
    if input_usd is not None:
        price = Price(
            id=PriceId(f"{vendor}-{model}"),
            vendor=vendor,
            model=model,
            rates=Rates(input=input_usd * 10**9, output=output_usd * 10**9),
            valid_from=NOON,
            source=PriceSource.VENDOR,
        )
    return Offer(
        vendor=vendor,
        model=model,
        vendor_model=model.partition("/")[2],
        price=price,
        markup_ppm=markup_ppm,
        context_length=128_000,
        output_max=16_000,
        capabilities=frozenset({Capability.STREAM, Capability.TOOLS}),
    )


def model(name: str, *offers: Offer) -> Model:
    return Model(id=ModelId(name), name=name.title(), offers=offers, created=datetime(2026, 1, 2, tzinfo=UTC))


ONE, TWO, SOON, HUB = (ModelId(name) for name in ("acme/one", "acme/two", "acme/soon", "hub/author/deep"))
CATALOG = Catalog(
    [
        model("acme/one", offer(ACME, ONE, 1), offer(OTHER, ONE, 2, markup_ppm=1_250_000)),
        model("acme/two", offer(ACME, TWO, 3)),
        model("acme/soon", offer(ACME, SOON, None)),
        model("hub/author/deep", offer(OTHER, HUB, 4)),
    ],
    vendors=[ACME, OTHER],
)


class FixedCatalog:
    """All ports of the catalogue; asking vendors anew changes nothing, and of overrides it takes up the switches."""

    def __init__(self, overrides: CatalogOverrides) -> None:
        self.catalog = CATALOG
        self.overrides = overrides
        self.reloads = 0

    async def reload(self) -> None:
        self.reloads += 1
        off = [each.vendor for each in await self.overrides.all() if isinstance(each, Switch) and not each.on]
        self.catalog = self.catalog.switched(off, self.catalog.version + 1)

    async def states(self) -> Sequence[VendorState]:
        models = self.catalog.models.values()
        offers = {vendor: [o for m in models for o in m.offers if o.vendor == vendor] for vendor in (ACME, OTHER)}
        return [
            VendorState(
                vendor=vendor,
                on=vendor not in self.catalog.off,
                lists=True,
                offers=len(served),
                priced=sum(each.price is not None for each in served),
            )
            for vendor, served in offers.items()
        ]

    def current(self) -> Catalog:
        return self.catalog

    async def refresh(self, vendor: VendorSlug | None = None) -> Sequence[Refreshed]:
        return [Refreshed(vendor=vendor or ACME, models=3)]


class MoodyRevisions(MemoryRevisions):
    down = False

    async def read(self) -> Mapping[str, int]:
        if self.down:
            raise StorageUnavailable("down")
        return await super().read()


@dataclass
class Served(Gateway):
    """The use cases, and the routes that lead to them; `client` runs both on one event loop."""

    revisions: MoodyRevisions = field(default_factory=MoodyRevisions)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.overrides = MemoryOverrides(self.revisions)
        self.catalog = FixedCatalog(self.overrides)
        self.health = MemoryHealthBoard(self.clock)
        self.counts = Counts()
        self.told: list[str] = []
        self.prices = MemoryPrices(self.revisions)
        self.metrics = Metrics()
        self.readiness = Readiness(self.revisions, self.catalog, self.clock)
        self.show_generation = ShowGeneration(self.ledger)
        self.show_settlements = ShowSettlements(self.ledger, self.clock)
        self.list_models = ListModels(self.catalog)
        self.set_price = SetPrice(self.prices, self.catalog, self.clock, self.ids)
        self.confirm_price = ConfirmPrice(self.prices, self.catalog, self.clock, self.ids)
        self.price_history = PriceHistory(self.prices, self.catalog)
        self.markups = MemoryMarkups(self.revisions)
        self.list_markups = ListMarkups(self.markups)
        self.set_markup = SetMarkup(self.markups, self.catalog, self.clock)
        self.remove_markup = RemoveMarkup(self.markups)
        self.refresh_catalog = RefreshCatalog(self.catalog)
        self.show_models = ShowModels(self.catalog)
        self.show_offers = ShowOffers(self.catalog, self.health)
        self.show_vendors = ShowVendors(self.catalog, self.health, self.clock)
        self.rankings = Rankings(self.counts, self.clock)
        self.override_catalog = OverrideCatalog(
            self.overrides, self.catalog, self.catalog, self.clock, lambda: self.told.append("catalog")
        )
        self.keep_responses = KeepResponses(MemoryResponses(), self.clock, timedelta(days=30))
        self.prepare_response = PrepareResponse(self.keep_responses, stored)
        self.app = self._assembled()

    def _assembled(self) -> Litestar:
        named = [
            *("metrics", "readiness", "show_generation", "show_settlements", "list_models", "set_price"),
            *("refresh_catalog", "issue_key", "list_keys", "change_key", "revoke_key", "create_account"),
            *("list_accounts", "find_account", "suspend_account", "restore_account", "grant_credit"),
            *("adjust_credit", "show_balance", "list_transactions", "confirm_price", "price_history"),
            *("list_markups", "set_markup", "remove_markup", "show_models", "show_offers", "show_vendors"),
            *("rankings", "override_catalog", "keep_responses", "prepare_response"),
        ]
        dependencies = {name: Provide(always(getattr(self, name)), sync_to_thread=False) for name in named}
        entrance = Entrance(
            authenticate=self.authenticate,
            limiter=self.limiter,
            addresses=ClientAddresses(),
            address_per_minute=ADDRESS_PER_MINUTE,
        )
        app = Litestar(
            ACCOUNT_ROUTES,
            dependencies=dependencies | {"caller": Provide(caller_of, sync_to_thread=False)},
            exception_handlers=EXCEPTION_HANDLERS,
            openapi_config=openapi_config("https://gateway.example"),
            logging_config=None,
            state=State({"entrance": entrance, "top_up_url": "https://gateway.example/credits"}),
        )
        app.asgi_handler = with_request_ids(app.asgi_handler, lambda: "r1")
        return app


def always(value: object) -> Callable[[], object]:
    return lambda: value


class Caller:
    """Sends requests with one key."""

    def __init__(self, client: TestClient[Litestar], issued: Issued) -> None:
        self.client = client
        self.key = issued.key
        self.account_id = issued.key.account_id
        self.headers = {"authorization": f"Bearer {issued.secret.text}"}

    def get(self, path: str, **parameters: Any) -> Any:
        return self.client.get(path, params=parameters, headers=self.headers)

    def post(self, path: str, **body: Any) -> Any:
        return self.client.post(path, json=body, headers=self.headers)

    def put(self, path: str, **body: Any) -> Any:
        return self.client.put(path, json=body, headers=self.headers)

    def patch(self, path: str, **body: Any) -> Any:
        return self.client.patch(path, json=body, headers=self.headers)

    def delete(self, path: str) -> Any:
        return self.client.delete(path, headers=self.headers)


def run(act: Callable[..., Awaitable[T]], *arguments: Any, **named: Any) -> T:
    """Await something where the test itself is no coroutine."""

    async def awaited() -> T:
        return await act(*arguments, **named)

    return asyncio.run(awaited())


def refusal(answer: Any, status: int, code: str) -> Any:
    """The error of an answer that must be one."""
    assert answer.status_code == status, answer.text
    told = answer.json()["error"]
    assert told["code"] == code
    assert told["request_id"] == answer.headers["x-request-id"] == "r1"
    return told
