"""A chat request as the core needs it, in whatever dialect it was written.

The raw body stays with the request: where the vendor speaks the caller's dialect it is passed on byte for byte, save
`model`, the gateway's own fields, and what the vendor needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from domain.catalog import Capability, Dialect
from domain.errors import PaymentRequired
from domain.money import Usd
from domain.routing import NO_PREFERENCES, Preferences
from domain.usage import Usage

SESSION_LENGTH_MAX = 512


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
    preferences: Preferences = NO_PREFERENCES
    cost_max: Usd | None = None
    parameters: frozenset[str] = frozenset()
    """The names of the parameters that were sent, by OpenAI's names where it has one for them."""
    app: str = ""
    """What the caller's program says that it is called."""
    session: str | None = None
    """The conversation's name, where the caller gave one."""
    beginning: Callable[[], bytes] | None = None
    """Reads what all requests of a conversation begin with, the system prompt and the first user message."""
    ceiling: Usage | None = None
    """The most that it can use, where its body alone tells that: embeddings, images, speech.  None for a chat, whose
    length is the model's choice."""
    headers: Mapping[str, str] = {}
    """The caller's headers that a vendor of the same dialect is sent too, by lower-case name."""
    parsed: object = None
    """What the dialect keeps of reading the body, so that writing it out again need not parse it; opaque to others."""


class ChatCall(Struct, frozen=True, kw_only=True):
    """One request made ready for one vendor."""

    request: ChatRequest
    vendor_model: str
    output_limit: int | None = None
    """Set where the limit sent must be lower than what was asked for."""
    first_byte_s: float = 300.0
    conversation: str = ""
    """A keyed hash that all requests of one conversation share; "" where no prompt cache would pay."""
    id: str = ""
    """The request's, for answers to which the vendor gives none."""
    at_s: int = 0
    """When it was made ready, in Unix seconds."""
    output_max: int | None = None
    """The longest answer that the model can give, for dialects in which a limit must be named."""
    headers: Mapping[str, str] = {}
