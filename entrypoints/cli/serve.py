"""`gatewayz serve`: the HTTP interface and the background work, in one process or in several."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys

from msgspec.structs import replace

from adapters.sql.migrate import Ahead, Behind, revision_state, upgrade_if_behind
from application.bootstrap import FirstStart
from domain.errors import StorageUnavailable
from entrypoints.container import Container
from entrypoints.settings import Server, Settings
from entrypoints.supervisor.server import DrainingServer
from entrypoints.supervisor.sockets import AddressRefusedError, listening_socket
from entrypoints.supervisor.supervisor import Supervisor


def serve(settings: Settings) -> int:
    """Runs until a signal stops it; returns the exit status."""
    try:
        # First of all, so that a second start does not touch the database of the one that runs.
        with listening_socket(settings.server.host, settings.server.port) as listener:
            server = replace(settings.server, port=listener.getsockname()[1])
            return _serve(replace(settings, server=server), listener)
    except AddressRefusedError as error:
        print(error, file=sys.stderr)
        return 1


def _serve(settings: Settings, listener: socket.socket) -> int:
    try:
        first = asyncio.run(_prepared(settings))
    except StorageUnavailable as error:
        print(
            f"The database cannot be reached: {error}\nCheck DATABASE_URL, or run 'gatewayz doctor'.",
            file=sys.stderr,
        )
        return 1
    if first is None:
        return 1
    welcome = banner(settings, first)
    if settings.server.workers > 1:
        return asyncio.run(_supervised(settings.server, listener, welcome))
    server = LoneServer(settings, welcome)
    server.run([listener])
    return 0 if server.started else 1


class LoneServer(DrainingServer):
    """The only process of its gateway."""

    def __init__(self, settings: Settings, banner: str) -> None:
        super().__init__(settings)
        self._banner = banner

    async def listening(self) -> None:
        # A closed terminal, or a reload that one process alone cannot do: what runs may finish.  nohup ignores it.
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.handle_exit, signal.SIGTERM)
        print(self._banner, flush=True)


async def _supervised(server: Server, listener: socket.socket, banner: str) -> int:
    # Workers read their settings anew, also those that replace others later; this much has been decided by the socket.
    environ = {"HOST": server.host, "PORT": str(server.port), "GATEWAYZ_WORKERS": str(server.workers)}
    return await Supervisor(listener, server.workers, environ, lambda: print(banner, flush=True)).run()


async def _prepared(settings: Settings) -> FirstStart | None:
    """Bring the embedded database up to date, refuse another one that is behind, and make the first admin."""
    container = Container(settings=settings)
    database, ledger = container.adapters.database(), container.adapters.ledger()
    try:
        if settings.storage.embedded:
            await upgrade_if_behind(database)
        state = await revision_state(database)
        if isinstance(state, Behind | Ahead):
            cure = (
                "Run 'gatewayz migrate' and start again."
                if isinstance(state, Behind)
                else "It was migrated by a newer release: start that one, or restore a backup."
            )
            print(f"The database's schema does not fit this release. {cure}", file=sys.stderr)
            return None
        await ledger.open()
        first: FirstStart = await container.use_cases.bootstrap()()
        return first
    finally:
        await ledger.close()
        await database.close()


def banner(settings: Settings, first: FirstStart) -> str:
    """What a newcomer needs: where it listens, the key, and a call that works as printed."""
    base = settings.server.base_url
    given = settings.admin.api_key is not None
    key = first.secret.text if first.secret else "$ADMIN_API_KEY" if given else "$GATEWAYZ_API_KEY"
    lines = [f"Gatewayz listens on {base}/v1"]
    if first.secret:
        lines += [f"Admin API key    {first.secret.text}", "                 (shown this once; keep it)"]
    elif first.revoked:
        lines.append("ADMIN_API_KEY    was revoked and opens nothing; set another one")
    elif not given:
        lines.append("Admin API key    shown at the first start; another: gatewayz keys create admin --name NAME")
    lines += [
        f"Docs             {base}/docs",
        "Try it:",
        f'  curl -N {base}/v1/chat/completions -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\',
        '    -d \'{"model":"sandbox/echo","stream":true,"stream_options":{"include_usage":true},'
        '"messages":[{"role":"user","content":"Hello, gateway!"}]}\'',
    ]
    return "\n".join(lines)
