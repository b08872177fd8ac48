"""A chat request as the core needs it, in whatever dialect it was written.

The raw body stays with the request: where the vendor speaks the caller's dialect it is passed on byte for byte, save
`model`, the gateway's own fields, and what the vendor needs.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from domain.catalog import Capability, Dialect
from domain.errors import PaymentRequired
from domain.money import Usd
from domain.routing import Preferences


class MaxCostExceeded(PaymentRequired):
    code = "max_cost_exceeded"


class ChatRequest(Struct, frozen=True, kw_only=True):
    """What admission, routing and metering need to know; dialects fill it."""

    dialect: Dialect
    body: bytes
    """Exactly as it was received."""
    model: str
    streamed: bool
    wants_usage: bool
    """A stream whose caller asked for its usage."""
    output_max: int | None
    """The caller's own limit."""
    answers: int = 1
    """How many answers were asked for (OpenAI's `n`)."""
    prompt_tokens: int
    """An estimate."""
    needs: frozenset[Capability] = frozenset()
    preferences: Preferences = Preferences()
    cost_max: Usd | None = None
    session: str | None = None
    parsed: object = None
    """What the dialect keeps of reading the body, so that writing it out again need not parse it; opaque to others."""


class ChatCall(Struct, frozen=True, kw_only=True):
    """One request made ready for one vendor."""

    request: ChatRequest
    vendor_model: str
    output_limit: int | None = None
    """Set where the limit sent must be lower than what was asked for."""
    first_byte_s: float = 300.0
    id: str = ""
    """The request's, for answers to which the vendor gives none."""
    at_s: int = 0
    """When it was made ready, in Unix seconds."""
    output_max: int | None = None
    """The longest answer that the model can give, for dialects in which a limit must be named."""
    headers: Mapping[str, str] = {}
