"""What an operator can set, what stops the start, and that no secret is printed."""

from __future__ import annotations

import re
import stat
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from adapters.vendors.register import OPENAI_COMPATIBLE
from domain.limits import LimitSet
from entrypoints import clouds
from entrypoints.environment import SettingsError, read_env_file
from entrypoints.settings import (
    DEFAULTS,
    NO_KEY,
    Environment,
    HoldPolicy,
    Settings,
    Wire,
    kept_secrets,
    load_settings,
    read_settings,
    without_password,
)
from entrypoints.vendors import VENDOR_NAMES

PROJECT = Path(__file__).parents[2]
REGISTER = {"acme": (), "deep-mind": ("DM_TOKEN", "OLD_DM_TOKEN")}
PEPPER = f"v1:{b64encode(bytes(range(32))).decode()}"
GOOD = {"GATEWAYZ_SECRETS": PEPPER}
PRODUCTION = {**GOOD, "GATEWAYZ_ENV": "production"}
ADMIN_KEY = "gw_live_Zm9vYmFyYmF6cXV4MDEyMzQ1Njc4OWFiY2RlZg"


def settings(**environ: str) -> Settings:
    return read_settings({**GOOD, **environ}, REGISTER)


def problems(environ: dict[str, str]) -> dict[str, str]:
    with pytest.raises(SettingsError) as refusal:
        read_settings(environ, REGISTER)
    assert all(problem.what and problem.cure for problem in refusal.value.problems)
    return {problem.name: str(problem) for problem in refusal.value.problems}


# Values


def test_nothing_set_is_a_development_gateway_on_this_machine():
    read = settings()
    assert read.environment is Environment.DEVELOPMENT
    assert not read.production
    assert read.storage.embedded
    assert read.storage.redis_url is None
    assert read.server.base_url == "http://127.0.0.1:8000"
    assert read.inference.hold_policy is HoldPolicy.ESTIMATE
    assert read.inference.markup_ppm == 1_000_000
    assert read.limits.accounts == LimitSet()
    assert read.vendors == {}
    assert read.further_vendors == ()


def test_values_are_read():
    read = settings(
        HOST="0.0.0.0",
        PORT="9000",
        GATEWAYZ_HOLD_POLICY="STRICT",
        GATEWAYZ_HOLD_LEASE_SECONDS="600",
        GATEWAYZ_MARKUP="1.25",
        GATEWAYZ_LOG_REQUESTS="on",
        GATEWAYZ_LIMIT_BURST="7",
        TRUSTED_PROXIES="10.0.0.0/8, 192.0.2.1",
        CORS_ORIGINS="https://app.example.com,http://localhost:3000",
        PUBLIC_URL="https://gateway.example/",
        REDIS_URL="rediss://:pw@redis:6380/1",
    )
    assert read.server.port == 9000
    assert read.inference.hold_policy is HoldPolicy.STRICT
    assert read.inference.hold_lease.total_seconds() == 600
    assert read.inference.markup_ppm == 1_250_000
    assert read.logging.requests
    assert read.limits.accounts.burst == 7
    assert [str(network) for network in read.server.trusted_proxies] == ["10.0.0.0/8", "192.0.2.1/32"]
    assert read.server.cors_origins == ("https://app.example.com", "http://localhost:3000")
    assert read.server.base_url == "https://gateway.example"
    assert read.top_up_url == "https://gateway.example/credits"


def test_an_empty_variable_is_an_unset_one():
    assert settings(PORT="", REDIS_URL=" ", GATEWAYZ_VENDORS="") == settings()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("postgres://u:p@h/d", "postgresql+asyncpg://u:p@h/d"),
        ("postgresql://u:p@h/d?sslmode=require", "postgresql+asyncpg://u:p@h/d?ssl=require"),
        ("postgresql+asyncpg://u@h/d", "postgresql+asyncpg://u@h/d"),
        ("sqlite:///./x.db", "sqlite+aiosqlite:///./x.db"),
    ],
)
def test_database_addresses_are_taken_as_platforms_hand_them_out(given, read):
    assert settings(DATABASE_URL=given).storage.database_url == read


