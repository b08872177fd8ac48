"""POST /v1/rerank, in the words of Cohere and Jina, which all vendors of rerankers share.

Some vendors bill tokens, others searches (a query with up to a hundred documents, each split into chunks of 500
tokens); both are counted, and the price says which of them costs.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from adapters.dialects.openai_tasks.task import Asked, Fields, Task, count, decoded, nested
from adapters.dialects.request_members import UNREADABLE, raw_member
from domain.catalog import Capability, Dialect
from domain.errors import InvalidRequest
from domain.inference.chat import ChatRequest
from domain.inference.tokens import estimated_tokens
from domain.usage import Usage

DOCUMENTS_PER_SEARCH: Final = 100
TOKENS_PER_CHUNK: Final = 500
DOCUMENTS_MAX: Final = 10_000
_DOCUMENTS: Final = msgspec.json.Decoder(list[str | dict[str, Any]])


def _asked(fields: Fields) -> Asked:
    query = fields.text("query")
    if not query:
        raise InvalidRequest("'query' must be a text.", param="query")
    raw = raw_member(fields.members, "documents") if fields.members is not None else None
    try:
        documents = _DOCUMENTS.decode(raw or b"[]")
    except UNREADABLE:
        raise InvalidRequest("'documents' must be an array of texts or objects.", param="documents") from None
    if not 0 < len(documents) <= DOCUMENTS_MAX:
        raise InvalidRequest(f"'documents' must have 1 to {DOCUMENTS_MAX} entries.", param="documents")
    # The query is read once with every document.
    tokens = estimated_tokens(raw or b"") + estimated_tokens(query.encode("utf-8", "surrogatepass")) * len(documents)
    chunks = sum(_chunks(document) for document in documents)
    return Asked(ceiling=Usage(input=tokens, searches=-(-chunks // DOCUMENTS_PER_SEARCH), requests=1))


def _chunks(document: str | dict[str, Any]) -> int:
    """Which a document is split into, each of which counts as one; at least 1."""
    text = document.encode("utf-8", "surrogatepass") if isinstance(document, str) else msgspec.json.encode(document)
    return max(1, -(-estimated_tokens(text) // TOKENS_PER_CHUNK))


def _used(answer: bytes, request: ChatRequest) -> Usage | None:
    body = decoded(answer)
    usage, meta = nested(body, "usage"), nested(body, "meta")
    billed, counted = nested(meta, "billed_units"), nested(meta, "tokens")
    if "results" not in body and "data" not in body:
        return None
    most = request.ceiling or Usage(searches=1)
    tokens = (
        count(usage.get("total_tokens"))
        or count(usage.get("prompt_tokens"))
        or count(billed.get("total_tokens"))
        or count(counted.get("input_tokens"))
    )
    return Usage(input=tokens or most.input, searches=count(billed.get("search_units")) or most.searches, requests=1)


RERANK: Final = Task(
    dialect=Dialect.RERANK,
    path="/rerank",
    needs=Capability.RERANK,
    read=_asked,
    used=_used,
    answer_members=("results", "data"),
)
