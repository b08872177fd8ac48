"""`gatewayz serve`: one process with the HTTP interface and the background work."""

from __future__ import annotations

import asyncio
import gc
import sys
from types import FrameType

import structlog
import uvicorn

from adapters.sql.migrate import Ahead, Behind, revision_state, upgrade
from application.bootstrap import FirstStart
from domain.errors import StorageUnavailable
from entrypoints.container import Container
from entrypoints.http.app import Gateway, create_gateway
from entrypoints.settings import Settings

GRACE_S = 10
"""What the server waits beyond the drain before it cancels what is left."""

log = structlog.get_logger(__name__)


def serve(settings: Settings) -> int:
    """Runs until a signal stops it; returns the exit status."""
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
    gateway = create_gateway(Container(settings=settings))
    config = uvicorn.Config(
        gateway.app,
        host=settings.server.host,
        port=settings.server.port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=2048,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=settings.server.drain_s + GRACE_S,
    )
    # What was imported lives as long as the process: collecting it again and again only costs time.
    gc.collect()
    gc.freeze()
    server = DrainingServer(config, gateway, settings.server.drain_s, banner(settings, first))
    server.run()
    return 0 if server.started else 1


class DrainingServer(uvicorn.Server):
    """Stops gently: not ready, then what runs may finish, then what still streams is told and ends."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, drain_s: float, banner: str) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._drain_s = drain_s
        self._banner = banner

    async def startup(self, *arguments: object, **named: object) -> None:
        await super().startup(*arguments, **named)  # type: ignore[arg-type]
        if self.started:
            print(self._banner, flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            self._gateway.begin_drain()
            loop = asyncio.get_running_loop()
            loop.call_soon_threadsafe(lambda: loop.call_later(self._drain_s, self._gateway.end_streams))
        # A second signal does not cut what runs: money is being counted, and the drain has its own end.
        self.should_exit = True
        log.info("stopping", signal=sig)


async def _prepared(settings: Settings) -> FirstStart | None:
    """Bring the embedded database up to date, refuse another one that is behind, and make the first admin."""
    container = Container(settings=settings)
    database, ledger = container.adapters.database(), container.adapters.ledger()
    try:
        if settings.storage.embedded:
            await upgrade(database)
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
        f"  curl -N {base}/v1/chat/completions -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\",
        '    -d \'{"model":"sandbox/echo","stream":true,"stream_options":{"include_usage":true},'
        '"messages":[{"role":"user","content":"Hello, gateway!"}]}\'',
    ]
    return "\n".join(lines)
