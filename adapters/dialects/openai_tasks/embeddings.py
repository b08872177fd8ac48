"""POST /v1/embeddings, as OpenAI has it; the SDK asks for base64, which passes through like everything else."""

from __future__ import annotations

from typing import Final

import msgspec

from adapters.dialects.openai_tasks.task import Asked, Fields, Task, count, decoded, nested
from adapters.dialects.request_members import UNREADABLE, raw_member
from domain.catalog import Capability, Dialect
from domain.errors import InvalidRequest
from domain.inference.chat import ChatRequest
from domain.inference.tokens import estimated_tokens
from domain.usage import Usage

INPUTS_MAX: Final = 2_048
_INPUT: Final = msgspec.json.Decoder(str | list[str | int | list[int]])


def _asked(fields: Fields) -> Asked:
    raw = raw_member(fields.members, "input") if fields.members is not None else None
    if raw is None:
        raise InvalidRequest("'input' must be a text, an array of texts, or arrays of tokens.", param="input")
    try:
        value = _INPUT.decode(raw)
    except UNREADABLE:
        raise InvalidRequest("'input' must be a text, an array of texts, or arrays of tokens.", param="input") from None
    if not value:
        raise InvalidRequest("'input' must not be empty.", param="input")
    if isinstance(value, str):
        tokens = estimated_tokens(value.encode("utf-8", "surrogatepass"))
    elif all(isinstance(item, int) for item in value):
        tokens = len(value)
    else:
        if len(value) > INPUTS_MAX:
            raise InvalidRequest(f"'input' may have at most {INPUTS_MAX} entries.", param="input")
        tokens = sum(_tokens(item) for item in value)
    return Asked(ceiling=Usage(input=tokens, requests=1))


def _tokens(item: str | int | list[int]) -> int:
    if isinstance(item, str):
        return estimated_tokens(item.encode("utf-8", "surrogatepass"))
    return len(item) if isinstance(item, list) else 1


def _used(answer: bytes, _request: ChatRequest) -> Usage | None:
    usage = nested(decoded(answer), "usage")
    tokens = count(usage.get("prompt_tokens")) or count(usage.get("total_tokens"))
    return Usage(input=tokens, requests=1) if tokens else None


EMBEDDINGS: Final = Task(
    dialect=Dialect.OPENAI_EMBEDDINGS,
    path="/embeddings",
    needs=Capability.EMBEDDINGS,
    read=_asked,
    used=_used,
    answer_members=("data", "embeddings"),
)
