"""Every store of kept responses keeps them to their account, sealed, until they expire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from adapters.memory.responses import MemoryResponses
from adapters.sql.responses import SqlResponses
from adapters.system.sealing import Sealer, Unsealable
from domain.ids import AccountId
from domain.ports.responses import KeptResponse, Responses, ResponseStatus
from tests.contracts.repositories import (  # noqa: F401 - the fixture is asked for by its name
    fresh_database,
    on_postgres,
    tables_once,
)

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
OURS = AccountId("acc_ours")
KEPT = KeptResponse(
    account_id=OURS,
    id="resp_1",
    status=ResponseStatus.COMPLETED,
    created_at=NOON,
    expires_at=NOON + DAY,
    items=b'[{"role":"user","content":"a secret"}]',
    answer=b'{"id":"resp_1"}',
)


@pytest.fixture(params=["memory", "sqlite", on_postgres])
async def responses(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Responses]:
    if request.param == "memory":
        yield MemoryResponses()
        return
    async with fresh_database(request, tmp_path) as database:
        yield SqlResponses(database, Sealer({"a": b"s" * 32}, "responses"))


async def test_what_was_put_is_got_by_its_account_alone(responses: Responses) -> None:
    await responses.put(KEPT)

    assert await responses.get(OURS, "resp_1", NOON) == KEPT
    assert await responses.get(AccountId("acc_theirs"), "resp_1", NOON) is None
    assert await responses.get(OURS, "resp_2", NOON) is None
    assert await responses.get(OURS, "resp_1", NOON + DAY) is None
    assert await responses.status(OURS, "resp_1") is ResponseStatus.COMPLETED
    assert await responses.status(AccountId("acc_theirs"), "resp_1") is None


async def test_a_later_one_takes_its_place_but_a_cancelled_one_stays(responses: Responses) -> None:
    running = replace(KEPT, status=ResponseStatus.QUEUED)
    await responses.put(running)
    await responses.put(KEPT)
    assert await responses.get(OURS, "resp_1", NOON) == KEPT
    cancelled = replace(KEPT, status=ResponseStatus.CANCELLED)
    await responses.put(cancelled)
    await responses.put(KEPT)
    assert await responses.get(OURS, "resp_1", NOON) == cancelled


async def test_deleting_is_for_its_account_alone(responses: Responses) -> None:
    await responses.put(KEPT)

    assert not await responses.delete(AccountId("acc_theirs"), "resp_1")
    assert await responses.delete(OURS, "resp_1")
    assert not await responses.delete(OURS, "resp_1")


async def test_expired_ones_are_forgotten_in_batches(responses: Responses) -> None:
    for number in range(5):
        await responses.put(replace(KEPT, id=f"resp_{number}"))
    await responses.put(replace(KEPT, id="resp_later", expires_at=NOON + 9 * DAY))

    after = NOON + 2 * DAY
    assert [await responses.forget_before(after, 3) for _ in range(3)] == [3, 2, 0]
    assert await responses.status(OURS, "resp_later") is ResponseStatus.COMPLETED


def test_a_seal_opens_in_its_place_with_its_secret_alone() -> None:
    old = Sealer({"a": b"s" * 32}, "responses")
    sealed = old.sealed(b"a secret", "response:1")

    assert b"secret" not in sealed
    assert Sealer({"b": b"t" * 32, "a": b"s" * 32}, "responses").opened(sealed, "response:1") == b"a secret"
    for sealer, text, place in (
        (old, sealed, "response:2"),
        (Sealer({"a": b"t" * 32}, "responses"), sealed, "response:1"),
        (Sealer({"b": b"s" * 32}, "responses"), sealed, "response:1"),
        (Sealer({"a": b"s" * 32}, "sessions"), sealed, "response:1"),
        (old, sealed[:-1] + bytes((sealed[-1] ^ 1,)), "response:1"),
        (old, b"", "response:1"),
    ):
        with pytest.raises(Unsealable):
            sealer.opened(text, place)
