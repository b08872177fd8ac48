"""What storage could not take outlives its process: it is written once, crossed out when taken, and found again."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import stat
from pathlib import Path

import pytest

from adapters.system import journal as journal_module
from adapters.system.journal import FileJournal
from application.inference.settlement import RETRY_S, Settler
from domain.ids import HoldId
from domain.ledger import ReleaseHold, SettleHold
from domain.money import Usd
from tests.contracts.ledgers import ANN, grant, hold, release, settle
from tests.fakes.chat import MoodyLedger

pytestmark = pytest.mark.anyio


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "var" / "journal"


@pytest.fixture
async def ledger() -> MoodyLedger:
    """With open holds, "r1" to "r3", of 100 nano-dollars each."""
    ledger = MoodyLedger()
    await ledger.submit(grant("lot-1", 1_000))
    for number in range(1, 4):
        await ledger.submit(hold(f"r{number}", 100))
    return ledger


def goes_away(ledger: MoodyLedger) -> None:
    ledger.refuses = lambda operation: isinstance(operation, SettleHold | ReleaseHold)


def comes_back(ledger: MoodyLedger) -> None:
    ledger.refuses = lambda _: False


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*"))


async def left_behind(directory: Path, *numbers: int) -> Path:
    """The file of a process that ended with these settlements outstanding."""
    journal = FileJournal(directory)
    for number in numbers:
        journal.keep(settle(f"r{number}", 10 * number))
    await journal.close()
    return files(directory)[-1]


async def found_by_another(directory: Path) -> list[str]:
    journal = FileJournal(directory)
    found = [str(ending.hold_id) for ending in await journal.take_over()]
    await journal.close()
    return found


async def test_nothing_is_written_while_storage_is_up(ledger: MoodyLedger, directory: Path) -> None:
    settler = Settler(ledger, FileJournal(directory))

    await settler.resume()
    settler.end(settle("r1", 10))
    settler.end(release("r2"))

    assert await settler.drain(1)
    assert not directory.exists()


async def test_a_refused_settlement_is_written_once_and_crossed_out_when_taken(
    ledger: MoodyLedger, directory: Path
) -> None:
    journal = FileJournal(directory)
    settler = Settler(ledger, journal)
    goes_away(ledger)
    settler.end(settle("r1", 10))
    settler.end(release("r2"))
    await asyncio.sleep(3 * RETRY_S)

    (file,) = files(directory)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_bytes().splitlines()) == 2
    assert list(journal.outstanding()) == [settle("r1", 10), release("r2")]

    comes_back(ledger)
    assert await settler.drain(4 * RETRY_S)
    assert files(directory) == []
    assert (await ledger.account(ANN)).charged == Usd(10)


async def test_one_of_two_is_crossed_out(ledger: MoodyLedger, directory: Path) -> None:
    await left_behind(directory, 1, 2)
    journal = FileJournal(directory)
    await journal.take_over()
    journal.forget(HoldId("r1"))
    await journal.close()

    assert await found_by_another(directory) == ["r2"]


async def test_what_is_outstanding_after_the_drain_arrives_with_the_next_process(
    ledger: MoodyLedger, directory: Path
) -> None:
    goes_away(ledger)
    ledger.gate.clear()
    journal = FileJournal(directory)
    first = Settler(ledger, journal)
    first.end(settle("r1", 10))
    assert not await first.drain(0.05)
    await journal.close()

    comes_back(ledger)
    ledger.gate.set()
    second = Settler(ledger, FileJournal(directory))
    await second.resume()
    assert await second.drain(1)

    assert (await ledger.account(ANN)).charged == Usd(10)
    assert files(directory) == []


async def test_what_is_under_way_when_the_drain_ends_is_written_too(ledger: MoodyLedger, directory: Path) -> None:
    ledger.gate.clear()
    journal = FileJournal(directory)
    settler = Settler(ledger, journal)
    settler.end(settle("r1", 10))

    assert not await settler.drain(0.05)
    assert len(files(directory)) == 1

    ledger.gate.set()
    assert await settler.drain(1)
    assert files(directory) == []


async def test_submitting_again_what_had_arrived_charges_nothing_more(ledger: MoodyLedger, directory: Path) -> None:
    await left_behind(directory, 1, 2)
    await ledger.submit(settle("r1", 10))

    settler = Settler(ledger, FileJournal(directory))
    await settler.resume()
    assert await settler.drain(1)

    assert (await ledger.account(ANN)).charged == Usd(30)
    assert await ledger.verify() == []
    assert files(directory) == []


async def test_a_settlement_comes_back_as_it_was(directory: Path) -> None:
    await left_behind(directory, 1)
    journal = FileJournal(directory)
    assert await journal.take_over() == [settle("r1", 10)]
    await journal.close()


async def test_a_torn_last_line_is_ignored(directory: Path) -> None:
    file = await left_behind(directory, 1, 2)
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])

    assert await found_by_another(directory) == ["r1"]
    assert len(files(directory)) == 1


async def test_a_file_with_a_senseless_line_is_kept_for_a_person_to_see(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = await left_behind(directory, 1)
    file.write_bytes(b"\x00\x00\n" + file.read_bytes())

    with caplog.at_level(logging.ERROR):
        assert await found_by_another(directory) == ["r1"]
    assert [each.suffix for each in files(directory)].count(".unreadable") == 1
    assert "make no sense" in caplog.text
    assert await found_by_another(directory) == ["r1"]


async def test_the_file_of_a_living_process_is_left_alone(directory: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    kept, may_end = spawn.Event(), spawn.Event()
    other = spawn.Process(target=keeps_one, args=(directory, kept, may_end))
    other.start()
    try:
        assert await asyncio.to_thread(kept.wait, 20)
        assert await found_by_another(directory) == []
        may_end.set()
        await asyncio.to_thread(other.join, 20)
        assert await found_by_another(directory) == ["r1"]
    finally:
        other.kill()
        other.join()


def keeps_one(directory: Path, kept, may_end) -> None:
    async def keep() -> None:
        journal = FileJournal(directory)
        journal.keep(settle("r1", 10))
        await journal.flush()
        kept.set()
        may_end.wait(20)

    asyncio.run(keep())


async def test_of_two_that_start_at_once_each_file_goes_to_one(directory: Path) -> None:
    for number in range(1, 9):
        await left_behind_apart(directory, number)
    assert len(files(directory)) == 8

    first, second = FileJournal(directory), FileJournal(directory)
    found = await asyncio.gather(first.take_over(), second.take_over())

    taken = sorted(ending.hold_id for endings in found for ending in endings)
    assert taken == [f"r{number}" for number in range(1, 9)]
    await first.close()
    await second.close()


async def left_behind_apart(directory: Path, number: int) -> None:
    """Written elsewhere and moved in, because closing a journal here would leave its file to the next."""
    file = await left_behind(directory.with_name("apart"), number)
    directory.mkdir(parents=True, exist_ok=True)
    file.rename(directory / file.name)


async def test_a_long_file_is_written_anew(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "LINES_MAX", 10)
    journal = FileJournal(directory)
    journal.keep(settle("stays", 1))
    for number in range(30):
        journal.keep(settle(f"r{number}", 1))
        await journal.flush()
        journal.forget(HoldId(f"r{number}"))
        await journal.flush()

    (file,) = files(directory)
    assert len(file.read_bytes().splitlines()) <= 12
    await journal.close()
    assert await found_by_another(directory) == ["stays"]


async def test_a_disk_that_takes_nothing_fails_nobody_and_is_tried_again(
    ledger: MoodyLedger, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory.parent.mkdir()
    directory.write_text("a file where the directory should be")
    settler = Settler(ledger, FileJournal(directory))
    goes_away(ledger)
    settler.end(settle("r1", 10))
    await asyncio.sleep(0.1)
    assert "could not be written" in caplog.text

    directory.unlink()
    await asyncio.sleep(2 * RETRY_S)
    assert len(files(directory)) == 1

    comes_back(ledger)
    assert await settler.drain(4 * RETRY_S)
    assert (await ledger.account(ANN)).charged == Usd(10)
