"""Together."""

from adapters.dialects.openai_chat.quirks import Quirks
from adapters.dialects.openai_tasks.image_words import ImageWords
from adapters.vendors.listings import ModelsList, per_million
from adapters.vendors.openai_compatible import OLDER_LIMIT, OpenAICompatible, as_list
from domain.catalog import Dialect

TOGETHER = OpenAICompatible(
    slug="together",
    base_url="https://api.together.ai/v1",
    image_words=ImageWords(sides=True, base64="base64"),
    endpoints=frozenset(
        {
            Dialect.OPENAI_COMPLETIONS,
            Dialect.OPENAI_EMBEDDINGS,
            Dialect.OPENAI_IMAGES,
            Dialect.OPENAI_SPEECH,
            Dialect.OPENAI_TRANSCRIPTIONS,
            Dialect.OPENAI_TRANSLATIONS,
            Dialect.RERANK,
        }
    ),
    docs="https://docs.together.ai/reference/chat-completions",
    key_names=("TOGETHERAI_API_KEY", "TOGETHER_AI_API_KEY"),
    output_limit_field="max_tokens",
    renamed_fields=OLDER_LIMIT,
    rewritten_fields={"stop": as_list},
    # Its streams end with usage unasked.
    asks_for_usage=False,
    models=ModelsList(price=per_million(input="input", output="output", cache_read="cached_input")),
    quirks=Quirks(text_parts=True),
)
