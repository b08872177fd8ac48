"""What each client program must be told to use this gateway: files, variables, and the command that starts it.

The names are those of each program's own documentation; where a program has a second place for the same thing, this is
the one that its documentation gives for gateways.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct

KEY_VARIABLE: Final = "GATEWAYZ_API_KEY"
OURS: Final = "gatewayz"


class Access(Struct, frozen=True, kw_only=True):
    """Where the gateway is and what to ask it for."""

    base_url: str
    """Without /v1."""
    key: str
    model: str
    small_model: str
    """For the chores of agents that have such: titles, summaries, searches."""


class Client(StrEnum):
    CLAUDE = "claude"
    CODEX = "codex"
    OPENCODE = "opencode"
    AIDER = "aider"
    CONTINUE = "continue"
    ENV = "env"


class Syntax(StrEnum):
    JSON = "json"
    TOML = "toml"
    YAML = "yaml"


class SettingsFile(Struct, frozen=True, kw_only=True):
    """What belongs into a client's own settings."""

    path: str
    """Under the user's home."""
    syntax: Syntax
    members: Mapping[str, Any] = {}
    """Of a JSON file: merged into what is there."""
    text: str = ""
    """Of any other: a block that is ours, at the file's beginning."""
    taken: tuple[str, ...] = ()
    """Top-level names that the block sets; a file that sets them itself is not changed."""


class ClientSettings(Struct, frozen=True, kw_only=True):
    variables: Mapping[str, str] = {}
    file: SettingsFile | None = None
    start: str = ""
    check: str = ""
    """How to see that it works."""


def settings_for(client: Client, access: Access) -> ClientSettings:
    return _CLIENTS[client](access)


def _claude(access: Access) -> ClientSettings:
    variables = {
        "ANTHROPIC_BASE_URL": access.base_url,
        "ANTHROPIC_AUTH_TOKEN": access.key,
        # A key in the shell would compete with the token.
        "ANTHROPIC_API_KEY": "",
        "ANTHROPIC_MODEL": access.model,
        "ANTHROPIC_DEFAULT_OPUS_MODEL": access.model,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": access.model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": access.small_model,
        # Its experiments are members that only Anthropic's own newest API takes.
        "CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS": "1",
    }
    file = SettingsFile(path=".claude/settings.json", syntax=Syntax.JSON, members={"env": variables})
    return ClientSettings(variables=variables, file=file, start="claude", check="/status inside claude")


def _codex(access: Access) -> ClientSettings:
    text = "\n".join(
        (
            f"model = {_quoted(access.model)}",
            f"model_provider = {_quoted(OURS)}",
            "",
            f"[model_providers.{OURS}]",
            'name = "Gatewayz"',
            f"base_url = {_quoted(f'{access.base_url}/v1')}",
            f"env_key = {_quoted(KEY_VARIABLE)}",
            'wire_api = "responses"',
            "supports_websockets = false",
        )
    )
    taken = ("model", "model_provider")
    file = SettingsFile(path=".codex/config.toml", syntax=Syntax.TOML, text=text, taken=taken)
    return ClientSettings(variables={KEY_VARIABLE: access.key}, file=file, start="codex")


def _opencode(access: Access) -> ClientSettings:
    models = {model: {"name": model} for model in dict.fromkeys((access.model, access.small_model))}
    members = {
        "$schema": "https://opencode.ai/config.json",
        "provider": {
            OURS: {
                "npm": "@ai-sdk/openai-compatible",
                "name": "Gatewayz",
                "options": {"baseURL": f"{access.base_url}/v1", "apiKey": f"{{env:{KEY_VARIABLE}}}"},
                "models": models,
            }
        },
        "model": f"{OURS}/{access.model}",
        "small_model": f"{OURS}/{access.small_model}",
    }
    file = SettingsFile(path=".config/opencode/opencode.json", syntax=Syntax.JSON, members=members)
    return ClientSettings(variables={KEY_VARIABLE: access.key}, file=file, start="opencode")


def _aider(access: Access) -> ClientSettings:
    variables = {"OPENAI_API_BASE": f"{access.base_url}/v1", "OPENAI_API_KEY": access.key}
    text = "\n".join(
        (
            f"openai-api-base: {_quoted(f'{access.base_url}/v1')}",
            f"model: {_quoted(f'openai/{access.model}')}",
            f"weak-model: {_quoted(f'openai/{access.small_model}')}",
        )
    )
    taken = ("openai-api-base", "model", "weak-model")
    file = SettingsFile(path=".aider.conf.yml", syntax=Syntax.YAML, text=text, taken=taken)
    return ClientSettings(variables=variables, file=file, start=f"aider --model openai/{access.model}")


def _continue(access: Access) -> ClientSettings:
    text = "\n".join(
        (
            "name: Gatewayz",
            "version: 1.0.0",
            "schema: v1",
            "models:",
            f"  - name: {_quoted(access.model)}",
            "    provider: openai",
            f"    model: {_quoted(access.model)}",
            f"    apiBase: {_quoted(f'{access.base_url}/v1')}",
            f"    apiKey: {_quoted(access.key)}",
            "    roles: [chat, edit, apply]",
        )
    )
    taken = ("name", "version", "schema", "models")
    file = SettingsFile(path=".continue/config.yaml", syntax=Syntax.YAML, text=text, taken=taken)
    return ClientSettings(file=file)


def _env(access: Access) -> ClientSettings:
    variables = {
        "OPENAI_BASE_URL": f"{access.base_url}/v1",
        "OPENAI_API_KEY": access.key,
        "ANTHROPIC_BASE_URL": access.base_url,
        "ANTHROPIC_AUTH_TOKEN": access.key,
        "ANTHROPIC_API_KEY": "",
    }
    return ClientSettings(variables=variables)


def _quoted(text: str) -> str:
    """A string that TOML, YAML and JSON all read the same."""
    return json.dumps(text)


_CLIENTS: Final[Mapping[Client, Callable[[Access], ClientSettings]]] = {
    Client.CLAUDE: _claude,
    Client.CODEX: _codex,
    Client.OPENCODE: _opencode,
    Client.AIDER: _aider,
    Client.CONTINUE: _continue,
    Client.ENV: _env,
}
