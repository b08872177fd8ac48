"""The composition root: with `vendors.py`, the only module that knows both the core and its adapters.

Nothing here does I/O when it is built; `entrypoints/http/app.py` and the commands open and close what needs it.
"""

from __future__ import annotations

import hmac
import logging
import os
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from dependency_injector import containers, providers

from adapters.catalog.live import LiveCatalog
from adapters.dialects.anthropic import server as anthropic
from adapters.dialects.openai_chat import server as openai_chat
from adapters.dialects.openai_completions import server as openai_completions
from adapters.dialects.openai_responses import server as openai_responses
from adapters.dialects.openai_responses import stored as stored_responses
from adapters.dialects.openai_tasks.register import TASKS
from adapters.memory.affinity import MemoryAffinity
from adapters.memory.health import MemoryHealthBoard
from adapters.memory.limiter import MemoryLimiter
from adapters.sql.accounts import SqlAccounts
from adapters.sql.catalog_entries import SqlCatalogEntries
from adapters.sql.database import Database
from adapters.sql.idempotency import SqlIdempotency
from adapters.sql.keys import SqlKeys
from adapters.sql.leases import SqlLeases
from adapters.sql.ledger.charges import SqlCharges
from adapters.sql.ledger.group_commit import SqlLedger
from adapters.sql.markups import SqlMarkups
from adapters.sql.overrides import SqlOverrides
from adapters.sql.partitions import MonthlyPartitions
from adapters.sql.popularity import SqlPopularity
from adapters.sql.prices import SqlPrices
from adapters.sql.responses import SqlResponses
from adapters.sql.retention import Retention
from adapters.sql.revisions import SqlRevisions
from adapters.system.clock import SystemClock
from adapters.system.ids import TimeOrderedIds
from adapters.system.journal import FileJournal
from adapters.system.sealing import Sealer
from application.accounts import CreateAccount, FindAccount, ListAccounts, RestoreAccount, SuspendAccount
from application.bootstrap import PLAY_CREDIT, Bootstrap
from application.catalog import ListModels, RefreshCatalog
from application.credits import AdjustCredit, GrantCredit, ListTransactions, ShowBalance
from application.generations import ShowGeneration
from application.inference.admission import Admission
from application.inference.caching import PromptCaches
from application.inference.chat import TOTAL_S, CompleteChat, DetachedWork
from application.inference.counting import CountTokens
from application.inference.explain import Explain
from application.inference.failover import Failover, RetryBudget
from application.inference.heartbeats import Heartbeats
from application.inference.once import OncePerKey
from application.inference.outputs import UsualOutputs
from application.inference.settlement import Settler
from application.keys import Authenticate, ChangeKey, IssueKey, ListKeys, RevokeKey
from application.offers import ShowOffers
from application.prices import ConfirmPrice, ListMarkups, PriceHistory, RemoveMarkup, SetMarkup, SetPrice
from application.rankings import CountUsage, Rankings
from application.rerating import RerateMonth
from application.responses import ForgetResponses, KeepResponses
from application.revisions import WatchRevisions
from application.settlements import ShowSettlements
from application.shelf import ShowModels
from application.sweeping import ExpireCredit, ForgetOutcomes, SweepHolds
from application.vendors import OverrideCatalog, ShowVendors
from domain.catalog import Offer
from domain.inference.faults import VendorFault
from domain.inference.holds import HoldPolicy
from domain.keys import KeyRing
from domain.money import ZERO, Usd
from domain.ports.affinity import Affinity
from domain.ports.catalog import HealthBoard
from domain.ports.clock import Clock
from domain.ports.limiter import Limiter
from domain.routing import Draw
from entrypoints.settings import Environment, FirstTry, Settings
from entrypoints.vendors import Vendors

if TYPE_CHECKING:
    from adapters.redis.client import RedisClient

log = logging.getLogger(__name__)

CLAIM_LEASE = timedelta(seconds=TOTAL_S + 300)
"""A claim of an idempotency key outlives the longest request, so that no second one can take it over meanwhile."""
JOURNAL = Path("var/journal")
"""In the working directory: settlements that wait for the database."""


