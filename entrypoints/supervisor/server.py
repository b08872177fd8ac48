"""The HTTP server of one process, which stops without failing a request that can still be answered."""

from __future__ import annotations

import asyncio
import gc
import socket
from types import FrameType
from typing import Final

import structlog
import uvicorn

from entrypoints.container import Container
from entrypoints.http.app import Gateway, create_gateway
from entrypoints.settings import Settings
from entrypoints.supervisor.sockets import BACKLOG

GRACE_S: Final = 10
"""What the server waits beyond the drain before it cancels what is left."""
LINGER_S: Final = 1.0
"""So long a stopping server keeps idle connections, because a request may already be on its way."""
LINGER_STEP_S: Final = 0.02
COLLECT_AFTER: Final = 50_000
"""New objects between two collections.  Requests leave few cycles behind, but looking for them at every 700 objects, as
Python does unasked, walks through all that is running: a sixth of what a request cost."""

log = structlog.get_logger(__name__)


class DrainingServer(uvicorn.Server):
    """Stops gently: not ready, then what runs may finish, then what still streams is told and ends."""

    def __init__(self, settings: Settings) -> None:
        self.gateway: Gateway = create_gateway(Container(settings=settings))
        self.drain_s: float = settings.server.drain_s
        self.linger_s = min(LINGER_S, self.drain_s)
        """How long an idle connection is kept when this server stops."""
        config = uvicorn.Config(
            self.gateway.app,
            loop="uvloop",
            http="httptools",
            lifespan="on",
            log_config=None,
            # That it starts and stops is told by us.
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=settings.server.drain_s + GRACE_S,
        )
        super().__init__(config)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        # What was imported lives as long as the process: collecting it again and again only costs time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER)
        super().run(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            await self.listening()

    async def listening(self) -> None:
        """For whoever waits for it."""

    def handle_exit(self, sig: int, frame: FrameType | None = None) -> None:
        if not self.should_exit:
            self.gateway.begin_drain()
            loop = asyncio.get_running_loop()
            loop.call_soon_threadsafe(lambda: loop.call_later(self.drain_s, self.gateway.end_streams))
        # A second signal does not cut what runs: money is being counted, and the drain has its own end.
        self.should_exit = True
        log.info("stopping", signal=sig)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """No new connection is taken; those that are open get one more answer each, which closes them."""
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        await self._let_go()
        await super().shutdown()

    async def _let_go(self) -> None:
        """Until no connection is left, or the time for it is over."""
        loop = asyncio.get_running_loop()
        state, idle_since = self.server_state, dict[object, float]()
        state.default_headers = [*state.default_headers, (b"connection", b"close")]
        deadline = loop.time() + (self.config.timeout_graceful_shutdown or 0)
        while state.connections and loop.time() < deadline:
            for connection in list(state.connections):
                cycle = getattr(connection, "cycle", None)
                if cycle is None or cycle.response_complete:
                    if loop.time() - idle_since.setdefault(connection, loop.time()) >= self.linger_s:
                        connection.shutdown()
                else:
                    idle_since.pop(connection, None)
                    # Whoever is told in the headers sends nothing after the answer.  A stream's headers may have gone
                    # out before: its connection lingers, because a client may use it again at once.
                    if not cycle.response_started:
                        cycle.keep_alive = False
            await asyncio.sleep(LINGER_STEP_S)
        # What is still open has had its time.
        self.config.timeout_graceful_shutdown = max(0, round(deadline - loop.time()))
