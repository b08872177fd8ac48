"""Everything an operator can set, in one typed tree that shows no secret when printed.

Values come from environment variables and, below them, from a `.env` file.  A misspelt GATEWAYZ_* name stops
the start, because a setting silently ignored is worse than none; in production so do missing or weak secrets.
"""

from __future__ import annotations

import os
import re
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Struct

from domain.accounts import normalised_email
from domain.errors import InvalidRequest
from domain.keys import KeyRing, Secret
from domain.limits import LimitSet
from entrypoints.clouds import Clouds, read_clouds
from entrypoints.environment import Network, Problem, Reader, SettingsError, is_url, read_env_file

PREFIX: Final = "GATEWAYZ_"
CALLERS_VARIABLES: Final = frozenset({"GATEWAYZ_API_KEY"})
"""What callers of a gateway keep in the same shell; no setting of it."""
PEPPER_BYTES_MIN = 32
PEPPER_DISTINCT_MIN = 12
ADMIN_KEY_LENGTH_MIN = 24
ADMIN_KEY_LENGTH_MAX = 512
ADMIN_KEY_DISTINCT_MIN = 10
PLACEHOLDERS = ("change", "placeholder", "example", "replace", "password", "secret", "your-", "your_")
WORKERS_MAX: Final = 128
DEVELOPMENT_SECRETS = Path("var/secrets")

DEFAULTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "GATEWAYZ_ENV": "development",
        "DATABASE_URL": "sqlite+aiosqlite:///./var/gatewayz.db",
        "REDIS_URL": "",
        "GATEWAYZ_SECRETS": "",
        "ADMIN_API_KEY": "",
        "ADMIN_EMAIL": "admin@localhost",
        "GATEWAYZ_VENDORS": "[]",
        "HOST": "127.0.0.1",
        "PORT": "8000",
        "GATEWAYZ_WORKERS": "1",
        "PUBLIC_URL": "",
        "FRONTEND_URL": "",
        "TRUSTED_PROXIES": "",
        "CORS_ORIGINS": "",
        "GATEWAYZ_DRAIN_SECONDS": "25",
        "GATEWAYZ_KEEPALIVE_SECONDS": "15",
        "GATEWAYZ_FIRST_BYTE_SECONDS": "300",
        "GATEWAYZ_IDLE_SECONDS": "300",
        "GATEWAYZ_HOLD_POLICY": "estimate",
        "GATEWAYZ_FIRST_TRY": "drawn",
        "GATEWAYZ_HOLD_LEASE_SECONDS": "900",
        "GATEWAYZ_HEARTBEAT_SECONDS": "5",
        "GATEWAYZ_IDEMPOTENCY_HOURS": "24",
        "GATEWAYZ_RESPONSES_DAYS": "30",
        "GATEWAYZ_MARKUP": "1.00",
        "GATEWAYZ_KEEP_GENERATIONS_MONTHS": "0",
        "GATEWAYZ_KEEP_HOLDS_DAYS": "30",
        "GATEWAYZ_LIMIT_REQUESTS_PER_MINUTE": "250",
        "GATEWAYZ_LIMIT_REQUESTS_PER_HOUR": "5000",
        "GATEWAYZ_LIMIT_REQUESTS_PER_DAY": "50000",
        "GATEWAYZ_LIMIT_TOKENS_PER_MINUTE": "250000",
        "GATEWAYZ_LIMIT_TOKENS_PER_DAY": "20000000",
        "GATEWAYZ_LIMIT_BURST": "100",
        "GATEWAYZ_LIMIT_CONCURRENT": "50",
        "GATEWAYZ_LIMIT_ADDRESS_PER_MINUTE": "300",
        "GATEWAYZ_LIMIT_KEY_FAILURES": "20",
        "GATEWAYZ_LOG_LEVEL": "info",
        "GATEWAYZ_LOG_REQUESTS": "off",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "",
        "STRIPE_SECRET_KEY": "",
        "STRIPE_WEBHOOK_SECRET": "",
        "STRIPE_PUBLISHABLE_KEY": "",
        "STRIPE_API_BASE": "https://api.stripe.com",
        "RESEND_API_KEY": "",
        "SMTP_URL": "",
        "MAIL_FROM": "",
        "PRIVY_APP_ID": "",
        "PRIVY_JWKS_URL": "",
        "OIDC_ISSUER": "",
        "OIDC_AUDIENCE": "",
        "POSTHOG_API_KEY": "",
        "POSTHOG_HOST": "https://us.i.posthog.com",
        "STATSIG_SERVER_SECRET_KEY": "",
    }
)
"""Every variable but the vendors' own, with the value it has when it is not set."""