class Shared:
    """What processes tell each other beside the database: through Redis where there is one, else nothing to tell."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._client: RedisClient | None = None
        self._opened = False
        self.limiter: Limiter = MemoryLimiter(clock)
        self.health: HealthBoard = MemoryHealthBoard(clock)
        self.affinity: Affinity = MemoryAffinity(clock)
        if settings.storage.redis_url is None:
            return
        # Imported here, because the embedded default starts faster without it.
        from adapters.redis.affinity import RedisAffinity
        from adapters.redis.channels import Channels
        from adapters.redis.client import RedisClient
        from adapters.redis.health import RedisHealthBoard
        from adapters.redis.limiter import RedisLimiter
        from adapters.redis.revisions import RevisionHints

        self._client = RedisClient(settings.storage.redis_url)
        self._channels = Channels(self._client)
        self._limiter = RedisLimiter(self._client, clock, processes_least=settings.server.workers)
        self._health = RedisHealthBoard(self._client, self._channels, clock)
        self._hints = RevisionHints(self._channels)
        self._affinity = RedisAffinity(self._client, clock)
        self.limiter, self.health, self.affinity = self._limiter, self._health, self._affinity

    async def open(self, look: Callable[[], Awaitable[None]]) -> None:
        """Never fails: without Redis this process decides by its own share until Redis is there.

        `look` is called where another process says that something changed.
        """
        if self._client is not None:
            await self._client.open()
            await self._limiter.open()
            await self._health.open()
            await self._hints.open(look)
            await self._channels.open()
            self._opened = True

    async def close(self) -> None:
        if self._client is not None:
            await self._limiter.close()
            await self._health.close()
            await self._affinity.close()
            await self._hints.close()
            await self._channels.close()
            await self._client.close()

    def changed(self, topic: str) -> None:
        """Spare the other processes the wait for their next look."""
        if self._opened:
            self._hints.changed(topic)


def _keys_changed(authenticate: Authenticate, shared: Shared) -> Callable[[], None]:
    def changed() -> None:
        authenticate.forget_all()
        shared.changed("keys")

    return changed


def _catalog_changed(shared: Shared) -> Callable[[], None]:
    return lambda: shared.changed("catalog")


def _ring(settings: Settings) -> KeyRing:
    return settings.peppers.ring()


def _play_credit(settings: Settings) -> Usd:
    """Credit to try the embedded gateway with; nobody gets any on a server."""
    embedded = settings.storage.embedded and settings.environment is Environment.DEVELOPMENT
    return PLAY_CREDIT if embedded else ZERO


def _sealer(settings: Settings, purpose: str) -> Sealer:
    return Sealer(settings.peppers.by_id, purpose)


def _policy(settings: Settings) -> HoldPolicy:
    return HoldPolicy(settings.inference.hold_policy)


def _draw(settings: Settings) -> Draw | None:
    return random.randrange if settings.inference.first_try is FirstTry.DRAWN else None


def _conversation_key(settings: Settings) -> bytes:
    """Of this purpose alone, so that what is stored of conversations opens nothing else."""
    newest = next(iter(settings.peppers.by_id.values()), b"")
    return hmac.digest(newest, b"gatewayz:conversations", "sha256")


def _vendor_needs_care(offer: Offer, fault: VendorFault) -> None:
    """Callers never hear of it: what failed is our account at the vendor, not theirs."""
    log.error("our account at the vendor %s needs care: %s (%s)", offer.vendor, fault.kind, fault.status)


def _seconds(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def _callbacks(authenticate: Authenticate, catalog: LiveCatalog) -> Mapping[str, tuple[Callable[[], object], ...]]:
    """What to do when another process, or a command, changed something."""
    return {
        "keys": (authenticate.forget_all,),
        "prices": (catalog.reload,),
        "catalog": (catalog.reload,),
    }


class Adapters(containers.DeclarativeContainer):
    """The outside world, one of each."""

    settings = providers.Dependency(instance_of=Settings)

    clock = providers.Singleton(SystemClock)
    ids = providers.Singleton(TimeOrderedIds)
    database = providers.Singleton(Database, settings.provided.storage.database_url)
    ledger = providers.Singleton(SqlLedger, database)
    journal = providers.Singleton(FileJournal, providers.Object(JOURNAL))
    accounts = providers.Singleton(SqlAccounts, database)
    keys = providers.Singleton(SqlKeys, database)
    prices = providers.Singleton(SqlPrices, database)
    markups = providers.Singleton(SqlMarkups, database)
    charges = providers.Singleton(SqlCharges, database)
    catalog_entries = providers.Singleton(SqlCatalogEntries, database)
    catalog_overrides = providers.Singleton(SqlOverrides, database)
    popularity = providers.Singleton(SqlPopularity, database)
    revisions = providers.Singleton(SqlRevisions, database)
    idempotency = providers.Singleton(SqlIdempotency, database)
    responses = providers.Singleton(SqlResponses, database, providers.Singleton(_sealer, settings, "responses"))
    leases = providers.Singleton(SqlLeases, database)
    partitions = providers.Factory(MonthlyPartitions, database, clock)
    retention = providers.Factory(
        Retention,
        database,
        partitions,
        clock,
        ended_hold_days=settings.provided.retention.ended_hold_days,
        generation_months=settings.provided.retention.generation_months,
    )
    shared = providers.Singleton(Shared, settings, clock)
    limiter = shared.provided.limiter
    health = shared.provided.health
    affinity = shared.provided.affinity
    vendors = providers.Singleton(Vendors, settings, clock)
    catalog = providers.Singleton(
        LiveCatalog,
        listers=vendors.provided.listers,
        entries=catalog_entries,
        overrides=catalog_overrides,
        prices=prices,
        clock=clock,
        versions=prices,
        markups=markups,
        declared=vendors.provided.declared,
        traits=vendors.provided.traits,
        markup_ppm=settings.provided.inference.markup_ppm,
    )


class UseCases(containers.DeclarativeContainer):
    """What the application can do.  Each name here is a handler's parameter name."""

    settings = providers.Dependency(instance_of=Settings)
    adapters = providers.DependenciesContainer()

    ring = providers.Singleton(_ring, settings)

    settler = providers.Singleton(Settler, adapters.ledger, adapters.journal)
    outputs = providers.Singleton(UsualOutputs)
    heartbeats = providers.Singleton(Heartbeats, settings.provided.inference.heartbeat_s)
    detached = providers.Singleton(DetachedWork)
    caches = providers.Singleton(
        PromptCaches, affinity=adapters.affinity, key=providers.Callable(_conversation_key, settings)
    )
    admission = providers.Singleton(
        Admission,
        catalog=adapters.catalog,
        health=adapters.health,
        limiter=adapters.limiter,
        ledger=adapters.ledger,
        settler=settler,
        outputs=outputs,
        clock=adapters.clock,
        policy=providers.Callable(_policy, settings),
        lease=settings.provided.inference.hold_lease,
        draw=providers.Callable(_draw, settings),
        caches=caches,
    )
    explain = providers.Singleton(Explain, admission)
    failover = providers.Singleton(
        Failover,
        vendors=adapters.vendors.provided.chat,
        health=adapters.health,
        clock=adapters.clock,
        first_byte_s=settings.provided.inference.first_byte_s,
        jitter=providers.Object(random.random),
        budget=providers.Singleton(RetryBudget, adapters.clock),
        alert=providers.Object(_vendor_needs_care),
        caches=caches,
        redacted=adapters.vendors.provided.redacted,
    )
    complete_chat = providers.Singleton(
        CompleteChat,
        admission=admission,
        failover=failover,
        health=adapters.health,
        heartbeats=heartbeats,
        clock=adapters.clock,
        idle=providers.Callable(_seconds, settings.provided.inference.idle_s),
        detached=detached,
    )
    count_tokens = providers.Singleton(CountTokens, admission=admission, counters=adapters.vendors.provided.counters)
    once_per_key = providers.Singleton(
        OncePerKey,
        store=adapters.idempotency,
        clock=adapters.clock,
        lease=providers.Object(CLAIM_LEASE),
        keep=settings.provided.inference.idempotency,
    )

    authenticate = providers.Singleton(
        Authenticate,
        keys=adapters.keys,
        ring=ring,
        limiter=adapters.limiter,
        clock=adapters.clock,
        account_limits=settings.provided.limits.accounts,
        failures_max=settings.provided.limits.key_failures,
    )
    keys_changed = providers.Singleton(_keys_changed, authenticate, adapters.shared)
    issue_key = providers.Factory(
        IssueKey,
        keys=adapters.keys,
        ring=ring,
        clock=adapters.clock,
        ids=adapters.ids,
        random_bytes=providers.Object(os.urandom),
    )
    list_keys = providers.Factory(ListKeys, keys=adapters.keys)
    change_key = providers.Factory(ChangeKey, keys=adapters.keys, clock=adapters.clock, keys_changed=keys_changed)
    revoke_key = providers.Factory(RevokeKey, keys=adapters.keys, clock=adapters.clock, keys_changed=keys_changed)
    create_account = providers.Factory(
        CreateAccount, accounts=adapters.accounts, clock=adapters.clock, ids=adapters.ids
    )
    list_accounts = providers.Factory(ListAccounts, accounts=adapters.accounts)
    find_account = providers.Factory(FindAccount, accounts=adapters.accounts, admin_email=settings.provided.admin.email)
    suspend_account = providers.Factory(
        SuspendAccount,
        accounts=adapters.accounts,
        keys=adapters.keys,
        clock=adapters.clock,
        keys_changed=keys_changed,
    )
    restore_account = providers.Factory(RestoreAccount, accounts=adapters.accounts, keys_changed=keys_changed)
    grant_credit = providers.Factory(
        GrantCredit,
        accounts=adapters.accounts,
        ledger=adapters.ledger,
        clock=adapters.clock,
        ids=adapters.ids,
    )
    adjust_credit = providers.Factory(AdjustCredit, grant_credit=grant_credit)
    show_balance = providers.Factory(ShowBalance, ledger=adapters.ledger, clock=adapters.clock)
    list_transactions = providers.Factory(ListTransactions, ledger=adapters.ledger)
    bootstrap = providers.Factory(
        Bootstrap,
        accounts=adapters.accounts,
        keys=adapters.keys,
        ledger=adapters.ledger,
        ring=ring,
        clock=adapters.clock,
        ids=adapters.ids,
        random_bytes=providers.Object(os.urandom),
        admin_email=settings.provided.admin.email,
        admin_key=settings.provided.admin.api_key,
        play_credit=providers.Callable(_play_credit, settings),
    )
    show_generation = providers.Factory(ShowGeneration, ledger=adapters.ledger)
    show_settlements = providers.Factory(ShowSettlements, ledger=adapters.ledger, clock=adapters.clock)
    list_models = providers.Singleton(ListModels, catalog=adapters.catalog)
    show_models = providers.Singleton(ShowModels, catalog=adapters.catalog)
    show_offers = providers.Singleton(ShowOffers, catalog=adapters.catalog, health=adapters.health)
    set_price = providers.Factory(
        SetPrice, prices=adapters.prices, catalog=adapters.catalog, clock=adapters.clock, ids=adapters.ids
    )
    confirm_price = providers.Factory(
        ConfirmPrice, prices=adapters.prices, catalog=adapters.catalog, clock=adapters.clock, ids=adapters.ids
    )
    price_history = providers.Factory(PriceHistory, prices=adapters.prices, catalog=adapters.catalog)
    rerate_month = providers.Factory(RerateMonth, charges=adapters.charges, prices=adapters.prices)
    list_markups = providers.Factory(ListMarkups, markups=adapters.markups)
    set_markup = providers.Factory(SetMarkup, markups=adapters.markups, catalog=adapters.catalog, clock=adapters.clock)
    remove_markup = providers.Factory(RemoveMarkup, markups=adapters.markups)
    refresh_catalog = providers.Factory(RefreshCatalog, catalog=adapters.catalog)
    catalog_changed = providers.Singleton(_catalog_changed, adapters.shared)
    override_catalog = providers.Factory(
        OverrideCatalog,
        overrides=adapters.catalog_overrides,
        catalog=adapters.catalog,
        board=adapters.catalog,
        clock=adapters.clock,
        changed=catalog_changed,
    )
    show_vendors = providers.Singleton(
        ShowVendors, board=adapters.catalog, health=adapters.health, clock=adapters.clock
    )
    rankings = providers.Singleton(Rankings, counts=adapters.popularity, clock=adapters.clock)
    count_usage = providers.Factory(CountUsage, counts=adapters.popularity, clock=adapters.clock)

    sweep_holds = providers.Factory(SweepHolds, ledger=adapters.ledger, clock=adapters.clock)
    expire_credit = providers.Factory(ExpireCredit, ledger=adapters.ledger, clock=adapters.clock)
    keep_responses = providers.Singleton(
        KeepResponses,
        store=adapters.responses,
        clock=adapters.clock,
        keep=settings.provided.inference.responses,
    )
    forget_responses = providers.Factory(ForgetResponses, store=adapters.responses, clock=adapters.clock)
    forget_outcomes = providers.Factory(ForgetOutcomes, store=adapters.idempotency, clock=adapters.clock)
    watch_revisions = providers.Singleton(
        WatchRevisions,
        revisions=adapters.revisions,
        callbacks=providers.Callable(_callbacks, authenticate, adapters.catalog),
    )


class Container(containers.DeclarativeContainer):
    settings = providers.Dependency(instance_of=Settings)
    adapters = providers.Container(Adapters, settings=settings)
    use_cases = providers.Container(UseCases, settings=settings, adapters=adapters)
    openai_chat = providers.Object(openai_chat)
    openai_completions = providers.Object(openai_completions)
    openai_responses = providers.Object(openai_responses)
    stored_responses = providers.Object(stored_responses)
    tasks = providers.Object(TASKS)
    anthropic = providers.Object(anthropic)
