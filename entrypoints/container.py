"""The composition root: the only module that knows both the core and its adapters.

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
from msgspec.structs import replace

from adapters.catalog.live import LiveCatalog
from adapters.dialects.anthropic import server as anthropic
from adapters.dialects.callers import CALLERS
from adapters.dialects.openai_chat import server as openai_chat
from adapters.dialects.openai_chat.codec import OpenAIChatCodec
from adapters.dialects.openai_completions import server as openai_completions
from adapters.dialects.openai_responses import server as openai_responses
from adapters.dialects.openai_responses import stored as stored_responses
from adapters.dialects.openai_tasks.register import TASKS
from adapters.dialects.translation import TranslatedVendor, Wire
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
from adapters.transport.aws_signing import AwsCredentials
from adapters.transport.google_auth import (
    CredentialsUnreadable,
    GoogleCredential,
    GoogleTokens,
    Impersonated,
    MetadataServer,
    read_credential,
)
from adapters.transport.http import VendorHttp
from adapters.vendors.anthropic import AnthropicSpeaking, AnthropicVendor
from adapters.vendors.azure import AZURE, AZURE_ENTRA, AzureVendor, base_url_of
from adapters.vendors.bedrock import BearerKey, BedrockVendor, Proof, Signer, control_url, runtime_url
from adapters.vendors.gemini import GEMINI, GeminiSpeaking, GeminiVendor
from adapters.vendors.key_pool import pooled, pooled_endpoint, split_keys
from adapters.vendors.modelz import SLUG as MODELZ
from adapters.vendors.modelz import ModelzDirectory
from adapters.vendors.openai_compatible import OpenAICompatible, OpenAICompatibleVendor
from adapters.vendors.register import ANTHROPIC_SPEAKING, OPENAI_COMPATIBLE
from adapters.vendors.sandbox import SandboxVendor
from adapters.vendors.sandbox_tasks import SANDBOX_TASKS, SandboxTask
from adapters.vendors.vertex import VertexPlace, VertexVendor, host_of
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
from domain.catalog import Dialect, Offer, Traits
from domain.ids import VendorSlug
from domain.inference.faults import VendorFault
from domain.inference.holds import HoldPolicy
from domain.keys import KeyRing
from domain.money import ZERO, Usd
from domain.ports.affinity import Affinity
from domain.ports.catalog import HealthBoard
from domain.ports.clock import Clock
from domain.ports.limiter import Limiter
from domain.ports.vendors import ChatVendor, ModelLister, TokenCounter
from domain.routing import Draw
from entrypoints.environment import Problem, SettingsError
from entrypoints.settings import NO_KEY, Environment, FirstTry, Settings
from entrypoints.settings import Wire as ServerWire

if TYPE_CHECKING:
    from adapters.redis.client import RedisClient

log = logging.getLogger(__name__)

CLAIM_LEASE = timedelta(seconds=TOTAL_S + 300)
"""A claim of an idempotency key outlives the longest request, so that no second one can take it over meanwhile."""
JOURNAL = Path("var/journal")
"""In the working directory: settlements that wait for the database."""
VENDOR_NAMES: Mapping[str, tuple[str, ...]] = {
    **{v.slug: v.key_names if v.needs_key else (*v.key_names, NO_KEY) for v in OPENAI_COMPATIBLE},
    **{vendor.slug: () for vendor in ANTHROPIC_SPEAKING},
    AZURE.slug: AZURE.key_names,
    MODELZ: (NO_KEY,),
    GEMINI.slug: GEMINI.key_names,
    "bedrock": ("AWS_BEARER_TOKEN_BEDROCK",),
    "vertex": ("GOOGLE_VERTEX_CREDENTIALS_JSON",),
}
"""The register's slugs, for the settings; each with further names of its key."""


