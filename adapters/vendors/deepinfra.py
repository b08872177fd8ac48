"""DeepInfra."""

from adapters.dialects.openai_chat.quirks import Quirks, ToolChoices
from adapters.vendors.listings import ModelsList, per_million
from adapters.vendors.openai_compatible import OLDER_LIMIT, OpenAICompatible
from domain.catalog import Dialect

DEEPINFRA = OpenAICompatible(
    slug="deepinfra",
    base_url="https://api.deepinfra.com/v1/openai",
    endpoints=frozenset(
        {
            Dialect.OPENAI_COMPLETIONS,
            Dialect.OPENAI_EMBEDDINGS,
            Dialect.OPENAI_IMAGES,
            Dialect.OPENAI_SPEECH,
            Dialect.OPENAI_TRANSCRIPTIONS,
        }
    ),
    docs="https://deepinfra.com/docs/openai_api",
    key_names=("DEEPINFRA_TOKEN",),
    output_limit_field="max_tokens",
    renamed_fields=OLDER_LIMIT,
    models=ModelsList(
        price=per_million(
            within="metadata.pricing", input="input_tokens", output="output_tokens", cache_read="cache_read_tokens"
        )
    ),
    quirks=Quirks(tool_choices=ToolChoices.FREE),
)
