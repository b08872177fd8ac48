"""xAI."""

from adapters.dialects.openai_chat.errors import FaultWords
from adapters.dialects.openai_chat.quirks import Quirks
from adapters.dialects.openai_tasks.image_words import ImageWords
from adapters.vendors.listings import ModelsList, per_million_e4
from adapters.vendors.openai_compatible import OpenAICompatible
from domain.catalog import Dialect
from domain.inference.faults import FaultKind

XAI = OpenAICompatible(
    slug="xai",
    base_url="https://api.x.ai/v1",
    image_words=ImageWords(ratio=True),
    endpoints=frozenset(
        {
            Dialect.OPENAI_RESPONSES,
            Dialect.OPENAI_IMAGES,
        }
    ),
    docs="https://docs.x.ai/docs/api-reference",
    # Only this list has prices; /models has ids alone.
    models=ModelsList(
        path="language-models",
        price=per_million_e4(
            input="prompt_text_token_price",
            output="completion_text_token_price",
            cache_read="cached_prompt_text_token_price",
        ),
    ),
    quirks=Quirks(
        text_parts=True,
        think_tags=False,
        # A bad key is a 400, an empty account a 403; both say so in words alone.
        fault_words=FaultWords(
            by_word=(
                ("incorrect api key", FaultKind.CREDENTIAL_REJECTED),
                ("spending limit", FaultKind.ACCOUNT_EMPTY),
                ("available credits", FaultKind.ACCOUNT_EMPTY),
                ("have any credits", FaultKind.ACCOUNT_EMPTY),
            )
        ),
    ),
)
