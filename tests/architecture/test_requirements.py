"""What gets installed is pinned, hashed, and taken from whichever index the installing machine trusts."""

import re
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
LOCKS = sorted(PROJECT.glob("requirements*.txt"))
PIN = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>[^\s;]+)( ; [^\\]+)?( --hash=sha256:[0-9a-f]{64})+$")


def entries(lock: Path) -> list[str]:
    """One line for each package, its hashes included."""
    joined = re.sub(r"\s*\\\n\s*", " ", lock.read_text())
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def pins(lock: Path) -> dict[str, str]:
    found = [match for entry in entries(lock) if (match := PIN.match(entry))]
    return {match["name"]: match["version"] for match in found}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0] for requirement in requirements}


def test_the_three_lock_files_are_there():
    assert [lock.name for lock in LOCKS] == [
        "requirements-build.txt",
        "requirements-dev.txt",
        "requirements.txt",
    ]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_file_names_no_address(lock):
    assert "://" not in lock.read_text()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_entry_is_pinned_and_hashed(lock):
    assert entries(lock)
    assert [entry[:80] for entry in entries(lock) if not PIN.match(entry)] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_tests_run_on_the_versions_that_are_shipped(lock):
    assert pins(lock).items() <= pins(PROJECT / "requirements-dev.txt").items()


def test_every_declared_dependency_is_locked():
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    groups = declared["dependency-groups"]
    runtime = names(declared["project"]["dependencies"])
    assert runtime <= pins(PROJECT / "requirements.txt").keys()
    assert names(groups["build"]) <= pins(PROJECT / "requirements-build.txt").keys()
    assert runtime | names(groups["build"]) | names(groups["dev"]) <= pins(LOCKS[1]).keys()
