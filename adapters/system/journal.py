"""The journal as files: one for each process, which holds its lock as long as it lives.

A file is there only while something is outstanding.  Whoever gets a file's lock knows that its writer is gone, and
copies what is outstanding before it removes the file: a crash between the two leaves it twice, which does no harm.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from domain.ids import HoldId
from domain.ledger import ReleaseHold, SettleHold
from domain.ports.journal import Ending

log = logging.getLogger(__name__)

SUFFIX: Final = ".jsonl"
UNREADABLE: Final = ".unreadable"
LINES_MAX: Final = 10_000
"""A longer file is written anew where most of its lines are crossed out."""


class _Line(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of these: an ending, or the hold whose ending has arrived."""

    settle: SettleHold | None = None
    release: ReleaseHold | None = None
    done: HoldId | None = None


@dataclass
class _File:
    """An open file with its lock."""

    path: Path
    descriptor: int
    size: int = 0
    lines: int = 0

    def close(self) -> None:
        os.close(self.descriptor)

    def remove(self) -> None:
        """In this order, so that nobody finds a file that is about to go without a lock."""
        self.path.unlink(missing_ok=True)
        self.close()


class FileJournal:
    """Writes in a thread, and one write at a time, so that the event loop never waits for a disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._outstanding: dict[HoldId, Ending] = {}
        self._unwritten: list[_Line] = []
        self._writing: asyncio.Task[None] | None = None
        self._file: _File | None = None

    def keep(self, ending: Ending) -> None:
        if ending.hold_id not in self._outstanding:
            self._outstanding[ending.hold_id] = ending
            self._unwritten.append(_line(ending))
        if self._unwritten:
            self._write_soon()

    def forget(self, hold_id: HoldId) -> None:
        if self._outstanding.pop(hold_id, None) is not None:
            self._unwritten.append(_Line(done=hold_id))
            self._write_soon()

    def outstanding(self) -> Sequence[Ending]:
        return list(self._outstanding.values())

    async def flush(self) -> None:
        if self._unwritten or self._writing is not None:
            await asyncio.wait([self._write_soon()])

    async def take_over(self) -> Sequence[Ending]:
        found = await asyncio.to_thread(_abandoned, self._directory)
        taken = {ending.hold_id: ending for _, endings in found for ending in endings}
        for ending in taken.values():
            self.keep(ending)
        await self.flush()
        copied = not self._unwritten
        for file, _ in found:
            await asyncio.to_thread(file.remove if copied else file.close)
        if taken:
            log.info("%d settlements of earlier processes are submitted again", len(taken))
        return list(taken.values())

    async def close(self) -> None:
        """Leave what is outstanding to the next process."""
        await self.flush()
        file, self._file = self._file, None
        if file is not None:
            await asyncio.to_thread(file.close)

    def _write_soon(self) -> asyncio.Task[None]:
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_all(), name="journal")
        return self._writing

    async def _write_all(self) -> None:
        try:
            while self._unwritten:
                lines, self._unwritten = self._unwritten, []
                try:
                    await asyncio.to_thread(self._write, lines, self.outstanding())
                except OSError as error:
                    # Tried again with the next call; until then these endings are in memory alone.
                    self._unwritten[:0] = lines
                    log.error("%d lines could not be written to the journal: %s", len(lines), error)  # noqa: TRY400
                    return
        finally:
            self._writing = None

    def _write(self, lines: Sequence[_Line], outstanding: Sequence[Ending]) -> None:
        """Make the file say what is outstanding.  Raises OSError, and then the file is as it was."""
        file = self._file
        if not outstanding:
            if file is not None:
                self._file = None
                file.remove()
        elif file is None:
            self._file = self._begun(outstanding)
        elif file.lines > max(LINES_MAX, 2 * len(outstanding)):
            self._file = self._begun(outstanding)
            file.remove()
        else:
            _append(file, lines)

    def _begun(self, outstanding: Sequence[Ending]) -> _File:
        """A new file with all that is outstanding."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = _created(self._directory)
        try:
            _append(file, [_line(ending) for ending in outstanding])
            _sync_directory(self._directory)
        except OSError:
            file.remove()
            raise
        return file


def _line(ending: Ending) -> _Line:
    return _Line(settle=ending) if isinstance(ending, SettleHold) else _Line(release=ending)


def _created(directory: Path) -> _File:
    while True:
        path = directory / f"{os.getpid()}-{secrets.token_hex(8)}{SUFFIX}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if _lock(descriptor):
            return _File(path, descriptor)
        # Somebody who looks for abandoned files was quicker than our lock.
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Whether the file is ours now and still has its name."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(descriptor).st_nlink > 0


def _append(file: _File, lines: Sequence[_Line]) -> None:
    """All of the lines, durably, or none."""
    data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(file.descriptor, left) :]
        os.fsync(file.descriptor)
    except OSError:
        os.ftruncate(file.descriptor, file.size)
        raise
    file.size += len(data)
    file.lines += len(lines)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _abandoned(directory: Path) -> list[tuple[_File, list[Ending]]]:
    """The files whose writers are gone, locked, each with what it says is outstanding."""
    found: list[tuple[_File, list[Ending]]] = []
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        try:
            file = _File(path, os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                log.warning("the journal %s cannot be opened: %s", path, error)
            continue
        if _lock(file.descriptor):
            found.append((file, _read(path)))
        else:
            file.close()
    return found


def _read(path: Path) -> list[Ending]:
    """What is outstanding.  The last line may be torn; any other that makes no sense is kept for a person to see."""
    outstanding: dict[HoldId, Ending] = {}
    data = path.read_bytes()
    unreadable = 0
    for text in data.split(b"\n")[:-1]:
        try:
            line = msgspec.json.decode(text, type=_Line)
        except msgspec.MsgspecError:
            unreadable += 1
            continue
        if line.done is not None:
            outstanding.pop(line.done, None)
        elif ending := line.settle or line.release:
            outstanding[ending.hold_id] = ending
    if unreadable:
        kept = path.with_suffix(UNREADABLE)
        path.replace(kept)
        log.error("%d lines of a journal make no sense; the file is kept as %s", unreadable, kept)
    return list(outstanding.values())
