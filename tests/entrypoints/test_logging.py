"""What is logged can be read by programs, and by nobody who looks for secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from msgspec import Struct

from entrypoints.logging import Redaction, configure_logging
from tests.fakes.shell import own_logging

CONFIGURED = frozenset({"configured-canary-1", "canary.with(regex)*", "short"})
CANARIES = {
    "our key": "gw_live_canaryAAAAAAAAAAAAAAAAAAAAAAAA",
    "a test key": "gw_test_canaryBBBBBBBBBBBB",
    "a bearer token": "Bearer canary.jwt.token",
    "a basic login": "Basic Y2FuYXJ5OmNhbmFyeQcanary",
    "a vendor's key": "sk-proj-canary_0123456789",
    "a payment key": "sk_live_canary0123456789",
    "a webhook secret": "whsec_canary0123456789",
    "a key in an address": "GET /v1/models?alt=sse&key=canary HTTP/1.1",
    "a password in an address": "postgresql://user:canary@host/db",
    "a configured secret": "configured-canary-1",
    "a configured secret of odd characters": "canary.with(regex)*",
}


class Log:
    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def log() -> Iterator[Log]:
    written = Log()
    with own_logging():
        configure_logging("info", CONFIGURED, written.stream)
        yield written


def test_an_event_is_one_line_of_json(log):
    structlog.get_logger("shop").info("sold\nout", cents=5, at=None)
    (event,) = log.events
    assert event["event"] == "sold\nout"
    assert event["cents"] == 5
    assert event["level"] == "info"
    assert event["logger"] == "shop"
    assert str(event["timestamp"]).endswith("Z")


def test_what_is_less_than_the_level_is_not_written(log):
    structlog.get_logger("shop").debug("whispered")
    logging.getLogger("shop").debug("whispered")
    assert log.text == ""


class Holder(Struct):
    inside: str


@pytest.mark.parametrize("planted", CANARIES.values(), ids=CANARIES)
def test_no_secret_is_written_from_anywhere(log, planted):
    logger, old = structlog.get_logger("shop"), logging.getLogger("old.library")
    logger.info(f"event {planted}")
    logger.info("field", address=planted, **{"x-odd name": planted})
    logger.info("deep", wrapped={"list": [1, (planted, {"more": {planted}})], "bytes": planted.encode()})
    logger.info("object", holder=Holder(planted), kind=ValueError(planted))
    logger.bind(address=planted).warning("bound")
    old.warning("formatted %s and %r", planted, planted)
    logging.getLogger("uvicorn.access").info('"%s"', planted)
    try:
        raise RuntimeError(f"inner {planted}")
    except RuntimeError:
        logger.exception("failed")
        old.exception("failed")
    with structlog.contextvars.bound_contextvars(address=planted):
        logger.info("in context")
    assert len(log.events) == 10
    assert "canary" not in log.text


@pytest.mark.parametrize(
    "name",
    ["password", "api_key", "apikey", "API-Key", "x-api-key", "Authorization", "cookie", "set-cookie",
     "access_token", "token", "stripe_secret", "secret", "secrets", "credential", "client_credentials"],
)  # fmt: skip
def test_a_field_named_like_a_secret_is_hidden_whatever_it_looks_like(log, name):
    structlog.get_logger("shop").info("sign in", **{name: "plain"}, inner={name: ["plain"]})
    assert "plain" not in log.text
    assert log.events[0][name] == "***"


@pytest.mark.parametrize("name", ["body", "messages", "prompt", "content", "input", "output"])
def test_what_people_say_to_models_is_not_written(log, name):
    structlog.get_logger("shop").info("request", **{name: [{"role": "user", "content": "my diary"}]})
    assert "diary" not in log.text


def test_what_is_no_secret_stays_readable(log):
    fields = {
        "max_tokens": 5, "prompt_tokens": 7, "key_id": "018f", "token": None, "secret": True,
        "model": "acme/gpt-5-mini", "path": "/v1/chat/completions", "skill": "sk-8", "short": "short",
    }  # fmt: skip
    structlog.get_logger("shop").info("request", **fields)
    assert {name: log.events[0][name] for name in fields} == fields


def test_the_kind_of_a_secret_may_be_seen():
    redaction = Redaction()
    assert redaction.text("with gw_live_abcdefgh now") == "with gw_live_*** now"
    assert redaction.text("a://u:p@h") == "a://u:***@h"


def test_a_secret_inside_a_longer_one_does_not_uncover_it():
    assert Redaction({"secret-one", "secret-one-and-more"}).text("<secret-one-and-more>") == "<***>"


@pytest.mark.parametrize(
    "odd", ["\udc80", "\x00", 10**30, float("nan"), object(), {1: {2: {3: {4: {5: {6: {7: {}}}}}}}}, b"\xff"]
)
def test_nothing_odd_stops_the_log(log, odd):
    structlog.get_logger("shop").info("odd", odd=odd)
    assert log.events[0]["event"] == "odd"


def test_a_person_at_a_terminal_reads_plain_lines():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    with own_logging():
        configure_logging("info", CONFIGURED, terminal)
        structlog.get_logger("shop").info("sold", secret="plain", item="configured-canary-1")
    assert "sold" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")
    assert "plain" not in terminal.getvalue()
    assert "canary" not in terminal.getvalue()
