"""Novita."""

from adapters.dialects.openai_chat.quirks import Quirks, ReasoningWish
from adapters.vendors.listings import ModelsList, per_million_e4
from adapters.vendors.openai_compatible import OLDER_LIMIT, OpenAICompatible
from domain.catalog import Dialect

NOVITA = OpenAICompatible(
    slug="novita",
    base_url="https://api.novita.ai/openai/v1",
    endpoints=frozenset(
        {
            Dialect.OPENAI_COMPLETIONS,
            Dialect.OPENAI_EMBEDDINGS,
            Dialect.RERANK,
        }
    ),
    docs="https://novita.ai/docs",
    output_limit_field="max_tokens",
    renamed_fields=OLDER_LIMIT,
    models=ModelsList(price=per_million_e4(input="input_token_price_per_m", output="output_token_price_per_m")),
    quirks=Quirks(reasoning_wishes=(ReasoningWish.FLAG,)),
)