class Environment(StrEnum):
    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"
    TEST = "test"


class FirstTry(StrEnum):
    """Which vendor is tried first where nobody says."""

    DRAWN = "drawn"
    """One of the healthy, by the inverse square of its price."""
    CHEAPEST = "cheapest"


class HoldPolicy(StrEnum):
    ESTIMATE = "estimate"
    STRICT = "strict"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Wire(StrEnum):
    """The protocol that a further vendor speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"


class Storage(Struct, frozen=True, kw_only=True):
    database_url: str
    redis_url: str | None

    @property
    def embedded(self) -> bool:
        return self.database_url.startswith("sqlite")

    def __repr__(self) -> str:
        redis = self.redis_url and without_password(self.redis_url)
        return f"Storage(database_url={without_password(self.database_url)!r}, redis_url={redis!r})"


class Peppers(Struct, frozen=True):
    """The secrets that keys, sessions and encryption hang on, newest first."""

    by_id: Mapping[str, bytes]

    def ring(self) -> KeyRing:
        return KeyRing(self.by_id)

    def __repr__(self) -> str:
        return f"Peppers({', '.join(self.by_id)})"


class Admin(Struct, frozen=True, kw_only=True):
    email: str
    api_key: Secret | None


NO_KEY: Final = ""
"""Among the names of a vendor's key: it needs none, and its address alone switches it on."""


class VendorAccess(Struct, frozen=True, kw_only=True):
    """Our key at a vendor of the register."""

    api_key: Secret
    base_url: str | None


class FurtherVendor(Struct, frozen=True, kw_only=True):
    """A vendor that the operator describes, such as a model server of their own."""

    slug: str
    base_url: str
    wire: Wire
    api_key: Secret | None
    models: tuple[str, ...]
    """Ids that it serves, where its own list cannot be asked for."""


