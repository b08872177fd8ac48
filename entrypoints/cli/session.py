"""The database and the use cases of the settings at hand, open for one command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from adapters.sql.migrate import Ahead, Behind, revision_state, upgrade_if_behind
from domain.errors import Conflict
from entrypoints.container import Container
from entrypoints.logging import configure_logging
from entrypoints.settings import Settings, load_settings
from entrypoints.vendors import VENDOR_NAMES

Result = TypeVar("Result")


class SchemaDiffers(Conflict):
    code = "schema_differs"


def configured() -> Settings:
    """The settings of this directory and environment.  Raises SettingsError."""
    settings = load_settings(VENDOR_NAMES)
    configure_logging(settings.logging.level, settings.secret_texts())
    return settings


def perform(act: Callable[[Container], Awaitable[Result]]) -> Result:
    """Run `act` on the database that the settings name, also while servers run on it."""
    settings = load_settings(VENDOR_NAMES)
    # A command's own words are its output; the log speaks up only where something is wrong.
    configure_logging("error", settings.secret_texts())
    return asyncio.run(_performed(settings, act))


async def _performed(settings: Settings, act: Callable[[Container], Awaitable[Result]]) -> Result:
    container = Container(settings=settings)
    database, ledger = container.adapters.database(), container.adapters.ledger()
    try:
        if settings.storage.embedded:
            await upgrade_if_behind(database)
        match await revision_state(database):
            case Behind():
                raise SchemaDiffers("The database's schema is older than this release. Run 'gatewayz migrate'.")
            case Ahead():
                raise SchemaDiffers("The database's schema is newer than this release. Use the newer release.")
        await ledger.open()
        return await act(container)
    finally:
        await ledger.close()
        await container.adapters.vendors().close()
        await database.close()
