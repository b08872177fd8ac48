"""What every file of the project keeps to, whatever it is about."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
RINGS = ("domain", "application", "adapters", "entrypoints")

# Spelt in pieces, or this file would be the first to break its own rules.
MACHINE_PATHS = re.compile("|".join(f"/{folder}/" for folder in ("work", "farm", "root")))
PACKAGE_INDEXES = re.compile("|".join([r"py" r"pi\.org", r"python" r"hosted\.org", r"registry\.npm" r"js\.org"]))
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}


def project_files() -> list[Path]:
    """What is tracked, or would be with the next `git add`; without git, what an unpacked archive holds."""
    git = shutil.which("git") or "false"
    listing = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    asked = subprocess.run(listing, cwd=PROJECT, capture_output=True, check=False)
    if asked.returncode == 0:
        found = [PROJECT / name for name in asked.stdout.decode().split("\0") if name]
    else:
        found = [path for path in PROJECT.rglob("*") if not hidden_or_made(path.relative_to(PROJECT))]
    return sorted(path for path in found if path.is_file())


def hidden_or_made(path: Path) -> bool:
    kept = {".ci", ".dockerignore", ".env.example", ".gitignore"}
    return path.parts[0] == "var" or any(part.startswith(".") and part not in kept for part in path.parts)


def lines_matching(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in FILES:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(PROJECT)}:{at}" for at, line in enumerate(lines, 1) if pattern.search(line)]
    return found


FILES = project_files()
MODULES = [path for path in FILES if path.suffix == ".py"]
RING_MODULES = [path for path in MODULES if path.relative_to(PROJECT).parts[0] in RINGS]


def test_no_file_names_a_path_of_one_machine():
    assert lines_matching(MACHINE_PATHS) == []


def test_no_file_names_a_package_index():
    assert lines_matching(PACKAGE_INDEXES) == []


def test_no_module_has_a_name_that_says_nothing():
    parts = {path: {path.stem, *path.relative_to(PROJECT).parts[:-1]} for path in MODULES}
    assert [str(path.relative_to(PROJECT)) for path, words in parts.items() if words & EMPTY_NAMES] == []


@pytest.mark.parametrize("ring", RINGS)
def test_every_module_of_a_ring_says_what_it_is(ring):
    silent = []
    for path in RING_MODULES:
        module = ast.parse(path.read_text(encoding="utf-8"))
        if path.relative_to(PROJECT).parts[0] == ring and module.body and not ast.get_docstring(module):
            silent.append(str(path.relative_to(PROJECT)))
    assert silent == []
