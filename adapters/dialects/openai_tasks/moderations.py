"""POST /v1/moderations, as OpenAI has it.  Most vendors give it away; then its price is declared free."""

from __future__ import annotations

from typing import Final

from adapters.dialects.openai_tasks.task import Asked, Fields, Task, count, decoded, nested
from adapters.dialects.request_members import raw_member
from domain.catalog import Capability, Dialect
from domain.errors import InvalidRequest
from domain.inference.chat import ChatRequest
from domain.inference.tokens import estimated_prompt_tokens
from domain.usage import Usage


def _asked(fields: Fields) -> Asked:
    raw = raw_member(fields.members, "input") if fields.members is not None else None
    if raw is None or raw[:1] not in b'"[':
        raise InvalidRequest("'input' must be a text or an array of texts and images.", param="input")
    return Asked(ceiling=Usage(input=estimated_prompt_tokens(raw), requests=1))


def _used(answer: bytes, request: ChatRequest) -> Usage | None:
    body = decoded(answer)
    usage = nested(body, "usage")
    if tokens := count(usage.get("total_tokens")) or count(usage.get("prompt_tokens")):
        return Usage(input=tokens, requests=1)
    return request.ceiling if "results" in body else None


MODERATIONS: Final = Task(
    dialect=Dialect.OPENAI_MODERATIONS,
    path="/moderations",
    needs=Capability.MODERATION,
    read=_asked,
    used=_used,
    answer_members=("results",),
    default_model="omni-moderation-latest",
)
