"""One log line per event, as JSON (or plain where a person is watching), that holds no secret and no prompt.

Everything passes one redaction just before it is written, exceptions and other libraries' records included:
the name of a field, the look of a text, and the configured secrets themselves each suffice to hide it.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Collection, Mapping
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

HIDDEN: Final = "***"
NOT_LOGGED: Final = "(not logged)"
SECRET_LENGTH_MIN = 6
"""A shorter text would turn up in innocent words."""
DEPTH_MAX = 6

SECRET_NAMES = re.compile(
    r"(?:^|[_-])(?:secrets?|passwords?|passwd|token|authorization|api[_-]?keys?|cookie|pepper|credentials?)$",
    re.IGNORECASE,
)
CONTENT_NAMES: Final = frozenset(
    {"body", "prompt", "messages", "content", "completion", "input", "output", "answer", "text"}
)
LOOKS_SECRET = re.compile(
    r"""
    (?P<ours>gw_[a-z]+_)[A-Za-z0-9_-]{6,}               # our own keys
    | (?P<scheme>\b(?:Bearer|Basic)\s+)[^\s"',;]+          # credentials in headers
    | (?P<query>[?&]key=)[^&\s"']+                          # credentials in addresses
    | (?P<user>://[^/\s:@]*:)[^@\s/]+(?=@)                  # passwords in addresses
    | \b(?P<vendor>sk-|sk_live_|sk_test_|rk_live_|rk_test_|whsec_|xai-|gsk_|hf_|AIza)[A-Za-z0-9_-]{8,}
    """,
    re.VERBOSE,
)


def configure_logging(level: str, secrets: Collection[str] = (), stream: TextIO | None = None) -> None:
    """Send this process's log, from structlog and the standard library alike, to `stream`, else stderr."""
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            Redaction(secrets),
            _renderer(stream),
        ],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("alembic").setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        # The server brings handlers of its own, which would write past the redaction.
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _renderer(stream: TextIO) -> Processor:
    if stream.isatty():
        return structlog.dev.ConsoleRenderer(colors="NO_COLOR" not in os.environ)
    return structlog.processors.JSONRenderer()


class Redaction:
    """Hides secrets and contents in an event, whatever it consists of; what comes out is plain data."""

    def __init__(self, secrets: Collection[str] = ()) -> None:
        longest_first = sorted({text for text in secrets if len(text) >= SECRET_LENGTH_MIN}, key=len, reverse=True)
        self._configured = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {str(name): self._field(str(name), value, 0) for name, value in event.items()}

    def text(self, text: str) -> str:
        """The text without its secrets."""
        if self._configured:
            text = self._configured.sub(HIDDEN, text)
        return LOOKS_SECRET.sub(_kept_prefix, text)

    def _field(self, name: str, value: object, depth: int) -> object:
        if name.lower() in CONTENT_NAMES:
            return NOT_LOGGED
        if SECRET_NAMES.search(name) and value is not None and not isinstance(value, bool | int):
            return HIDDEN
        return self._value(value, depth)

    def _value(self, value: object, depth: int) -> object:
        match value:
            case None | bool() | int() | float():
                return value
            case str():
                return self.text(value)
            case _ if depth >= DEPTH_MAX:
                return self.text(repr(value))
            case Mapping():
                return {str(name): self._field(str(name), part, depth + 1) for name, part in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self._value(part, depth + 1) for part in value]
            case bytes():
                return self.text(value.decode("utf-8", "replace"))
            case _:
                return self.text(repr(value))


def _kept_prefix(match: re.Match[str]) -> str:
    """What kind of secret it was may be seen."""
    return f"{next(filter(None, match.groups()), '')}{HIDDEN}"
