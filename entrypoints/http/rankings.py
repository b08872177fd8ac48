"""/ranking: what is used most on this gateway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromQuery
from msgspec import Struct

from application.rankings import Ranked, Rankings, Span, merged, trend_percent
from domain.errors import InvalidRequest
from entrypoints.http.guards import ANYONE

PAGE_MAX: Final = 100
OFFSET_MAX: Final = 10_000


class TrendingModel(Struct, frozen=True, kw_only=True):
    rank: int
    model: str
    provider: str
    requests: int
    tokens: int
    avg_speed: int | None
    """Tokens per second while an answer is written."""
    avg_first_token_ms: int | None
    trend_percent: int | None
    """How many per cent more tokens than in the span before."""


class TrendingView(Struct, frozen=True, kw_only=True):
    success: bool = True
    data: tuple[TrendingModel, ...]
    count: int
    time_range: Span
    sort_by: str


class RankedModel(Struct, frozen=True, kw_only=True):
    rank: int
    model: str
    author: str
    requests: int
    tokens: int
    trend_percent: int | None


class RankedApp(Struct, frozen=True, kw_only=True):
    rank: int
    app: str
    requests: int
    tokens: int
    trend_percent: int | None


class RankedModels(Struct, frozen=True, kw_only=True):
    success: bool = True
    data: tuple[RankedModel, ...]
    count: int
    total: int
    time_range: Span


class RankedApps(Struct, frozen=True, kw_only=True):
    success: bool = True
    data: tuple[RankedApp, ...]
    count: int
    total: int
    time_range: Span


class RankingController(Controller):
    path = "/ranking"
    tags = ("Catalogue",)
    guards = (ANYONE,)

    @get("/models")
    async def models(
        self,
        rankings: NamedDependency[Rankings],
        time_range: FromQuery[Span] = Span.WEEK,
        limit: FromQuery[int] = 20,
        offset: FromQuery[int] = 0,
    ) -> RankedModels:
        """The models of which most tokens were used here, whoever served them; counted every five minutes."""
        _check(limit, offset)
        ranked = _by_model(await rankings.models(time_range))
        page = ranked[offset : offset + limit]
        rows = tuple(
            RankedModel(
                rank=rank,
                model=each.name,
                author=each.name.partition("/")[0],
                requests=each.sums.requests,
                tokens=each.sums.tokens,
                trend_percent=trend_percent(each),
            )
            for rank, each in enumerate(page, offset + 1)
        )
        return RankedModels(data=rows, count=len(rows), total=len(ranked), time_range=time_range)

    @get("/apps")
    async def apps(
        self,
        rankings: NamedDependency[Rankings],
        time_range: FromQuery[Span] = Span.WEEK,
        limit: FromQuery[int] = 20,
        offset: FromQuery[int] = 0,
    ) -> RankedApps:
        """The programs that use most, of those that say in `X-Title` or `HTTP-Referer` what they are called."""
        _check(limit, offset)
        ranked = await rankings.apps(time_range)
        rows = tuple(
            RankedApp(
                rank=rank,
                app=each.name,
                requests=each.sums.requests,
                tokens=each.sums.tokens,
                trend_percent=trend_percent(each),
            )
            for rank, each in enumerate(ranked[offset : offset + limit], offset + 1)
        )
        return RankedApps(data=rows, count=len(rows), total=len(ranked), time_range=time_range)


def shown_trending(
    ranked: Sequence[Ranked], span: Span, sort_by: str, provider: str | None, limit: int
) -> TrendingView:
    fitting = [each for each in ranked if each.vendor and provider in {None, each.vendor}]
    if sort_by == "requests":
        fitting.sort(key=lambda each: -each.sums.requests)
    rows = tuple(
        TrendingModel(
            rank=rank,
            model=each.name,
            provider=each.vendor,
            requests=each.sums.requests,
            tokens=each.sums.tokens,
            avg_speed=each.sums.tokens_per_s,
            avg_first_token_ms=each.sums.first_token_ms,
            trend_percent=trend_percent(each),
        )
        for rank, each in enumerate(fitting[:limit], 1)
    )
    return TrendingView(data=rows, count=len(rows), time_range=span, sort_by=sort_by)


def _by_model(ranked: Sequence[Ranked]) -> list[Ranked]:
    """One line for each model, most tokens first."""
    by_name: dict[str, list[Ranked]] = {}
    for each in ranked:
        by_name.setdefault(each.name, []).append(each)
    models = [
        Ranked(
            name=name,
            vendor="",
            sums=merged(lines),
            tokens_before=None
            if any(line.tokens_before is None for line in lines)
            else sum(line.tokens_before or 0 for line in lines),
        )
        for name, lines in by_name.items()
    ]
    return sorted(models, key=lambda each: (-each.sums.tokens, each.name))


def _check(limit: int, offset: int) -> None:
    if not 1 <= limit <= PAGE_MAX:
        raise InvalidRequest(f"limit must be from 1 to {PAGE_MAX}.", param="limit")
    if not 0 <= offset <= OFFSET_MAX:
        raise InvalidRequest(f"offset must be from 0 to {OFFSET_MAX}.", param="offset")