@pytest.mark.parametrize(
    ("host", "base"),
    [("0.0.0.0", "http://127.0.0.1:8000"), ("::", "http://127.0.0.1:8000"), ("::1", "http://[::1]:8000")],
)
def test_the_address_to_print_can_be_opened(host, base):
    assert settings(HOST=host).server.base_url == base


# Vendors


def test_a_vendor_without_a_key_is_off():
    assert settings(ACME_BASE_URL="https://acme.example").vendors == {}
    read = settings(ACME_API_KEY="acme-key", ACME_BASE_URL="https://acme.example/v1/").vendors["acme"]
    assert read.api_key.text == "acme-key"
    assert read.base_url == "https://acme.example/v1"


@pytest.mark.parametrize("name", ["DEEP_MIND_API_KEY", "DM_TOKEN", "OLD_DM_TOKEN"])
def test_a_vendors_key_has_its_other_names_too(name):
    assert settings(**{name: "key"}).vendors["deep-mind"].api_key.text == "key"


def test_a_vendor_that_needs_no_key_is_on_by_its_address():
    register = {"local": (NO_KEY,)}
    read = read_settings({**GOOD, "LOCAL_BASE_URL": "http://127.0.0.1:9/v1"}, register).vendors["local"]
    assert (read.api_key.text, read.base_url) == ("", "http://127.0.0.1:9/v1")
    assert read_settings(GOOD, register).vendors == {}
    assert read_settings({**GOOD, "LOCAL_API_KEY": "k"}, register).vendors["local"].api_key.text == "k"


@pytest.mark.parametrize(
    ("name", "slug"),
    [("HF_TOKEN", "huggingface"), ("HUG_API_KEY", "huggingface"), ("NEARAI_API_KEY", "near"), ("XAI_API_KEY", "xai")],
)
def test_the_keys_that_people_have_set_already_are_found(name, slug):
    assert read_settings({**GOOD, name: "key"}, VENDOR_NAMES).vendors[slug].api_key.text == "key"


def test_further_vendors_are_described():
    read = settings(
        GATEWAYZ_VENDORS='[{"slug":"local","base_url":"http://127.0.0.1:11434/v1/","wire":"openai"},'
        '{"slug":"x","base_url":"https://x.example","wire":"anthropic","api_key":"xk","models":["a","b"]}]'
    )
    local, other = read.further_vendors
    assert (local.slug, local.base_url, local.wire) == ("local", "http://127.0.0.1:11434/v1", Wire.OPENAI)
    assert local.api_key is None
    assert other.api_key is not None
    assert other.api_key.text == "xk"
    assert other.models == ("a", "b")


def vendor(**changed: object) -> str:
    return msgspec.json.encode([{"slug": "x", "base_url": "https://x.example", "wire": "openai"} | changed]).decode()


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "{}",
        "[1]",
        vendor(colour="red"),
        vendor(wire="telepathy"),
        vendor(slug="Local"),
        vendor(slug="a_b"),
        vendor(slug=""),
        vendor(slug="-a"),
        vendor(slug="acme"),
        vendor(base_url="ftp://x.example"),
        vendor(base_url="x.example"),
        vendor(base_url="https://x.example?key=1"),
        vendor(models=[""]),
        '[{"slug":"x","base_url":"https://x.example"}]',
        vendor()[:-1] + "," + vendor()[1:],
    ],
)
def test_a_vendor_badly_described_stops_the_start(text):
    assert list(problems({**GOOD, "GATEWAYZ_VENDORS": text})) == ["GATEWAYZ_VENDORS"]


# Refusals