class Vendors:
    """The vendors that this gateway has access to, and the sessions that reach them."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        sandbox = Wire(SandboxVendor(clock), Dialect.OPENAI_CHAT, OpenAIChatCodec())
        sandbox_tasks = {dialect: SandboxTask(TASKS[dialect]) for dialect in SANDBOX_TASKS}
        self.chat: dict[VendorSlug, ChatVendor] = {
            SandboxVendor.slug: TranslatedVendor((sandbox,), CALLERS, sandbox_tasks)
        }
        self.listers: list[ModelLister] = []
        self.declared: dict[VendorSlug, tuple[str, ...]] = {}
        """Models that the operator named, of vendors whose own list cannot be asked for."""
        self.counters: dict[VendorSlug, TokenCounter] = {}
        """Those that count a prompt's tokens."""
        self._sessions: list[VendorHttp] = []
        self._clock = clock
        self.traits: dict[VendorSlug, Traits] = {}
        for speaking in ANTHROPIC_SPEAKING:
            if access := settings.vendors.get(speaking.slug):
                self._add_anthropic(settings, speaking, access.base_url or speaking.base_url, access.api_key.text)
        for vendor in OPENAI_COMPATIBLE:
            if access := settings.vendors.get(vendor.slug):
                base_url = access.base_url or vendor.base_url
                self._add(settings, vendor, base_url, access.api_key.text)
        for further in settings.further_vendors:
            if further.models:
                self.declared[VendorSlug(further.slug)] = further.models
            key = further.api_key.text if further.api_key else ""
            if further.wire is ServerWire.ANTHROPIC:
                speaking = AnthropicSpeaking(slug=further.slug, base_url=further.base_url, bearer=True)
                self._add_anthropic(settings, speaking, further.base_url, key)
                continue
            if further.wire is ServerWire.GEMINI:
                own = GeminiSpeaking(slug=further.slug, base_url=further.base_url)
                self._add_gemini(settings, own, further.base_url, key)
                continue
            # Servers that people run themselves know the older name of the output limit, and many know no other.
            vendor = OpenAICompatible(
                slug=further.slug,
                base_url=further.base_url,
                output_limit_field="max_tokens",
                endpoints=frozenset(TASKS),
            )
            self._add(settings, vendor, further.base_url, key)
        if access := settings.vendors.get(GEMINI.slug):
            self._add_gemini(settings, GEMINI, access.base_url or GEMINI.base_url, access.api_key.text)
        if access := settings.vendors.get(MODELZ):
            http = VendorHttp(MODELZ, idle_s=settings.inference.idle_s)
            directory = ModelzDirectory(access.base_url or "", http)
            self.chat[directory.slug] = directory
            self.listers.append(directory)
            self._sessions.append(http)
        self._add_azure(settings)
        self._add_bedrock(settings)
        self._add_vertex(settings)

    async def close(self) -> None:
        for session in self._sessions:
            await session.close()

    def _add(
        self,
        settings: Settings,
        vendor: OpenAICompatible,
        base_url: str,
        api_key: str,
        build: Callable[[OpenAICompatible, str, str, VendorHttp], OpenAICompatibleVendor] = OpenAICompatibleVendor,
    ) -> None:
        keys = split_keys(api_key)
        http = VendorHttp(vendor.slug, idle_s=settings.inference.idle_s, secrets=keys)
        slug = VendorSlug(vendor.slug)
        by_key = {key: build(vendor, base_url, key, http) for key in keys}
        native = pooled(by_key, self._clock)
        endpoints = {key: by_key[key].endpoints for key in keys}
        further = {
            dialect: pooled_endpoint(native, {key: endpoints[key][dialect] for key in keys})
            for dialect in vendor.endpoints
        }
        self.chat[slug] = TranslatedVendor((replace(by_key[keys[0]].wire, native=native),), CALLERS, further)
        self.listers.append(native)
        self.traits[slug] = vendor.traits
        self._sessions.append(http)

    def _add_anthropic(self, settings: Settings, vendor: AnthropicSpeaking, base_url: str, api_key: str) -> None:
        keys = split_keys(api_key)
        http = VendorHttp(vendor.slug, idle_s=settings.inference.idle_s, secrets=keys)
        by_key = {key: AnthropicVendor(vendor, base_url, key, http) for key in keys}
        adapter, native = by_key[keys[0]], pooled(by_key, self._clock)
        self.chat[adapter.slug] = TranslatedVendor((replace(adapter.wire, native=native),), CALLERS)
        self.counters[adapter.slug] = adapter
        self.traits[adapter.slug] = vendor.traits
        self.listers.append(native)
        self._sessions.append(http)

    def _add_gemini(self, settings: Settings, vendor: GeminiSpeaking, base_url: str, api_key: str) -> None:
        keys = split_keys(api_key)
        http = VendorHttp(vendor.slug, idle_s=settings.inference.idle_s, secrets=keys)
        by_key = {key: GeminiVendor(vendor, base_url, key, http) for key in keys}
        adapter, native = by_key[keys[0]], pooled(by_key, self._clock)
        endpoints = {key: by_key[key].endpoints for key in keys}
        further = {
            dialect: pooled_endpoint(native, {key: endpoints[key][dialect] for key in keys})
            for dialect in adapter.endpoints
        }
        self.chat[adapter.slug] = TranslatedVendor((replace(adapter.wire, native=native),), CALLERS, further)
        self.listers.append(native)
        self._sessions.append(http)

    def _add_azure(self, settings: Settings) -> None:
        cloud, access = settings.clouds.azure, settings.vendors.get(AZURE.slug)
        key = cloud.token.text if cloud.token is not None else access.api_key.text if access else ""
        if not key:
            return

        def build(vendor: OpenAICompatible, base_url: str, api_key: str, http: VendorHttp) -> AzureVendor:
            return AzureVendor(vendor, base_url, api_key, http, cloud.deployments)

        vendor = AZURE if cloud.token is None else AZURE_ENTRA
        self._add(settings, vendor, cloud.base_url or base_url_of(cloud.resource), key, build)

    def _add_bedrock(self, settings: Settings) -> None:
        cloud, access = settings.clouds.aws, settings.vendors.get("bedrock")
        secret = cloud.secret_access_key
        proof: Proof
        if access is not None:
            proof, secrets = BearerKey(access.api_key.text), (access.api_key.text,)
        elif secret is not None and cloud.access_key_id and cloud.region:
            token = cloud.session_token.text if cloud.session_token is not None else ""
            credentials = AwsCredentials(cloud.access_key_id, secret.text, token)
            proof, secrets = Signer(credentials, cloud.region, self._clock), (secret.text,)
        else:
            return
        http = VendorHttp("bedrock", idle_s=settings.inference.idle_s, secrets=secrets)
        # At another address the one server stands for both.
        runtime, control = cloud.base_url or runtime_url(cloud.region), cloud.base_url or control_url(cloud.region)
        vendor = BedrockVendor(runtime, control, proof, http, cloud.models)
        self.chat[vendor.slug] = TranslatedVendor((vendor.wire,), CALLERS)
        self.listers.append(vendor)
        self._sessions.append(http)

    def _add_vertex(self, settings: Settings) -> None:
        cloud, access = settings.clouds.google, settings.vendors.get("vertex")
        given = access.api_key if access is not None else cloud.credential
        if given is None:
            return
        name = "GOOGLE_VERTEX_CREDENTIALS_JSON" if access is not None else "GOOGLE_APPLICATION_CREDENTIALS"
        try:
            if given.text == "metadata":
                machine = MetadataServer(cloud.metadata_host) if cloud.metadata_host else MetadataServer()
                credential = GoogleCredential(machine)
            else:
                credential = read_credential(given.text)
        except CredentialsUnreadable as error:
            cure = "Write the JSON of a Google credential, or metadata for the machine's own account."
            raise SettingsError((Problem(name, f"cannot be used: {error}.", cure),)) from None
        project = cloud.project or credential.project
        if not project:
            cure = "Write the id of the project."
            raise SettingsError((Problem("GOOGLE_CLOUD_PROJECT", "is missing, and no credential names it.", cure),))
        source = credential.source
        if cloud.impersonate:
            source = Impersonated(source, Impersonated.url_of(cloud.impersonate))
        http = VendorHttp("vertex", idle_s=settings.inference.idle_s, secrets=credential.secrets)
        door = VendorHttp("google-auth", secrets=credential.secrets)
        beside = {"x-goog-user-project": project} if credential.bills_elsewhere else {}
        tokens = GoogleTokens(source, door, self._clock, beside)
        base_url = cloud.base_url or host_of(cloud.location)
        place = VertexPlace(project=project, location=cloud.location, base_url=base_url)
        vendor = VertexVendor(place, tokens, http, CALLERS, cloud.models)
        self.chat[vendor.slug] = vendor
        self.listers.append(vendor)
        self._sessions += (http, door)


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
