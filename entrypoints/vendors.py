"""Which vendors this gateway has access to: the composition root's part that grows with every vendor's own ways in.

Like `container.py`, it does no I/O when it is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from adapters.dialects.callers import CALLERS
from adapters.dialects.openai_chat.codec import OpenAIChatCodec
from adapters.dialects.openai_tasks.register import TASKS
from adapters.dialects.translation import TranslatedVendor, Wire
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
from domain.catalog import Dialect, Traits
from domain.ids import VendorSlug
from domain.ports.clock import Clock
from domain.ports.vendors import ChatVendor, ModelLister, TokenCounter
from entrypoints.environment import Problem, SettingsError
from entrypoints.settings import NO_KEY, Settings
from entrypoints.settings import Wire as ServerWire

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

    @property
    def redacted(self) -> dict[VendorSlug, Callable[[str], str]]:
        """What takes the credentials that a vendor is sent out of a text."""
        return {VendorSlug(session.vendor): session.redacted for session in self._sessions}

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
        secrets: tuple[str, ...]
        if access is not None:
            proof, secrets = BearerKey(access.api_key.text), (access.api_key.text,)
        elif secret is not None and cloud.access_key_id and cloud.region:
            token = cloud.session_token.text if cloud.session_token is not None else ""
            credentials = AwsCredentials(cloud.access_key_id, secret.text, token)
            proof, secrets = Signer(credentials, cloud.region, self._clock), (secret.text, token)
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
