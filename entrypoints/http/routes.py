"""Every route but inference: what the application registers beside the raw inference handlers."""

from __future__ import annotations

from typing import Final

from litestar import Controller

from entrypoints.http.account import CreditController, KeyController
from entrypoints.http.admin import (
    AdminAccountController,
    AdminCreditController,
    CatalogController,
    PriceController,
    SettlementController,
)
from entrypoints.http.generations import GenerationController
from entrypoints.http.health import HealthController
from entrypoints.http.metrics import MetricsController
from entrypoints.http.models import ModelController

ACCOUNT_ROUTES: Final[tuple[type[Controller], ...]] = (
    HealthController,
    MetricsController,
    ModelController,
    GenerationController,
    CreditController,
    KeyController,
    AdminCreditController,
    AdminAccountController,
    PriceController,
    CatalogController,
    SettlementController,
)
