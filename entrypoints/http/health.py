"""Is the process alive, and should it get requests: asked by load balancers, supervisors and people."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from litestar import Controller, Response, get, head
from litestar.di import NamedDependency
from msgspec import Struct

from domain.errors import StorageUnavailable
from domain.ports.catalog import CatalogSource
from domain.ports.clock import Clock
from domain.ports.repositories import Revisions
from entrypoints.http.guards import ANYONE, PROBE
from entrypoints.version import gateway_version

STORAGE_ANSWERS_WITHIN_S: Final = 2.0
ASKED_AGAIN_AFTER_S: Final = 1.0
"""Probes come from anywhere and often; storage is asked at most so often for them."""
UNSETTLED_MAX: Final = 1_000
"""With more settlements that storage could not take, others should serve."""


class WelcomeView(Struct, frozen=True):
    name: str
    version: str
    docs: str
    models: str


class HealthView(Struct, frozen=True):
    status: str


class ReadinessView(Struct, frozen=True, kw_only=True):
    status: str
    """"ready", "draining", or "not_ready"."""
    storage: str
    models: int
    """That can be asked for; none makes a gateway not ready."""
    unsettled: int
    """Settlements that storage could not take yet; too many make a gateway not ready."""


class PongView(Struct, frozen=True):
    message: str


@dataclass(slots=True)
class Readiness:
    """Whether this process should get requests; `draining` is set when it is told to stop."""

    revisions: Revisions
    catalog: CatalogSource
    clock: Clock
    unsettled: Callable[[], int] = field(default=lambda: 0)
    draining: bool = False
    _storage: bool = field(default=False, init=False)
    _models: int = field(default=0, init=False)
    _asked_at: float | None = field(default=None, init=False)

    async def __call__(self) -> ReadinessView:
        now = self.clock.monotonic()
        if self._asked_at is None or now - self._asked_at >= ASKED_AGAIN_AFTER_S:
            self._asked_at = now
            self._storage, self._models = await self._storage_answers(), len(self.catalog.current().listed())
        unsettled = self.unsettled()
        serves = "ready" if self._storage and self._models and unsettled <= UNSETTLED_MAX else "not_ready"
        return ReadinessView(
            status="draining" if self.draining else serves,
            storage="ok" if self._storage else "does not answer",
            models=self._models,
            unsettled=unsettled,
        )

    async def _storage_answers(self) -> bool:
        try:
            async with asyncio.timeout(STORAGE_ANSWERS_WITHIN_S):
                await self.revisions.read()
        except (StorageUnavailable, TimeoutError):
            return False
        return True


class HealthController(Controller):
    tags = ("Health",)

    @get("/", guards=[ANYONE])
    async def welcome(self) -> WelcomeView:
        """What this is, and where to go on."""
        return WelcomeView(name="Gatewayz", version=gateway_version(), docs="/docs", models="/v1/models")

    @head("/", guards=[PROBE])
    async def welcome_head(self) -> None:
        """Some clients look whether anybody is there before they begin."""

    @get("/health", guards=[PROBE])
    async def health(self) -> HealthView:
        """The process is alive."""
        return HealthView(status="ok")

    @get("/health/ready", guards=[PROBE])
    async def ready(self, readiness: NamedDependency[Readiness]) -> Response[ReadinessView]:
        """Whether to send requests here: 200, or 503 with what is missing."""
        view = await readiness()
        return Response(view, status_code=200 if view.status == "ready" else 503)

    @get("/ping", guards=[PROBE])
    async def ping(self) -> PongView:
        """Answer, and nothing else."""
        return PongView(message="pong")
