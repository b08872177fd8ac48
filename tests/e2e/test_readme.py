"""What README.md and the pages for users print works as printed: commands, requests, programs and settings.

Blocks are run in their order against one gateway process on the sandbox.  Only the address and the key are put in;
commands of `gatewayz` run in this process, because starting Python costs a second each.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec import Struct

from entrypoints.environment import read_env_file
from entrypoints.settings import DEFAULTS, load_settings
from entrypoints.vendors import VENDOR_NAMES
from tests.e2e.processes import ADMIN_KEY, ROOT, GatewayProcess, clean_environ
from tests.fakes.shell import Shell

PAGES: Final = ("README.md", "docs/clients.md", "docs/vendors.md")
PROGRAM: Final = ".venv/bin/gatewayz "
ADDRESS: Final = "http://127.0.0.1:8000"
KEY: Final = "gw_live_..."
VENDORS: Final = [
    {"slug": "local", "base_url": "http://127.0.0.1:9/v1", "wire": "openai", "models": ["llama3"]},
    {"slug": "proxy", "base_url": "http://127.0.0.1:9", "wire": "anthropic", "models": ["claude-x"]},
]
"""The vendors that the pages take as an example; nothing listens there, and nobody is called."""
GOOGLE_USER: Final = {"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"}
NOT_INSTALLED: Final = {"langchain_openai"}
"""What the pages show and the tests do not depend on."""

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)[^)]*\)")
_IMPORT = re.compile(r"^(?:from|import) (\w+)", re.MULTILINE)


class Block(Struct, frozen=True):
    page: str
    line: int
    language: str
    text: str


def blocks(*languages: str) -> list[Block]:
    found: list[Block] = []
    for page in PAGES:
        text = (ROOT / page).read_text()
        for match in _FENCE.finditer(text):
            found.append(Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2]))
    return [block for block in found if block.language in languages]


def place(block: Block) -> str:
    return f"{block.page}:{block.line}"


def is_commands(block: Block) -> bool:
    return block.language == "sh" and block.text.startswith(PROGRAM)


def is_make(block: Block) -> bool:
    return block.language == "sh" and re.search(r"^(?:\w+=\S+ )?make ", block.text, re.MULTILINE) is not None


SHELL: Final = blocks("sh")
COMMANDS: Final = [block for block in SHELL if is_commands(block)]
MAKES: Final = [block for block in SHELL if is_make(block)]
REQUESTS: Final = [block for block in SHELL if not is_commands(block) and not is_make(block)]
PROGRAMS: Final = blocks("python")
SETTINGS: Final = blocks("env")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("readme"), GATEWAYZ_VENDORS=json.dumps(VENDORS))
    process.start()
    try:
        yield process
    finally:
        process.stop()


def filled_in(text: str, gateway: GatewayProcess) -> str:
    return text.replace(ADDRESS, gateway.base_url).replace(KEY, ADMIN_KEY)


def test_nothing_is_left_out():
    assert len(COMMANDS) >= 10
    assert {block.page for block in PROGRAMS} == {"README.md", "docs/clients.md"}
    named = {
        block.language for page in PAGES for block in blocks(*re.findall(r"^```(\w+)", (ROOT / page).read_text(), re.M))
    }
    assert named == {"sh", "python", "env", "ts"}


def test_every_link_leads_somewhere():
    for page in (*PAGES, "docs/operating.md", "docs/routing.md", "docs/dialects.md"):
        for target in _LINK.findall((ROOT / page).read_text()):
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page}: {target}"


@pytest.mark.parametrize("block", REQUESTS, ids=place)
def test_requests_are_answered(block: Block, gateway: GatewayProcess, tmp_path: Path):
    text = filled_in(block.text, gateway).replace("GATEWAYZ_API_KEY=...", f"GATEWAYZ_API_KEY={ADMIN_KEY}")
    told = 'curl() { command curl --silent --show-error --fail-with-body --max-time 20 "$@"; }\n' + text
    environ = clean_environ() | {"GATEWAYZ_API_KEY": ADMIN_KEY}
    done = subprocess.run(
        ["bash", "-euc", told], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    if "chat/completions" in text:
        last = done.stdout.strip().split("\n\n")[-2].removeprefix("data: ")
        assert json.loads(last)["usage"]["cost"] > 0
    else:
        assert "usd" in done.stdout


@pytest.mark.parametrize("block", PROGRAMS, ids=place)
def test_programs_run(block: Block, gateway: GatewayProcess, tmp_path: Path):
    missing = {name for name in _IMPORT.findall(block.text) if importlib.util.find_spec(name) is None}
    assert missing <= NOT_INSTALLED
    if missing:
        compile(block.text, place(block), "exec")
        return
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", filled_in(block.text, gateway)],
        cwd=tmp_path,
        env=clean_environ(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Hello, gateway!")


@pytest.mark.parametrize("block", COMMANDS, ids=place)
def test_commands_do_what_they_say(block: Block, gateway: GatewayProcess, tmp_path: Path):
    shell = Shell(gateway.directory)
    environ: dict[str, Any] = {name: gateway.environ[name] for name in ("ADMIN_API_KEY", "PORT", "GATEWAYZ_VENDORS")}
    for line in filled_in(block.text, gateway).splitlines():
        words = shlex.split(line, comments=True)
        assert words.pop(0) == PROGRAM.strip(), line
        done = shell.run(*words, HOME=str(tmp_path), GATEWAYZ_API_KEY=ADMIN_KEY, **environ)
        assert done.stdout or words[:2] == ["prices", "doubtful"], line
        assert not done.stderr, line
        if words[0] == "connect":
            assert ADMIN_KEY in done.stdout, line
            assert gateway.base_url in done.stdout, line


@pytest.mark.parametrize("block", MAKES, ids=place)
def test_targets_exist_and_settings_are_understood(block: Block, tmp_path: Path):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in block.text.splitlines():
        words = shlex.split(line, comments=True)
        at = words.index("make")
        assert words[at + 1] in targets, line
        load_settings(VENDOR_NAMES, dict(word.split("=", 1) for word in words[:at]), directory=tmp_path)


@pytest.mark.parametrize("block", SETTINGS, ids=place)
def test_settings_are_understood(block: Block, tmp_path: Path):
    credential = tmp_path / "google.json"
    credential.write_text(json.dumps(GOOGLE_USER))
    (tmp_path / ".env").write_text(block.text.replace("/run/secrets/google.json", str(credential)))
    documented = read_env_file(ROOT / ".env.example").keys() | DEFAULTS.keys()
    assert read_env_file(tmp_path / ".env").keys() <= documented
    load_settings(VENDOR_NAMES, {}, directory=tmp_path)