class Server(Struct, frozen=True, kw_only=True):
    host: str
    port: int
    workers: int
    public_url: str | None
    frontend_url: str | None
    trusted_proxies: tuple[Network, ...]
    cors_origins: tuple[str, ...]
    drain_s: int
    keepalive_s: int

    @property
    def base_url(self) -> str:
        """Where clients reach us: as set, else as we listen."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 - compared, not bound
        return self.public_url or f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def top_up_url(self) -> str:
        """Where customers add credit."""
        return f"{self.frontend_url or self.base_url}/credits"


class Inference(Struct, frozen=True, kw_only=True):
    hold_policy: HoldPolicy
    first_try: FirstTry
    hold_lease: timedelta
    heartbeat_s: int
    first_byte_s: int
    idle_s: int
    idempotency: timedelta
    responses: timedelta
    """How long answers of /v1/responses are kept; zero for not at all."""
    markup_ppm: int


class Retention(Struct, frozen=True, kw_only=True):
    """How long what is not money stays in the database."""

    generation_months: int
    """Whole months kept beside the current one; 0 keeps all."""
    ended_hold_days: int


class Limits(Struct, frozen=True, kw_only=True):
    accounts: LimitSet
    """Of an account that has none of its own."""
    address_per_minute: int
    """Requests without a key, per client address."""
    key_failures: int
    """Refused keys in fifteen minutes, per client address."""


class Logging(Struct, frozen=True, kw_only=True):
    level: LogLevel
    requests: bool
    otlp_endpoint: str | None


class Stripe(Struct, frozen=True, kw_only=True):
    secret_key: Secret | None
    webhook_secret: Secret | None
    publishable_key: str | None
    api_base: str


class Mail(Struct, frozen=True, kw_only=True):
    resend_key: Secret | None
    smtp_url: Secret | None
    sender: str | None


class Identity(Struct, frozen=True, kw_only=True):
    privy_app_id: str | None
    privy_jwks_url: str | None
    oidc_issuer: str | None
    oidc_audience: str | None


class Analytics(Struct, frozen=True, kw_only=True):
    posthog_key: Secret | None
    posthog_host: str
    statsig_key: Secret | None


class Settings(Struct, frozen=True, kw_only=True):
    environment: Environment
    storage: Storage
    peppers: Peppers
    admin: Admin
    vendors: Mapping[str, VendorAccess]
    """By slug; a vendor that lacks the key it needs is not among them."""
    further_vendors: tuple[FurtherVendor, ...]
    clouds: Clouds
    server: Server
    inference: Inference
    retention: Retention
    limits: Limits
    logging: Logging
    stripe: Stripe
    mail: Mail
    identity: Identity
    analytics: Analytics

    @property
    def production(self) -> bool:
        return self.environment is Environment.PRODUCTION

    @property
    def top_up_url(self) -> str:
        return self.server.top_up_url

    def secret_texts(self) -> frozenset[str]:
        """Every configured secret, so that logs can be kept free of them."""
        return frozenset(_secret_texts(self))


def load_settings(
    vendors: Mapping[str, tuple[str, ...]],
    environ: Mapping[str, str] | None = None,
    *,
    directory: Path | None = None,
) -> Settings:
    """The settings of this process, from its environment and the `.env` of its directory.

    Where neither has secrets, development makes them once and keeps them.  Raises SettingsError.
    """
    here = directory or Path()
    known = read_env_file(here / ".env") | dict(os.environ if environ is None else environ)
    makes_secrets = known.get("GATEWAYZ_ENV", "").strip().lower() in {"", "development", "test"}
    if makes_secrets and not known.get("GATEWAYZ_SECRETS", "").strip():
        known["GATEWAYZ_SECRETS"] = kept_secrets(here / DEVELOPMENT_SECRETS)
    return read_settings(known, vendors)


def read_settings(environ: Mapping[str, str], vendors: Mapping[str, tuple[str, ...]]) -> Settings:
    """The settings in `environ`; `vendors` is the register's slugs, each with further names of its key.

    Raises SettingsError with every problem at once.
    """
    read = Reader(environ, DEFAULTS)
    read.refuse_misspelt(PREFIX, CALLERS_VARIABLES)
    environment = read.choice("GATEWAYZ_ENV", Environment)
    strict = environment is Environment.PRODUCTION
    settings = Settings(
        environment=environment,
        storage=_storage(read),
        peppers=_peppers(read, strict=strict),
        admin=_admin(read, strict=strict),
        vendors=_vendors(read, vendors),
        further_vendors=_further_vendors(read, vendors),
        clouds=read_clouds(read),
        server=_server(read, strict=strict),
        inference=Inference(
            hold_policy=read.choice("GATEWAYZ_HOLD_POLICY", HoldPolicy),
            first_try=read.choice("GATEWAYZ_FIRST_TRY", FirstTry),
            hold_lease=timedelta(seconds=read.whole("GATEWAYZ_HOLD_LEASE_SECONDS", 2, 86_400)),
            heartbeat_s=read.whole("GATEWAYZ_HEARTBEAT_SECONDS", 1, 300),
            first_byte_s=read.whole("GATEWAYZ_FIRST_BYTE_SECONDS", 1, 3_600),
            idle_s=read.whole("GATEWAYZ_IDLE_SECONDS", 1, 3_600),
            idempotency=timedelta(hours=read.whole("GATEWAYZ_IDEMPOTENCY_HOURS", 1, 720)),
            responses=timedelta(days=read.whole("GATEWAYZ_RESPONSES_DAYS", 0, 365)),
            markup_ppm=read.ppm("GATEWAYZ_MARKUP"),
        ),
        retention=Retention(
            generation_months=read.whole("GATEWAYZ_KEEP_GENERATIONS_MONTHS", 0, 1_200),
            ended_hold_days=read.whole("GATEWAYZ_KEEP_HOLDS_DAYS", 1, 3_650),
        ),
        limits=_limits(read),
        logging=Logging(
            level=read.choice("GATEWAYZ_LOG_LEVEL", LogLevel),
            requests=read.switch("GATEWAYZ_LOG_REQUESTS"),
            otlp_endpoint=read.url("OTEL_EXPORTER_OTLP_ENDPOINT", "http", "https"),
        ),
        stripe=Stripe(
            secret_key=read.secret("STRIPE_SECRET_KEY"),
            webhook_secret=read.secret("STRIPE_WEBHOOK_SECRET"),
            publishable_key=read.given("STRIPE_PUBLISHABLE_KEY"),
            api_base=read.url("STRIPE_API_BASE", "http", "https") or DEFAULTS["STRIPE_API_BASE"],
        ),
        mail=Mail(
            resend_key=read.secret("RESEND_API_KEY"),
            smtp_url=read.secret("SMTP_URL"),
            sender=read.given("MAIL_FROM"),
        ),
        identity=Identity(
            privy_app_id=read.given("PRIVY_APP_ID"),
            privy_jwks_url=read.url("PRIVY_JWKS_URL", "http", "https"),
            oidc_issuer=read.url("OIDC_ISSUER", "http", "https"),
            oidc_audience=read.given("OIDC_AUDIENCE"),
        ),
        analytics=Analytics(
            posthog_key=read.secret("POSTHOG_API_KEY"),
            posthog_host=read.url("POSTHOG_HOST", "http", "https") or DEFAULTS["POSTHOG_HOST"],
            statsig_key=read.secret("STATSIG_SERVER_SECRET_KEY"),
        ),
    )
    if settings.inference.heartbeat_s * 2 > settings.inference.hold_lease.total_seconds():
        read.refuse("GATEWAYZ_HEARTBEAT_SECONDS", "is too long for the lease.", "Set at most half of it.")
    if read.problems:
        raise SettingsError(tuple(read.problems))
    return settings


def kept_secrets(path: Path) -> str:
    """The secrets in `path`, made at the first start and never again: stored keys would stop working."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(f"v1:{b64encode(secrets.token_bytes(PEPPER_BYTES_MIN)).decode()}\n")
            try:
                # A link appears whole or not at all, so that two first starts agree on one file.
                os.link(fresh, path)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        cure = "Make it readable and its folder writable, or set the variable."
        problem = Problem("GATEWAYZ_SECRETS", f"{path} cannot be used: {error}.", cure)
        raise SettingsError((problem,)) from None


