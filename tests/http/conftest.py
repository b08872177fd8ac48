"""The routes beside inference, and who asks them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from tests.fakes.served import Caller, Served, run


@pytest.fixture
def served() -> Served:
    return Served()


@pytest.fixture
def client(served: Served) -> Iterator[TestClient[Litestar]]:
    with TestClient(served.app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def ann(served: Served, client: TestClient[Litestar]) -> Caller:
    """A customer."""
    return Caller(client, run(served.customer))


@pytest.fixture
def boss(served: Served, client: TestClient[Litestar]) -> Caller:
    """The operator."""
    return Caller(client, run(served.admin))