def test_a_misspelt_name_is_told_the_nearest_right_one():
    told = problems({**GOOD, "GATEWAYZ_HOLD_POLCY": "strict"})
    assert "Did you mean GATEWAYZ_HOLD_POLICY?" in told["GATEWAYZ_HOLD_POLCY"]


def test_names_of_others_are_none_of_our_business():
    settings(PATH="/bin", HOME="/", GATEWAY_X="1", gatewayz_y="1")


def test_the_key_that_callers_keep_in_their_shell_is_no_misspelt_setting():
    settings(GATEWAYZ_API_KEY="gw_live_of-a-caller")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAYZ_ENV", "prod"),
        ("PORT", "http"),
        ("PORT", "70000"),
        ("GATEWAYZ_WORKERS", "0"),
        ("GATEWAYZ_HOLD_POLICY", "generous"),
        ("GATEWAYZ_MARKUP", "0"),
        ("GATEWAYZ_MARKUP", "-1"),
        ("GATEWAYZ_MARKUP", "1.2345678"),
        ("GATEWAYZ_MARKUP", "NaN"),
        ("GATEWAYZ_MARKUP", "Infinity"),
        ("GATEWAYZ_MARKUP", "a lot"),
        ("GATEWAYZ_LOG_REQUESTS", "maybe"),
        ("GATEWAYZ_LIMIT_BURST", "0"),
        ("TRUSTED_PROXIES", "proxy"),
        ("TRUSTED_PROXIES", "10.0.0.0/99"),
        ("CORS_ORIGINS", "app.example.com"),
        ("CORS_ORIGINS", "https://app.example.com/path"),
        ("PUBLIC_URL", "gateway.example"),
        ("PUBLIC_URL", "https://host:port"),
        ("DATABASE_URL", "mysql://u@h/d"),
        ("DATABASE_URL", "sqlite+aiosqlite://x"),
        ("REDIS_URL", "http://redis"),
        ("ADMIN_EMAIL", "admin"),
        ("ADMIN_API_KEY", "two words"),
        ("ADMIN_API_KEY", "schlüssel"),
        ("ADMIN_API_KEY", "k" * 600),
        ("GATEWAYZ_SECRETS", "no-colon"),
        ("GATEWAYZ_SECRETS", "v1:not base64!"),
        ("GATEWAYZ_SECRETS", "v1:"),
        ("GATEWAYZ_SECRETS", f"{PEPPER},{PEPPER}"),
        ("GATEWAYZ_SECRETS", f"{PEPPER},"),
        ("GATEWAYZ_HEARTBEAT_SECONDS", "300"),
    ],
)
def test_a_value_that_does_not_fit_stops_the_start(name, value):
    environ = {**GOOD, name: value} | ({"GATEWAYZ_HOLD_LEASE_SECONDS": "300"} if "HEARTBEAT" in name else {})
    assert list(problems(environ)) == [name]


def test_all_problems_are_told_at_once():
    assert problems({"PORT": "x", "REDIS_URL": "y", "GATEWAYZ_ODD": "1"}).keys() == {
        "PORT", "REDIS_URL", "GATEWAYZ_ODD", "GATEWAYZ_SECRETS",
    }  # fmt: skip


# Production


