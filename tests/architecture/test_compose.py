"""The shipped installation is closed by default: nothing runs as root, and one port leads in."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.architecture.compose_shape import problems

PROJECT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
NGINX = (PROJECT / "deploy" / "nginx.conf").read_text()
DOCKERFILE = (PROJECT / "Dockerfile").read_text()

OURS = {
    "migrate": ["gatewayz", "migrate"],
    "gateway": ["gatewayz", "serve"],
    "worker": ["gatewayz", "worker"],
}
SECRETS = re.compile(r"PASSWORD|SECRET|AUTH")


class WithoutAnchors(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True


every_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


def instructions(word: str) -> list[str]:
    """The Dockerfile's lines of one kind, continuation lines joined."""
    joined = re.sub(r"\s*\\\n\s*", " ", DOCKERFILE)
    return [line.partition(" ")[2] for line in joined.splitlines() if line.startswith(f"{word} ")]


def has_health_check(service: dict[str, Any]) -> bool:
    check = service.get("healthcheck", {})
    return not check.get("disable") and ("test" in check or "build" in service)


def test_it_says_nothing_that_compose_does_not_know():
    assert problems(COMPOSE) == []


@pytest.mark.parametrize(
    ("way", "value"),
    [
        (("services", "gateway", "comand"), ["gatewayz"]),
        (("services", "gateway", "command"), "gatewayz serve"),
        (("services", "gateway", "stop_grace_period"), 45),
        (("services", "gateway", "environment", "PORT"), 8000),
        (("services", "gateway", "environment", "PUBLIC_URL"), "${PUBLIC_URL?:wrong"),
        (("services", "gateway", "depends_on", "redis", "condition"), "healthy"),
        (("services", "gateway", "depends_on", "memcached"), {"condition": "service_started"}),
        (("services", "gateway", "networks"), ["front", "back"]),
        (("services", "gateway", "volumes"), ["elsewhere:/app/var"]),
        (("services", "redis", "healthcheck", "retries"), "12"),
        (("services", "redis", "restart"), False),
        (("services", "nginx", "ports"), ["8000-80"]),
        (("services", "nginx", "read_only"), "yes"),
        (("networks", "storage", "internal"), "true"),
        (("services", "gateway", "tmpfs"), ["tmp"]),
        (("service",), {}),
    ],
)
def test_what_compose_would_refuse_is_seen(way, value):
    # The parser shares what the file's anchors share; a copy by way of text does not.
    changed = yaml.safe_load(yaml.dump(COMPOSE, Dumper=WithoutAnchors))
    *path, last = way
    place = changed
    for name in path:
        place = place[name]
    place[last] = value
    assert len(problems(changed)) == 1


def test_it_is_the_whole_installation():
    assert SERVICES.keys() == {"migrate", "gateway", "worker", "postgres", "redis", "nginx"}


@pytest.mark.parametrize("name", OURS)
def test_our_services_run_the_commands_that_the_gateway_has(name):
    assert SERVICES[name]["command"] == OURS[name]


@every_service
def test_a_service_runs_as_somebody_other_than_root(service):
    user, _, group = service["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0


@every_service
def test_a_service_can_neither_gain_rights_nor_change_its_image(service):
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"cap_add", "privileged", "network_mode", "pid"}.isdisjoint(service)


def test_only_the_front_proxy_publishes_a_port():
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["nginx"]


def test_the_stores_have_no_way_out():
    assert COMPOSE["networks"]["storage"]["internal"] is True
    assert SERVICES["postgres"]["networks"] == SERVICES["redis"]["networks"] == ["storage"]


def test_the_front_proxy_does_not_reach_the_stores():
    assert SERVICES["nginx"]["networks"] == ["front"]


def test_the_gateway_believes_forwarded_addresses_from_the_front_network_alone():
    subnets = [entry["subnet"] for entry in COMPOSE["networks"]["front"]["ipam"]["config"]]
    assert SERVICES["gateway"]["environment"]["TRUSTED_PROXIES"] in subnets
    assert len(subnets) == 1


@every_service
def test_an_image_is_our_own_or_names_its_version(service):
    assert "build" in service or re.fullmatch(r"[a-z/]+:\d[\w.-]*", service["image"])


@every_service
def test_a_secret_has_no_default(service):
    environment = service.get("environment", {})
    secrets = {name: value for name, value in environment.items() if SECRETS.search(f"{name} {value}")}
    assert [name for name, value in secrets.items() if not re.search(r"\$\{[A-Z_]+:\?.+\}", value)] == []
    assert [name for name, value in secrets.items() if re.search(r"\$\{[A-Z_]*(PASSWORD|SECRETS)(:?-|\})", value)] == []


@every_service
def test_whoever_is_waited_for_says_when_it_is_ready(service):
    for name, wait in service.get("depends_on", {}).items():
        if wait["condition"] == "service_healthy":
            assert has_health_check(SERVICES[name]), name
        else:
            assert wait["condition"] == "service_completed_successfully"
            assert SERVICES[name]["restart"] == "no"


@pytest.mark.parametrize("name", ["gateway", "worker"])
def test_nothing_starts_on_an_old_schema(name):
    assert SERVICES[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


@every_service
def test_what_is_mounted_exists(service):
    for volume in service.get("volumes", ()):
        source = volume.partition(":")[0]
        assert (PROJECT / source).is_file() if source.startswith("./") else source in COMPOSE["volumes"]


def test_the_front_proxy_passes_on_to_the_gateway():
    port = SERVICES["gateway"]["environment"]["PORT"]
    assert f"server gateway:{port} " in NGINX
    assert f"reverse_proxy gateway:{port} " in (PROJECT / "deploy" / "Caddyfile").read_text()
    assert SERVICES["nginx"]["ports"] == ["${PORT:-8000}:8080"]
    assert "listen 8080;" in NGINX


@pytest.mark.parametrize(
    "directive",
    [
        "client_header_timeout 10s;",
        "client_body_timeout 10s;",
        "large_client_header_buffers 4 32k;",
        "client_max_body_size 33m;",
        "proxy_buffering off;",
        "proxy_http_version 1.1;",
        "proxy_read_timeout 3600s;",
        "proxy_set_header X-Forwarded-For $remote_addr;",
    ],
)
def test_the_front_proxy_keeps_slow_and_oversized_requests_out_and_streams_flowing(directive):
    assert directive in [line.strip() for line in NGINX.splitlines()]


def test_the_image_runs_as_the_user_that_compose_names():
    assert instructions("USER") == [SERVICES["gateway"]["user"]]


def test_the_image_installs_only_what_is_hashed():
    installs = re.findall(r"pip install [^&]*", " ".join(instructions("RUN")))
    assert installs
    assert [line for line in installs if not ("--require-hashes" in line or "--no-index" in line)] == []


def test_the_image_serves_and_reports_its_health():
    assert instructions("CMD") == ['["gatewayz", "serve"]']
    assert len(instructions("HEALTHCHECK")) == 1
    assert "'/health'" in instructions("HEALTHCHECK")[0]
