"""A worker process: the server on an inherited socket, connected to the supervisor that started it."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections import deque

from domain.errors import Unavailable
from entrypoints.environment import SettingsError
from entrypoints.logging import configure_logging
from entrypoints.settings import Settings, load_settings
from entrypoints.supervisor.channel import Channel, Say
from entrypoints.supervisor.metrics import exposed, from_bytes, numbers_of, to_bytes
from entrypoints.supervisor.server import GRACE_S, DrainingServer
from entrypoints.supervisor.workers import EXIT_MISCONFIGURED
from entrypoints.vendors import VENDOR_NAMES

SUMS_WITHIN_S = 5.0
CLOSE_S = 25.0
"""For the last settlements, and for closing what is open."""


def main(listener_fd: int, channel_fd: int) -> int:
    # Meant for the supervisor; it tells its workers what to do.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    listener, connection = socket.socket(fileno=listener_fd), socket.socket(fileno=channel_fd)
    try:
        settings = load_settings(VENDOR_NAMES)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no log before there are settings
        return EXIT_MISCONFIGURED
    configure_logging(settings.logging.level, settings.secret_texts())
    server = SupervisedServer(settings, connection)
    server.run([listener])
    return 0 if server.started else 1


class SupervisedServer(DrainingServer):
    """Says when it is ready, tells what it counted, and does not outlive its supervisor."""

    def __init__(self, settings: Settings, connection: socket.socket) -> None:
        super().__init__(settings)
        self._stop_s = settings.server.drain_s + GRACE_S + CLOSE_S
        self._connection = connection
        self._asked: deque[asyncio.Future[bytes]] = deque()

    async def listening(self) -> None:
        self._channel = await Channel.over(self._connection)
        self._listening = asyncio.create_task(self._listen())
        self.gateway.metrics.of_all = self._ask
        self._channel.send(Say.READY, str(self._stop_s).encode())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        self._tell_numbers()
        await self._channel.sent()
        self._listening.cancel()
        self._channel.close()

    async def _listen(self) -> None:
        while (frame := await self._channel.receive()) is not None:
            say, content = frame
            if say is Say.COUNT:
                self._tell_numbers()
            elif say is Say.RETIRE:
                self.linger_s = self.drain_s
            elif say is Say.SUMS:
                answer = self._asked.popleft()
                if not answer.done():
                    answer.set_result(content)
        # The supervisor is gone, and with it whoever would stop or replace this process.
        self.handle_exit(signal.SIGTERM)

    def _tell_numbers(self) -> None:
        self._channel.send(Say.NUMBERS, to_bytes(numbers_of(self.gateway.metrics.registry)))

    async def _ask(self) -> bytes:
        """The numbers of all workers, as Prometheus reads them."""
        answer = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self._channel.send(Say.ASK)
        try:
            async with asyncio.timeout(SUMS_WITHIN_S):
                return exposed(from_bytes(await answer))
        except TimeoutError:
            raise Unavailable("The supervisor does not tell the numbers of all workers.") from None


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