def without_password(url: str) -> str:
    """The address with its password masked."""
    return re.sub(r"(://[^/@:]*):.*@", r"\1:***@", url)


def _storage(read: Reader) -> Storage:
    url = read.text("DATABASE_URL")
    # What hosting platforms hand out, in the driver's own spelling.
    url = re.sub(r"^postgres(ql)?://", "postgresql+asyncpg://", url).replace("sslmode=", "ssl=")
    url = re.sub(r"^sqlite://", "sqlite+aiosqlite://", url)
    if not url.startswith(("sqlite+aiosqlite:///", "postgresql+asyncpg://")):
        read.refuse(
            "DATABASE_URL",
            "is neither PostgreSQL nor SQLite.",
            "Write postgresql+asyncpg://user:password@host/name or sqlite+aiosqlite:///./var/gatewayz.db.",
        )
    redis = read.given("REDIS_URL")
    if redis and not redis.startswith(("redis://", "rediss://", "unix://")):
        read.refuse("REDIS_URL", "is not an address of Redis.", "Write redis://host:6379/0 or rediss://...")
    return Storage(database_url=url, redis_url=redis)


def _peppers(read: Reader, *, strict: bool) -> Peppers:
    text = read.given("GATEWAYZ_SECRETS")
    make = "Make one with: python3 -c \"import base64, os; print('v1:' + base64.b64encode(os.urandom(32)).decode())\""
    if text is None:
        read.refuse("GATEWAYZ_SECRETS", "is missing.", make)
        return Peppers({})
    found: dict[str, bytes] = {}
    for part in text.split(","):
        pepper_id, colon, encoded = part.strip().partition(":")
        if not colon or not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", pepper_id):
            read.refuse("GATEWAYZ_SECRETS", "has a part that is not of the form id:base64.", make)
            continue
        if pepper_id in found:
            read.refuse("GATEWAYZ_SECRETS", f"has the id {pepper_id} twice.", "Give each an id of its own.")
        found[pepper_id] = pepper = _decoded(encoded)
        if not pepper:
            read.refuse("GATEWAYZ_SECRETS", f"the secret {pepper_id} is not base64.", make)
        elif strict and _is_weak(pepper):
            read.refuse("GATEWAYZ_SECRETS", f"the secret {pepper_id} is weak; 32 random bytes are needed.", make)
    return Peppers(MappingProxyType(found))


