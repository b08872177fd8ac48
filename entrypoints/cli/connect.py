"""`gatewayz connect`: what a client program must be told to use this gateway, printed or written."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from domain.errors import Conflict, InvalidRequest
from entrypoints.cli.client_settings import (
    KEY_VARIABLE,
    Access,
    Client,
    ClientSettings,
    SettingsFile,
    Syntax,
    settings_for,
)
from entrypoints.cli.output import print_json
from entrypoints.cli.session import configured

BEGIN: Final = "# gatewayz connect: begin"
END: Final = "# gatewayz connect: end"
BACKUP: Final = ".before-gatewayz"
PLACEHOLDER: Final = "YOUR_KEY"
SECRET_MODE: Final = 0o600

_BLOCK = re.compile(rf"^{re.escape(BEGIN)}\n.*?^{re.escape(END)}\n", re.DOTALL | re.MULTILINE)


class SettingsTaken(Conflict):
    code = "client_settings_taken"


def connect(
    client: Client,
    *,
    model: str = "sandbox/echo",
    small_model: str | None = None,
    key: str | None = None,
    base_url: str | None = None,
    write: bool = False,
    undo: bool = False,
    json: bool = False,
) -> None:
    """Print, or write, what a client program needs to use this gateway.

    Parameters
    ----------
    client
        Which program; env prints the variables that most programs read.
    model
        The model to work with; "gatewayz catalog list" shows them.
    small_model
        The model for small chores, by default the same.
    key
        An API key of this gateway, by default $GATEWAYZ_API_KEY.
    base_url
        Where the gateway is reached, without /v1; by default where the settings say.
    write
        Write the program's own settings file, keep what is in it, and show the difference.
    undo
        Give the settings file back as it was before.
    json
        Print JSON.
    """
    address = (base_url or configured().server.base_url).rstrip("/").removesuffix("/v1")
    access = Access(
        base_url=address,
        key=key or os.environ.get(KEY_VARIABLE) or PLACEHOLDER,
        model=model,
        small_model=small_model or model,
    )
    wanted = settings_for(client, access)
    if undo:
        print(_undone(_needed(wanted, client)))
        return
    if write:
        if access.key == PLACEHOLDER:
            raise InvalidRequest(
                f"Give the key to write with --key or ${KEY_VARIABLE}; "
                "'gatewayz keys create ACCOUNT --name NAME' makes one.",
                param="key",
            )
        difference = _written(_needed(wanted, client))
        # Terminals are recorded and shown to others.
        print(difference.replace(access.key, PLACEHOLDER) or "Nothing to change.")
    if json:
        file = wanted.file
        print_json(
            {
                "variables": wanted.variables,
                "file": None if file is None else {"path": str(_path(file)), "content": _content(file, "")},
                "start": wanted.start,
            }
        )
        return
    for line in _told(wanted, client, shows_file=not write):
        print(line)


def _needed(wanted: ClientSettings, client: Client) -> SettingsFile:
    if wanted.file is None:
        raise InvalidRequest(f"{client} has no settings file; set the variables that this prints.", param="client")
    return wanted.file


def _told(wanted: ClientSettings, client: Client, *, shows_file: bool) -> list[str]:
    lines: list[str] = []
    # Claude Code reads the variables from its settings file as well.
    if wanted.variables and not (wanted.file is not None and not shows_file and client is Client.CLAUDE):
        lines += [f"export {name}={shlex.quote(value)}" for name, value in wanted.variables.items()]
    if wanted.file is not None and shows_file:
        lines += ["", f"# {_path(wanted.file)} (--write puts it there)", _content(wanted.file, "").rstrip()]
    if wanted.start:
        lines += ["", f"# Then: {wanted.start}" + (f"   (check with {wanted.check})" if wanted.check else "")]
    if PLACEHOLDER in "".join(wanted.variables.values()):
        lines += ["", "# A key: gatewayz keys create ACCOUNT --name NAME"]
    return lines


def _path(file: SettingsFile) -> Path:
    return Path.home() / file.path


def _written(file: SettingsFile) -> str:
    """Put the settings into the client's file; what was there is kept beside it, once.  Returns the difference."""
    path = _path(file)
    before = path.read_text() if path.exists() else ""
    after = _content(file, before)
    if after == before:
        return ""
    backup = path.with_name(path.name + BACKUP)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not backup.exists():
        _write(backup, before)
    _write(path, after)
    shown = difflib.unified_diff(before.splitlines(), after.splitlines(), str(path), str(path), lineterm="")
    return "\n".join(shown)


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and readable by its owner alone, because a key may be in it."""
    partial = path.with_name(path.name + ".partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, SECRET_MODE), "w") as file:
        file.write(text)
    partial.replace(path)


def _undone(file: SettingsFile) -> str:
    path = _path(file)
    backup = path.with_name(path.name + BACKUP)
    if not backup.exists():
        raise InvalidRequest(f"There is nothing to undo: {backup} does not exist.", param="undo")
    before = backup.read_text()
    if before:
        _write(path, before)
    else:
        path.unlink(missing_ok=True)
    backup.unlink()
    return f"{path} is as it was before."


def _content(file: SettingsFile, before: str) -> str:
    if file.syntax is Syntax.JSON:
        return _merged_json(file, before)
    rest = _BLOCK.sub("", before)
    for name in file.taken:
        separator = "=" if file.syntax is Syntax.TOML else ":"
        if re.search(rf"^{re.escape(name)}\s*{separator}", _top_level(rest, file.syntax), re.MULTILINE):
            raise SettingsTaken(
                f"{_path(file)} sets {name!r} itself. Remove that line, or put these settings in by hand:\n\n"
                f"{file.text}"
            )
    return f"{BEGIN}\n{file.text}\n{END}\n{rest}"


def _top_level(text: str, syntax: Syntax) -> str:
    """The part of a file in which names stand on their own: all of YAML, TOML up to its first table."""
    return text if syntax is Syntax.YAML else re.split(r"^\s*\[", text, maxsplit=1, flags=re.MULTILINE)[0]


def _merged_json(file: SettingsFile, before: str) -> str:
    try:
        there = msgspec.json.decode(before) if before.strip() else {}
    except msgspec.DecodeError as error:
        raise SettingsTaken(f"{_path(file)} is not JSON ({error}); it is left as it is.") from None
    if not isinstance(there, dict):
        raise SettingsTaken(f"{_path(file)} is not a JSON object; it is left as it is.")
    merged = msgspec.json.encode(_merged(there, file.members))
    return msgspec.json.format(merged, indent=2).decode() + "\n"


def _merged(there: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(there)
    for name, value in ours.items():
        inner = merged.get(name)
        both = isinstance(inner, dict) and isinstance(value, Mapping)
        merged[name] = _merged(inner, value) if both and isinstance(inner, dict) else value
    return merged
