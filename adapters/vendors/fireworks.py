"""Fireworks."""

from typing import Any

from adapters.catalog.price_units import NO_PRICE, ListedPrice, Unit, read_price
from adapters.dialects.openai_chat.errors import FaultWords
from adapters.dialects.openai_chat.quirks import Quirks, ReasoningBack
from adapters.vendors.fireworks_images import FireworksImages
from adapters.vendors.listings import ModelsList, Paging
from adapters.vendors.openai_compatible import OpenAICompatible
from domain.catalog import Dialect
from domain.inference.faults import FaultKind

_SKUS = {
    "LLM input tokens (uncached)": "input",
    "LLM input tokens (cached)": "cache_read",
    "LLM output tokens": "output",
}


def _by_sku(row: dict[str, Any]) -> ListedPrice:
    """Rows of a tier other than the standard one tell what nobody here asks for."""
    if row.get("service_tier") not in (None, "", "default", "standard"):
        return NO_PRICE
    rows = [each for each in row.get("pricing") or () if isinstance(each, dict) and each.get("unit") == "1M tokens"]
    amounts = {_SKUS[each["sku"]]: each.get("amount") for each in rows if each.get("sku") in _SKUS}
    return read_price(Unit.USD_PER_MILLION, free=False, **amounts) if amounts else NO_PRICE


FIREWORKS = OpenAICompatible(
    slug="fireworks",
    base_url="https://api.fireworks.ai/inference/v1",
    images=FireworksImages,
    endpoints=frozenset(
        {
            Dialect.OPENAI_RESPONSES,
            Dialect.OPENAI_COMPLETIONS,
            Dialect.OPENAI_EMBEDDINGS,
            Dialect.OPENAI_IMAGES,
            Dialect.RERANK,
        }
    ),
    docs="https://docs.fireworks.ai/api-reference/post-chatcompletions",
    output_limit_field="max_tokens",
    models=ModelsList(path="../../v1/serverless/models", paging=Paging.TOKEN, price=_by_sku),
    quirks=Quirks(
        text_parts=True,
        reasoning_back=ReasoningBack.CONTENT,
        fault_words=FaultWords({412: FaultKind.ACCOUNT_EMPTY}),
    ),
)
