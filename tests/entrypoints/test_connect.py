"""`gatewayz connect` prints what clients need, writes it beside what is there, and takes it back."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from entrypoints.cli.client_settings import Access, Client, settings_for
from entrypoints.cli.main import DONE, REFUSED, run

ACCESS = Access(base_url="https://ai.example.test", key="gw_live_x", model="acme/one", small_model="acme/small")
ARGUMENTS = ("--key", "gw_live_x", "--base-url", "https://ai.example.test/v1", "--model", "acme/one")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GATEWAYZ_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("client", list(Client))
def test_every_client_can_be_printed(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["connect", client, *ARGUMENTS]) == DONE

    shown = capsys.readouterr().out
    assert "https://ai.example.test" in shown
    assert "/v1/v1" not in shown
    assert "gw_live_x" in shown


def test_codex_reads_its_settings(home: Path) -> None:
    file = home / ".codex" / "config.toml"
    file.parent.mkdir()
    file.write_text('approval_policy = "never"\n\n[profiles.x]\nmodel = "other"\n')

    assert run(["connect", "codex", "--write", *ARGUMENTS]) == DONE

    read = tomllib.loads(file.read_text())
    assert read["model"] == "acme/one"
    provider = read["model_providers"][read["model_provider"]]
    assert provider["base_url"] == "https://ai.example.test/v1"
    assert provider["wire_api"] == "responses"
    assert provider["env_key"] == "GATEWAYZ_API_KEY"
    assert provider["supports_websockets"] is False
    assert read["profiles"]["x"]["model"] == "other"


def test_what_is_there_stays_and_comes_back(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = home / ".claude" / "settings.json"
    file.parent.mkdir()
    before = '{"model": "x", "env": {"FOO": "ü", "ANTHROPIC_BASE_URL": "old"}}'
    file.write_text(before)

    assert run(["connect", "claude", "--write", *ARGUMENTS]) == DONE

    env = json.loads(file.read_text())["env"]
    assert env["FOO"] == "ü"
    assert env["ANTHROPIC_BASE_URL"] == "https://ai.example.test"
    assert env["ANTHROPIC_API_KEY"] == ""
    assert json.loads(file.read_text())["model"] == "x"
    assert file.stat().st_mode & 0o077 == 0
    shown = capsys.readouterr().out
    assert "+" in shown
    assert env["ANTHROPIC_AUTH_TOKEN"] not in shown
    assert run(["connect", "claude", "--write", *ARGUMENTS]) == DONE
    assert run(["connect", "claude", "--undo"]) == DONE
    assert file.read_text() == before
    assert run(["connect", "claude", "--undo"]) == REFUSED


def test_a_file_that_was_not_there_goes_again(home: Path) -> None:
    assert run(["connect", "aider", "--write", *ARGUMENTS]) == DONE
    assert run(["connect", "aider", "--undo"]) == DONE
    assert not (home / ".aider.conf.yml").exists()


def test_writing_again_replaces_our_block_alone(home: Path) -> None:
    file = home / ".codex" / "config.toml"
    assert run(["connect", "codex", "--write", *ARGUMENTS]) == DONE
    file.write_text(file.read_text() + "[tools]\nweb_search = true\n")

    assert run(["connect", "codex", "--write", *ARGUMENTS[:-1], "acme/two"]) == DONE

    read = tomllib.loads(file.read_text())
    assert read["model"] == "acme/two"
    assert read["tools"] == {"web_search": True}


@pytest.mark.parametrize(
    ("client", "name", "text"),
    [
        ("codex", ".codex/config.toml", 'model = "mine"\n'),
        ("aider", ".aider.conf.yml", "model: mine\n"),
        ("claude", ".claude/settings.json", "{,"),
        ("opencode", ".config/opencode/opencode.json", "[]"),
    ],
)
def test_settings_that_would_collide_are_left_alone(home: Path, client: str, name: str, text: str) -> None:
    file = home / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)

    assert run(["connect", client, "--write", *ARGUMENTS]) == REFUSED
    assert file.read_text() == text


def test_nothing_is_written_without_a_key(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["connect", "claude", "--write"]) == REFUSED
    assert "keys create" in capsys.readouterr().err
    assert not (home / ".claude").exists()
    assert run(["connect", "env"]) == DONE
    assert "YOUR_KEY" in capsys.readouterr().out


def test_json_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["connect", "opencode", "--json", *ARGUMENTS]) == DONE
    told = json.loads(capsys.readouterr().out)
    content = json.loads(told["file"]["content"])
    assert content["model"] == "gatewayz/acme/one"
    assert content["provider"]["gatewayz"]["models"] == {"acme/one": {"name": "acme/one"}}


def test_small_chores_may_have_a_model_of_their_own() -> None:
    variables = settings_for(Client.CLAUDE, ACCESS).variables
    assert variables["ANTHROPIC_DEFAULT_HAIKU_MODEL"] == "acme/small"
    assert variables["ANTHROPIC_MODEL"] == "acme/one"
