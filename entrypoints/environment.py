"""Reading typed values from environment variables, with every mistake kept and told at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from msgspec import Struct

from domain.keys import Secret

PPM = 1_000_000
ENV_FILE_BYTES_MAX = 1 << 20
SWITCH = dict.fromkeys(("on", "true", "yes", "1"), True) | dict.fromkeys(("off", "false", "no", "0"), False)

_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)")

Choice = TypeVar("Choice", bound=StrEnum)
Network = IPv4Network | IPv6Network


class Problem(Struct, frozen=True):
    """One setting that stops the start, and what to do about it."""

    name: str
    what: str
    cure: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what} {self.cure}"


class SettingsError(Exception):
    """Everything that is wrong with the settings."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def read_env_file(path: Path) -> dict[str, str]:
    """The assignments of a `.env` file: comments, `export` and quotes as in a shell; nothing is expanded."""
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(ENV_FILE_BYTES_MAX)
    except (OSError, UnicodeDecodeError) as error:
        problem = Problem(str(path), f"cannot be read: {error}.", "Mend or remove it.")
        raise SettingsError((problem,)) from None
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if match := _ASSIGNMENT.fullmatch(line):
            found[match[1]] = _unquoted(match[2].strip())
        else:
            # The line itself is not shown: it may hold a secret.
            problems.append(Problem(f"{path.name}, line {number}", "is no assignment.", "Write NAME=value."))
    if problems:
        raise SettingsError(tuple(problems))
    return found


def _unquoted(text: str) -> str:
    if text[:1] in {'"', "'"} and (end := text.find(text[0], 1)) > 0:
        return text[1:end]
    return text.split(" #", 1)[0].rstrip()


class Reader:
    """Hands out typed values; a value that does not fit becomes a problem and its default takes its place."""

    def __init__(self, environ: Mapping[str, str], defaults: Mapping[str, str]) -> None:
        # An empty variable is an unset one: compose files pass `NAME=` for what nobody filled in.
        self._environ = {name: value for name, value in environ.items() if value.strip()}
        self._defaults = defaults
        self.problems: list[Problem] = []

    def refuse(self, name: str, what: str, cure: str) -> None:
        self.problems.append(Problem(name, what, cure))

    def refuse_misspelt(self, prefix: str, others: Collection[str] = ()) -> None:
        """Every name with our `prefix` must be a setting, or one of `others`, which mean something elsewhere."""
        for name in sorted(self._environ):
            if name.startswith(prefix) and name not in self._defaults and name not in others:
                near = get_close_matches(name, self._defaults, n=1, cutoff=0.5)
                cure = f"Did you mean {near[0]}?" if near else "Remove it, or look it up in .env.example."
                self.refuse(name, "is not a setting.", cure)

    def text(self, name: str) -> str:
        return self.given(name) or self._defaults[name]

    def given(self, name: str) -> str | None:
        """The value as set, without the default."""
        value = self._environ.get(name)
        return value.strip() if value else None

    def secret(self, name: str) -> Secret | None:
        value = self.given(name)
        return Secret(value) if value else None

    def whole(self, name: str, least: int, most: int) -> int:
        def parse(text: str) -> int:
            number = int(text)
            if not least <= number <= most:
                raise ValueError
            return number

        return self._parsed(name, parse, f"Write a whole number from {least} to {most}.")

    def switch(self, name: str) -> bool:
        return self._parsed(name, lambda text: SWITCH[text.lower()], "Write on or off.")

    def choice(self, name: str, kind: type[Choice]) -> Choice:
        return self._parsed(name, lambda text: kind(text.lower()), f"Write one of: {', '.join(kind)}.")

    def ppm(self, name: str) -> int:
        """A positive factor such as 1.25, in whole parts per million."""

        def parse(text: str) -> int:
            scaled = Decimal(text) * PPM
            if not 0 < scaled <= 1000 * PPM or scaled != scaled.to_integral_value():
                raise ValueError
            return int(scaled)

        return self._parsed(name, parse, "Write a positive decimal with at most six places, such as 1.25.")

    def url(self, name: str, *schemes: str) -> str | None:
        value = self.given(name)
        if value is None:
            return None
        if not is_url(value, schemes):
            forms = " or ".join(f"{scheme}://..." for scheme in schemes)
            self.refuse(name, "is not an address of the right form.", f"Write {forms}")
            return None
        return value.rstrip("/")

    def origins(self, name: str) -> tuple[str, ...]:
        origins = tuple(origin.rstrip("/") for origin in self._listed(name))
        for origin in origins:
            if origin != "*" and not (is_url(origin, ("http", "https")) and not urlsplit(origin).path):
                self.refuse(name, f"{origin!r} is not an origin.", "Write https://host or https://host:port.")
        return origins

    def networks(self, name: str) -> tuple[Network, ...]:
        networks: list[Network] = []
        for text in self._listed(name):
            try:
                networks.append(ip_network(text, strict=False))
            except ValueError:
                self.refuse(name, f"{text!r} is no network.", "Write networks such as 10.0.0.0/8.")
        return tuple(networks)

    def _listed(self, name: str) -> list[str]:
        return [part.strip() for part in self.text(name).split(",") if part.strip()]

    def _parsed(self, name: str, parse: Callable[[str], T], cure: str) -> T:
        text = self.text(name)
        try:
            return parse(text)
        except (ValueError, KeyError, InvalidOperation):
            self.refuse(name, f"{text!r} does not fit.", cure)
            return parse(self._defaults[name])


T = TypeVar("T")


def is_url(text: str, schemes: tuple[str, ...]) -> bool:
    """Whether `text` is an absolute address without a query, which a path can be appended to."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.hostname) and not parts.query and not parts.fragment