def _is_weak(pepper: bytes) -> bool:
    return len(pepper) < PEPPER_BYTES_MIN or len(set(pepper)) < PEPPER_DISTINCT_MIN


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text.translate(str.maketrans("-_", "+/")) + "=" * (-len(text) % 4), validate=True)
    except (Base64Error, ValueError):
        return b""


def _admin(read: Reader, *, strict: bool) -> Admin:
    email = read.text("ADMIN_EMAIL")
    try:
        normalised_email(email)
    except InvalidRequest:
        read.refuse("ADMIN_EMAIL", f"{email!r} is not an e-mail address.", "Write the operator's address.")
    key = read.secret("ADMIN_API_KEY")
    if key:
        _check_admin_key(read, key.text, strict=strict)
    return Admin(email=email, api_key=key)


def _check_admin_key(read: Reader, text: str, *, strict: bool) -> None:
    make = "Make one with: python3 -c \"import secrets; print('gw_live_' + secrets.token_urlsafe(32))\""
    if not re.fullmatch(r"[!-~]+", text) or len(text) > ADMIN_KEY_LENGTH_MAX:
        read.refuse("ADMIN_API_KEY", "cannot be sent in a header: it has spaces or is too long.", make)
    elif strict and (len(text) < ADMIN_KEY_LENGTH_MIN or len(set(text)) < ADMIN_KEY_DISTINCT_MIN):
        read.refuse("ADMIN_API_KEY", "is too short or too plain for production.", make)
    elif strict and any(word in text.lower() for word in PLACEHOLDERS):
        read.refuse("ADMIN_API_KEY", "looks like a placeholder.", make)


def _vendors(read: Reader, register: Mapping[str, tuple[str, ...]]) -> Mapping[str, VendorAccess]:
    found: dict[str, VendorAccess] = {}
    for slug, key_names in register.items():
        prefix = _variable_prefix(slug)
        keys = (read.secret(name) for name in (f"{prefix}_API_KEY", *key_names) if name != NO_KEY)
        base_url = read.url(f"{prefix}_BASE_URL", "http", "https")
        if key := next(filter(None, keys), None):
            found[slug] = VendorAccess(api_key=key, base_url=base_url)
        elif base_url is not None and NO_KEY in key_names:
            found[slug] = VendorAccess(api_key=Secret(""), base_url=base_url)
    return MappingProxyType(found)


def _variable_prefix(slug: str) -> str:
    return slug.upper().replace("-", "_")


class _VendorRow(Struct, kw_only=True, forbid_unknown_fields=True):
    slug: str
    base_url: str
    wire: Wire
    api_key: str = ""
    models: tuple[str, ...] = ()


