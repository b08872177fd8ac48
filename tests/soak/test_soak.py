"""The soak in small: the same load and the same reckoning that `make soak` holds for a million requests."""

from __future__ import annotations

import pytest

from tests.soak.__main__ import soak
from tests.soak.orders import LEAVINGS, Act, order_of

pytestmark = pytest.mark.anyio


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.redis
async def test_every_nano_dollar_is_explained_by_what_the_vendor_served() -> None:
    missed = [str(check) for check in await soak(requests=600, callers=8) if not check.kept]
    assert not missed


async def test_five_callers_in_a_hundred_leave_and_one_meets_a_fault() -> None:
    acts = [order_of(number).act for number in range(10_000)]
    assert sum(act in LEAVINGS for act in acts) == 500
    assert sum(act in (Act.FAIL, Act.RESET, Act.GARBLE, Act.BREAK) for act in acts) == 100
    assert set(acts) == set(Act)
