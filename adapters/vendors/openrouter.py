"""OpenRouter: many vendors behind one key."""

from adapters.dialects.openai_chat.quirks import Quirks, ReasoningBack, ReasoningWish
from adapters.dialects.openai_tasks.image_words import ImageWords
from adapters.vendors.listings import ModelsList, Paging, per_unit
from adapters.vendors.openai_compatible import OpenAICompatible
from domain.catalog import Dialect

OPENROUTER = OpenAICompatible(
    slug="openrouter",
    base_url="https://openrouter.ai/api/v1",
    paths={Dialect.OPENAI_IMAGES: "/images"},
    image_words=ImageWords(base64=None),
    endpoints=frozenset(
        {
            Dialect.OPENAI_RESPONSES,
            Dialect.OPENAI_COMPLETIONS,
            Dialect.OPENAI_EMBEDDINGS,
            Dialect.OPENAI_IMAGES,
            Dialect.RERANK,
        }
    ),
    docs="https://openrouter.ai/docs/api-reference/chat-completion",
    headers={"X-OpenRouter-Title": "Gatewayz"},
    output_limit_field="max_tokens",
    # Its streams always end with usage; the wish for it is deprecated there.
    asks_for_usage=False,
    models=ModelsList(paging=Paging.LINK, price=per_unit),
    quirks=Quirks(
        text_parts=True,
        files_in=True,
        audio_in=True,
        cache_field="cache_control",
        verbosity=True,
        web_search=True,
        reasoning_wishes=(ReasoningWish.OBJECT,),
        efforts={},
        reasoning_back=ReasoningBack.DETAILS,
        think_tags=False,
    ),
)