def _further_vendors(read: Reader, register: Mapping[str, tuple[str, ...]]) -> tuple[FurtherVendor, ...]:
    name = "GATEWAYZ_VENDORS"
    form = 'Write [{"slug":"local","base_url":"http://127.0.0.1:11434/v1","wire":"openai","api_key":"..."}]'
    try:
        rows = msgspec.json.decode(read.text(name), type=list[_VendorRow])
    except (msgspec.MsgspecError, UnicodeError) as error:
        read.refuse(name, f"cannot be read: {error}.", form)
        return ()
    seen = set(register)
    for row in rows:
        if not re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", row.slug):
            read.refuse(name, f"the slug {row.slug!r} does not fit.", "Use up to 32 of a-z, 0-9 and hyphens.")
        elif row.slug in register:
            prefix = _variable_prefix(row.slug)
            read.refuse(name, f"{row.slug} is built in.", f"Set {prefix}_API_KEY, {prefix}_BASE_URL instead.")
        elif row.slug in seen:
            read.refuse(name, f"the slug {row.slug} is there twice.", "Give every vendor a slug of its own.")
        seen.add(row.slug)
        if not is_url(row.base_url, ("http", "https")):
            read.refuse(name, f"the base_url of {row.slug} is not an http(s) address.", form)
        if not all(model.strip() for model in row.models):
            read.refuse(name, f"a model of {row.slug} has no name.", "Remove it.")
    return tuple(
        FurtherVendor(
            slug=row.slug,
            base_url=row.base_url.rstrip("/"),
            wire=row.wire,
            api_key=Secret(row.api_key) if row.api_key else None,
            models=row.models,
        )
        for row in rows
    )


def _server(read: Reader, *, strict: bool) -> Server:
    public_url = read.url("PUBLIC_URL", "http", "https")
    if strict and public_url and not public_url.startswith("https://"):
        read.refuse("PUBLIC_URL", "is not https.", "Put a TLS proxy in front and write its address.")
    return Server(
        host=read.text("HOST"),
        port=read.whole("PORT", 0, 65_535),
        workers=read.whole("GATEWAYZ_WORKERS", 1, WORKERS_MAX),
        public_url=public_url,
        frontend_url=read.url("FRONTEND_URL", "http", "https"),
        trusted_proxies=read.networks("TRUSTED_PROXIES"),
        cors_origins=read.origins("CORS_ORIGINS"),
        drain_s=read.whole("GATEWAYZ_DRAIN_SECONDS", 0, 3_600),
        keepalive_s=read.whole("GATEWAYZ_KEEPALIVE_SECONDS", 1, 300),
    )


def _limits(read: Reader) -> Limits:
    def limit(name: str) -> int:
        return read.whole(f"GATEWAYZ_LIMIT_{name}", 1, 10**12)

    return Limits(
        accounts=LimitSet(
            requests_per_minute=limit("REQUESTS_PER_MINUTE"),
            requests_per_hour=limit("REQUESTS_PER_HOUR"),
            requests_per_day=limit("REQUESTS_PER_DAY"),
            tokens_per_minute=limit("TOKENS_PER_MINUTE"),
            tokens_per_day=limit("TOKENS_PER_DAY"),
            burst=limit("BURST"),
            concurrent=limit("CONCURRENT"),
        ),
        address_per_minute=limit("ADDRESS_PER_MINUTE"),
        key_failures=limit("KEY_FAILURES"),
    )


def _secret_texts(value: object) -> Iterator[str]:
    match value:
        case Secret():
            # A vendor may have several keys, of which each is a secret; a JSON object is one.
            parts = () if value.text.startswith("{") else map(str.strip, value.text.split(","))
            yield from {value.text, *parts} - {""}
        case Peppers():
            yield from (b64encode(pepper).decode() for pepper in value.by_id.values())
        case Storage():
            for url in filter(None, (value.database_url, value.redis_url)):
                if password := urlsplit(url).password:
                    yield from {password, unquote(password)}
        case Mapping():
            for part in value.values():
                yield from _secret_texts(part)
        case tuple():
            for part in value:
                yield from _secret_texts(part)
        case Struct():
            for name in value.__struct_fields__:
                yield from _secret_texts(getattr(value, name))
        case _:
            return
