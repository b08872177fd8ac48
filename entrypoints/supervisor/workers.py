"""One worker process, as its supervisor sees it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from entrypoints.supervisor.channel import Channel, Say
from entrypoints.supervisor.metrics import Numbers, from_bytes

PROGRAM: Final = "entrypoints.supervisor.process"
STOP_S: Final = 60.0
"""How long a worker may take to stop that has not said so itself."""
ANSWER_S: Final = 1.0
"""A worker that does not tell its numbers so soon is counted with those that it told last."""
EXIT_MISCONFIGURED: Final = 78
"""A worker's exit status where its settings are refused."""


class Worker:
    """Started with `Worker.start`; whoever does that also awaits `attend`."""

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel) -> None:
        self.pid = process.pid
        self.numbers: Numbers = {}
        """The last that it told."""
        self.ready = False
        self.ended = asyncio.Event()
        self.status: int | None = None
        self._process = process
        self._channel = channel
        self._stop_s = STOP_S
        self._settled = asyncio.Event()
        self._counted = asyncio.Event()
        self._killing: asyncio.TimerHandle | None = None

    @property
    def staying(self) -> bool:
        """It lives, and has not been told to stop."""
        return self._killing is None and not self.ended.is_set()

    @property
    def serving(self) -> bool:
        """It stays, and takes requests."""
        return self.ready and self.staying

    @classmethod
    async def start(cls, listener: socket.socket, environ: Mapping[str, str]) -> Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                PROGRAM,
                str(listener.fileno()),
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(listener.fileno(), theirs.fileno()),
                env={**os.environ, **environ, "PYTHONPATH": _import_path()},
                # A terminal's Ctrl-C is for the supervisor, which tells its workers.
                process_group=0,
            )
        return cls(process, await Channel.over(ours))

    async def attend(self, asked: Callable[[Worker], None], ready_s: float) -> None:
        """Listen to it until it has ended; `asked` is called when it wants the numbers of all."""
        listening = asyncio.create_task(self._listen(asked))
        timer = asyncio.get_running_loop().call_later(ready_s, self._kill_unready)
        self.status = await self._process.wait()
        timer.cancel()
        if self._killing is not None:
            self._killing.cancel()
        # What it said before it ended has been kept for us.
        await listening
        self._channel.close()
        self.ended.set()

    async def until_ready(self) -> bool:
        """False where it ends before."""
        await self._settled.wait()
        return self.ready

    async def count(self) -> None:
        """Bring `numbers` up to date."""
        if not self.ready or self.ended.is_set():
            return
        self._counted.clear()
        self._channel.send(Say.COUNT)
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                await self._counted.wait()

    def tell(self, sums: bytes) -> None:
        """The numbers of all, which it asked for."""
        self._channel.send(Say.SUMS, sums)

    def retire(self) -> None:
        """Stop, while others serve."""
        self._channel.send(Say.RETIRE)
        self.stop()

    def stop(self) -> None:
        """Gently, and by force where that takes too long."""
        if self._killing is None:
            self._signal(signal.SIGTERM)
            self._killing = asyncio.get_running_loop().call_later(self._stop_s, self._signal, signal.SIGKILL)

    async def _listen(self, asked: Callable[[Worker], None]) -> None:
        while (frame := await self._channel.receive()) is not None:
            say, content = frame
            if say is Say.READY:
                self.ready, self._stop_s = True, float(content)
                self._settled.set()
            elif say is Say.NUMBERS:
                self.numbers = from_bytes(content)
                self._counted.set()
            elif say is Say.ASK:
                asked(self)
        self._settled.set()
        self._counted.set()

    def _kill_unready(self) -> None:
        if not self.ready:
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)


def _import_path() -> str:
    """Workers import from where we did, not from whatever directory they are started in."""
    return os.pathsep.join(path or os.getcwd() for path in sys.path)
