"""What every test may ask for: the event loop, PostgreSQL, Redis; and a last line about what could not run.

A test on a server asks for one of these fixtures.  Where there is no server the test is skipped, and counted
at the end of the output; with `REQUIRE_SERVICES=1` it fails instead: no pipeline passes by not testing.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import services
from tests.examples import USUAL, examples
from tests.services import PostgresPlace, ServiceMissing

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile(
    "gatewayz", max_examples=examples(USUAL), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("gatewayz")

# Where one of these is asked for, the mark follows, so that `-m "not postgres"` needs no second list.
MARKS_BY_FIXTURE = {"postgres_url": "postgres", "redis_url": "redis"}


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Asyncio alone, as in production; `TEST_UVLOOP=1` takes production's event loop as well."""
    return "asyncio", {"use_uvloop": os.environ.get("TEST_UVLOOP") == "1"}


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A server's SQLAlchemy URL; most tests want `postgres_schema_url` or `postgres_database_url`."""
    with available(services.postgres()) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_schema_url(postgres_url: str) -> Iterator[PostgresPlace]:
    """A schema of this worker's own, fresh for the session."""
    with services.postgres_schema(postgres_url, own_name()) as place:
        yield place


@pytest.fixture(scope="session")
def postgres_database_url(postgres_url: str) -> Iterator[str]:
    """A database of this worker's own, fresh for the session, for what takes a whole database."""
    with services.postgres_database(postgres_url, own_name()) as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """An empty Redis database of this worker's own."""
    with available(services.redis()) as url:
        yield url


def own_name() -> str:
    return f"gwtest_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{os.getpid()}"


@contextmanager
def available(service: AbstractContextManager[str]) -> Iterator[str]:
    with ExitStack() as stack:
        try:
            url = stack.enter_context(service)
        except ServiceMissing as missing:
            required = os.environ.get("REQUIRE_SERVICES") == "1"
            outcome = pytest.fail.Exception if required else pytest.skip.Exception
            raise outcome(str(missing), pytrace=False) from None
        yield url


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if mark := MARKS_BY_FIXTURE.get(fixture):
                item.add_marker(mark)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, Any, Any]:
    """Outermost, so that the count stands below pytest's own last line."""
    result = yield
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal:
        reasons = Counter(skip_reason(report) for report in terminal.stats.get("skipped", ()))
        for reason, count in sorted(reasons.items()):
            if " not found (set TEST_" in reason:
                terminal.write_line(f"{count} test{'s' * (count > 1)} skipped: {reason}", yellow=True)
    return result


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