def test_a_serious_gateway_starts():
    read = read_settings({**PRODUCTION, "ADMIN_API_KEY": ADMIN_KEY, "PUBLIC_URL": "https://g.example"}, REGISTER)
    assert read.production


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAYZ_SECRETS", ""),
        ("GATEWAYZ_SECRETS", f"v1:{b64encode(b'short').decode()}"),
        ("GATEWAYZ_SECRETS", f"v1:{b64encode(b'a' * 32).decode()}"),
        ("GATEWAYZ_SECRETS", f"v1:{b64encode(bytes(31)).decode()}"),
        ("GATEWAYZ_SECRETS", f"{PEPPER},v0:{b64encode(b'changeme').decode()}"),
        ("ADMIN_API_KEY", "admin"),
        ("ADMIN_API_KEY", "changeme"),
        ("ADMIN_API_KEY", "a" * 40),
        ("ADMIN_API_KEY", "ababababababababababababababab"),
        ("ADMIN_API_KEY", "please-change-me-0123456789abcdef"),
        ("ADMIN_API_KEY", "gw_live_your-key-goes-here-0123456"),
        ("ADMIN_API_KEY", "gw_live_placeholder_0123456789abc"),
        ("ADMIN_API_KEY", "sk-example-0123456789-abcdefghijk"),
        ("PUBLIC_URL", "http://gateway.example"),
        ("PUBLIC_URL", "http://localhost"),
    ],
)
def test_production_refuses_what_development_lets_pass(name, value):
    assert list(problems({**PRODUCTION, name: value})) == [name]
    if value:
        read_settings({**GOOD, "GATEWAYZ_ENV": "development", name: value}, REGISTER)


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_only_development_makes_its_own_secrets(tmp_path, environment):
    with pytest.raises(SettingsError, match="GATEWAYZ_SECRETS: is missing"):
        load_settings(REGISTER, {"GATEWAYZ_ENV": environment}, directory=tmp_path)
    assert list(tmp_path.iterdir()) == []


# Secrets


def test_secrets_are_made_once_and_kept(tmp_path):
    first = load_settings(REGISTER, {}, directory=tmp_path)
    again = load_settings(REGISTER, {}, directory=tmp_path)
    assert first.peppers == again.peppers
    assert len(first.peppers.by_id["v1"]) == 32
    path = tmp_path / "var" / "secrets"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["secrets"]


def test_two_first_starts_agree_on_one_secret(tmp_path):
    path = tmp_path / "var" / "secrets"
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(kept_secrets, [path] * 64))) == 1


def test_kept_secrets_that_cannot_be_read_are_never_made_anew(tmp_path):
    path = tmp_path / "var" / "secrets"
    path.parent.mkdir()
    for text in ("", "garbage"):
        path.write_text(text)
        with pytest.raises(SettingsError, match="GATEWAYZ_SECRETS"):
            load_settings(REGISTER, {}, directory=tmp_path)
        assert path.read_text() == text


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "var").write_text("a file where the folder belongs")
    with pytest.raises(SettingsError, match="GATEWAYZ_SECRETS"):
        load_settings(REGISTER, {}, directory=tmp_path)


SECRETS = {
    "ADMIN_API_KEY": "gw_live_canary-admin",
    "ACME_API_KEY": "canary-vendor",
    "GATEWAYZ_VENDORS": vendor(api_key="canary-further"),
    "DATABASE_URL": "postgresql+asyncpg://u:canary%2Ddatabase@h/d",
    "REDIS_URL": "redis://:canary-redis@h",
    "STRIPE_SECRET_KEY": "sk_test_canary",
    "STRIPE_WEBHOOK_SECRET": "whsec_canary",
    "RESEND_API_KEY": "canary-resend",
    "SMTP_URL": "smtp://u:canary-smtp@h",
    "POSTHOG_API_KEY": "canary-posthog",
    "STATSIG_SERVER_SECRET_KEY": "canary-statsig",
    "GATEWAYZ_SECRETS": f"v1:{b64encode(b'canary' * 6).decode()}",
}


def test_printing_the_settings_shows_no_secret():
    read = settings(**SECRETS)
    for printed in (repr(read), str(read), f"{read}", repr([read])):
        assert "canary" not in printed
        assert b64encode(b"canary").decode() not in printed
    assert "postgresql+asyncpg://u:***@h/d" in repr(read)


def test_every_secret_is_known_to_whoever_must_hide_it():
    hidden = settings(**SECRETS).secret_texts()
    assert {
        "gw_live_canary-admin", "canary-vendor", "canary-further", "canary%2Ddatabase", "canary-database",
        "canary-redis", "sk_test_canary", "whsec_canary", "canary-resend", "smtp://u:canary-smtp@h",
        "canary-posthog", "canary-statsig", b64encode(b"canary" * 6).decode(),
    } == hidden  # fmt: skip


