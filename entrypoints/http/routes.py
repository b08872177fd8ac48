"""Every route but inference: what the application registers beside the raw inference handlers."""

from __future__ import annotations

from typing import Final

from litestar import Controller

from entrypoints.http.account import CreditController, KeyController
from entrypoints.http.admin import (
    AdminAccountController,
    AdminCreditController,
    CatalogController,
    SettlementController,
)
from entrypoints.http.generations import GenerationController
from entrypoints.http.health import HealthController
from entrypoints.http.metrics import MetricsController
from entrypoints.http.models import ModelController
from entrypoints.http.modelz import ModelzController
from entrypoints.http.prices import MarkupController, PriceController
from entrypoints.http.providers import GatewaysController, ProviderController, VendorHealthController
from entrypoints.http.rankings import RankingController
from entrypoints.http.responses import ResponseController
from entrypoints.http.vendors import AdminNamesController, AdminVendorController

ACCOUNT_ROUTES: Final[tuple[type[Controller], ...]] = (
    HealthController,
    MetricsController,
    ModelController,
    ProviderController,
    GatewaysController,
    RankingController,
    ModelzController,
    VendorHealthController,
    GenerationController,
    ResponseController,
    CreditController,
    KeyController,
    AdminCreditController,
    AdminAccountController,
    AdminVendorController,
    AdminNamesController,
    PriceController,
    MarkupController,
    CatalogController,
    SettlementController,
)
