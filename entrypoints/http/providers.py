"""/v1/providers and /v1/gateways: who serves, how they do, and what they are used for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from msgspec import Struct

from application.rankings import Ranked, Rankings, Span, merged
from application.vendors import ShowVendors, VendorHealth, VendorStatus
from domain.catalog import UnknownVendor
from domain.errors import InvalidRequest
from entrypoints.http.guards import ANYONE, PROBE
from entrypoints.http.rankings import TrendingView, shown_trending

TOP_MAX: Final = 20


class ProviderView(Struct, frozen=True, kw_only=True):
    slug: str
    status: VendorStatus
    model_count: int
    """That can be asked for."""
    latency_ms: int | None
    """Until the first token: the median of its models that were called."""
    tokens_per_s: int | None
    listed_at: datetime | None
    """When it last sent its models list."""


class ProvidersView(Struct, frozen=True, kw_only=True):
    data: tuple[ProviderView, ...]
    count: int


class ProviderStats(Struct, frozen=True, kw_only=True):
    slug: str
    status: VendorStatus
    total_requests: int
    failed_requests: int
    total_tokens: int
    unique_models: int
    """That were used."""
    top_model: str | None
    avg_first_token_ms: int | None
    avg_speed: int | None
    """Tokens per second while an answer is written."""


class ProviderStatsView(Struct, frozen=True, kw_only=True):
    data: ProviderStats
    time_range: Span


class GatewayTotals(Struct, frozen=True, kw_only=True):
    total_requests: int
    failed_requests: int
    total_tokens: int
    unique_models: int


class GatewaysView(Struct, frozen=True, kw_only=True):
    data: dict[str, ProviderStats]
    totals: GatewayTotals
    time_range: Span


class VendorHealthView(Struct, frozen=True, kw_only=True):
    vendor: str
    status: VendorStatus
    models: int
    resting: int
    latency_ms: int | None
    tokens_per_s: int | None


class VendorsHealthView(Struct, frozen=True, kw_only=True):
    status: VendorStatus
    """The worst of those that are on."""
    vendors: tuple[VendorHealthView, ...]


class ProviderController(Controller):
    path = "/v1/providers"
    tags = ("Catalogue",)
    guards = (ANYONE,)

    @get()
    async def providers(self, show_vendors: NamedDependency[ShowVendors]) -> ProvidersView:
        """The vendors that serve here, and how each does at the moment."""
        rows = tuple(
            ProviderView(
                slug=each.vendor,
                status=each.status,
                model_count=each.priced,
                latency_ms=each.latency_ms,
                tokens_per_s=each.tokens_per_s,
                listed_at=each.listed_at,
            )
            for each in _on(await show_vendors())
        )
        return ProvidersView(data=rows, count=len(rows))

    @get("/{slug:str}/stats")
    async def stats(
        self,
        slug: FromPath[str],
        show_vendors: NamedDependency[ShowVendors],
        rankings: NamedDependency[Rankings],
        time_range: FromQuery[Span] = Span.DAY,
    ) -> ProviderStatsView:
        """What a vendor was used for."""
        vendor = await _one(show_vendors, slug)
        return ProviderStatsView(data=_stats(vendor, await rankings.models(time_range)), time_range=time_range)

    @get("/{slug:str}/top-models")
    async def top_models(
        self,
        slug: FromPath[str],
        show_vendors: NamedDependency[ShowVendors],
        rankings: NamedDependency[Rankings],
        time_range: FromQuery[Span] = Span.DAY,
        limit: FromQuery[int] = 5,
    ) -> TrendingView:
        """The models that a vendor served most of."""
        if not 1 <= limit <= TOP_MAX:
            raise InvalidRequest(f"limit must be from 1 to {TOP_MAX}.", param="limit")
        vendor = await _one(show_vendors, slug)
        return shown_trending(await rankings.models(time_range), time_range, "tokens", vendor.vendor, limit)


class GatewaysController(Controller):
    path = "/v1/gateways"
    tags = ("Catalogue",)
    guards = (ANYONE,)

    @get("/summary")
    async def summary(
        self,
        show_vendors: NamedDependency[ShowVendors],
        rankings: NamedDependency[Rankings],
        time_range: FromQuery[Span] = Span.DAY,
    ) -> GatewaysView:
        """What all vendors were used for, one by one and in all."""
        ranked = await rankings.models(time_range)
        known = merged(ranked)
        totals = GatewayTotals(
            total_requests=known.requests,
            failed_requests=known.failed,
            total_tokens=known.tokens,
            unique_models=len({each.name for each in ranked}),
        )
        data = {str(each.vendor): _stats(each, ranked) for each in _on(await show_vendors())}
        return GatewaysView(data=data, totals=totals, time_range=time_range)


class VendorHealthController(Controller):
    path = "/health/vendors"
    tags = ("Health",)

    @get(guards=[PROBE])
    async def health(self, show_vendors: NamedDependency[ShowVendors]) -> VendorsHealthView:
        """How each vendor does, as this process has seen it; worked out at most once a second."""
        vendors = await show_vendors()
        statuses = [each.status for each in _on(vendors)]
        worst = max(statuses, key=_BADNESS.index, default=VendorStatus.OK)
        rows = tuple(
            VendorHealthView(
                vendor=each.vendor,
                status=each.status,
                models=each.priced,
                resting=each.resting,
                latency_ms=each.latency_ms,
                tokens_per_s=each.tokens_per_s,
            )
            for each in vendors
        )
        return VendorsHealthView(status=worst, vendors=rows)


_BADNESS: Final = [VendorStatus.OK, VendorStatus.DEGRADED, VendorStatus.RESTING]


def _on(vendors: Sequence[VendorHealth]) -> list[VendorHealth]:
    return [each for each in vendors if each.status is not VendorStatus.OFF]


async def _one(show_vendors: ShowVendors, slug: str) -> VendorHealth:
    """Raises UnknownVendor, also for one that is switched off."""
    vendors = {each.vendor: each for each in _on(await show_vendors())}
    for vendor, found in vendors.items():
        if vendor == slug:
            return found
    raise UnknownVendor(slug, vendors)


def _stats(vendor: VendorHealth, ranked: Sequence[Ranked]) -> ProviderStats:
    served = [each for each in ranked if each.vendor == vendor.vendor]
    known = merged(served)
    return ProviderStats(
        slug=vendor.vendor,
        status=vendor.status,
        total_requests=known.requests,
        failed_requests=known.failed,
        total_tokens=known.tokens,
        unique_models=len(served),
        top_model=served[0].name if served else None,
        avg_first_token_ms=known.first_token_ms,
        avg_speed=known.tokens_per_s,
    )
