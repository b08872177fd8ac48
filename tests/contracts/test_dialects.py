"""All that callers of every dialect may ask, before vendors of every wire: kept, or declared lost."""

from __future__ import annotations

import pytest

from domain.catalog import Dialect
from tests.contracts.dialect_matrix import WIRES, Cell, check
from tests.contracts.dialect_page import PAGE, page
from tests.contracts.dialect_requests import CALLERS, FEATURES

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("caller", CALLERS)
async def test_what_is_asked_and_answered_is_the_same_at_both_ends(
    caller: Dialect, wire: str, feature: str, streams: bool
) -> None:
    cell = Cell(caller, wire, feature, streams)

    assert await check(cell) in ("kept", "lost" if cell.lost_as else "none" if cell.asked is None else "kept")


def test_the_page_for_users_says_what_the_writers_declare() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.contracts.dialect_page"
