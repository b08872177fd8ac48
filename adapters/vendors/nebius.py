"""Nebius Token Factory."""

from adapters.vendors.listings import ModelsList, per_unit
from adapters.vendors.openai_compatible import OLDER_LIMIT, OpenAICompatible
from domain.catalog import Dialect

NEBIUS = OpenAICompatible(
    slug="nebius",
    base_url="https://api.tokenfactory.nebius.com/v1",
    endpoints=frozenset(
        {
            Dialect.OPENAI_COMPLETIONS,
            Dialect.OPENAI_EMBEDDINGS,
            Dialect.OPENAI_IMAGES,
        }
    ),
    docs="https://docs.tokenfactory.nebius.com",
    output_limit_field="max_tokens",
    renamed_fields=OLDER_LIMIT,
    models=ModelsList(path="models?verbose=true", price=per_unit),
)
