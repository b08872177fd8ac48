"""What docker-compose.yml may say, after the Compose Specification: its elements and values that this project uses.

An element that is not listed here is a spelling mistake until somebody has looked it up and adds it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Check = Callable[[Any], Iterator[str]]
"""What is wrong with a value, each with the way to it."""

DURATION = r"(\d+(h|m|s|ms|us))+"
VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)(?:(:[-?])([^{}]*))?\}")
"""`${NAME}`, `${NAME:-a default}` and `${NAME:?why it is needed}`."""


def text(pattern: str = r"[\s\S]*") -> Check:
    def check(value: Any) -> Iterator[str]:
        if not isinstance(value, str):
            yield f": {value!r} is no text"
        elif "$" in VARIABLE.sub("", value):
            yield f": {value!r} has a variable that is not understood"
        elif not re.fullmatch(pattern, VARIABLE.sub("1", value)):
            yield f": {value!r} is not {pattern}"

    return check


def kind(expected: type) -> Check:
    def check(value: Any) -> Iterator[str]:
        if type(value) is not expected:
            yield f": {value!r} is no {expected.__name__}"

    return check


def listed(each: Check) -> Check:
    def check(value: Any) -> Iterator[str]:
        if not isinstance(value, list) or not value:
            yield f": {value!r} is no list"
            return
        for at, part in enumerate(value):
            yield from (f"[{at}]{wrong}" for wrong in each(part))

    return check


def mapped(each: Check, *, names: str = r"[A-Za-z0-9._-]+") -> Check:
    def check(value: Any) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f": {value!r} is no mapping"
            return
        for name, part in value.items():
            if not re.fullmatch(names, str(name)):
                yield f".{name}: is no name"
            yield from (f".{name}{wrong}" for wrong in each(part))

    return check


def fields(known: Mapping[str, Check], required: frozenset[str] = frozenset()) -> Check:
    def check(value: Any) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f": {value!r} is no mapping"
            return
        yield from (f".{name}: is missing" for name in sorted(required - value.keys()))
        for name, part in value.items():
            if str(name).startswith("x-"):
                continue
            if name not in known:
                yield f".{name}: is no element of Compose"
            else:
                yield from (f".{name}{wrong}" for wrong in known[name](part))

    return check


def nothing_or(check: Check) -> Check:
    return lambda value: iter(()) if value is None else check(value)


HEALTH_CHECK = fields(
    {
        "test": listed(text()),
        "interval": text(DURATION),
        "timeout": text(DURATION),
        "start_period": text(DURATION),
        "retries": kind(int),
        "disable": kind(bool),
    }
)
WAIT = fields(
    {
        "condition": text("service_started|service_healthy|service_completed_successfully"),
        "restart": kind(bool),
        "required": kind(bool),
    },
    frozenset({"condition"}),
)
SERVICE = fields(
    {
        "build": text(),
        "cap_drop": listed(text(r"[A-Z_]+")),
        "command": listed(text()),
        "depends_on": mapped(WAIT),
        "env_file": text(),
        "environment": mapped(text(), names=r"[A-Z][A-Z0-9_]*"),
        "healthcheck": HEALTH_CHECK,
        "image": text(r"[a-z0-9./_-]+:[\w.-]+"),
        "logging": fields({"driver": text(), "options": mapped(text())}, frozenset({"driver"})),
        "networks": listed(text(r"[a-z0-9_-]+")),
        "ports": listed(text(r"(\d{1,5}:)?\d{1,5}(/(tcp|udp))?")),
        "read_only": kind(bool),
        "restart": text(r"no|always|on-failure(:\d+)?|unless-stopped"),
        "security_opt": listed(text()),
        "shm_size": text(r"\d+[bkmg]"),
        "stop_grace_period": text(DURATION),
        "stop_signal": text(r"SIG[A-Z0-9]+"),
        "tmpfs": listed(text(r"/[\w/]*(:[\w=,]+)?")),
        "user": text(r"\d+:\d+"),
        "volumes": listed(text(r"[\w./-]+:/[\w./-]*(:(ro|rw))?")),
    },
    frozenset({"image"}),
)
NETWORK = fields(
    {"internal": kind(bool), "ipam": fields({"config": listed(fields({"subnet": text()}, frozenset({"subnet"})))})}
)
COMPOSE = fields(
    {
        "name": text(r"[a-z0-9][a-z0-9_-]*"),
        "services": mapped(SERVICE),
        "networks": mapped(nothing_or(NETWORK)),
        "volumes": mapped(nothing_or(fields({"driver": text(), "name": text()}))),
    },
    frozenset({"services"}),
)


def problems(compose: Any) -> list[str]:
    """What is wrong with a parsed Compose file, each as `.services.gateway.command: why`."""
    found = list(COMPOSE(compose))
    return found or list(_dangling(compose))


def _dangling(compose: Mapping[str, Any]) -> Iterator[str]:
    """Names of services, networks and volumes that nothing declares."""
    for name, service in compose["services"].items():
        for other in service.get("depends_on", {}):
            if other not in compose["services"] or other == name:
                yield f".services.{name}.depends_on.{other}: is no other service"
        for network in service.get("networks", ()):
            if network not in compose.get("networks", {}):
                yield f".services.{name}.networks: {network} is not declared"
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if not source.startswith(("./", "/")) and source not in compose.get("volumes", {}):
                yield f".services.{name}.volumes: {source} is not declared"


def filled_in(value: Any, variables: Mapping[str, str]) -> Any:
    """The value with its variables replaced as Compose does it.  Raises KeyError with the reason of a missing one."""
    match value:
        case str():

            def replaced(found: re.Match[str]) -> str:
                name, operator, rest = found.groups()
                given = variables.get(name)
                if given or (given is not None and operator is None):
                    return given
                if operator == ":-":
                    return str(rest)
                raise KeyError(f"{name}: {rest}")

            return VARIABLE.sub(replaced, value)
        case list():
            return [filled_in(part, variables) for part in value]
        case dict():
            return {name: filled_in(part, variables) for name, part in value.items()}
        case _:
            return value
