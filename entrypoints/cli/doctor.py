"""`gatewayz doctor`: every setting, connection and vendor, and the cure for what is wrong with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from enum import StrEnum
from ipaddress import ip_address

from msgspec import Struct

from adapters.sql.migrate import Ahead, Behind, Current, revision_state, upgrade
from domain.errors import DomainError
from domain.inference.faults import VendorFault
from domain.ports.vendors import ModelLister
from entrypoints.cli.output import print_json
from entrypoints.container import Container
from entrypoints.environment import SettingsError
from entrypoints.logging import configure_logging
from entrypoints.settings import Settings, load_settings, without_password
from entrypoints.vendors import VENDOR_NAMES

VENDOR_ANSWERS_WITHIN_S = 5.0
REDIS_ANSWERS_WITHIN_S = 2.0


class State(StrEnum):
    GOOD = "good"
    NOTE = "note"
    BAD = "bad"


class Finding(Struct, frozen=True):
    """What was looked at, how it is, and what to do about it."""

    subject: str
    state: State
    told: str
    cure: str = ""


MARKS = {State.GOOD: "ok  ", State.NOTE: "note", State.BAD: "FAIL"}


def doctor(*, json: bool = False) -> int:
    """Check every setting, connection and vendor.

    Parameters
    ----------
    json
        Print JSON.
    """
    findings = asyncio.run(_all_findings())
    if json:
        print_json(findings)
    else:
        for finding in findings:
            print(f"{MARKS[finding.state]}  {finding.subject}: {finding.told}")
            if finding.cure:
                print(f"      {finding.cure}")
    return 1 if any(finding.state is State.BAD for finding in findings) else 0


async def _all_findings() -> list[Finding]:
    try:
        settings = load_settings(VENDOR_NAMES)
    except SettingsError as error:
        return [Finding(problem.name, State.BAD, problem.what, problem.cure) for problem in error.problems]
    configure_logging("error", settings.secret_texts())
    container = Container(settings=settings)
    try:
        database = await _database(settings, container)
        return [
            Finding("Settings", State.GOOD, f"{settings.environment}, all of them are understood"),
            *_exposure(settings),
            database,
            await _redis(settings),
            *[finding async for finding in _vendors(container)],
            *(await _prices(container) if database.state is State.GOOD else ()),
        ]
    finally:
        await container.adapters.vendors().close()
        await container.adapters.database().close()


def _exposure(settings: Settings) -> list[Finding]:
    server = settings.server
    if _is_loopback(server.host):
        return [Finding("Address", State.GOOD, f"{server.base_url}, for this machine alone")]
    found: list[Finding] = []
    if not server.trusted_proxies:
        found.append(
            Finding(
                "Address",
                State.NOTE,
                f"it listens on {server.host} without a front proxy.",
                "Put nginx or Caddy in front, which end slow requests and speak TLS, and name it in TRUSTED_PROXIES.",
            )
        )
    if settings.production and not server.public_url:
        found.append(Finding("PUBLIC_URL", State.NOTE, "links point to where it listens.", "Set the https:// address."))
    return found or [Finding("Address", State.GOOD, server.base_url)]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _database(settings: Settings, container: Container) -> Finding:
    database, shown = container.adapters.database(), without_password(settings.storage.database_url)
    try:
        if settings.storage.embedded:
            await upgrade(database)
        state = await revision_state(database)
    except (DomainError, OSError) as error:
        return Finding("Database", State.BAD, f"{shown}: {error}", "Start it, or mend DATABASE_URL.")
    match state:
        case Current():
            return Finding("Database", State.GOOD, f"{shown}, schema {state.revision}")
        case Behind():
            return Finding("Database", State.BAD, f"{shown}: its schema is old.", "Run 'gatewayz migrate'.")
        case Ahead():
            return Finding("Database", State.BAD, f"{shown}: its schema is newer.", "Use the newer release.")


async def _redis(settings: Settings) -> Finding:
    url = settings.storage.redis_url
    if url is None:
        return Finding("Redis", State.GOOD, "not used: limits, health and news of changes stay in one process")
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    client = Redis.from_url(url, socket_timeout=REDIS_ANSWERS_WITHIN_S, socket_connect_timeout=REDIS_ANSWERS_WITHIN_S)
    shown = without_password(url)
    try:
        async with asyncio.timeout(REDIS_ANSWERS_WITHIN_S * 2):
            await client.ping()
    except (RedisError, OSError, TimeoutError) as error:
        return Finding("Redis", State.BAD, f"{shown}: {str(error) or 'no answer'}", "Start it, or mend REDIS_URL.")
    finally:
        await client.aclose()
    return Finding("Redis", State.GOOD, shown)


async def _vendors(container: Container) -> AsyncIterator[Finding]:
    listers = container.adapters.vendors().listers
    if not listers:
        yield Finding("Vendors", State.NOTE, "none but the sandbox.", "Set a key, such as OPENAI_API_KEY.")
    for finding in await asyncio.gather(*map(_vendor, listers)):
        yield finding


async def _prices(container: Container) -> list[Finding]:
    """Of the models that vendors have listed so far, those that cannot be asked for."""
    catalog = container.adapters.catalog()
    await catalog.load()
    unpriced = {each.vendor: each.offers - each.priced for each in await catalog.states() if each.on}
    told = ", ".join(f"{count} of {vendor}" for vendor, count in unpriced.items() if count)
    if not told:
        return []
    cure = "'gatewayz prices list --unpriced' shows them, 'gatewayz prices set' sets a price."
    return [Finding("Prices", State.NOTE, f"models without a price cannot be asked for: {told}.", cure)]


async def _vendor(lister: ModelLister) -> Finding:
    """One cheap call with the key at hand: the vendor's list of models."""
    subject = f"Vendor {lister.slug}"
    try:
        async with asyncio.timeout(VENDOR_ANSWERS_WITHIN_S):
            models = await lister.list_models()
    except TimeoutError:
        told = f"no answer within {VENDOR_ANSWERS_WITHIN_S:g} s."
        return Finding(subject, State.BAD, told, "Check the network, and its base URL.")
    except VendorFault as fault:
        cure = "Check its API key, and its base URL."
        return Finding(subject, State.BAD, f"{fault.kind.replace('_', ' ')}: {fault.message}", cure)
    return Finding(subject, State.GOOD, f"its key works, {len(models)} models")
