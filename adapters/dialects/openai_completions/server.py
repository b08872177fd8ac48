"""OpenAI's older Completions as our callers speak it: reading requests, writing the gateway's own parts of answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Raw

from adapters.dialects import costs
from adapters.dialects.gateway_fields import read_gateway_fields
from adapters.dialects.json_members import JsonRefused, Members, check_depth, members
from adapters.dialects.openai_chat.server import ANSWERS_MAX, OpenAIChatTelling, StreamOptions
from adapters.dialects.request_members import UNREADABLE, count_between, member, raw_member
from adapters.transport.sse import comment
from domain.catalog import Capability, Dialect
from domain.errors import InvalidRequest
from domain.inference.chat import ChatRequest
from domain.inference.tokens import estimated_prompt_tokens

KEEP_ALIVE: Final = comment("keep-alive")
PASSED_HEADERS: tuple[bytes, ...] = ()
"""Headers of callers that vendors of this dialect are sent."""
PROMPTS_MAX: Final = 2_048
OUTPUT_MAX_UNSAID: Final = 16
"""How much is written where `max_tokens` is absent: what the dialect's documentation says."""
with_cost = costs.with_cost

_WANTED = "a text, a list of texts, a list of tokens or a list of such lists"


def read_request(body: bytes) -> ChatRequest:
    """What the gateway must know of a request; the rest stays in its bytes.  Raises InvalidRequest."""
    try:
        check_depth(body)
        parts = members(body)
    except JsonRefused as refused:
        raise InvalidRequest(f"The body is not a JSON object that can be read: {refused}.") from None
    model = member(parts, "model", str)
    if not model:
        raise InvalidRequest("Name the model to use; GET /v1/models lists them.", param="model")
    prompts, tokens = _prompts(parts)
    streamed = member(parts, "stream", bool) or False
    gateway = read_gateway_fields(parts)
    options = member(parts, "stream_options", StreamOptions)
    written = max(count_between(parts, name, 1, ANSWERS_MAX) or 1 for name in ("n", "best_of"))
    return ChatRequest(
        dialect=Dialect.OPENAI_COMPLETIONS,
        body=body,
        model=model,
        streamed=streamed,
        wants_usage=bool(options and options.include_usage),
        # 0 asks for nothing but the prompt's own log probabilities.
        output_max=count_between(parts, "max_tokens", 0, 1 << 31),
        # The best of several is chosen by the vendor, and all of them are paid for.
        answers=prompts * written,
        prompt_tokens=tokens or estimated_prompt_tokens(body),
        needs=frozenset({Capability.STREAM}) if streamed else frozenset(),
        preferences=gateway.preferences,
        cost_max=gateway.cost_max,
        parameters=gateway.parameters,
        session=gateway.session,
        parsed=parts,
    )


def _prompts(parts: Members) -> tuple[int, int]:
    """How many prompts there are, and how many tokens where they are tokens already; 0 where they are texts."""
    raw = raw_member(parts, "prompt")
    if raw is None:
        raise InvalidRequest("'prompt' must be there: the text that the model goes on with.", param="prompt")
    if raw.startswith(b'"'):
        return 1, 0
    try:
        entries = [bytes(entry)[:1] for entry in msgspec.json.decode(raw, type=list[Raw])]
    except UNREADABLE:
        entries = []
    kinds = set(entries)
    if not entries or len(kinds - _DIGITS) > 1 or (kinds & _DIGITS and kinds - _DIGITS) or not kinds <= _ENTRIES:
        raise InvalidRequest(f"'prompt' must be {_WANTED}.", param="prompt")
    if kinds <= _DIGITS:
        return 1, len(entries)
    if len(entries) > PROMPTS_MAX:
        raise InvalidRequest(f"'prompt' may have at most {PROMPTS_MAX} entries.", param="prompt")
    return len(entries), raw.count(b",") + 1 if kinds == {b"["} else 0


_DIGITS = frozenset(b"%d" % digit for digit in range(10))
_ENTRIES = _DIGITS | {b'"', b"["}


class CompletionsTelling(OpenAIChatTelling):
    """What the gateway itself writes into one stream."""

    __slots__ = ()
    ID_PREFIX = "cmpl"
    OBJECT = "text_completion"
    NOTHING: ClassVar[Mapping[str, Any]] = {"text": "", "logprobs": None}


def telling(request: ChatRequest, request_id: str, created_s: int) -> CompletionsTelling:
    return CompletionsTelling(request, request_id, created_s)