def test_a_refusal_shows_no_secret():
    environ = {**SECRETS, "ADMIN_API_KEY": "gw_live_canary and more", "DATABASE_URL": "mysql://u:canary@h", "PORT": "x"}
    told = "\n".join(problems(environ).values())
    assert "canary" not in told


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:pw@h/0", "redis://:***@h/0"),
        ("postgresql://u:p:w@h/d", "postgresql://u:***@h/d"),
        ("sqlite:///./var/x.db", "sqlite:///./var/x.db"),
        ("redis://u:p/w@d@h/0", "redis://u:***@h/0"),
        ("http://h:80/path", "http://h:80/path"),
    ],
)
def test_a_password_in_an_address_is_masked(url, shown):
    assert without_password(url) == shown


# The .env file


def test_the_env_file_gives_way_to_the_environment(tmp_path):
    (tmp_path / ".env").write_text(f"PORT=9001\nHOST=0.0.0.0\nGATEWAYZ_SECRETS={PEPPER}\n")
    read = load_settings(REGISTER, {"PORT": "9002"}, directory=tmp_path)
    assert (read.server.host, read.server.port) == ("0.0.0.0", 9002)
    assert not (tmp_path / "var").exists()


def test_the_env_file_is_read_as_shells_do(tmp_path):
    file = tmp_path / ".env"
    file.write_text(
        "# a comment\n\n  export A=1\nB = two words # not this\nC=\"#quoted\" # that\nD='$A'\nE=a#b\nF=\nG='open\n"
    )
    assert read_env_file(file) == {
        "A": "1", "B": "two words", "C": "#quoted", "D": "$A", "E": "a#b", "F": "", "G": "'open",
    }  # fmt: skip


def test_a_line_that_says_nothing_stops_the_start_without_being_shown(tmp_path):
    file = tmp_path / ".env"
    file.write_text("A=1\ncanary-secret\n")
    with pytest.raises(SettingsError, match=r"\.env, line 2") as refusal:
        read_env_file(file)
    assert "canary" not in str(refusal.value)


def test_no_env_file_is_none():
    assert read_env_file(Path("/nonexistent/.env")) == {}


# The example


def documented() -> dict[str, str]:
    """The variables of .env.example, each under a line that says what it means."""
    found, meaning = {}, ""
    for line in (PROJECT / ".env.example").read_text().splitlines():
        if match := re.fullmatch(r"#? ?([A-Z][A-Z0-9_]*)=(.*)", line):
            assert meaning, f"{match[1]} is not explained"
            found[match[1]] = match[2]
        meaning = line[2:] if line.startswith("# ") else meaning if line else ""
    return found


def test_the_example_lists_every_variable_with_its_default():
    assert {name: value for name, value in documented().items() if name in DEFAULTS} == DEFAULTS


def test_the_example_lists_every_vendor_that_ships_with_the_product():
    prefixes = [vendor.slug.upper().replace("-", "_") for vendor in OPENAI_COMPATIBLE]
    assert [prefix for prefix in prefixes if f"{prefix}_API_KEY" not in documented()] == []


def test_the_example_lists_nothing_that_cannot_be_set():
    others = [name for name in documented() if name not in DEFAULTS and name not in clouds.NAMES]
    assert [name for name in others if not re.fullmatch(r"[A-Z0-9_]+_(API_KEY|BASE_URL|TOKEN)", name)] == []


@pytest.mark.parametrize("name", DEFAULTS)
def test_every_variable_has_an_effect(name):
    told: object = settings()
    with suppress(SettingsError):
        assert settings(**{name: "canary"}) != told
        return
    assert list(problems({**GOOD, name: "canary"})) == [name]
